//! What the store knows in memory, and how each record changes it. Recovery and the writer apply records through the
//! same functions, so that what is remembered after a crash is what was true before it.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use domain::Cid;

use crate::StoreConfig;
use crate::disk::Disk;
use crate::error::WriteError;
use crate::format::{Kind, Record, StoreKey};
use crate::index::{Entry, Index, Location};
use crate::queue::Queue;
use crate::segment::{Files, Paths};
use crate::sync::{lock, read};

/// One segment on disk.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Slot {
    /// Bytes of the file, preallocated ones included.
    pub(crate) file_bytes: u64,
    /// Where the last durable record ends.
    pub(crate) end: u32,
    /// Bytes of shard records that the index points at, the trash included.
    pub(crate) live_bytes: u64,
    /// Takes no more records.
    pub(crate) sealed: bool,
    pub(crate) hinted: bool,
    /// Parts of it cannot be read; never recycled, so that a human can look.
    pub(crate) damaged: bool,
    /// Holds a damaged shard that could not be moved: not compacted until that shard has been replaced or forgotten.
    pub(crate) stuck: bool,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) index: Index,
    pub(crate) segments: BTreeMap<u32, Slot>,
    /// When each shard in the trash was deleted, in milliseconds since 1970.
    pub(crate) trash: HashMap<Cid, u64>,
    /// Shard records that a later one replaced and no dead list names yet.
    pub(crate) superseded: Vec<Location>,
    /// Emptied segment files that wait to be used again.
    pub(crate) free: Vec<u32>,
    pub(crate) live_bytes: u64,
    pub(crate) trash_bytes: u64,
}

impl State {
    /// Applies a record that is durable at `at`.
    pub(crate) fn apply(&mut self, record: &Record, at: Location) {
        match record.kind {
            Kind::Shard => self.apply_shard(record, at),
            Kind::State => self.apply_state(record),
        }
    }

    fn apply_shard(&mut self, record: &Record, at: Location) {
        let trashed = record.trashed_at_ms.is_some();
        let entry = Entry::new(
            &record.cid,
            at,
            record.body_bytes,
            record.proof_bytes,
            record.tag,
            trashed,
        );
        if let Some(old) = self.index.insert(entry) {
            self.uncount(&old);
            self.superseded.push(old.location());
        }
        self.count(&entry);
        self.note_trash(&record.cid, record.trashed_at_ms);
    }

    fn apply_state(&mut self, record: &Record) {
        // A state record whose shard record is gone says nothing any more.
        let Some(entry) = self.index.get_mut(&record.cid) else {
            return;
        };
        let before = *entry;
        entry.set_tag(record.tag);
        entry.set_trashed(record.trashed_at_ms.is_some());
        entry.set_stated();
        let after = *entry;
        self.uncount(&before);
        self.count(&after);
        self.note_trash(&record.cid, record.trashed_at_ms);
    }

    fn note_trash(&mut self, cid: &Cid, trashed_at_ms: Option<u64>) {
        match trashed_at_ms {
            Some(at_ms) => {
                self.trash.insert(*cid, at_ms);
            }
            None => {
                self.trash.remove(cid);
            }
        }
    }

    /// Forgets a shard whose record can no longer come back.
    pub(crate) fn remove(&mut self, cid: &Cid) {
        if let Some(entry) = self.index.remove(cid) {
            self.uncount(&entry);
        }
        self.trash.remove(cid);
    }

    fn count(&mut self, entry: &Entry) {
        let size = u64::from(entry.size());
        if let Some(slot) = self.segments.get_mut(&entry.segment) {
            slot.live_bytes += size;
        }
        if entry.trashed() {
            self.trash_bytes += size;
        } else {
            self.live_bytes += size;
        }
    }

    fn uncount(&mut self, entry: &Entry) {
        let size = u64::from(entry.size());
        if let Some(slot) = self.segments.get_mut(&entry.segment) {
            slot.live_bytes -= size;
        }
        if entry.trashed() {
            self.trash_bytes -= size;
        } else {
            self.live_bytes -= size;
        }
    }

    /// Bytes of segment files, the ones that wait to be used again included.
    pub(crate) fn segment_bytes(&self, free_each: u64) -> u64 {
        let used: u64 = self.segments.values().map(|slot| slot.file_bytes).sum();
        used + free_each * u64::try_from(self.free.len()).unwrap_or(u64::MAX)
    }
}

/// Whether the store takes writes.
#[derive(Debug, Clone, Default)]
pub(crate) enum Health {
    #[default]
    Writable,
    ReadOnly(Arc<str>),
    Poisoned(Arc<str>),
}

/// What the handle, the writer and maintenance share.
pub(crate) struct Shared {
    pub(crate) config: StoreConfig,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) paths: Paths,
    pub(crate) store_key: StoreKey,
    pub(crate) files: Files,
    pub(crate) state: RwLock<State>,
    pub(crate) health: Mutex<Health>,
    pub(crate) queue: Queue,
    pub(crate) counters: Counters,
    /// One maintenance run at a time.
    pub(crate) maintaining: Mutex<()>,
    /// Held for as long as the store is open.
    pub(crate) _lock: std::fs::File,
}

/// Since the store was opened.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) syncs: AtomicU64,
    pub(crate) bytes_written: AtomicU64,
    pub(crate) corrupt_found: AtomicU64,
    pub(crate) compacted_bytes: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }

    pub(crate) fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// # Errors
    /// Why nothing may be written now.
    pub(crate) fn check_writable(&self) -> Result<(), WriteError> {
        match &*lock(&self.health) {
            Health::Writable => Ok(()),
            Health::ReadOnly(reason) => Err(WriteError::ReadOnly {
                reason: Arc::clone(reason),
            }),
            Health::Poisoned(reason) => Err(WriteError::Poisoned {
                reason: Arc::clone(reason),
            }),
        }
    }

    /// Stops all writes until the process is started again. The first reason is kept.
    pub(crate) fn poison(&self, reason: &str) -> WriteError {
        let mut health = lock(&self.health);
        if let Health::Poisoned(reason) = &*health {
            return WriteError::Poisoned {
                reason: Arc::clone(reason),
            };
        }
        tracing::error!(reason, "the shard store takes no more writes; reads go on");
        let reason: Arc<str> = reason.into();
        *health = Health::Poisoned(Arc::clone(&reason));
        WriteError::Poisoned { reason }
    }

    /// Stops writes until maintenance finds the disk writable again.
    pub(crate) fn set_read_only(&self, reason: &str) -> WriteError {
        let reason: Arc<str> = reason.into();
        let mut health = lock(&self.health);
        if matches!(*health, Health::Writable) {
            tracing::error!(%reason, "the disk is read-only; reads go on");
            *health = Health::ReadOnly(Arc::clone(&reason));
        }
        WriteError::ReadOnly { reason }
    }

    /// Whether a segment is still in use: what was read from it before this answer is what the index meant.
    pub(crate) fn segment_in_use(&self, id: u32) -> bool {
        read(&self.state).segments.contains_key(&id)
    }
}
