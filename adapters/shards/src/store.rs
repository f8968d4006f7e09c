//! The handle.

use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use tokio::sync::{Semaphore, oneshot};

use crate::disk::{Disk, OsDisk};
use crate::error::{OpenError, ReadError, WriteError};
use crate::format::{Kind, RECORD_HEADER_BYTES, Record, sum};
use crate::index::Entry;
use crate::queue::{Action, Content, Job, Reply};
use crate::recovery::{Recovered, recover};
use crate::segment::OpenSegment;
use crate::state::{Counters, Health, Shared};
use crate::sync::{lock, read, write};
use crate::writer::Writer;
use crate::{
    BODY_BYTES_MAX, Listed, PROOF_BYTES_MAX, RecoveryReport, Shard, Stats, StoreConfig, Stored,
    TagFilter, Verified,
};

/// A range that starts within this many bytes of its record is read together with the header.
const NEAR_BYTES: u32 = 32 << 10;
/// How often a read starts again because compaction moved its shard meanwhile.
const MOVES_MAX: usize = 16;
/// The queue is counted in these.
const PERMIT_BYTES: usize = 1_024;
/// BLAKE3 is fastest on aligned pieces of at least this size.
const PIECE_BYTES: usize = 64 << 10;

/// An open shard store. Cloning is cheap; the last clone to be dropped waits until everything that was queued is done.
#[derive(Clone)]
pub struct ShardStore {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    /// Bounds the bytes that wait or are being written.
    permits: Arc<Semaphore>,
    permits_max: u32,
    writer: Option<JoinHandle<()>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the shard store's writer panicked");
        }
    }
}

impl ShardStore {
    /// Opens the store in `config.dir`, making it when it is not there.
    ///
    /// A read-only disk is no error: what is on it is served, and [`Stats::writable`] says why puts are refused.
    ///
    /// # Errors
    /// [`OpenError`]: a wrong configuration, another process in the folder, a newer format, a failing disk.
    pub fn open(
        config: StoreConfig,
        now: TimestampMs,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        Self::open_on(config, now, Arc::new(OsDisk))
    }

    pub(crate) fn open_on(
        config: StoreConfig,
        now: TimestampMs,
        disk: Arc<dyn Disk>,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let dir = config.dir.clone();
        let permits = config
            .queue_bytes_max
            .div_ceil(PERMIT_BYTES)
            .clamp(1, Semaphore::MAX_PERMITS);
        let Recovered {
            shared,
            report,
            next_id,
        } = recover(config, disk)?;
        let shared = Arc::new(shared);
        let writer = Writer::new(Arc::clone(&shared), next_id);
        let writer = std::thread::Builder::new()
            .name("shards".into())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::io("start a thread for", &dir, error))?;
        tracing::info!(?report, now_ms = now.0, dir = %dir.display(), "shard store open");
        let handle = Handle {
            shared,
            permits: Arc::new(Semaphore::new(permits)),
            permits_max: u32::try_from(permits).unwrap_or(u32::MAX),
            writer: Some(writer),
        };
        Ok((
            Self {
                handle: Arc::new(handle),
            },
            report,
        ))
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// Stores a shard: `body` is its frames in order, `proof` whatever is to be served beside it (may be empty).
    ///
    /// The CID is checked here, before the future is returned, on the calling thread (about 100 us for 420 KiB). The
    /// future waits for room in the queue and resolves when the shard is durable. Dropping it leaves open whether the
    /// shard is stored. A shard that is there already is not written again; its tag becomes `tag`. One that is in the
    /// trash or was found damaged is written anew.
    ///
    /// # Errors
    /// [`WriteError`]: content or size wrong, disk full or read-only, store poisoned.
    pub fn put(
        &self,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
    ) -> impl Future<Output = Result<Stored, WriteError>> + Send + 'static {
        let content = self.check(&cid, proof, body);
        let handle = Arc::clone(&self.handle);
        async move {
            let content = content?;
            let bytes = content.proof.len() + content.body.iter().map(Bytes::len).sum::<usize>();
            let wanted = u32::try_from(bytes.div_ceil(PERMIT_BYTES).max(1)).unwrap_or(u32::MAX);
            // A shard larger than the whole queue takes all of it.
            let wanted = wanted.min(handle.permits_max);
            let permit = Arc::clone(&handle.permits)
                .acquire_many_owned(wanted)
                .await
                .map_err(|_| WriteError::Closing)?;
            let (sender, receiver) = oneshot::channel();
            handle.shared.queue.push(Job::One {
                cid,
                action: Action::Put { tag, content },
                reply: Reply::Put(sender),
                _permit: Some(permit),
            });
            receiver.await.map_err(|_| WriteError::Closing)?
        }
    }

    fn check(&self, cid: &Cid, proof: Bytes, body: Vec<Bytes>) -> Result<Content, WriteError> {
        self.handle.shared.check_writable()?;
        let size = |frames: &[Bytes]| frames.iter().map(Bytes::len).sum::<usize>();
        let limit = |what, bytes: usize, bytes_max: u32| {
            u32::try_from(bytes)
                .ok()
                .filter(|bytes| *bytes <= bytes_max)
                .ok_or(WriteError::TooLarge {
                    what,
                    bytes: u64::try_from(bytes).unwrap_or(u64::MAX),
                    bytes_max: bytes_max.into(),
                })
        };
        limit("proof", proof.len(), PROOF_BYTES_MAX)?;
        let body_bytes = limit("shard", size(&body), BODY_BYTES_MAX)?;
        if digest(&body) != *cid.digest() {
            return Err(WriteError::WrongContent { cid: *cid });
        }
        Ok(Content {
            proof_sum: sum(&proof),
            proof,
            body,
            body_bytes,
        })
    }

    /// Reads a shard, or `range` of its body; `None` when it is not stored or in the trash. Blocks.
    ///
    /// The record's header is checked, its bytes are not.
    ///
    /// # Errors
    /// [`ReadError`]: a range outside the shard, a record that is known or seen to be damaged, a failing disk.
    pub fn get(
        &self,
        cid: &Cid,
        range: Option<Range<u32>>,
        want_proof: bool,
    ) -> Result<Option<Shard>, ReadError> {
        let shared = self.shared();
        let mut last = None;
        for _ in 0..MOVES_MAX {
            let entry = read(&shared.state).index.get(cid).copied();
            let Some(entry) = entry.filter(|entry| !entry.trashed()) else {
                return Ok(None);
            };
            if entry.suspect() {
                return Err(ReadError::Corrupt { cid: *cid });
            }
            let range = range.clone().unwrap_or(0..entry.body_bytes);
            if range.start > range.end || range.end > entry.body_bytes {
                let total_bytes = entry.body_bytes;
                return Err(ReadError::Range {
                    start: range.start,
                    end: range.end,
                    total_bytes,
                });
            }
            let result = read_shard(shared, &entry, range, want_proof);
            // The segment may have been emptied and written over while it was read; only now it is known that not.
            if shared.segment_in_use(entry.segment) {
                if matches!(result, Err(ReadError::Corrupt { .. })) {
                    mark_suspect(shared, &entry);
                }
                return result.map(Some);
            }
            last = Some(result);
        }
        // Sixteen compactions within one read do not happen; if they do, the last answer is an error to its caller.
        match last {
            Some(Err(error)) => Err(error),
            _ => Err(ReadError::Corrupt { cid: *cid }),
        }
    }

    /// Reads a shard's whole record from the disk, past the page cache, and checks all of it. Blocks.
    ///
    /// # Errors
    /// [`ReadError::Io`] when the disk does not answer.
    pub fn verify(&self, cid: &Cid) -> Result<Verified, ReadError> {
        let shared = self.shared();
        for _ in 0..MOVES_MAX {
            let entry = read(&shared.state).index.get(cid).copied();
            let Some(entry) = entry.filter(|entry| !entry.trashed()) else {
                return Ok(Verified::Missing);
            };
            let result = read_content(shared, &entry, true);
            if !shared.segment_in_use(entry.segment) {
                continue;
            }
            return match result? {
                Some(content) if content.intact => Ok(Verified::Intact),
                _ => {
                    mark_suspect(shared, &entry);
                    Ok(Verified::Corrupt)
                }
            };
        }
        Ok(Verified::Missing)
    }

    /// Moves a shard into the trash: not served any more, `restore` undoes it until the retention has passed and
    /// maintenance has run. Returns whether it was stored. Blocks until that is durable: not for async code.
    ///
    /// # Errors
    /// [`WriteError`]. Possible on a full disk as long as a few KiB are left.
    pub fn delete(&self, cid: &Cid, now: TimestampMs) -> Result<bool, WriteError> {
        self.run(cid, Action::Delete { at_ms: now.0 })
    }

    /// Brings a shard back from the trash. Returns whether it was there. Blocks until that is durable.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn restore(&self, cid: &Cid) -> Result<bool, WriteError> {
        self.run(cid, Action::Restore)
    }

    fn run(&self, cid: &Cid, action: Action) -> Result<bool, WriteError> {
        self.shared().check_writable()?;
        let (sender, receiver) = mpsc::sync_channel(1);
        self.push(Job::One {
            cid: *cid,
            action,
            reply: Reply::Done(sender),
            _permit: None,
        });
        receiver.recv().map_err(|_| WriteError::Closing)?
    }

    pub(crate) fn push(&self, job: Job) {
        self.handle.shared.queue.push(job);
    }

    /// Which of `cids` are stored, not in the trash and not known to be damaged, in the same order.
    #[must_use]
    pub fn has(&self, cids: &[Cid]) -> Vec<bool> {
        let state = read(&self.shared().state);
        let served = |entry: &Entry| !entry.trashed() && !entry.suspect();
        cids.iter()
            .map(|cid| state.index.get(cid).is_some_and(served))
            .collect()
    }

    /// Up to `limit` shards in order of CID, those after `after` only, without the trash.
    #[must_use]
    pub fn list(&self, after: Option<Cid>, filter: Option<TagFilter>, limit: usize) -> Vec<Listed> {
        let state = read(&self.shared().state);
        state
            .index
            .after(after.as_ref())
            .filter(|entry| !entry.trashed())
            .filter(|entry| filter.is_none_or(|filter| filter.matches(entry.tag())))
            .take(limit)
            .map(|entry| (entry.cid(), entry.tag(), entry.body_bytes))
            .collect()
    }

    /// Counts and conditions. Asks the disk for its free space, nothing more.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let shared = self.shared();
        let free = shared.disk.free_bytes(&shared.paths.data);
        let health = lock(&shared.health).clone();
        let state = read(&shared.state);
        let segment_bytes = state.segment_bytes(shared.config.segment_bytes);
        let reserve = shared.config.reserve_bytes;
        let writable = match (&health, &free) {
            (Health::Poisoned(reason) | Health::ReadOnly(reason), _) => Err(reason.to_string()),
            (Health::Writable, Err(error)) => {
                Err(format!("the disk does not say how much is free: {error}"))
            }
            (Health::Writable, Ok(free)) if *free < reserve => Err(format!(
                "the disk is full: {free} bytes free, {reserve} kept in reserve"
            )),
            (Health::Writable, Ok(_)) => match shared.config.capacity_bytes {
                Some(capacity) if segment_bytes >= capacity => {
                    Err(format!("the capacity of {capacity} bytes is used up"))
                }
                _ => Ok(()),
            },
        };
        Stats {
            shards: state.index.len() - state.trash.len(),
            trashed: state.trash.len(),
            live_bytes: state.live_bytes,
            trash_bytes: state.trash_bytes,
            segment_bytes,
            segments: state.segments.len(),
            disk_free_bytes: free.unwrap_or(0),
            index_memory_bytes: state.index.memory_bytes(),
            syncs: Counters::get(&shared.counters.syncs),
            bytes_written: Counters::get(&shared.counters.bytes_written),
            compacted_bytes: Counters::get(&shared.counters.compacted_bytes),
            corrupt_found: Counters::get(&shared.counters.corrupt_found),
            poisoned: match health {
                Health::Poisoned(reason) => Some(reason.to_string()),
                Health::Writable | Health::ReadOnly(_) => None,
            },
            writable,
        }
    }
}

/// BLAKE3 of the frames one after the other. Frames are hashed where they lie; only pieces that straddle a border of
/// 64 KiB are gathered first, because the hash is less than half as fast from odd positions.
fn digest(frames: &[Bytes]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    let mut gathered: Vec<u8> = Vec::new();
    let last = frames.len().saturating_sub(1);
    for (number, frame) in frames.iter().enumerate() {
        let mut rest: &[u8] = frame;
        if !gathered.is_empty() {
            let (head, tail) = rest.split_at(rest.len().min(PIECE_BYTES - gathered.len()));
            gathered.extend_from_slice(head);
            rest = tail;
            if gathered.len() == PIECE_BYTES {
                hasher.update(&gathered);
                gathered.clear();
            }
        }
        if gathered.is_empty() {
            let whole = if number == last {
                rest.len()
            } else {
                rest.len() - rest.len() % PIECE_BYTES
            };
            let (head, tail) = rest.split_at(whole);
            hasher.update(head);
            rest = tail;
        }
        gathered.extend_from_slice(rest);
    }
    hasher.update(&gathered);
    *hasher.finalize().as_bytes()
}

fn open_segment(shared: &Shared, id: u32) -> Result<OpenSegment, ReadError> {
    shared
        .files
        .get(id, &shared.paths)
        .map_err(|error| ReadError::io("open", &shared.paths.segment(id), error))
}

/// Reads from `offset`; a file that ends too early is damaged, not a failure of the disk.
fn read_bytes(
    shared: &Shared,
    segment: &OpenSegment,
    entry: &Entry,
    offset: u32,
    len: u32,
) -> Result<Bytes, ReadError> {
    let mut bytes = Vec::new();
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    match segment.file.read(offset.into(), len, &mut bytes) {
        Ok(()) => Ok(bytes.into()),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(ReadError::Corrupt { cid: entry.cid() })
        }
        Err(error) => Err(ReadError::io(
            "read",
            &shared.paths.segment(entry.segment),
            error,
        )),
    }
}

fn header_matches(bytes: &[u8], segment: &OpenSegment, entry: &Entry) -> bool {
    Record::decode(bytes, &segment.key).is_some_and(|record| {
        record.kind == Kind::Shard
            && record.cid == entry.cid()
            && record.body_bytes == entry.body_bytes
            && record.proof_bytes == entry.proof_bytes()
    })
}

fn read_shard(
    shared: &Shared,
    entry: &Entry,
    range: Range<u32>,
    want_proof: bool,
) -> Result<Shard, ReadError> {
    let segment = open_segment(shared, entry.segment)?;
    let proof_end = RECORD_HEADER_BYTES + entry.proof_bytes();
    let len = range.end - range.start;
    let near = proof_end + range.start <= NEAR_BYTES || range.start == 0;
    let head_bytes = if near {
        proof_end + range.end
    } else if want_proof {
        proof_end
    } else {
        RECORD_HEADER_BYTES
    };
    let head = read_bytes(shared, &segment, entry, entry.offset, head_bytes)?;
    if !header_matches(&head, &segment, entry) {
        return Err(ReadError::Corrupt { cid: entry.cid() });
    }
    let cut = |from: u32, to: u32| {
        let [from, to] = [from, to].map(|at| usize::try_from(at).unwrap_or(usize::MAX));
        head.slice(from..to)
    };
    let body = if near {
        cut(proof_end + range.start, proof_end + range.end)
    } else {
        read_bytes(
            shared,
            &segment,
            entry,
            entry.offset + proof_end + range.start,
            len,
        )?
    };
    Ok(Shard {
        tag: entry.tag(),
        total_bytes: entry.body_bytes,
        proof: want_proof.then(|| cut(RECORD_HEADER_BYTES, proof_end)),
        body,
    })
}

/// A record read whole and checked.
pub(crate) struct Checked {
    pub(crate) proof: Bytes,
    pub(crate) body: Bytes,
    /// Header, proof and body are what was stored.
    pub(crate) intact: bool,
    /// The body alone is.
    pub(crate) body_intact: bool,
}

/// Reads a whole record; `None` when the file ends before it does.
pub(crate) fn read_content(
    shared: &Shared,
    entry: &Entry,
    past_cache: bool,
) -> Result<Option<Checked>, ReadError> {
    let segment = open_segment(shared, entry.segment)?;
    let size = entry.size();
    if past_cache {
        segment.file.forget(entry.offset.into(), size.into());
    }
    let len = RECORD_HEADER_BYTES + entry.proof_bytes() + entry.body_bytes;
    let bytes = match read_bytes(shared, &segment, entry, entry.offset, len) {
        Ok(bytes) => bytes,
        Err(ReadError::Corrupt { .. }) => return Ok(None),
        Err(error) => return Err(error),
    };
    if past_cache {
        // A scrub of the whole disk must not push out what clients read.
        segment.file.forget(entry.offset.into(), size.into());
    }
    let [header_end, proof_end] = [
        RECORD_HEADER_BYTES,
        RECORD_HEADER_BYTES + entry.proof_bytes(),
    ]
    .map(|at| usize::try_from(at).unwrap_or(usize::MAX));
    let proof = bytes.slice(header_end..proof_end);
    let body = bytes.slice(proof_end..);
    let body_intact = blake3::hash(&body) == *entry.cid().digest();
    let header = Record::decode(&bytes, &segment.key);
    let proof_intact = header.is_some_and(|record| record.proof_sum == sum(&proof));
    let intact = body_intact && proof_intact && header_matches(&bytes, &segment, entry);
    Ok(Some(Checked {
        proof,
        body,
        intact,
        body_intact,
    }))
}

/// Remembers that a shard is damaged, until it is put again or the store is opened again.
pub(crate) fn mark_suspect(shared: &Shared, entry: &Entry) {
    let mut state = write(&shared.state);
    if let Some(current) = state.index.get_mut(&entry.cid())
        && current.location() == entry.location()
        && !current.suspect()
    {
        current.set_suspect();
        Counters::add(&shared.counters.corrupt_found, 1);
        tracing::error!(cid = %entry.cid(), segment = entry.segment, offset = entry.offset, "a shard is damaged");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_any_size_hash_like_the_whole() {
        let whole: Vec<u8> = (0..300_000u32)
            .map(|at| at.to_le_bytes()[0] ^ at.to_le_bytes()[1])
            .collect();
        for sizes in [
            &[300_000][..],
            &[1, 65_535, 1],
            &[65_536],
            &[17_000],
            &[1_000, 200_000],
            &[0, 70_001],
        ] {
            let mut frames = Vec::new();
            let mut rest = whole.as_slice();
            for size in sizes.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (head, tail) = rest.split_at(rest.len().min(*size));
                frames.push(Bytes::copy_from_slice(head));
                rest = tail;
            }
            assert_eq!(
                digest(&frames),
                *blake3::hash(&whole).as_bytes(),
                "{sizes:?}"
            );
        }
        assert_eq!(digest(&[]), *blake3::hash(b"").as_bytes());
    }
}
