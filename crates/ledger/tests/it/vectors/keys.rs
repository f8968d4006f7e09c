//! Exported keys: what a reader takes, and what somebody who runs the ledger might try.

use crypto::Secret;
use crypto::kem::{PqSeed, PublicKeys, SharedSecrets};
use crypto::ristretto::{Element, SecretScalar};
use crypto::wrap::{BucketKey, ReleasedKey, Wrap};
use domain::{BucketKeyId, KeyId, KeyVersion, TimestampMs};
use ledger::exported_key::Pin;
use ledger::records::{CommitteeEntry, VersionEntry, VersionStatement};
use ledger::transaction::{ActivateVersion, AdmitCommittee, Change, Retire};
use ledger::{Action, ExportedKey, Genesis, Record as _, State, StateKey};
use sealed::Envelope;
use sealed::armor::{self, ArmorKind};
use sealed::bucket::{Bucket, Readers, WriterSet};
use sealed::bucket_key::BucketKeyStatement;
use sealed::signed::Signed;
use serde_json::{Value, json};

use super::history::OWNER;
use super::{envelope, replaced};
use crate::exported::{activation, export, statement};
use crate::vector_files::{array, committed, folder, golden, hex, pretty, unhex};
use crate::world::{self, DEPLOYMENT, World, slot};

const SET: &str = "keys/v1";

fn first_key() -> (World, KeyId, VersionStatement) {
    let mut world = World::ready();
    let (key, create) = world::create(&mut world.people, OWNER, "payroll");
    world.run(OWNER, create).unwrap();
    let first = statement(&mut world, key, 1, 1);
    let action = activation(&mut world, &first);
    world
        .run(world::WORKER, Action::ActivateVersion(action))
        .unwrap();
    (world, key, first)
}

/// The values of an export, as the ledger's state has them.
fn values(world: &World, statement: &VersionStatement) -> [Vec<u8>; 3] {
    ExportedKey::state_keys(statement).map(|key| world.state.get(&key.encode()).unwrap().to_vec())
}

/// What the validator's owner can make of other values: a state with nothing else in it, proved and signed.
fn planted(world: &mut World, statement: &VersionStatement, values: [Vec<u8>; 3]) -> ExportedKey {
    let entries = ExportedKey::state_keys(statement)
        .iter()
        .zip(values)
        .map(|(key, value)| (key.encode().into(), value.into()))
        .collect();
    let genesis = world.state.genesis_record().clone();
    let (state, newest) = (world.state.clone(), world.newest.clone());
    world.state = State::from_entries(genesis, newest.height, entries);
    world.newest.state_root = world.state.root();
    let made = export(world, statement);
    (world.state, world.newest) = (state, newest);
    made
}

/// The version's entry with changes; the statement is encoded again.
fn with_entry(
    world: &mut World,
    statement: &VersionStatement,
    change: impl FnOnce(&mut World, &mut VersionEntry, &mut VersionStatement),
) -> ExportedKey {
    let [creation, entry, committee] = values(world, statement);
    let mut entry = VersionEntry::decode(&entry).unwrap();
    let mut changed = statement.clone();
    change(world, &mut entry, &mut changed);
    entry.statement = changed.encode();
    planted(world, statement, [creation, entry.encode(), committee])
}

fn refused(cases: &mut Vec<Value>, what: &str, pin: &str, bytes: &[u8]) {
    cases.push(json!({"what": what, "pin": pin, "exported": hex(bytes)}));
}

fn planted_cases(world: &mut World, first: &VersionStatement, cases: &mut Vec<Value>) {
    type Edit = fn(&mut World, &mut VersionEntry, &mut VersionStatement);
    let edits: [(&str, Edit); 8] = [
        ("other public keys", |_, _, statement| {
            statement.dh = first_dh(6);
        }),
        ("two custodians", |_, entry, _| {
            entry.acknowledgements.truncate(2);
        }),
        ("one custodian three times", |_, entry, _| {
            let one = entry.acknowledgements[0];
            entry.acknowledgements = vec![one; 3];
        }),
        ("custodians in another order", |_, entry, _| {
            entry.acknowledgements.reverse();
        }),
        ("a bad signature after three good ones", |_, entry, _| {
            let other = entry.acknowledgements[0].signature;
            entry.acknowledgements[4].signature = other;
        }),
        ("a standby among them", |world, entry, statement| {
            let standby = world.people.get(world::STANDBY + 1);
            let word = statement.acknowledge(standby, &DEPLOYMENT, slot(1, true));
            entry.acknowledgements.insert(1, word);
        }),
        ("another root of commitments", |_, _, statement| {
            statement.commitments.0[0] ^= 1;
        }),
        ("destroyed", |_, entry, _| entry.destroyed = true),
    ];
    for (what, edit) in edits {
        let made = with_entry(world, first, edit);
        refused(cases, what, "genesis", &made.encode());
    }
    let made = with_entry(world, first, |world, entry, _| {
        entry.retires = Some(world.time);
    });
    refused(cases, "retired", "genesis", &made.encode());
    // The owner's record with a thief's signature, and a committee of the operator's own under the good one's id.
    let [creation, entry, committee] = values(world, first);
    let mut forged = creation.clone();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let made = planted(world, first, [forged, entry.clone(), committee.clone()]);
    refused(
        cases,
        "a creation that its owner did not sign",
        "genesis",
        &made.encode(),
    );
    let mut other = CommitteeEntry::decode(&committee).unwrap();
    let at = other.committee.len() - 1;
    other.committee[at] ^= 1;
    let made = planted(world, first, [creation, entry, other.encode()]);
    refused(cases, "another committee", "genesis", &made.encode());
}

fn first_dh(seed: u8) -> [u8; 32] {
    SecretScalar::from_wide(&[seed; 64])
        .times_base()
        .compress()
        .to_bytes()
}

/// A second version, which the committee of the key's creation made.
fn second_version(world: &mut World, key: KeyId) -> VersionStatement {
    let begin = world::begin(&mut world.people, key, 2, 1);
    world.run(OWNER, begin).unwrap();
    let statement = statement(world, key, 2, 2);
    let action: ActivateVersion = activation(world, &statement);
    world
        .run(world::WORKER, Action::ActivateVersion(action))
        .unwrap();
    statement
}

/// The same, acknowledged by an admitted committee of the same threshold that the owner never named.
fn of_another_committee(world: &mut World, version: &VersionStatement) -> ExportedKey {
    let mut other = world::committee(&mut world.people);
    other.random = [0x31; 16];
    let admit = AdmitCommittee {
        committee: other.encode(),
    };
    world.govern(Change::AdmitCommittee(admit)).unwrap();
    let mut statement = version.clone();
    statement.committee = other.id(&DEPLOYMENT);
    statement.commitments = domain::MerkleRoot(world::commitments(&statement).root());
    let made: ActivateVersion = activation(world, &statement);
    let [creation, entry, _] = values(world, version);
    let mut entry = VersionEntry::decode(&entry).unwrap();
    entry.statement = made.statement;
    entry.commitments = made.commitments;
    entry.committee = statement.committee;
    entry.acknowledgements = made.acknowledgements;
    entry.acknowledgements.retain(|one| !one.slot.standby);
    entry.activation = made.activation;
    let committee = world
        .state
        .get(&StateKey::Committee(statement.committee).encode())
        .unwrap()
        .to_vec();
    planted(world, &statement, [creation, entry.encode(), committee])
}

/// A bucket on the key with everything that may be absent, a bucket key's statement of its generation, and records that are none.
fn bucket(world: &mut World, key: KeyId) -> Value {
    let people = &mut world.people;
    let [writer, former, reader] = [2, 3, 4].map(|number| people.principal(number));
    let first = WriterSet::new(7, vec![people.principal(OWNER), writer, former]).unwrap();
    let plain = (*world::bucket(people, OWNER, 1)).clone();
    let content = Bucket {
        writers: first.removing(former).unwrap(),
        readers: Readers::new(vec![reader, former]).unwrap(),
        key: Some(key),
        key_generation: 2,
        ..plain
    };
    let id = content.id;
    let record = content.sign(people.get(OWNER), &DEPLOYMENT);
    let mut secret = [0x41; 32];
    let bucket_key = BucketKey::new(
        BucketKeyId([0x42; 16]),
        id,
        Secret::take(&mut secret),
        DEPLOYMENT,
    );
    let statement = BucketKeyStatement {
        id: bucket_key.id,
        bucket: id,
        writer,
        created: world::START,
        generation: 2,
        commitment: bucket_key.commitment(),
    };
    let statement = Signed::sign(people.get(2), &DEPLOYMENT, statement);
    let body = record.body();
    let refused: Vec<Value> = [
        (
            "a former writer of this version",
            b"\x65until\x07".as_slice(),
            b"\x65until\x08".as_slice(),
        ),
        (
            "a generation that is written out though it is 0",
            b"\x6ekey_generation\x02",
            b"\x6ekey_generation\x00",
        ),
        (
            "no writer set",
            b"\x6awriter_set\x08",
            b"\x6awriter_set\x00",
        ),
    ]
    .into_iter()
    .map(|(what, from, to)| {
        let bytes = envelope(OWNER, "bucket", &replaced(body, from, to));
        json!({"what": what, "record": hex(&bytes)})
    })
    .collect();
    json!({
        "record": hex(&record.encode()),
        "key_generation": 2,
        "former": {"writer": hex(&former.0), "until": 7},
        "readers": record.readers.list().iter().map(|one| hex(&one.0)).collect::<Vec<_>>(),
        "statement": hex(&statement.encode()),
        "bucket_key": hex(&[0x41; 32]),
        "refused": refused,
    })
}

fn make() -> Value {
    let (mut world, key, first) = first_key();
    let genesis = world.state.genesis_record().clone();
    let good = export(&mut world, &first);
    let time = world.newest.time;
    let mut cases = Vec::new();
    planted_cases(&mut world, &first, &mut cases);
    let bytes = good.encode();
    let mut unsigned = good.clone();
    let last = unsigned.certificate.len() - 1;
    unsigned.certificate[last] ^= 1;
    refused(
        &mut cases,
        "a header without its validator",
        "genesis",
        &unsigned.encode(),
    );
    let mut unproved = good.clone();
    unproved.version_proof = good.creation_proof.clone();
    refused(
        &mut cases,
        "a version without its proof",
        "key",
        &unproved.encode(),
    );
    let mut longer = bytes.clone();
    longer.push(0);
    refused(&mut cases, "a byte too many", "key", &longer);

    let second = second_version(&mut world, key);
    let later = export(&mut world, &second);
    let elsewhere = of_another_committee(&mut world, &second);
    for pin in ["key", "genesis"] {
        refused(
            &mut cases,
            "a committee that the owner did not name",
            pin,
            &elsewhere.encode(),
        );
    }
    let retire = Retire {
        key,
        version: Some(KeyVersion::FIRST),
        deadline: Some(TimestampMs(world.time.0 + 60_000)),
    };
    world.run(OWNER, Action::Retire(retire)).unwrap();
    refused(
        &mut cases,
        "retiring",
        "genesis",
        &export(&mut world, &first).encode(),
    );

    json!({
        "deployment": hex(&DEPLOYMENT.0),
        "genesis": hex(&genesis.encode()),
        "key": hex(&key.0),
        "seed": hex(&[4; 64]),
        "x": hex(SecretScalar::from_wide(&[5; 64]).to_secret().expose()),
        "exported": hex(&bytes),
        "pq": hex(&first.pq),
        "dh": hex(&first.dh),
        "time": time.0,
        "later": hex(&later.encode()),
        "refused": cases,
        "bucket": bucket(&mut world, key),
    })
}

#[test]
fn the_committed_keys_are_what_is_made_today() {
    let all = make();
    golden(SET, "keys.json", &pretty(&all));
    let text = armor::encode(ArmorKind::PublicKey, &unhex(&all["exported"]));
    golden(SET, "exported.armor", text.as_bytes());
}

#[test]
fn the_committed_keys_are_read_and_the_planted_ones_refused() {
    let all = committed(SET, "keys.json");
    let genesis = Genesis::decode(&unhex(&all["genesis"])).unwrap();
    let key = KeyId(array(&all["key"]));
    let verify = |bytes: &Value, pin| {
        let export = ExportedKey::decode(&unhex(bytes)).map_err(drop)?;
        export.verify(pin).map_err(drop)
    };
    let pins = [Pin::Genesis(&genesis), Pin::Key(&key)];
    for pin in pins {
        let read = verify(&all["exported"], pin).unwrap();
        assert_eq!(hex(&read.version.statement.pq), all["pq"]);
        assert_eq!(hex(&read.version.statement.dh), all["dh"]);
        assert_eq!(read.time.0, all["time"].as_u64().unwrap());
    }
    for pin in pins {
        assert!(verify(&all["later"], pin).is_ok());
    }
    let refused = all["refused"].as_array().unwrap();
    assert_eq!(refused.len(), 17);
    for case in refused {
        let [by_genesis, by_key] = pins;
        let pin = if case["pin"] == "key" {
            by_key
        } else {
            by_genesis
        };
        assert!(verify(&case["exported"], pin).is_err(), "{}", case["what"]);
    }
}

#[test]
fn the_committed_bucket_is_read() {
    let all = &committed(SET, "keys.json")["bucket"];
    let record = Signed::<Bucket>::decode(&unhex(&all["record"])).unwrap();
    record.clone().verify(&DEPLOYMENT).unwrap();
    assert_eq!(
        record.key_generation,
        all["key_generation"].as_u64().unwrap()
    );
    let former: Vec<Value> = record
        .writers
        .former()
        .iter()
        .map(|one| json!({"writer": hex(&one.writer.0), "until": one.until}))
        .collect();
    assert_eq!(former, [all["former"].clone()]);
    let statement = Signed::<BucketKeyStatement>::decode(&unhex(&all["statement"])).unwrap();
    statement.verify_signature(&DEPLOYMENT).unwrap();
    assert_eq!(
        (statement.generation, statement.bucket),
        (record.key_generation, record.id)
    );
    for case in all["refused"].as_array().unwrap() {
        let read = Signed::<Bucket>::decode(&unhex(&case["record"]));
        assert!(read.is_err(), "{}", case["what"]);
    }
}

/// What the Python reader sealed to the committed key opens here.
#[test]
fn an_envelope_of_the_second_reader_opens() {
    let all = committed(SET, "keys.json");
    let export = ExportedKey::decode(&unhex(&all["exported"])).unwrap();
    let key = export
        .verify(Pin::Key(&KeyId(array(&all["key"]))))
        .unwrap()
        .version
        .key;
    let seed = PqSeed::from_secret(Secret::take(&mut array(&all["seed"])));
    let x = SecretScalar::from_secret(&Secret::take(&mut array(&all["x"]))).unwrap();
    let dh = Element::from_point(x.times_base()).unwrap();
    assert!(
        key.public
            == PublicKeys {
                pq: seed.public(),
                dh
            }
    );

    let file = std::fs::read(folder(SET).join("reader.envelope")).unwrap();
    let envelope = Envelope::from_file(&file).unwrap();
    let context = envelope.wrap_context();
    let hash = context.context_hash(&DEPLOYMENT);
    let [Wrap::NamedKey(wrap)] = envelope.wraps() else {
        panic!("one wrap to a named key");
    };
    let u = wrap
        .ciphertext
        .parts(&DEPLOYMENT, hash)
        .verify(&key.target())
        .unwrap();
    let dh = Element::from_point(u.point() * x.danger_scalar()).unwrap();
    let pq = seed.open(&key.public.pq).unwrap();
    let shared = SharedSecrets::new(pq.decapsulate(&wrap.ciphertext.pq), &dh);
    let released = ReleasedKey {
        kem_hash: wrap.kem_hash(&DEPLOYMENT, &context),
        key: key.derive_key(&wrap.ciphertext, &hash, &shared),
    };
    let dek = envelope.unwrap_dek(&released).unwrap();
    let mut expected = vec![0; 1_000];
    blake3::Hasher::new()
        .update(b"plaintext reader")
        .finalize_xof()
        .fill(&mut expected);
    assert!(envelope.open(&dek).unwrap().as_slice() == expected);
}
