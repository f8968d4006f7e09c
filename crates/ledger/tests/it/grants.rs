//! Grants and their chains: who may use a key now, and who no longer.

use domain::{KeyId, RecordHash, TimestampMs};
use ledger::records::grant::{CHAIN_LINKS_MAX, ChainError, verify_chain};
use ledger::records::{GrantEntry, KeyGrant, Operations};
use ledger::transaction::RevokeKey;
use ledger::{Action, StateKey};

use crate::world::{DEPLOYMENT, World, begin, grant, grant_action, sign_grant};

const ALICE: u64 = 1;
const BOB: u64 = 2;
const CAROL: u64 = 3;
const DAVE: u64 = 4;

fn give(world: &mut World, granter: u64, grant: KeyGrant) -> Result<(), String> {
    let action = grant_action(world.people.get(granter), grant);
    world.run(granter, action)
}

fn entry(world: &mut World, key: KeyId, who: u64) -> Option<GrantEntry> {
    let principal = world.people.principal(who);
    world.record(&StateKey::KeyGrant(key, principal))
}

/// What a custodian would say, with these entries.
fn may(
    world: &mut World,
    key: KeyId,
    who: u64,
    wanted: Operations,
    through: &[u64],
) -> Result<(), ChainError> {
    let chain: Vec<_> = through
        .iter()
        .filter_map(|who| entry(world, key, *who))
        .collect();
    let (owner, principal) = (world.people.principal(ALICE), world.people.principal(who));
    verify_chain(
        &DEPLOYMENT,
        &owner,
        &key,
        &principal,
        wanted,
        world.time,
        &chain,
    )
}

fn hash(entry: &GrantEntry) -> RecordHash {
    RecordHash(
        sealed::signed::Signed::<KeyGrant>::decode(&entry.grant)
            .unwrap()
            .hash(),
    )
}

#[test]
fn a_grant_of_a_block_ago_counts_and_a_revocation_of_a_block_ago_too() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    let decrypt = Operations::DECRYPT;
    assert_eq!(
        may(&mut world, key, BOB, decrypt, &[BOB]),
        Err(ChainError::Length(0))
    );
    assert_eq!(may(&mut world, key, ALICE, decrypt, &[]), Ok(()));
    let to_bob = grant(&mut world.people, ALICE, key, BOB, 1);
    give(&mut world, ALICE, to_bob.clone()).unwrap();
    assert_eq!(may(&mut world, key, BOB, decrypt, &[BOB]), Ok(()));
    assert_eq!(
        may(&mut world, key, BOB, Operations::ROTATE, &[BOB]),
        Err(ChainError::NotAllowed { index: 0 })
    );
    assert_eq!(
        may(&mut world, key, CAROL, decrypt, &[BOB]),
        Err(ChainError::Mismatch { index: 0 })
    );
    let principal = world.people.principal(BOB);
    let revoke = |serial| {
        Action::RevokeKey(RevokeKey {
            key,
            grantee: principal,
            serial,
        })
    };
    assert_eq!(world.run(CAROL, revoke(1)), Err("not-allowed".into()));
    assert_eq!(world.run(ALICE, revoke(2)), Err("out-of-sequence".into()));
    world.run(ALICE, revoke(1)).unwrap();
    let height = world.state.height();
    assert_eq!(
        may(&mut world, key, BOB, decrypt, &[BOB]),
        Err(ChainError::Revoked { index: 0, height })
    );
    assert_eq!(world.run(ALICE, revoke(1)), Err("wrong-state".into()));
    // The same signed grant again brings nothing back, whoever carries it.
    assert_eq!(
        give(&mut world, ALICE, to_bob.clone()),
        Err("out-of-sequence".into())
    );
    let again = grant_action(world.people.get(ALICE), to_bob.clone());
    assert_eq!(world.run(BOB, again), Err("out-of-sequence".into()));
    give(
        &mut world,
        ALICE,
        KeyGrant {
            serial: 7,
            ..to_bob
        },
    )
    .unwrap();
    assert_eq!(may(&mut world, key, BOB, decrypt, &[BOB]), Ok(()));
    // A grantee may let go of it.
    world.run(BOB, revoke(7)).unwrap();
    assert!(may(&mut world, key, BOB, decrypt, &[BOB]).is_err());
}

#[test]
fn grants_expire() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    let end = TimestampMs(world.time.0 + 5_000);
    let to_bob = KeyGrant {
        expires: Some(end),
        ..grant(&mut world.people, ALICE, key, BOB, 1)
    };
    give(&mut world, ALICE, to_bob.clone()).unwrap();
    assert_eq!(
        may(&mut world, key, BOB, Operations::DECRYPT, &[BOB]),
        Ok(())
    );
    world.time = end;
    assert_eq!(
        may(&mut world, key, BOB, Operations::DECRYPT, &[BOB]),
        Err(ChainError::Expired { index: 0 })
    );
    let late = KeyGrant {
        serial: 2,
        ..to_bob
    };
    assert_eq!(give(&mut world, ALICE, late), Err("expired".into()));
}

#[test]
fn only_the_owner_or_its_delegate_grants() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    // Bob grants in his own name; in the owner's; the owner to herself.
    let own = grant(&mut world.people, BOB, key, CAROL, 1);
    assert_eq!(give(&mut world, BOB, own), Err("not-allowed".into()));
    let forged = grant(&mut world.people, ALICE, key, BOB, 1);
    let mut record = sign_grant(world.people.get(ALICE), forged).encode();
    *record.last_mut().unwrap() ^= 1;
    let action = Action::GrantKey(ledger::transaction::SignedRecord { record });
    assert_eq!(world.run(BOB, action), Err("bad-record-signature".into()));
    let self_grant = grant(&mut world.people, ALICE, key, ALICE, 1);
    assert_eq!(give(&mut world, ALICE, self_grant), Err("malformed".into()));
    let nowhere = grant(&mut world.people, ALICE, KeyId([1; 32]), BOB, 1);
    assert_eq!(give(&mut world, ALICE, nowhere), Err("not-found".into()));
}

#[test]
fn chains_hold_as_long_as_every_link_does() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    let both = Operations::DECRYPT.and(Operations::GRANT);
    let to_bob = KeyGrant {
        operations: both,
        ..grant(&mut world.people, ALICE, key, BOB, 1)
    };
    give(&mut world, ALICE, to_bob.clone()).unwrap();
    let bobs = entry(&mut world, key, BOB).unwrap();
    let to_carol = KeyGrant {
        parent: Some(hash(&bobs)),
        ..grant(&mut world.people, BOB, key, CAROL, 1)
    };
    let orphan = KeyGrant {
        parent: None,
        ..to_carol.clone()
    };
    assert_eq!(give(&mut world, BOB, orphan), Err("not-allowed".into()));
    let more = KeyGrant {
        operations: Operations::ROTATE,
        ..to_carol.clone()
    };
    assert_eq!(
        give(&mut world, BOB, more),
        Err("not-allowed".into()),
        "nobody passes on what he has not"
    );
    give(&mut world, BOB, to_carol).unwrap();
    let decrypt = Operations::DECRYPT;
    assert_eq!(may(&mut world, key, CAROL, decrypt, &[CAROL, BOB]), Ok(()));
    assert_eq!(
        may(&mut world, key, CAROL, decrypt, &[CAROL]),
        Err(ChainError::NotTheOwners)
    );
    assert_eq!(
        may(&mut world, key, CAROL, decrypt, &[CAROL, CAROL]),
        Err(ChainError::Mismatch { index: 1 })
    );
    // Carol may not pass it on.
    let carols = entry(&mut world, key, CAROL).unwrap();
    let to_dave = KeyGrant {
        parent: Some(hash(&carols)),
        ..grant(&mut world.people, CAROL, key, DAVE, 1)
    };
    assert_eq!(give(&mut world, CAROL, to_dave), Err("not-allowed".into()));
    // A new grant to Bob is another one: what hung on the old one has fallen.
    let renewed = KeyGrant {
        serial: 2,
        ..to_bob
    };
    give(&mut world, ALICE, renewed).unwrap();
    assert_eq!(
        may(&mut world, key, CAROL, decrypt, &[CAROL, BOB]),
        Err(ChainError::Mismatch { index: 1 })
    );
    assert_eq!(may(&mut world, key, BOB, decrypt, &[BOB]), Ok(()));
    let revoke = Action::RevokeKey(RevokeKey {
        key,
        grantee: world.people.principal(CAROL),
        serial: 1,
    });
    assert_eq!(world.run(DAVE, revoke.clone()), Err("not-allowed".into()));
    world.run(BOB, revoke).unwrap();
}

#[test]
fn chains_are_bounded_and_rotation_can_be_granted() {
    let mut world = World::ready();
    let key = world.active_key(ALICE, "payroll");
    let all = Operations::DECRYPT
        .and(Operations::GRANT)
        .and(Operations::ROTATE);
    let mut parent = None;
    let mut granter = ALICE;
    for link in 0..=u64::try_from(CHAIN_LINKS_MAX).unwrap() {
        let grantee = 10 + link;
        let next = KeyGrant {
            operations: all,
            parent,
            ..grant(&mut world.people, granter, key, grantee, 1)
        };
        let result = give(&mut world, granter, next);
        if link < 4 {
            assert_eq!(result, Ok(()), "link {link}");
            parent = entry(&mut world, key, grantee).map(|entry| hash(&entry));
        } else {
            assert_eq!(result, Err("not-allowed".into()));
        }
        granter = grantee;
    }
    assert_eq!(
        may(&mut world, key, 13, Operations::ROTATE, &[13, 12, 11, 10]),
        Ok(())
    );
    let action = begin(&mut world.people, key, 2, 1);
    world.run(13, action).unwrap();
}
