//! One fault at a time: what becomes of it is known beforehand.

use domain::{Principal, ShareIndex};
use threshold::dkg::{Ceremony, Effect, Fault, Kind, NotAParty, Patience, Plan, PlanError};

use super::adversary::{Adversary, Behaviour, COMMIT, DEAL, READY};
use super::cluster::{Cluster, PATIENCE, identity, plan};
use crate::support::{Seeded, index, sharing};

fn run(shape: (u8, u8), attempts: u8, behaviours: &[(u8, Behaviour)], seed: u64) -> Cluster {
    let behaviours: Vec<(ShareIndex, Behaviour)> = behaviours
        .iter()
        .map(|(number, behaviour)| (index(*number), *behaviour))
        .collect();
    let adversary = Adversary::new(seed, shape, &behaviours);
    let mut cluster = Cluster::new(seed, shape, attempts, adversary);
    cluster.run(u32::from(attempts));
    cluster.check();
    cluster
}

/// Every honest party finishes, at the first attempt.
fn check_finishes(shape: (u8, u8), behaviours: &[(u8, Behaviour)]) {
    for seed in 0..3 {
        let cluster = run(shape, 1, behaviours, seed);
        for (index, party) in &cluster.honest {
            let aborts = &party.aborts;
            assert_eq!(
                party.finished,
                Some(1),
                "{behaviours:?}, party {index}: {aborts:?}"
            );
        }
    }
}

/// Every honest party aborts and names exactly `culprit` for exactly `fault`.
fn check_names(shape: (u8, u8), behaviours: &[(u8, Behaviour)], culprit: u8, fault: Fault) {
    for seed in 0..3 {
        let cluster = run(shape, 1, behaviours, seed);
        for (party, state) in &cluster.honest {
            assert_eq!(state.finished, None, "{behaviours:?}, party {party}");
            let verdict = &state.aborts[0].verdict;
            assert_eq!(
                verdict.culprits,
                [index(culprit)],
                "{behaviours:?}, party {party}"
            );
            assert_eq!(verdict.fault, fault, "{behaviours:?}, party {party}");
        }
    }
}

#[test]
fn honest_parties_make_a_key() {
    for shape in [(2, 2), (2, 3), (3, 5), (5, 5), (4, 7), (7, 10)] {
        let mut cluster = Cluster::new(1, shape, 1, Adversary::none(shape));
        cluster.run(1);
        cluster.check();
        for party in cluster.honest.values() {
            assert_eq!((party.finished, party.aborts.len()), (Some(1), 0));
        }
    }
}

#[test]
fn ceremonies_with_other_randomness_make_other_keys() {
    let group = |seed| {
        let mut cluster = Cluster::new(seed, (2, 3), 1, Adversary::none((2, 3)));
        cluster.run(1);
        let party = &cluster.honest[&index(1)];
        *party.stored[&1].public.group()
    };
    assert_ne!(group(1), group(2));
    assert_eq!(group(1), group(1));
}

#[test]
fn the_dead_are_named() {
    let silent = |kind| Fault::Silent(kind);
    check_names((3, 5), &[(4, Behaviour::Dead)], 4, silent(Kind::Commit));
    check_names(
        (2, 2),
        &[(1, Behaviour::DiesBefore(DEAL))],
        1,
        silent(Kind::Deal),
    );
    check_names(
        (3, 5),
        &[(1, Behaviour::DiesBefore(DEAL))],
        1,
        silent(Kind::Deal),
    );
    check_names(
        (3, 5),
        &[(5, Behaviour::DiesBefore(READY))],
        5,
        silent(Kind::Ready),
    );
}

#[test]
fn all_of_several_dead_are_named() {
    let cluster = run((2, 5), 2, &[(2, Behaviour::Dead), (5, Behaviour::Dead)], 1);
    for party in cluster.honest.values() {
        assert_eq!(party.aborts.len(), 2, "one for each attempt");
        for (aborted, last) in party.aborts.iter().zip([false, true]) {
            assert_eq!(aborted.verdict.culprits, [index(2), index(5)]);
            assert_eq!((aborted.last, aborted.undecided), (last, false));
        }
    }
}

#[test]
fn what_one_party_is_not_sent_it_gets_from_the_others() {
    for kind in [COMMIT, DEAL, READY] {
        check_finishes((3, 5), &[(2, Behaviour::SkipsOne(kind))]);
    }
    check_finishes((3, 5), &[(1, Behaviour::SendsToOne)]);
    check_finishes(
        (2, 5),
        &[(1, Behaviour::SendsToOne), (4, Behaviour::SkipsOne(DEAL))],
    );
}

#[test]
fn the_slow_are_waited_for() {
    check_finishes((3, 5), &[(1, Behaviour::Slow(4))]);
    check_finishes((3, 5), &[(1, Behaviour::Slow(6)), (3, Behaviour::Slow(1))]);
}

#[test]
fn two_faces_are_shown_up() {
    let fault = Fault::Equivocated(Kind::Commit);
    check_names((3, 5), &[(3, Behaviour::TwoFaces)], 3, fault);
    check_names((2, 4), &[(1, Behaviour::TwoFaces)], 1, fault);
}

#[test]
fn invalid_messages_are_their_makers_fault() {
    let invalid = |kind| Fault::Invalid(kind);
    // 3 of 5: coefficient commitments 96 bytes, proof of possession 64, ephemeral element 32.
    for at in [0, 31, 96, 130, 159] {
        let behaviour = Behaviour::Garbles(COMMIT, at);
        check_names((3, 5), &[(2, behaviour)], 2, invalid(Kind::Commit));
    }
    // An echo of 5 times 96 bytes: hash and signature of another party.
    for at in [0, 40, 479] {
        let behaviour = Behaviour::Garbles(DEAL, at);
        check_names((3, 5), &[(2, behaviour)], 2, invalid(Kind::Deal));
        let behaviour = Behaviour::Garbles(READY, at);
        check_names((3, 5), &[(2, behaviour)], 2, invalid(Kind::Ready));
    }
}

#[test]
fn whoever_deals_a_wrong_share_is_shown_up_by_its_receiver() {
    check_names((3, 5), &[(2, Behaviour::BadShare)], 2, Fault::BadShare);
    check_names((2, 3), &[(1, Behaviour::BadShare)], 1, Fault::BadShare);
    check_names((2, 3), &[(3, Behaviour::BadShare)], 3, Fault::BadShare);
}

#[test]
fn false_accusations_fall_back_on_the_accuser() {
    for evidence in [0, 2, 3, 4, 5, 9] {
        let behaviour = Behaviour::AccusesFalsely(evidence);
        check_names((3, 5), &[(4, behaviour)], 4, Fault::FalseAccusation);
    }
    // Silence cannot be disproved, but everybody has what is claimed to be missing.
    let behaviour = Behaviour::AccusesFalsely(1);
    check_names((3, 5), &[(4, behaviour)], 4, Fault::Silent(Kind::Commit));
}

#[test]
fn replays_and_noise_change_nothing() {
    check_finishes((3, 5), &[(1, Behaviour::Replays), (2, Behaviour::Replays)]);
}

/// The last message comes to one party just as the others give up: some abort, learn that the key exists, and finish.
#[test]
fn a_key_that_exists_for_one_comes_to_exist_for_all() {
    let mut decided_late = 0;
    for seed in 0..40 {
        let cluster = run((3, 5), 2, &[(2, Behaviour::LateToOne(READY))], seed);
        decided_late += cluster
            .honest
            .values()
            .filter(|party| party.finished.is_some())
            .filter(|party| {
                party
                    .aborts
                    .first()
                    .is_some_and(|aborted| aborted.undecided)
            })
            .count();
    }
    assert!(decided_late > 0, "no seed came to the point of this test");
}

#[test]
fn plans_are_checked() {
    let roster = |count: u8| -> Vec<Principal> {
        (1..=count)
            .map(|number| identity(index(number)).principal())
            .collect()
    };
    let error = |t, n, roster, patience, attempts| {
        Plan::new(sharing(t, n), roster, patience, attempts).unwrap_err()
    };
    assert_eq!(error(1, 3, roster(3), PATIENCE, 1), PlanError::Threshold);
    assert_eq!(error(2, 65, roster(65), PATIENCE, 1), PlanError::Threshold);
    assert_eq!(error(2, 3, roster(2), PATIENCE, 1), PlanError::Roster);
    let mut twice = roster(3);
    twice[2] = twice[0];
    assert_eq!(error(2, 3, twice, PATIENCE, 1), PlanError::Roster);
    for (ask_after, give_up_after) in [(0, 5), (3, 3), (4, 3)] {
        let patience = Patience {
            ask_after,
            give_up_after,
        };
        assert_eq!(error(2, 3, roster(3), patience, 1), PlanError::Patience);
    }
    for attempts in [0, 9] {
        assert_eq!(
            error(2, 3, roster(3), PATIENCE, attempts),
            PlanError::Attempts
        );
    }
    let signer = identity(index(4));
    let stranger = Ceremony::start(plan(2, 3, 1), index(4), &signer, &mut Seeded::new(1));
    assert_eq!(stranger.unwrap_err(), NotAParty(index(4)));
}

/// A message of one ceremony is nothing in another: each part of the binding counts.
#[test]
fn messages_of_other_ceremonies_are_ignored() {
    let signer = identity(index(1));
    let begin = |plan: Plan, me: u8| {
        let identity = identity(index(me));
        Ceremony::start(plan, index(me), &identity, &mut Seeded::new(u64::from(me))).unwrap()
    };
    for change in 0..5 {
        let mut other = sharing(2, 2);
        match change {
            0 => other.deployment.0[0] ^= 1,
            1 => other.key.0[0] ^= 1,
            2 => other.version = other.version.next().unwrap(),
            3 => other.epoch = other.epoch.next().unwrap(),
            _ => other.committee.0[31] ^= 1,
        }
        let roster = [1, 2].map(|number| identity(index(number)).principal());
        let plan_there = Plan::new(other, roster.to_vec(), PATIENCE, 1).unwrap();
        let (_, there) = begin(plan_there, 2);
        let (mut here, _) = begin(plan(2, 2, 1), 1);
        let [Effect::Broadcast(commit)] = &there[..] else {
            panic!("a commit and nothing else");
        };
        let effects = here.receive(commit, &signer, &mut Seeded::new(9));
        assert!(effects.is_empty(), "change {change}");
    }
    // While the same from this one goes on to the second round.
    let (_, there) = begin(plan(2, 2, 1), 2);
    let (mut here, _) = begin(plan(2, 2, 1), 1);
    let [Effect::Broadcast(commit)] = &there[..] else {
        panic!("a commit and nothing else");
    };
    assert_eq!(here.receive(commit, &signer, &mut Seeded::new(9)).len(), 1);
    assert!(!format!("{here:?}").contains("SecretPackage"));
}
