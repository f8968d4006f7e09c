//! One shard's life and one store's: put, get, tag, trash, space, damage, versions.

use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::{Cid, Codec, ShardTag, TimestampMs};
use shards::{
    BODY_BYTES_MAX, OpenError, PROOF_BYTES_MAX, ReadError, ScrubCursor, ShardStore, StoreConfig,
    Stored, TagFilter, TagKind, Verified, WriteError,
};

use crate::support::{block_on, body, bytes, config, open, put, put_tagged};

fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = ["data", "metadata"]
        .iter()
        .flat_map(|folder| fs::read_dir(dir.join(folder)).unwrap())
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|other| other == extension))
        .collect();
    found.sort();
    found
}

#[test]
fn shards_of_all_sizes_come_back_whole_in_ranges_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(config(dir.path()));
    let sizes = [
        0,
        1,
        3,
        4,
        4_095,
        60_000,
        70_000,
        419_431,
        usize::try_from(BODY_BYTES_MAX).unwrap(),
    ];
    for round in 0..2 {
        for (seed, len) in sizes.iter().enumerate() {
            let data = bytes(seed.try_into().unwrap(), *len);
            let cid = Cid::of(Codec::DagCbor, &data);
            let proof = bytes(7, seed * 1_000);
            if round == 0 {
                // Frames with odd borders, an empty one among them.
                let (head, tail) = (data.slice(..len / 3), data.slice(len / 3..));
                let frames = vec![head, Bytes::new(), tail];
                let tag = ShardTag::Small { epoch: 3 };
                assert_eq!(
                    block_on(store.put(cid, tag, proof.clone(), frames)).unwrap(),
                    Stored::New
                );
            }
            let shard = store.get(&cid, None, true).unwrap().unwrap();
            assert_eq!(
                (&shard.body, shard.proof.as_ref()),
                (&data, Some(&proof)),
                "{len}"
            );
            assert_eq!(shard.tag, ShardTag::Small { epoch: 3 });
            let total = u32::try_from(*len).unwrap();
            assert_eq!(shard.total_bytes, total);
            for range in [
                0..0,
                0..total,
                total..total,
                total / 2..total,
                total / 4..total / 2,
            ] {
                for want_proof in [false, true] {
                    let part = store
                        .get(&cid, Some(range.clone()), want_proof)
                        .unwrap()
                        .unwrap();
                    let [from, to] =
                        [range.start, range.end].map(|at| usize::try_from(at).unwrap());
                    assert_eq!(part.body, data.slice(from..to), "{range:?} of {len}");
                    assert_eq!(part.proof, want_proof.then(|| proof.clone()));
                }
            }
            for (start, end) in [(0, total + 1), (2, 1), (u32::MAX, u32::MAX)] {
                let bad = store.get(&cid, Some(start..end), false);
                assert!(
                    matches!(bad, Err(ReadError::Range { .. })),
                    "{start}..{end} of {len}"
                );
            }
            assert_eq!(store.verify(&cid).unwrap(), Verified::Intact);
        }
        drop(store);
        store = open(config(dir.path())).0;
    }
    assert_eq!(
        store
            .get(&Cid::of_raw(b"never stored"), None, false)
            .unwrap(),
        None
    );
}

#[test]
fn a_put_of_wrong_or_oversized_bytes_is_the_senders_fault_and_stores_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let cid = Cid::of_raw(b"right");
    let put = |proof: usize, body: Bytes| {
        block_on(store.put(cid, ShardTag::Chunk, bytes(0, proof), vec![body]))
    };
    let wrong = put(0, Bytes::from_static(b"wrong"));
    assert!(matches!(wrong, Err(WriteError::WrongContent { cid: of }) if of == cid));
    let proof_max = usize::try_from(PROOF_BYTES_MAX).unwrap();
    let proof = put(proof_max + 1, Bytes::from_static(b"right"));
    assert!(matches!(
        proof,
        Err(WriteError::TooLarge { what: "proof", .. })
    ));
    let shard = put(0, bytes(0, usize::try_from(BODY_BYTES_MAX).unwrap() + 1));
    assert!(matches!(
        shard,
        Err(WriteError::TooLarge { what: "shard", .. })
    ));
    assert_eq!((store.stats().shards, store.has(&[cid])), (0, vec![false]));
    put(proof_max, Bytes::from_static(b"right")).unwrap();
    assert_eq!(store.has(&[cid]), [true]);
}

#[test]
fn a_second_put_writes_nothing_but_a_new_tag() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let data = bytes(1, 5_000);
    let cid = put(&store, &data);
    let before = store.stats().bytes_written;
    assert_eq!(
        put_tagged(&store, ShardTag::Chunk, &data).unwrap(),
        Stored::Already
    );
    assert_eq!(store.stats().bytes_written, before);
    let small = ShardTag::Small { epoch: 9 };
    assert_eq!(put_tagged(&store, small, &data).unwrap(), Stored::Already);
    assert!(store.stats().bytes_written - before < 100);
    let check = |store: &ShardStore| {
        assert_eq!(store.list(None, None, 9), [(cid, small, 5_000)]);
        assert_eq!(body(store, &cid), Some(data.clone()));
    };
    check(&store);
    drop(store);
    check(&open(config(dir.path())).0);
}

/// Fills segments so that those before are sealed; returns what was put.
fn fill(store: &ShardStore, seeds: std::ops::Range<u64>) -> Vec<(Cid, Bytes)> {
    seeds
        .map(|seed| {
            let data = bytes(seed, 9_000);
            (put(store, &data), data)
        })
        .collect()
}

const DAY_MS: u64 = 24 * 3_600 * 1_000;

#[test]
fn a_deleted_shard_can_be_restored_until_its_retention_has_passed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let data = bytes(1, 5_000);
    let cid = put(&store, &data);
    assert!(store.delete(&cid, TimestampMs(DAY_MS)).unwrap());
    assert!(!store.delete(&cid, TimestampMs(DAY_MS)).unwrap());
    assert_eq!(
        (
            body(&store, &cid),
            store.has(&[cid]),
            store.list(None, None, 9)
        ),
        (None, vec![false], vec![])
    );
    assert_eq!(store.verify(&cid).unwrap(), Verified::Missing);
    assert_eq!((store.stats().shards, store.stats().trashed), (0, 1));
    assert!(store.restore(&cid).unwrap());
    assert!(!store.restore(&cid).unwrap());
    assert_eq!(body(&store, &cid), Some(data.clone()));
    assert!(store.delete(&cid, TimestampMs(2 * DAY_MS)).unwrap());
    assert_eq!(
        store.maintain(TimestampMs(9 * DAY_MS - 1)).unwrap().purged,
        0
    );
    drop(store);
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.shards, report.trashed), (0, 1));
    assert_eq!(store.maintain(TimestampMs(9 * DAY_MS)).unwrap().purged, 1);
    assert!(!store.restore(&cid).unwrap());
    assert!(
        !store
            .delete(&Cid::of_raw(b"never stored"), TimestampMs(0))
            .unwrap()
    );
    drop(store);
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.shards, report.trashed), (0, 0));
    // And it can come again.
    assert_eq!(
        put_tagged(&store, ShardTag::Chunk, &data).unwrap(),
        Stored::New
    );
    assert_eq!(body(&store, &cid), Some(data));
}

#[test]
fn a_put_of_a_trashed_shard_writes_it_anew_and_outlives_the_old_ones_purge() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let data = bytes(1, 5_000);
    let cid = put(&store, &data);
    store.delete(&cid, TimestampMs(1)).unwrap();
    assert_eq!(
        put_tagged(&store, ShardTag::Chunk, &data).unwrap(),
        Stored::New
    );
    assert_eq!(store.maintain(TimestampMs(99 * DAY_MS)).unwrap().purged, 0);
    assert_eq!(body(&store, &cid), Some(data.clone()));
    // Deleted and purged, with the older record still on disk: neither may come back.
    store.delete(&cid, TimestampMs(2)).unwrap();
    assert_eq!(store.maintain(TimestampMs(99 * DAY_MS)).unwrap().purged, 1);
    drop(store);
    let (store, report) = open(config(dir.path()));
    assert_eq!(
        (report.shards, report.trashed, body(&store, &cid)),
        (0, 0, None)
    );
}

#[test]
fn space_of_deleted_shards_is_won_back_recycled_and_never_shows_old_records() {
    let dir = tempfile::tempdir().unwrap();
    let (mut store, _) = open(config(dir.path()));
    let kept = fill(&store, 0..3);
    let mut tombstones = Vec::new();
    let mut recycled = false;
    let mut peak = 0;
    for round in 1..30u64 {
        let new = fill(&store, round * 100..round * 100 + 20);
        for (cid, _) in &new {
            assert!(store.delete(cid, TimestampMs(round)).unwrap());
            tombstones.push(*cid);
        }
        let mut done = store.maintain(TimestampMs(round + 8 * DAY_MS)).unwrap();
        assert_eq!(done.purged, 20);
        while done.more {
            done = store.maintain(TimestampMs(round + 8 * DAY_MS)).unwrap();
        }
        recycled |= !files(dir.path(), "free").is_empty();
        peak = peak.max(store.stats().segment_bytes);
        if round % 5 == 0 {
            drop(store);
            store = open(config(dir.path())).0;
        }
        for (cid, data) in &kept {
            assert_eq!(body(&store, cid).as_ref(), Some(data), "round {round}");
        }
        assert!(
            store.has(&tombstones).iter().all(|there| !there),
            "round {round}"
        );
    }
    assert!(recycled, "no segment was recycled");
    // 5 MB went through it; what is left is three shards, the active segment, the recycled ones and the trash of a
    // round.
    assert!(peak < 1_000_000, "{peak} bytes at the peak");
    assert_eq!(store.stats().trashed, 0);
    drop(store);
    // Tombstones and dead lists went with the segments.
    let left: u64 = files(dir.path(), "dead")
        .iter()
        .map(|path| path.metadata().unwrap().len())
        .sum();
    assert!(left < 2_000, "{left} bytes of dead lists");
}

#[test]
fn the_trash_and_tags_survive_compaction_and_restart() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let all = fill(&store, 0..21);
    let tag = ShardTag::Small { epoch: 5 };
    put_tagged(&store, tag, &all[0].1).unwrap();
    // Far more than half of each sealed segment is dead, and two shards wait in the trash.
    for (cid, _) in &all[2..] {
        store.delete(cid, TimestampMs(0)).unwrap();
    }
    store.delete(&all[1].0, TimestampMs(5 * DAY_MS)).unwrap();
    let done = store.maintain(TimestampMs(8 * DAY_MS)).unwrap();
    assert!(done.freed_segments > 0 && done.moved_bytes > 0, "{done:?}");
    assert_eq!(store.list(None, None, 99), [(all[0].0, tag, 9_000)]);
    drop(store);
    let (store, report) = open(config(dir.path()));
    assert_eq!((report.shards, report.trashed), (1, 1));
    assert_eq!(store.list(None, None, 99), [(all[0].0, tag, 9_000)]);
    assert!(store.restore(&all[1].0).unwrap());
    assert_eq!(body(&store, &all[1].0).as_ref(), Some(&all[1].1));
    assert!(!store.restore(&all[2].0).unwrap());
}

#[test]
fn many_short_segments_of_many_starts_are_joined() {
    let dir = tempfile::tempdir().unwrap();
    let mut all = Vec::new();
    for seed in 0..12 {
        let (store, _) = open(config(dir.path()));
        all.extend(fill(&store, seed..seed + 1));
    }
    assert_eq!(files(dir.path(), "seg").len(), 12);
    let (store, _) = open(config(dir.path()));
    while store.maintain(TimestampMs(0)).unwrap().more {}
    assert!(
        store.stats().segments <= 5,
        "{} segments",
        store.stats().segments
    );
    assert!(
        all.iter()
            .all(|(cid, data)| body(&store, cid).as_ref() == Some(data))
    );
}

#[test]
fn one_maintenance_run_moves_no_more_than_its_budget() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(StoreConfig {
        maintain_bytes_max: 10_000,
        ..config(dir.path())
    });
    let all = fill(&store, 0..14);
    for (number, (cid, _)) in all.iter().enumerate() {
        if number % 7 > 2 {
            store.delete(cid, TimestampMs(0)).unwrap();
        }
    }
    let mut runs = 0;
    loop {
        let done = store.maintain(TimestampMs(8 * DAY_MS)).unwrap();
        assert!(done.moved_bytes < 20_000, "{done:?}");
        runs += 1;
        if !done.more {
            break;
        }
        assert!(runs < 50, "it never ends");
    }
    assert!(runs > 1);
    for (number, (cid, data)) in all.iter().enumerate() {
        assert_eq!(
            body(&store, cid).as_ref(),
            (number % 7 <= 2).then_some(data)
        );
    }
}

#[test]
fn readers_get_right_bytes_while_segments_are_emptied_and_written_over() {
    let dir = tempfile::tempdir().unwrap();
    // One open file: every read meets a closed one now and then.
    let (store, _) = open(StoreConfig {
        open_files_max: 1,
        ..config(dir.path())
    });
    let kept = fill(&store, 0..10);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(|| {
                    let mut reads = 0u64;
                    while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                        for (cid, data) in &kept {
                            assert_eq!(body(&store, cid).as_ref(), Some(data));
                            let part = store.get(cid, Some(8_000..9_000), true).unwrap().unwrap();
                            assert_eq!(part.body, data.slice(8_000..));
                            reads += 1;
                        }
                    }
                    reads
                })
            })
            .collect();
        for round in 1..40u64 {
            let junk = fill(&store, round * 100..round * 100 + 7);
            for (cid, _) in &junk {
                store.delete(cid, TimestampMs(0)).unwrap();
            }
            // The kept ones are moved on again and again: deleting and restoring leaves state records behind too.
            for (cid, data) in &kept {
                let tag = ShardTag::Small { epoch: round };
                put_tagged(&store, tag, data).unwrap();
                assert!(store.has(&[*cid])[0]);
            }
            while store.maintain(TimestampMs(8 * DAY_MS)).unwrap().more {}
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for reader in readers {
            assert!(reader.join().unwrap() > 0);
        }
    });
    assert_eq!(store.stats().corrupt_found, 0);
    assert!(store.stats().compacted_bytes > 0);
}

#[test]
fn listing_pages_through_all_shards_in_order_and_filters_by_tag() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let mut want = Vec::new();
    for seed in 0..60u64 {
        let tag = match seed % 3 {
            0 => ShardTag::Chunk,
            1 => ShardTag::Small { epoch: seed },
            _ => ShardTag::Recovery { epoch: seed },
        };
        let data = bytes(seed, 100);
        put_tagged(&store, tag, &data).unwrap();
        want.push((Cid::of_raw(&data), tag, 100));
    }
    store.delete(&want[7].0, TimestampMs(0)).unwrap();
    want.remove(7);
    want.sort();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(after, None, 7);
        let Some((last, _, _)) = page.last() else {
            break;
        };
        after = Some(*last);
        assert!(page.len() <= 7);
        listed.extend(page);
    }
    assert_eq!(listed, want);
    let filter = TagFilter {
        kind: TagKind::Small,
        epoch_below: Some(30),
    };
    want.retain(|(_, tag, _)| matches!(tag, ShardTag::Small { epoch } if *epoch < 30));
    assert_eq!(store.list(None, Some(filter), 99), want);
    assert_eq!(store.list(Some(want[3].0), Some(filter), 99), want[4..]);
    let filter = TagFilter {
        kind: TagKind::Chunk,
        epoch_below: None,
    };
    assert_eq!(store.list(None, Some(filter), 99).len(), 20);
}

/// Flips a bit in the middle of where `data` lies on disk.
fn rot(dir: &Path, data: &[u8]) {
    for path in files(dir, "seg") {
        let mut content = fs::read(&path).unwrap();
        if let Some(at) = content.windows(64).position(|window| window == &data[..64]) {
            content[at + data.len() / 2] ^= 1;
            // In place: the store has the file open.
            std::os::unix::fs::FileExt::write_all_at(
                &fs::OpenOptions::new().write(true).open(&path).unwrap(),
                &content,
                0,
            )
            .unwrap();
            return;
        }
    }
    panic!("the bytes are on no disk");
}

#[test]
fn bit_flips_are_found_by_scrub_and_verify_and_mended_by_a_put() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let all = fill(&store, 0..20);
    let mut rotten = vec![all[3].0, all[17].0];
    rotten.sort();
    rot(dir.path(), &all[3].1);
    rot(dir.path(), &all[17].1);
    let (mut cursor, mut found, mut shards) = (Some(ScrubCursor::default()), Vec::new(), 0);
    while let Some(at) = cursor {
        let step = store.scrub_next(at, 25_000).unwrap();
        assert!(step.bytes < 40_000);
        shards += step.shards;
        found.extend(step.corrupt);
        cursor = step.next;
    }
    assert_eq!((shards, &found), (20, &rotten));
    assert_eq!(store.verify(&rotten[0]).unwrap(), Verified::Corrupt);
    assert!(matches!(
        store.get(&rotten[0], None, false),
        Err(ReadError::Corrupt { .. })
    ));
    assert_eq!(store.has(&rotten), [false, false]);
    assert_eq!(store.stats().corrupt_found, 2);
    assert_eq!(
        put_tagged(&store, ShardTag::Chunk, &all[3].1).unwrap(),
        Stored::New
    );
    assert_eq!(store.verify(&all[3].0).unwrap(), Verified::Intact);
    drop(store);
    let (store, _) = open(config(dir.path()));
    assert_eq!(body(&store, &all[3].0).as_ref(), Some(&all[3].1));
    assert_eq!(store.verify(&all[17].0).unwrap(), Verified::Corrupt);
}

#[test]
fn compaction_never_carries_a_damaged_shard_on_as_if_it_were_sound() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let all = fill(&store, 0..14);
    for (cid, _) in &all[1..] {
        store.delete(cid, TimestampMs(0)).unwrap();
    }
    rot(dir.path(), &all[0].1);
    store.maintain(TimestampMs(8 * DAY_MS)).unwrap();
    assert!(matches!(
        store.get(&all[0].0, None, false),
        Err(ReadError::Corrupt { .. })
    ));
    // Its segment is kept until repair has replaced it.
    let before = store.stats().segments;
    put(&store, &all[0].1);
    store.maintain(TimestampMs(8 * DAY_MS)).unwrap();
    assert!(store.stats().segments < before);
    assert_eq!(body(&store, &all[0].0).as_ref(), Some(&all[0].1));
}

#[test]
fn hints_make_opening_cheap_and_a_damaged_one_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let all = fill(&store, 0..40);
    store.delete(&all[0].0, TimestampMs(0)).unwrap();
    while store.maintain(TimestampMs(0)).unwrap().more {}
    drop(store);
    let check = |scanned: std::ops::RangeInclusive<usize>| {
        let (store, report) = open(config(dir.path()));
        assert_eq!((report.shards, report.trashed), (39, 1));
        assert!(scanned.contains(&report.scanned_segments), "{report:?}");
        for (cid, data) in &all[1..] {
            assert_eq!(body(&store, cid).as_ref(), Some(data));
        }
    };
    // Only the segment that was active; then none.
    check(1..=1);
    check(0..=0);
    let hints = files(dir.path(), "hint");
    assert!(hints.len() >= 6);
    let mut damaged = fs::read(&hints[0]).unwrap();
    damaged[30] ^= 1;
    fs::write(&hints[0], damaged).unwrap();
    fs::write(&hints[1], b"").unwrap();
    fs::remove_file(&hints[2]).unwrap();
    check(3..=3);
    check(0..=0);
}

#[test]
fn a_second_process_is_refused_the_folder() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let again = ShardStore::open(config(dir.path()), TimestampMs(0));
    assert!(matches!(again, Err(OpenError::Locked { .. })));
    drop(store);
    open(config(dir.path()));
}

#[test]
fn a_lost_store_file_is_made_again_from_a_segment_and_nothing_is_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    let all = fill(&store, 0..10);
    drop(store);
    let path = dir.path().join("metadata/store");
    for damage in ["", "rubbish"] {
        fs::write(&path, damage).unwrap();
        let (store, report) = open(config(dir.path()));
        assert_eq!(report.shards, 10);
        assert_eq!(body(&store, &all[0].0).as_ref(), Some(&all[0].1));
    }
    fs::remove_file(&path).unwrap();
    for segment in files(dir.path(), "seg") {
        let mut content = fs::read(&segment).unwrap();
        content[20] ^= 1;
        fs::write(&segment, content).unwrap();
    }
    let refused = ShardStore::open(config(dir.path()), TimestampMs(0));
    assert!(matches!(refused, Err(OpenError::NoKey { .. })));
}

#[test]
fn a_segment_of_a_newer_version_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(config(dir.path()));
    fill(&store, 0..1);
    drop(store);
    let path = files(dir.path(), "seg").remove(0);
    let mut content = fs::read(&path).unwrap();
    content[8] = 2;
    let sum = blake3::hash(&content[..56]);
    content[56..64].copy_from_slice(&sum.as_bytes()[..8]);
    fs::write(&path, &content).unwrap();
    let refused = ShardStore::open(config(dir.path()), TimestampMs(0));
    assert!(matches!(
        refused,
        Err(OpenError::Version {
            version: 2,
            known: 1,
            ..
        })
    ));
    assert_eq!(fs::read(&path).unwrap(), content);
}

#[test]
fn a_capacity_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let (store, _) = open(StoreConfig {
        capacity_bytes: Some(200_000),
        ..config(dir.path())
    });
    let mut stored = 0u64;
    let refused = loop {
        match put_tagged(&store, ShardTag::Chunk, &bytes(stored, 9_000)) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 40, "no end");
    };
    assert!(
        matches!(
            refused,
            WriteError::CapacityReached {
                capacity_bytes: 200_000,
                ..
            }
        ),
        "{refused}"
    );
    assert!(stored > 15, "refused after {stored}");
    assert!(store.stats().segment_bytes <= 200_000);
    for seed in 0..stored {
        assert!(
            store
                .delete(&Cid::of_raw(&bytes(seed, 9_000)), TimestampMs(0))
                .unwrap()
        );
    }
    while store.maintain(TimestampMs(8 * DAY_MS)).unwrap().more {}
    put(&store, &bytes(999, 9_000));
}

#[test]
fn an_unused_store_takes_next_to_no_disk() {
    let dir = tempfile::tempdir().unwrap();
    let (store, report) = open(StoreConfig::new(dir.path()));
    assert_eq!(report, shards::RecoveryReport::default());
    let stats = store.stats();
    assert_eq!((stats.segment_bytes, stats.index_memory_bytes), (0, 0));
}

#[test]
fn the_fixture_of_version_1_opens() {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-data/shards/v1");
    let dir = tempfile::tempdir().unwrap();
    for folder in ["data", "metadata"] {
        fs::create_dir(dir.path().join(folder)).unwrap();
        for entry in fs::read_dir(from.join(folder)).unwrap() {
            let entry = entry.unwrap();
            fs::copy(
                entry.path(),
                dir.path().join(folder).join(entry.file_name()),
            )
            .unwrap();
        }
    }
    let (store, report) = open(config(dir.path()));
    assert_eq!(
        (report.shards, report.trashed, report.damaged_segments),
        (3, 1, 0)
    );
    let first = store
        .get(&Cid::of_raw(&bytes(1, 1_000)), None, true)
        .unwrap()
        .unwrap();
    assert_eq!(
        (first.body, first.proof.unwrap()),
        (bytes(1, 1_000), bytes(1_000, 100))
    );
    assert_eq!(first.tag, ShardTag::Small { epoch: 7 });
    let manifest = Cid::of(Codec::DagCbor, b"manifest");
    assert_eq!(
        body(&store, &manifest),
        Some(Bytes::from_static(b"manifest"))
    );
    assert_eq!(
        store
            .list(
                None,
                Some(TagFilter {
                    kind: TagKind::Recovery,
                    epoch_below: None
                }),
                9
            )
            .len(),
        1
    );
    assert!(store.restore(&Cid::of_raw(&bytes(2, 10))).unwrap());
    assert_eq!(
        body(&store, &Cid::of_raw(&bytes(2, 10))),
        Some(bytes(2, 10))
    );
}

/// How the fixture was made: `cargo test -p shards --test it -- --ignored write_the_fixture`, in an empty folder.
#[test]
#[ignore = "writes test-data; only for a new version"]
fn write_the_fixture() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-data/shards/v1");
    let (store, _) = open(config(&dir));
    put_tagged(&store, ShardTag::Small { epoch: 7 }, &bytes(1, 1_000)).unwrap();
    put_tagged(&store, ShardTag::Chunk, &bytes(2, 10)).unwrap();
    put_tagged(&store, ShardTag::Small { epoch: 1 }, &bytes(3, 300)).unwrap();
    put_tagged(&store, ShardTag::Chunk, &bytes(3, 300)).unwrap();
    let manifest = Bytes::from_static(b"manifest");
    let cid = Cid::of(Codec::DagCbor, &manifest);
    block_on(store.put(
        cid,
        ShardTag::Recovery { epoch: 2 },
        Bytes::new(),
        vec![manifest],
    ))
    .unwrap();
    store
        .delete(&Cid::of_raw(&bytes(2, 10)), TimestampMs(1_700_000_000_000))
        .unwrap();
    drop(store);
    open(config(&dir));
}
