//! A disk that fails on demand, and what the store makes of it.

use std::future::Future;
use std::io::{self, IoSlice};
use std::path::Path;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use rustix::io::Errno;

use crate::disk::{Disk, DiskFile, Mode, OsDisk};
use crate::error::WriteError;
use crate::sync::lock;
use crate::{RecoveryReport, ShardStore, StoreConfig, Stored, Verified};

/// What goes wrong from now on.
struct Faults {
    sync_fails: AtomicBool,
    /// Syncs do nothing: thousands of openings of the same few bytes need none.
    sync_skipped: AtomicBool,
    /// Held by a test to keep syncs waiting.
    sync_gate: Mutex<()>,
    sync_waiting: AtomicUsize,
    /// Everything that changes the disk fails with this, unless 0.
    errno: AtomicI32,
    allocate_errno: AtomicI32,
    /// Bytes that are still written before a write fails with ENOSPC.
    write_budget: AtomicU64,
    /// Bytes that one write takes at most.
    write_max: AtomicUsize,
    free_bytes: AtomicU64,
}

struct FaultyDisk(Arc<Faults>);

struct FaultyFile(Arc<dyn DiskFile>, Arc<Faults>);

impl Faults {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            sync_fails: AtomicBool::new(false),
            sync_skipped: AtomicBool::new(false),
            sync_gate: Mutex::new(()),
            sync_waiting: AtomicUsize::new(0),
            errno: AtomicI32::new(0),
            allocate_errno: AtomicI32::new(0),
            write_budget: AtomicU64::new(u64::MAX),
            write_max: AtomicUsize::new(usize::MAX),
            free_bytes: AtomicU64::new(1 << 40),
        })
    }

    /// Until the writer stands at the gate, its write done.
    fn until_sync_waits(&self) {
        while self.sync_waiting.load(SeqCst) == 0 {
            std::thread::yield_now();
        }
    }

    fn change(&self) -> io::Result<()> {
        raise(&self.errno)
    }

    fn sync(&self) -> io::Result<()> {
        self.sync_waiting.fetch_add(1, SeqCst);
        drop(lock(&self.sync_gate));
        self.sync_waiting.fetch_sub(1, SeqCst);
        self.change()?;
        if self.sync_fails.load(SeqCst) {
            Err(Errno::IO.into())
        } else {
            Ok(())
        }
    }
}

fn raise(errno: &AtomicI32) -> io::Result<()> {
    match errno.load(SeqCst) {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn DiskFile>> {
        if mode != Mode::Read {
            self.0.change()?;
        }
        Ok(Arc::new(FaultyFile(
            OsDisk.open(path, mode)?,
            Arc::clone(&self.0),
        )))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.change()?;
        OsDisk.create_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.change()?;
        OsDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.change()?;
        OsDisk.remove(path)
    }

    fn sync_dir(&self, _dir: &Path) -> io::Result<()> {
        self.0.sync()
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        Ok(self.0.free_bytes.load(SeqCst))
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, len: usize, into: &mut Vec<u8>) -> io::Result<()> {
        self.0.read(offset, len, into)
    }

    fn write(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.1.change()?;
        let whole: Vec<u8> = slices
            .iter()
            .flat_map(|slice| slice.iter().copied())
            .collect();
        let budget = self.1.write_budget.load(SeqCst);
        if budget == 0 {
            return Err(Errno::NOSPC.into());
        }
        let len = whole
            .len()
            .min(self.1.write_max.load(SeqCst))
            .min(usize::try_from(budget).unwrap_or(usize::MAX));
        let written = self.0.write(&[IoSlice::new(&whole[..len])], offset)?;
        if budget != u64::MAX {
            self.1
                .write_budget
                .fetch_sub(u64::try_from(written).unwrap(), SeqCst);
        }
        Ok(written)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.1.sync()?;
        if self.1.sync_skipped.load(SeqCst) {
            Ok(())
        } else {
            self.0.sync_data()
        }
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.1.change()?;
        raise(&self.1.allocate_errno)?;
        self.0.allocate(offset, len)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.1.change()?;
        self.0.set_len(len)
    }

    fn forget(&self, offset: u64, len: u64) {
        self.0.forget(offset, len);
    }
}

const RESERVE: u64 = 1 << 20;

fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        segment_bytes: 64 << 10,
        preallocate_bytes: 16 << 10,
        reserve_bytes: RESERVE,
        queue_bytes_max: 64 << 10,
        ..StoreConfig::new(dir)
    }
}

fn open(dir: &Path, faults: &Arc<Faults>) -> (ShardStore, RecoveryReport) {
    let disk = Arc::new(FaultyDisk(Arc::clone(faults)));
    ShardStore::open_on(config(dir), TimestampMs(0), disk).unwrap()
}

fn data(seed: u8, len: usize) -> Bytes {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(&[seed])
        .finalize_xof()
        .fill(&mut out);
    out.into()
}

/// Polls until it is ready, for at most ten seconds.
fn wait<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let begun = Instant::now();
    loop {
        if let Poll::Ready(output) = poll(future.as_mut()) {
            return output;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "no answer");
        std::thread::sleep(Duration::from_micros(50));
    }
}

fn poll<F: Future + ?Sized>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn begin_put(
    store: &ShardStore,
    body: &Bytes,
) -> Pin<Box<dyn Future<Output = Result<Stored, WriteError>>>> {
    Box::pin(store.put(
        Cid::of_raw(body),
        ShardTag::Chunk,
        data(1, 5),
        vec![body.clone()],
    ))
}

fn put(store: &ShardStore, body: &Bytes) -> Result<Stored, WriteError> {
    wait(begin_put(store, body))
}

fn served(store: &ShardStore, body: &Bytes) -> bool {
    let shard = store.get(&Cid::of_raw(body), None, false).unwrap();
    shard.is_some_and(|shard| {
        assert_eq!(shard.body, body, "wrong bytes were served");
        true
    })
}

/// A folder in memory where there is one: thousands of stores are opened in these.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A copy of a store's files as they are now, as a crash would leave them.
fn copy(from: &Path, to: &Path) {
    for folder in ["data", "metadata"] {
        std::fs::create_dir_all(to.join(folder)).unwrap();
        for entry in std::fs::read_dir(from.join(folder)).unwrap() {
            let entry = entry.unwrap();
            std::fs::copy(entry.path(), to.join(folder).join(entry.file_name())).unwrap();
        }
    }
}

#[test]
fn a_failed_sync_stops_all_writes_for_good_and_no_reads() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (store, _) = open(dir.path(), &faults);
    let [good, lost, later] = [1, 2, 3].map(|seed| data(seed, 900));
    put(&store, &good).unwrap();
    faults.sync_fails.store(true, SeqCst);
    assert!(matches!(
        put(&store, &lost),
        Err(WriteError::Poisoned { .. })
    ));
    faults.sync_fails.store(false, SeqCst);
    let refused = put(&store, &later).unwrap_err();
    assert!(
        matches!(&refused, WriteError::Poisoned { reason } if reason.contains("cannot sync")),
        "{refused}"
    );
    let cid = Cid::of_raw(&good);
    assert!(matches!(
        store.delete(&cid, TimestampMs(1)),
        Err(WriteError::Poisoned { .. })
    ));
    assert!(matches!(
        store.maintain(TimestampMs(1)),
        Err(WriteError::Poisoned { .. })
    ));
    assert!(served(&store, &good) && !served(&store, &lost));
    assert_eq!(store.verify(&cid).unwrap(), Verified::Intact);
    let stats = store.stats();
    assert!(stats.poisoned.is_some() && stats.writable == Err(stats.poisoned.unwrap()));
    drop(store);
    // A disk that still cannot sync is served from after a restart too.
    faults.sync_fails.store(true, SeqCst);
    let (store, _) = open(dir.path(), &faults);
    assert!(served(&store, &good) && store.stats().poisoned.is_some());
    assert!(matches!(
        put(&store, &later),
        Err(WriteError::Poisoned { .. })
    ));
    drop(store);
    faults.sync_fails.store(false, SeqCst);
    let (store, _) = open(dir.path(), &faults);
    assert!(served(&store, &good) && !served(&store, &later));
    put(&store, &later).unwrap();
}

#[test]
fn a_full_disk_is_refused_before_it_is_full_and_deleting_still_works() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (store, _) = open(dir.path(), &faults);
    let (first, second) = (data(1, 15_000), data(2, 15_000));
    put(&store, &first).unwrap();
    faults.free_bytes.store(RESERVE + 1_000, SeqCst);
    let before = store.stats();
    let refused = put(&store, &second).unwrap_err();
    assert!(
        matches!(
            refused,
            WriteError::DiskFull {
                reserve_bytes: RESERVE,
                ..
            }
        ),
        "{refused}"
    );
    assert_eq!(store.stats().bytes_written, before.bytes_written);
    assert!(served(&store, &first));
    faults.free_bytes.store(RESERVE - 1, SeqCst);
    assert!(store.stats().writable.unwrap_err().contains("full"));
    assert!(store.delete(&Cid::of_raw(&first), TimestampMs(5)).unwrap());
    faults.free_bytes.store(1 << 40, SeqCst);
    put(&store, &second).unwrap();
    assert!(served(&store, &second) && !served(&store, &first));
    assert_eq!(store.stats().writable, Ok(()));
}

#[test]
fn preallocation_that_fails_for_space_refuses_the_put_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (store, _) = open(dir.path(), &faults);
    faults
        .allocate_errno
        .store(Errno::NOSPC.raw_os_error(), SeqCst);
    let body = data(1, 30_000);
    assert!(matches!(
        put(&store, &body),
        Err(WriteError::DiskFull { .. })
    ));
    faults.allocate_errno.store(0, SeqCst);
    put(&store, &body).unwrap();
    // A disk that cannot preallocate at all is written without.
    faults
        .allocate_errno
        .store(Errno::OPNOTSUPP.raw_os_error(), SeqCst);
    let bodies = [2, 3, 4].map(|seed| data(seed, 40_000));
    for body in &bodies {
        put(&store, body).unwrap();
    }
    drop(store);
    let (store, _) = open(dir.path(), &faults);
    assert!(served(&store, &body) && bodies.iter().all(|body| served(&store, body)));
}

#[test]
fn what_a_failed_write_left_behind_never_comes_back() {
    let first = data(1, 1_000);
    let cid = Cid::of_raw(&first);
    for budget in [1, 40, 83, 84] {
        let dir = tempfile::tempdir().unwrap();
        let faults = Faults::new();
        let (store, _) = open(dir.path(), &faults);
        put(&store, &first).unwrap();
        let second = data(2, 500);
        // The tombstone and the shard behind it are one batch; the disk fills up in it.
        let gate = lock(&faults.sync_gate);
        let mut blocker = begin_put(&store, &data(9, 10));
        assert!(poll(blocker.as_mut()).is_pending());
        faults.until_sync_waits();
        let deleting = {
            let store = store.clone();
            std::thread::spawn(move || store.delete(&cid, TimestampMs(1)))
        };
        while store.shared().queue.waiting() < 1 {
            std::thread::yield_now();
        }
        let mut failing = begin_put(&store, &second);
        assert!(poll(failing.as_mut()).is_pending());
        while store.shared().queue.waiting() < 2 {
            std::thread::yield_now();
        }
        faults.write_budget.store(budget, SeqCst);
        drop(gate);
        wait(blocker).unwrap();
        assert!(
            matches!(wait(failing), Err(WriteError::DiskFull { .. })),
            "{budget}"
        );
        assert!(
            matches!(deleting.join().unwrap(), Err(WriteError::DiskFull { .. })),
            "{budget}"
        );
        faults.write_budget.store(u64::MAX, SeqCst);
        let third = data(3, 0);
        put(&store, &third).unwrap();
        drop(store);
        let (store, report) = open(dir.path(), &faults);
        assert!(
            served(&store, &first) && served(&store, &third) && !served(&store, &second),
            "{budget}"
        );
        assert_eq!(report.damaged_segments, 0);
    }
}

#[test]
fn a_disk_that_turns_read_only_is_served_from_and_written_again_when_it_can_be() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (store, _) = open(dir.path(), &faults);
    let [first, second] = [1, 2].map(|seed| data(seed, 1_000));
    put(&store, &first).unwrap();
    faults.errno.store(Errno::ROFS.raw_os_error(), SeqCst);
    for _ in 0..2 {
        assert!(matches!(
            put(&store, &second),
            Err(WriteError::ReadOnly { .. })
        ));
        assert!(matches!(
            store.maintain(TimestampMs(1)),
            Err(WriteError::ReadOnly { .. })
        ));
    }
    assert!(served(&store, &first) && !served(&store, &second));
    let stats = store.stats();
    assert!(stats.writable.is_err() && stats.poisoned.is_none());
    drop(store);
    // Opened while it is read-only.
    let (store, report) = open(dir.path(), &faults);
    assert_eq!(report.shards, 1);
    assert!(served(&store, &first));
    assert!(matches!(
        put(&store, &second),
        Err(WriteError::ReadOnly { .. })
    ));
    faults.errno.store(0, SeqCst);
    store.maintain(TimestampMs(1)).unwrap();
    put(&store, &second).unwrap();
    drop(store);
    let (store, _) = open(dir.path(), &faults);
    assert!(served(&store, &first) && served(&store, &second));
}

#[test]
fn short_writes_are_continued() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    faults.write_max.store(7, SeqCst);
    let (store, _) = open(dir.path(), &faults);
    let bodies = [0, 1, 2, 3, 700].map(|len| data(1, len));
    for body in &bodies {
        put(&store, body).unwrap();
    }
    drop(store);
    let (store, _) = open(dir.path(), &faults);
    for body in &bodies {
        assert!(served(&store, body));
        assert_eq!(store.verify(&Cid::of_raw(body)).unwrap(), Verified::Intact);
    }
}

#[test]
fn a_put_beyond_the_queues_bytes_waits() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (store, _) = open(dir.path(), &faults);
    let gate = lock(&faults.sync_gate);
    // 64 KiB of queue: two of 30,000 bytes with their proofs fit, a third does not.
    let bodies = [1, 2, 3].map(|seed| data(seed, 30_000));
    let mut puts: Vec<_> = bodies.iter().map(|body| begin_put(&store, body)).collect();
    for put in &mut puts {
        assert!(poll(put.as_mut()).is_pending());
    }
    assert!(store.shared().queue.waiting() <= 2);
    std::thread::sleep(Duration::from_millis(20));
    assert!(poll(puts[2].as_mut()).is_pending());
    assert_eq!(
        store.has(&bodies.each_ref().map(|body| Cid::of_raw(body))),
        [false; 3]
    );
    drop(gate);
    for put in puts {
        wait(put).unwrap();
    }
    // One that is larger than the whole queue is taken alone.
    put(&store, &data(9, 100_000)).unwrap();
}

/// Three shards, a tombstone for the second and a new tag for the third, each acknowledged on its own; and for each
/// length of the log, what must be there.
fn small_log(dir: &Path) -> ([Bytes; 3], [u64; 5]) {
    let faults = Faults::new();
    let (store, _) = open(dir, &faults);
    let bodies = [(1, 10), (2, 150), (3, 61)].map(|(seed, len)| data(seed, len));
    let mut ends = [0; 5];
    let end = || u64::from(crate::sync::read(&store.shared().state).segments[&1].end);
    for (body, mark) in bodies.iter().zip(&mut ends) {
        put(&store, body).unwrap();
        *mark = end();
    }
    assert!(
        store
            .delete(&Cid::of_raw(&bodies[1]), TimestampMs(5))
            .unwrap()
    );
    ends[3] = end();
    let tag = ShardTag::Recovery { epoch: 4 };
    wait(store.put(
        Cid::of_raw(&bodies[2]),
        tag,
        Bytes::new(),
        vec![bodies[2].clone()],
    ))
    .unwrap();
    ends[4] = end();
    (bodies, ends)
}

#[test]
fn a_log_torn_at_any_byte_keeps_everything_before() {
    let dir = tempfile::tempdir().unwrap();
    let (bodies, ends) = small_log(dir.path());
    let segment = std::fs::read(dir.path().join("data/00000001.seg")).unwrap();
    let faults = Faults::new();
    faults.sync_skipped.store(true, SeqCst);
    // Behind the cut: nothing, what preallocation leaves, what a torn page may hold.
    for fill in [None, Some(0x00), Some(0xff)] {
        for cut in 64..=ends[4] {
            let copied = scratch();
            copy(dir.path(), copied.path());
            let at = usize::try_from(cut).unwrap();
            let mut torn = segment[..at].to_vec();
            if let Some(byte) = fill {
                torn.resize(segment.len(), byte);
            }
            std::fs::write(copied.path().join("data/00000001.seg"), &torn).unwrap();
            let (store, report) = open(copied.path(), &faults);
            let context = format!("cut at {cut}, then {fill:?}");
            // A record whose last bytes are what follows the cut anyway is whole a little earlier.
            let whole = |end: u64| {
                let end = usize::try_from(end).unwrap();
                torn.get(..end) == segment.get(..end)
            };
            if whole(ends[0]) {
                assert!(served(&store, &bodies[0]), "{context}");
            }
            if whole(ends[1]) {
                assert_eq!(served(&store, &bodies[1]), !whole(ends[3]), "{context}");
            }
            if whole(ends[2]) {
                assert!(served(&store, &bodies[2]), "{context}");
                let recovery = store
                    .list(None, None, 9)
                    .iter()
                    .any(|(_, tag, _)| *tag != ShardTag::Chunk);
                assert_eq!(recovery, whole(ends[4]), "{context}");
            }
            assert_eq!(report.damaged_segments, 0, "{context}");
            for body in &bodies {
                assert_ne!(
                    store.verify(&Cid::of_raw(body)).unwrap(),
                    Verified::Corrupt,
                    "{context}"
                );
            }
            // What was dropped can be put again, and then a second opening finds all. (Not at every byte: that only
            // costs time.)
            if cut % 8 != 0 {
                continue;
            }
            for body in &bodies {
                put(&store, body).unwrap();
            }
            drop(store);
            let (store, _) = open(copied.path(), &faults);
            assert!(bodies.iter().all(|body| served(&store, body)), "{context}");
        }
    }
}

#[test]
fn a_byte_that_rots_costs_its_own_record_only() {
    let dir = tempfile::tempdir().unwrap();
    let (bodies, ends) = small_log(dir.path());
    let segment = std::fs::read(dir.path().join("data/00000001.seg")).unwrap();
    let faults = Faults::new();
    faults.sync_skipped.store(true, SeqCst);
    for at in 0..ends[2] {
        let copied = scratch();
        copy(dir.path(), copied.path());
        let mut rotten = segment.clone();
        rotten[usize::try_from(at).unwrap()] ^= 0x10;
        std::fs::write(copied.path().join("data/00000001.seg"), rotten).unwrap();
        let (store, _) = open(copied.path(), &faults);
        let starts = [64, ends[0], ends[1]];
        for (number, body) in bodies.iter().enumerate() {
            let cid = Cid::of_raw(body);
            let hit = (starts[number]..ends[number]).contains(&at);
            let trashed = number == 1;
            let verified = store.verify(&cid).unwrap();
            if hit {
                // Found, gone, or only padding; never believed when it is wrong.
                if let (Verified::Intact, Ok(Some(shard))) = (verified, store.get(&cid, None, true))
                {
                    assert_eq!(shard.body, body, "byte {at}");
                }
            } else if trashed {
                assert_eq!(verified, Verified::Missing, "byte {at}");
                assert!(store.restore(&cid).unwrap(), "byte {at}");
                assert!(served(&store, body), "byte {at}");
            } else {
                assert_eq!(verified, Verified::Intact, "byte {at}");
                assert!(served(&store, body), "byte {at}");
            }
        }
    }
}

#[test]
fn a_last_batch_that_reached_the_disk_in_pieces_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Faults::new();
    let (store, _) = open(dir.path(), &faults);
    let bodies = [1, 2, 3, 4].map(|seed| data(seed, 400));
    let gate = lock(&faults.sync_gate);
    let mut first = begin_put(&store, &bodies[0]);
    assert!(poll(first.as_mut()).is_pending());
    faults.until_sync_waits();
    let rest: Vec<_> = bodies[1..]
        .iter()
        .map(|body| {
            let mut put = begin_put(&store, body);
            assert!(poll(put.as_mut()).is_pending());
            put
        })
        .collect();
    drop(gate);
    wait(first).unwrap();
    for put in rest {
        wait(put).unwrap();
    }
    let size = usize::try_from(crate::format::record_size(5, 400)).unwrap();
    let segment = std::fs::read(dir.path().join("data/00000001.seg")).unwrap();
    // The second of the batch's three never reached the disk, whole or in its body only.
    for missing in [0..size, 100..size, 0..84] {
        let copied = scratch();
        copy(dir.path(), copied.path());
        let mut torn = segment.clone();
        let start = 64 + 2 * size;
        torn[start + missing.start..start + missing.end].fill(0);
        std::fs::write(copied.path().join("data/00000001.seg"), torn).unwrap();
        for _ in 0..2 {
            let (store, report) = open(copied.path(), &faults);
            assert_eq!(
                (report.shards, report.damaged_segments),
                (3, 0),
                "{missing:?}"
            );
            assert!(served(&store, &bodies[0]) && !served(&store, &bodies[2]));
        }
        let (store, _) = open(copied.path(), &faults);
        put(&store, &bodies[2]).unwrap();
        assert!(bodies.iter().all(|body| served(&store, body)));
    }
}
