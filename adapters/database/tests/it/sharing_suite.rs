//! Shards that several chunks have in common, copies that are missing, records that nobody owns.

use domain::{Cid, Profile, UploadId};
use objects::layout::{ChunkLayout, NodeSlot, ShardPlace};
use objects::metadata::{Metadata, MetadataError, RecoveryRecord};

use crate::backend::Fixture;
use crate::make::{
    self, LATER, NOW, assert_no_leak, bucket, chunk_cid, complete, confirm_deletions, copies,
    layout, mutation, put, put_chunked, record_cid, small, tombstone, upload, version,
};

crate::both_databases!(
    a_shared_shard_goes_with_the_last_chunk,
    a_copy_that_is_a_shard_of_another_chunk_stays,
    a_shard_being_deleted_with_another_chunk_is_refused,
    concurrent_plans_and_aborts_keep_shared_shards,
    chunks_that_share_a_shard_are_few,
    recovery_records_are_pending_until_they_land,
    shards_that_a_node_lost_are_pending_again,
    records_that_nobody_owns_are_deleted_and_never_committed,
);

/// A chunk made to share the data shards of chunk `of`.
fn forged(n: u32, of: u32) -> ChunkLayout {
    let mut forged = layout(n);
    let data = forged.profile.data();
    forged.shards[..data].copy_from_slice(&layout(of).shards[..data]);
    forged
}

async fn forge(fixture: &Fixture, key: &str, up: u32, n: u32, of: u32) -> UploadId {
    let db = &fixture.db;
    let up = upload(db, make::bucket_id(1), key, up, 0..0).await;
    let slot = db
        .plan_chunk(up, 0, chunk_cid(n), forged(n, of), NOW)
        .await
        .unwrap();
    db.acknowledge_chunk(slot.chunk.id, forged(n, of), vec![], NOW)
        .await
        .unwrap();
    up
}

async fn places_due(fixture: &Fixture) -> Vec<ShardPlace> {
    let mut places = Vec::new();
    for deletion in make::due(&fixture.db, LATER, 100).await {
        for &index in &deletion.remaining {
            places.push(deletion.layout.shards[usize::from(index)]);
        }
    }
    places
}

async fn a_shared_shard_goes_with_the_last_chunk(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put_chunked(db, id, "victim", 1, 7..8).await;
    let parity = layout(50).shards[10..].to_vec();
    // The forger aborts, then deletes, then overwrites: each time only what is its own goes.
    let up = forge(fixture, "forged", 60, 50, 7).await;
    db.abort_upload(up, mutation()).await.unwrap();
    assert_eq!(places_due(fixture).await, parity);
    confirm_deletions(db, LATER).await;
    let up = forge(fixture, "forged", 61, 50, 7).await;
    let mut body = complete(up, version(id, "forged", 2), 50..51);
    body.recovery = Vec::new();
    db.complete_upload(body, mutation()).await.unwrap();
    let mut dead = tombstone(id, "forged", 3);
    dead.recovery = Vec::new();
    db.put_tombstone(dead, mutation()).await.unwrap();
    assert_eq!(places_due(fixture).await, parity);
    confirm_deletions(db, LATER).await;
    // The other way round: the forged chunk lives on when the victim's goes, and then takes the rest with it.
    let up = forge(fixture, "forged", 62, 50, 7).await;
    db.put_tombstone(tombstone(id, "victim", 4), mutation())
        .await
        .unwrap();
    let due = places_due(fixture).await;
    assert!(
        layout(7).shards[10..]
            .iter()
            .all(|place| due.contains(place))
    );
    assert!(
        !layout(7).shards[..10]
            .iter()
            .any(|place| due.contains(place))
    );
    confirm_deletions(db, LATER).await;
    db.abort_upload(up, mutation()).await.unwrap();
    assert_eq!(places_due(fixture).await, forged(50, 7).shards);
    assert_no_leak(db).await;
    assert_eq!(fixture.rows("chunk_shards").await, 0);
}

async fn chunks_that_share_a_shard_are_few(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "alike", 1, 0..0).await;
    let mut planned = 0;
    let refused = loop {
        let n = 1_000 + planned;
        let plan = db.plan_chunk(up, planned, chunk_cid(n), forged(n, 7), NOW);
        match plan.await {
            Ok(_) => planned += 1,
            Err(error) => break error,
        }
        assert!(planned < 1_000, "no bound");
    };
    assert!(matches!(refused, MetadataError::TooManyAlike), "{refused}");
    assert_eq!(planned, 65);
    // Others go on, and all of them go when their time comes.
    put_chunked(db, id, "honest", 2, 8..9).await;
    db.abort_upload(up, mutation()).await.unwrap();
    let left = loop {
        let due = places_due(fixture).await;
        if due.is_empty() {
            break fixture.rows("chunk_shards").await;
        }
        confirm_deletions(db, LATER).await;
    };
    assert_eq!(left, 14, "the honest chunk's rows alone");
}

async fn a_copy_that_is_a_shard_of_another_chunk_stays(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put_chunked(db, id, "victim", 1, 7..8).await;
    // A chunk kept as copies whose content is shard 3 of the victim's, on nodes 0 to 4; shard 3 is on node 3.
    let shard = layout(7).shards[3].cid;
    let mut copied = copies(9);
    copied.shards.iter_mut().for_each(|place| place.cid = shard);
    let up = upload(db, id, "copy", 2, 0..0).await;
    db.plan_chunk(up, 0, shard, copied.clone(), NOW)
        .await
        .unwrap();
    db.abort_upload(up, mutation()).await.unwrap();
    let due = places_due(fixture).await;
    let nodes: Vec<u16> = due.iter().map(|place| place.node.0).collect();
    assert_eq!(nodes, [0, 1, 2, 4]);
    confirm_deletions(db, LATER).await;
    // A small record whose bytes are a shard of a forged chunk.
    put(db, id, "small", 3).await;
    let mut stolen = layout(60);
    stolen.shards[2].cid = record_cid(3);
    let up = upload(db, id, "forged", 4, 0..0).await;
    db.plan_chunk(up, 0, chunk_cid(60), stolen.clone(), NOW)
        .await
        .unwrap();
    db.abort_upload(up, mutation()).await.unwrap();
    assert!(!places_due(fixture).await.contains(&stolen.shards[2]));
    // And it is no orphan for having been listed.
    let asked = [record_cid(3), layout(7).shards[13].cid, record_cid(77)];
    assert_eq!(
        db.referenced_shards(&asked).await.unwrap(),
        [true, true, false]
    );
}

async fn a_shard_being_deleted_with_another_chunk_is_refused(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let victim = upload(db, id, "victim", 1, 7..8).await;
    db.abort_upload(victim, mutation()).await.unwrap();
    // Its shards wait to be deleted: what is planned to lie there now would go with them.
    let up = upload(db, id, "forged", 2, 0..0).await;
    let plan = |layout| db.plan_chunk(up, 0, chunk_cid(50), layout, NOW);
    let answer = plan(forged(50, 7)).await;
    assert!(
        matches!(answer, Err(MetadataError::BeingDeleted)),
        "{answer:?}"
    );
    // A copy of one of them as well, where it would lie on the same node.
    let mut copied = copies(9);
    let cid = layout(7).shards[3].cid;
    copied.shards.iter_mut().for_each(|place| place.cid = cid);
    let answer = db.plan_chunk(up, 1, cid, copied, NOW).await;
    assert!(
        matches!(answer, Err(MetadataError::BeingDeleted)),
        "{answer:?}"
    );
    // On other nodes nothing is in its way.
    let mut elsewhere = forged(50, 7);
    elsewhere
        .shards
        .iter_mut()
        .for_each(|place| place.node.0 += 20);
    let slot = plan(elsewhere.clone()).await.unwrap();
    let chunk = slot.chunk.id;
    let all = (0..14).collect();
    db.acknowledge_chunk(chunk, elsewhere, all, NOW)
        .await
        .unwrap();
    let answer = db.shard_landed(chunk, 0, NodeSlot(0)).await;
    assert!(
        matches!(answer, Err(MetadataError::BeingDeleted)),
        "{answer:?}"
    );
    confirm_deletions(db, LATER).await;
    db.shard_landed(chunk, 0, NodeSlot(0)).await.unwrap();
    db.abort_upload(up, mutation()).await.unwrap();
    assert_no_leak(db).await;
    assert_eq!(fixture.rows("chunk_shards").await, 0);
}

async fn concurrent_plans_and_aborts_keep_shared_shards(fixture: &Fixture) {
    let gateways = [fixture.db.clone(), fixture.other_gateway().await];
    let id = bucket(&fixture.db, 1).await;
    let mut tasks = Vec::new();
    for n in 0..24_u32 {
        let db = gateways[usize::try_from(n).unwrap() % 2].clone();
        tasks.push(tokio::spawn(async move {
            let row = make::upload_row(id, "a", n);
            let up = row.id;
            db.create_upload(row, mutation()).await.unwrap();
            // All share the data shards of chunk 7, which none of them is.
            match db
                .plan_chunk(up, 0, chunk_cid(100 + n), forged(100 + n, 7), NOW)
                .await
            {
                Ok(_) if n % 3 == 0 => true,
                Ok(_) => {
                    db.abort_upload(up, mutation()).await.unwrap();
                    false
                }
                Err(MetadataError::BeingDeleted) => false,
                Err(error) => panic!("{error}"),
            }
        }));
    }
    let mut kept = 0;
    for task in tasks {
        kept += usize::from(task.await.unwrap());
    }
    let due = places_due(fixture).await;
    let shared = layout(7).shards[..10].to_vec();
    assert_eq!(
        shared.iter().any(|place| due.contains(place)),
        kept == 0,
        "{kept} kept"
    );
}

async fn recovery_records_are_pending_until_they_land(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put(db, id, "a", 1).await;
    let mut dead = tombstone(id, "a", 2);
    dead.recovery[0].pending = vec![4, 1, 4];
    db.put_tombstone(dead, mutation()).await.unwrap();
    let session = RecoveryRecord {
        layout: copies(77),
        pending: vec![0],
    };
    db.put_session(5, session).await.unwrap();
    let pending = db.pending_recovery(0, 9).await.unwrap();
    let seen: Vec<_> = pending
        .iter()
        .map(|row| (row.record.cid, row.record.pending.clone(), row.session))
        .collect();
    let tombstone_record = (record_cid(3_000_002), vec![1, 4], false);
    assert_eq!(seen, [tombstone_record, (record_cid(77), vec![0], true)]);
    assert_eq!(pending[0].record.layout, copies(3_000_002));
    assert_eq!(
        db.pending_recovery(pending[0].record.id, 9)
            .await
            .unwrap()
            .len(),
        1
    );
    for index in [1, 1, 4] {
        db.recovery_landed(pending[0].record.id, index)
            .await
            .unwrap();
    }
    db.recovery_landed(pending[1].record.id, 0).await.unwrap();
    assert!(db.pending_recovery(0, 9).await.unwrap().is_empty());
    db.recovery_lost(pending[0].record.id, 2).await.unwrap();
    assert_eq!(
        db.pending_recovery(0, 9).await.unwrap()[0].record.pending,
        [2]
    );
    // One that is gone by then is nobody's fault.
    db.recovery_landed(99_999, 0).await.unwrap();
}

async fn shards_that_a_node_lost_are_pending_again(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put(db, id, "small", 1).await;
    put_chunked(db, id, "chunked", 2, 7..8).await;
    let up = forge(fixture, "forged", 63, 50, 7).await;
    let shard = layout(7).shards[3].cid;
    let recovery = record_cid(4_000_002);
    let lost = db
        .shards_lost_on(
            NodeSlot(3),
            vec![shard, record_cid(1), recovery, record_cid(88)],
        )
        .await
        .unwrap();
    assert_eq!(lost, [true, true, true, false]);
    let pending = db.pending_shards(0, 9).await.unwrap();
    let mut seen: Vec<_> = pending
        .iter()
        .map(|shard| (shard.chunk.cid, shard.index))
        .collect();
    seen.sort_unstable();
    let mut expected = vec![(record_cid(1), 3), (chunk_cid(7), 3), (chunk_cid(50), 3)];
    expected.sort_unstable();
    assert_eq!(seen, expected);
    assert_eq!(
        db.pending_recovery(0, 9).await.unwrap()[0].record.pending,
        [3]
    );
    // It is not where that shard lies.
    let elsewhere = db.shards_lost_on(NodeSlot(4), vec![shard]).await.unwrap();
    assert_eq!(elsewhere, [false]);
    db.abort_upload(up, mutation()).await.unwrap();
}

async fn records_that_nobody_owns_are_deleted_and_never_committed(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put(db, id, "a", 1).await;
    // One was committed after all, the others were not.
    db.disown(vec![copies(1), copies(2), copies(3)], NOW)
        .await
        .unwrap();
    let due = places_due(fixture).await;
    assert_eq!(due.len(), 10);
    assert!(due.iter().all(|place| place.cid != record_cid(1)));
    // A commit that comes now would point at records which are on their way out.
    let answer = db.put_small(small(id, "b", 2), mutation()).await;
    assert!(
        matches!(answer, Err(MetadataError::BeingDeleted)),
        "{answer:?}"
    );
    let mut dead = tombstone(id, "a", 4);
    dead.recovery = vec![copies(3).into()];
    let answer = db.put_tombstone(dead, mutation()).await;
    assert!(
        matches!(answer, Err(MetadataError::BeingDeleted)),
        "{answer:?}"
    );
    assert_eq!(confirm_deletions(db, NOW).await, 10);
    let whole = db.disown(vec![broken()], NOW).await;
    assert!(matches!(whole, Err(MetadataError::Damaged { .. })));
    let cid: Option<Cid> = db
        .chunk(version(id, "a", 1).version, 0)
        .await
        .unwrap()
        .map(|row| row.cid);
    assert_eq!(cid, Some(record_cid(1)));
}

fn broken() -> ChunkLayout {
    let mut broken = copies(5);
    broken.profile = Profile::DATACENTRE;
    broken
}
