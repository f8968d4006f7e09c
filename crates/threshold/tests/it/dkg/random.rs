//! Random committees with random liars among them.

use domain::ShareIndex;

use super::adversary::{Adversary, Behaviour, COMMIT, DEAL, READY};
use super::cluster::Cluster;
use crate::support::{Seeded, index};

fn behaviour(rng: &mut Seeded) -> Behaviour {
    let kind = [COMMIT, DEAL, READY][rng.below(3)];
    match rng.below(16) {
        0 => Behaviour::Dead,
        1 => Behaviour::DiesBefore(kind),
        2 => Behaviour::SkipsOne(kind),
        3 => Behaviour::SendsToOne,
        4 => Behaviour::LateToOne(kind),
        5 => Behaviour::TwoFaces,
        6 => Behaviour::Garbles(kind, rng.below(1_000)),
        7 => Behaviour::BadShare,
        8 => Behaviour::AccusesFalsely(u8::try_from(rng.below(6)).unwrap()),
        9 => Behaviour::Replays,
        10 => Behaviour::Slow(u32::try_from(rng.below(40)).unwrap()),
        _ => Behaviour::Chaotic,
    }
}

/// At least t parties are honest, as many as can be are not.
fn run(seed: u64) -> Cluster {
    let rng = &mut Seeded::new(seed ^ 0xd6e8_feb8_6659_fd93);
    let n = u8::try_from(2 + rng.below(5)).unwrap();
    let t = u8::try_from(2 + rng.below(usize::from(n) - 1)).unwrap();
    let dishonest = rng
        .below(usize::from(n - t) + 1)
        .max(usize::from(n > t && rng.once_in(2)));
    let mut behaviours: Vec<(ShareIndex, Behaviour)> = Vec::new();
    while behaviours.len() < dishonest {
        let index = index(u8::try_from(1 + rng.below(usize::from(n))).unwrap());
        if behaviours.iter().all(|(taken, _)| *taken != index) {
            behaviours.push((index, behaviour(rng)));
        }
    }
    let attempts = u8::try_from(1 + rng.below(3)).unwrap();
    println!("seed {seed}: {t} of {n}, {attempts} attempts, {behaviours:?}");
    let adversary = Adversary::new(seed, (t, n), &behaviours);
    let mut cluster = Cluster::new(seed, (t, n), attempts, adversary);
    cluster.run(u32::from(attempts));
    cluster.check();
    cluster
}

/// `STRONGROOM_SOAK=1` runs 1,000 seeds, `STRONGROOM_SEEDS` any number; the failing one is printed and replays alone with `STRONGROOM_SEED=number`.
#[test]
fn honest_parties_finish_or_name_the_culprit() {
    if let Ok(seed) = std::env::var("STRONGROOM_SEED") {
        run(seed.parse().expect("a number"));
        return;
    }
    let soak = std::env::var_os("STRONGROOM_SOAK").is_some_and(|value| value == "1");
    let seeds = std::env::var("STRONGROOM_SEEDS").map(|seeds| seeds.parse().expect("a number"));
    let seeds = seeds.unwrap_or(if soak { 1_000 } else { 20 });
    let (mut finished, mut aborted) = (0, 0);
    for seed in 0..seeds {
        let cluster = run(seed);
        let party = cluster
            .honest
            .values()
            .next()
            .expect("t parties are honest");
        finished += u32::from(party.finished.is_some());
        aborted += u32::from(party.finished.is_none());
    }
    // Found by a longer run: a false accusation reached some before and some after they knew that the key exists.
    run(882);
    println!("{finished} keys, {aborted} aborts");
    assert!(finished > 0 && aborted > 0, "both ends must occur");
}
