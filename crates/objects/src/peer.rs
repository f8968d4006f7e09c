//! The port to one storage node, as the write and read paths use it.

use std::future::Future;
use std::ops::Range;

use bytes::Bytes;
use domain::{Cid, ShardTag};

/// Why a node did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// It does not hold the shard.
    #[error("the node does not hold this shard")]
    NotFound,
    /// It holds the shard, but its own copy is damaged.
    #[error("the node's copy of this shard is damaged")]
    Corrupt,
    /// It could not be reached, or did not answer in time.
    #[error("the node is out of reach: {0}")]
    Unavailable(String),
    /// It answered that it will not: full, read-only, poisoned.
    #[error("the node refused: {0}")]
    Refused(String),
    /// Its answer made no sense.
    #[error("the node misbehaved: {0}")]
    Misbehaved(String),
}

/// A shard's bytes, or a part of them.
#[derive(Debug, Clone, Default)]
pub struct ShardBytes {
    /// The chunk proof that lies beside the shard, when it was asked for and is there.
    pub proof: Option<Bytes>,
    /// The bytes, in order.
    pub body: Vec<Bytes>,
}

impl ShardBytes {
    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> usize {
        self.body.iter().map(Bytes::len).sum()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes in one piece; copies only when there is more than one frame.
    #[must_use]
    pub fn contiguous(&self) -> Bytes {
        match self.body.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            frames => frames.concat().into(),
        }
    }
}

/// A shard in a node's listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedShard {
    /// Its CID.
    pub cid: Cid,
    /// Why it is there.
    pub tag: ShardTag,
    /// Its length in bytes.
    pub size_bytes: u32,
}

/// What a node says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Shards that it holds.
    pub shards: u64,
    /// Bytes that it uses, trash included.
    pub used_bytes: u64,
    /// Bytes of deleted shards that can still be restored.
    pub trash_bytes: u64,
    /// Bytes that it can still take.
    pub free_bytes: u64,
    /// Shards that it found damaged and that were not replaced or deleted since.
    pub damaged: u64,
    /// Why it takes no writes, if it does not.
    pub read_only: Option<String>,
}

/// One storage node. Every call ends by itself (implementations have deadlines).
pub trait ShardPeer: Clone + Send + Sync + 'static {
    /// Stores a shard; resolves when it is durable there. Idempotent.
    fn put(
        &self,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
    ) -> impl Future<Output = Result<(), PeerError>> + Send;
    /// Reads a shard or columns of it; whoever decrypts checks the content.
    fn get(
        &self,
        cid: Cid,
        columns: Option<Range<u32>>,
        want_proof: bool,
    ) -> impl Future<Output = Result<ShardBytes, PeerError>> + Send;
    /// Deletes shards (into the node's trash). Shards that are not there count as deleted.
    fn delete(&self, cid: Cid) -> impl Future<Output = Result<(), PeerError>> + Send;
    /// Re-reads a shard on the node: whether it is there and hashes to its CID. [`PeerError::Corrupt`] when it is there and
    /// does not.
    fn holds(&self, cid: Cid) -> impl Future<Output = Result<bool, PeerError>> + Send;
    /// Its small or recovery records of epochs before `epoch_below`, by CID, after `after`, at most 1,000.
    fn list_records(
        &self,
        recovery: bool,
        epoch_below: u64,
        after: Option<Cid>,
    ) -> impl Future<Output = Result<Vec<ListedShard>, PeerError>> + Send;
    /// Shards after `after` that it found damaged and that were not replaced or deleted since, in the order of their CIDs, at
    /// most `limit` (1 to 10,000).
    fn damaged(
        &self,
        after: Option<Cid>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<Cid>, PeerError>> + Send;
    /// Its counters; also the liveness probe.
    fn stats(&self) -> impl Future<Output = Result<PeerStats, PeerError>> + Send;
}
