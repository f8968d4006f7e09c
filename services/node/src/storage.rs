//! The port to whatever keeps the shards. The shipped node uses [`shards::ShardStore`]; tests put failing stores in
//! its place.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use transport::{ListFilter, Refusal, ShardState, ShardSummary, Stored, WriteState};

/// Why something was not done: a code for the caller's program and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct Refused {
    /// The code.
    pub reason: Refusal,
    /// The sentence; it tells the peer nothing about this machine.
    pub detail: String,
}

impl Refused {
    /// A refusal.
    pub fn new(reason: Refusal, detail: impl Into<String>) -> Self {
        Self {
            reason,
            detail: detail.into(),
        }
    }
}

/// A stored shard, or a range of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shard {
    /// Why it is here.
    pub tag: ShardTag,
    /// Bytes of the whole shard, without proof.
    pub total_bytes: u32,
    /// The chunk proof, when asked for and kept.
    pub proof: Option<Bytes>,
    /// The bytes asked for.
    pub body: Bytes,
}

/// The store's account of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageStats {
    /// Bytes that it may use.
    pub total_bytes: u64,
    /// Bytes that it uses, trash included.
    pub used_bytes: u64,
    /// Bytes of shards that are held.
    pub live_bytes: u64,
    /// Bytes free on its disk.
    pub disk_free_bytes: u64,
    /// Shards held.
    pub shard_count: u64,
    /// Shards in the trash.
    pub trash_count: u64,
    /// Their bytes.
    pub trash_bytes: u64,
    /// Whether it takes writes.
    pub write_state: WriteState,
    /// Why not; empty when it does.
    pub write_state_detail: String,
}

/// What one step of the scrub did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Shards that were re-read.
    pub shards: u64,
    /// Those found damaged.
    pub corrupt: Vec<Cid>,
    /// Every shard has been re-read since the pass began; the next step begins a new pass.
    pub pass_done: bool,
}

/// Keeps shards. What is not a future blocks and is called on a thread where it may.
pub trait Storage: Send + Sync + 'static {
    /// Stores a shard; resolves when it is durable. Checks that the bytes hash to the CID.
    fn put(
        &self,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
    ) -> impl Future<Output = Result<Stored, Refused>> + Send;

    /// Reads a shard or a range of it; `None` when it is not held. Blocks on the disk.
    ///
    /// # Errors
    /// [`Refused`] when the range is outside the shard, or the copy is damaged.
    fn get(
        &self,
        cid: &Cid,
        range: Option<Range<u32>>,
        want_proof: bool,
    ) -> Result<Option<Shard>, Refused>;

    /// Re-reads a shard from the disk and checks it. Blocks on the disk.
    ///
    /// # Errors
    /// [`Refused`] when the disk fails.
    fn verify(&self, cid: &Cid) -> Result<ShardState, Refused>;

    /// Moves a shard into the trash; `false` when it is not held.
    fn delete(
        &self,
        cid: Cid,
        now: TimestampMs,
    ) -> impl Future<Output = Result<bool, Refused>> + Send;

    /// Takes a shard out of the trash; `false` when it is not there. A shard that never left counts as restored.
    fn restore(&self, cid: Cid) -> impl Future<Output = Result<bool, Refused>> + Send;

    /// Which of these are held.
    fn has(&self, cids: &[Cid]) -> Vec<bool>;

    /// Shards after `after` in the order of their CIDs.
    fn list(&self, after: Option<&Cid>, filter: ListFilter, limit: usize) -> Vec<ShardSummary>;

    /// Its account of itself.
    fn stats(&self) -> StorageStats;

    /// One bounded round of tidying up: empties the trash, takes back space; `true` when there is more to do. Blocks on
    /// the disk.
    ///
    /// # Errors
    /// [`Refused`] when the disk fails.
    fn maintain(&self, now: TimestampMs) -> Result<bool, Refused>;

    /// Re-reads the next shards, few of them. Blocks on the disk.
    ///
    /// # Errors
    /// [`Refused`] when the disk fails.
    fn scrub_next(&self) -> Result<Scrubbed, Refused>;
}
