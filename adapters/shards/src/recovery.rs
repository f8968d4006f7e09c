//! Opening a store: the lock, the key, and the index rebuilt from hints and segments.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;

use crate::disk::{Disk, Mode, read_file, write_all};
use crate::error::OpenError;
use crate::format::{
    Hint, Kind, RECORD_HEADER_BYTES, Record, SEGMENT_HEADER_BYTES, SegmentHeader, StoreKey,
    VERSION, decode_dead, sum,
};
use crate::index::Location;
use crate::queue::Queue;
use crate::segment::{Files, OpenSegment, Paths, Scan, scan};
use crate::state::{Counters, Health, Shared, Slot, State};
use crate::{RecoveryReport, StoreConfig};

/// Segments are addressed with 32 bits; less keeps compaction and hints small.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;

const LOCK_TRIES: u32 = 50;
const LOCK_PAUSE: Duration = Duration::from_millis(20);

/// What was found at the start.
pub(crate) struct Recovered {
    pub(crate) shared: Shared,
    pub(crate) report: RecoveryReport,
    /// The number of the next segment.
    pub(crate) next_id: u32,
}

pub(crate) fn recover(config: StoreConfig, disk: Arc<dyn Disk>) -> Result<Recovered, OpenError> {
    check_config(&config)?;
    let paths = Paths::new(&config.dir);
    let mut opening = Opening {
        disk: &*disk,
        paths: &paths,
        config: &config,
        read_only: None,
        failed_sync: None,
    };
    for dir in [&paths.data, &paths.metadata, &paths.temp] {
        if let Err(error) = disk.create_dir(dir) {
            opening.tolerate("create", dir, error)?;
        }
    }
    let lock = take_lock(&paths, &config.dir)?;
    opening.clean_temp()?;
    let found = opening.list()?;
    let store_key = opening.store_key(&found)?;
    let files = Files::new(Arc::clone(&disk), store_key, config.open_files_max);
    let mut state = State::default();
    let mut report = RecoveryReport::default();
    for id in &found.segments {
        opening.load(*id, store_key, &mut state, &mut report)?;
    }
    opening.clean(&found, &mut state)?;
    report.shards = state.index.len() - state.trash.len();
    report.trashed = state.trash.len();
    report.segments = state.segments.len();
    let health = match (opening.failed_sync, opening.read_only) {
        (Some(reason), _) => Health::Poisoned(reason.into()),
        (None, Some(reason)) => Health::ReadOnly(reason.into()),
        (None, None) => Health::Writable,
    };
    let next_id = found.next_id();
    let shared = Shared {
        config,
        disk,
        paths,
        store_key,
        files,
        state: state.into(),
        health: health.into(),
        queue: Queue::default(),
        counters: Counters::default(),
        maintaining: std::sync::Mutex::default(),
        _lock: lock,
    };
    Ok(Recovered {
        shared,
        report,
        next_id,
    })
}

fn check_config(config: &StoreConfig) -> Result<(), OpenError> {
    if config.segment_bytes > SEGMENT_BYTES_MAX {
        return Err(OpenError::Config("segment_bytes is over 1 GiB"));
    }
    if config.segment_bytes < 4_096 || config.preallocate_bytes == 0 {
        return Err(OpenError::Config(
            "segment_bytes is under 4096 or preallocate_bytes is 0",
        ));
    }
    if config.dir.as_os_str().is_empty() {
        return Err(OpenError::Config("dir is empty"));
    }
    Ok(())
}

/// The lock is the operating system's: it goes with the process, however that ends.
///
/// It is tried for a second: a predecessor that was killed may still be on its way out, and a child that any process
/// forks holds its parent's locks until it runs its own program.
fn take_lock(paths: &Paths, dir: &Path) -> Result<File, OpenError> {
    let path = paths.lock();
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .or_else(|error| {
            if is_read_only(&error) {
                File::open(&path)
            } else {
                Err(error)
            }
        })
        .map_err(|error| OpenError::io("open", &path, error))?;
    for patience in (0..LOCK_TRIES).rev() {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(std::fs::TryLockError::WouldBlock) if patience > 0 => {
                std::thread::sleep(LOCK_PAUSE);
            }
            Err(std::fs::TryLockError::WouldBlock) => break,
            Err(std::fs::TryLockError::Error(error)) => {
                return Err(OpenError::io("lock", &path, error));
            }
        }
    }
    Err(OpenError::Locked {
        dir: dir.to_path_buf(),
    })
}

fn is_read_only(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::ROFS)
}

/// The numbers in the names of a store's files.
struct Found {
    segments: BTreeSet<u32>,
    free: BTreeSet<u32>,
    hints: BTreeSet<u32>,
    dead: BTreeSet<u32>,
}

impl Found {
    fn next_id(&self) -> u32 {
        let all = [&self.segments, &self.free, &self.hints, &self.dead];
        all.iter()
            .filter_map(|ids| ids.last())
            .max()
            .map_or(1, |last| last + 1)
    }
}

struct Opening<'a> {
    disk: &'a dyn Disk,
    paths: &'a Paths,
    config: &'a StoreConfig,
    /// Why nothing can be written, once that was met.
    read_only: Option<String>,
    /// The first sync that failed: then nothing is written either, and what is there is served.
    failed_sync: Option<String>,
}

impl Opening<'_> {
    /// A read-only disk is no reason not to serve what is on it.
    fn tolerate(
        &mut self,
        action: &'static str,
        path: &Path,
        error: io::Error,
    ) -> Result<(), OpenError> {
        if is_read_only(&error) {
            self.read_only
                .get_or_insert_with(|| format!("cannot {action} {}", path.display()));
            return Ok(());
        }
        Err(OpenError::io(action, path, error))
    }

    fn remove(&mut self, path: &Path) -> Result<(), OpenError> {
        match self.disk.remove(path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => self.tolerate("remove", path, error),
        }
    }

    fn synced(&mut self, path: &Path, result: io::Result<()>) -> Result<(), OpenError> {
        match result {
            Ok(()) => Ok(()),
            Err(error) if is_read_only(&error) => self.tolerate("sync", path, error),
            Err(error) => {
                tracing::error!(path = %path.display(), %error, "a sync failed while the store was opened");
                self.failed_sync
                    .get_or_insert_with(|| format!("cannot sync {}: {error}", path.display()));
                Ok(())
            }
        }
    }

    fn sync_dir(&mut self, dir: &Path) -> Result<(), OpenError> {
        let result = self.disk.sync_dir(dir);
        self.synced(dir, result)
    }

    fn clean_temp(&mut self) -> Result<(), OpenError> {
        let names = match self.disk.list(&self.paths.temp) {
            Ok(names) => names,
            // Not made yet, on a disk that cannot be written.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(OpenError::io("list", &self.paths.temp, error)),
        };
        for name in names {
            let ours = ["seg", "hint"]
                .iter()
                .any(|kind| Paths::number(&name, kind).is_some());
            if ours || name == "store" || name == "probe" {
                self.remove(&self.paths.temp(&name))?;
            }
        }
        Ok(())
    }

    fn list(&self) -> Result<Found, OpenError> {
        let numbers = |dir: &Path, extension: &str| -> Result<BTreeSet<u32>, OpenError> {
            let names = self
                .disk
                .list(dir)
                .map_err(|error| OpenError::io("list", dir, error))?;
            Ok(names
                .iter()
                .filter_map(|name| Paths::number(name, extension))
                .collect())
        };
        Ok(Found {
            segments: numbers(&self.paths.data, "seg")?,
            free: numbers(&self.paths.data, "free")?,
            hints: numbers(&self.paths.metadata, "hint")?,
            dead: numbers(&self.paths.metadata, "dead")?,
        })
    }

    /// From its file, else from a segment's header, else drawn.
    fn store_key(&mut self, found: &Found) -> Result<StoreKey, OpenError> {
        let path = self.paths.store();
        match read_file(self.disk, &path) {
            Ok(bytes) => {
                if let Some(key) = StoreKey::from_file(&bytes) {
                    return Ok(key);
                }
                tracing::warn!(path = %path.display(), "the store file is damaged; looking in the segments");
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(OpenError::io("read", &path, error)),
        }
        let from_segment = found.segments.iter().find_map(|id| {
            let file = self.disk.open(&self.paths.segment(*id), Mode::Read).ok()?;
            let mut bytes = Vec::new();
            file.read(0, 64, &mut bytes).ok()?;
            SegmentHeader::decode(&bytes).map(|header| header.store_key)
        });
        let key = match from_segment {
            Some(key) => key,
            None if found.segments.is_empty() => {
                let mut key = [0; 32];
                getrandom::fill(&mut key).map_err(|error| {
                    OpenError::io("draw a key for", &path, io::Error::other(error.to_string()))
                })?;
                StoreKey(key)
            }
            None => return Err(OpenError::NoKey { path }),
        };
        let temp = self.paths.temp("store");
        let write = || -> io::Result<()> {
            let file = self.disk.open(&temp, Mode::Create)?;
            write_all(&*file, &mut [IoSlice::new(&key.to_file())], 0)?;
            file.sync_data()?;
            self.disk.rename(&temp, &path)?;
            self.disk.sync_dir(&self.paths.metadata)
        };
        if let Err(error) = write() {
            self.tolerate("write", &path, error)?;
        }
        Ok(key)
    }

    /// Brings one segment's records into `state`.
    fn load(
        &mut self,
        id: u32,
        store_key: StoreKey,
        state: &mut State,
        report: &mut RecoveryReport,
    ) -> Result<(), OpenError> {
        let path = self.paths.segment(id);
        let io = |action: &'static str| {
            let path = path.clone();
            move |error: io::Error| OpenError::io(action, &path, error)
        };
        let file = match self.disk.open(&path, Mode::Write) {
            Err(error) if is_read_only(&error) => self.disk.open(&path, Mode::Read),
            other => other,
        }
        .map_err(io("open"))?;
        let mut file_bytes = file.len().map_err(io("measure"))?;
        let segment = OpenSegment {
            file,
            key: store_key.segment(id),
        };
        let header_sound = self.check_header(id, &segment, file_bytes, store_key)?;
        let hint = self.hint(id, &segment, file_bytes);
        let hinted = hint.is_some();
        let (records, end, damaged_bytes) = match hint {
            Some(hint) => (hint.records, hint.end, 0),
            None => {
                let mut found = scan(&segment, file_bytes).map_err(io("read"))?;
                let damaged_bytes = found.damaged_bytes();
                report.scanned_segments += 1;
                report.torn_records += drop_torn(&segment, &mut found).map_err(io("read"))?;
                (found.records, found.end, damaged_bytes)
            }
        };
        if !hinted {
            // What survived in the page cache may not be on the disk, and is about to be called stored.
            let result = segment.file.sync_data();
            self.synced(&path, result)?;
            let damaged = damaged_bytes > 0 || !header_sound;
            if records.is_empty() && !damaged {
                return self.remove(&path);
            }
            if file_bytes > u64::from(end) && header_sound {
                report.dropped_bytes += file_bytes - u64::from(end);
                match segment.file.set_len(u64::from(end)) {
                    Ok(()) => file_bytes = u64::from(end),
                    Err(error) => self.tolerate("truncate", &path, error)?,
                }
            }
            if damaged {
                report.damaged_segments += 1;
                report.damaged_bytes += damaged_bytes;
                tracing::error!(path = %path.display(), damaged_bytes, "parts of a segment cannot be read");
            }
        }
        state.segments.insert(
            id,
            Slot {
                file_bytes,
                end,
                live_bytes: 0,
                sealed: true,
                hinted,
                damaged: damaged_bytes > 0 || !header_sound,
                stuck: false,
            },
        );
        let dead = match read_file(self.disk, &self.paths.dead(id)) {
            Ok(bytes) => decode_dead(&bytes, id, &segment.key),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(OpenError::io("read", &self.paths.dead(id), error)),
        };
        for (offset, record) in &records {
            if record.kind == Kind::State || dead.binary_search(offset).is_err() {
                state.apply(
                    record,
                    Location {
                        segment: id,
                        offset: *offset,
                    },
                );
            }
        }
        if !hinted && damaged_bytes == 0 && header_sound {
            let hint = Hint { records, end };
            let written = write_hint(self.disk, self.paths, id, &segment, &hint);
            match written {
                Ok(()) => {
                    if let Some(slot) = state.segments.get_mut(&id) {
                        slot.hinted = true;
                    }
                }
                // Without a hint the next start is slower, no more.
                Err(error) => tracing::warn!(%error, id, "cannot write a segment's hint"),
            }
        }
        Ok(())
    }

    /// Whether the header is sound; one of a newer version is refused.
    fn check_header(
        &self,
        id: u32,
        segment: &OpenSegment,
        file_bytes: u64,
        store_key: StoreKey,
    ) -> Result<bool, OpenError> {
        if file_bytes < u64::from(SEGMENT_HEADER_BYTES) {
            return Ok(false);
        }
        let path = self.paths.segment(id);
        let mut bytes = Vec::new();
        segment
            .file
            .read(0, 64, &mut bytes)
            .map_err(|error| OpenError::io("read", &path, error))?;
        let Some(header) = SegmentHeader::decode(&bytes) else {
            return Ok(false);
        };
        if header.version != VERSION {
            return Err(OpenError::Version {
                path,
                version: header.version,
                known: VERSION,
            });
        }
        Ok(header.id == id && header.store_key == store_key)
    }

    fn hint(&self, id: u32, segment: &OpenSegment, file_bytes: u64) -> Option<Hint> {
        let bytes = read_file(self.disk, &self.paths.hint(id)).ok()?;
        let hint = Hint::decode(&bytes, id, &segment.key)?;
        (u64::from(hint.end) <= file_bytes).then_some(hint)
    }

    /// Removes what belongs to no segment, so that its number can be used again.
    fn clean(&mut self, found: &Found, state: &mut State) -> Result<(), OpenError> {
        for id in found.hints.difference(&found.segments) {
            self.remove(&self.paths.hint(*id))?;
        }
        for id in found.dead.difference(&found.segments) {
            self.remove(&self.paths.dead(*id))?;
        }
        for id in &found.free {
            let path = self.paths.free(*id);
            let whole = self
                .disk
                .open(&path, Mode::Read)
                .and_then(|file| file.len());
            let usable = whole.is_ok_and(|bytes| bytes == self.config.segment_bytes);
            if usable && state.free.len() < self.config.recycled_segments_max {
                state.free.push(*id);
            } else {
                self.remove(&path)?;
            }
        }
        self.sync_dir(&self.paths.metadata)?;
        self.sync_dir(&self.paths.data)
    }
}

/// Drops the records of the last batch whose bytes did not all reach the disk; returns how many.
///
/// Everything below the highest "durable" mark was synced before a later record was written, so it needs no check.
fn drop_torn(segment: &OpenSegment, found: &mut Scan) -> io::Result<usize> {
    let durable = found.durable_before();
    let before = found.records.len();
    let mut failed = None;
    found.records.retain(|(offset, record)| {
        *offset < durable
            || failed.is_some()
            || intact(segment, *offset, record).unwrap_or_else(|error| {
                failed = Some(error);
                true
            })
    });
    failed.map_or(Ok(before - found.records.len()), Err)
}

fn intact(segment: &OpenSegment, offset: u32, record: &Record) -> io::Result<bool> {
    if record.kind == Kind::State {
        return Ok(true);
    }
    let start = u64::from(offset) + u64::from(RECORD_HEADER_BYTES);
    let mut bytes = Vec::new();
    let proof_len = usize::try_from(record.proof_bytes).unwrap_or(usize::MAX);
    let body_len = usize::try_from(record.body_bytes).unwrap_or(usize::MAX);
    segment
        .file
        .read(start, proof_len.saturating_add(body_len), &mut bytes)?;
    let (proof, body) = bytes.split_at(proof_len);
    Ok(sum(proof) == record.proof_sum && blake3::hash(body) == *record.cid.digest())
}

/// Writes a sealed segment's hint. Not synced: a torn one is ignored.
pub(crate) fn write_hint(
    disk: &dyn Disk,
    paths: &Paths,
    id: u32,
    segment: &OpenSegment,
    hint: &Hint,
) -> io::Result<()> {
    let temp = paths.temp(&format!("{id:08x}.hint"));
    let file = disk.open(&temp, Mode::Create)?;
    write_all(
        &*file,
        &mut [IoSlice::new(&hint.encode(id, &segment.key))],
        0,
    )?;
    disk.rename(&temp, &paths.hint(id))
}
