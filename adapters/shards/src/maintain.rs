//! What a node does now and then: empty the trash, win back space, write hints, and re-read what is stored.

use std::io;
use std::sync::mpsc;

use domain::{Cid, TimestampMs};

use crate::disk::Mode;
use crate::error::{ReadError, WriteError};
use crate::format::{Hint, Kind, sum};
use crate::index::{Entry, Location};
use crate::queue::{Action, Content, Job, Reply};
use crate::recovery::write_hint;
use crate::segment::scan;
use crate::state::{Counters, Health, Shared};
use crate::store::{ShardStore, mark_suspect, read_content};
use crate::sync::{lock, read, write};
use crate::writer::classify;

/// Expired shards forgotten in one run.
const PURGE_MAX: usize = 4_096;
/// Hints written in one run.
const HINTS_MAX: usize = 4;
/// Bytes of moves that wait for the writer at once.
const MOVE_BATCH_BYTES: u64 = 4 << 20;
/// Segments shorter than half a segment (each start leaves one) are joined when there are this many.
const SHORT_SEGMENTS_MIN: usize = 4;

/// What one [`ShardStore::maintain`] run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Maintained {
    /// Shards whose retention had passed.
    pub purged: usize,
    /// Bytes of records moved out of sparse segments.
    pub moved_bytes: u64,
    /// Segments emptied, and then kept for their next use or removed.
    pub freed_segments: usize,
    /// Hints written.
    pub hints: usize,
    /// There is more to do: run again soon.
    pub more: bool,
}

/// Where a scrub goes on. The default begins anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubCursor {
    after: Option<Cid>,
}

/// What one [`ShardStore::scrub_next`] step found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Shards read and hashed.
    pub shards: usize,
    /// Bytes read.
    pub bytes: u64,
    /// Shards that are damaged and must be repaired from elsewhere.
    pub corrupt: Vec<Cid>,
    /// Where to go on; `None` when the last shard has been read.
    pub next: Option<ScrubCursor>,
}

impl ShardStore {
    /// One bounded run of housekeeping; blocks. To be called every few seconds, sooner when it says `more`.
    ///
    /// Forgets shards that have been in the trash for the retention, empties segments of which less than half is in
    /// use, recycles them, and writes hints for sealed segments. Finds out whether a read-only disk has become
    /// writable again.
    ///
    /// # Errors
    /// [`WriteError`]; what was done before it stays done.
    pub fn maintain(&self, now: TimestampMs) -> Result<Maintained, WriteError> {
        let shared = self.shared();
        let _one_at_a_time = lock(&shared.maintaining);
        probe_read_only(shared)?;
        shared.check_writable()?;
        let mut done = Maintained::default();
        self.purge(now, &mut done)?;
        write_hints(shared, &mut done)?;
        let mut budget = shared.config.maintain_bytes_max;
        while let Some(id) = sparse_segment(shared) {
            if budget == 0 {
                done.more = true;
                break;
            }
            if !self.compact(id, &mut budget, &mut done)? {
                break;
            }
        }
        Ok(done)
    }

    fn purge(&self, now: TimestampMs, done: &mut Maintained) -> Result<(), WriteError> {
        let retention = self.shared().config.trash_retention.as_millis();
        let retention_ms = u64::try_from(retention).unwrap_or(u64::MAX);
        let Some(until_ms) = now.0.checked_sub(retention_ms) else {
            return Ok(());
        };
        let (cids, superseded) = {
            let state = read(&self.shared().state);
            let expired = state.trash.iter().filter(|(_, at_ms)| **at_ms <= until_ms);
            let cids: Vec<Cid> = expired.map(|(cid, _)| *cid).take(PURGE_MAX).collect();
            (cids, !state.superseded.is_empty())
        };
        if cids.is_empty() && !superseded {
            return Ok(());
        }
        done.purged = cids.len();
        done.more |= cids.len() == PURGE_MAX;
        let (sender, receiver) = mpsc::sync_channel(1);
        self.push(Job::Purge {
            cids,
            until_ms,
            reply: Reply::Done(sender),
        });
        receiver
            .recv()
            .map_err(|_| WriteError::Closing)?
            .map(|_| ())
    }

    /// Moves what is in use out of a segment, as far as the budget goes; frees it when nothing is left. Returns
    /// whether it was freed.
    fn compact(
        &self,
        id: u32,
        budget: &mut u64,
        done: &mut Maintained,
    ) -> Result<bool, WriteError> {
        let shared = self.shared();
        let path = shared.paths.segment(id);
        let segment = shared
            .files
            .get(id, &shared.paths)
            .map_err(|error| WriteError::io("open", &path, error))?;
        let file_bytes = segment
            .file
            .len()
            .map_err(|error| WriteError::io("measure", &path, error))?;
        let found =
            scan(&segment, file_bytes).map_err(|error| WriteError::io("read", &path, error))?;
        let mut moves = Moves::default();
        for (offset, record) in &found.records {
            let from = Location {
                segment: id,
                offset: *offset,
            };
            let entry = read(&shared.state).index.get(&record.cid).copied();
            let Some(entry) = entry else { continue };
            if record.kind == Kind::State {
                if entry.stated() {
                    self.send(&mut moves, record.cid, Action::Restate, 0)?;
                }
                continue;
            }
            if entry.location() != from {
                continue;
            }
            let size = u64::from(entry.size());
            if *budget == 0 {
                moves.finish()?;
                done.more = true;
                return Ok(false);
            }
            *budget = budget.saturating_sub(size);
            let Some(content) = self.content(&entry)? else {
                continue;
            };
            self.send(&mut moves, record.cid, Action::Move { from, content }, size)?;
            done.moved_bytes += size;
            Counters::add(&shared.counters.compacted_bytes, size);
        }
        moves.finish()?;
        self.free(id, done)
    }

    /// A record's bytes for its move; `None` for a damaged one, which is marked and left where it is.
    fn content(&self, entry: &Entry) -> Result<Option<Content>, WriteError> {
        let shared = self.shared();
        let checked = match read_content(shared, entry, false) {
            Ok(checked) => checked,
            Err(ReadError::Io {
                action,
                path,
                source,
            }) => {
                return Err(WriteError::Io {
                    action,
                    path,
                    source,
                });
            }
            Err(ReadError::Corrupt { .. } | ReadError::Range { .. }) => None,
        };
        let Some(checked) = checked else {
            mark_suspect(shared, entry);
            return Ok(None);
        };
        if !checked.body_intact {
            mark_suspect(shared, entry);
            return Ok(None);
        }
        Ok(Some(Content {
            proof_sum: sum(&checked.proof),
            proof: checked.proof,
            body: vec![checked.body],
            body_bytes: entry.body_bytes,
        }))
    }

    fn send(
        &self,
        moves: &mut Moves,
        cid: Cid,
        action: Action,
        bytes: u64,
    ) -> Result<(), WriteError> {
        let (sender, receiver) = mpsc::sync_channel(1);
        self.push(Job::One {
            cid,
            action,
            reply: Reply::Done(sender),
            _permit: None,
        });
        moves.waiting.push(receiver);
        moves.bytes += bytes;
        if moves.bytes >= MOVE_BATCH_BYTES || moves.waiting.len() >= 1_024 {
            moves.finish()?;
        }
        Ok(())
    }

    /// Gives an emptied segment's file away. Returns whether it was empty.
    fn free(&self, id: u32, done: &mut Maintained) -> Result<bool, WriteError> {
        let shared = self.shared();
        let path = shared.paths.segment(id);
        let recycle = {
            let mut state = write(&shared.state);
            // A damaged shard is not ours to throw away: it stays, and keeps its segment, until repair replaces it.
            let Some(slot) = state.segments.get_mut(&id) else {
                return Ok(false);
            };
            if slot.live_bytes > 0 {
                slot.stuck = true;
                return Ok(false);
            }
            let whole = slot.file_bytes == shared.config.segment_bytes;
            state.segments.remove(&id);
            state.superseded.retain(|at| at.segment != id);
            whole && state.free.len() < shared.config.recycled_segments_max
        };
        shared.files.forget(id);
        // The segment goes first, for good, and only then what says which of its records are dead.
        let gone = if recycle {
            shared.disk.rename(&path, &shared.paths.free(id))
        } else {
            shared.disk.remove(&path)
        };
        gone.and_then(|()| shared.disk.sync_dir(&shared.paths.data))
            .map_err(|error| classify(shared, "free", &path, error))?;
        if recycle {
            write(&shared.state).free.push(id);
        }
        for path in [shared.paths.hint(id), shared.paths.dead(id)] {
            match shared.disk.remove(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(classify(shared, "remove", &path, error)),
            }
        }
        shared
            .disk
            .sync_dir(&shared.paths.metadata)
            .map_err(|error| classify(shared, "sync", &shared.paths.metadata, error))?;
        done.freed_segments += 1;
        Ok(true)
    }

    /// Reads and hashes shards from `cursor` on until `budget_bytes` have been read; at least one. Blocks.
    ///
    /// # Errors
    /// [`ReadError::Io`] when the disk does not answer.
    pub fn scrub_next(
        &self,
        cursor: ScrubCursor,
        budget_bytes: u64,
    ) -> Result<Scrubbed, ReadError> {
        let mut step = Scrubbed::default();
        let mut after = cursor.after;
        loop {
            let next = {
                let state = read(&self.shared().state);
                let next = state
                    .index
                    .after(after.as_ref())
                    .find(|entry| !entry.trashed());
                next.map(|entry| (entry.cid(), entry.size()))
            };
            let Some((cid, size)) = next else {
                return Ok(step);
            };
            after = Some(cid);
            match self.verify(&cid)? {
                crate::Verified::Corrupt => step.corrupt.push(cid),
                crate::Verified::Intact | crate::Verified::Missing => {}
            }
            step.shards += 1;
            step.bytes += u64::from(size);
            if step.bytes >= budget_bytes {
                step.next = Some(ScrubCursor { after });
                return Ok(step);
            }
        }
    }
}

/// Moves that the writer has not confirmed yet.
#[derive(Default)]
struct Moves {
    waiting: Vec<mpsc::Receiver<Result<bool, WriteError>>>,
    bytes: u64,
}

impl Moves {
    fn finish(&mut self) -> Result<(), WriteError> {
        self.bytes = 0;
        for receiver in std::mem::take(&mut self.waiting) {
            receiver.recv().map_err(|_| WriteError::Closing)??;
        }
        Ok(())
    }
}

/// The segment whose emptying wins most, if any is worth it.
fn sparse_segment(shared: &Shared) -> Option<u32> {
    let state = read(&shared.state);
    let candidates = || {
        state
            .segments
            .iter()
            .filter(|(_, slot)| slot.sealed && !slot.damaged)
            .filter(|(_, slot)| !slot.stuck || slot.live_bytes == 0)
    };
    let sparse = candidates()
        .filter(|(_, slot)| slot.live_bytes.saturating_mul(2) < slot.file_bytes)
        .min_by_key(|(_, slot)| slot.live_bytes);
    let short =
        || candidates().filter(|(_, slot)| slot.file_bytes < shared.config.segment_bytes / 2);
    let joined = || {
        (short().count() >= SHORT_SEGMENTS_MIN)
            .then(|| short().min_by_key(|(_, slot)| slot.live_bytes))
            .flatten()
    };
    sparse.or_else(joined).map(|(id, _)| *id)
}

fn write_hints(shared: &Shared, done: &mut Maintained) -> Result<(), WriteError> {
    let missing: Vec<u32> = {
        let state = read(&shared.state);
        let missing = state
            .segments
            .iter()
            .filter(|(_, slot)| slot.sealed && !slot.hinted && !slot.damaged);
        missing.map(|(id, _)| *id).take(HINTS_MAX + 1).collect()
    };
    done.more |= missing.len() > HINTS_MAX;
    for id in missing.into_iter().take(HINTS_MAX) {
        let path = shared.paths.segment(id);
        let io = |error| WriteError::io("read", &path, error);
        let segment = shared.files.get(id, &shared.paths).map_err(io)?;
        let end = read(&shared.state)
            .segments
            .get(&id)
            .map_or(0, |slot| slot.end);
        // Up to the last durable record: what lies behind is from an earlier use of the file.
        let found = scan(&segment, u64::from(end)).map_err(io)?;
        let damaged = !found.gaps.is_empty() || found.end != end;
        if !damaged {
            let hint = Hint {
                records: found.records,
                end,
            };
            write_hint(&*shared.disk, &shared.paths, id, &segment, &hint)
                .map_err(|error| classify(shared, "write", &shared.paths.hint(id), error))?;
            done.hints += 1;
        }
        if let Some(slot) = write(&shared.state).segments.get_mut(&id) {
            slot.hinted = !damaged;
            slot.damaged = damaged;
        }
    }
    Ok(())
}

/// A read-only disk may have been mounted anew: tries to make a file.
fn probe_read_only(shared: &Shared) -> Result<(), WriteError> {
    if !matches!(*lock(&shared.health), Health::ReadOnly(_)) {
        return Ok(());
    }
    let probe = shared.paths.temp("probe");
    shared
        .disk
        .open(&probe, Mode::Create)
        .and_then(|_| shared.disk.remove(&probe))
        .map_err(|error| classify(shared, "write", &probe, error))?;
    let mut health = lock(&shared.health);
    if matches!(*health, Health::ReadOnly(_)) {
        tracing::info!("the disk is writable again");
        *health = Health::Writable;
    }
    Ok(())
}
