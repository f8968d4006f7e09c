//! Small objects, tombstones, copies: what becomes current, and what goes.

use domain::{TimestampMs, VersionId};
use objects::metadata::{Metadata, MetadataError, VersionKind};

use crate::backend::Fixture;
use crate::make::{
    self, LATER, assert_no_leak, bucket, confirm_deletions, copies, key, mutation, put,
    put_chunked, small, tombstone, version,
};

crate::both_databases!(
    a_small_object_is_read_back,
    a_replaced_version_goes_after_its_grace,
    the_same_entry_is_committed_once,
    a_version_id_belongs_to_one_entry,
    conditional_writes_compare_the_present_version,
    of_concurrent_conditional_puts_one_wins,
    concurrent_overwrites_leave_one_version,
    a_deleted_key_has_no_current_version,
    a_put_revives_a_deleted_key,
    copies_share_chunks_until_the_last_goes,
    a_copy_onto_itself_keeps_its_chunks,
    a_move_is_one_step,
    moves_and_copies_are_refused_without_their_source,
    content_under_deletion_is_refused,
    a_repeat_after_others_replaced_it_changes_nothing,
    a_replaced_object_is_read_to_its_end,
);

async fn a_small_object_is_read_back(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let mut new = small(id, "日本/a b", 1);
    new.pending = vec![4, 2, 4];
    let committed = db.put_small(new.clone(), mutation()).await.unwrap();
    assert_eq!((committed.replaced, committed.fresh), (None, true));
    let (row, chunk) = db
        .current_with_small(id, &key("日本/a b"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(row.version, new.version);
    assert_eq!(row.kind, VersionKind::Small);
    assert_eq!(
        (row.chunks, row.pending_shards, row.sequence),
        (1, 2, committed.sequence)
    );
    assert_eq!(row.manifest_root, new.manifest_root);
    let chunk = chunk.unwrap();
    assert_eq!(
        (chunk.cid, &chunk.layout, &chunk.pending),
        (new.record_cid, &new.layout, &vec![2, 4])
    );
    let version = new.version.version;
    assert_eq!(
        db.current(id, &key("日本/a b")).await.unwrap().as_ref(),
        Some(&row)
    );
    assert_eq!(db.version(version).await.unwrap(), Some(row));
    assert_eq!(db.chunk(version, 0).await.unwrap().as_ref(), Some(&chunk));
    assert_eq!(db.chunk(version, 1).await.unwrap(), None);
    assert_eq!(db.chunks(version, 0, 10).await.unwrap(), [chunk]);
    assert_eq!(db.current(id, &key("other")).await.unwrap(), None);
    assert_eq!(
        db.current_with_small(make::bucket_id(2), &key("日本/a b"))
            .await
            .unwrap(),
        None
    );
    assert_eq!(db.version(VersionId([9; 16])).await.unwrap(), None);
}

async fn a_replaced_version_goes_after_its_grace(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let first = put(db, id, "a", 1).await;
    let committed = db.put_small(small(id, "a", 2), mutation()).await.unwrap();
    assert_eq!(committed.replaced, Some(first));
    // Whoever reads it now reads on until its grace is over.
    assert!(db.version(first).await.unwrap().is_some());
    let before = TimestampMs(LATER.0 - 1);
    assert!(make::due(db, before, 10).await.is_empty());
    let due = make::due(db, LATER, 10).await;
    assert_eq!(db.version(first).await.unwrap(), None);
    assert_eq!(due.len(), 1);
    assert_eq!(
        (due[0].chunk, &due[0].layout, &due[0].remaining),
        (make::record_cid(1), &copies(1), &vec![0, 1, 2, 3, 4])
    );
    // Two nodes have not answered: again at its time, for those two.
    let retry = TimestampMs(LATER.0 + 5_000);
    db.deletion_progress(due[0].id, vec![1, 3], retry)
        .await
        .unwrap();
    assert!(make::due(db, LATER, 10).await.is_empty());
    let again = make::due(db, retry, 10).await;
    assert_eq!(again[0].remaining, [1, 3]);
    assert_eq!(db.space().await.unwrap().deletions, 1);
    db.deletion_progress(due[0].id, Vec::new(), retry)
        .await
        .unwrap();
    assert_eq!(db.space().await.unwrap().deletions, 0);
    assert_eq!(db.space().await.unwrap().chunks, 1);
}

async fn the_same_entry_is_committed_once(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let first = put(db, id, "a", 1).await;
    let second = db.put_small(small(id, "a", 2), mutation()).await.unwrap();
    let mut repeat = small(id, "a", 2);
    // The repeat went to other nodes for two of its copies: those have to go.
    repeat.layout.shards[3].node.0 = 8;
    repeat.layout.shards[4].node.0 = 9;
    let again = db.put_small(repeat, mutation()).await.unwrap();
    assert_eq!(
        (again.sequence, again.replaced, again.fresh),
        (second.sequence, Some(first), false)
    );
    // Five copies of the replaced version, two of the repeat.
    assert_eq!(confirm_deletions(db, LATER).await, 7);
    let space = db.space().await.unwrap();
    assert_eq!((space.objects, space.chunks), (1, 1));
}

async fn a_version_id_belongs_to_one_entry(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put(db, id, "a", 1).await;
    let mut other = small(id, "b", 2);
    other.version.version = small(id, "a", 1).version.version;
    let answer = db.put_small(other, mutation()).await;
    assert!(matches!(answer, Err(MetadataError::Exists("version"))));
    assert_eq!(db.current(id, &key("b")).await.unwrap(), None);
}

async fn conditional_writes_compare_the_present_version(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let mut n = 100;
    let mut check = async |predecessor, expected: Result<Option<VersionId>, Option<VersionId>>| {
        n += 1;
        let mut new = small(id, "a", n);
        new.version.predecessor = Some(predecessor);
        let written = new.version.version;
        match (db.put_small(new, mutation()).await, expected) {
            (Ok(committed), Ok(replaced)) => assert_eq!(committed.replaced, replaced),
            (Err(MetadataError::Conflict { present }), Err(expected)) => {
                assert_eq!(present, expected);
            }
            (answer, expected) => panic!("{answer:?} instead of {expected:?}"),
        }
        written
    };
    let foreign = VersionId([7; 16]);
    check(Some(foreign), Err(None)).await;
    let first = check(None, Ok(None)).await;
    check(None, Err(Some(first))).await;
    check(Some(foreign), Err(Some(first))).await;
    let second = check(Some(first), Ok(Some(first))).await;
    let mut dead = tombstone(id, "a", 900);
    dead.version.predecessor = Some(Some(first));
    let answer = db.put_tombstone(dead.clone(), mutation()).await;
    assert!(matches!(answer, Err(MetadataError::Conflict { present }) if present == Some(second)));
    dead.version.predecessor = Some(Some(second));
    db.put_tombstone(dead, mutation()).await.unwrap();
    // A deleted key is free.
    check(Some(second), Err(None)).await;
    check(None, Ok(None)).await;
}

async fn of_concurrent_conditional_puts_one_wins(fixture: &Fixture) {
    let gateways = [fixture.db.clone(), fixture.other_gateway().await];
    let id = bucket(&fixture.db, 1).await;
    for round in 0..6 {
        let name = format!("key {round}");
        let mut tasks = Vec::new();
        for n in 0..12 {
            let db = gateways[usize::try_from(n).unwrap() % 2].clone();
            let mut new = small(id, &name, 1_000 + round * 100 + n);
            new.version.predecessor = Some(None);
            tasks.push(tokio::spawn(async move {
                (new.version.version, db.put_small(new, mutation()).await)
            }));
        }
        let mut won = Vec::new();
        let mut lost = Vec::new();
        for task in tasks {
            match task.await.unwrap() {
                (version, Ok(_)) => won.push(version),
                (_, Err(MetadataError::Conflict { present })) => lost.push(present),
                (_, Err(error)) => panic!("{error}"),
            }
        }
        assert_eq!((won.len(), lost.len()), (1, 11));
        assert!(lost.iter().all(|present| *present == Some(won[0])));
        let current = fixture.db.current(id, &key(&name)).await.unwrap().unwrap();
        assert_eq!(current.version.version, won[0]);
    }
    assert_eq!(fixture.db.space().await.unwrap().chunks, 6);
}

async fn concurrent_overwrites_leave_one_version(fixture: &Fixture) {
    let gateways = [fixture.db.clone(), fixture.other_gateway().await];
    let id = bucket(&fixture.db, 1).await;
    let mut tasks = Vec::new();
    for n in 0..40_u32 {
        let db = gateways[usize::try_from(n).unwrap() % 2].clone();
        tasks.push(tokio::spawn(async move {
            if n % 5 == 4 {
                match db.put_tombstone(tombstone(id, "a", n), mutation()).await {
                    Ok(_) | Err(MetadataError::NotFound(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            } else {
                db.put_small(small(id, "a", n), mutation()).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let db = &fixture.db;
    let present = db.current(id, &key("a")).await.unwrap();
    make::due(db, LATER, 1).await;
    let space = db.space().await.unwrap();
    let live = u64::from(present.is_some());
    assert_eq!((space.objects, space.chunks), (live, live));
    if present.is_some() {
        db.put_tombstone(tombstone(id, "a", 99), mutation())
            .await
            .unwrap();
    }
    assert_no_leak(db).await;
    db.delete_bucket(id, mutation()).await.unwrap();
    assert_eq!(db.space().await.unwrap().recovery_bytes, 0);
}

async fn a_deleted_key_has_no_current_version(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let dead = tombstone(id, "a", 2);
    let answer = db.put_tombstone(dead.clone(), mutation()).await;
    assert!(matches!(answer, Err(MetadataError::NotFound("object"))));
    let first = put(db, id, "a", 1).await;
    let committed = db.put_tombstone(dead.clone(), mutation()).await.unwrap();
    assert_eq!((committed.replaced, committed.fresh), (Some(first), true));
    assert_eq!(db.current(id, &key("a")).await.unwrap(), None);
    assert_eq!(db.current_with_small(id, &key("a")).await.unwrap(), None);
    let row = db.version(dead.version.version).await.unwrap().unwrap();
    assert_eq!((row.kind, row.chunks), (VersionKind::Tombstone, 0));
    let again = db.put_tombstone(dead, mutation()).await.unwrap();
    assert_eq!(
        (again.sequence, again.replaced, again.fresh),
        (committed.sequence, Some(first), false)
    );
    let answer = db.put_tombstone(tombstone(id, "a", 3), mutation()).await;
    assert!(matches!(answer, Err(MetadataError::NotFound("object"))));
    assert_no_leak(db).await;
}

async fn a_put_revives_a_deleted_key(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put(db, id, "a", 1).await;
    let dead = tombstone(id, "a", 2);
    db.put_tombstone(dead.clone(), mutation()).await.unwrap();
    let committed = db.put_small(small(id, "a", 3), mutation()).await.unwrap();
    assert_eq!(committed.replaced, None);
    // The tombstone and its recovery record go with it.
    assert_eq!(confirm_deletions(db, LATER).await, 10);
    assert_eq!(db.version(dead.version.version).await.unwrap(), None);
    let one_bucket = u64::try_from(5 * 1_000).unwrap();
    assert_eq!(db.space().await.unwrap().recovery_bytes, one_bucket);
    db.put_tombstone(tombstone(id, "a", 4), mutation())
        .await
        .unwrap();
    assert_no_leak(db).await;
}

async fn copies_share_chunks_until_the_last_goes(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let source = put_chunked(db, id, "a", 1, 0..3).await;
    let copied = db
        .copy_version(make::copy(source, version(id, "b", 2), 2), mutation())
        .await
        .unwrap();
    assert!(copied.fresh);
    let b = version(id, "b", 2).version;
    assert_eq!(
        db.chunks(b, 0, 9).await.unwrap(),
        db.chunks(source, 0, 9).await.unwrap()
    );
    assert_eq!(
        db.manifest_page(b, 1).await.unwrap().as_deref(),
        Some(b"page 1".as_slice())
    );
    assert_eq!(db.space().await.unwrap().chunks, 3);
    let again = make::copy(source, version(id, "b", 2), 2);
    assert!(!db.copy_version(again, mutation()).await.unwrap().fresh);
    db.put_tombstone(tombstone(id, "a", 3), mutation())
        .await
        .unwrap();
    assert_eq!(db.chunks(b, 0, 9).await.unwrap().len(), 3);
    // Only the source's recovery record went.
    assert_eq!(confirm_deletions(db, LATER).await, 5);
    db.put_tombstone(tombstone(id, "b", 4), mutation())
        .await
        .unwrap();
    assert_eq!(confirm_deletions(db, LATER).await, 3 * 14 + 5);
    assert_no_leak(db).await;
}

async fn a_copy_onto_itself_keeps_its_chunks(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let source = put(db, id, "a", 1).await;
    let copied = db
        .copy_version(make::copy(source, version(id, "a", 2), 2), mutation())
        .await
        .unwrap();
    assert_eq!(copied.replaced, Some(source));
    let now = db.current_with_small(id, &key("a")).await.unwrap().unwrap();
    assert_eq!(now.0.version.version, version(id, "a", 2).version);
    assert_eq!(now.1.unwrap().layout, copies(1));
    assert!(make::due(db, LATER, 9).await.is_empty());
    db.put_tombstone(tombstone(id, "a", 3), mutation())
        .await
        .unwrap();
    assert_no_leak(db).await;
}

async fn a_move_is_one_step(fixture: &Fixture) {
    let db = &fixture.db;
    let from = bucket(db, 1).await;
    let to = bucket(db, 2).await;
    let source = put_chunked(db, from, "a", 1, 0..2).await;
    put(db, to, "b", 5).await;
    let mut moved = make::copy(source, version(to, "b", 2), 2);
    moved.tombstone = Some(tombstone(from, "a", 3));
    let committed = db.copy_version(moved.clone(), mutation()).await.unwrap();
    assert_eq!(committed.replaced, Some(version(to, "b", 5).version));
    assert_eq!(db.current(from, &key("a")).await.unwrap(), None);
    let now = db.current(to, &key("b")).await.unwrap().unwrap();
    assert_eq!((now.chunks, now.kind), (2, VersionKind::Chunked));
    assert!(!db.copy_version(moved, mutation()).await.unwrap().fresh);
    db.put_tombstone(tombstone(to, "b", 4), mutation())
        .await
        .unwrap();
    assert_no_leak(db).await;
}

async fn moves_and_copies_are_refused_without_their_source(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let source = put(db, id, "a", 1).await;
    let missing = make::copy(VersionId([1; 16]), version(id, "b", 2), 2);
    let answer = db.copy_version(missing, mutation()).await;
    assert!(
        matches!(answer, Err(MetadataError::NotFound(_))),
        "{answer:?}"
    );
    // The tombstone is of another key.
    let mut astray = make::copy(source, version(id, "b", 3), 3);
    astray.tombstone = Some(tombstone(id, "x", 4));
    let answer = db.copy_version(astray, mutation()).await;
    assert!(
        matches!(answer, Err(MetadataError::NotFound(_))),
        "{answer:?}"
    );
    // A tombstone is nothing to copy.
    let dead = tombstone(id, "a", 5);
    db.put_tombstone(dead.clone(), mutation()).await.unwrap();
    for gone in [source, dead.version.version] {
        let copy = make::copy(gone, version(id, "b", 6), 6);
        let answer = db.copy_version(copy, mutation()).await;
        assert!(
            matches!(answer, Err(MetadataError::NotFound(_))),
            "{answer:?}"
        );
    }
    // A conditional copy that meets another version changes nothing.
    let source = put(db, id, "c", 7).await;
    let present = put(db, id, "d", 8).await;
    let mut conditional = make::copy(source, version(id, "d", 9), 9);
    conditional.version.predecessor = Some(None);
    conditional.tombstone = Some(tombstone(id, "c", 10));
    let answer = db.copy_version(conditional, mutation()).await;
    assert!(matches!(answer, Err(MetadataError::Conflict { present: Some(p) }) if p == present));
    assert!(db.current(id, &key("c")).await.unwrap().is_some());
}

async fn content_under_deletion_is_refused(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    put(db, id, "a", 1).await;
    put(db, id, "a", 2).await;
    make::due(db, LATER, 1).await;
    // The very same record again, as another version.
    let mut again = small(id, "a", 1);
    again.version = version(id, "a", 3);
    let answer = db.put_small(again.clone(), mutation()).await;
    assert!(matches!(answer, Err(MetadataError::BeingDeleted)));
    confirm_deletions(db, LATER).await;
    db.put_small(again, mutation()).await.unwrap();
    let upload = make::upload(db, id, "u", 3, 0..1).await;
    db.abort_upload(upload, mutation()).await.unwrap();
    let next = make::upload_row(id, "u", 4);
    db.create_upload(next.clone(), mutation()).await.unwrap();
    let plan = || db.plan_chunk(next.id, 0, make::chunk_cid(0), make::layout(0), make::NOW);
    assert!(matches!(plan().await, Err(MetadataError::BeingDeleted)));
    confirm_deletions(db, LATER).await;
    plan().await.unwrap();
}

/// The answer to the first request was lost; by the time it is repeated somebody else has replaced the object.
async fn a_repeat_after_others_replaced_it_changes_nothing(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let source = put(db, id, "source", 90).await;
    let copy = make::copy(source, version(id, "c", 91), 91);
    let put_first = db.put_small(small(id, "a", 1), mutation()).await.unwrap();
    put(db, id, "b", 2).await;
    let dead_first = db
        .put_tombstone(tombstone(id, "b", 3), mutation())
        .await
        .unwrap();
    let copied_first = db.copy_version(copy.clone(), mutation()).await.unwrap();
    let theirs = [
        put(db, id, "a", 4).await,
        put(db, id, "b", 5).await,
        put(db, id, "c", 6).await,
    ];
    // At once, when the grace is over, and when everything of it is gone.
    for round in 0..3 {
        let again = db.put_small(small(id, "a", 1), mutation()).await.unwrap();
        assert_eq!(
            (again.sequence, again.fresh),
            (put_first.sequence, false),
            "round {round}"
        );
        let again = db
            .put_tombstone(tombstone(id, "b", 3), mutation())
            .await
            .unwrap();
        assert_eq!(
            (again.sequence, again.fresh),
            (dead_first.sequence, false),
            "round {round}"
        );
        assert_eq!(again.replaced, dead_first.replaced);
        let again = db.copy_version(copy.clone(), mutation()).await.unwrap();
        assert_eq!(
            (again.sequence, again.fresh),
            (copied_first.sequence, false),
            "round {round}"
        );
        for (name, version) in ["a", "b", "c"].into_iter().zip(theirs) {
            let now = db.current(id, &key(name)).await.unwrap().unwrap();
            assert_eq!(now.version.version, version, "{name} in round {round}");
        }
        match round {
            0 => drop(make::due(db, LATER, 1).await),
            _ => drop(confirm_deletions(db, LATER).await),
        }
    }
    // Another entry under the same version id is still refused.
    let mut other = small(id, "d", 7);
    other.version.version = version(id, "a", 1).version;
    let answer = db.put_small(other, mutation()).await;
    assert!(
        matches!(answer, Err(MetadataError::Exists("version"))),
        "{answer:?}"
    );
    // Remembered for an hour, no longer.
    let hour = 60 * 60 * 1_000;
    assert_eq!(
        db.expire_nonces(TimestampMs(LATER.0 + hour)).await.unwrap(),
        0
    );
    assert_eq!(
        db.expire_nonces(TimestampMs(LATER.0 + hour + 1))
            .await
            .unwrap(),
        4
    );
    for name in ["source", "a", "b", "c"] {
        let n = u32::from(name.as_bytes()[0]) + 500;
        db.put_tombstone(tombstone(id, name, n), mutation())
            .await
            .unwrap();
    }
    assert_no_leak(db).await;
}

async fn a_replaced_object_is_read_to_its_end(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let old = put_chunked(db, id, "a", 1, 0..2).await;
    put(db, id, "a", 2).await;
    let row = db.version(old).await.unwrap().unwrap();
    assert_eq!((row.kind, row.chunks), (VersionKind::Chunked, 2));
    assert_eq!(db.chunks(old, 0, 9).await.unwrap().len(), 2);
    assert!(db.chunk(old, 1).await.unwrap().is_some());
    assert!(db.manifest_page(old, 1).await.unwrap().is_some());
    // Until its grace is over, and not a moment longer.
    assert!(make::due(db, TimestampMs(LATER.0 - 1), 9).await.is_empty());
    assert!(db.chunk(old, 1).await.unwrap().is_some());
    let shards: usize = make::due(db, LATER, 9)
        .await
        .iter()
        .map(|deletion| deletion.remaining.len())
        .sum();
    assert_eq!(shards, 2 * 14 + 5);
    assert_eq!(db.version(old).await.unwrap(), None);
    assert!(db.chunks(old, 0, 9).await.unwrap().is_empty());
    assert_eq!(db.manifest_page(old, 1).await.unwrap(), None);
}
