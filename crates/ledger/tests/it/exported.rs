//! Exported public keys: what shows them, and everything that does not.

use crypto::Secret;
use crypto::kem::PqSeed;
use crypto::ristretto::SecretScalar;
use domain::{CommitteeId, KeyId, KeyVersion, TimestampMs};
use ledger::exported_key::{ExportedKeyError, Pin};
use ledger::port::{Answer, FinalHeader, ProvedValue};
use ledger::records::{KeyState, VersionEntry, VersionStatement};
use ledger::transaction::{ActivateVersion, Retire};
use ledger::{Action, ExportedKey, Record as _, StateKey, VerifiedVersion, VersionError};

use crate::world::{self, DEPLOYMENT, World};

const OWNER: u64 = 1;
const THIEF: u64 = 2;

/// A statement with public keys that are some.
pub fn statement(world: &mut World, key: KeyId, version: u32, fencing: u64) -> VersionStatement {
    let mut statement = world::statement(&mut world.people, key, version, fencing);
    statement.pq = *PqSeed::from_secret(Secret::take(&mut [4; 64]))
        .public()
        .as_bytes();
    statement.dh = SecretScalar::from_wide(&[5; 64])
        .times_base()
        .compress()
        .to_bytes();
    statement
}

pub fn activation(world: &mut World, statement: &VersionStatement) -> ActivateVersion {
    world::activation(&mut world.people, statement)
}

/// A world with one key, exported.
fn exported() -> (World, KeyId, ExportedKey) {
    let mut world = World::ready();
    let (key, create) = world::create(&mut world.people, OWNER, "payroll");
    world.run(OWNER, create).unwrap();
    let statement = statement(&mut world, key, 1, 1);
    let action = activation(&mut world, &statement);
    world
        .run(world::WORKER, Action::ActivateVersion(action))
        .unwrap();
    let export = export(&mut world, &statement);
    (world, key, export)
}

pub fn export(world: &mut World, statement: &VersionStatement) -> ExportedKey {
    let values = ExportedKey::state_keys(statement)
        .iter()
        .map(|key| {
            let (value, proof) = world.state.prove(&key.encode());
            let value = value.map(|value| value.to_vec().into());
            ProvedValue { value, proof }
        })
        .collect();
    let last = FinalHeader {
        header: world.newest.clone(),
        certificate: world.certificate(),
    };
    ExportedKey::from_answer(&DEPLOYMENT, &statement.key, &Answer { values, last }).unwrap()
}

/// A version's entry with changes, checked against the rest of the records.
fn check(
    export: &ExportedKey,
    change: impl FnOnce(&mut VersionEntry, &mut VersionStatement),
) -> Result<VerifiedVersion, VersionError> {
    let mut entry = VersionEntry::decode(&export.version).unwrap();
    let mut statement = VersionStatement::decode(&entry.statement).unwrap();
    let before = statement.clone();
    change(&mut entry, &mut statement);
    if statement != before {
        entry.statement = statement.encode();
    }
    VerifiedVersion::check(
        &DEPLOYMENT,
        &export.key,
        KeyVersion::FIRST,
        &export.creation,
        &export.committee,
        &entry.encode(),
    )
}

#[test]
fn an_export_is_shown_by_the_genesis_or_by_the_keys_id() {
    let (world, key, export) = exported();
    let genesis = world.state.genesis_record().clone();
    let read = ExportedKey::decode(&export.encode()).unwrap();
    assert_eq!(read, export);
    let by_genesis = read.verify(Pin::Genesis(&genesis)).unwrap();
    assert_eq!(by_genesis, read.verify(Pin::Key(&key)).unwrap());
    assert_eq!(by_genesis.version.key.key, key);
    assert_eq!(by_genesis.version.key.version, KeyVersion::FIRST);
    assert_eq!(by_genesis.version.creation.name.as_str(), "payroll");
    assert_eq!(by_genesis.height, world.newest.height);
    let other = KeyId([9; 32]);
    assert!(matches!(
        read.verify(Pin::Key(&other)),
        Err(ExportedKeyError::AnotherKey { .. })
    ));
    let mut elsewhere = genesis.clone();
    elsewhere.time = TimestampMs(genesis.time.0 + 1);
    assert!(matches!(
        read.verify(Pin::Genesis(&elsewhere)),
        Err(ExportedKeyError::Header(_))
    ));
    elsewhere.deployment.0[0] ^= 1;
    assert!(matches!(
        read.verify(Pin::Genesis(&elsewhere)),
        Err(ExportedKeyError::AnotherDeployment { .. })
    ));
}

#[test]
fn every_byte_of_an_export_counts() {
    let (world, _, export) = exported();
    let genesis = world.state.genesis_record().clone();
    let (bytes, pin) = (export.encode(), Pin::Genesis(&genesis));
    let good = export.verify(pin).unwrap();
    let mut unread = 0;
    for at in (0..bytes.len()).step_by(3) {
        let mut altered = bytes.clone();
        altered[at] ^= 1;
        let Ok(read) = ExportedKey::decode(&altered) else {
            continue;
        };
        if let Ok(read) = read.verify(pin) {
            // A proof's claim of a value's hash is not read: the value itself is hashed.
            assert_eq!(read, good, "byte {at}");
            unread += 1;
        }
    }
    assert!(unread <= 3 * 32, "{unread} bytes say nothing");
    for len in (0..bytes.len()).step_by(5) {
        assert!(ExportedKey::decode(&bytes[..len]).is_err());
    }
}

#[test]
fn an_operator_of_the_ledger_cannot_plant_public_keys() {
    let (mut world, key, export) = exported();
    // The validator signs whatever state: an entry with its own keys and nobody's acknowledgements, properly proved.
    let mut entry = VersionEntry::decode(&export.version).unwrap();
    let mut planted = VersionStatement::decode(&entry.statement).unwrap();
    planted.dh = SecretScalar::from_wide(&[6; 64])
        .times_base()
        .compress()
        .to_bytes();
    entry.statement = planted.encode();
    let entries: ledger::state::Entries = ExportedKey::state_keys(&planted)
        .iter()
        .zip([
            export.creation.clone(),
            entry.encode(),
            export.committee.clone(),
        ])
        .map(|(key, value)| (key.encode().into(), value.into()))
        .collect();
    let genesis = world.state.genesis_record().clone();
    world.state = ledger::State::from_entries(genesis.clone(), world.newest.height, entries);
    world.newest.state_root = world.state.root();
    let forged = self::export(&mut world, &planted);
    for pin in [Pin::Genesis(&genesis), Pin::Key(&key)] {
        assert!(matches!(
            forged.verify(pin),
            Err(ExportedKeyError::Version(VersionError::Acknowledgement(_)))
        ));
    }
}

#[test]
fn statements_need_t_custodians_of_the_committee_that_the_owner_named() {
    let (mut world, _, export) = exported();
    assert!(check(&export, |_, _| {}).is_ok());
    assert!(check(&export, |entry, _| entry.acknowledgements.truncate(3)).is_ok());
    assert!(matches!(
        check(&export, |entry, _| entry.acknowledgements.truncate(2)),
        Err(VersionError::TooFew { needed: 3, got: 2 })
    ));
    assert!(matches!(
        check(&export, |entry, _| {
            let first = entry.acknowledgements[0];
            entry.acknowledgements = vec![first; 3];
        }),
        Err(VersionError::Order)
    ));
    assert!(matches!(
        check(&export, |entry, _| entry.acknowledgements.reverse()),
        Err(VersionError::Order)
    ));
    assert!(matches!(
        check(&export, |entry, _| {
            let second = entry.acknowledgements[1].signature;
            entry.acknowledgements[0].signature = second;
        }),
        Err(VersionError::Acknowledgement(index)) if index.get() == 1
    ));
    assert!(matches!(
        check(&export, |_, statement| statement.commitments.0[0] ^= 1),
        Err(VersionError::Acknowledgement(_))
    ));
    assert!(matches!(
        check(&export, |_, statement| statement.committee =
            CommitteeId([1; 32])),
        Err(VersionError::AnotherCommittee { .. })
    ));
    assert!(matches!(
        check(&export, |_, statement| statement.version =
            KeyVersion::new(2).unwrap()),
        Err(VersionError::AnotherVersion { .. })
    ));
    // Another key's creation under this key's id.
    let (_, other) = world::creation(&mut world.people, THIEF, "payroll");
    let mut swapped = export.clone();
    swapped.creation = other.encode();
    assert!(matches!(
        check(&swapped, |_, _| {}),
        Err(VersionError::AnotherKey { .. })
    ));
}

#[test]
fn nothing_is_encrypted_to_a_version_that_retires() {
    let (mut world, key, _) = exported();
    let begin = world::begin(&mut world.people, key, 2, 1);
    world.run(OWNER, begin).unwrap();
    let second = statement(&mut world, key, 2, 2);
    let action = activation(&mut world, &second);
    world
        .run(world::WORKER, Action::ActivateVersion(action))
        .unwrap();
    let retire = Retire {
        key,
        version: Some(KeyVersion::FIRST),
        deadline: Some(TimestampMs(world.time.0 + 60_000)),
    };
    world.run(OWNER, Action::Retire(retire)).unwrap();
    let first: VersionEntry = world
        .record(&StateKey::KeyVersion(key, KeyVersion::FIRST))
        .unwrap();
    let first = VersionStatement::decode(&first.statement).unwrap();
    let genesis = world.state.genesis_record().clone();
    let old = export(&mut world, &first);
    assert!(matches!(
        old.verify(Pin::Genesis(&genesis)),
        Err(ExportedKeyError::State(KeyState::Retiring { .. }))
    ));
    let new = export(&mut world, &second);
    assert!(new.verify(Pin::Genesis(&genesis)).is_ok());
}
