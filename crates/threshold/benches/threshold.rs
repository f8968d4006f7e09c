//! Costs of the threshold machines, one thread: `cargo bench -p threshold`.
//!
//! Microseconds for one operation, the best of several rounds; rounds interleave the lines, so that a busy moment of the
//! machine does not fall on one of them alone. A ceremony's line is all parties together, without network or disk.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crypto::kem::{CiphertextParts, Encapsulator, KeyRef, PqSeed, PublicKeys};
use crypto::ristretto::{Element, SecretScalar};
use crypto::{ContextHash, Identity, Secret};
use curve25519_dalek::scalar::Scalar;
use domain::{CommitteeId, DeploymentId, Epoch, KeyId, KeyVersion, Threshold};
use getrandom::{SysRng, rand_core::UnwrapErr};
use threshold::dkg::{Ceremony, Effect, Patience, Plan};
use threshold::partial::{Request, VerifiedCiphertext, combine, verify, verify_batch};
use threshold::{CommitmentList, DhPublic, DhShare, Partial, Sharing, VerifiedPartial, pq, shamir};

const ROUNDS: usize = 7;
const REQUEST: [u8; 32] = [1; 32];

struct Line<'a> {
    name: &'static str,
    times: u32,
    best: Duration,
    run: Box<dyn FnMut() + 'a>,
}

fn line<'a>(name: &'static str, times: u32, run: impl FnMut() + 'a) -> Line<'a> {
    let best = Duration::MAX;
    let run = Box::new(run);
    Line {
        name,
        times,
        best,
        run,
    }
}

fn main() {
    let mut rng = UnwrapErr(SysRng);
    let sharing = Sharing {
        deployment: DeploymentId([1; 32]),
        key: KeyId([2; 32]),
        version: KeyVersion::FIRST,
        epoch: Epoch::FIRST,
        committee: CommitteeId([3; 32]),
        threshold: Threshold::new(3, 5).expect("3 of 5"),
    };
    let seed = PqSeed::random(&mut rng);
    let deal = pq::deal(&sharing, seed.danger_bytes(), &mut rng);
    let (public, shares) = dh(&sharing);
    let list = CommitmentList::new(&public, &deal.commitments).expect("five commitments");
    let key = KeyRef {
        deployment: sharing.deployment,
        key: sharing.key,
        version: sharing.version,
        public: PublicKeys {
            pq: seed.public(),
            dh: *public.group(),
        },
    };
    let encapsulator = Encapsulator::new(key.clone());
    let context = ContextHash([4; 32]);
    let parts: Vec<CiphertextParts> = (0..64)
        .map(|_| {
            let (ciphertext, _) = encapsulator.encapsulate(&mut rng, &context);
            ciphertext.parts(&sharing.deployment, context)
        })
        .collect();
    let ciphertexts: Vec<VerifiedCiphertext> =
        VerifiedCiphertext::verify_batch(&mut rng, &parts, &key.target())
            .into_iter()
            .map(|answer| answer.expect("just made"))
            .collect();
    let questions: Vec<(Request<'_>, Partial)> = ciphertexts
        .iter()
        .flat_map(|ciphertext| shares.iter().take(3).map(move |share| (ciphertext, share)))
        .map(|(ciphertext, share)| {
            let request = Request {
                public: &public,
                u: ciphertext.u(),
                request_hash: &REQUEST,
            };
            let mut rng = UnwrapErr(SysRng);
            let partial = Partial::make(share, ciphertext, &REQUEST, &mut rng);
            (request, partial.expect("the same key"))
        })
        .collect();
    let verified: Vec<VerifiedPartial> = verify_batch(questions.clone())
        .into_iter()
        .map(|answer| answer.expect("just made"))
        .collect();
    let split = shamir::split(seed.danger_bytes(), sharing.threshold, &mut rng);
    let three: Vec<&shamir::Share<64>> = split.iter().take(3).collect();
    let expected = seed.public();
    let derive = |seed: &Secret<64>| {
        let copy = Secret::from_slice(seed.expose()).expect("64 bytes");
        PqSeed::from_secret(copy).public()
    };

    let (ciphertext, target) = (&ciphertexts[0], key.target());
    let mut lines = [
        line("ciphertext proof, one", 50, || {
            black_box(VerifiedCiphertext::verify(&parts[0], &target).is_ok());
        }),
        line("partial with its proof", 50, || {
            let mut rng = UnwrapErr(SysRng);
            black_box(Partial::make(&shares[0], ciphertext, &REQUEST, &mut rng).is_ok());
        }),
        line("partial verified, one", 50, || {
            let (request, partial) = questions[0].clone();
            black_box(verify(&request, partial).is_ok());
        }),
        line("partials verified, 192 together", 1, || {
            black_box(verify_batch(questions.clone()).len());
        }),
        line("combine 3 of 5", 50, || {
            black_box(combine(&verified[..3]).is_ok());
        }),
        line("Shamir split 64 bytes, 3 of 5", 200, || {
            let mut rng = UnwrapErr(SysRng);
            black_box(shamir::split(seed.danger_bytes(), sharing.threshold, &mut rng).len());
        }),
        line("Shamir combine 64 bytes, 3 of 5", 200, || {
            black_box(shamir::combine(&three, sharing.threshold).is_ok());
        }),
        line("post-quantum leg dealt, 3 of 5", 50, || {
            let mut rng = UnwrapErr(SysRng);
            black_box(
                pq::deal(&sharing, seed.danger_bytes(), &mut rng)
                    .shares
                    .len(),
            );
        }),
        line("post-quantum leg rebuilt and checked", 50, || {
            let rebuilt = pq::rebuild(&list, &deal.shares[..3], derive, &expected);
            black_box(rebuilt.is_ok());
        }),
        line("activation check of 5", 50, || {
            let checked = pq::check_activation(&list, &deal.shares, derive, &expected);
            black_box(checked.is_ok());
        }),
        line("ceremony of 5, all parties", 1, || ceremony(sharing)),
    ];
    for _ in 0..ROUNDS {
        for line in &mut lines {
            let begin = Instant::now();
            for _ in 0..line.times {
                (line.run)();
            }
            line.best = line.best.min(begin.elapsed() / line.times);
        }
    }
    for line in &lines {
        println!(
            "{:40} {:>10.1} us",
            line.name,
            line.best.as_secs_f64() * 1e6
        );
    }
}

/// A key shared by a dealer.
fn dh(sharing: &Sharing) -> (DhPublic, Vec<DhShare>) {
    let mut rng = UnwrapErr(SysRng);
    let polynomial: Vec<SecretScalar> = (0..sharing.threshold.t())
        .map(|_| SecretScalar::random(&mut rng))
        .collect();
    let value = |x: u8| {
        let mut sum = polynomial.iter().rev().fold(Scalar::ZERO, |sum, term| {
            sum * Scalar::from(x) + term.danger_scalar()
        });
        SecretScalar::take(&mut sum)
    };
    let shares: Vec<DhShare> = sharing
        .threshold
        .indices()
        .map(|index| DhShare::new(*sharing, index, value(index.get())).expect("not zero"))
        .collect();
    let group = Element::from_point(value(0).times_base()).expect("not the identity");
    let publics = shares.iter().map(|share| *share.public()).collect();
    let public = DhPublic::new(*sharing, group, publics).expect("one polynomial");
    (public, shares)
}

/// Everyone is honest and every message arrives at once.
fn ceremony(sharing: Sharing) {
    let mut rng = UnwrapErr(SysRng);
    let identities: Vec<Identity> = sharing
        .threshold
        .indices()
        .map(|index| Identity::from_seed(Secret::take(&mut [index.get(); 32])))
        .collect();
    let roster = identities.iter().map(Identity::principal).collect();
    let patience = Patience {
        ask_after: 1,
        give_up_after: 20,
    };
    let plan = Plan::new(sharing, roster, patience, 1).expect("five parties");
    let mut queue: Vec<(usize, Effect)> = Vec::new();
    let mut parties = Vec::new();
    for ((at, index), identity) in sharing.threshold.indices().enumerate().zip(&identities) {
        let begun = Ceremony::start(plan.clone(), index, identity, &mut rng);
        let (party, effects) = begun.expect("a party of the plan");
        parties.push(party);
        queue.extend(effects.into_iter().map(|effect| (at, effect)));
    }
    while !queue.is_empty() {
        for (from, effect) in std::mem::take(&mut queue) {
            let mut next = |at: usize, effects: Vec<Effect>| {
                queue.extend(effects.into_iter().map(|effect| (at, effect)));
            };
            match effect {
                Effect::Broadcast(bytes) => {
                    for (to, party) in parties.iter_mut().enumerate() {
                        if to != from {
                            next(to, party.receive(&bytes, &identities[to], &mut rng));
                        }
                    }
                }
                Effect::Store(outcome) => {
                    let party = &mut parties[from];
                    next(
                        from,
                        party.stored(outcome.attempt, &identities[from], &mut rng),
                    );
                }
                Effect::Finished { .. } => {}
                Effect::Send { .. } | Effect::Aborted(_) => unreachable!("nobody cheats"),
            }
        }
    }
    assert!(parties.iter().all(Ceremony::is_finished));
}
