//! The store as its callers see it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use attestation::{Role, SealingKeySource};
use crypto::sealed_store::StoreKeys;
use domain::DeploymentId;
use rustix::fs::FlockOperation;
use zeroize::Zeroizing;

use crate::disk::{Disk, OsDisk, private_dir};
use crate::error::{FileError, OpenError, ReadError, RollbackError, WriteError};
use crate::format::{
    FRAME_HEAD_BYTES, FrameHead, Header, KEY_BYTES_MAX, Kind, OWNER_BYTES_MAX, VALUE_BYTES_MAX,
    split_record,
};
use crate::index::{Index, Place};
use crate::scan;
use crate::writer::{Job, Owned, Writer};

/// Changes in one batch, at most.
pub const CHANGES_MAX: usize = 4_096;
const FILE: &str = "sealed.log";
const NEW_FILE: &str = "sealed.log.new";
const LOCK: &str = "lock";

/// Where a store is and whose.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The store's folder; made with mode 0700 when it is not there.
    pub dir: PathBuf,
    /// The deployment.
    pub deployment: DeploymentId,
    /// The role whose sealing root protects it.
    pub role: Role,
    /// Who exactly, at most 64 bytes: a custodian's slot, say. Another owner's store is refused.
    pub owner: Vec<u8>,
    /// Bytes that may wait to be written.
    pub pending_bytes_max: usize,
}

impl StoreConfig {
    /// A store with 16 MiB of changes waiting at most.
    #[must_use]
    pub fn new(dir: &Path, deployment: DeploymentId, role: Role, owner: &[u8]) -> Self {
        Self {
            dir: dir.to_path_buf(),
            deployment,
            role,
            owner: owner.to_vec(),
            pending_bytes_max: 16 << 20,
        }
    }
}

/// What stands for a store's whole history: how many changes it has had, and a hash chained over all of them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct StoreState {
    /// Changes ever made. Only grows.
    pub counter: u64,
    /// Chained hash of the sealed frames; says nothing about what is in them.
    pub root: [u8; 32],
}

impl fmt::Debug for StoreState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root: String = self.root.iter().map(|byte| format!("{byte:02x}")).collect();
        write!(f, "StoreState({}, {root})", self.counter)
    }
}

/// One change of a record.
#[derive(Clone, Copy)]
pub enum Change<'a> {
    /// Stores a value, in place of an earlier one.
    Put {
        /// 1 to [`KEY_BYTES_MAX`] bytes.
        key: &'a [u8],
        /// At most [`VALUE_BYTES_MAX`] bytes.
        value: &'a [u8],
    },
    /// Removes a record, if there is one.
    Delete {
        /// 1 to [`KEY_BYTES_MAX`] bytes.
        key: &'a [u8],
    },
}

impl fmt::Debug for Change<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Put { .. } => "Put(redacted)",
            Self::Delete { .. } => "Delete(redacted)",
        })
    }
}

/// What was found at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenReport {
    /// Whether the store was made just now.
    pub created: bool,
    /// Live records.
    pub records: usize,
    /// Bytes of an unfinished write that were dropped. It had not been acknowledged.
    pub dropped_bytes: u64,
}

/// How much a store takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Live records.
    pub records: usize,
    /// Bytes of the live records' frames.
    pub live_bytes: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
}

/// An open sealed store. Shared by reference between threads; every method blocks while the disk works.
pub struct SealedStore {
    pub(crate) keys: StoreKeys,
    pub(crate) header: Header,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) path: PathBuf,
    pub(crate) new_path: PathBuf,
    pub(crate) index: RwLock<Index>,
    pub(crate) writer: Mutex<Writer>,
    queue: Mutex<Queue>,
    pending_bytes_max: usize,
    /// Held while the store is open.
    _lock: std::fs::File,
}

#[derive(Default)]
struct Queue {
    jobs: Vec<Arc<Job>>,
    bytes: usize,
}

impl SealedStore {
    /// Opens the store, or makes it when it is not there.
    ///
    /// `ledger` is the last state that the ledger holds from this store ([`SealedStore::anchor`]), `None` when it holds
    /// none. Without it a host can put back an old file unnoticed; whoever learns it only later calls
    /// [`SealedStore::check`] before serving anything.
    ///
    /// # Errors
    /// [`OpenError`]; in particular [`OpenError::Rollback`] and [`OpenError::Damaged`], after which the store must not be
    /// served from: the share is rebuilt from the other custodians.
    pub fn open(
        config: &StoreConfig,
        platform: &dyn SealingKeySource,
        ledger: Option<StoreState>,
    ) -> Result<(Self, OpenReport), OpenError> {
        Self::open_on(config, platform, ledger, Arc::new(OsDisk))
    }

    pub(crate) fn open_on(
        config: &StoreConfig,
        platform: &dyn SealingKeySource,
        ledger: Option<StoreState>,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, OpenReport), OpenError> {
        if config.owner.len() > OWNER_BYTES_MAX {
            return Err(OpenError::Config("an owner has at most 64 bytes"));
        }
        let dir = &config.dir;
        private_dir(dir).map_err(|error| FileError::new("create", dir, error))?;
        let lock = take_lock(&dir.join(LOCK))?;
        let (path, new_path) = (dir.join(FILE), dir.join(NEW_FILE));
        let root = platform.sealing_root(config.role)?;
        let exists = path
            .try_exists()
            .map_err(|error| FileError::new("look for", &path, error))?;
        if let (false, Some(ledger)) = (exists, ledger) {
            return Err(RollbackError::Missing { ledger }.into());
        }
        let opened = if exists {
            scan::open(config, &root, disk.as_ref(), &path)?
        } else {
            scan::create(config, &root, disk.as_ref(), &path, &new_path)?
        };
        let store = Self {
            keys: opened.keys,
            header: opened.header,
            disk,
            path,
            new_path,
            index: RwLock::new(opened.index),
            writer: Mutex::new(opened.writer),
            queue: Mutex::default(),
            pending_bytes_max: config.pending_bytes_max,
            _lock: lock,
        };
        if let Some(ledger) = ledger {
            store.check(&ledger)?;
        }
        let report = OpenReport {
            created: !exists,
            records: read(&store.index).len(),
            dropped_bytes: opened.dropped_bytes,
        };
        Ok((store, report))
    }

    /// Applies a batch: all of it or nothing, durable on return. The state after it.
    ///
    /// # Errors
    /// [`WriteError`]; nothing of the batch is there then. After [`WriteError::Poisoned`] the process has to be started
    /// again.
    pub fn apply(&self, changes: &[Change<'_>]) -> Result<StoreState, WriteError> {
        let mut owned = Vec::with_capacity(changes.len());
        for change in changes {
            owned.push(own(change)?);
        }
        if owned.is_empty() || owned.len() > CHANGES_MAX {
            return Err(WriteError::Bounds("a batch has 1 to 4,096 changes"));
        }
        self.write(owned)
    }

    /// Records the present state as one that the ledger will hold, and returns it. The store remembers the last 1,024 of
    /// these, so that it can tell whether the ledger's is in its own past.
    ///
    /// # Errors
    /// As [`SealedStore::apply`].
    pub fn anchor(&self) -> Result<StoreState, WriteError> {
        self.write(vec![Owned {
            kind: Kind::Mark,
            body: Zeroizing::new(Vec::new()),
            name: None,
        }])
    }

    fn write(&self, owned: Vec<Owned>) -> Result<StoreState, WriteError> {
        let job = Arc::new(Job::new(owned));
        {
            let mut queue = lock(&self.queue);
            // A batch that finds nothing waiting is taken however large it is, so that each can be written at all.
            if queue.bytes > 0 && queue.bytes + job.bytes > self.pending_bytes_max {
                return Err(WriteError::Busy {
                    bytes_max: self.pending_bytes_max,
                });
            }
            queue.bytes += job.bytes;
            queue.jobs.push(job.clone());
        }
        // Whoever gets the writer writes for all that wait, with one sync.
        let mut writer = lock(&self.writer);
        if let Some(result) = job.result() {
            return result;
        }
        let jobs = {
            let mut queue = lock(&self.queue);
            queue.bytes = 0;
            std::mem::take(&mut queue.jobs)
        };
        writer.write_group(&self.keys, &self.path, &self.index, &jobs);
        job.result().unwrap_or_else(|| {
            Err(WriteError::Poisoned {
                reason: "an earlier write ended half-way".into(),
            })
        })
    }

    /// The value stored under `key`.
    ///
    /// # Errors
    /// [`ReadError`] when the record was altered since opening, or cannot be read.
    pub fn get(&self, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, ReadError> {
        let (file, session, place) = {
            let index = read(&self.index);
            let Some(place) = index.get(&index.name(key)) else {
                return Ok(None);
            };
            (index.file.clone(), index.session(place.offset()), place)
        };
        let damaged = ReadError::Damaged {
            offset: place.offset(),
        };
        let plain = read_frame(file.as_ref(), &self.path, place, |head, bytes| {
            session?.open(head.number, &head.encode(), bytes)
        })?
        .ok_or(damaged.clone())?;
        match split_record(&plain) {
            Some((found, value)) if found == key => Ok(Some(Zeroizing::new(value.to_vec()))),
            _ => Err(damaged),
        }
    }

    /// Whether there is a record under `key`, without reading it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        let index = read(&self.index);
        index.get(&index.name(key)).is_some()
    }

    /// Calls `visit` with each record, in the order they were last written. Records written meanwhile may be missed; one
    /// that is replaced meanwhile may come in its old or its new form.
    ///
    /// # Errors
    /// [`ReadError`]. What was visited before was sound.
    pub fn for_each(&self, mut visit: impl FnMut(&[u8], &[u8])) -> Result<(), ReadError> {
        // As of now, with the file as it is now: a compaction meanwhile leaves this one readable until it is let go.
        let places = read(&self.index).in_order();
        for (file, session, place) in places {
            let damaged = ReadError::Damaged {
                offset: place.offset(),
            };
            let plain = read_frame(file.as_ref(), &self.path, place, |head, bytes| {
                session.open(head.number, &head.encode(), bytes)
            })?
            .ok_or(damaged.clone())?;
            let (key, value) = split_record(&plain).ok_or(damaged)?;
            visit(key, value);
        }
        Ok(())
    }

    /// The state after the last acknowledged change.
    #[must_use]
    pub fn state(&self) -> StoreState {
        lock(&self.writer).state()
    }

    /// Holds the store against the state that the ledger has: at or behind this store's, and in its own past.
    ///
    /// # Errors
    /// [`RollbackError`]: do not serve.
    pub fn check(&self, ledger: &StoreState) -> Result<(), RollbackError> {
        let writer = lock(&self.writer);
        let (have, ledger) = (writer.state(), *ledger);
        if ledger.counter > have.counter {
            return Err(RollbackError::Behind { have, ledger });
        }
        if ledger == have || writer.marks().any(|mark| *mark == ledger) {
            return Ok(());
        }
        Err(RollbackError::Forked { have, ledger })
    }

    /// Batches that wait for the writer.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.queue).jobs.len()
    }

    /// How much the store takes.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let end = lock(&self.writer).end();
        let index = read(&self.index);
        Usage {
            records: index.len(),
            live_bytes: index.live_bytes(),
            file_bytes: end,
        }
    }
}

impl fmt::Debug for SealedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedStore")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

fn own(change: &Change<'_>) -> Result<Owned, WriteError> {
    let (kind, key, value) = match change {
        Change::Put { key, value } => (Kind::Put, *key, *value),
        Change::Delete { key } => (Kind::Delete, *key, &[][..]),
    };
    let length = u8::try_from(key.len())
        .ok()
        .filter(|_| (1..=KEY_BYTES_MAX).contains(&key.len()))
        .ok_or(WriteError::Bounds("a key has 1 to 128 bytes"))?;
    if value.len() > VALUE_BYTES_MAX {
        return Err(WriteError::Bounds("a value has at most 65,536 bytes"));
    }
    let mut body = Zeroizing::new(Vec::with_capacity(1 + key.len() + value.len()));
    body.push(length);
    body.extend_from_slice(key);
    body.extend_from_slice(value);
    Ok(Owned {
        kind,
        body,
        name: Some(key.to_vec()),
    })
}

/// Reads the frame at `place` and opens it with `open`; the inner `None` when it is not what was written.
pub(crate) fn read_frame<T>(
    file: &dyn crate::disk::Medium,
    path: &Path,
    place: Place,
    open: impl FnOnce(&FrameHead, &[u8]) -> Option<T>,
) -> Result<Option<T>, ReadError> {
    let mut bytes = vec![0; usize::try_from(place.bytes()).unwrap_or(0)];
    let got = file
        .read(place.offset(), &mut bytes)
        .map_err(|error| FileError::new("read", path, error))?;
    if got < bytes.len() {
        return Ok(None);
    }
    let Some((head, body)) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>() else {
        return Ok(None);
    };
    Ok(FrameHead::decode(head)
        .filter(|head| head.body_bytes == body.len())
        .and_then(|head| open(&head, body)))
}

fn take_lock(path: &Path) -> Result<std::fs::File, OpenError> {
    let file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
        .map_err(|error| FileError::new("open", path, error))?;
    // A killed predecessor may hold it for a moment longer.
    for _ in 0..20 {
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(errno) => return Err(FileError::new("lock", path, errno.into()).into()),
        }
    }
    Err(OpenError::Locked(path.to_path_buf()))
}

/// Poisoning is ignored: a writer that panicked has marked itself, and the index is consistent between statements.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
