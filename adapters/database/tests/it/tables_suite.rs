//! Starts, nodes, buckets, bucket keys, nonces.

use domain::{NodeId, TimestampMs};
use objects::layout::NodeSlot;
use objects::metadata::{Metadata, MetadataError};

use crate::backend::Fixture;
use crate::make::{self, LATER, NOW, bucket, mutation, put, signed, small};

crate::both_databases!(
    epochs_are_times_and_never_repeat,
    nodes_keep_their_slot,
    buckets_are_found_by_name_and_id,
    a_bucket_is_registered_once,
    bucket_keys_are_stored_once,
    only_empty_buckets_are_deleted,
    a_nonce_is_spent_once_and_only_by_success,
    expired_nonces_are_forgotten,
    a_closed_database_is_unavailable,
    two_gateways_start_at_once,
);

async fn epochs_are_times_and_never_repeat(fixture: &Fixture) {
    for later in 0..3 {
        assert_eq!(fixture.db.start_epoch(NOW).await.unwrap(), NOW.0 + later);
    }
    let hour = TimestampMs(NOW.0 + 3_600_000);
    assert_eq!(fixture.db.start_epoch(hour).await.unwrap(), hour.0);
    let known = fixture.db.epochs().await.unwrap();
    assert_eq!(known, [NOW.0, NOW.0 + 1, NOW.0 + 2, hour.0]);
}

async fn two_gateways_start_at_once(fixture: &Fixture) {
    let other = fixture.other_gateway().await;
    let mut epochs = Vec::new();
    for _ in 0..8 {
        let (a, b) = tokio::join!(fixture.db.start_epoch(NOW), other.start_epoch(NOW));
        epochs.extend([a.unwrap(), b.unwrap()]);
    }
    epochs.sort_unstable();
    assert_eq!(epochs, (NOW.0..NOW.0 + 16).collect::<Vec<u64>>());
}

async fn nodes_keep_their_slot(fixture: &Fixture) {
    let db = &fixture.db;
    let node = |n| NodeId(make::digest("node", n));
    for n in 0..3_u16 {
        let slot = db
            .register_node(node(n.into()), "zone-a", "unix:/run/x.sock", 1)
            .await
            .unwrap();
        assert_eq!(slot, NodeSlot(n));
    }
    let again = db.register_node(node(1), "zone-b", "tls:h:1", 7).await;
    assert_eq!(again.unwrap(), NodeSlot(1));
    let nodes = db.nodes().await.unwrap();
    let slots: Vec<_> = nodes.iter().map(|node| node.slot.0).collect();
    assert_eq!(slots, [0, 1, 2]);
    let changed = nodes.iter().find(|row| row.id == node(1)).unwrap();
    assert_eq!(
        (
            changed.zone.as_str(),
            changed.address.as_str(),
            changed.weight
        ),
        ("zone-b", "tls:h:1", 7)
    );
}

async fn buckets_are_found_by_name_and_id(fixture: &Fixture) {
    let db = &fixture.db;
    for n in [2, 0, 1] {
        assert!(
            db.create_bucket(make::bucket_row(n), mutation())
                .await
                .unwrap()
        );
    }
    let row = make::bucket_row(1);
    assert_eq!(db.bucket(row.id).await.unwrap().as_ref(), Some(&row));
    assert_eq!(
        db.bucket_by_name(&row.name).await.unwrap().as_ref(),
        Some(&row)
    );
    assert_eq!(db.bucket(make::bucket_id(9)).await.unwrap(), None);
    let all = db.buckets(None, 10).await.unwrap();
    let wanted: Vec<_> = (0..3).map(make::bucket_row).collect();
    assert_eq!(all, wanted);
    let rest = db.buckets(Some(&wanted[0].name), 1).await.unwrap();
    assert_eq!(rest, wanted[1..2]);
}

async fn a_bucket_is_registered_once(fixture: &Fixture) {
    let db = &fixture.db;
    let row = make::bucket_row(1);
    assert!(db.create_bucket(row.clone(), mutation()).await.unwrap());
    assert!(!db.create_bucket(row.clone(), mutation()).await.unwrap());
    let mut same_name = make::bucket_row(2);
    same_name.name = row.name.clone();
    let mut same_id = make::bucket_row(3);
    same_id.id = row.id;
    let mut other_record = row.clone();
    other_record.record.push(0);
    for bad in [same_name, same_id, other_record] {
        let answer = db.create_bucket(bad, mutation()).await;
        assert!(
            matches!(answer, Err(MetadataError::Exists("bucket"))),
            "{answer:?}"
        );
    }
}

async fn bucket_keys_are_stored_once(fixture: &Fixture) {
    let db = &fixture.db;
    let orphan = make::bucket_key(make::bucket_id(1), 1);
    let answer = db.put_bucket_key(orphan, mutation()).await;
    assert!(matches!(answer, Err(MetadataError::NotFound("bucket"))));
    let bucket = bucket(db, 1).await;
    let key = make::bucket_key(bucket, 1);
    assert!(db.put_bucket_key(key.clone(), mutation()).await.unwrap());
    assert!(!db.put_bucket_key(key.clone(), mutation()).await.unwrap());
    let mut other = key.clone();
    other.record.push(1);
    let answer = db.put_bucket_key(other, mutation()).await;
    assert!(matches!(answer, Err(MetadataError::Exists("bucket key"))));
    assert_eq!(
        db.bucket_key(bucket, key.id).await.unwrap().as_ref(),
        Some(&key)
    );
    assert_eq!(
        db.bucket_key(make::bucket_id(2), key.id).await.unwrap(),
        None
    );
}

async fn only_empty_buckets_are_deleted(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let missing = db.delete_bucket(make::bucket_id(2), mutation()).await;
    assert!(matches!(missing, Err(MetadataError::NotFound("bucket"))));
    let refused = |answer: Result<(), MetadataError>| {
        assert!(
            matches!(answer, Err(MetadataError::BucketNotEmpty)),
            "{answer:?}"
        );
    };
    put(db, id, "a", 1).await;
    refused(db.delete_bucket(id, mutation()).await);
    db.put_tombstone(make::tombstone(id, "a", 2), mutation())
        .await
        .unwrap();
    let upload = make::upload(db, id, "b", 3, 0..1).await;
    refused(db.delete_bucket(id, mutation()).await);
    db.abort_upload(upload, mutation()).await.unwrap();
    db.put_bucket_key(make::bucket_key(id, 1), mutation())
        .await
        .unwrap();
    db.delete_bucket(id, mutation()).await.unwrap();
    assert_eq!(db.bucket(id).await.unwrap(), None);
    let key = make::bucket_key(id, 1).id;
    assert_eq!(db.bucket_key(id, key).await.unwrap(), None);
    make::assert_no_leak(db).await;
    let space = db.space().await.unwrap();
    assert_eq!((space.buckets, space.recovery_bytes), (0, 0));
    let answer = db.put_small(small(id, "a", 9), mutation()).await;
    assert!(matches!(answer, Err(MetadataError::NotFound("bucket"))));
}

async fn a_nonce_is_spent_once_and_only_by_success(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let version = put(db, id, "a", 1).await;
    let replayed = |answer: Result<(), MetadataError>| {
        assert!(matches!(answer, Err(MetadataError::Replayed)), "{answer:?}");
    };
    // A refused mutation spends nothing.
    let mut conditional = small(id, "a", 2);
    conditional.version.predecessor = Some(None);
    let answer = db.put_small(conditional, signed(1)).await;
    assert!(matches!(answer, Err(MetadataError::Conflict { .. })));
    db.put_small(small(id, "b", 3), signed(1)).await.unwrap();
    // Neither the same request nor any other goes with a spent nonce.
    replayed(db.put_small(small(id, "b", 3), signed(1)).await.map(drop));
    replayed(
        db.create_bucket(make::bucket_row(7), signed(1))
            .await
            .map(drop),
    );
    replayed(
        db.put_bucket_key(make::bucket_key(id, 1), signed(1))
            .await
            .map(drop),
    );
    replayed(
        db.create_upload(make::upload_row(id, "u", 1), signed(1))
            .await,
    );
    replayed(db.delete_bucket(id, signed(1)).await);
    replayed(
        db.put_tombstone(make::tombstone(id, "a", 4), signed(1))
            .await
            .map(drop),
    );
    let copy = make::copy(version, make::version(id, "c", 5), 5);
    replayed(db.copy_version(copy, signed(1)).await.map(drop));
    let upload = make::upload(db, id, "u", 6, 0..1).await;
    replayed(db.abort_upload(upload, signed(1)).await);
    let complete = make::complete(upload, make::version(id, "u", 6), 0..1);
    replayed(db.complete_upload(complete, signed(1)).await.map(drop));
    // An idempotent repeat spends its own nonce.
    let repeat = db.put_small(small(id, "b", 3), signed(2)).await.unwrap();
    assert!(!repeat.fresh);
    replayed(db.put_small(small(id, "b", 3), signed(2)).await.map(drop));
}

async fn expired_nonces_are_forgotten(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    for n in 0..3 {
        db.put_small(small(id, "a", n), signed(n)).await.unwrap();
    }
    assert_eq!(db.expire_nonces(NOW).await.unwrap(), 0);
    let after = TimestampMs(NOW.0 + 300_001);
    assert_eq!(db.expire_nonces(after).await.unwrap(), 3);
    assert_eq!(db.expire_nonces(after).await.unwrap(), 0);
    db.put_small(small(id, "b", 9), signed(1)).await.unwrap();
}

async fn a_closed_database_is_unavailable(fixture: &Fixture) {
    let db = &fixture.other_gateway().await;
    let id = bucket(db, 1).await;
    put(db, id, "a", 1).await;
    db.ping().await.unwrap();
    db.close().await;
    let unavailable = |answer: Result<(), MetadataError>| {
        assert!(
            matches!(answer, Err(MetadataError::Unavailable(_))),
            "{answer:?}"
        );
    };
    unavailable(db.ping().await);
    unavailable(db.put_small(small(id, "a", 2), mutation()).await.map(drop));
    unavailable(db.due_deletions(LATER, 1).await.map(drop));
}
