//! Work that no request waits for: probes, pending shards, deletions, uploads nobody finished, records nobody owns.
//!
//! Every loop is bounded per turn, keeps its place in metadata and so goes on where it was after a crash.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use crypto::chunk_proof::{ChunkProof, ChunkVerifier};
use domain::{Cid, ShardTag, TimestampMs};
use futures_util::StreamExt as _;
use objects::layout::NodeSlot;
use objects::metadata::{ChunkRow, Deletion, Metadata, MetadataError, PendingRecovery};
use objects::peer::{PeerError, ShardBytes, ShardPeer};

use crate::app::App;
use crate::http::answer::{Failure, read_failure};
use crate::peers::NodeState;
use crate::shard_io::read::ReadError;
use crate::store::SESSION_EPOCH;

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
/// How long a node may take to say whether it has a shard before another takes its place.
const SURVEY_PATIENCE: Duration = Duration::from_millis(750);
/// When the place that a shard was moved from is cleared: sends to it have ended by then.
pub(crate) const SUBSTITUTED_CLEAR_MS: u64 = 60_000;
/// Damaged shards of one node that are taken up per probe.
const FINDINGS_AT_ONCE: usize = 256;
/// Replaced versions let go of in one transaction.
const RELEASES_AT_ONCE: usize = 64;
/// Transactions of one kind per turn: beyond, the others have theirs first.
const TURNS_MAX: usize = 64;
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
                report("repairing what scrubs found", app.repair_findings().await);
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
                report("completing recovery records", app.place_recovery().await);
            }
        });
        let app = Arc::clone(self);
        tokio::spawn(async move {
            let mut tick = every(Duration::from_secs(1));
            loop {
                tick.tick().await;
                report("letting go of replaced versions", app.release_due().await);
                report(
                    "clearing records that nobody owns",
                    app.clear_unsettled().await,
                );
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
            let mut tick = every(Duration::from_secs(10));
            loop {
                tick.tick().await;
                report("undoing stale uploads", app.abort_stale().await);
                report("forgetting request nonces", app.forget_expired().await);
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
                if ready || self.spare_nodes(&pending.chunk).next().is_some() {
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
        let mut survey = self.survey(chunk, indices).await;
        let mut moved = chunk.clone();
        for &index in &survey.silent {
            // It does not say whether it has the shard: where there are more nodes, another takes its place.
            let Some(node) = self.substitute(&moved, index).await? else {
                continue;
            };
            if let Some(place) = moved.layout.shards.get_mut(usize::from(index)) {
                place.node = node;
                survey.missing.push(usize::from(index));
                self.metrics.substitutions.inc();
            }
        }
        let chunk = &moved;
        for index in survey.held {
            let place = chunk.layout.shards.get(usize::from(index));
            if let Some(place) = place {
                self.metadata
                    .shard_landed(chunk.id, index, place.node)
                    .await?;
                self.placed.notify_waiters();
            }
        }
        let missing = survey.missing;
        if missing.is_empty() {
            return Ok(());
        }
        let rebuilt = match self.reader.rebuilt_shards(chunk, &missing).await {
            Ok(rebuilt) => rebuilt,
            Err(error) => {
                if let ReadError::NotEnoughShards { lost, .. } = &error {
                    self.report_lost(chunk, lost, true).await;
                }
                return Err(error.into());
            }
        };
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
            self.placed.notify_waiters();
            self.metrics.repairs.inc();
        }
        Ok(())
    }

    /// Asks the nodes of some shards whether they have them. Re-read there, not just looked up: a shard may be pending
    /// because its copy is damaged.
    async fn survey(&self, chunk: &ChunkRow, indices: &[u8]) -> Survey {
        let asked = indices.iter().map(|&index| async move {
            let place = chunk.layout.shards.get(usize::from(index))?;
            let peer = self.peers.get(place.node)?;
            if !peer.writable() {
                return Some((index, Err(PeerError::Unavailable(String::new()))));
            }
            let held = tokio::time::timeout(SURVEY_PATIENCE, peer.client.holds(place.cid));
            let mut held = match held.await {
                Ok(held) => {
                    peer.note(&held);
                    held
                }
                // Slow is not gone: the probe decides that.
                Err(_) => Err(PeerError::Unavailable(String::new())),
            };
            if held == Err(PeerError::Corrupt) {
                held = peer.client.delete(place.cid).await.map(|()| false);
            }
            Some((index, held))
        });
        let mut survey = Survey::default();
        for (index, held) in futures_util::future::join_all(asked)
            .await
            .into_iter()
            .flatten()
        {
            match held {
                Ok(true) => survey.held.push(index),
                Ok(false) => survey.missing.push(usize::from(index)),
                Err(_) => survey.silent.push(index),
            }
        }
        survey
    }

    /// Nodes that take writes and hold nothing of the chunk, those first that placement prefers.
    fn spare_nodes(&self, chunk: &ChunkRow) -> impl Iterator<Item = NodeSlot> {
        let taken = |node: NodeSlot| chunk.layout.shards.iter().any(|place| place.node == node);
        self.writer
            .order(&chunk.cid)
            .into_iter()
            .filter(move |&node| !taken(node))
    }

    /// Gives a shard another node, written down; none when there is no other, or all are still being cleared of it.
    async fn substitute(
        &self,
        chunk: &ChunkRow,
        index: u8,
    ) -> Result<Option<NodeSlot>, MetadataError> {
        let clear_at = TimestampMs(self.now().0.saturating_add(SUBSTITUTED_CLEAR_MS));
        for node in self.spare_nodes(chunk) {
            let noted = self
                .metadata
                .substitute_node(chunk.id, index, node, clear_at);
            match noted.await {
                Ok(()) => return Ok(Some(node)),
                // The same bytes wait to be deleted there, or it landed meanwhile: the next turn sees that.
                Err(MetadataError::BeingDeleted | MetadataError::Exists(_)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// Brings recovery records that stopped at their quorum to five copies.
    ///
    /// # Errors
    /// Those of metadata; whatever was placed before stays placed.
    pub async fn place_recovery(&self) -> Result<(), MetadataError> {
        let mut after = 0;
        let mut waiting = 0;
        loop {
            let batch = self.metadata.pending_recovery(after, BATCH).await?;
            waiting += batch.len();
            let Some(last) = batch.last().map(|pending| pending.record.id) else {
                break;
            };
            after = last;
            let work = batch.into_iter().map(|pending| async move {
                if let Err(error) = self.place_copies(&pending).await {
                    tracing::warn!(record = pending.record.id, %error, "copies stay pending");
                }
            });
            futures_util::stream::iter(work)
                .buffer_unordered(CONCURRENCY)
                .collect::<Vec<()>>()
                .await;
        }
        self.metrics
            .pending_recovery
            .set(i64::try_from(waiting).unwrap_or(i64::MAX));
        Ok(())
    }

    async fn place_copies(
        &self,
        pending: &PendingRecovery,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let record = &pending.record;
        let survey = self.survey(record, &record.pending).await;
        for index in survey.held {
            self.metadata.recovery_landed(record.id, index).await?;
        }
        if survey.missing.is_empty() {
            return Ok(());
        }
        let epoch = if pending.session {
            SESSION_EPOCH
        } else {
            self.epoch
        };
        let rebuilt = self.reader.rebuilt_shards(record, &survey.missing).await?;
        for (&index, bytes) in survey.missing.iter().zip(rebuilt.shards) {
            let Some(place) = record.layout.shards.get(index) else {
                continue;
            };
            let Some(peer) = self.peers.get(place.node) else {
                continue;
            };
            let tag = ShardTag::Recovery { epoch };
            let put = peer.client.put(place.cid, tag, Bytes::new(), vec![bytes]);
            let put = put.await;
            peer.note(&put);
            put?;
            let index = u8::try_from(index).unwrap_or(u8::MAX);
            self.metadata.recovery_landed(record.id, index).await?;
            self.metrics.repairs.inc();
        }
        Ok(())
    }

    /// Has what the nodes' own scrubs found damaged rebuilt, some of each node at a time.
    ///
    /// # Errors
    /// Those of metadata.
    pub async fn repair_findings(&self) -> Result<(), MetadataError> {
        for peer in self.peers.iter() {
            if !peer.reachable() || peer.stats().damaged == 0 {
                continue;
            }
            let cursor = || {
                let cursor = peer.findings_after.lock();
                cursor.unwrap_or_else(PoisonError::into_inner)
            };
            let after = *cursor();
            let findings = peer.client.damaged(after, FINDINGS_AT_ONCE).await;
            peer.note(&findings);
            let Ok(findings) = findings else { continue };
            // Those that cannot be mended (the disk is read-only) must not hide the others: after the last, from the start.
            let next = (findings.len() >= FINDINGS_AT_ONCE).then(|| findings.last().copied());
            *cursor() = next.flatten();
            let asked: Vec<Cid> = findings.into_iter().take(FINDINGS_AT_ONCE).collect();
            let held = self
                .metadata
                .shards_lost_on(peer.slot, asked.clone())
                .await?;
            for (cid, held) in asked.into_iter().zip(held) {
                if held {
                    self.metrics.scrub_findings.inc();
                } else {
                    // Nothing needs it there: the node need not report it again.
                    let gone = peer.client.delete(cid).await;
                    peer.note(&gone);
                }
            }
            self.pending_work.notify_one();
        }
        Ok(())
    }

    /// Lets go of replaced versions whose grace is over.
    ///
    /// # Errors
    /// Those of metadata.
    pub async fn release_due(&self) -> Result<(), MetadataError> {
        for _ in 0..TURNS_MAX {
            if self
                .metadata
                .release_due(self.now(), RELEASES_AT_ONCE)
                .await?
                == 0
            {
                break;
            }
        }
        Ok(())
    }

    /// Deletes records that were stored and then neither committed nor refused, unless they were committed after all.
    ///
    /// # Errors
    /// Those of metadata; the records are asked about again later.
    pub async fn clear_unsettled(&self) -> Result<(), MetadataError> {
        let ready = self.unsettled.ready(BATCH);
        if ready.is_empty() {
            return Ok(());
        }
        let disowned = self.metadata.disown(ready.clone(), self.now()).await;
        if disowned.is_err() {
            self.unsettled.put_back(ready);
        }
        disowned
    }

    /// Forgets nonces and answers that nobody can ask for any more.
    ///
    /// # Errors
    /// Those of metadata.
    pub async fn forget_expired(&self) -> Result<(), MetadataError> {
        let before = TimestampMs(self.now().0.saturating_sub(NONCE_KEPT_MS));
        for _ in 0..TURNS_MAX {
            if self.metadata.expire_nonces(before).await? == 0 {
                break;
            }
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
            if self.metadata.abort_if_stale(upload, before, now).await? {
                tracing::info!(%upload, "stale upload undone");
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

    /// A failed read of chunk `n` as an answer; what it found missing is rebuilt where that is still possible.
    pub(crate) async fn read_failed(
        &self,
        n: u32,
        chunk: &ChunkRow,
        corrupt: bool,
        error: ReadError,
    ) -> Failure {
        if let ReadError::NotEnoughShards { lost, .. } = &error {
            self.report_lost(chunk, lost, corrupt).await;
        }
        read_failure(n, error)
    }

    /// Notes shards that a read found missing or corrupt, so that they are rebuilt.
    pub async fn report_lost(&self, chunk: &ChunkRow, lost: &[u8], corrupt: bool) {
        for &index in lost {
            if corrupt {
                // The survey has its node read it again, and lets go of it if it is the copy that is bad.
                self.metrics.corrupt_shards.inc();
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

/// What the nodes of some shards say.
#[derive(Default)]
struct Survey {
    /// They are there, intact.
    held: Vec<u8>,
    /// They are not.
    missing: Vec<usize>,
    /// Their nodes do not say, or take no writes.
    silent: Vec<u8>,
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
