//! A disk that fails on command, and what the ledger says and does then.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytes::Bytes;
use ledger::port::{Ledger as _, SubmitError};
use ledger::{Chain, Outcome};

use crate::disk::{Disk, DiskFile, OsDisk};
use crate::{OpenError, Solo, SoloConfig};

#[allow(dead_code, reason = "only parts of it are used here")]
#[path = "../../../crates/ledger/tests/it/world.rs"]
mod world;
use world::{People, START, VALIDATOR, anchor, genesis, person, signed};

#[derive(Default)]
struct Faults {
    /// Writes that still work before the disk is full; `usize::MAX`: it is not.
    writes_left: AtomicUsize,
    syncs_left: AtomicUsize,
    free_bytes: AtomicU64,
}

impl Faults {
    fn none() -> Arc<Self> {
        Arc::new(Self {
            writes_left: AtomicUsize::new(usize::MAX),
            syncs_left: AtomicUsize::new(usize::MAX),
            free_bytes: AtomicU64::new(u64::MAX),
        })
    }
}

fn spend(counter: &AtomicUsize) -> bool {
    counter
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
            usize::MAX => Some(usize::MAX),
            0 => None,
            left => Some(left - 1),
        })
        .is_ok()
}

struct FaultyDisk(Arc<Faults>);
struct FaultyFile(Box<dyn DiskFile>, Arc<Faults>);

impl Disk for FaultyDisk {
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(FaultyFile(OsDisk.open(path)?, self.0.clone())))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        OsDisk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        Ok(self.0.free_bytes.load(Ordering::SeqCst))
    }
}

impl DiskFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }
    fn read(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, into)
    }
    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if spend(&self.1.writes_left) {
            return self.0.write(bytes, offset);
        }
        // Part of it reaches the disk, as with a real one.
        self.0.write(&bytes[..bytes.len() / 2], offset)?;
        Err(io::ErrorKind::StorageFull.into())
    }
    fn sync_data(&self) -> io::Result<()> {
        if spend(&self.1.syncs_left) {
            return self.0.sync_data();
        }
        Err(io::Error::other("a broken cable"))
    }
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.0.allocate(offset, len)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }
}

struct Rig {
    dir: tempfile::TempDir,
    faults: Arc<Faults>,
    people: People,
    chain: Chain,
    runtime: tokio::runtime::Runtime,
}

impl Rig {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let genesis = genesis(true);
        Solo::create(dir.path(), &genesis).unwrap();
        Self {
            dir,
            faults: Faults::none(),
            people: People::default(),
            chain: Chain::from(&genesis),
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap(),
        }
    }

    fn config(&self) -> SoloConfig {
        SoloConfig {
            reserve_bytes: 1_000,
            empty_block_every: std::time::Duration::from_secs(3_600),
            ..SoloConfig::new(
                self.dir.path(),
                Arc::new(person(VALIDATOR)),
                Arc::new(|| START),
            )
        }
    }

    fn open(&self) -> Solo {
        let disk = Arc::new(FaultyDisk(self.faults.clone()));
        let (solo, _) = Solo::open_on(disk, self.config()).unwrap();
        // The first, empty block.
        while solo.status().height.0 == 0 && !solo.status().poisoned {
            std::thread::yield_now();
        }
        solo
    }

    fn submit(&mut self, solo: &Solo, nonce: u64) -> Result<Outcome, SubmitError> {
        let bytes = signed(self.people.get(1), &self.chain, nonce, anchor(nonce + 1));
        self.runtime
            .block_on(solo.submit(Bytes::from(bytes)))
            .map(|receipt| receipt.outcome)
    }
}

#[test]
fn a_failed_sync_poisons_until_a_restart() {
    let mut rig = Rig::new();
    let solo = rig.open();
    rig.submit(&solo, 0).unwrap();
    rig.faults.syncs_left.store(0, Ordering::SeqCst);
    let error = rig.submit(&solo, 1).unwrap_err();
    assert!(
        matches!(&error, SubmitError::Unavailable(why) if why.contains("synced")),
        "{error}"
    );
    // The disk works again: what it holds is still not known.
    rig.faults.syncs_left.store(usize::MAX, Ordering::SeqCst);
    let height = solo.status().height;
    for nonce in [1, 2] {
        assert!(matches!(
            rig.submit(&solo, nonce),
            Err(SubmitError::Unavailable(_))
        ));
    }
    let status = solo.status();
    assert!(status.poisoned && status.writable.is_err());
    assert_eq!(status.height, height, "nothing unsynced is shown");
    drop(solo);
    // After a restart the block is there or not; its transaction is applied once either way.
    let solo = rig.open();
    assert_eq!(rig.submit(&solo, 1), Ok(Outcome::Applied));
    assert_eq!(rig.submit(&solo, 2), Ok(Outcome::Applied));
}

#[test]
fn a_full_disk_is_said_and_nothing_is_lost_when_there_is_room_again() {
    let mut rig = Rig::new();
    let solo = rig.open();
    rig.submit(&solo, 0).unwrap();
    for full in [true, false] {
        // The write itself fails, or there is less free than the reserve.
        if full {
            rig.faults.writes_left.store(0, Ordering::SeqCst);
        } else {
            rig.faults.free_bytes.store(999, Ordering::SeqCst);
        }
        let nonce = if full { 1 } else { 2 };
        for _ in 0..2 {
            let error = rig.submit(&solo, nonce).unwrap_err();
            assert!(
                matches!(&error, SubmitError::Unavailable(why) if why.contains("full")),
                "{error}"
            );
        }
        let status = solo.status();
        assert!(status.writable.is_err() && !status.poisoned);
        rig.faults.writes_left.store(usize::MAX, Ordering::SeqCst);
        rig.faults.free_bytes.store(u64::MAX, Ordering::SeqCst);
        assert_eq!(rig.submit(&solo, nonce), Ok(Outcome::Applied));
        assert_eq!(solo.status().writable, Ok(()));
    }
    let height = solo.status().height;
    drop(solo);
    let (solo, report) = Solo::open(rig.config()).unwrap();
    assert_eq!(report.height, height);
    drop(solo);
}

#[test]
fn a_file_that_a_full_disk_left_torn_is_no_damage_once_the_log_goes_on() {
    let mut rig = Rig::new();
    let config = SoloConfig {
        snapshot_transactions: 3,
        ..rig.config()
    };
    let disk = Arc::new(FaultyDisk(rig.faults.clone()));
    let (solo, _) = Solo::open_on(disk, config).unwrap();
    let mut nonce = 0;
    for _ in 0..6 {
        rig.faults.writes_left.store(0, Ordering::SeqCst);
        let _ = rig.submit(&solo, nonce).unwrap_err();
        rig.faults.writes_left.store(usize::MAX, Ordering::SeqCst);
        rig.submit(&solo, nonce).unwrap();
        nonce += 1;
    }
    drop(solo);
    let (solo, report) = Solo::open(rig.config()).unwrap();
    assert!(report.snapshot.0 > 0, "{report:?}");
    rig.submit(&solo, nonce).unwrap();
}

#[test]
fn one_process_at_a_time() {
    let rig = Rig::new();
    let solo = rig.open();
    assert!(matches!(
        Solo::open(rig.config()),
        Err(OpenError::Locked(_))
    ));
    drop(solo);
    assert!(Solo::open(rig.config()).is_ok());
}
