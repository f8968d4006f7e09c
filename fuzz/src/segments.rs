//! A node's segment file, as a crash, a bad disk or whoever owns the machine left it.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use shards::{ShardStore, StoreConfig, Verified};

use crate::Target;

pub const SHARD_SEGMENT: Target = Target {
    name: "shard_segment",
    run: shard_segment,
    seeds: || vec![segment(&[]), segment(&[b"", b"one", &[7; 5_000]])],
};

/// Bytes of `metadata/store`, which holds the key of the segments' checksums.
const STORE_FILE_BYTES: usize = 48;
const NOW: TimestampMs = TimestampMs(1_700_000_000_000);

/// In memory where there is such a folder: what is under test is the reading, not the disk.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        tempfile::tempdir_in(memory)
    } else {
        tempfile::tempdir()
    }
    .expect("a scratch folder")
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        segment_bytes: 64 << 10,
        preallocate_bytes: 4 << 10,
        reserve_bytes: 0,
        ..StoreConfig::new(dir)
    }
}

/// The store file and the only segment of a store that holds `bodies` and was closed.
fn segment(bodies: &[&'static [u8]]) -> Vec<u8> {
    let dir = scratch();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .expect("a runtime without drivers");
    let (store, _) = ShardStore::open(config(dir.path()), NOW).expect("a new store");
    // One shard in any case, so that there is a segment.
    for body in [&b"always there"[..]].iter().chain(bodies) {
        let put = store.put(
            Cid::of_raw(body),
            ShardTag::Small { epoch: 3 },
            Bytes::from_static(b"proof"),
            vec![Bytes::from_static(body)],
        );
        runtime.block_on(put).expect("a stored shard");
    }
    let first = Cid::of_raw(b"always there");
    if bodies.is_empty() {
        store.delete(&first, NOW).expect("into the trash");
        store.restore(&first).expect("out of the trash");
    }
    drop(store);
    let path = only_segment(dir.path()).expect("one segment");
    let mut seed = std::fs::read(dir.path().join("metadata/store")).expect("the store file");
    assert_eq!(seed.len(), STORE_FILE_BYTES);
    seed.extend(std::fs::read(path).expect("the segment"));
    seed
}

fn only_segment(dir: &Path) -> Option<PathBuf> {
    std::fs::read_dir(dir.join("data"))
        .ok()?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "seg"))
}

/// `store file (48) segment`; the segment lies under the number that its header says.
fn shard_segment(input: &[u8]) -> bool {
    let Some((store_file, segment)) = input.split_at_checked(STORE_FILE_BYTES) else {
        return false;
    };
    let number = segment
        .get(12..16)
        .and_then(|bytes| bytes.try_into().ok())
        .map_or(0, u32::from_le_bytes);
    let dir = scratch();
    for folder in ["data", "metadata"] {
        std::fs::create_dir(dir.path().join(folder)).expect("a folder");
    }
    let path = dir.path().join(format!("data/{number:08x}.seg"));
    std::fs::write(path, segment).expect("the segment");
    std::fs::write(dir.path().join("metadata/store"), store_file).expect("the store file");

    let Ok((store, report)) = ShardStore::open(config(dir.path()), NOW) else {
        return false;
    };
    let listed = store.list(None, None, 1_000);
    assert_eq!(listed.len(), report.shards.min(1_000));
    for (cid, _, total_bytes) in &listed {
        let read = store.get(cid, None, true);
        let verified = store.verify(cid);
        if let (Ok(Some(read)), Ok(Verified::Intact)) = (&read, &verified) {
            assert_eq!(Cid::of_raw(&read.body).digest(), cid.digest());
            assert_eq!(u32::try_from(read.body.len()), Ok(read.total_bytes));
            assert_eq!(read.total_bytes, *total_bytes);
        }
        if let Ok(Verified::Corrupt) = verified {
            assert_eq!(
                store.has(&[*cid]),
                [false],
                "a corrupt shard is still served"
            );
        }
    }
    report.shards > 0
}
