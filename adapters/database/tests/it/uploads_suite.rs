//! Uploads: plan, acknowledge, complete, abort.

use domain::{Cid, TimestampMs, UploadId};
use objects::layout::NodeSlot;
use objects::metadata::{Metadata, MetadataError, SlotChoice, StagedPage, VersionKind};

use crate::backend::Fixture;
use crate::make::{
    self, LATER, NOW, assert_no_leak, bucket, chunk_cid, complete, confirm_deletions, key, layout,
    mutation, put, tombstone, upload, upload_row, version,
};

crate::both_databases!(
    an_upload_is_listed_until_it_is_completed,
    planning_again_returns_the_first_plan,
    an_acknowledgement_replaces_the_plan,
    a_completed_upload_is_an_object,
    completing_needs_every_chunk_acknowledged,
    completing_twice_is_one_completion,
    slots_that_were_not_chosen_go,
    an_aborted_upload_leaves_nothing,
    stale_uploads_are_found,
    the_same_ciphertext_is_one_chunk,
    a_repeated_chunk_within_one_object_is_counted,
    many_slots_are_completed_in_order,
    completed_uploads_are_forgotten_after_a_day,
    an_upload_in_use_is_not_stale,
    staged_pages_make_an_object,
    staged_pages_must_be_those_that_were_named,
    a_slow_node_is_substituted_by_a_written_plan,
    a_slow_node_that_lands_first_after_all_keeps_its_shard,
);

async fn an_upload_is_listed_until_it_is_completed(fixture: &Fixture) {
    let db = &fixture.db;
    let row = upload_row(make::bucket_id(1), "a", 1);
    let answer = db.create_upload(row.clone(), mutation()).await;
    assert!(matches!(answer, Err(MetadataError::NotFound("bucket"))));
    let id = bucket(db, 1).await;
    for n in [2, 1, 3] {
        db.create_upload(upload_row(id, "a", n), mutation())
            .await
            .unwrap();
    }
    let answer = db.create_upload(row.clone(), mutation()).await;
    assert!(matches!(answer, Err(MetadataError::Exists("upload"))));
    assert_eq!(db.upload(row.id).await.unwrap().as_ref(), Some(&row));
    assert_eq!(db.upload(UploadId([0; 16])).await.unwrap(), None);
    let oldest: Vec<_> = (1..3).map(|n| upload_row(id, "a", n)).collect();
    assert_eq!(db.uploads(id, 2).await.unwrap(), oldest);
    let done = complete(row.id, version(id, "a", 1), 0..0);
    db.complete_upload(done, mutation()).await.unwrap();
    assert_eq!(db.uploads(id, 9).await.unwrap().len(), 2);
    let completed = db.upload(row.id).await.unwrap().unwrap().completed;
    assert_eq!(completed, Some(version(id, "a", 1).version));
    assert_eq!(db.space().await.unwrap().uploads, 2);
}

async fn planning_again_returns_the_first_plan(fixture: &Fixture) {
    let db = &fixture.db;
    let missing = db
        .plan_chunk(UploadId([3; 16]), 0, chunk_cid(1), layout(1), NOW)
        .await;
    assert!(matches!(missing, Err(MetadataError::NotFound("upload"))));
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..0).await;
    let first = db
        .plan_chunk(up, 5, chunk_cid(1), layout(1), NOW)
        .await
        .unwrap();
    assert!(!first.acknowledged);
    assert_eq!(first.chunk.pending, (0..14).collect::<Vec<u8>>());
    let mut elsewhere = layout(1);
    elsewhere.shards[0].node = NodeSlot(99);
    let again = db
        .plan_chunk(up, 5, chunk_cid(1), elsewhere, NOW)
        .await
        .unwrap();
    assert_eq!(again, first);
    let other = db
        .plan_chunk(up, 5, chunk_cid(2), layout(2), NOW)
        .await
        .unwrap();
    assert_ne!(other.chunk.id, first.chunk.id);
    // Slots are paged by index.
    db.plan_chunk(up, 9, chunk_cid(3), layout(3), NOW)
        .await
        .unwrap();
    let from = async |n, limit| -> Vec<u32> {
        let slots = db.slots(up, n, limit).await.unwrap();
        slots.iter().map(|slot| slot.n).collect()
    };
    assert_eq!(from(0, 10).await, [5, 5, 9]);
    assert_eq!(from(6, 10).await, [9]);
    assert_eq!(from(0, 1).await, [5]);
    // Shards of planned chunks are not "pending": whoever writes the chunk is at it.
    assert!(db.pending_shards(0, 10).await.unwrap().is_empty());
}

async fn an_acknowledgement_replaces_the_plan(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..0).await;
    let slot = db
        .plan_chunk(up, 0, chunk_cid(1), layout(1), NOW)
        .await
        .unwrap();
    let mut written = layout(1);
    written.shards[2].node = NodeSlot(20);
    written.shards[7].node = NodeSlot(21);
    db.acknowledge_chunk(slot.chunk.id, written.clone(), vec![13], NOW)
        .await
        .unwrap();
    let now = &db.slots(up, 0, 1).await.unwrap()[0];
    assert!(now.acknowledged);
    assert_eq!(
        (&now.chunk.layout, &now.chunk.pending),
        (&written, &vec![13])
    );
    let due = make::due(db, LATER, 9).await;
    assert_eq!(
        (&due[0].layout, &due[0].remaining),
        (&layout(1), &vec![2, 7])
    );
    // The same acknowledgement again changes nothing.
    db.acknowledge_chunk(slot.chunk.id, written.clone(), vec![13], NOW)
        .await
        .unwrap();
    assert_eq!(make::due(db, LATER, 9).await.len(), 1);
    // Another one does not move what was acknowledged; its places are cleared.
    db.acknowledge_chunk(slot.chunk.id, layout(1), vec![], NOW)
        .await
        .unwrap();
    let kept = &db.slots(up, 0, 1).await.unwrap()[0];
    assert_eq!(kept.chunk.layout, written);
    let missing = db.acknowledge_chunk(999, layout(1), vec![], NOW).await;
    assert!(matches!(missing, Err(MetadataError::NotFound("chunk"))));
}

async fn a_completed_upload_is_an_object(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let before = put(db, id, "a", 50).await;
    let up = upload(db, id, "a", 1, 0..3).await;
    assert_eq!(
        db.current(id, &key("a")).await.unwrap().unwrap().kind,
        VersionKind::Small
    );
    let done = complete(up, version(id, "a", 1), 0..3);
    let committed = db.complete_upload(done, mutation()).await.unwrap();
    assert_eq!(committed.replaced, Some(before));
    let (row, record) = db.current_with_small(id, &key("a")).await.unwrap().unwrap();
    assert_eq!(
        (row.kind, row.chunks, row.sequence),
        (VersionKind::Chunked, 3, committed.sequence)
    );
    assert_eq!(record, None);
    assert_eq!(row.manifest_root, b"root page");
    let v = row.version.version;
    let chunks = db.chunks(v, 1, 9).await.unwrap();
    let cids: Vec<_> = chunks.iter().map(|chunk| chunk.cid).collect();
    assert_eq!(cids, [chunk_cid(1), chunk_cid(2)]);
    assert_eq!(db.chunk(v, 2).await.unwrap().unwrap().cid, chunk_cid(2));
    assert_eq!(
        db.manifest_page(v, 0).await.unwrap().as_deref(),
        Some(b"page 0".as_slice())
    );
    assert_eq!(db.manifest_page(v, 2).await.unwrap(), None);
    assert!(db.slots(up, 0, 9).await.unwrap().is_empty());
    let plan = db.plan_chunk(up, 9, chunk_cid(9), layout(9), NOW).await;
    assert!(matches!(plan, Err(MetadataError::NotFound("upload"))));
    let abort = db.abort_upload(up, mutation()).await;
    assert!(matches!(abort, Err(MetadataError::Exists(_))), "{abort:?}");
    db.put_tombstone(tombstone(id, "a", 2), mutation())
        .await
        .unwrap();
    assert_no_leak(db).await;
}

async fn completing_needs_every_chunk_acknowledged(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..2).await;
    db.plan_chunk(up, 2, chunk_cid(2), layout(2), NOW)
        .await
        .unwrap();
    let missing = async |slots: &[(u32, u32)], expected: u32| {
        let mut body = complete(up, version(id, "a", 1), 0..0);
        body.slots = slots
            .iter()
            .map(|&(n, chunk)| SlotChoice {
                n,
                cid: chunk_cid(chunk),
            })
            .collect();
        let answer = db.complete_upload(body, mutation()).await;
        assert!(
            matches!(answer, Err(MetadataError::ChunkMissing { n }) if n == expected),
            "{slots:?}: {answer:?}"
        );
    };
    missing(&[(0, 0), (1, 1), (2, 2)], 2).await;
    missing(&[(0, 0), (1, 1), (2, 7)], 2).await;
    missing(&[(0, 0), (1, 9)], 1).await;
    missing(&[(0, 8), (1, 1)], 0).await;
    missing(&[(0, 0), (1, 1), (3, 3)], 2).await;
    missing(&[(1, 1), (0, 0)], 0).await;
    missing(&[(0, 0), (0, 0)], 1).await;
    assert_eq!(db.current(id, &key("a")).await.unwrap(), None);
    let elsewhere = complete(up, version(id, "b", 1), 0..2);
    let answer = db.complete_upload(elsewhere, mutation()).await;
    assert!(matches!(answer, Err(MetadataError::NotFound(_))));
    let mut conditional = complete(up, version(id, "a", 1), 0..2);
    conditional.version.predecessor = Some(Some(version(id, "a", 9).version));
    let answer = db.complete_upload(conditional, mutation()).await;
    assert!(matches!(
        answer,
        Err(MetadataError::Conflict { present: None })
    ));
    db.complete_upload(complete(up, version(id, "a", 1), 0..2), mutation())
        .await
        .unwrap();
    // Slot 2 was planned and not chosen.
    assert_eq!(confirm_deletions(db, LATER).await, 14);
}

async fn completing_twice_is_one_completion(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let before = put(db, id, "a", 50).await;
    let up = upload(db, id, "a", 1, 0..2).await;
    let body = complete(up, version(id, "a", 1), 0..2);
    let first = db.complete_upload(body.clone(), mutation()).await.unwrap();
    let again = db.complete_upload(body.clone(), mutation()).await.unwrap();
    assert_eq!(
        (again.sequence, again.replaced, again.fresh),
        (first.sequence, Some(before), false)
    );
    // Also when the object has been replaced since: it does not come back.
    put(db, id, "a", 51).await;
    let late = db.complete_upload(body, mutation()).await.unwrap();
    assert_eq!((late.sequence, late.fresh), (first.sequence, false));
    assert_eq!(
        db.current(id, &key("a")).await.unwrap().unwrap().kind,
        VersionKind::Small
    );
    let other = complete(up, version(id, "a", 2), 0..2);
    let answer = db.complete_upload(other, mutation()).await;
    assert!(matches!(answer, Err(MetadataError::Exists(_))));
}

async fn slots_that_were_not_chosen_go(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..2).await;
    for (n, chunk) in [(0, 10), (1, 11), (7, 12)] {
        let slot = db
            .plan_chunk(up, n, chunk_cid(chunk), layout(chunk), NOW)
            .await
            .unwrap();
        db.acknowledge_chunk(slot.chunk.id, layout(chunk), vec![], NOW)
            .await
            .unwrap();
    }
    let mut body = complete(up, version(id, "a", 1), 0..2);
    body.slots[1].cid = chunk_cid(11);
    db.complete_upload(body, mutation()).await.unwrap();
    let v = version(id, "a", 1).version;
    let cids: Vec<_> = db.chunks(v, 0, 9).await.unwrap();
    let cids: Vec<_> = cids.iter().map(|chunk| chunk.cid).collect();
    assert_eq!(cids, [chunk_cid(0), chunk_cid(11)]);
    assert_eq!(confirm_deletions(db, LATER).await, 3 * 14);
    assert_eq!(db.space().await.unwrap().chunks, 2);
}

async fn an_aborted_upload_leaves_nothing(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..3).await;
    db.plan_chunk(up, 3, chunk_cid(3), layout(3), NOW)
        .await
        .unwrap();
    db.abort_upload(up, mutation()).await.unwrap();
    db.abort_upload(up, mutation()).await.unwrap();
    assert_eq!(db.upload(up).await.unwrap(), None);
    let done = complete(up, version(id, "a", 1), 0..3);
    let answer = db.complete_upload(done, mutation()).await;
    assert!(matches!(answer, Err(MetadataError::NotFound("upload"))));
    // The planned chunk's shards may have landed: they go as well.
    assert_eq!(confirm_deletions(db, LATER).await, 4 * 14);
    assert_no_leak(db).await;
}

async fn stale_uploads_are_found(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    for n in 0..5 {
        upload(db, id, "a", n, 0..0).await;
    }
    let done = make::complete(upload_row(id, "a", 0).id, version(id, "a", 0), 0..0);
    db.complete_upload(done, mutation()).await.unwrap();
    let before = TimestampMs(NOW.0 + 3);
    let stale = db.stale_uploads(before, 9).await.unwrap();
    assert_eq!(stale, [1, 2].map(|n| upload_row(id, "a", n).id));
    assert_eq!(db.stale_uploads(before, 1).await.unwrap().len(), 1);
    // Between the question and the answer something arrives for one of them: it stays. The same chunk again counts too.
    let [used, idle] = [1, 2].map(|n| upload_row(id, "a", n).id);
    let later = TimestampMs(NOW.0 + 20_000);
    for now in [NOW, later] {
        db.plan_chunk(used, 0, chunk_cid(7), make::layout(7), now)
            .await
            .unwrap();
    }
    assert!(!db.abort_if_stale(used, later, later).await.unwrap());
    assert!(db.abort_if_stale(idle, later, later).await.unwrap());
    assert!(!db.abort_if_stale(idle, later, later).await.unwrap());
    let done = upload_row(id, "a", 0).id;
    assert!(!db.abort_if_stale(done, later, later).await.unwrap());
    assert_eq!(db.upload(idle).await.unwrap(), None);
    assert!(db.upload(used).await.unwrap().is_some());
}

async fn the_same_ciphertext_is_one_chunk(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let one = upload(db, id, "a", 1, 0..2).await;
    let two = upload(db, id, "b", 2, 0..0).await;
    let mut elsewhere = layout(0);
    elsewhere.shards[0].node = NodeSlot(77);
    let slot = db
        .plan_chunk(two, 0, chunk_cid(0), elsewhere, NOW)
        .await
        .unwrap();
    assert_eq!((&slot.chunk.layout, slot.acknowledged), (&layout(0), true));
    assert_eq!(db.space().await.unwrap().chunks, 2);
    db.abort_upload(one, mutation()).await.unwrap();
    assert_eq!(confirm_deletions(db, LATER).await, 14);
    db.complete_upload(complete(two, version(id, "b", 2), 0..1), mutation())
        .await
        .unwrap();
    let v = version(id, "b", 2).version;
    assert_eq!(db.chunks(v, 0, 9).await.unwrap().len(), 1);
    db.put_tombstone(tombstone(id, "b", 3), mutation())
        .await
        .unwrap();
    assert_no_leak(db).await;
}

async fn a_repeated_chunk_within_one_object_is_counted(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..1).await;
    for n in 1..3 {
        db.plan_chunk(up, n, chunk_cid(0), layout(0), NOW)
            .await
            .unwrap();
    }
    let mut body = complete(up, version(id, "a", 1), 0..1);
    for n in 1..3 {
        body.slots.push(SlotChoice {
            n,
            cid: chunk_cid(0),
        });
    }
    db.complete_upload(body, mutation()).await.unwrap();
    let v = version(id, "a", 1).version;
    let chunk = db.chunk(v, 2).await.unwrap().unwrap();
    db.shard_lost(chunk.id, 3).await.unwrap();
    let row = db.version(v).await.unwrap().unwrap();
    assert_eq!((row.chunks, row.pending_shards), (3, 3));
    let copy = make::copy(v, version(id, "b", 2), 2);
    db.copy_version(copy, mutation()).await.unwrap();
    db.put_tombstone(tombstone(id, "a", 3), mutation())
        .await
        .unwrap();
    db.shard_landed(chunk.id, 3, NodeSlot(3)).await.unwrap();
    assert_eq!(db.unplaced_versions().await.unwrap(), 0);
    db.put_tombstone(tombstone(id, "b", 4), mutation())
        .await
        .unwrap();
    assert_no_leak(db).await;
}

async fn many_slots_are_completed_in_order(fixture: &Fixture) {
    // More than are read at once.
    const CHUNKS: u32 = 4_100;
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..0).await;
    let mut tasks = Vec::new();
    for worker in 0..8 {
        let db = db.clone();
        tasks.push(tokio::spawn(async move {
            for n in (worker..CHUNKS).step_by(8) {
                let slot = db
                    .plan_chunk(up, n, chunk_cid(n), layout(n), NOW)
                    .await
                    .unwrap();
                db.acknowledge_chunk(slot.chunk.id, layout(n), vec![], NOW)
                    .await
                    .unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let done = complete(up, version(id, "a", 1), 0..CHUNKS);
    db.complete_upload(done, mutation()).await.unwrap();
    let v = version(id, "a", 1).version;
    let tail = db.chunks(v, CHUNKS - 2, 9).await.unwrap();
    assert_eq!(tail[1].cid, chunk_cid(CHUNKS - 1));
    db.put_tombstone(tombstone(id, "a", 2), mutation())
        .await
        .unwrap();
    make::due(db, LATER, 1).await;
    assert_eq!(db.space().await.unwrap().chunks, 0);
    assert_no_leak(db).await;
}

async fn completed_uploads_are_forgotten_after_a_day(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..1).await;
    db.complete_upload(complete(up, version(id, "a", 1), 0..1), mutation())
        .await
        .unwrap();
    let day = 24 * 60 * 60 * 1_000;
    db.expire_nonces(TimestampMs(NOW.0 + day)).await.unwrap();
    assert!(db.upload(up).await.unwrap().is_some());
    db.expire_nonces(TimestampMs(NOW.0 + day + 1))
        .await
        .unwrap();
    assert_eq!(db.upload(up).await.unwrap(), None);
}

async fn an_upload_in_use_is_not_stale(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let used = upload(db, id, "a", 1, 0..0).await;
    let paged = upload(db, id, "b", 2, 0..0).await;
    let idle = upload(db, id, "c", 3, 0..0).await;
    let later = TimestampMs(NOW.0 + 3_600_000);
    db.plan_chunk(used, 0, chunk_cid(1), layout(1), later)
        .await
        .unwrap();
    db.stage_page(paged, page(0, 0..1), later).await.unwrap();
    let before = TimestampMs(later.0 - 1);
    assert_eq!(db.stale_uploads(before, 9).await.unwrap(), [idle]);
    let before = TimestampMs(later.0 + 1);
    assert_eq!(db.stale_uploads(before, 9).await.unwrap().len(), 3);
}

/// Page `number` over some chunks.
fn page(number: u32, chunks: std::ops::Range<u32>) -> StagedPage {
    let bytes = format!("page {number}: {chunks:?}").into_bytes();
    StagedPage {
        number,
        cid: Cid::of(domain::Codec::DagCbor, &bytes),
        chunks: chunks.map(chunk_cid).collect(),
        bytes,
    }
}

async fn staged_pages_make_an_object(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..7).await;
    let pages = [page(0, 0..3), page(1, 3..6), page(2, 6..7)];
    // A first try at page 1 is replaced; one page too many is not part of the object.
    db.stage_page(up, page(1, 0..3), NOW).await.unwrap();
    db.stage_page(up, page(3, 0..1), NOW).await.unwrap();
    for page in &pages {
        db.stage_page(up, page.clone(), NOW).await.unwrap();
    }
    assert_eq!(
        db.staged_page(up, 1).await.unwrap().as_ref(),
        Some(&pages[1])
    );
    assert_eq!(db.staged_page(up, 9).await.unwrap(), None);
    let mut body = complete(up, version(id, "a", 1), 0..0);
    body.pages = Vec::new();
    body.staged = pages.iter().map(|page| page.cid).collect();
    let committed = db.complete_upload(body.clone(), mutation()).await.unwrap();
    assert!(committed.fresh);
    assert!(!db.complete_upload(body, mutation()).await.unwrap().fresh);
    let v = version(id, "a", 1).version;
    let row = db.version(v).await.unwrap().unwrap();
    assert_eq!(row.chunks, 7);
    let chunks = db.chunks(v, 0, 9).await.unwrap();
    let cids: Vec<_> = chunks.iter().map(|chunk| chunk.cid).collect();
    assert_eq!(cids, (0..7).map(chunk_cid).collect::<Vec<_>>());
    for page in &pages {
        let stored = db.manifest_page(v, page.number).await.unwrap();
        assert_eq!(stored.as_ref(), Some(&page.bytes));
    }
    assert_eq!(db.manifest_page(v, 3).await.unwrap(), None);
    assert_eq!(db.staged_page(up, 0).await.unwrap(), None);
    let answer = db.stage_page(up, page(0, 0..1), NOW).await;
    assert!(matches!(answer, Err(MetadataError::NotFound("upload"))));
    db.put_tombstone(tombstone(id, "a", 2), mutation())
        .await
        .unwrap();
    assert_no_leak(db).await;
}

async fn staged_pages_must_be_those_that_were_named(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..4).await;
    db.stage_page(up, page(0, 0..2), NOW).await.unwrap();
    let mut body = complete(up, version(id, "a", 1), 0..0);
    body.pages = Vec::new();
    let mut check = async |staged: &[StagedPage]| {
        body.staged = staged.iter().map(|page| page.cid).collect();
        db.complete_upload(body.clone(), mutation()).await
    };
    let answer = check(&[page(0, 0..2), page(1, 2..4)]).await;
    assert!(
        matches!(answer, Err(MetadataError::PageMissing { page: 1 })),
        "{answer:?}"
    );
    db.stage_page(up, page(1, 2..3), NOW).await.unwrap();
    // Replaced since it was looked at.
    let answer = check(&[page(0, 0..2), page(1, 2..4)]).await;
    assert!(
        matches!(answer, Err(MetadataError::PageMissing { page: 1 })),
        "{answer:?}"
    );
    // A page that names a chunk which was never acknowledged.
    db.stage_page(up, page(1, 2..5), NOW).await.unwrap();
    let answer = check(&[page(0, 0..2), page(1, 2..5)]).await;
    assert!(
        matches!(answer, Err(MetadataError::ChunkMissing { n: 4 })),
        "{answer:?}"
    );
    assert_eq!(db.current(id, &key("a")).await.unwrap(), None);
    db.abort_upload(up, mutation()).await.unwrap();
    assert_eq!(db.staged_page(up, 0).await.unwrap(), None);
    assert_no_leak(db).await;
}

async fn a_slow_node_is_substituted_by_a_written_plan(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..0).await;
    let slot = db
        .plan_chunk(up, 0, chunk_cid(1), layout(1), NOW)
        .await
        .unwrap();
    let chunk = slot.chunk.id;
    let clear_at = TimestampMs(NOW.0 + 60_000);
    db.substitute_node(chunk, 3, NodeSlot(20), clear_at)
        .await
        .unwrap();
    // Two shards of one chunk never lie on one node.
    let taken = db.substitute_node(chunk, 4, NodeSlot(20), clear_at).await;
    assert!(matches!(taken, Err(MetadataError::Exists(_))), "{taken:?}");
    let mut expected = layout(1);
    expected.shards[3].node = NodeSlot(20);
    let planned = &db.slots(up, 0, 1).await.unwrap()[0].chunk.layout;
    assert_eq!(*planned, expected);
    // What may still come to the slow node is cleared later.
    assert!(
        db.due_deletions(TimestampMs(clear_at.0 - 1), 9)
            .await
            .unwrap()
            .is_empty()
    );
    let due = db.due_deletions(clear_at, 9).await.unwrap();
    assert_eq!((&due[0].layout, &due[0].remaining), (&layout(1), &vec![3]));
    // The gateway dies here: the upload's end clears the substitute too.
    db.abort_upload(up, mutation()).await.unwrap();
    let mut cleared = Vec::new();
    for deletion in make::due(db, LATER, 9).await {
        for index in deletion.remaining {
            cleared.push(deletion.layout.shards[usize::from(index)]);
        }
    }
    assert!(expected.shards.iter().all(|place| cleared.contains(place)));
    confirm_deletions(db, clear_at).await;
    // Once acknowledged, a late substitution is refused: whoever asked must not send anything there.
    let up = upload(db, id, "b", 2, 5..6).await;
    let chunk = db.slots(up, 0, 1).await.unwrap()[0].chunk.id;
    let late = db.substitute_node(chunk, 3, NodeSlot(20), clear_at).await;
    assert!(matches!(late, Err(MetadataError::Exists(_))), "{late:?}");
    assert_eq!(db.slots(up, 0, 1).await.unwrap()[0].chunk.layout, layout(5));
    // Unless that shard never arrived: then it goes elsewhere for good.
    db.shard_lost(chunk, 3).await.unwrap();
    db.substitute_node(chunk, 3, NodeSlot(20), clear_at)
        .await
        .unwrap();
    db.shard_landed(chunk, 3, NodeSlot(20)).await.unwrap();
    let moved = &db.slots(up, 0, 1).await.unwrap()[0].chunk;
    assert_eq!(moved.layout.shards[3].node, NodeSlot(20));
    assert!(moved.pending.is_empty());
    let due = make::due(db, clear_at, 9).await;
    assert_eq!((&due[0].layout, &due[0].remaining), (&layout(5), &vec![3]));
    db.abort_upload(up, mutation()).await.unwrap();
    assert_no_leak(db).await;
    assert_eq!(fixture.rows("chunk_shards").await, 0);
}

async fn a_slow_node_that_lands_first_after_all_keeps_its_shard(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let up = upload(db, id, "a", 1, 0..0).await;
    let clear_at = TimestampMs(NOW.0 + 60_000);
    let mut chunks = Vec::new();
    for n in [1, 2] {
        let slot = db.plan_chunk(up, n, chunk_cid(n), layout(n), NOW).await;
        let chunk = slot.unwrap().chunk.id;
        db.substitute_node(chunk, 3, NodeSlot(20), clear_at)
            .await
            .unwrap();
        chunks.push(chunk);
    }
    // In time: the first node's place is taken back from the clearing, the substitute's is cleared instead.
    db.acknowledge_chunk(chunks[0], layout(1), Vec::new(), NOW)
        .await
        .unwrap();
    let mut substitute = layout(1);
    substitute.shards[3].node = NodeSlot(20);
    let due = make::due(db, clear_at, 9).await;
    let of_first: Vec<_> = due
        .iter()
        .filter(|deletion| deletion.chunk == chunk_cid(1))
        .map(|deletion| (&deletion.layout, deletion.remaining.as_slice()))
        .collect();
    assert_eq!(of_first, [(&substitute, [3].as_slice())]);
    // Too late: the clearing may be under way, so nobody is told that the shard is safe there.
    let late = db
        .acknowledge_chunk(chunks[1], layout(2), Vec::new(), clear_at)
        .await;
    assert!(matches!(late, Err(MetadataError::BeingDeleted)), "{late:?}");
    assert!(!db.slots(up, 2, 1).await.unwrap()[0].acknowledged);
    db.abort_upload(up, mutation()).await.unwrap();
    assert_no_leak(db).await;
}
