//! Governance: k of m, in order, once; allowing waits, denying does not.

use domain::{PlatformType, Threshold, TimestampMs};
use ledger::records::committee::{CommitteeError, ShareRootStatement};
use ledger::records::{
    AnchorKind, GovernanceEntry, MeasurementEntry, Minimum, MinimumEntry, Role, ShareRoot,
};
use ledger::transaction::{Change, Decision, Govern, MeasurementOf, RecordShareRoot, SetMinimum};
use ledger::{Action, Governance, Record as _, StateKey};

use crate::world::{
    CUSTODIAN, DEPLOYMENT, GOVERNOR, STANDBY, World, committee, create, decision, measurement,
    person, setup_changes, slot,
};

const DAY_MS: u64 = 24 * 3_600_000;

fn of() -> MeasurementOf {
    MeasurementOf {
        role: Role::Custodian,
        platform: PlatformType::Tdx,
        measurement: measurement(),
    }
}

fn entry(world: &World) -> MeasurementEntry {
    let at = StateKey::Measurement(Role::Custodian, PlatformType::Tdx, measurement());
    world.record(&at).unwrap()
}

#[test]
fn allowing_waits_for_the_time_lock_and_denying_does_not() {
    let mut world = World::empty(false);
    world.govern(Change::AllowMeasurement(of())).unwrap();
    let decided = world.time;
    let allowed =
        |entry: &MeasurementEntry, after: u64| entry.is_allowed(TimestampMs(decided.0 + after));
    assert!(!allowed(&entry(&world), 0) && !allowed(&entry(&world), DAY_MS - 1));
    assert!(allowed(&entry(&world), DAY_MS));
    // Deciding it again sets nothing back.
    world.govern(Change::AllowMeasurement(of())).unwrap();
    assert!(allowed(&entry(&world), DAY_MS));
    world.govern(Change::DenyMeasurement(of())).unwrap();
    assert!(!allowed(&entry(&world), 10 * DAY_MS));
    // Allowed again, it waits again.
    world.govern(Change::AllowMeasurement(of())).unwrap();
    assert!(!allowed(&entry(&world), DAY_MS) && allowed(&entry(&world), 2 * DAY_MS));

    let mut development = World::empty(true);
    development.govern(Change::AllowMeasurement(of())).unwrap();
    assert!(entry(&development).is_allowed(development.time));
}

#[test]
fn a_higher_minimum_acts_at_once_and_a_lower_one_waits() {
    let mut world = World::empty(false);
    let platform = PlatformType::Tdx;
    let set = |tcb, revocation_list| {
        Change::SetMinimum(SetMinimum {
            platform,
            minimum: Minimum {
                tcb,
                revocation_list,
            },
        })
    };
    let at = |world: &World, after: u64| {
        let entry: MinimumEntry = world.record(&StateKey::Minimum(platform)).unwrap();
        let minimum = entry.at(TimestampMs(world.time.0 + after));
        (minimum.tcb, minimum.revocation_list)
    };
    world.govern(set(5, 5)).unwrap();
    assert_eq!(at(&world, 0), (5, 5));
    world.govern(set(4, 9)).unwrap();
    assert_eq!(at(&world, 0), (5, 5), "lower in one thing is lower");
    assert_eq!(at(&world, DAY_MS), (4, 9));
    // A higher one meanwhile is not undone by the one that waits.
    world.govern(set(7, 7)).unwrap();
    assert_eq!(at(&world, 0), (7, 7));
    assert_eq!(at(&world, 10 * DAY_MS), (7, 7));
}

#[test]
fn decisions_need_k_good_signatures_and_come_once_in_order() {
    let mut world = World::empty(true);
    let chain = world.chain;
    let change = Change::AllowMeasurement(of());
    let good = decision(&mut world.people, &chain, 1, change.clone());
    let Action::Govern(full) = &good else {
        panic!("a decision")
    };
    let run = |world: &mut World, govern: Govern| world.run(GOVERNOR, Action::Govern(govern));
    let mut one = full.clone();
    one.signatures.pop();
    assert_eq!(run(&mut world, one), Err("too-few-signatures".into()));
    let mut twice = full.clone();
    twice.signatures[1] = twice.signatures[0];
    assert_eq!(run(&mut world, twice), Err("malformed".into()));
    let mut forged = full.clone();
    forged.signatures[0].signature.0[9] ^= 1;
    assert_eq!(run(&mut world, forged), Err("bad-record-signature".into()));
    let mut other = full.clone();
    let mut lie = Decision::decode(&full.decision).unwrap();
    lie.change = Change::DenyMeasurement(of());
    other.decision = lie.encode();
    assert_eq!(run(&mut world, other), Err("bad-record-signature".into()));
    let mut stranger = full.clone();
    let mallory = person(66);
    stranger.signatures[0] = Decision::decode(&full.decision)
        .unwrap()
        .sign(&mallory, &DEPLOYMENT);
    stranger.signatures.sort_by_key(|s| s.key);
    assert_eq!(run(&mut world, stranger), Err("not-allowed".into()));
    let second = decision(&mut world.people, &chain, 2, change.clone());
    assert_eq!(world.run(GOVERNOR, second), Err("out-of-sequence".into()));
    let mut late = Decision::decode(&full.decision).unwrap();
    late.expires = TimestampMs(world.time.0);
    let mut signatures: Vec<_> = [GOVERNOR, GOVERNOR + 1]
        .map(|n| late.sign(world.people.get(n), &DEPLOYMENT))
        .into();
    signatures.sort_by_key(|s| s.key);
    let late = Govern {
        decision: late.encode(),
        signatures,
    };
    assert_eq!(run(&mut world, late), Err("expired".into()));
    // Anyone may carry it; it counts once.
    world.run(5, good.clone()).unwrap();
    assert_eq!(world.run(5, good), Err("out-of-sequence".into()));
    let mut foreign = chain;
    foreign.genesis.0[0] ^= 1;
    let elsewhere = decision(&mut world.people, &foreign, 2, change);
    assert_eq!(world.run(5, elsewhere), Err("wrong-chain".into()));
}

#[test]
fn who_governs_changes_after_the_time_lock() {
    let mut world = World::empty(false);
    let chain = world.chain;
    let new = Governance::new(1, vec![world.people.principal(90)]).unwrap();
    world.govern(Change::SetGovernance(new)).unwrap();
    let by_new = |world: &mut World, sequence| {
        let decision = Decision {
            chain: chain.genesis,
            sequence,
            expires: TimestampMs(u64::MAX),
            change: Change::DenyMeasurement(of()),
        };
        Action::Govern(Govern {
            decision: decision.encode(),
            signatures: vec![decision.sign(world.people.get(90), &DEPLOYMENT)],
        })
    };
    let early = by_new(&mut world, 2);
    assert_eq!(world.run(5, early), Err("not-allowed".into()));
    world.govern(Change::DenyMeasurement(of())).unwrap();
    world.time = TimestampMs(world.time.0 + DAY_MS);
    assert_eq!(
        world.govern(Change::DenyMeasurement(of())),
        Err("not-allowed".into()),
        "the old keys are out"
    );
    let action = by_new(&mut world, 3);
    world.run(5, action).unwrap();
    let entry: GovernanceEntry = world.record(&StateKey::Governance).unwrap();
    assert_eq!(entry.sequence, 4);
}

#[test]
fn committees_have_every_index_once_and_wait_for_the_time_lock() {
    let mut world = World::empty(false);
    for change in setup_changes(&mut world.people).into_iter().take(2) {
        world.govern(change).unwrap();
    }
    let (_, action) = create(&mut world.people, 1, "payroll");
    assert_eq!(world.run(1, action.clone()), Err("time-locked".into()));
    world.time = TimestampMs(world.time.0 + DAY_MS);
    world.run(1, action).unwrap();

    let good = committee(&mut world.people);
    assert_eq!(good.validate(), Ok(()));
    let mut missing = good.clone();
    missing.members.remove(0);
    assert_eq!(missing.validate(), Err(CommitteeError::Missing));
    let mut no_standby = good.clone();
    no_standby.members.remove(1);
    assert_eq!(no_standby.validate(), Ok(()));
    let mut twice = good.clone();
    twice.members[2].slot = slot(1, false);
    assert_eq!(twice.validate(), Err(CommitteeError::Slots));
    let mut beyond = good.clone();
    beyond.threshold = Threshold::new(3, 4).unwrap();
    assert_eq!(beyond.validate(), Err(CommitteeError::Slots));
    let mut both = good.clone();
    both.members[1].key = both.members[0].key;
    assert!(matches!(both.validate(), Err(CommitteeError::Key(_))));
    let again = setup_changes(&mut world.people).remove(1);
    assert_eq!(world.govern(again), Err("exists".into()));
}

#[test]
fn share_roots_come_epoch_by_epoch_with_more_than_t_signatures() {
    let mut world = World::ready();
    let committee = world.committee_id();
    let record = |world: &mut World, epoch: u64, primaries: u8, standbys: u8| {
        let statement = ShareRootStatement {
            committee,
            epoch: domain::Epoch::new(epoch).unwrap(),
            root: domain::MerkleRoot([8; 32]),
            count: 3,
        };
        let root = ShareRoot::from(statement);
        let mut signatures = Vec::new();
        for index in 1..=5 {
            for (standby, base, count) in [(false, CUSTODIAN, primaries), (true, STANDBY, standbys)]
            {
                if index <= count {
                    let custodian = world.people.get(base + u64::from(index));
                    signatures.push(ledger::records::Acknowledgement {
                        slot: slot(index, standby),
                        signature: root.sign(custodian, &DEPLOYMENT),
                    });
                }
            }
        }
        Action::RecordShareRoot(RecordShareRoot {
            statement,
            signatures,
        })
    };
    for (epoch, primaries, standbys, result) in [
        (1, 3, 5, Err("too-few-signatures")),
        (2, 5, 0, Err("out-of-sequence")),
        (1, 4, 0, Ok(())),
        (1, 5, 5, Err("out-of-sequence")),
        (2, 5, 5, Ok(())),
    ] {
        let action = record(&mut world, epoch, primaries, standbys);
        let result = result.map_err(str::to_owned);
        assert_eq!(
            world.run(7, action),
            result,
            "{epoch} {primaries} {standbys}"
        );
    }
    let mut forged = record(&mut world, 3, 4, 0);
    if let Action::RecordShareRoot(record) = &mut forged {
        record.statement.count = 4;
    }
    assert_eq!(world.run(7, forged), Err("bad-record-signature".into()));
    assert_ne!(AnchorKind::Audit, AnchorKind::Batch);
}
