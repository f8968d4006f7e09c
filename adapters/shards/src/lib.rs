//! A storage node's shards on its disk: packed segments of our own, an index in memory, one writer thread.
//!
//! A put is acknowledged when it is durable: the writer drains its queue, writes everything with one `pwritev` into a
//! preallocated segment, calls `fdatasync` once and answers everybody. Reads take one `pread` and no lock while the
//! disk works. After a crash at any byte every acknowledged shard is there and what was torn is not. The bytes on disk
//! are described in the `format` module.
//!
//! What this crate does not do: it reads no clock (times are passed in), knows no chunks, objects or gateways, opens
//! no socket, and does not check on a read that a shard's bytes hash to its CID: whoever uses the bytes does that.
//! [`ShardStore::verify`] and [`ShardStore::scrub_next`] do it for a node on its own behalf.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use bytes::Bytes;
//! use domain::{Cid, ShardTag, TimestampMs};
//! use shards::{ShardStore, StoreConfig};
//!
//! let (store, report) = ShardStore::open(StoreConfig::new("node"), TimestampMs(0))?;
//! println!("{} shards", report.shards);
//! let cid = Cid::of_raw(b"shard");
//! store.put(cid, ShardTag::Chunk, Bytes::new(), vec![Bytes::from_static(b"shard")]).await?;
//! assert_eq!(store.get(&cid, None, false)?.map(|shard| shard.body), Some(Bytes::from_static(b"shard")));
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod disk;
mod error;
#[cfg(test)]
mod faults;
mod format;
mod index;
mod maintain;
mod queue;
mod recovery;
mod segment;
mod state;
mod store;
mod sync;
mod writer;

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use domain::{Cid, ShardTag};

pub use error::{OpenError, ReadError, WriteError};
pub use maintain::{Maintained, ScrubCursor, Scrubbed};
pub use store::ShardStore;

/// Bytes of a shard's body, at most: `domain::limits::SHARD_BYTES_MAX`.
pub const BODY_BYTES_MAX: u32 = {
    let bytes = domain::limits::SHARD_BYTES_MAX;
    assert!(bytes < 1 << 23, "a shard's size does not fit a record");
    #[expect(clippy::cast_possible_truncation, reason = "checked in the line above")]
    let bytes = bytes as u32;
    bytes
};

/// Bytes of a shard's proof, at most (64 KiB).
pub const PROOF_BYTES_MAX: u32 = 64 << 10;

/// Every decoder of what is on disk, without the sums that keep made-up bytes out, for fuzzing.
#[doc(hidden)]
pub fn decode_anything(bytes: &[u8]) {
    format::decode_anything(bytes);
}

/// How a store is opened. All sizes are in bytes.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The node's folder; `data`, `metadata` and `temp` in it belong to the store.
    pub dir: PathBuf,
    /// A segment is full at this size; 4 KiB to 1 GiB. A larger shard gets a segment of its own.
    pub segment_bytes: u64,
    /// A segment is preallocated in steps of this size, so that an idle platform takes little disk.
    pub preallocate_bytes: u64,
    /// Puts are refused when they would leave less than this free on the disk.
    pub reserve_bytes: u64,
    /// Puts are refused when segments would take more than this.
    pub capacity_bytes: Option<u64>,
    /// How long a deleted shard can be restored, at least.
    pub trash_retention: Duration,
    /// Bytes of shards that wait for the writer or are being written; a put beyond them waits.
    pub queue_bytes_max: usize,
    /// Segment files kept open.
    pub open_files_max: usize,
    /// Emptied segment files kept to be used again.
    pub recycled_segments_max: usize,
    /// Bytes that one maintenance run moves, at most (and one segment's worth of state records).
    pub maintain_bytes_max: u64,
}

impl StoreConfig {
    /// The defaults, in `dir`.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            ..Self::default()
        }
    }
}

impl Default for StoreConfig {
    /// 64 MiB segments in steps of 8 MiB, 1 GiB of reserve, no capacity, 7 days of trash, 16 MiB of queue, 256 open
    /// files, 4 recycled segments, 32 MiB moved by one maintenance run; the folder is the current one.
    fn default() -> Self {
        Self {
            dir: PathBuf::from("."),
            segment_bytes: 64 << 20,
            preallocate_bytes: 8 << 20,
            reserve_bytes: 1 << 30,
            capacity_bytes: None,
            trash_retention: Duration::from_secs(7 * 24 * 3_600),
            queue_bytes_max: 16 << 20,
            open_files_max: 256,
            recycled_segments_max: 4,
            maintain_bytes_max: 32 << 20,
        }
    }
}

/// What [`ShardStore::open`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Shards that are served.
    pub shards: usize,
    /// Shards in the trash.
    pub trashed: usize,
    /// Segments with records.
    pub segments: usize,
    /// Segments that were read because they had no hint: the last one after a crash.
    pub scanned_segments: usize,
    /// Records of the last, never acknowledged batch that did not reach the disk whole.
    pub torn_records: usize,
    /// Bytes cut off behind the last record: a torn tail, or preallocated space.
    pub dropped_bytes: u64,
    /// Segments with parts that cannot be read. A human should look at that disk.
    pub damaged_segments: usize,
    /// Bytes of such parts.
    pub damaged_bytes: u64,
}

/// Whether a put wrote anything. Durable in both cases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// The shard was written.
    New,
    /// It was there before; its tag is now the given one.
    Already,
}

/// A shard as it was read: unchecked bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Why it is here.
    pub tag: ShardTag,
    /// Bytes of the whole body, whatever range was read.
    pub total_bytes: u32,
    /// The proof that was stored with it, if it was asked for; may be empty.
    pub proof: Option<Bytes>,
    /// The body, or the asked range of it.
    pub body: Bytes,
}

/// What [`ShardStore::verify`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verified {
    /// Header, proof and body are what was stored.
    Intact,
    /// They are not. From now on the shard is not served, `has` denies it, and a put replaces it.
    Corrupt,
    /// Not stored, or in the trash.
    Missing,
}

/// A choice of shards by why they are here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TagFilter {
    /// The kind.
    pub kind: TagKind,
    /// Only epochs below this one (chunks have epoch 0).
    pub epoch_below: Option<u64>,
}

/// The kinds of [`ShardTag`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TagKind {
    /// [`ShardTag::Chunk`].
    Chunk,
    /// [`ShardTag::Small`].
    Small,
    /// [`ShardTag::Recovery`].
    Recovery,
}

impl TagFilter {
    /// Whether `tag` is chosen.
    #[must_use]
    pub fn matches(&self, tag: ShardTag) -> bool {
        let kind = match tag {
            ShardTag::Chunk => TagKind::Chunk,
            ShardTag::Small { .. } => TagKind::Small,
            ShardTag::Recovery { .. } => TagKind::Recovery,
        };
        let (_, epoch) = tag.to_parts();
        kind == self.kind && self.epoch_below.is_none_or(|below| epoch < below)
    }
}

/// A listed shard: its CID, its tag, and the bytes of its body.
pub type Listed = (Cid, ShardTag, u32);

/// The store at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Shards that are served.
    pub shards: usize,
    /// Shards in the trash.
    pub trashed: usize,
    /// Bytes of records of served shards.
    pub live_bytes: u64,
    /// Bytes of records in the trash.
    pub trash_bytes: u64,
    /// Bytes of segment files, preallocated and recycled ones included.
    pub segment_bytes: u64,
    /// Segment files.
    pub segments: usize,
    /// Bytes free on the disk; 0 when the disk does not say.
    pub disk_free_bytes: u64,
    /// Bytes of memory behind the index.
    pub index_memory_bytes: usize,
    /// Syncs since the store was opened.
    pub syncs: u64,
    /// Bytes of records written since the store was opened.
    pub bytes_written: u64,
    /// Bytes that compaction moved since the store was opened.
    pub compacted_bytes: u64,
    /// Damaged shards found since the store was opened.
    pub corrupt_found: u64,
    /// Why no more writes are taken until a restart.
    pub poisoned: Option<String>,
    /// Whether a put would be taken now, or why not.
    pub writable: Result<(), String>,
}
