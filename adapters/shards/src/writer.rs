//! The one thread that writes: drain the queue, write, one sync, acknowledge.

use std::collections::HashSet;
use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use domain::Cid;
use rustix::io::Errno;

use crate::disk::{DiskFile, Mode, write_all};
use crate::error::WriteError;
use crate::format::{
    DEAD_ENTRY_LEN, Kind, RECORD_HEADER_LEN, Record, SEGMENT_HEADER_BYTES, SegmentHeader,
    SegmentKey, VERSION, encode_dead,
};
use crate::index::{Entry, Location};
use crate::queue::{Action, Content, Job, Outcome, Reply};
use crate::state::{Counters, Shared, Slot};
use crate::sync::{read, write};

/// Zeros between the end of a body and the next record.
const PADDING: [u8; 3] = [0; 3];
/// Bytes gathered for one write and sync, at most.
const BATCH_BYTES_MAX: u32 = 32 << 20;
/// Bytes preallocated at once for records that must fit even on a full disk (tombstones, compaction).
const UPKEEP_STEP_BYTES: u64 = 64 << 10;

/// What a record is written for: only new data has to leave the reserve alone.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Data,
    Upkeep,
}

/// The segment that takes records.
struct Active {
    id: u32,
    key: SegmentKey,
    file: Arc<dyn DiskFile>,
    /// Where the last durable record ends.
    tail: u32,
    /// The segment is full at this size.
    bytes_max: u64,
    /// Preallocated up to here.
    allocated: u64,
}

/// A record that waits for the batch's write.
struct Part {
    record: Record,
    header: [u8; RECORD_HEADER_LEN],
    at: Location,
    proof: Bytes,
    body: Vec<Bytes>,
    outcome: Outcome,
    reply: Reply,
    /// Held until the bytes are written: this is what bounds the queue.
    _permit: Option<tokio::sync::OwnedSemaphorePermit>,
}

#[derive(Default)]
struct Batch {
    parts: Vec<Part>,
    bytes: u32,
    touched: HashSet<Cid>,
}

pub(crate) struct Writer {
    shared: Arc<Shared>,
    active: Option<Active>,
    batch: Batch,
    next_id: u32,
}

/// What is to be done for a job, given what is stored.
enum Decision {
    Write {
        record: Record,
        content: Option<Content>,
        outcome: Outcome,
        purpose: Purpose,
    },
    Nothing,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, next_id: u32) -> Self {
        Self {
            shared,
            active: None,
            batch: Batch::default(),
            next_id,
        }
    }

    /// Runs until the queue is closed and everything in it is done.
    pub(crate) fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        while let Some(jobs) = shared.queue.take() {
            for job in jobs {
                self.plan(job);
            }
            self.commit();
        }
    }

    fn plan(&mut self, job: Job) {
        match job {
            Job::One {
                cid,
                action,
                reply,
                _permit,
            } => {
                // A second job for a shard must see what the first one did.
                if self.batch.touched.contains(&cid) {
                    self.commit();
                }
                if let Err(error) = self.shared.check_writable() {
                    return reply.send(Err(error));
                }
                let decision = decide(&self.shared, &cid, action);
                let Decision::Write {
                    record,
                    content,
                    outcome,
                    purpose,
                } = decision
                else {
                    return reply.send(Ok(Outcome::UNCHANGED));
                };
                match self.room(record.size(), purpose) {
                    Ok((at, durable_before, key)) => {
                        let record = Record {
                            durable_before,
                            ..record
                        };
                        let (proof, body) = content
                            .map(|content| (content.proof, content.body))
                            .unwrap_or_default();
                        self.batch.touched.insert(cid);
                        self.batch.bytes += record.size();
                        let header = record.encode(&key);
                        self.batch.parts.push(Part {
                            record,
                            header,
                            at,
                            proof,
                            body,
                            outcome,
                            reply,
                            _permit,
                        });
                    }
                    Err(error) => reply.send(Err(error)),
                }
            }
            Job::Purge {
                cids,
                until_ms,
                reply,
            } => {
                self.commit();
                let done = self
                    .shared
                    .check_writable()
                    .and_then(|()| self.purge(&cids, until_ms));
                reply.send(done.map(|()| Outcome::CHANGED));
            }
        }
    }

    /// Where a record of `size` bytes will lie. May write out the batch and begin a new segment.
    fn room(
        &mut self,
        size: u32,
        purpose: Purpose,
    ) -> Result<(Location, u32, SegmentKey), WriteError> {
        if self.batch.bytes.saturating_add(size) > BATCH_BYTES_MAX {
            self.commit();
            self.shared.check_writable()?;
        }
        let full = self.active.as_ref().is_none_or(|active| {
            u64::from(active.tail) + u64::from(self.batch.bytes) + u64::from(size)
                > active.bytes_max
        });
        if full {
            self.commit();
            self.shared.check_writable()?;
            self.seal();
            self.active = Some(self.begin_segment(size, purpose)?);
        }
        let shared = Arc::clone(&self.shared);
        let Some(active) = self.active.as_mut() else {
            return Err(WriteError::Closing);
        };
        let offset = active.tail + self.batch.bytes;
        let end = u64::from(offset) + u64::from(size);
        if end > active.allocated {
            extend(&shared, active, end, purpose)?;
        }
        let at = Location {
            segment: active.id,
            offset,
        };
        Ok((at, active.tail, active.key))
    }

    /// Writes the batch, syncs once, applies it and acknowledges it.
    fn commit(&mut self) {
        let Batch { parts, bytes, .. } = std::mem::take(&mut self.batch);
        if parts.is_empty() {
            return;
        }
        let Some(active) = self.active.as_mut() else {
            return;
        };
        let path = self.shared.paths.segment(active.id);
        if let Err(error) = write_parts(&*active.file, &parts, active.tail) {
            let error = classify(&self.shared, "write", &path, error);
            self.abandon_segment();
            return fail(parts, &error);
        }
        if let Err(error) = active.file.sync_data() {
            let error = self
                .shared
                .poison(&format!("cannot sync {}: {error}", path.display()));
            return fail(parts, &error);
        }
        active.tail += bytes;
        Counters::add(&self.shared.counters.syncs, 1);
        Counters::add(&self.shared.counters.bytes_written, u64::from(bytes));
        {
            let mut state = write(&self.shared.state);
            if let Some(slot) = state.segments.get_mut(&active.id) {
                slot.end = active.tail;
            }
            for part in &parts {
                state.apply(&part.record, part.at);
            }
        }
        for part in parts {
            part.reply.send(Ok(part.outcome));
        }
    }

    /// The active segment takes no more records.
    fn seal(&mut self) {
        if let Some(active) = self.active.take()
            && let Some(slot) = write(&self.shared.state).segments.get_mut(&active.id)
        {
            slot.sealed = true;
        }
    }

    /// After a write that failed half-way: what it left behind the tail must never be taken for records.
    fn abandon_segment(&mut self) {
        let Some(active) = &self.active else { return };
        match active.file.set_len(u64::from(active.tail)) {
            Ok(()) => {
                if let Some(slot) = write(&self.shared.state).segments.get_mut(&active.id) {
                    slot.file_bytes = u64::from(active.tail);
                }
            }
            Err(error) => {
                let path = self.shared.paths.segment(active.id);
                classify(&self.shared, "truncate", &path, error);
            }
        }
        self.seal();
    }

    fn begin_segment(&mut self, first_size: u32, purpose: Purpose) -> Result<Active, WriteError> {
        let id = self.next_id;
        let shared = Arc::clone(&self.shared);
        let needed = u64::from(SEGMENT_HEADER_BYTES) + u64::from(first_size);
        let header = SegmentHeader {
            version: VERSION,
            id,
            store_key: shared.store_key,
        }
        .encode();
        let path = shared.paths.segment(id);
        let recycled = (needed <= shared.config.segment_bytes)
            .then(|| write(&shared.state).free.pop())
            .flatten();
        // The header is durable before the file gets its new name: no crash can show the old records under it.
        let (from, file, allocated) = match recycled {
            Some(old) => {
                let from = shared.paths.free(old);
                let file = shared.disk.open(&from, Mode::Write);
                let file = file.map_err(|error| classify(&shared, "open", &from, error))?;
                (from, file, shared.config.segment_bytes)
            }
            None => {
                check_space(&shared, needed, purpose)?;
                let from = shared.paths.temp(&format!("{id:08x}.seg"));
                let file = shared.disk.open(&from, Mode::Create);
                let file = file.map_err(|error| classify(&shared, "create", &from, error))?;
                (from, file, 0)
            }
        };
        let mut active = Active {
            id,
            key: shared.store_key.segment(id),
            file,
            tail: SEGMENT_HEADER_BYTES,
            bytes_max: shared.config.segment_bytes.max(needed),
            allocated,
        };
        let mut prepare = || {
            if active.allocated < needed {
                extend(&shared, &mut active, needed, purpose)?;
            }
            write_all(&*active.file, &mut [IoSlice::new(&header)], 0)
                .map_err(|error| classify(&shared, "write", &from, error))?;
            active.file.sync_data().map_err(|error| {
                shared.poison(&format!("cannot sync {}: {error}", from.display()))
            })?;
            shared
                .disk
                .rename(&from, &path)
                .map_err(|error| classify(&shared, "rename", &from, error))?;
            shared.disk.sync_dir(&shared.paths.data).map_err(|error| {
                shared.poison(&format!(
                    "cannot sync {}: {error}",
                    shared.paths.data.display()
                ))
            })
        };
        if let Err(error) = prepare() {
            // Nothing refers to it; a leftover is removed at the next start too.
            let _ = shared.disk.remove(&from);
            return Err(error);
        }
        self.next_id += 1;
        shared.files.insert(id, Arc::clone(&active.file));
        let slot = Slot {
            file_bytes: active.allocated.max(needed),
            end: SEGMENT_HEADER_BYTES,
            ..Slot::default()
        };
        write(&shared.state).segments.insert(id, slot);
        Ok(active)
    }

    /// Makes the records of expired shards, and those that later ones replaced, unable to come back; then forgets the
    /// shards. Their tombstones may be dropped from then on.
    fn purge(&mut self, cids: &[Cid], until_ms: u64) -> Result<(), WriteError> {
        let (cids, mut dead) = {
            let mut state = write(&self.shared.state);
            let expired: Vec<(Cid, Location)> = cids
                .iter()
                .filter(|cid| state.trash.get(cid).is_some_and(|at_ms| *at_ms <= until_ms))
                .filter_map(|cid| Some((*cid, state.index.get(cid)?.location())))
                .collect();
            let mut dead = std::mem::take(&mut state.superseded);
            dead.retain(|at| state.segments.contains_key(&at.segment));
            dead.extend(expired.iter().map(|(_, at)| *at));
            (expired, dead)
        };
        dead.sort_unstable();
        for group in dead.chunk_by(|a, b| a.segment == b.segment) {
            if let Err(error) = self.append_dead(group) {
                // Nothing was forgotten: what was replaced is tried again with the next run.
                let mut state = write(&self.shared.state);
                let again = dead
                    .iter()
                    .filter(|at| !cids.iter().any(|(_, other)| other == *at));
                let again: Vec<Location> = again.copied().collect();
                state.superseded.extend(again);
                return Err(error);
            }
        }
        let mut state = write(&self.shared.state);
        for (cid, _) in &cids {
            state.remove(cid);
        }
        Ok(())
    }

    fn append_dead(&self, group: &[Location]) -> Result<(), WriteError> {
        let Some(id) = group.first().map(|at| at.segment) else {
            return Ok(());
        };
        let key = self.shared.store_key.segment(id);
        let path = self.shared.paths.dead(id);
        let bytes: Vec<u8> = group
            .iter()
            .flat_map(|at| encode_dead(id, at.offset, &key))
            .collect();
        let append = || -> io::Result<Arc<dyn DiskFile>> {
            let file = self.shared.disk.open(&path, Mode::Append)?;
            let entry = u64::try_from(DEAD_ENTRY_LEN).unwrap_or(1);
            // A torn entry at the end is written over.
            let end = file.len()? / entry * entry;
            write_all(&*file, &mut [IoSlice::new(&bytes)], end)?;
            Ok(file)
        };
        let file = append().map_err(|error| classify(&self.shared, "write", &path, error))?;
        file.sync_data()
            .and_then(|()| self.shared.disk.sync_dir(&self.shared.paths.metadata))
            .map_err(|error| {
                self.shared
                    .poison(&format!("cannot sync {}: {error}", path.display()))
            })
    }
}

/// Looks at what is stored and decides what a job has to write.
fn decide(shared: &Shared, cid: &Cid, action: Action) -> Decision {
    let (entry, trashed_at_ms) = {
        let state = read(&shared.state);
        (state.index.get(cid).copied(), state.trash.get(cid).copied())
    };
    let state_record = |entry: &Entry, tag, trashed_at_ms, outcome| Decision::Write {
        record: Record {
            kind: Kind::State,
            cid: entry.cid(),
            tag,
            trashed_at_ms,
            body_bytes: 0,
            proof_bytes: 0,
            durable_before: 0,
            proof_sum: [0; 8],
        },
        content: None,
        outcome,
        purpose: Purpose::Upkeep,
    };
    let shard_record = |tag, trashed_at_ms, content: Content, purpose| Decision::Write {
        record: Record {
            kind: Kind::Shard,
            cid: *cid,
            tag,
            trashed_at_ms,
            body_bytes: content.body_bytes,
            proof_bytes: u32::try_from(content.proof.len()).unwrap_or(u32::MAX),
            durable_before: 0,
            proof_sum: content.proof_sum,
        },
        content: Some(content),
        outcome: Outcome::CHANGED,
        purpose,
    };
    match (action, entry) {
        // The bytes of a trashed or damaged copy are not trusted to be good: the new ones are written.
        (Action::Put { tag, .. }, Some(entry)) if !entry.trashed() && !entry.suspect() => {
            if entry.tag() == tag {
                Decision::Nothing
            } else {
                state_record(&entry, tag, None, Outcome::RETAGGED)
            }
        }
        (Action::Put { tag, content }, _) => shard_record(tag, None, content, Purpose::Data),
        (Action::Delete { at_ms }, Some(entry)) if !entry.trashed() => {
            state_record(&entry, entry.tag(), Some(at_ms), Outcome::CHANGED)
        }
        (Action::Restore, Some(entry)) if entry.trashed() => {
            state_record(&entry, entry.tag(), None, Outcome::CHANGED)
        }
        (Action::Move { from, content }, Some(entry)) if entry.location() == from => {
            shard_record(entry.tag(), trashed_at_ms, content, Purpose::Upkeep)
        }
        (Action::Restate, Some(entry)) if entry.stated() => {
            state_record(&entry, entry.tag(), trashed_at_ms, Outcome::CHANGED)
        }
        _ => Decision::Nothing,
    }
}

fn write_parts(file: &dyn DiskFile, parts: &[Part], offset: u32) -> io::Result<()> {
    let mut slices = Vec::with_capacity(parts.len() * 4);
    for part in parts {
        slices.push(IoSlice::new(&part.header));
        let frames = std::iter::once(&part.proof)
            .chain(&part.body)
            .filter(|frame| !frame.is_empty());
        slices.extend(frames.map(|frame| IoSlice::new(frame)));
        let len =
            RECORD_HEADER_LEN + part.proof.len() + part.body.iter().map(Bytes::len).sum::<usize>();
        let padding = len.next_multiple_of(4) - len;
        if let Some(padding) = PADDING.get(..padding).filter(|padding| !padding.is_empty()) {
            slices.push(IoSlice::new(padding));
        }
    }
    write_all(file, &mut slices, u64::from(offset))
}

fn fail(parts: Vec<Part>, error: &WriteError) {
    for part in parts {
        part.reply.send(Err(error.clone()));
    }
}

/// Preallocates up to `end`, in steps for data and sparingly for upkeep.
fn extend(
    shared: &Shared,
    active: &mut Active,
    end: u64,
    purpose: Purpose,
) -> Result<(), WriteError> {
    let step = match purpose {
        Purpose::Data => shared.config.preallocate_bytes,
        Purpose::Upkeep => UPKEEP_STEP_BYTES.min(shared.config.preallocate_bytes),
    };
    let until = end
        .max(active.allocated.saturating_add(step))
        .min(active.bytes_max.max(end));
    let more = until - active.allocated;
    check_space(shared, more, purpose)?;
    let path = shared.paths.segment(active.id);
    match active.file.allocate(active.allocated, more) {
        Ok(()) => active.allocated = until,
        // A file system without preallocation: the file grows as it is written.
        Err(error) if is(&error, &[Errno::OPNOTSUPP, Errno::NOSYS]) => {
            active.allocated = active.bytes_max
        }
        Err(error) => return Err(classify(shared, "preallocate", &path, error)),
    }
    if let Some(slot) = write(&shared.state).segments.get_mut(&active.id) {
        slot.file_bytes = active.allocated;
    }
    Ok(())
}

/// Refuses what would fill the disk, before it does.
fn check_space(shared: &Shared, more: u64, purpose: Purpose) -> Result<(), WriteError> {
    if purpose == Purpose::Upkeep {
        return Ok(());
    }
    let free_bytes = shared
        .disk
        .free_bytes(&shared.paths.data)
        .map_err(|error| WriteError::io("ask for free space in", &shared.paths.data, error))?;
    let reserve_bytes = shared.config.reserve_bytes;
    if free_bytes.saturating_sub(more) < reserve_bytes {
        return Err(WriteError::DiskFull {
            free_bytes,
            reserve_bytes,
        });
    }
    if let Some(capacity_bytes) = shared.config.capacity_bytes {
        let used_bytes = read(&shared.state).segment_bytes(shared.config.segment_bytes);
        if used_bytes.saturating_add(more) > capacity_bytes {
            return Err(WriteError::CapacityReached {
                used_bytes,
                capacity_bytes,
            });
        }
    }
    Ok(())
}

fn is(error: &io::Error, errnos: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| errnos.contains(&errno))
}

/// Turns a failed file operation into what it means for the store.
pub(crate) fn classify(
    shared: &Shared,
    action: &'static str,
    path: &Path,
    error: io::Error,
) -> WriteError {
    if is(&error, &[Errno::NOSPC, Errno::DQUOT]) {
        let free_bytes = shared.disk.free_bytes(&shared.paths.data).unwrap_or(0);
        return WriteError::DiskFull {
            free_bytes,
            reserve_bytes: shared.config.reserve_bytes,
        };
    }
    if is(&error, &[Errno::ROFS]) {
        return shared.set_read_only(&format!("cannot {action} {}", path.display()));
    }
    if is(
        &error,
        &[
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOMEM,
            Errno::ACCESS,
            Errno::PERM,
        ],
    ) {
        return WriteError::io(action, path, error);
    }
    shared.poison(&format!("cannot {action} {}: {error}", path.display()))
}
