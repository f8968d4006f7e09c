//! What a node does when it is asked, the same whether it is asked over a raw route or over gRPC: who may, within
//! which bounds, and what is counted.

use std::collections::BTreeSet;
use std::future::Future;
use std::ops::{Bound, Range};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::limits::SHARD_BYTES_MAX;
use domain::{Cid, NodeId, ShardTag};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use transport::protocol::PROOF_BYTES_MAX;
use transport::{Clock, ListFilter, Peer, Refusal, Role, ShardState, ShardSummary, Stored};
use wire::grpc::BATCH_MAX;

use crate::body::with_room;
use crate::config::NodeLimits;
use crate::metrics::{Metrics, Operation, StorageGauges};
use crate::storage::{Refused, Scrubbed, Shard, Storage, StorageStats};

/// Budgets are counted in KiB: a semaphore's count must fit 32 bits on every machine.
const ROOM_UNIT_BYTES: usize = 1 << 10;
/// A read that took longer than this was not answered from memory (4 MiB are copied in well under 1 ms).
const WARM_READ_MAX: Duration = Duration::from_millis(2);
/// Reads that go to the threads after one that the disk answered.
const COLD_READS: u32 = 64;
/// Damaged shards that are remembered until they are replaced.
const DAMAGED_MAX: usize = 10_000;
/// A body and a proof of the largest size.
const ROOM_MAX_BYTES: usize = SHARD_BYTES_MAX + PROOF_BYTES_MAX;

/// A running node: the store, its bounds and its counters.
pub struct Operations<S> {
    store: Arc<S>,
    clock: Clock,
    node_id: NodeId,
    limits: NodeLimits,
    write_room: Arc<Semaphore>,
    read_room: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    /// Reads that go to the threads before one is tried in place again.
    cold_reads: AtomicU32,
    corrupt: AtomicU64,
    /// Damaged shards that nobody has replaced or deleted yet.
    damaged: Mutex<BTreeSet<Cid>>,
    scrubbed: AtomicU64,
    /// The node's counters.
    pub metrics: Metrics,
}

impl<S: Storage> Operations<S> {
    /// A node over `store`.
    #[must_use]
    pub fn new(
        store: S,
        node_id: NodeId,
        clock: Clock,
        limits: NodeLimits,
        metrics: Metrics,
    ) -> Self {
        let room = |bytes: usize| Arc::new(Semaphore::new(units(bytes.max(ROOM_MAX_BYTES))));
        Self {
            store: Arc::new(store),
            clock,
            node_id,
            write_room: room(limits.write_bytes),
            read_room: room(limits.read_bytes),
            reading: Arc::new(Semaphore::new(limits.reads.max(1))),
            limits,
            cold_reads: AtomicU32::new(0),
            corrupt: AtomicU64::new(0),
            damaged: Mutex::default(),
            scrubbed: AtomicU64::new(0),
            metrics,
        }
    }

    /// The bounds.
    pub fn limits(&self) -> &NodeLimits {
        &self.limits
    }

    /// SHA-256 of the node's public key.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Room for a shard that is about to arrive; held until it is durable.
    pub async fn write_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        self.room(&self.write_room, bytes).await
    }

    /// Room for an answer; held until it has been sent.
    pub async fn read_room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Refused> {
        self.room(&self.read_room, bytes).await
    }

    async fn room(
        &self,
        room: &Arc<Semaphore>,
        bytes: usize,
    ) -> Result<OwnedSemaphorePermit, Refused> {
        let wanted = u32::try_from(units(bytes.min(ROOM_MAX_BYTES))).unwrap_or(u32::MAX);
        match timeout(self.limits.wait, room.clone().acquire_many_owned(wanted)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Refused::new(Refusal::Busy, "too many bytes in flight")),
        }
    }

    /// Stores a shard.
    pub async fn put(
        &self,
        peer: &Peer,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
    ) -> Result<Stored, Refused> {
        gateway_only(peer)?;
        let bytes: usize = body.iter().map(Bytes::len).sum();
        if bytes > SHARD_BYTES_MAX || proof.len() > PROOF_BYTES_MAX {
            return Err(Refused::new(
                Refusal::TooLarge,
                "a shard or proof beyond the bound",
            ));
        }
        let stored = self.store.put(cid, tag, proof, body).await?;
        self.no_longer_damaged(&cid);
        Ok(stored)
    }

    /// Reads a shard or a range of it. The returned bytes hold their room until they are sent.
    pub async fn get(
        &self,
        _peer: &Peer,
        cid: Cid,
        range: Option<Range<u32>>,
        want_proof: bool,
    ) -> Result<Shard, Refused> {
        // How large it is shows only after the read: so few read at once, and each gets room before the next may.
        let reading = match timeout(self.limits.wait, self.reading.clone().acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(Refused::new(Refusal::Busy, "too many reads")),
        };
        let found = self.read(cid, range, want_proof).await?;
        let mut shard = match found {
            Ok(Some(shard)) => shard,
            Ok(None) => return Err(Refused::new(Refusal::NotFound, "")),
            Err(refused) => {
                if refused.reason == Refusal::Corrupt {
                    self.found_corrupt(&cid, "a read");
                }
                return Err(refused);
            }
        };
        let proof_bytes = shard.proof.as_ref().map_or(0, Bytes::len);
        let room = self.read_room(shard.body.len() + proof_bytes).await?;
        drop(reading);
        shard.body = with_room(shard.body, room);
        Ok(shard)
    }

    /// Reads in place while the disk's cache answers: handing a warm read to a thread and back costs more than the read
    /// (30 us of processor time for 6 KB). One that took long shows that the disk itself was asked; then the next ones
    /// go to the threads, so that a cold disk stops everybody else once in many reads and not each time.
    async fn read(
        &self,
        cid: Cid,
        range: Option<Range<u32>>,
        want_proof: bool,
    ) -> Result<Result<Option<Shard>, Refused>, Refused> {
        let cold = self.cold_reads.load(Ordering::Relaxed);
        if cold > 0 {
            self.cold_reads.store(cold - 1, Ordering::Relaxed);
            return self
                .blocking(move |store| store.get(&cid, range, want_proof))
                .await;
        }
        let started = Instant::now();
        let work = AssertUnwindSafe(|| self.store.get(&cid, range, want_proof));
        let found = std::panic::catch_unwind(work).map_err(|_| {
            tracing::error!("a storage read panicked");
            Refused::new(Refusal::Internal, "the node's storage failed")
        });
        if started.elapsed() > WARM_READ_MAX {
            self.cold_reads.store(COLD_READS, Ordering::Relaxed);
        }
        found
    }

    /// Re-reads a shard from the disk and checks it.
    pub async fn verify(&self, _peer: &Peer, cid: Cid) -> Result<ShardState, Refused> {
        let _reading = match timeout(self.limits.wait, self.reading.clone().acquire_owned()).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) | Err(_) => return Err(Refused::new(Refusal::Busy, "too many reads")),
        };
        let state = self.blocking(move |store| store.verify(&cid)).await??;
        if state == ShardState::Corrupt {
            self.found_corrupt(&cid, "a verify");
        }
        Ok(state)
    }

    /// Moves a shard into the trash.
    pub async fn delete(&self, peer: &Peer, cid: Cid) -> Result<bool, Refused> {
        gateway_only(peer)?;
        let existed = self.store.delete(cid, self.clock.now()).await?;
        self.no_longer_damaged(&cid);
        Ok(existed)
    }

    /// Takes a shard out of the trash.
    pub async fn restore(&self, peer: &Peer, cid: Cid) -> Result<bool, Refused> {
        gateway_only(peer)?;
        self.store.restore(cid).await
    }

    /// Which of these are held.
    pub fn has(&self, _peer: &Peer, cids: &[Cid]) -> Result<Vec<bool>, Refused> {
        if cids.len() > BATCH_MAX {
            return Err(Refused::new(
                Refusal::TooLarge,
                format!("more than {BATCH_MAX} shards asked for"),
            ));
        }
        Ok(self.store.has(cids))
    }

    /// Lists shards.
    pub async fn list(
        &self,
        peer: &Peer,
        after: Option<Cid>,
        filter: ListFilter,
        limit: usize,
    ) -> Result<Vec<ShardSummary>, Refused> {
        gateway_only(peer)?;
        if limit == 0 || limit > BATCH_MAX {
            return Err(Refused::new(
                Refusal::Malformed,
                format!("the limit is not from 1 to {BATCH_MAX}"),
            ));
        }
        self.blocking(move |store| store.list(after.as_ref(), filter, limit))
            .await
    }

    /// Capacity, use and health.
    pub fn stats(&self, peer: &Peer) -> Result<StorageStats, Refused> {
        gateway_only(peer)?;
        Ok(self.store.stats())
    }

    /// Capacity, use and health, for the node itself.
    pub fn own_stats(&self) -> StorageStats {
        self.store.stats()
    }

    /// Shards after `after` that were found damaged and not replaced or deleted since, the lowest CIDs first.
    pub fn list_damaged(
        &self,
        peer: &Peer,
        after: Option<Cid>,
        limit: usize,
    ) -> Result<Vec<Cid>, Refused> {
        gateway_only(peer)?;
        if limit == 0 || limit > BATCH_MAX {
            return Err(Refused::new(
                Refusal::Malformed,
                format!("the limit is not from 1 to {BATCH_MAX}"),
            ));
        }
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let damaged = self.damaged();
        let rest = damaged.range((from, Bound::Unbounded));
        Ok(rest.take(limit).copied().collect())
    }

    /// How many of them.
    pub fn damaged_count(&self) -> u64 {
        u64::try_from(self.damaged().len()).unwrap_or(u64::MAX)
    }

    fn damaged(&self) -> MutexGuard<'_, BTreeSet<Cid>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn no_longer_damaged(&self, cid: &Cid) {
        self.damaged().remove(cid);
    }

    /// Shards found corrupted since the start.
    pub fn corrupt_count(&self) -> u64 {
        self.corrupt.load(Ordering::Relaxed)
    }

    /// What the metrics show of the store.
    pub fn gauges(&self) -> StorageGauges {
        let stats = self.store.stats();
        StorageGauges {
            total_bytes: stats.total_bytes,
            used_bytes: stats.used_bytes,
            shard_count: stats.shard_count,
            trash_bytes: stats.trash_bytes,
            writable: stats.write_state == transport::WriteState::Open,
            corrupt_count: self.corrupt_count(),
            scrubbed_count: self.scrubbed.load(Ordering::Relaxed),
        }
    }

    /// One round of tidying up; `true` when there is more to do.
    pub async fn maintain(&self) -> Result<bool, Refused> {
        let now = self.clock.now();
        self.blocking(move |store| store.maintain(now)).await?
    }

    /// One step of the scrub.
    pub async fn scrub_next(&self) -> Result<Scrubbed, Refused> {
        let step = self.blocking(|store| store.scrub_next()).await??;
        self.scrubbed.fetch_add(step.shards, Ordering::Relaxed);
        for cid in &step.corrupt {
            self.found_corrupt(cid, "the scrub");
        }
        Ok(step)
    }

    /// Runs and counts one operation.
    pub async fn observed<T>(
        &self,
        operation: Operation,
        work: impl Future<Output = Result<T, Refused>>,
    ) -> Result<T, Refused> {
        let started = Instant::now();
        let result = work.await;
        let status = result
            .as_ref()
            .map_or_else(|refused| refused.reason.code(), |_| "ok");
        self.metrics.observe(operation, status, started.elapsed());
        result
    }

    /// Runs `work` where it may block; the number of such threads is bounded by the runtime.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&S) -> T + Send + 'static,
    ) -> Result<T, Refused> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store))
            .await
            .map_err(|error| {
                tracing::error!(%error, "a storage task failed");
                Refused::new(Refusal::Internal, "the node's storage failed")
            })
    }

    fn found_corrupt(&self, cid: &Cid, by: &'static str) {
        self.corrupt.fetch_add(1, Ordering::Relaxed);
        let mut damaged = self.damaged();
        // Beyond the bound the next scrub finds the others, when there is room.
        if damaged.len() < DAMAGED_MAX {
            damaged.insert(*cid);
        }
        drop(damaged);
        let id: String = cid.to_string().chars().take(16).collect();
        tracing::warn!(shard = %id, by, "a shard is corrupted and must be repaired from the others");
    }
}

/// A node obeys gateways; another node may read, nothing else.
fn gateway_only(peer: &Peer) -> Result<(), Refused> {
    match peer.role {
        Role::Gateway => Ok(()),
        Role::Node { .. } => Err(Refused::new(
            Refusal::NotPermitted,
            "a node may only read, for repair",
        )),
        Role::Validator => Err(Refused::new(
            Refusal::NotPermitted,
            "a validator has no business with shards",
        )),
    }
}

/// See [`gateway_only`]; used before a body is read.
pub(crate) fn may_write(peer: &Peer) -> Result<(), Refused> {
    gateway_only(peer)
}

fn units(bytes: usize) -> usize {
    bytes.div_ceil(ROOM_UNIT_BYTES)
}
