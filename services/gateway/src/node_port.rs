//! The port to a storage node, over the transport's client.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use domain::{Cid, ShardTag};
use objects::peer::{ListedShard, PeerError, PeerStats, ShardBytes, ShardPeer};
use transport::client::{Deadline, ListFilter, NodeClient, ShardState};
use transport::protocol::Refusal;

/// How long a read of a shard may take.
const READ: Duration = Duration::from_secs(10);
/// How long a durable write of a shard may take.
const WRITE: Duration = Duration::from_secs(30);
/// How long a control call may take.
const CONTROL: Duration = Duration::from_secs(10);
/// Listed shards per call.
const LIST_MAX: u32 = 1_000;

/// A node behind its client.
#[derive(Clone, Debug)]
pub struct NodePort(pub NodeClient);

fn within(time: Duration) -> Deadline {
    Deadline::now() + time
}

fn error(error: transport::PeerError) -> PeerError {
    use transport::PeerError as Theirs;
    match error {
        Theirs::NotFound => PeerError::NotFound,
        Theirs::Unavailable { detail } => PeerError::Unavailable(detail),
        Theirs::Timeout => PeerError::Unavailable("no answer in time".to_owned()),
        Theirs::Full { detail } => PeerError::Refused(format!("full: {detail}")),
        Theirs::Refused {
            reason: Refusal::Corrupt,
            ..
        } => PeerError::Corrupt,
        Theirs::Refused { reason, detail } => PeerError::Refused(format!("{reason}: {detail}")),
        Theirs::Misbehaved { detail } => PeerError::Misbehaved(detail),
    }
}

impl ShardPeer for NodePort {
    async fn put(
        &self,
        cid: Cid,
        tag: ShardTag,
        proof: Bytes,
        body: Vec<Bytes>,
    ) -> Result<(), PeerError> {
        self.0
            .put(cid, tag, proof, body, within(WRITE))
            .await
            .map(|_| ())
            .map_err(error)
    }

    async fn get(
        &self,
        cid: Cid,
        columns: Option<Range<u32>>,
        want_proof: bool,
    ) -> Result<ShardBytes, PeerError> {
        // An empty range cannot be said in HTTP, and needs no answer.
        if columns.as_ref().is_some_and(Range::is_empty) {
            return Ok(ShardBytes::default());
        }
        let read = self
            .0
            .get(cid, columns, want_proof, within(READ))
            .await
            .map_err(error)?;
        Ok(ShardBytes {
            proof: read.proof,
            body: read.body,
        })
    }

    async fn delete(&self, cid: Cid) -> Result<(), PeerError> {
        self.0
            .delete(cid, within(CONTROL))
            .await
            .map(|_| ())
            .map_err(error)
    }

    async fn holds(&self, cid: Cid) -> Result<bool, PeerError> {
        match self.0.verify(cid, within(READ)).await.map_err(error)? {
            ShardState::Intact => Ok(true),
            ShardState::Missing => Ok(false),
            ShardState::Corrupt => Err(PeerError::Corrupt),
        }
    }

    async fn list_records(
        &self,
        recovery: bool,
        epoch_below: u64,
        after: Option<Cid>,
    ) -> Result<Vec<ListedShard>, PeerError> {
        let (kind, _) = if recovery {
            ShardTag::Recovery { epoch: 0 }.to_parts()
        } else {
            ShardTag::Small { epoch: 0 }.to_parts()
        };
        let filter = ListFilter {
            kind: Some(kind),
            epoch_below: Some(epoch_below),
        };
        let listed = self
            .0
            .list(after, filter, LIST_MAX, within(CONTROL))
            .await
            .map_err(error)?;
        Ok(listed
            .into_iter()
            .map(|shard| ListedShard {
                cid: shard.cid,
                tag: shard.tag,
                size_bytes: shard.total_bytes,
            })
            .collect())
    }

    async fn damaged(&self, after: Option<Cid>, limit: usize) -> Result<Vec<Cid>, PeerError> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let answer = self.0.damaged(after, limit, within(CONTROL));
        answer.await.map_err(error)
    }

    async fn stats(&self) -> Result<PeerStats, PeerError> {
        let stats = self.0.stats(within(CONTROL)).await.map_err(error)?;
        let read_only = (stats.write_state != transport::protocol::WriteState::Open)
            .then(|| stats.write_state_detail.clone());
        Ok(PeerStats {
            shards: stats.shard_count,
            trash_bytes: stats.trash_bytes,
            used_bytes: stats.used_bytes,
            free_bytes: stats.total_bytes.saturating_sub(stats.used_bytes),
            damaged: stats.damaged_count,
            read_only,
        })
    }
}
