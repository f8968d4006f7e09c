//! What a reader refuses, and by which error: each lie of a gateway, a node, a stranger and a reader who turned.

use crypto::Dek;
use crypto::block_stream::{OpenError, danger_seal_chunk_with_salt};
use crypto::chunk_proof::{ProofError, chunk_cid_and_proof};
use crypto::identity::SignatureError;
use crypto::wrap::{BucketKey, UnwrapError, WrapContext, WrapTo};
use domain::limits::BLOCK_BYTES;
use domain::{DeploymentId, VersionId};
use ipld_core::ipld::Ipld;
use sealed::bucket::{BucketError, WriterSet};
use sealed::bucket_key::{BucketKeyError, BucketKeyRecord};
use sealed::entry::{Entry, EntryError, Target};
use sealed::manifest::{ChunkEntry, ContentManifest, Geometry, ManifestError, cid_of};
use sealed::object::{ObjectOpener, ObjectSealer, ReadError};
use sealed::small::SmallError;
use sealed::version::{Protection, VersionRecord};
use sealed::{SmallRecord, codec::RecordError};

use crate::support::{
    DEPLOYMENT, FixedRng, TIME, alice, bucket, head, key, mallory, photos, plaintext, small,
};

#[test]
fn an_honest_small_object_opens() {
    let (bucket, bucket_key) = photos();
    let plain = plaintext("honest", 100_000);
    let record = small("honest", &plain, Some(b"image/png"));
    let decoded = SmallRecord::decode(&record.encode()).unwrap();
    assert_eq!(decoded, record);
    assert_eq!(
        *decoded.open(&bucket, &key("honest"), &bucket_key).unwrap(),
        plain
    );
    let dek = record.version().unwrap_dek(&bucket_key).unwrap();
    assert_eq!(
        record
            .version()
            .entry()
            .open_metadata(&dek)
            .unwrap()
            .as_slice(),
        b"image/png"
    );
}

#[test]
fn a_gateway_that_swaps_two_objects_is_named() {
    let (bucket, bucket_key) = photos();
    let other = small("other", b"other", None);
    assert_eq!(
        other
            .open(&bucket, &key("wanted"), &bucket_key)
            .unwrap_err(),
        SmallError::Entry(EntryError::AnotherName {
            expected: key("wanted"),
            got: key("other")
        })
    );
    let expected = VersionId([9; 16]);
    let entry = other.version().entry();
    assert_eq!(
        entry.verify_for(&bucket, &key("other"), Some(&expected)),
        Err(EntryError::AnotherVersion {
            expected,
            got: entry.version
        })
    );
}

#[test]
fn entries_of_strangers_other_buckets_and_later_writer_sets_are_refused() {
    let (photos, _) = photos();
    let entry = |change: &dyn Fn(&mut Entry)| {
        let mut entry = Entry {
            bucket: photos.id,
            name: key("x"),
            version: VersionId([1; 16]),
            writer: alice().principal(),
            writer_set: 1,
            time: TIME,
            target: Target::Tombstone,
            predecessor: None,
            metadata: None,
        };
        change(&mut entry);
        entry
    };
    let signed = entry(&|_| ()).sign(&alice(), &DEPLOYMENT);
    assert_eq!(signed.verify(&photos), Ok(()));

    let stranger =
        entry(&|entry| entry.writer = mallory().principal()).sign(&mallory(), &DEPLOYMENT);
    assert_eq!(
        stranger.verify(&photos),
        Err(EntryError::NotAWriter(mallory().principal()))
    );

    let elsewhere = bucket(&alice(), "elsewhere")
        .sign(&alice(), &DEPLOYMENT)
        .verify(&DEPLOYMENT)
        .unwrap();
    let expected = elsewhere.id;
    assert_eq!(
        signed.verify(&elsewhere),
        Err(EntryError::AnotherBucket {
            expected,
            got: photos.id
        })
    );

    let later = entry(&|entry| entry.writer_set = 2).sign(&alice(), &DEPLOYMENT);
    assert_eq!(
        later.verify(&photos),
        Err(EntryError::StaleBucketRecord {
            entry: 2,
            record: 1
        })
    );

    let foreign = entry(&|_| ()).sign(&alice(), &DeploymentId([1; 32]));
    assert_eq!(
        foreign.verify(&photos),
        Err(EntryError::Signature(SignatureError))
    );
}

#[test]
fn a_bucket_record_is_its_owners_alone() {
    let honest = bucket(&alice(), "photos");
    // Mallory takes the id and signs as owner: the id does not follow from her key.
    let mut taken = honest.clone();
    taken.owner = mallory().principal();
    let id = taken.id;
    let taken = taken.sign(&mallory(), &DEPLOYMENT);
    assert_eq!(taken.verify(&DEPLOYMENT).unwrap_err(), BucketError::Id(id));

    let known = honest
        .clone()
        .sign(&alice(), &DEPLOYMENT)
        .verify(&DEPLOYMENT)
        .unwrap();
    assert_eq!(known.expect_successor_of(&known), Ok(()));
    let with = |version: u64, writers: &[crypto::Identity]| {
        let mut record = honest.clone();
        let writers = writers.iter().map(crypto::Identity::principal).collect();
        record.writers = WriterSet::new(version, writers).unwrap();
        record
            .sign(&alice(), &DEPLOYMENT)
            .verify(&DEPLOYMENT)
            .unwrap()
    };
    let newer = with(2, &[alice(), mallory()]);
    assert_eq!(newer.expect_successor_of(&known), Ok(()));
    // Rolled back, and two different records of one version.
    let rolled_back = BucketError::NotNewer { known: 2, got: 1 };
    assert_eq!(known.expect_successor_of(&newer), Err(rolled_back));
    let fork = with(2, &[mallory()]);
    assert_eq!(
        fork.expect_successor_of(&newer),
        Err(BucketError::NotNewer { known: 2, got: 2 })
    );
    let another = bucket(&alice(), "another")
        .sign(&alice(), &DEPLOYMENT)
        .verify(&DEPLOYMENT)
        .unwrap();
    let another_id = another.id;
    assert_eq!(
        another.expect_successor_of(&known),
        Err(BucketError::AnotherBucket {
            expected: known.id,
            got: another_id
        })
    );
}

/// HPKE does not say who sealed: a gateway can wrap a key of its own to Alice. Her signed commitment refuses it.
#[test]
fn a_bucket_key_put_in_by_the_gateway_is_refused() {
    let (_, genuine) = photos();
    let mut rng = FixedRng::new("bucket key");
    let receiver = alice().receiver_key(&DEPLOYMENT);
    let holders: [&dyn WrapTo; 1] = [&receiver];
    let record =
        BucketKeyRecord::create(&mut rng, &alice(), &DEPLOYMENT, &genuine, TIME, 0, &holders)
            .unwrap();
    let opened = record.unwrap_key(&DEPLOYMENT, &alice()).unwrap();
    assert!(opened.danger_key().ct_eq(genuine.danger_key()));

    let planted = BucketKey::random(&mut rng, DEPLOYMENT, genuine.bucket);
    let context = WrapContext::BucketKey {
        bucket: genuine.bucket,
        key: genuine.id,
    };
    let wrap = receiver
        .wrap(&mut rng, &DEPLOYMENT, &context, planted.danger_key())
        .unwrap();
    let replaced = record.clone().with_wraps(vec![wrap]).unwrap();
    assert_eq!(
        replaced.unwrap_key(&DEPLOYMENT, &alice()).unwrap_err(),
        BucketKeyError::Unwrap(UnwrapError::Commitment(genuine.id))
    );
    let not_for_mallory = UnwrapError::NotForMe(mallory().principal().to_string());
    assert_eq!(
        record.unwrap_key(&DEPLOYMENT, &mallory()).unwrap_err(),
        BucketKeyError::Unwrap(not_for_mallory)
    );
    assert!(record.with_wraps(Vec::new()).is_err());
}

/// A finished object of three uneven chunks under `name`'s DEK.
struct Made {
    entry: Entry,
    root: Vec<u8>,
    chunks: Vec<Vec<u8>>,
    plain: Vec<u8>,
    key: [u8; 32],
}

impl Made {
    fn new(name: &str) -> Self {
        let mut rng = FixedRng::new(name);
        let mut sealer = ObjectSealer::new(&mut rng, DEPLOYMENT, Geometry::LARGEST);
        let plain = plaintext(name, 200_000);
        let mut chunks = Vec::new();
        for part in [
            &plain[..150_000],
            &plain[150_000..150_001],
            &plain[150_001..],
        ] {
            let mut out = Vec::new();
            let sealed = sealer.seal_chunk(&mut rng, part, &mut out).unwrap();
            sealer.push(ChunkEntry::from(&sealed)).unwrap();
            chunks.push(out);
        }
        let (dek, finished) = sealer.finish().unwrap();
        let entry = Entry {
            bucket: photos().0.id,
            name: key(name),
            version: VersionId([1; 16]),
            writer: alice().principal(),
            writer_set: 1,
            time: TIME,
            target: Target::Object {
                manifest: finished.cid,
                size: 200_000,
            },
            predecessor: None,
            metadata: None,
        };
        Self {
            entry,
            root: finished.root,
            chunks,
            plain,
            key: *dek.danger_key().expose(),
        }
    }

    fn dek(&self) -> Dek {
        Dek::new(crypto::Secret::take(&mut self.key.clone()), DEPLOYMENT)
    }

    fn opener(&self) -> ObjectOpener {
        ObjectOpener::for_entry(&self.entry, &self.root, self.dek()).unwrap()
    }
}

#[test]
fn manifests_of_other_objects_and_wrong_keys_are_told_apart() {
    let (made, other) = (Made::new("made"), Made::new("other"));
    let expected = cid_of(&made.root);
    let error = |entry: &Entry, root: &[u8], dek| {
        ObjectOpener::for_entry(entry, root, dek)
            .map(|_| ())
            .unwrap_err()
    };
    assert_eq!(
        error(&made.entry, &other.root, made.dek()),
        ManifestError::AnotherManifest {
            expected,
            got: cid_of(&other.root)
        }
        .into()
    );
    assert_eq!(
        error(&made.entry, &made.root, other.dek()),
        ManifestError::WrongDek.into()
    );
    let mut short = made.entry.clone();
    short.target = Target::Object {
        manifest: expected,
        size: 199_999,
    };
    assert_eq!(
        error(&short, &made.root, made.dek()),
        ReadError::Size {
            entry: 199_999,
            manifest: 200_000
        }
    );
    short.target = Target::Tombstone;
    assert_eq!(error(&short, &made.root, made.dek()), ReadError::Tombstone);
}

/// Whoever does not hold the DEK can copy its commitment and name genuine chunks in another order, or fewer of them.
#[test]
fn reordered_shortened_and_spliced_manifests_fail_their_hmac() {
    let (made, other) = (Made::new("made"), Made::new("other"));
    let parse = |root: &[u8]| match serde_ipld_dagcbor::from_slice(root).unwrap() {
        Ipld::Map(map) => map,
        _ => panic!("a manifest is a map"),
    };
    let chunks = |root: &[u8]| match parse(root).remove("chunks").unwrap() {
        Ipld::List(list) => list,
        _ => panic!("chunks are a list"),
    };
    let with_chunks = |list: Vec<Ipld>, size: i128| {
        let mut map = parse(&made.root);
        map.insert(
            "count".into(),
            Ipld::Integer(i128::try_from(list.len()).unwrap()),
        );
        map.insert("size".into(), Ipld::Integer(size));
        map.insert("chunks".into(), Ipld::List(list));
        serde_ipld_dagcbor::to_vec(&Ipld::Map(map)).unwrap()
    };
    let list = chunks(&made.root);
    // The helper changes nothing when asked for nothing.
    assert_eq!(with_chunks(list.clone(), 200_000), made.root);
    let mut reordered = list.clone();
    reordered.swap(0, 2);
    let shortened = list[..2].to_vec();
    let mut spliced = list.clone();
    spliced[2] = chunks(&other.root)[2].clone();
    for (list, size) in [
        (reordered, 200_000),
        (shortened, 150_001),
        (spliced, 200_000),
    ] {
        let root = with_chunks(list, size);
        let result = ObjectOpener::new(&cid_of(&root), &root, made.dek());
        assert_eq!(result.unwrap_err(), ManifestError::Mac.into());
    }
    let mut altered = parse(&made.root);
    altered.insert("mac".into(), Ipld::Bytes(vec![0; 32]));
    let altered = serde_ipld_dagcbor::to_vec(&Ipld::Map(altered)).unwrap();
    let result = ObjectOpener::new(&cid_of(&altered), &altered, made.dek());
    assert_eq!(result.unwrap_err(), ManifestError::Mac.into());
    // Lengths that do not add up are refused before any key is used.
    let wrong_sum = with_chunks(chunks(&made.root), 200_001);
    assert!(matches!(
        ContentManifest::decode(&wrong_sum),
        Err(RecordError::Invalid { .. })
    ));
}

#[test]
fn altered_truncated_and_exchanged_chunks_are_refused_and_leave_nothing() {
    let (made, other) = (Made::new("made"), Made::new("other"));
    let opener = made.opener();
    let mut out = Vec::new();
    opener.open_chunk(0, &made.chunks[0], &mut out).unwrap();
    assert!(out == made.plain[..150_000]);
    let chunk = opener.chunk(0).unwrap().cid;
    let altered = ReadError::Chunk {
        index: 0,
        source: OpenError::Altered { chunk },
    };
    let mut flipped = made.chunks[0].clone();
    flipped[70_000] ^= 1;
    let truncated = made.chunks[0][..made.chunks[0].len() - 1].to_vec();
    let cut_at_block = made.chunks[0][..BLOCK_BYTES].to_vec();
    for bytes in [
        flipped,
        truncated,
        cut_at_block,
        made.chunks[2].clone(),
        other.chunks[0].clone(),
        Vec::new(),
    ] {
        assert_eq!(opener.open_chunk(0, &bytes, &mut out).unwrap_err(), altered);
        assert!(out.is_empty());
    }
    assert_eq!(
        opener.open_chunk(3, &made.chunks[0], &mut out).unwrap_err(),
        ReadError::NoSuchChunk(3)
    );
}

/// A reader holds the DEK, makes a block whose tag is good, and serves it from a node of theirs.
#[test]
fn a_block_forged_by_a_reader_is_refused_in_whole_and_range_reads() {
    let made = Made::new("made");
    let opener = made.opener();
    let mut lie = made.plain[..150_000].to_vec();
    lie[66_000] ^= 1;
    let mut forged = Vec::new();
    let salt = opener.chunk(0).unwrap().salt;
    danger_seal_chunk_with_salt(&made.dek(), salt, &lie, &mut forged).unwrap();
    let mut out = Vec::new();
    let chunk = opener.chunk(0).unwrap().cid;
    assert_eq!(
        opener.open_chunk(0, &forged, &mut out).unwrap_err(),
        ReadError::Chunk {
            index: 0,
            source: OpenError::Altered { chunk }
        }
    );
    let read = opener.reads(&(65_600..65_700)).unwrap().remove(0);
    let block = &forged[read.ciphertext.clone()];
    let (_, honest_proof) = chunk_cid_and_proof(&made.chunks[0]).unwrap();
    let (_, forged_proof) = chunk_cid_and_proof(&forged).unwrap();
    assert_eq!(
        opener
            .open_read(&read, block, honest_proof, &mut out)
            .unwrap_err(),
        ReadError::Chunk {
            index: 0,
            source: ProofError::Block { chunk, index: 1 }.into()
        }
    );
    assert_eq!(
        opener
            .open_read(&read, block, forged_proof, &mut out)
            .unwrap_err(),
        ReadError::Chunk {
            index: 0,
            source: ProofError::Root { expected: chunk }.into()
        }
    );
    assert!(out.is_empty());
}

/// Copy: the same manifest and DEK under another name and bucket, wrapped and signed anew.
#[test]
fn a_copy_keeps_its_cid_and_opens_through_its_own_wrap_only() {
    let made = Made::new("made");
    let mut rng = FixedRng::new("copy");
    let target = bucket(&alice(), "target")
        .sign(&alice(), &DEPLOYMENT)
        .verify(&DEPLOYMENT)
        .unwrap();
    let target_key = BucketKey::random(&mut rng, DEPLOYMENT, target.id);
    let mut entry = made.entry.clone();
    entry.bucket = target.id;
    entry.name = key("copy");
    entry.version = VersionId([2; 16]);
    let protection = Protection {
        bucket_key: target_key.id,
        wrapped_dek: target_key.wrap_dek(&mut rng, &entry.version, &made.dek()),
    };
    let signed = entry.clone().sign(&alice(), &DEPLOYMENT);
    let record = VersionRecord::object(signed.clone(), protection, Vec::new()).unwrap();
    let dek = record.unwrap_dek(&target_key).unwrap();
    signed.verify_for(&target, &key("copy"), None).unwrap();
    ObjectOpener::for_entry(&entry, &made.root, dek).unwrap();
    let (_, source_key) = photos();
    assert_eq!(
        record.unwrap_dek(&source_key).unwrap_err(),
        UnwrapError::Dek
    );

    // A wrap of another object's DEK for this version: the commitment tells.
    let wrong = Protection {
        bucket_key: target_key.id,
        wrapped_dek: target_key.wrap_dek(&mut rng, &entry.version, &Made::new("other").dek()),
    };
    let record = VersionRecord::object(signed.clone(), wrong, Vec::new()).unwrap();
    let dek = record.unwrap_dek(&target_key).unwrap();
    let result = ObjectOpener::for_entry(&entry, &made.root, dek);
    assert_eq!(result.unwrap_err(), ManifestError::WrongDek.into());

    assert!(VersionRecord::tombstone(signed).is_err());
    entry.target = Target::Tombstone;
    let tombstone = entry.sign(&alice(), &DEPLOYMENT);
    assert!(VersionRecord::object(tombstone.clone(), protection, Vec::new()).is_err());
    let tombstone = VersionRecord::tombstone(tombstone).unwrap();
    assert_eq!(
        VersionRecord::decode(&tombstone.encode()),
        Ok(tombstone.clone())
    );
    assert_eq!(
        tombstone.unwrap_dek(&target_key).unwrap_err(),
        UnwrapError::Dek
    );
}

#[test]
fn parts_of_different_small_objects_do_not_make_one() {
    let (a, b) = (small("a", b"first", None), small("b", b"second", None));
    let assemble = |chunk: &SmallRecord, manifest: &SmallRecord, version: &SmallRecord| {
        SmallRecord::from_parts(
            chunk.chunk().to_vec(),
            manifest.manifest().to_vec(),
            version.version().clone(),
            None,
        )
    };
    assert_eq!(assemble(&a, &a, &a), Ok(a.clone()));
    for (chunk, manifest, version) in [(&b, &a, &a), (&a, &b, &a), (&a, &a, &b), (&b, &b, &a)] {
        let refused = assemble(chunk, manifest, version);
        assert!(matches!(
            refused,
            Err(RecordError::Invalid { kind: "small", .. })
        ));
    }
    let (bucket, bucket_key) = photos();
    let long = vec![0; 262_145];
    let mut rng = FixedRng::new("long");
    let seal = |rng: &mut FixedRng, plain: &[u8], metadata: Option<&[u8]>| {
        SmallRecord::seal(
            rng,
            &DEPLOYMENT,
            &alice(),
            &bucket_key,
            head(&bucket, "x"),
            plain,
            metadata,
        )
    };
    assert!(seal(&mut rng, &long, None).is_err());
    assert!(seal(&mut rng, b"", Some(&long[..8_161])).is_err());
    assert!(seal(&mut rng, &long[..262_144], Some(&long[..8_160])).is_ok());
}
