//! One shard's life and one store's: put, get, tag, trash, space, damage, versions.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

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
