//! Life of a named key: nothing half done, nothing done twice, nobody in between.

use domain::{KeyId, KeyVersion, PlatformType, TimestampMs};
use ledger::records::{
    Acknowledgement, Enrolment, KeyState, KeyStatus, Measurement, Role, VersionEntry,
    VersionStatement,
};
use ledger::transaction::{
    AbandonVersion, BeginVersion, Change, MeasurementOf, Retire, RoleKey, SetDeleteProtection,
    VersionOf,
};
use ledger::{Action, Outcome, Record as _, StateKey};

use crate::world::{
    CUSTODIAN, DEPLOYMENT, WORKER, World, activation, begin, commitments, create, measurement,
    slot, statement, threshold,
};

const ALICE: u64 = 1;
const BOB: u64 = 2;

fn status(world: &World, key: KeyId) -> KeyStatus {
    world.record(&StateKey::KeyStatus(key)).unwrap()
}

fn entry(world: &World, key: KeyId, version: u32) -> VersionEntry {
    let version = KeyVersion::new(version).unwrap();
    world.record(&StateKey::KeyVersion(key, version)).unwrap()
}

fn version_of(key: KeyId, version: u32) -> VersionOf {
    VersionOf {
        key,
        version: KeyVersion::new(version).unwrap(),
    }
}

fn retire(key: KeyId, version: Option<u32>, deadline: Option<u64>) -> Action {
    Action::Retire(Retire {
        key,
        version: version.map(|version| KeyVersion::new(version).unwrap()),
        deadline: deadline.map(TimestampMs),
    })
}

#[test]
fn a_key_is_pending_until_everybody_has_signed() {
    let mut world = World::ready();
    let (key, action) = create(&mut world.people, ALICE, "payroll");
    world.run(ALICE, action.clone()).unwrap();
    let before = status(&world, key);
    assert_eq!(before.state(world.time), KeyState::Pending);
    assert_eq!(world.run(ALICE, action), Err("exists".into()));

    let good = statement(&mut world.people, key, 1, 1);
    let full = activation(&mut world.people, &good);
    // One acknowledgement missing, whichever; one twice; out of order; a primary's in a standby's slot.
    for missing in 0..full.acknowledgements.len() {
        let mut short = full.clone();
        short.acknowledgements.remove(missing);
        assert_eq!(
            world.run(WORKER, Action::ActivateVersion(short)),
            Err("acknowledgements-missing".into()),
            "without {missing}"
        );
    }
    let mut twice = full.clone();
    twice.acknowledgements[1] = twice.acknowledgements[0];
    let mut turned = full.clone();
    turned.acknowledgements.swap(0, 1);
    for bad in [twice, turned] {
        assert_eq!(
            world.run(WORKER, Action::ActivateVersion(bad)),
            Err("acknowledgements-missing".into())
        );
    }
    for at in 0..full.acknowledgements.len() {
        let mut forged = full.clone();
        forged.acknowledgements[at].signature.0[3] ^= 1;
        assert_eq!(
            world.run(WORKER, Action::ActivateVersion(forged)),
            Err("bad-record-signature".into())
        );
    }
    // Signed for the other slot.
    let mut other = full.clone();
    let custodian = world.people.get(CUSTODIAN + 1);
    let elsewhere = good.acknowledge(custodian, &DEPLOYMENT, slot(1, true));
    other.acknowledgements[0] = Acknowledgement {
        slot: slot(1, false),
        signature: elsewhere.signature,
    };
    assert_eq!(
        world.run(WORKER, Action::ActivateVersion(other)),
        Err("bad-record-signature".into())
    );
    // Said of other public keys than those that were signed for.
    let mut swapped = full.clone();
    let mut lie = good.clone();
    lie.dh = [9; 32];
    swapped.statement = lie.encode();
    assert_eq!(
        world.run(WORKER, Action::ActivateVersion(swapped)),
        Err("bad-record-signature".into())
    );
    // Commitments that are not the ones that everybody signed for: another's, one entry short, none.
    for change in [
        |list: &mut Vec<u8>| list[40] ^= 1,
        |list: &mut Vec<u8>| list[3] ^= 1,
        |list: &mut Vec<u8>| list.truncate(4 * 64),
        |list: &mut Vec<u8>| list.extend([0; 64]),
        |list: &mut Vec<u8>| list.clear(),
    ] {
        let mut other = full.clone();
        change(&mut other.commitments);
        assert_eq!(
            world.run(WORKER, Action::ActivateVersion(other)),
            Err("malformed".into())
        );
    }
    // The dealer checks its own work; a worker that nobody knows.
    let mut alone = full.clone();
    alone.activation = good.activate(world.people.get(WORKER), &DEPLOYMENT);
    assert_eq!(
        world.run(WORKER, Action::ActivateVersion(alone)),
        Err("worker-not-independent".into())
    );
    let mut stranger = full.clone();
    stranger.activation = good.activate(world.people.get(BOB), &DEPLOYMENT);
    assert_eq!(
        world.run(WORKER, Action::ActivateVersion(stranger)),
        Err("not-enrolled".into())
    );
    assert_eq!(
        status(&world, key),
        before,
        "nothing of all that did anything"
    );

    world
        .run(BOB, Action::ActivateVersion(full.clone()))
        .unwrap();
    assert_eq!(status(&world, key).state(world.time), KeyState::Active);
    let stored = entry(&world, key, 1);
    assert_eq!(stored.acknowledgements.len(), 5);
    // The entry alone is enough to read the commitments.
    let said = VersionStatement::decode(&stored.statement).unwrap();
    let list = said.commitment_list(&DEPLOYMENT, threshold(), &stored.commitments);
    assert_eq!(list.unwrap(), commitments(&good));
    assert_eq!(
        world.run(BOB, Action::ActivateVersion(full)),
        Err("nothing-pending".into())
    );
}

#[test]
fn of_two_rotations_at_once_one_is_refused() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    let (first, second) = (
        begin(&mut world.people, key, 2, 1),
        begin(&mut world.people, key, 2, 1),
    );
    let chain = world.chain;
    // Both in one block, by the owner on two machines: the same nonce, or two that follow each other.
    let alice = world.people.get(ALICE);
    let block = [
        crate::world::signed(alice, &chain, 1, first),
        crate::world::signed(alice, &chain, 2, second.clone()),
        crate::world::signed(alice, &chain, 1, second),
    ];
    let executed = world.block(&block);
    let codes: Vec<_> = executed
        .receipts
        .iter()
        .map(|r| r.outcome.clone())
        .collect();
    assert_eq!(
        codes,
        [
            Outcome::Applied,
            Outcome::Rejected("fenced".into()),
            Outcome::Rejected("nonce-used".into())
        ]
    );
    assert_eq!(status(&world, key).fencing, 2);
    // An activation of the attempt before it, and of another version, is refused; the right one counts.
    assert_eq!(world.activate(key, 2, 1), Err("fenced".into()));
    assert_eq!(world.activate(key, 3, 2), Err("malformed".into()));
    world.activate(key, 2, 2).unwrap();
    assert_eq!(status(&world, key).current, KeyVersion::new(2).ok());
}

#[test]
fn an_attempt_that_failed_makes_room_for_the_next() {
    let mut world = World::ready();
    let (key, action) = create(&mut world.people, ALICE, "payroll");
    world.run(ALICE, action).unwrap();
    let again = begin(&mut world.people, key, 1, 1);
    assert_eq!(
        world.run(ALICE, again.clone()),
        Err("version-pending".into())
    );
    world.time = TimestampMs(world.time.0 + world.chain.limits.pending_ms);
    world.run(ALICE, again).unwrap();
    assert_eq!(world.activate(key, 1, 1), Err("fenced".into()));
    // Given up before its time.
    let abandon = |fencing| Action::AbandonVersion(AbandonVersion { key, fencing });
    assert_eq!(world.run(BOB, abandon(2)), Err("not-allowed".into()));
    assert_eq!(world.run(ALICE, abandon(1)), Err("fenced".into()));
    world.run(ALICE, abandon(2)).unwrap();
    assert_eq!(world.run(ALICE, abandon(2)), Err("nothing-pending".into()));
    assert_eq!(world.activate(key, 1, 2), Err("nothing-pending".into()));
    let third = begin(&mut world.people, key, 1, 2);
    world.run(ALICE, third).unwrap();
    world.activate(key, 1, 3).unwrap();
}

#[test]
fn versions_follow_each_other_and_retire() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    for (version, code) in [(1, "wrong-version"), (3, "wrong-version")] {
        let action = begin(&mut world.people, key, version, 1);
        assert_eq!(world.run(ALICE, action), Err(code.into()));
    }
    let mut elsewhere = begin(&mut world.people, key, 2, 1);
    if let Action::BeginVersion(BeginVersion { committee, .. }) = &mut elsewhere {
        committee.0[0] ^= 1;
    }
    assert_eq!(world.run(ALICE, elsewhere), Err("malformed".into()));
    let action = begin(&mut world.people, key, 2, 1);
    assert_eq!(world.run(BOB, action.clone()), Err("not-allowed".into()));
    world.run(ALICE, action).unwrap();
    world.activate(key, 2, 2).unwrap();

    let deadline = world.time.0 + 10_000;
    let first = retire(key, Some(1), Some(deadline));
    assert_eq!(world.run(BOB, first.clone()), Err("not-allowed".into()));
    assert_eq!(
        world.run(ALICE, retire(key, Some(2), Some(deadline))),
        Err("wrong-state".into())
    );
    assert_eq!(
        world.run(ALICE, retire(key, Some(1), Some(1))),
        Err("wrong-state".into()),
        "a deadline in the past"
    );
    world.run(ALICE, first).unwrap();
    assert_eq!(
        entry(&world, key, 1).state(world.time),
        KeyState::Retiring {
            deadline: TimestampMs(deadline)
        }
    );
    let destroy = Action::DestroyVersion(version_of(key, 1));
    assert_eq!(world.run(ALICE, destroy.clone()), Err("wrong-state".into()));
    // Taken back, and set again.
    world.run(ALICE, retire(key, Some(1), None)).unwrap();
    assert_eq!(entry(&world, key, 1).state(world.time), KeyState::Active);
    world
        .run(ALICE, retire(key, Some(1), Some(deadline)))
        .unwrap();
    world.time = TimestampMs(deadline);
    assert_eq!(entry(&world, key, 1).state(world.time), KeyState::Retired);
    assert_eq!(
        world.run(ALICE, retire(key, Some(1), None)),
        Err("wrong-state".into()),
        "what is retired stays so"
    );
    let protect = |protected| Action::SetDeleteProtection(SetDeleteProtection { key, protected });
    assert_eq!(world.run(BOB, protect(true)), Err("not-allowed".into()));
    world.run(ALICE, protect(true)).unwrap();
    assert_eq!(
        world.run(ALICE, destroy.clone()),
        Err("delete-protected".into())
    );
    let last = world.time.0 + 60_000;
    let end = Some(last);
    assert_eq!(
        world.run(ALICE, retire(key, None, end)),
        Err("delete-protected".into())
    );
    world.run(ALICE, protect(false)).unwrap();
    world.run(ALICE, destroy.clone()).unwrap();
    assert_eq!(entry(&world, key, 1).state(world.time), KeyState::Destroyed);
    assert_eq!(world.run(ALICE, destroy), Err("wrong-state".into()));
    // The whole key: no rotation any more, and in the end nothing is decrypted.
    world.run(ALICE, retire(key, None, end)).unwrap();
    let action = begin(&mut world.people, key, 3, 2);
    assert_eq!(world.run(ALICE, action), Err("wrong-state".into()));
    let now = TimestampMs(last);
    let (status, second) = (status(&world, key), entry(&world, key, 2));
    let two = KeyVersion::new(2).unwrap();
    let decrypts = |now| ledger::records::key::decrypts(&status, two, &second, now);
    assert!(decrypts(TimestampMs(now.0 - 1)) && !decrypts(now));
}

#[test]
fn below_the_minimum_and_while_suspended_nothing_is_decrypted() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    let action = begin(&mut world.people, key, 2, 1);
    world.run(ALICE, action).unwrap();
    world.activate(key, 2, 2).unwrap();
    let decrypts = |world: &World, version: u32| {
        let at = KeyVersion::new(version).unwrap();
        let (status, entry) = (status(world, key), entry(world, key, version));
        ledger::records::key::decrypts(&status, at, &entry, world.time)
    };
    assert!(decrypts(&world, 1) && decrypts(&world, 2));
    let min = |version| Action::SetMinDecrypt(version_of(key, version));
    assert_eq!(world.run(BOB, min(2)), Err("not-allowed".into()));
    assert_eq!(world.run(ALICE, min(3)), Err("not-found".into()));
    world.run(ALICE, min(2)).unwrap();
    assert!(!decrypts(&world, 1) && decrypts(&world, 2));
    world.govern(Change::SuspendKey(key)).unwrap();
    assert!(!decrypts(&world, 2));
    world.govern(Change::ResumeKey(key)).unwrap();
    assert!(decrypts(&world, 2));
}

#[test]
fn where_there_is_another_vendor_it_activates() {
    let mut world = World::ready();
    let (key, action) = create(&mut world.people, ALICE, "payroll");
    world.run(ALICE, action).unwrap();
    let other = MeasurementOf {
        role: Role::Worker,
        platform: PlatformType::SevSnp,
        measurement: Measurement::new(vec![1; 48]).unwrap(),
    };
    let enrol = |world: &mut World| {
        Change::Enrol(Enrolment {
            role: Role::Worker,
            key: world.people.principal(WORKER + 2),
            platform: PlatformType::SevSnp,
            measurement: Measurement::new(vec![1; 48]).unwrap(),
            expires: None,
        })
    };
    let change = enrol(&mut world);
    assert_eq!(world.govern(change), Err("measurement-not-allowed".into()));
    world
        .govern(Change::AllowMeasurement(other.clone()))
        .unwrap();
    let change = enrol(&mut world);
    world.govern(change).unwrap();
    assert_eq!(
        world.activate(key, 1, 1),
        Err("worker-not-independent".into())
    );
    let good = statement(&mut world.people, key, 1, 1);
    let mut by_other = activation(&mut world.people, &good);
    by_other.activation = good.activate(world.people.get(WORKER + 2), &DEPLOYMENT);
    // Withdrawn, it does not count, and the rule no longer asks for it.
    let withdraw = Change::Withdraw(RoleKey {
        role: Role::Worker,
        key: world.people.principal(WORKER + 2),
    });
    world.govern(withdraw.clone()).unwrap();
    assert_eq!(world.govern(withdraw), Err("wrong-state".into()));
    assert_eq!(
        world.run(BOB, Action::ActivateVersion(by_other.clone())),
        Err("not-enrolled".into())
    );
    let change = enrol(&mut world);
    world.govern(change).unwrap();
    world.run(BOB, Action::ActivateVersion(by_other)).unwrap();
    assert_ne!(measurement(), other.measurement);
}

#[test]
fn names_are_an_owners_own() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    let theirs = world.active_key(BOB, "payroll");
    assert_ne!(key, theirs);
    // Another creation record with the same name.
    let (_, signed) = crate::world::creation(&mut world.people, ALICE, "payroll");
    let mut content = (*signed).clone();
    content.random = [1; 32];
    let other = sealed::signed::Signed::sign(world.people.get(ALICE), &DEPLOYMENT, content);
    let action = Action::CreateKey(ledger::transaction::CreateKey {
        creation: other.encode(),
    });
    assert_eq!(world.run(ALICE, action), Err("exists".into()));
}
