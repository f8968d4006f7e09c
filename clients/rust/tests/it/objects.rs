//! What goes in comes out, and only under the conditions that were set.

use client::{
    ByteRange, Client, Condition, CopyOptions, DeploymentPin, Error, ErrorKind, GetOptions,
    PutOptions,
};
use domain::limits::{BLOCK_PLAIN_BYTES, CHUNK_PLAIN_BYTES_MAX, SMALL_PLAIN_BYTES_MAX};
use domain::{DeploymentId, Profile};
use futures_util::TryStreamExt as _;

use crate::fake::{DEPLOYMENT, Fake};
use crate::{bucket, config, content, key, world};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_every_border_size_come_back_bit_for_bit() {
    let world = world().await;
    let reader = world.fresh_client().await;
    let sizes = [
        0,
        1,
        BLOCK_PLAIN_BYTES - 1,
        BLOCK_PLAIN_BYTES + 1,
        SMALL_PLAIN_BYTES_MAX,
        SMALL_PLAIN_BYTES_MAX + 1,
        CHUNK_PLAIN_BYTES_MAX,
        CHUNK_PLAIN_BYTES_MAX + 1,
        3 * CHUNK_PLAIN_BYTES_MAX,
    ];
    for (n, size) in sizes.into_iter().enumerate() {
        let name = key(&format!("dir/ü {n}?&"));
        let bytes = content(size, 1);
        let path = world.dir.path().join("source");
        std::fs::write(&path, &bytes).unwrap();
        let options = PutOptions::default();
        let stored = world
            .client
            .put_file(&bucket(), &name, &path, &options)
            .await
            .unwrap();
        assert_eq!(stored.size_bytes, size as u64);
        let (head, back) = reader
            .get_bytes(&bucket(), &name, ByteRange::All)
            .await
            .unwrap();
        assert_eq!(
            (head.size_bytes, back == bytes),
            (size as u64, true),
            "file of {size}"
        );

        // A stream of unknown length, replacing it.
        let mut source = &bytes[..];
        let stored = world
            .client
            .put_reader(&bucket(), &name, &mut source, None, &PutOptions::default())
            .await
            .unwrap();
        assert_eq!(stored.answer.replaced, Some(head.version));
        let out = world.dir.path().join("out");
        let got = reader
            .get_file(&bucket(), &name, &out, false, None)
            .await
            .unwrap();
        assert_eq!(got.head.version, stored.answer.version);
        assert!(std::fs::read(&out).unwrap() == bytes, "stream of {size}");
        let report = reader.verify(&bucket(), &name, true, None).await.unwrap();
        assert_eq!(report.bytes, size as u64);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ranges_are_exact_at_every_border() {
    let world = world().await;
    let size = 2 * CHUNK_PLAIN_BYTES_MAX + 100_000;
    let bytes = content(size, 2);
    let name = key("big");
    world
        .client
        .put_bytes(&bucket(), &name, &bytes, &PutOptions::default())
        .await
        .unwrap();
    let borders = [0, 1, BLOCK_PLAIN_BYTES, CHUNK_PLAIN_BYTES_MAX, size - 1];
    for first in borders {
        for len in [1, 2, BLOCK_PLAIN_BYTES, CHUNK_PLAIN_BYTES_MAX + 1] {
            let last = (first + len - 1).min(size - 1);
            let range = ByteRange::Span(first as u64, (first + len - 1) as u64);
            let (_, part) = world
                .client
                .get_bytes(&bucket(), &name, range)
                .await
                .unwrap();
            assert!(part == bytes[first..=last], "{first}, {len}");
        }
    }
    let (_, tail) = world
        .client
        .get_bytes(&bucket(), &name, ByteRange::Last(70_000))
        .await
        .unwrap();
    assert!(tail == bytes[size - 70_000..]);
    let beyond = ByteRange::From(size as u64);
    let error = world
        .client
        .get_bytes(&bucket(), &name, beyond)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage);
}

#[tokio::test]
async fn a_range_of_one_byte_moves_one_block_and_its_proof() {
    let world = world().await;
    let bytes = content(CHUNK_PLAIN_BYTES_MAX, 3);
    world
        .client
        .put_bytes(&bucket(), &key("a"), &bytes, &PutOptions::default())
        .await
        .unwrap();
    let mut out = Vec::new();
    let options = GetOptions {
        range: ByteRange::Span(200_000, 200_000),
        ..GetOptions::default()
    };
    world
        .client
        .get(&bucket(), &key("a"), &options, &mut out)
        .await
        .unwrap();
    assert_eq!(out, bytes[200_000..=200_000]);
    assert_eq!(world.fake.requests("/chunks/0?"), 2, "one put, one get");
}

#[tokio::test]
async fn conditions_hold_or_say_what_is_present() {
    let world = world().await;
    let put = |condition| {
        let client = world.client.clone();
        let options = PutOptions {
            condition,
            metadata: Some(b"type=x".to_vec()),
            ..PutOptions::default()
        };
        async move {
            client
                .put_bytes(&bucket(), &key("a"), b"text", &options)
                .await
        }
    };
    let first = put(Condition::IfAbsent).await.unwrap().answer.version;
    let lost = put(Condition::IfAbsent).await.unwrap_err();
    assert!(
        matches!(lost, Error::Conflict { present: Some(id) } if id == first),
        "{lost}"
    );
    let second = put(Condition::IfMatch(first)).await.unwrap().answer.version;
    let lost = put(Condition::IfMatch(first)).await.unwrap_err();
    assert!(
        matches!(lost, Error::Conflict { present: Some(id) } if id == second),
        "{lost}"
    );
    let head = world.client.head(&bucket(), &key("a")).await.unwrap();
    assert_eq!(head.metadata.as_deref(), Some(&b"type=x"[..]));
}

#[tokio::test]
async fn copies_moves_and_deletions_touch_no_data() {
    let world = world().await;
    let (client, options) = (&world.client, CopyOptions::default());
    let other = "other".parse().unwrap();
    client
        .make_bucket(&other, Profile::DATACENTRE, None)
        .await
        .unwrap();
    let bytes = content(SMALL_PLAIN_BYTES_MAX + 1, 4);
    let stored = PutOptions {
        metadata: Some(b"m".to_vec()),
        ..PutOptions::default()
    };
    client
        .put_bytes(&bucket(), &key("a"), &bytes, &stored)
        .await
        .unwrap();
    let sent = world.fake.requests("PUT /v1/uploads");
    client
        .copy((&bucket(), &key("a")), (&other, &key("b")), &options)
        .await
        .unwrap();
    client
        .rename((&bucket(), &key("a")), (&bucket(), &key("c")), &options)
        .await
        .unwrap();
    assert_eq!(world.fake.requests("PUT /v1/uploads"), sent);
    let reader = world.fresh_client().await;
    for (bucket, name) in [(&other, "b"), (&bucket(), "c")] {
        let (head, back) = reader
            .get_bytes(bucket, &key(name), ByteRange::All)
            .await
            .unwrap();
        assert!(back == bytes);
        assert_eq!(head.metadata.as_deref(), Some(&b"m"[..]));
    }
    let gone = reader.head(&bucket(), &key("a")).await.unwrap_err();
    assert!(matches!(gone, Error::NoObject { .. }), "{gone}");
    reader.delete(&bucket(), &key("c"), None).await.unwrap();
    let error = reader.delete(&bucket(), &key("c"), None).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let error = client.remove_bucket(&other).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    client.remove_bucket(&bucket()).await.unwrap();
    assert!(matches!(
        client.bucket(&bucket()).await,
        Err(Error::NoBucket(_))
    ));
}

#[tokio::test]
async fn listings_go_on_over_pages() {
    let world = world().await;
    for n in 0..7 {
        let name = key(&format!("p/{n}"));
        world
            .client
            .put_bytes(&bucket(), &name, b"x", &PutOptions::default())
            .await
            .unwrap();
    }
    world
        .client
        .put_bytes(&bucket(), &key("q"), b"x", &PutOptions::default())
        .await
        .unwrap();
    let listed: Vec<_> = world
        .client
        .list(&bucket(), "p/")
        .try_collect()
        .await
        .unwrap();
    let keys: Vec<_> = listed.iter().map(|object| object.key.as_str()).collect();
    assert_eq!(keys, ["p/0", "p/1", "p/2", "p/3", "p/4", "p/5", "p/6"]);
    let buckets: Vec<_> = world.client.buckets().try_collect().await.unwrap();
    assert_eq!(buckets.len(), 1);
}

#[tokio::test]
async fn a_bucket_key_is_used_across_runs_and_sealed_on_disk() {
    let world = world().await;
    for client in [world.client.clone(), world.fresh_client().await] {
        client
            .put_bytes(&bucket(), &key("a"), b"x", &PutOptions::default())
            .await
            .unwrap();
    }
    assert_eq!(world.fake.requests("PUT /v1/buckets/photos/keys"), 1);
    // Another identity on the same machine neither uses nor opens it.
    let other = Client::connect(config(&world.fake, &world.dir.path().join("state"), 2))
        .await
        .unwrap();
    let error = other
        .get_bytes(&bucket(), &key("a"), ByteRange::All)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoKey { .. }), "{error}");
    let error = other
        .put_bytes(&bucket(), &key("a"), b"y", &PutOptions::default())
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NotAWriter(_)), "{error}");
}

#[tokio::test]
async fn another_deployment_than_the_pinned_one_is_refused() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = config(&fake, dir.path(), 1);
    wrong.deployment = DeploymentPin::Id(DeploymentId([1; 32]));
    let error = Client::connect(wrong).await.unwrap_err();
    assert!(matches!(error, Error::OtherDeployment { found, .. } if found == DEPLOYMENT));
    let mut first = config(&fake, dir.path(), 1);
    first.deployment = DeploymentPin::FirstUse;
    assert_eq!(
        *Client::connect(first).await.unwrap().deployment_id(),
        DEPLOYMENT
    );
}

#[tokio::test]
async fn nobody_there_is_said_so() {
    let fake = Fake::start().await;
    let dir = tempfile::tempdir().unwrap();
    let mut config = config(&fake, dir.path(), 1);
    config.endpoint = "http://127.0.0.1:1".to_owned();
    let error = Client::connect(config).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
