//! A disk that fails on demand, and what the store makes of it.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering::SeqCst};

use attestation::{Role, SealingKeySource, SourceError};
use crypto::Secret;
use domain::{DeploymentId, PlatformType};
use rustix::io::Errno;

use crate::disk::{Disk, Medium, OsDisk};
use crate::{Change, OpenError, SealedStore, StoreConfig, WriteError};

#[derive(Default)]
struct Faults {
    /// Writes fail with this, unless 0, once their budget is used up.
    write_errno: AtomicI32,
    /// Bytes that are still written before that.
    budget: AtomicU64,
    sync_fails: AtomicBool,
    set_len_fails: AtomicBool,
    sync_dir_fails: AtomicBool,
    rename_fails: AtomicBool,
    syncs: AtomicU64,
}

struct FaultyDisk(Arc<Faults>);

struct FaultyFile(Arc<dyn Medium>, Arc<Faults>);

fn fail(when: &AtomicBool) -> io::Result<()> {
    if when.load(SeqCst) {
        return Err(Errno::IO.into());
    }
    Ok(())
}

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Medium>> {
        Ok(Arc::new(FaultyFile(OsDisk.open(path)?, self.0.clone())))
    }

    fn create(&self, path: &Path) -> io::Result<Arc<dyn Medium>> {
        Ok(Arc::new(FaultyFile(OsDisk.create(path)?, self.0.clone())))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fail(&self.0.rename_fails)?;
        OsDisk.rename(from, to)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fail(&self.0.sync_dir_fails)?;
        OsDisk.sync_dir(dir)
    }
}

impl Medium for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(offset, into)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let errno = self.1.write_errno.load(SeqCst);
        if errno == 0 {
            return self.0.write(offset, bytes);
        }
        // As a full disk does: a part is written, then it fails.
        let budget = self.1.budget.load(SeqCst);
        let part = bytes.len().min(usize::try_from(budget).unwrap());
        self.0.write(offset, &bytes[..part])?;
        self.1
            .budget
            .fetch_sub(u64::try_from(part).unwrap(), SeqCst);
        if part == bytes.len() {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(errno))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fail(&self.1.set_len_fails)?;
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, SeqCst);
        fail(&self.1.sync_fails)?;
        self.0.sync()
    }
}

struct Platform;

impl SealingKeySource for Platform {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn sealing_root(&self, _role: Role) -> Result<Secret<32>, SourceError> {
        Ok(Secret::take(&mut [1; 32]))
    }
}

fn open(dir: &Path, faults: &Arc<Faults>) -> Result<SealedStore, OpenError> {
    let config = StoreConfig::new(dir, DeploymentId([1; 32]), Role::Custodian, b"slot 1");
    let disk = Arc::new(FaultyDisk(faults.clone()));
    SealedStore::open_on(&config, &Platform, None, disk).map(|(store, _)| store)
}

fn put(store: &SealedStore, key: &[u8], value: &[u8]) -> Result<(), WriteError> {
    store.apply(&[Change::Put { key, value }]).map(|_| ())
}

fn value(store: &SealedStore, key: &[u8]) -> Option<Vec<u8>> {
    store.get(key).unwrap().map(|value| value.to_vec())
}

/// A full disk, at every number of bytes that still fit: refused with that word, nothing half there, and everything
/// goes on once there is room.
#[test]
fn a_full_disk_refuses_and_recovers() {
    for budget in 0..157 {
        let dir = tempfile::tempdir().unwrap();
        let faults = Arc::new(Faults::default());
        let store = open(dir.path(), &faults).unwrap();
        put(&store, b"a", b"one").unwrap();
        let before = store.state();
        faults.budget.store(budget, SeqCst);
        faults
            .write_errno
            .store(Errno::NOSPC.raw_os_error(), SeqCst);
        let refused = store.apply(&batch()).unwrap_err();
        assert!(
            matches!(refused, WriteError::DiskFull(_)),
            "{budget}: {refused}"
        );
        assert!(refused.to_string().contains("disk is full"), "{refused}");
        assert_eq!(store.state(), before);
        assert_eq!(value(&store, b"a").unwrap(), b"one");
        assert_eq!(value(&store, b"b"), None);
        faults.write_errno.store(0, SeqCst);
        put(&store, b"b", b"three").unwrap();
        drop(store);
        let store = open(dir.path(), &faults).unwrap();
        assert_eq!(value(&store, b"a").unwrap(), b"one");
        assert_eq!(value(&store, b"b").unwrap(), b"three");
    }
}

/// Two changes whose frames take 157 bytes.
fn batch() -> [Change<'static>; 2] {
    [
        Change::Put {
            key: b"a",
            value: &[7; 100],
        },
        Change::Put {
            key: b"b",
            value: b"two",
        },
    ]
}

/// The frames are on the disk and the head is not: nothing is acknowledged, and nothing goes on.
#[test]
fn a_head_that_cannot_be_written_stops_all_changes() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let store = open(dir.path(), &faults).unwrap();
    put(&store, b"a", b"one").unwrap();
    faults.budget.store(157, SeqCst);
    faults
        .write_errno
        .store(Errno::NOSPC.raw_os_error(), SeqCst);
    let refused = store.apply(&batch()).unwrap_err();
    assert!(matches!(refused, WriteError::Poisoned { .. }), "{refused}");
    assert_eq!(value(&store, b"a").unwrap(), b"one");
    faults.write_errno.store(0, SeqCst);
    assert!(put(&store, b"a", b"x").is_err());
    drop(store);
    // Not acknowledged, so both answers would be right; half of it would not.
    let store = open(dir.path(), &faults).unwrap();
    assert_eq!(value(&store, b"a").unwrap(), [7; 100]);
    assert_eq!(value(&store, b"b").unwrap(), b"two");
}

#[test]
fn a_read_only_disk_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let store = open(dir.path(), &faults).unwrap();
    faults.write_errno.store(Errno::ROFS.raw_os_error(), SeqCst);
    let refused = put(&store, b"a", b"one").unwrap_err();
    assert!(matches!(refused, WriteError::ReadOnly(_)), "{refused}");
}

#[test]
fn a_failed_sync_stops_all_changes_for_good_and_no_reads() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let store = open(dir.path(), &faults).unwrap();
    put(&store, b"a", b"one").unwrap();
    faults.sync_fails.store(true, SeqCst);
    let refused = put(&store, b"a", b"two").unwrap_err();
    assert!(matches!(refused, WriteError::Poisoned { .. }), "{refused}");
    faults.sync_fails.store(false, SeqCst);
    let refused = put(&store, b"a", b"three").unwrap_err();
    assert!(matches!(refused, WriteError::Poisoned { .. }), "{refused}");
    assert!(matches!(store.compact(), Err(WriteError::Poisoned { .. })));
    assert!(matches!(store.anchor(), Err(WriteError::Poisoned { .. })));
    assert_eq!(value(&store, b"a").unwrap(), b"one");
}

#[test]
fn a_failed_write_that_cannot_be_taken_back_stops_all_changes() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let store = open(dir.path(), &faults).unwrap();
    faults.budget.store(20, SeqCst);
    faults.write_errno.store(Errno::IO.raw_os_error(), SeqCst);
    faults.set_len_fails.store(true, SeqCst);
    let refused = put(&store, b"a", b"one").unwrap_err();
    assert!(matches!(refused, WriteError::Poisoned { .. }), "{refused}");
    faults.write_errno.store(0, SeqCst);
    assert!(put(&store, b"a", b"one").is_err());
    drop(store);
    faults.set_len_fails.store(false, SeqCst);
    let store = open(dir.path(), &faults).unwrap();
    assert_eq!(value(&store, b"a"), None);
    put(&store, b"a", b"two").unwrap();
}

/// Whatever fails during a compaction, no record is lost and the next attempt works.
#[test]
fn a_failed_compaction_leaves_the_old_file() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let store = open(dir.path(), &faults).unwrap();
    put(&store, b"a", b"one").unwrap();
    put(&store, b"a", b"two").unwrap();
    // Within the records, within the header, within the head.
    for budget in [0, 100, 1_000, 4_280] {
        faults.budget.store(budget, SeqCst);
        faults
            .write_errno
            .store(Errno::NOSPC.raw_os_error(), SeqCst);
        let refused = store.compact().unwrap_err();
        assert!(matches!(refused, WriteError::DiskFull(_)), "{refused}");
        faults.write_errno.store(0, SeqCst);
    }
    for fault in [&faults.sync_fails, &faults.rename_fails] {
        fault.store(true, SeqCst);
        assert!(matches!(store.compact(), Err(WriteError::File(_))));
        fault.store(false, SeqCst);
        put(&store, b"b", b"still").unwrap();
    }
    store.compact().unwrap();
    assert_eq!(value(&store, b"a").unwrap(), b"two");
    // After the rename nobody knows which of the two files a crash would leave.
    faults.sync_dir_fails.store(true, SeqCst);
    assert!(matches!(store.compact(), Err(WriteError::Poisoned { .. })));
    assert!(matches!(
        put(&store, b"a", b"x"),
        Err(WriteError::Poisoned { .. })
    ));
    faults.sync_dir_fails.store(false, SeqCst);
    drop(store);
    let store = open(dir.path(), &faults).unwrap();
    assert_eq!(value(&store, b"a").unwrap(), b"two");
    assert_eq!(value(&store, b"b").unwrap(), b"still");
}

#[test]
fn a_store_that_cannot_be_made_durable_is_not_made() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    for fault in [&faults.sync_fails, &faults.rename_fails] {
        fault.store(true, SeqCst);
        assert!(matches!(open(dir.path(), &faults), Err(OpenError::File(_))));
        assert!(!dir.path().join("sealed.log").exists());
        fault.store(false, SeqCst);
    }
    open(dir.path(), &faults).unwrap();
}

/// Batches that wait while one is written share the next sync.
#[test]
fn concurrent_batches_share_syncs() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let store = open(dir.path(), &faults).unwrap();
    let before = faults.syncs.load(SeqCst);
    let gate = crate::store::lock(&store.writer);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..16_u8)
            .map(|number| {
                let store = &store;
                scope.spawn(move || put(store, &[number + 1], &[number; 50]).unwrap())
            })
            .collect();
        while store.waiting() < 16 {
            std::thread::yield_now();
        }
        drop(gate);
        for writer in writers {
            writer.join().unwrap();
        }
    });
    assert_eq!(faults.syncs.load(SeqCst) - before, 1);
    assert_eq!(store.state().counter, 16);
    for number in 0..16_u8 {
        assert_eq!(value(&store, &[number + 1]).unwrap(), [number; 50]);
    }
}

#[test]
fn what_may_wait_is_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let faults = Arc::new(Faults::default());
    let config = StoreConfig {
        pending_bytes_max: 1_000,
        ..StoreConfig::new(dir.path(), DeploymentId([1; 32]), Role::Custodian, b"")
    };
    let disk = Arc::new(FaultyDisk(faults));
    let (store, _) = SealedStore::open_on(&config, &Platform, None, disk).unwrap();
    // Larger than all that may wait, and alone: taken.
    put(&store, b"a", &[1; 5_000]).unwrap();
    let gate = crate::store::lock(&store.writer);
    std::thread::scope(|scope| {
        let first = scope.spawn(|| put(&store, b"b", &[2; 800]));
        while store.waiting() < 1 {
            std::thread::yield_now();
        }
        let refused = put(&store, b"c", &[3; 300]).unwrap_err();
        assert!(
            matches!(refused, WriteError::Busy { bytes_max: 1_000 }),
            "{refused}"
        );
        drop(gate);
        first.join().unwrap().unwrap();
    });
    put(&store, b"c", &[3; 300]).unwrap();
}
