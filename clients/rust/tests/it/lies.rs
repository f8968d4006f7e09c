//! A gateway, a node or a reader that alters what was written: never believed, whatever it alters.

use client::{ByteRange, Client, Error, GetOptions, PutOptions};
use crypto::Dek;
use crypto::block_stream::danger_seal_chunk_with_salt;
use domain::Profile;
use domain::limits::CHUNK_PLAIN_BYTES_MAX;
use sealed::manifest::ChunkList;
use sealed::{BucketKeyRecord, BucketRecord, ChunkEntry, ContentManifest, VersionRecord};

use crate::fake::{DEPLOYMENT, Fake, Object};
use crate::{World, bucket, config, content, identity, key, world};

const PLAIN: usize = CHUNK_PLAIN_BYTES_MAX + 200_000;

async fn put(world: &World, name: &str, len: usize, seed: u8) -> Vec<u8> {
    let bytes = content(len, seed);
    let options = PutOptions::default();
    world
        .client
        .put_bytes(&bucket(), &key(name), &bytes, &options)
        .await
        .unwrap();
    bytes
}

async fn refused(client: &Client, name: &str) {
    let out = tempfile::tempdir().unwrap();
    let path = out.path().join("out");
    let errors = [
        client
            .get_bytes(&bucket(), &key(name), ByteRange::All)
            .await
            .map(|_| ())
            .unwrap_err(),
        client
            .get_file(&bucket(), &key(name), &path, false, None)
            .await
            .map(|_| ())
            .unwrap_err(),
        client
            .verify(&bucket(), &key(name), false, None)
            .await
            .map(|_| ())
            .unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, Error::Integrity { .. }), "{error:?}");
    }
    assert!(!path.exists());
}

/// What a reader knows: the DEK and the manifest.
fn as_a_reader(fake: &Fake, object: &Object) -> (Dek, Vec<ChunkEntry>) {
    let record = VersionRecord::decode(&object.record).unwrap();
    let id = record.protection().unwrap().bucket_key.to_string();
    let key = BucketKeyRecord::decode(&fake.store().keys[&id]).unwrap();
    let key = key.unwrap_key(&DEPLOYMENT, &*identity(1)).unwrap();
    let manifest = ContentManifest::decode(&object.manifest).unwrap();
    let ChunkList::Inline(chunks) = manifest.chunks() else {
        panic!("a short object")
    };
    (record.unwrap_dek(&key).unwrap(), chunks.clone())
}

#[tokio::test]
async fn swapped_objects_are_refused() {
    for len in [100, PLAIN] {
        let world = world().await;
        put(&world, "a", len, 1).await;
        put(&world, "b", len, 2).await;
        let (a, b) = (
            world.fake.object("photos", "a"),
            world.fake.object("photos", "b"),
        );
        world.fake.set_object("photos", "a", b);
        world.fake.set_object("photos", "b", a);
        refused(&world.client, "a").await;
        refused(&world.client, "b").await;
    }
}

#[tokio::test]
async fn a_mixture_of_two_objects_is_refused() {
    let world = world().await;
    put(&world, "a", PLAIN, 1).await;
    put(&world, "b", PLAIN, 2).await;
    let (a, b) = (
        world.fake.object("photos", "a"),
        world.fake.object("photos", "b"),
    );
    let mixtures = [
        Object {
            manifest: b.manifest.clone(),
            ..a.clone()
        },
        Object {
            record: b.record.clone(),
            ..a.clone()
        },
        Object {
            small: Some(b.chunks[1].1.clone()),
            ..a.clone()
        },
    ];
    for mixed in mixtures {
        world.fake.set_object("photos", "a", mixed);
        refused(&world.client, "a").await;
    }
    // Its own CIDs in the headers, the other's bytes in the bodies.
    let mut mixed = a.clone();
    mixed.chunks[0].1 = b.chunks[0].1.clone();
    world.fake.set_object("photos", "a", mixed);
    refused(&world.client, "a").await;
    let mut reordered = a;
    reordered.chunks.swap(0, 1);
    world.fake.set_object("photos", "a", reordered);
    refused(&world.client, "a").await;
}

#[tokio::test]
async fn a_block_forged_by_a_holder_of_the_key_is_refused() {
    let world = world().await;
    let bytes = put(&world, "a", PLAIN, 1).await;
    let object = world.fake.object("photos", "a");
    let (dek, chunks) = as_a_reader(&world.fake, &object);
    let mut evil = bytes[..CHUNK_PLAIN_BYTES_MAX].to_vec();
    evil[70_000] ^= 1;
    let mut forged = Vec::new();
    danger_seal_chunk_with_salt(&dek, chunks[0].salt, &evil, &mut forged).unwrap();
    let mut altered = object;
    altered.chunks[0].1 = forged;
    world.fake.set_object("photos", "a", altered);
    refused(&world.client, "a").await;
    // A range over it: the proof is the forged chunk's own. And one beside it, whose block is genuine.
    for first in [70_000, 3_000_000] {
        let range = ByteRange::Span(first, first);
        let error = world
            .client
            .get_bytes(&bucket(), &key("a"), range)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Integrity { .. }), "{error}");
    }
}

#[tokio::test]
async fn truncated_chunks_records_and_manifests_are_refused() {
    let world = world().await;
    put(&world, "a", PLAIN, 1).await;
    let whole = world.fake.object("photos", "a");
    for cut in [0, 1, 65_536] {
        let mut altered = whole.clone();
        let chunk = &mut altered.chunks[1].1;
        chunk.truncate(chunk.len().saturating_sub(1).min(cut));
        world.fake.set_object("photos", "a", altered);
        refused(&world.client, "a").await;
    }
    let mut altered = whole.clone();
    altered.manifest.pop();
    world.fake.set_object("photos", "a", altered);
    refused(&world.client, "a").await;
    let mut altered = whole;
    altered.record.pop();
    world.fake.set_object("photos", "a", altered);
    refused(&world.client, "a").await;
}

#[tokio::test]
async fn every_flipped_bit_of_a_small_object_is_refused() {
    let world = world().await;
    put(&world, "a", 50, 1).await;
    let whole = world.fake.object("photos", "a");
    let flip = |bytes: &[u8], bit: usize| {
        let mut altered = bytes.to_vec();
        altered[bit / 8] ^= 1 << (bit % 8);
        altered
    };
    let (record, manifest) = (whole.record.len() * 8, whole.manifest.len() * 8);
    for bit in (0..record).step_by(13) {
        let altered = Object {
            record: flip(&whole.record, bit),
            ..whole.clone()
        };
        world.fake.set_object("photos", "a", altered);
        let read = world
            .client
            .get_bytes(&bucket(), &key("a"), ByteRange::All)
            .await;
        // A flip in the bucket key's id asks for a key that is not there.
        assert!(read.is_err(), "record, bit {bit}");
    }
    for bit in (0..manifest).step_by(5) {
        let altered = Object {
            manifest: flip(&whole.manifest, bit),
            ..whole.clone()
        };
        world.fake.set_object("photos", "a", altered);
        refused(&world.client, "a").await;
    }
    let chunk = whole.small.clone().unwrap();
    for bit in 0..chunk.len() * 8 {
        let altered = Object {
            small: Some(flip(&chunk, bit)),
            ..whole.clone()
        };
        world.fake.set_object("photos", "a", altered);
        let read = world
            .client
            .get_bytes(&bucket(), &key("a"), ByteRange::All)
            .await;
        assert!(
            matches!(read, Err(Error::Integrity { .. })),
            "chunk, bit {bit}"
        );
    }
}

#[tokio::test]
async fn a_failed_check_is_asked_again_with_full_verification() {
    let world = world().await;
    let bytes = put(&world, "a", PLAIN, 1).await;
    let object = world.fake.object("photos", "a");
    let (cid, mut lie) = object.chunks[0].clone();
    lie[100_000] ^= 1;
    world.fake.store().lies.insert(cid, lie);
    let mut out = Vec::new();
    world
        .client
        .get(&bucket(), &key("a"), &GetOptions::default(), &mut out)
        .await
        .unwrap();
    assert!(out == bytes);
    assert_eq!(world.fake.requests("verify=full"), 1);
    let (_, part) = world
        .client
        .get_bytes(&bucket(), &key("a"), ByteRange::Span(99_000, 101_000))
        .await
        .unwrap();
    assert!(part == bytes[99_000..=101_000]);
    assert_eq!(world.fake.requests("verify=full"), 2);
}

#[tokio::test]
async fn another_bucket_under_a_pinned_name_is_refused() {
    let world = world().await;
    put(&world, "a", 10, 1).await;
    // Somebody else's bucket of the same name, well signed.
    let dir = tempfile::tempdir().unwrap();
    let other = Client::connect(config(&world.fake, dir.path(), 2))
        .await
        .unwrap();
    other
        .make_bucket(&bucket(), Profile::DATACENTRE, None)
        .await
        .unwrap();
    let fresh = world.fresh_client().await;
    let error = fresh
        .get_bytes(&bucket(), &key("a"), ByteRange::All)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OtherBucket { .. }), "{error}");
    let error = fresh
        .put_bytes(&bucket(), &key("a"), b"x", &PutOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::OtherBucket { .. }), "{error}");
    fresh.forget_bucket(&bucket()).unwrap();
    fresh.bucket(&bucket()).await.unwrap();
}

#[tokio::test]
async fn altered_and_other_bucket_records_of_the_same_version_are_refused() {
    let world = world().await;
    let good = world.fake.store().buckets["photos"].clone();
    // The owner's own second record of writer-set version 1 for this bucket: not newer than the pinned one.
    let record = BucketRecord::decode(&good.record).unwrap();
    let mut again = (*record).clone();
    again.profile = Profile::UNTRUSTED;
    let rival = again.sign(&identity(1), &DEPLOYMENT).encode();
    let mut flipped = good.record.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 1;
    for record in [rival, flipped] {
        let mut info = good.clone();
        info.record = record;
        world.fake.store().buckets.insert("photos".to_owned(), info);
        let error = world
            .fresh_client()
            .await
            .bucket(&bucket())
            .await
            .unwrap_err();
        assert!(matches!(error, Error::Integrity { .. }), "{error}");
    }
}
