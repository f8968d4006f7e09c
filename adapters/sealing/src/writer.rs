//! Appending: many batches, one write, one sync, then the head.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use crypto::sealed_store::{SessionKey, StoreKeys};
use zeroize::Zeroizing;

use crate::disk::Medium;
use crate::error::{FileError, WriteError};
use crate::format::{Head, Kind, MARKS_MAX, PAGE, SALT_BYTES, push_frame, push_session};
use crate::index::{FILE_BYTES_MAX, Index, Name, Place};
use crate::store::{StoreState, lock, write};

/// A change with its plaintext.
pub(crate) struct Owned {
    pub(crate) kind: Kind,
    pub(crate) body: Zeroizing<Vec<u8>>,
    /// The record's key, where there is a record.
    pub(crate) name: Option<Vec<u8>>,
}

/// A batch that waits, and what became of it.
pub(crate) struct Job {
    changes: Vec<Owned>,
    pub(crate) bytes: usize,
    result: Mutex<Option<Result<StoreState, WriteError>>>,
}

impl Job {
    pub(crate) fn new(changes: Vec<Owned>) -> Self {
        let bytes = changes.iter().map(|change| change.body.len() + 64).sum();
        Self {
            changes,
            bytes,
            result: Mutex::new(None),
        }
    }

    pub(crate) fn result(&self) -> Option<Result<StoreState, WriteError>> {
        lock(&self.result).clone()
    }

    fn finish(&self, result: Result<StoreState, WriteError>) {
        *lock(&self.result) = Some(result);
    }
}

/// The session that this process appends in.
struct Session {
    key: Arc<SessionKey>,
    next: u32,
}

/// The end of the log.
pub(crate) struct Writer {
    pub(crate) file: Arc<dyn Medium>,
    state: StoreState,
    end: u64,
    marks: VecDeque<StoreState>,
    session: Option<Session>,
    /// Which of its two places the next head goes to.
    second_place: bool,
    /// Whether an unfinished write lies behind the end, to be cut off before the next one.
    trim: bool,
    poisoned: Option<Arc<str>>,
}

/// What a group changes once it is on the disk.
enum Update {
    Session(u64, Arc<SessionKey>),
    Put(Vec<u8>, Place),
    Delete(Vec<u8>),
    Mark(StoreState),
}

impl Writer {
    pub(crate) fn new(
        file: Arc<dyn Medium>,
        state: StoreState,
        end: u64,
        marks: impl IntoIterator<Item = StoreState>,
        second_place: bool,
        trim: bool,
    ) -> Self {
        let mut writer = Self {
            file,
            state,
            end,
            marks: VecDeque::new(),
            session: None,
            second_place,
            trim,
            poisoned: None,
        };
        marks.into_iter().for_each(|mark| writer.remember(mark));
        writer
    }

    pub(crate) fn state(&self) -> StoreState {
        self.state
    }

    pub(crate) fn end(&self) -> u64 {
        self.end
    }

    pub(crate) fn marks(&self) -> impl Iterator<Item = &StoreState> {
        self.marks.iter()
    }

    pub(crate) fn poisoned(&self) -> Option<WriteError> {
        let reason = self.poisoned.clone()?;
        Some(WriteError::Poisoned { reason })
    }

    /// Takes no more changes.
    pub(crate) fn poison(&mut self, error: FileError) -> WriteError {
        let reason: Arc<str> = error.to_string().into();
        self.poisoned = Some(reason.clone());
        WriteError::Poisoned { reason }
    }

    /// Writes every job and tells each what became of it.
    pub(crate) fn write_group(
        &mut self,
        keys: &StoreKeys,
        path: &Path,
        index: &RwLock<Index>,
        jobs: &[Arc<Job>],
    ) {
        if let Some(error) = self.poisoned() {
            jobs.iter().for_each(|job| job.finish(Err(error.clone())));
            return;
        }
        // Should this panic half-way, nobody goes on from an unknown state.
        self.poisoned = Some("an earlier write ended half-way".into());
        let result = self.try_write(keys, path, index, jobs);
        match result {
            Ok(states) => {
                self.poisoned = None;
                for (job, state) in jobs.iter().zip(states) {
                    job.finish(Ok(state));
                }
            }
            Err(error) => {
                // Whatever was sealed and not stored: its session is over.
                self.session = None;
                self.poisoned = match &error {
                    WriteError::Poisoned { reason } => Some(reason.clone()),
                    _ => None,
                };
                jobs.iter().for_each(|job| job.finish(Err(error.clone())));
            }
        }
    }

    fn try_write(
        &mut self,
        keys: &StoreKeys,
        path: &Path,
        index: &RwLock<Index>,
        jobs: &[Arc<Job>],
    ) -> Result<Vec<StoreState>, WriteError> {
        let mut group = Group {
            bytes: Vec::new(),
            updates: Vec::new(),
            state: self.state,
            from: self.end,
        };
        let mut states = Vec::with_capacity(jobs.len());
        for job in jobs {
            self.push_job(keys, &mut group, job)?;
            states.push(group.state);
        }
        let end = group.end();
        if end > FILE_BYTES_MAX {
            return Err(WriteError::Bounds(
                "the store's file is at its limit of 1 TiB",
            ));
        }
        if self.trim {
            let trimmed = self.file.set_len(self.end);
            trimmed.map_err(|error| FileError::new("shorten", path, error))?;
            self.trim = false;
        }
        if let Err(error) = self.file.write(self.end, &group.bytes) {
            return Err(self.take_back(path, error));
        }
        let synced = self.file.sync();
        synced.map_err(|error| poison(FileError::new("sync", path, error)))?;
        let head = Head {
            state: group.state,
            end,
        };
        // Not synced: the next group's sync carries it. Until then it survives a killed process, not a power cut, and
        // after a power cut it is behind what the log holds, never ahead.
        self.write_head(keys, &head)
            .map_err(|error| poison(FileError::new("write the head of", path, error)))?;
        self.state = group.state;
        self.end = end;
        let mut index = write(index);
        for update in group.updates {
            match update {
                Update::Session(offset, key) => {
                    index.sessions.insert(offset, key);
                }
                Update::Put(key, place) => {
                    let name: Name = index.name(&key);
                    index.insert(name, place);
                }
                Update::Delete(key) => {
                    let name = index.name(&key);
                    index.remove(&name);
                }
                Update::Mark(state) => self.remember(state),
            }
        }
        Ok(states)
    }

    fn push_job(
        &mut self,
        keys: &StoreKeys,
        group: &mut Group,
        job: &Job,
    ) -> Result<(), WriteError> {
        let last = job.changes.len().saturating_sub(1);
        for (number, change) in job.changes.iter().enumerate() {
            let (key, frame) = self.next_frame(keys, group, number == 0)?;
            let from = group.bytes.len();
            let more = number < last;
            push_frame(
                &mut group.bytes,
                &key,
                change.kind,
                more,
                frame,
                &[&change.body],
            );
            let offset = group.from + to_u64(from);
            let place = Place::new(offset, to_u64(group.bytes.len() - from));
            group.chain(keys, from);
            group.state.counter = group.state.counter.saturating_add(1);
            group.updates.push(match (change.kind, &change.name) {
                (Kind::Put, Some(name)) => Update::Put(name.clone(), place),
                (Kind::Delete, Some(name)) => Update::Delete(name.clone()),
                _ => Update::Mark(group.state),
            });
        }
        Ok(())
    }

    /// The key and number for the next frame. A new session begins with the process, after a failed write (whose bytes the
    /// host has seen under numbers that must not come again), and between batches when the numbers run out.
    fn next_frame(
        &mut self,
        keys: &StoreKeys,
        group: &mut Group,
        may_begin: bool,
    ) -> Result<(Arc<SessionKey>, u32), WriteError> {
        const NUMBERS_MAX: u32 = u32::MAX - 8_192;
        if may_begin
            && self
                .session
                .as_ref()
                .is_none_or(|session| session.next > NUMBERS_MAX)
        {
            let (salt, key) = fresh_session(keys)?;
            let from = group.bytes.len();
            push_session(
                &mut group.bytes,
                &key,
                &salt,
                Kind::Session,
                &group.state,
                &[],
            );
            group.chain(keys, from);
            let offset = group.from + to_u64(from);
            group.updates.push(Update::Session(offset, key.clone()));
            self.session = Some(Session { key, next: 1 });
        }
        let session = self.session.as_mut().ok_or(WriteError::Randomness)?;
        let number = session.next;
        session.next = number.checked_add(1).ok_or(WriteError::Randomness)?;
        Ok((session.key.clone(), number))
    }

    /// A write failed: its bytes are cut off again, and the store is as before. Where even that fails, it stops.
    fn take_back(&self, path: &Path, error: std::io::Error) -> WriteError {
        let error = FileError::new("write", path, error);
        match self.file.set_len(self.end) {
            Ok(()) => error.into(),
            Err(_) => poison(error),
        }
    }

    fn write_head(&mut self, keys: &StoreKeys, head: &Head) -> std::io::Result<()> {
        let offset = if self.second_place { 2 * PAGE } else { PAGE };
        self.file.write(offset, &head.seal(keys))?;
        self.second_place = !self.second_place;
        Ok(())
    }

    fn remember(&mut self, mark: StoreState) {
        if self.marks.len() >= MARKS_MAX {
            self.marks.pop_front();
        }
        self.marks.push_back(mark);
    }
}

/// The bytes of one group, and the state as it will be.
struct Group {
    bytes: Vec<u8>,
    updates: Vec<Update>,
    state: StoreState,
    from: u64,
}

impl Group {
    fn chain(&mut self, keys: &StoreKeys, from: usize) {
        let frame = self.bytes.get(from..).unwrap_or_default();
        self.state.root = keys.chain(&self.state.root, frame);
    }

    fn end(&self) -> u64 {
        self.from + to_u64(self.bytes.len())
    }
}

/// A salt and the key it gives.
pub(crate) fn fresh_session(
    keys: &StoreKeys,
) -> Result<([u8; SALT_BYTES], Arc<SessionKey>), WriteError> {
    let mut salt = [0; SALT_BYTES];
    getrandom::fill(&mut salt).map_err(|_| WriteError::Randomness)?;
    Ok((salt, Arc::new(keys.session(&salt))))
}

fn poison(error: FileError) -> WriteError {
    WriteError::Poisoned {
        reason: error.to_string().into(),
    }
}

pub(crate) fn to_u64(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}
