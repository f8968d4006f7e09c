//! The shipped storage: [`shards::ShardStore`] behind the node's port.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use domain::{Cid, ShardTag, TimestampMs};
use shards::{
    ReadError, ScrubCursor, ShardStore, StoreConfig, TagFilter, TagKind, Verified, WriteError,
};
use transport::{ListFilter, Refusal, ShardState, ShardSummary, Stored, WriteState};

use crate::config::NodeConfig;
use crate::storage::{Refused, Scrubbed, Shard, Storage, StorageStats};

/// A shard store on this machine's disk.
pub struct Store {
    shards: Arc<ShardStore>,
    reserve_bytes: u64,
    capacity_bytes: Option<u64>,
    scrub: Mutex<ScrubCursor>,
}

impl Store {
    /// Opens the store of a node, making it when it is not there.
    ///
    /// # Errors
    /// [`shards::OpenError`].
    pub fn open(config: &NodeConfig) -> Result<Self, shards::OpenError> {
        let store = StoreConfig {
            segment_bytes: config.segment_bytes,
            reserve_bytes: config.reserve_bytes,
            capacity_bytes: config.capacity_bytes,
            trash_retention: config.trash_retention,
            ..StoreConfig::new(&config.data_dir)
        };
        let (shards, report) = ShardStore::open(store, config.clock.now())?;
        tracing::info!(
            shards = report.shards,
            trashed = report.trashed,
            segments = report.segments,
            dropped_bytes = report.dropped_bytes,
            "the shard store is open"
        );
        if report.damaged_segments > 0 {
            tracing::error!(
                segments = report.damaged_segments,
                bytes = report.damaged_bytes,
                "parts of the shard store cannot be read: look at this disk"
            );
        }
        Ok(Self {
            shards: Arc::new(shards),
            reserve_bytes: config.reserve_bytes,
            capacity_bytes: config.capacity_bytes,
            scrub: Mutex::default(),
        })
    }

    /// Deletes and restores wait for a sync.
    async fn waiting(
        &self,
        work: impl FnOnce(&ShardStore) -> Result<bool, WriteError> + Send + 'static,
    ) -> Result<bool, Refused> {
        let shards = self.shards.clone();
        match tokio::task::spawn_blocking(move || work(&shards)).await {
            Ok(done) => done.map_err(not_written),
            Err(error) => {
                tracing::error!(%error, "a storage task failed");
                Err(Refused::new(Refusal::Internal, "the node's storage failed"))
            }
        }
    }
}

impl Storage for Store {
    async fn put(
        &self,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
    ) -> Result<Stored, Refused> {
        match self.shards.put(cid, tag, proof, body).await {
            Ok(shards::Stored::New) => Ok(Stored { already: false }),
            Ok(shards::Stored::Already) => Ok(Stored { already: true }),
            Err(error) => Err(not_written(error)),
        }
    }

    fn get(
        &self,
        cid: &Cid,
        range: Option<Range<u32>>,
        want_proof: bool,
    ) -> Result<Option<Shard>, Refused> {
        let found = self.shards.get(cid, range, want_proof).map_err(not_read)?;
        Ok(found.map(|shard| Shard {
            tag: shard.tag,
            total_bytes: shard.total_bytes,
            proof: shard.proof.filter(|proof| !proof.is_empty()),
            body: shard.body,
        }))
    }

    fn verify(&self, cid: &Cid) -> Result<ShardState, Refused> {
        match self.shards.verify(cid).map_err(not_read)? {
            Verified::Intact => Ok(ShardState::Intact),
            Verified::Corrupt => Ok(ShardState::Corrupt),
            Verified::Missing => Ok(ShardState::Missing),
        }
    }

    async fn delete(&self, cid: Cid, now: TimestampMs) -> Result<bool, Refused> {
        self.waiting(move |shards| shards.delete(&cid, now)).await
    }

    async fn restore(&self, cid: Cid) -> Result<bool, Refused> {
        self.waiting(move |shards| Ok(shards.restore(&cid)? || shards.has(&[cid]) == [true]))
            .await
    }

    fn has(&self, cids: &[Cid]) -> Vec<bool> {
        self.shards.has(cids)
    }

    fn list(&self, after: Option<&Cid>, filter: ListFilter, limit: usize) -> Vec<ShardSummary> {
        let kind = filter
            .kind
            .and_then(|kind| match ShardTag::from_parts(kind, 0)? {
                ShardTag::Chunk => Some(TagKind::Chunk),
                ShardTag::Small { .. } => Some(TagKind::Small),
                ShardTag::Recovery { .. } => Some(TagKind::Recovery),
            });
        let listed = match (kind, filter.epoch_below) {
            (Some(kind), epoch_below) => {
                let filter = TagFilter { kind, epoch_below };
                self.shards.list(after.copied(), Some(filter), limit)
            }
            (None, None) => self.shards.list(after.copied(), None, limit),
            (None, Some(below)) => self.list_below(after.copied(), below, limit),
        };
        listed
            .into_iter()
            .map(|(cid, tag, total_bytes)| ShardSummary {
                cid,
                tag,
                total_bytes,
            })
            .collect()
    }

    fn stats(&self) -> StorageStats {
        let stats = self.shards.stats();
        let room = stats.disk_free_bytes.saturating_sub(self.reserve_bytes);
        let disk_bytes = stats.segment_bytes.saturating_add(room);
        let total_bytes = self
            .capacity_bytes
            .map_or(disk_bytes, |capacity| capacity.min(disk_bytes));
        let full = stats.disk_free_bytes < self.reserve_bytes
            || self
                .capacity_bytes
                .is_some_and(|capacity| stats.segment_bytes >= capacity);
        let (write_state, write_state_detail) = match (stats.poisoned, stats.writable) {
            (Some(reason), _) => (WriteState::Poisoned, reason),
            (None, Ok(())) => (WriteState::Open, String::new()),
            (None, Err(reason)) if full => (WriteState::Full, reason),
            (None, Err(reason)) => (WriteState::ReadOnly, reason),
        };
        StorageStats {
            total_bytes,
            used_bytes: stats.live_bytes.saturating_add(stats.trash_bytes),
            live_bytes: stats.live_bytes,
            disk_free_bytes: stats.disk_free_bytes,
            shard_count: count(stats.shards),
            trash_count: count(stats.trashed),
            trash_bytes: stats.trash_bytes,
            write_state,
            write_state_detail,
        }
    }

    fn maintain(&self, now: TimestampMs) -> Result<bool, Refused> {
        Ok(self.shards.maintain(now).map_err(not_written)?.more)
    }

    fn scrub_next(&self) -> Result<Scrubbed, Refused> {
        let mut cursor = self.scrub.lock().unwrap_or_else(PoisonError::into_inner);
        // One byte of budget is one shard: the pace is the caller's.
        let step = self.shards.scrub_next(*cursor, 1).map_err(not_read)?;
        *cursor = step.next.unwrap_or_default();
        Ok(Scrubbed {
            shards: count(step.shards),
            corrupt: step.corrupt,
            pass_done: step.next.is_none(),
        })
    }
}

impl Store {
    /// Shards of every kind below an epoch, in order.
    fn list_below(&self, mut after: Option<Cid>, below: u64, limit: usize) -> Vec<shards::Listed> {
        let mut found = Vec::new();
        loop {
            let page = self.shards.list(after, None, limit);
            let last = page.len() < limit;
            after = page.last().map(|(cid, ..)| *cid);
            found.extend(
                page.into_iter()
                    .filter(|(_, tag, _)| tag.to_parts().1 < below),
            );
            if last || found.len() >= limit {
                found.truncate(limit);
                return found;
            }
        }
    }
}

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// The peer gets a code and a sentence; paths and system errors stay in the node's log.
fn not_written(error: WriteError) -> Refused {
    match error {
        WriteError::WrongContent { .. } => Refused::new(Refusal::CidMismatch, error.to_string()),
        WriteError::TooLarge { .. } => Refused::new(Refusal::TooLarge, error.to_string()),
        WriteError::DiskFull { .. } | WriteError::CapacityReached { .. } => {
            Refused::new(Refusal::Full, error.to_string())
        }
        WriteError::ReadOnly { .. } => Refused::new(Refusal::ReadOnly, error.to_string()),
        WriteError::Poisoned { .. } => Refused::new(Refusal::Poisoned, error.to_string()),
        WriteError::Closing => Refused::new(Refusal::Busy, "the node is shutting down"),
        WriteError::Io { .. } => {
            tracing::error!(%error, "a write failed");
            Refused::new(Refusal::Internal, "the node's disk failed")
        }
    }
}

fn not_read(error: ReadError) -> Refused {
    match error {
        ReadError::Range { .. } => Refused::new(Refusal::BadRange, error.to_string()),
        ReadError::Corrupt { .. } => Refused::new(Refusal::Corrupt, "the stored shard is damaged"),
        ReadError::Io { .. } => {
            tracing::error!(%error, "a read failed");
            Refused::new(Refusal::Internal, "the node's disk failed")
        }
    }
}
