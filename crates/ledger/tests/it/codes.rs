//! What is refused before the state is asked, and what the nonce and the expiry refuse.

use domain::{GenesisHash, Height, Permissions, TimestampMs};
use ledger::transaction::{GrantBucket, RegisterDataset, SignedRecord};
use ledger::{Action, Expiry, Outcome, Rejection, StateKey, check};

use crate::world::{DEPLOYMENT, World, anchor, bucket, create, grant_action, signed, signed_until};

const ALICE: u64 = 1;
const BOB: u64 = 2;

fn code(world: &World, bytes: &[u8]) -> &'static str {
    match check(&world.chain, bytes) {
        Ok(_) => "taken",
        Err(rejection) => rejection.code(),
    }
}

#[test]
fn forged_foreign_and_oversized_transactions_are_refused() {
    let mut world = World::empty(true);
    let good = world.next(ALICE, anchor(1));
    assert_eq!(code(&world, &good), "taken");
    // No bit of it may change.
    for bit in 0..good.len() * 8 {
        let mut bad = good.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        let code = code(&world, &bad);
        assert!(
            ["malformed", "bad-signature", "wrong-chain"].contains(&code),
            "bit {bit}: {code}"
        );
    }
    for cut in 0..good.len() {
        assert_eq!(code(&world, &good[..cut]), "malformed");
    }
    assert_eq!(code(&world, &[good.as_slice(), &[0]].concat()), "malformed");
    let max = usize::try_from(world.chain.limits.transaction_bytes).unwrap();
    assert_eq!(code(&world, &vec![0; max + 1]), "too-large");
    assert_eq!(code(&world, &vec![0; max]), "malformed");
    // Another ledger of the same deployment, and another deployment with the same genesis.
    let mut other = world.chain;
    other.genesis = GenesisHash([1; 32]);
    let foreign = signed(world.people.get(ALICE), &other, 0, anchor(1));
    assert_eq!(code(&world, &foreign), "wrong-chain");
    let mut other = world.chain;
    other.deployment.0[0] ^= 1;
    let foreign = signed(world.people.get(ALICE), &other, 0, anchor(1));
    assert_eq!(code(&world, &foreign), "bad-signature");
}

#[test]
fn records_that_a_transaction_brings_are_checked_first() {
    let mut world = World::empty(true);
    let (_, mut action) = create(&mut world.people, ALICE, "payroll");
    if let Action::CreateKey(create) = &mut action {
        *create.creation.last_mut().unwrap() ^= 1;
    }
    let bytes = world.next(ALICE, action);
    assert_eq!(code(&world, &bytes), "bad-record-signature");
    let record = vec![0xa0];
    for action in [
        Action::GrantKey(SignedRecord {
            record: record.clone(),
        }),
        Action::RegisterBucket(SignedRecord { record }),
    ] {
        let bytes = world.next(ALICE, action);
        assert_eq!(code(&world, &bytes), "malformed");
    }
    // A grant is no bucket record, although both are signed records.
    let grant = crate::world::grant(&mut world.people, ALICE, domain::KeyId([0; 32]), BOB, 1);
    let Action::GrantKey(record) = grant_action(world.people.get(ALICE), grant) else {
        panic!("a grant")
    };
    let bytes = world.next(ALICE, Action::RegisterBucket(record));
    assert_eq!(code(&world, &bytes), "malformed");
}

#[test]
fn each_nonce_is_used_once_and_in_order() {
    let mut world = World::empty(true);
    let alice = |world: &mut World, nonce, sequence| {
        let chain = world.chain;
        signed(world.people.get(ALICE), &chain, nonce, anchor(sequence))
    };
    let block = [
        alice(&mut world, 0, 1),
        alice(&mut world, 0, 2),
        alice(&mut world, 2, 2),
        alice(&mut world, 1, 2),
        alice(&mut world, 2, 3),
        alice(&mut world, u64::MAX, 4),
    ];
    let executed = world.block(&block);
    let outcomes: Vec<_> = executed
        .receipts
        .iter()
        .map(|r| r.outcome.clone())
        .collect();
    let refused = |code: &str| Outcome::Rejected(code.into());
    assert_eq!(
        outcomes,
        [
            Outcome::Applied,
            refused("nonce-used"),
            refused("nonce-too-high"),
            Outcome::Applied,
            Outcome::Applied,
            refused("nonce-too-high"),
        ]
    );
    // The whole block once more: nothing is applied twice.
    let root = world.state.root();
    let executed = world.block(&block);
    assert!(
        executed
            .receipts
            .iter()
            .all(|receipt| receipt.outcome != Outcome::Applied)
    );
    assert_eq!(world.state.root(), root);
    // A rejected transaction does not use its nonce up.
    let bad = alice(&mut world, 3, 9);
    let good = alice(&mut world, 3, 4);
    let executed = world.block(&[bad, good]);
    assert_eq!(executed.receipts[0].outcome, refused("out-of-sequence"));
    assert_eq!(executed.receipts[1].outcome, Outcome::Applied);
}

#[test]
fn expiry_is_inclusive_and_by_the_blocks_own_height_and_time() {
    let mut world = World::empty(true);
    let chain = world.chain;
    let next_time = TimestampMs(world.time.0 + 1_000);
    for (expires, good) in [
        (Expiry::Height(Height(0)), false),
        (Expiry::Height(Height(1)), true),
        (Expiry::Time(TimestampMs(next_time.0 - 1)), false),
        (Expiry::Time(next_time), true),
        (Expiry::Time(TimestampMs(0)), false),
    ] {
        let mut world = World::empty(true);
        let bytes = signed_until(world.people.get(ALICE), &chain, 0, expires, anchor(1));
        let executed = world.block(&[bytes]);
        let applied = executed.receipts[0].outcome == Outcome::Applied;
        assert_eq!(applied, good, "{expires:?}");
    }
    assert!(world.run(ALICE, anchor(1)).is_ok());
}

#[test]
fn a_block_is_committed_once_and_in_order() {
    let mut world = World::empty(true);
    let bytes = world.next(ALICE, anchor(1));
    let executed = world.block(&[bytes]);
    let root = world.state.root();
    assert_eq!(world.state.commit(&executed), Ok(false));
    assert_eq!(
        (world.state.root(), world.state.height()),
        (root, Height(1))
    );
    let mut later = executed;
    later.height = Height(3);
    assert!(world.state.commit(&later).is_err());
    assert_eq!(world.state.height(), Height(1));
}

#[test]
fn buckets_datasets_and_anchors_follow_their_sequences() {
    let mut world = World::ready();
    let register = |world: &mut World, version| {
        let record = bucket(&mut world.people, ALICE, version);
        let id = record.id;
        let action = Action::RegisterBucket(SignedRecord {
            record: record.encode(),
        });
        (id, action)
    };
    let (id, first) = register(&mut world, 1);
    let grantee = world.people.principal(BOB);
    let allow = |permissions| {
        Action::GrantBucket(GrantBucket {
            bucket: id,
            grantee,
            permissions,
            expires: None,
        })
    };
    assert_eq!(
        world.run(ALICE, allow(Permissions::READ)),
        Err("not-found".into())
    );
    // Anyone may carry what the owner signed.
    world.run(BOB, first.clone()).unwrap();
    assert_eq!(world.run(BOB, first), Err("out-of-sequence".into()));
    let (_, third) = register(&mut world, 3);
    let (_, second) = register(&mut world, 2);
    world.run(ALICE, third).unwrap();
    assert_eq!(world.run(ALICE, second), Err("out-of-sequence".into()));
    assert_eq!(
        world.run(BOB, allow(Permissions::READ)),
        Err("not-allowed".into())
    );
    assert_eq!(
        world.run(ALICE, allow(Permissions::NONE)),
        Err("not-found".into())
    );
    world.run(ALICE, allow(Permissions::READ)).unwrap();
    world.run(ALICE, allow(Permissions::NONE)).unwrap();
    let entry: ledger::records::BucketGrantEntry =
        world.record(&StateKey::BucketGrant(id, grantee)).unwrap();
    assert_eq!(entry.permissions_at(world.time), Permissions::NONE);

    let owner = world.people.principal(ALICE);
    let random = [6; 32];
    let dataset = |version| {
        Action::RegisterDataset(RegisterDataset {
            dataset: ledger::records::dataset::dataset_id(&DEPLOYMENT, &owner, &random),
            random,
            version,
            root: domain::Cid::of_raw(b"root"),
            merkle: domain::MerkleRoot([1; 32]),
            size_bytes: 10,
        })
    };
    for (who, version, result) in [
        (BOB, 1, Err("not-allowed")),
        (ALICE, 2, Err("out-of-sequence")),
        (ALICE, 1, Ok(())),
        (ALICE, 1, Err("out-of-sequence")),
        (ALICE, 2, Ok(())),
    ] {
        let result = result.map_err(str::to_owned);
        assert_eq!(world.run(who, dataset(version)), result);
    }
    for (who, sequence, good) in [(ALICE, 2, false), (ALICE, 1, true), (BOB, 1, true)] {
        assert_eq!(world.run(who, anchor(sequence)).is_ok(), good);
    }
}

#[test]
fn codes_are_distinct() {
    let all = [
        Rejection::TooLarge { len: 0, max: 0 }.code(),
        Rejection::Malformed(String::new()).code(),
        Rejection::WrongChain.code(),
        Rejection::BadSignature.code(),
        Rejection::BadRecordSignature(domain::Principal([0; 32])).code(),
        Rejection::Expired.code(),
        Rejection::NonceUsed { got: 0, next: 0 }.code(),
        Rejection::NonceTooHigh { got: 0, next: 0 }.code(),
        Rejection::NotAllowed("").code(),
        Rejection::NotFound("").code(),
        Rejection::Exists("").code(),
        Rejection::Fenced { got: 0, current: 0 }.code(),
        Rejection::NothingPending.code(),
        Rejection::AttemptOver.code(),
        Rejection::AcknowledgementsMissing.code(),
        Rejection::TooFewSignatures { got: 0, needed: 0 }.code(),
        Rejection::WorkerNotIndependent.code(),
        Rejection::MeasurementNotAllowed.code(),
        Rejection::WrongState("").code(),
        Rejection::DeleteProtected.code(),
        Rejection::TimeLocked.code(),
        Rejection::Overflow.code(),
        Rejection::Unsupported("").code(),
        Rejection::StateDamaged(String::new()).code(),
    ];
    for code in all {
        assert_eq!(Rejection::known_code(code), code);
    }
    assert_eq!(Rejection::known_code("later"), "unknown");
    let codes = ledger::rejection::CODES;
    let distinct: std::collections::BTreeSet<_> = codes.iter().collect();
    assert_eq!(distinct.len(), codes.len());
}
