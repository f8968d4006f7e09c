//! The committed vectors of format version 1: made here from fixed randomness, read by this implementation and by the
//! second one in `testing/reader`.
//!
//! `STRONGROOM_WRITE_VECTORS=1 cargo nextest run -p sealed vectors` writes them anew. Version 1 is fixed: a change in
//! them is a change of the format and wants a version 2 beside it, not new files here.

use crypto::identity::ReceiverKey;
use crypto::passphrase::PassphraseParams;
use crypto::recovery::{RecoveryOpener, RecoverySecret, RecoverySession};
use crypto::seed_text::{SeedKind, digits, parse};
use crypto::wrap::{BucketKey, Passphrase, WrapTo};
use crypto::{ChunkProof, Dek, Identity, Secret, identity_file};
use domain::{Cid, VersionId};
use sealed::bucket::BucketRecord;
use sealed::bucket_key::BucketKeyRecord;
use sealed::entry::{Entry, Predecessor, Target};
use sealed::manifest::{ChunkEntry, Geometry};
use sealed::object::{ObjectOpener, ObjectSealer};
use sealed::{SmallRecord, VersionRecord};
use serde_json::{Value, json};

use crate::support::{DEPLOYMENT, FixedRng, TIME, alice, bucket, head, key, plaintext};
use crate::vector_files::{self, array, folder, hex, pretty, unhex};

const PASSPHRASE: &[u8] = b"correct horse battery staple";

/// Name and the plaintext lengths of its chunks.
fn objects() -> Vec<(&'static str, Vec<usize>)> {
    vec![
        ("empty", vec![0]),
        ("one-byte", vec![1]),
        ("one-block", vec![65_520]),
        ("two-blocks", vec![65_521]),
        ("three-chunks", vec![70_000, 1, 20_000]),
        ("paged", vec![1; 1_025]),
    ]
}

const SET: &str = "objects/v1";

fn golden(name: &str, made: &[u8]) {
    vector_files::golden(SET, name, made);
}

fn committed(name: &str) -> Value {
    vector_files::committed(SET, name)
}

/// Makes one object; its chunks go into a file of their own, one after the other.
fn make_object(name: &str, lengths: &[usize]) -> (Value, Vec<u8>) {
    let mut rng = FixedRng::new(&format!("object {name}"));
    let mut sealer = ObjectSealer::new(&mut rng, DEPLOYMENT, Geometry::LARGEST);
    let plain = plaintext(name, lengths.iter().sum());
    let mut rest = plain.as_slice();
    let (mut file, mut pages, mut proofs) = (Vec::new(), Vec::new(), Vec::new());
    for length in lengths {
        let (part, tail) = rest.split_at(*length);
        rest = tail;
        let mut out = Vec::new();
        let chunk = sealer.seal_chunk(&mut rng, part, &mut out).unwrap();
        pages.extend(sealer.push(ChunkEntry::from(&chunk)).unwrap());
        proofs.push(chunk.proof);
        file.extend_from_slice(&out);
    }
    let (dek, finished) = sealer.finish().unwrap();
    pages.extend(finished.last_page);
    // A thousand empty proofs would say nothing.
    let proofs = if proofs.iter().all(|proof| proof.encoded_len() == 0) {
        Vec::new()
    } else {
        proofs
    };
    let value = json!({
        "name": name,
        "dek": hex(dek.danger_key().expose()),
        "plaintext": format!("BLAKE3 output stream over \"plaintext {name}\""),
        "plaintext_blake3": blake3::hash(&plain).to_hex().as_str(),
        "size": plain.len(),
        "cid": finished.cid.to_string(),
        "root": hex(&finished.root),
        "pages": pages.iter().map(|page| hex(&page.bytes)).collect::<Vec<_>>(),
        "chunks_file": format!("{name}.chunks"),
        "proofs": proofs.iter().map(|proof| hex(&proof.encode())).collect::<Vec<_>>(),
    });
    (value, file)
}

#[test]
fn object_vectors_are_what_this_implementation_makes() {
    let mut list = Vec::new();
    for (name, lengths) in objects() {
        let (value, file) = make_object(name, &lengths);
        golden(&format!("{name}.chunks"), &file);
        list.push(value);
    }
    let all = json!({ "format": 1, "deployment": hex(&DEPLOYMENT.0), "objects": list });
    golden("objects.json", &pretty(&all));
}

#[test]
fn committed_objects_open() {
    let all = committed("objects.json");
    for object in all["objects"].as_array().unwrap() {
        let name = object["name"].as_str().unwrap();
        let dek = Dek::new(Secret::take(&mut array(&object["dek"])), DEPLOYMENT);
        let cid: Cid = object["cid"].as_str().unwrap().parse().unwrap();
        let mut opener = ObjectOpener::new(&cid, &unhex(&object["root"]), dek).unwrap();
        for (index, page) in object["pages"].as_array().unwrap().iter().enumerate() {
            opener.add_page(index, &unhex(page)).unwrap();
        }
        let file =
            std::fs::read(folder(SET).join(object["chunks_file"].as_str().unwrap())).unwrap();
        let (mut rest, mut plain, mut out) = (file.as_slice(), Vec::new(), Vec::new());
        for index in 0..opener.manifest().chunk_count() {
            let (chunk, tail) = rest.split_at(opener.chunk(index).unwrap().ciphertext_bytes());
            rest = tail;
            opener.open_chunk(index, chunk, &mut out).unwrap();
            plain.extend_from_slice(&out);
            if let Some(proof) = object["proofs"].get(index) {
                let proof = ChunkProof::decode(&unhex(proof)).unwrap();
                assert_eq!(ChunkProof::from_ciphertext(chunk), Ok(proof), "{name}");
            }
        }
        assert!(rest.is_empty(), "{name}");
        assert_eq!(
            blake3::hash(&plain).to_hex().as_str(),
            object["plaintext_blake3"],
            "{name}"
        );
        assert!(plain == plaintext(name, plain.len()), "{name}");
    }
}

#[test]
fn record_vectors_are_what_this_implementation_makes() {
    let mut rng = FixedRng::new("records");
    let identity = alice();
    let record = bucket(&identity, "photos").sign(&identity, &DEPLOYMENT);
    let verified = record.clone().verify(&DEPLOYMENT).unwrap();
    let bucket_key = BucketKey::random(&mut rng, DEPLOYMENT, verified.id);
    let receiver = identity.receiver_key(&DEPLOYMENT);
    let passphrase = Passphrase {
        bytes: PASSPHRASE,
        costs: Some((64, 1, 1)),
    };
    let holders: [&dyn WrapTo; 2] = [&receiver, &passphrase];
    let bucket_key_record = BucketKeyRecord::create(
        &mut rng,
        &identity,
        &DEPLOYMENT,
        &bucket_key,
        TIME,
        0,
        &holders,
    )
    .unwrap();
    let small_plain = plaintext("small", 1_000);
    let small = SmallRecord::seal(
        &mut rng,
        &DEPLOYMENT,
        &identity,
        &bucket_key,
        head(&verified, "notes/2027.txt"),
        &small_plain,
        Some(b"text/plain"),
    )
    .unwrap()
    .with_bucket_key(bucket_key_record.clone());
    let tombstone = Entry {
        bucket: verified.id,
        name: key("notes/2027.txt"),
        version: VersionId([0x77; 16]),
        writer: identity.principal(),
        writer_set: 1,
        time: TIME,
        target: Target::Tombstone,
        predecessor: Some(Predecessor::Version(small.version().entry().version)),
        metadata: None,
    };
    let tombstone = VersionRecord::tombstone(tombstone.sign(&identity, &DEPLOYMENT)).unwrap();
    let params = PassphraseParams::new(64, 1, 1, [0x5a; 16]).unwrap();
    let file = identity_file::seal_with(&identity, PASSPHRASE, &params).unwrap();
    let recovery_seed = Secret::take(&mut [0x4e; 32]);
    let recovery = RecoverySecret::from_seed(&recovery_seed);
    let session = RecoverySession::start(&mut rng, &recovery.public(), DEPLOYMENT);
    let recovery_record = session.seal(&mut rng, b"what the index is rebuilt from");
    let all = json!({
        "format": 1,
        "deployment": hex(&DEPLOYMENT.0),
        "identity": {
            "seed": hex(identity.danger_seed().expose()),
            "seed_text": digits(SeedKind::Identity, identity.danger_seed()).as_str(),
            "principal": identity.principal().to_string(),
            "file": hex(&file),
            "file_passphrase": std::str::from_utf8(PASSPHRASE).unwrap(),
            "receiver_public": hex(&receiver.public().to_bytes()),
            "receiver_signature": hex(&receiver.signature().0),
        },
        "bucket": { "id": verified.id.to_string(), "record": hex(&record.encode()) },
        "bucket_key": {
            "id": bucket_key.id.to_string(),
            "key": hex(bucket_key.danger_key().expose()),
            "record": hex(&bucket_key_record.encode()),
            "passphrase": std::str::from_utf8(PASSPHRASE).unwrap(),
        },
        "small": {
            "name": "notes/2027.txt",
            "record": hex(&small.encode()),
            "dek": hex(small.version().unwrap_dek(&bucket_key).unwrap().danger_key().expose()),
            "plaintext": hex(&small_plain),
            "metadata": "text/plain",
        },
        "tombstone": hex(&tombstone.encode()),
        "recovery": {
            "seed_text": digits(SeedKind::Recovery, &recovery_seed).as_str(),
            "public_blake3": blake3::hash(&recovery.public().to_bytes()).to_hex().as_str(),
            "session": hex(session.encoded()),
            "record": hex(&recovery_record),
            "plaintext": "what the index is rebuilt from",
        },
    });
    golden("records.json", &pretty(&all));
}

#[test]
fn committed_records_open() {
    let all = committed("records.json");
    let seed = parse(
        SeedKind::Identity,
        all["identity"]["seed_text"].as_str().unwrap(),
    )
    .unwrap();
    let identity = Identity::from_seed(seed);
    let passphrase = all["identity"]["file_passphrase"]
        .as_str()
        .unwrap()
        .as_bytes();
    let from_file = identity_file::open(&unhex(&all["identity"]["file"]), passphrase).unwrap();
    assert_eq!(from_file.principal(), identity.principal());
    assert_eq!(
        identity.principal().to_string(),
        all["identity"]["principal"]
    );
    ReceiverKey::from_parts(
        &DEPLOYMENT,
        identity.principal(),
        &unhex(&all["identity"]["receiver_public"]),
        crypto::Signature(array(&all["identity"]["receiver_signature"])),
    )
    .unwrap();

    let record = BucketRecord::decode(&unhex(&all["bucket"]["record"])).unwrap();
    let bucket = record.verify(&DEPLOYMENT).unwrap();
    assert_eq!(bucket.id.to_string(), all["bucket"]["id"]);
    let key_record = BucketKeyRecord::decode(&unhex(&all["bucket_key"]["record"])).unwrap();
    let by_identity = key_record.unwrap_key(&DEPLOYMENT, &identity).unwrap();
    let bytes = all["bucket_key"]["passphrase"].as_str().unwrap().as_bytes();
    let by_passphrase = key_record
        .unwrap_key(&DEPLOYMENT, &Passphrase { bytes, costs: None })
        .unwrap();
    assert_eq!(
        hex(by_identity.danger_key().expose()),
        all["bucket_key"]["key"]
    );
    assert!(by_identity.danger_key().ct_eq(by_passphrase.danger_key()));

    let small = SmallRecord::decode(&unhex(&all["small"]["record"])).unwrap();
    assert_eq!(small.bucket_key(), Some(&key_record));
    let name = key(all["small"]["name"].as_str().unwrap());
    let plain = small.open(&bucket, &name, &by_identity).unwrap();
    assert_eq!(hex(&plain), all["small"]["plaintext"]);
    let dek = small.version().unwrap_dek(&by_identity).unwrap();
    assert_eq!(hex(dek.danger_key().expose()), all["small"]["dek"]);
    let metadata = small.version().entry().open_metadata(&dek).unwrap();
    assert_eq!(
        std::str::from_utf8(&metadata).unwrap(),
        all["small"]["metadata"]
    );

    let tombstone = VersionRecord::decode(&unhex(&all["tombstone"])).unwrap();
    tombstone.entry().verify_for(&bucket, &name, None).unwrap();
    assert_eq!(tombstone.entry().target, Target::Tombstone);
    let predecessor = Predecessor::Version(small.version().entry().version);
    assert_eq!(tombstone.entry().predecessor, Some(predecessor));

    let seed = parse(
        SeedKind::Recovery,
        all["recovery"]["seed_text"].as_str().unwrap(),
    )
    .unwrap();
    let mut opener = RecoveryOpener::new(RecoverySecret::from_seed(&seed), DEPLOYMENT);
    opener
        .add_session(&unhex(&all["recovery"]["session"]))
        .unwrap();
    let opened = opener.open(&unhex(&all["recovery"]["record"])).unwrap();
    assert_eq!(
        std::str::from_utf8(&opened).unwrap(),
        all["recovery"]["plaintext"]
    );
}
