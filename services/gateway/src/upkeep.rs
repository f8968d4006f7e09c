//! Work that no request waits for: probes, pending shards, deletions, uploads nobody finished, records nobody owns.
//!
//! Every loop is bounded per turn, keeps its place in metadata and so goes on where it was after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crypto::chunk_proof::{ChunkProof, ChunkVerifier};
use domain::{Cid, ShardTag, TimestampMs};
use futures_util::StreamExt as _;
use objects::layout::NodeSlot;
use objects::metadata::{ChunkRow, Deletion, Metadata, MetadataError, Mutation};
use objects::peer::{PeerError, ShardBytes, ShardPeer};

use crate::app::App;
use crate::peers::NodeState;

/// Chunks looked at per turn.
const BATCH: usize = 256;
/// Chunks worked on at once.
const CONCURRENCY: usize = 8;
/// How long a record must be without a row before it counts as nobody's.
const ORPHAN_AGE: Duration = Duration::from_secs(180);
/// Pages of a node's listing that are read, of 1,000 records each.
const ORPHAN_PAGES_MAX: usize = 100_000;
/// Nonces are kept for this long after their signature ended: a request that began in time may commit later.
const NONCE_KEPT_MS: u64 = 15 * 60 * 1_000;
/// A deletion whose node does not answer is tried again after this.
const DELETION_RETRY_MS: u64 = 60_000;

impl App {
    /// Starts all loops; they end with the process.
    pub fn spawn_upkeep(self: &Arc<Self>) {
        let every = |period: Duration| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            interval
        };
        let app = Arc::clone(self);
        let mut probes = every(self.config.probe_interval);
        tokio::spawn(async move {
            loop {
                probes.tick().await;
                app.probe_all().await;
            }
        });
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let mut tick = every(Duration::from_secs(2));
            loop {
                tokio::select! {
                    _ = tick.tick() => {}
                    // Stragglers of a fresh write land by themselves within moments: look a little later.
                    () = app.pending_work.notified() => tokio::time::sleep(Duration::from_millis(150)).await,
                }
                report("placing pending shards", app.place_pending().await);
            }
        });
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let mut tick = every(Duration::from_secs(1));
            loop {
                tick.tick().await;
                report("deleting shards", app.delete_due().await);
            }
        });
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let removed = app.remove_orphans().await;
            report("removing records of an ended start", removed);
        });
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let mut tick = every(Duration::from_secs(30));
            loop {
                tick.tick().await;
                report("undoing stale uploads", app.abort_stale().await);
                report(
                    "forgetting request nonces",
                    app.metadata
                        .expire_nonces(TimestampMs(app.now().0.saturating_sub(NONCE_KEPT_MS)))
                        .await
                        .map(|_| ()),
                );
                if let Err(error) = app.credentials.reload() {
                    tracing::error!(%error, "cannot take a renewed certificate; the present one stays");
                }
            }
        });
    }

    /// Probes every node once, at the same time.
    pub async fn probe_all(&self) {
        let deadline = self.config.probe_interval.min(Duration::from_secs(2));
        let probes = self.peers.iter().map(|peer| peer.probe(deadline));
        futures_util::future::join_all(probes).await;
        for state in [NodeState::Online, NodeState::Warning, NodeState::Offline] {
            let count = self
                .peers
                .iter()
                .filter(|peer| peer.state() == state)
                .count();
            self.metrics
                .nodes
                .with_label_values(&[state.as_str()])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Brings pending shards to their nodes: those that have landed meanwhile are noted, the others rebuilt from k
    /// verified shards.
    ///
    /// # Errors
    /// Those of metadata; whatever was placed before stays placed.
    pub async fn place_pending(&self) -> Result<(), MetadataError> {
        let mut after = 0;
        loop {
            let batch = self.metadata.pending_shards(after, BATCH).await?;
            let Some(last) = batch.iter().map(|pending| pending.chunk.id).max() else {
                return Ok(());
            };
            after = last;
            let mut chunks: BTreeMap<i64, (ChunkRow, bool, Vec<u8>)> = BTreeMap::new();
            for pending in batch {
                let place = pending.chunk.layout.shards.get(usize::from(pending.index));
                let ready = place
                    .and_then(|place| self.peers.get(place.node))
                    .is_some_and(|peer| peer.writable());
                if ready {
                    chunks
                        .entry(pending.chunk.id)
                        .or_insert_with(|| (pending.chunk, pending.small, Vec::new()))
                        .2
                        .push(pending.index);
                }
            }
            let work = chunks
                .into_values()
                .map(|(chunk, small, wanted)| async move {
                    if let Err(error) = self.place_shards(&chunk, small, &wanted).await {
                        tracing::warn!(chunk = chunk.id, %error, "shards stay pending");
                    }
                });
            futures_util::stream::iter(work)
                .buffer_unordered(CONCURRENCY)
                .collect::<Vec<()>>()
                .await;
        }
    }

    async fn place_shards(
        &self,
        chunk: &ChunkRow,
        small: bool,
        indices: &[u8],
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let mut missing = Vec::new();
        for &index in indices {
            let Some(place) = chunk.layout.shards.get(usize::from(index)) else {
                continue;
            };
            let Some(peer) = self.peers.get(place.node) else {
                continue;
            };
            // Re-read there, not just looked up: a shard may be pending because its copy is damaged.
            let held = peer.client.holds(place.cid).await;
            peer.note(&held);
            match held {
                Ok(true) => {
                    self.metadata
                        .shard_landed(chunk.id, index, place.node)
                        .await?
                }
                Ok(false) => missing.push(usize::from(index)),
                Err(PeerError::Corrupt) => {
                    peer.client.delete(place.cid).await?;
                    missing.push(usize::from(index));
                }
                Err(_) => {}
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let rebuilt = self.reader.rebuilt_shards(chunk, &missing).await?;
        self.report_lost(chunk, &rebuilt.lost, true).await;
        let proof = self.checked_proof(chunk, small, rebuilt.proof).await?;
        let data = chunk.layout.profile.data();
        let tag = if small {
            ShardTag::Small { epoch: self.epoch }
        } else {
            ShardTag::Chunk
        };
        for (&index, bytes) in missing.iter().zip(rebuilt.shards) {
            let Some(place) = chunk.layout.shards.get(index) else {
                continue;
            };
            let Some(peer) = self.peers.get(place.node) else {
                continue;
            };
            let beside = index < data || data == 1;
            let proof = if beside { proof.clone() } else { Bytes::new() };
            let put = peer.client.put(place.cid, tag, proof, vec![bytes]).await;
            peer.note(&put);
            put?;
            let index = u8::try_from(index).unwrap_or(u8::MAX);
            self.metadata
                .shard_landed(chunk.id, index, place.node)
                .await?;
            self.metrics.repairs.inc();
        }
        Ok(())
    }

    /// The chunk proof that goes beside rebuilt shards: the one that a node gave if it is the chunk's, else made anew. A
    /// forged or rotten one must not spread.
    async fn checked_proof(
        &self,
        chunk: &ChunkRow,
        small: bool,
        found: Bytes,
    ) -> Result<Bytes, Box<dyn std::error::Error + Send + Sync>> {
        if small {
            return Ok(Bytes::new());
        }
        let length = usize::try_from(chunk.layout.chunk_bytes)?;
        if proof_holds(&chunk.cid, length, &found) {
            return Ok(found);
        }
        let whole = self.reader.verified_chunk(chunk).await?;
        let whole = ShardBytes {
            proof: None,
            body: whole.body,
        }
        .contiguous();
        Ok(ChunkProof::from_ciphertext(&whole)?.encode().into())
    }

    /// Carries out deletions that are due.
    ///
    /// # Errors
    /// Those of metadata.
    pub async fn delete_due(&self) -> Result<(), MetadataError> {
        loop {
            let now = self.now();
            let due = self.metadata.due_deletions(now, BATCH).await?;
            let full = due.len() == BATCH;
            let work = due
                .into_iter()
                .map(|deletion| self.delete_shards(deletion, now));
            let done: Vec<_> = futures_util::stream::iter(work)
                .buffer_unordered(CONCURRENCY)
                .collect()
                .await;
            done.into_iter().collect::<Result<Vec<()>, _>>()?;
            if !full {
                return Ok(());
            }
        }
    }

    async fn delete_shards(
        &self,
        deletion: Deletion,
        now: TimestampMs,
    ) -> Result<(), MetadataError> {
        let deletes = deletion.remaining.iter().map(|&index| {
            let place = deletion.layout.shards.get(usize::from(index));
            async move {
                let place = place?;
                let peer = self.peers.get(place.node)?;
                if !peer.reachable() {
                    return Some(index);
                }
                let result = peer.client.delete(place.cid).await;
                peer.note(&result);
                result.is_err().then_some(index)
            }
        });
        let remaining: Vec<u8> = futures_util::future::join_all(deletes)
            .await
            .into_iter()
            .flatten()
            .collect();
        let retry_at = TimestampMs(now.0.saturating_add(DELETION_RETRY_MS));
        self.metadata
            .deletion_progress(deletion.id, remaining, retry_at)
            .await
    }

    /// Undoes uploads that are older than their lifetime.
    ///
    /// # Errors
    /// Those of metadata.
    pub async fn abort_stale(&self) -> Result<(), MetadataError> {
        let now = self.now();
        let ttl = u64::try_from(self.config.upload_ttl.as_millis()).unwrap_or(u64::MAX);
        let before = TimestampMs(now.0.saturating_sub(ttl));
        for upload in self.metadata.stale_uploads(before, BATCH).await? {
            match self
                .metadata
                .abort_upload(upload, Mutation { now, nonce: None })
                .await
            {
                Ok(()) => tracing::info!(%upload, "stale upload undone"),
                Err(MetadataError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Removes small and recovery records that an earlier start of a gateway left on the nodes without a row in metadata
    /// (it died between the nodes' answer and the commit).
    ///
    /// Only records of starts that this very index knows of are looked at: an empty or restored database must not erase
    /// what it would be rebuilt from. And a record goes only when it is without a row twice, [`ORPHAN_AGE`] apart: another
    /// gateway on the same database may be about to commit it.
    ///
    /// # Errors
    /// Those of metadata.
    pub async fn remove_orphans(&self) -> Result<(), MetadataError> {
        let known: BTreeSet<u64> = self.metadata.epochs().await?.into_iter().collect();
        let mut suspects: Vec<(NodeSlot, Cid)> = Vec::new();
        for peer in self.peers.iter() {
            for recovery in [false, true] {
                let mut after: Option<Cid> = None;
                for _ in 0..ORPHAN_PAGES_MAX {
                    let listed = peer.client.list_records(recovery, self.epoch, after).await;
                    peer.note(&listed);
                    let Ok(listed) = listed else { break };
                    let Some(last) = listed.last() else { break };
                    if after.is_some_and(|after| last.cid <= after) {
                        tracing::error!(node = peer.slot.0, "node lists its records in circles");
                        break;
                    }
                    after = Some(last.cid);
                    let cids: Vec<Cid> = listed
                        .iter()
                        .filter(|shard| known.contains(&shard.tag.to_parts().1))
                        .map(|shard| shard.cid)
                        .collect();
                    let referenced = self.metadata.referenced_shards(&cids).await?;
                    suspects.extend(
                        cids.into_iter()
                            .zip(referenced)
                            .filter(|(_, referenced)| !referenced)
                            .map(|(cid, _)| (peer.slot, cid)),
                    );
                }
            }
        }
        if suspects.is_empty() {
            return Ok(());
        }
        tokio::time::sleep(ORPHAN_AGE).await;
        for batch in suspects.chunks(BATCH) {
            let cids: Vec<Cid> = batch.iter().map(|(_, cid)| *cid).collect();
            let referenced = self.metadata.referenced_shards(&cids).await?;
            for ((slot, cid), _) in batch.iter().zip(referenced).filter(|(_, held)| !held) {
                if let Some(peer) = self.peers.get(*slot)
                    && peer.client.delete(*cid).await.is_ok()
                {
                    tracing::info!(node = slot.0, "record without an index row removed");
                }
            }
        }
        Ok(())
    }

    /// Notes shards that a read found missing or corrupt, so that they are rebuilt.
    pub async fn report_lost(&self, chunk: &ChunkRow, lost: &[u8], corrupt: bool) {
        for &index in lost {
            if corrupt {
                self.metrics.corrupt_shards.inc();
                // A corrupt copy would count as held: the node must let go of it first.
                if let Some(place) = chunk.layout.shards.get(usize::from(index))
                    && let Some(peer) = self.peers.get(place.node)
                {
                    let result: Result<(), PeerError> = peer.client.delete(place.cid).await;
                    peer.note(&result);
                }
            }
            if let Err(error) = self.metadata.shard_lost(chunk.id, index).await {
                tracing::warn!(chunk = chunk.id, index, %error, "lost shard not noted");
            }
        }
        if !lost.is_empty() {
            self.pending_work.notify_one();
        }
    }
}

/// Whether `proof` is the chunk proof of the chunk `cid` of `length` bytes.
pub(crate) fn proof_holds(cid: &Cid, length: usize, proof: &[u8]) -> bool {
    ChunkProof::decode(proof).is_ok_and(|proof| ChunkVerifier::new(*cid, length, proof).is_ok())
}

fn report(what: &str, result: Result<(), MetadataError>) {
    if let Err(error) = result {
        tracing::warn!(%error, "{what} failed; it is tried again");
    }
}
