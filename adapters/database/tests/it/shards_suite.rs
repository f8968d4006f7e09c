//! Pending shards, repair, references, sums.

use domain::TimestampMs;
use objects::layout::NodeSlot;
use objects::metadata::{ListQuery, Metadata, MetadataError, Space};

use crate::backend::Fixture;
use crate::make::{
    self, LATER, NOW, bucket, chunk_cid, complete, copies, layout, mutation, put, record_cid,
    small, tombstone, upload, version,
};

crate::both_databases!(
    pending_shards_are_counted_until_they_land,
    a_shard_may_land_elsewhere,
    a_lost_shard_is_pending_again,
    a_shard_wanted_again_is_not_deleted,
    references_cover_chunks_records_and_deletions,
    sums_cover_the_index,
);

async fn pending_shards_are_counted_until_they_land(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let mut first = small(id, "a", 1);
    first.pending = vec![3, 4];
    db.put_small(first, mutation()).await.unwrap();
    let up = upload(db, id, "b", 2, 0..1).await;
    let slot = db
        .plan_chunk(up, 1, chunk_cid(1), layout(1), NOW)
        .await
        .unwrap();
    db.acknowledge_chunk(slot.chunk.id, layout(1), vec![12, 13], NOW)
        .await
        .unwrap();
    db.complete_upload(complete(up, version(id, "b", 2), 0..2), mutation())
        .await
        .unwrap();
    let all = db.pending_shards(0, 10).await.unwrap();
    let seen: Vec<_> = all
        .iter()
        .map(|shard| (shard.chunk.cid, shard.index, shard.small))
        .collect();
    assert_eq!(
        seen,
        [
            (record_cid(1), 3, true),
            (record_cid(1), 4, true),
            (chunk_cid(1), 12, false),
            (chunk_cid(1), 13, false)
        ]
    );
    let first_chunk = all[0].chunk.id;
    assert_eq!(db.pending_shards(0, 1).await.unwrap().len(), 2);
    let rest = db.pending_shards(first_chunk, 10).await.unwrap();
    assert_eq!(rest.len(), 2);
    assert_eq!(db.unplaced_versions().await.unwrap(), 2);
    let copy = make::copy(version(id, "b", 2).version, version(id, "c", 3), 3);
    db.copy_version(copy, mutation()).await.unwrap();
    assert_eq!(db.unplaced_versions().await.unwrap(), 3);
    db.shard_landed(slot.chunk.id, 12, NodeSlot(12))
        .await
        .unwrap();
    db.shard_landed(slot.chunk.id, 12, NodeSlot(12))
        .await
        .unwrap();
    let pending = async |key: &str| {
        let row = db.current(id, &make::key(key)).await.unwrap().unwrap();
        row.pending_shards
    };
    assert_eq!((pending("b").await, pending("c").await), (1, 1));
    db.shard_landed(slot.chunk.id, 13, NodeSlot(13))
        .await
        .unwrap();
    assert_eq!((pending("b").await, pending("c").await), (0, 0));
    assert_eq!(pending("a").await, 2);
    assert_eq!(db.unplaced_versions().await.unwrap(), 1);
    let page = db
        .list(
            id,
            ListQuery {
                prefix: String::new(),
                delimiter: None,
                after: None,
                limit: 10,
            },
        )
        .await
        .unwrap();
    let placed: Vec<_> = page
        .objects
        .iter()
        .map(|object| object.fully_placed)
        .collect();
    assert_eq!(placed, [false, true, true]);
    assert_eq!(db.space().await.unwrap().pending_shards, 2);
}

async fn a_shard_may_land_elsewhere(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let mut new = small(id, "a", 1);
    new.pending = vec![4];
    db.put_small(new, mutation()).await.unwrap();
    let v = version(id, "a", 1).version;
    let chunk = db.chunk(v, 0).await.unwrap().unwrap();
    db.shard_landed(chunk.id, 4, NodeSlot(9)).await.unwrap();
    let now = db.chunk(v, 0).await.unwrap().unwrap();
    assert_eq!(now.layout.shards[4].node, NodeSlot(9));
    assert!(now.pending.is_empty());
    // What may have come to the planned node is cleared at once.
    let due = make::due(db, NOW, 9).await;
    assert_eq!((&due[0].layout, &due[0].remaining), (&copies(1), &vec![4]));
    // A second landing on a third node is one copy too many.
    db.shard_landed(chunk.id, 4, NodeSlot(10)).await.unwrap();
    let due = make::due(db, NOW, 9).await;
    assert_eq!(due.len(), 2);
    assert_eq!(due[1].layout.shards[4].node, NodeSlot(10));
    assert_eq!(
        db.chunk(v, 0).await.unwrap().unwrap().layout.shards[4].node,
        NodeSlot(9)
    );
    for (chunk, index) in [(chunk.id, 5), (chunk.id + 1_000, 0)] {
        let answer = db.shard_landed(chunk, index, NodeSlot(1)).await;
        assert!(matches!(answer, Err(MetadataError::NotFound(_))));
        let answer = db.shard_lost(chunk, index).await;
        assert!(matches!(answer, Err(MetadataError::NotFound(_))));
    }
}

async fn a_lost_shard_is_pending_again(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let v = put(db, id, "a", 1).await;
    let chunk = db.chunk(v, 0).await.unwrap().unwrap();
    for _ in 0..2 {
        db.shard_lost(chunk.id, 2).await.unwrap();
    }
    assert_eq!(db.chunk(v, 0).await.unwrap().unwrap().pending, [2]);
    assert_eq!(db.unplaced_versions().await.unwrap(), 1);
    assert_eq!(db.pending_shards(0, 9).await.unwrap()[0].index, 2);
    db.shard_landed(chunk.id, 2, NodeSlot(2)).await.unwrap();
    assert_eq!(db.unplaced_versions().await.unwrap(), 0);
    assert!(make::due(db, LATER, 9).await.is_empty());
}

async fn a_shard_wanted_again_is_not_deleted(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let v = put(db, id, "a", 1).await;
    let chunk = db.chunk(v, 0).await.unwrap().unwrap();
    db.shard_lost(chunk.id, 2).await.unwrap();
    db.shard_landed(chunk.id, 2, NodeSlot(9)).await.unwrap();
    // It moves back to node 2 while node 2 has not confirmed the deletion of the corrupt copy.
    db.shard_lost(chunk.id, 2).await.unwrap();
    let answer = db.shard_landed(chunk.id, 2, NodeSlot(2)).await;
    assert!(
        matches!(answer, Err(MetadataError::BeingDeleted)),
        "{answer:?}"
    );
    let due = make::due(db, NOW, 9).await;
    assert_eq!(due[0].remaining, [2]);
    db.deletion_progress(due[0].id, vec![], NOW).await.unwrap();
    db.shard_landed(chunk.id, 2, NodeSlot(2)).await.unwrap();
    // Now node 9's copy goes, and only that.
    let due = make::due(db, NOW, 9).await;
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].layout.shards[2].node, NodeSlot(9));
    assert_eq!(due[0].remaining, [2]);
}

async fn references_cover_chunks_records_and_deletions(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put(db, id, "a", 1).await;
    let bucket_record = copies(1_000_001).shards[0].cid;
    let asked = [record_cid(1), record_cid(2), bucket_record];
    let answer = async || db.referenced_shards(&asked).await.unwrap();
    assert_eq!(answer().await, [true, false, true]);
    let dead = tombstone(id, "a", 3);
    db.put_tombstone(dead, mutation()).await.unwrap();
    assert_eq!(answer().await, [true, false, true]);
    assert_eq!(
        db.referenced_shards(&[copies(3_000_003).shards[4].cid])
            .await
            .unwrap(),
        [true]
    );
    make::confirm_deletions(db, LATER).await;
    assert_eq!(answer().await, [false, false, true]);
    db.delete_bucket(id, mutation()).await.unwrap();
    make::confirm_deletions(db, LATER).await;
    assert_eq!(answer().await, [false, false, false]);
    assert!(db.referenced_shards(&[]).await.unwrap().is_empty());
}

async fn sums_cover_the_index(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put(db, id, "a", 1).await;
    put(db, id, "a", 2).await;
    let mut third = small(id, "b", 3);
    third.pending = vec![0];
    db.put_small(third, mutation()).await.unwrap();
    upload(db, id, "c", 4, 0..2).await;
    let shard = u64::try_from(layout(0).shard_bytes()).unwrap();
    assert_eq!(
        db.space().await.unwrap(),
        Space {
            buckets: 1,
            objects: 2,
            plain_bytes: 12 + 13,
            chunks: 5,
            shard_bytes: 3 * 5_000 + 2 * 14 * shard,
            uploads: 1,
            pending_shards: 1,
            deletions: 1,
            recovery_bytes: 5_000,
            pending_copies: 0,
        }
    );
    let never = TimestampMs(0);
    assert!(make::due(db, never, 9).await.is_empty());
}
