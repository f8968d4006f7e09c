//! Control calls: gRPC over the same connections.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use domain::{Cid, NodeId};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use tokio::time::timeout_at;
use tonic::Code;
use wire::grpc::v1::storage_service_client::StorageServiceClient;
use wire::grpc::{BATCH_MAX, MESSAGE_BYTES_MAX, cid_to_wire, tag_from_wire, v1};

use super::{Deadline, ListFilter, NodeClient, NodeStats, PeerError, ShardState, ShardSummary};
use crate::body::MessageBody;
use crate::protocol::{REQUEST_ID, WriteState};

/// A node client as the transport of generated gRPC code.
#[derive(Clone)]
struct Channel {
    client: NodeClient,
    deadline: Deadline,
}

impl tower_service::Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = PeerError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Incoming>, PeerError>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), PeerError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<tonic::body::Body>) -> Self::Future {
        if let Some(id) = &self.client.request_id {
            request.headers_mut().insert(REQUEST_ID, id.clone());
        }
        let connections = self.client.connections.clone();
        let deadline = self.deadline;
        Box::pin(async move {
            connections
                .call(request.map(MessageBody::Grpc), deadline)
                .await
        })
    }
}

impl NodeClient {
    /// Moves a shard into the node's trash; `false` when the node did not hold it.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn delete(&self, cid: Cid, deadline: Deadline) -> Result<bool, PeerError> {
        let request = v1::DeleteShardRequest {
            cid: cid_to_wire(&cid),
        };
        let answer = within(deadline, self.control(deadline).delete_shard(request)).await?;
        Ok(answer.existed)
    }

    /// Takes a shard back out of the trash; `false` when it is not there any more.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn restore(&self, cid: Cid, deadline: Deadline) -> Result<bool, PeerError> {
        let request = v1::RestoreShardRequest {
            cid: cid_to_wire(&cid),
        };
        let answer = within(deadline, self.control(deadline).restore_shard(request)).await?;
        Ok(answer.restored)
    }

    /// Makes the node re-read a shard from its disk and check it.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn verify(&self, cid: Cid, deadline: Deadline) -> Result<ShardState, PeerError> {
        let request = v1::VerifyShardRequest {
            cid: cid_to_wire(&cid),
        };
        let answer = within(deadline, self.control(deadline).verify_shard(request)).await?;
        match answer.state() {
            v1::ShardState::Intact => Ok(ShardState::Intact),
            v1::ShardState::Corrupt => Ok(ShardState::Corrupt),
            v1::ShardState::Missing => Ok(ShardState::Missing),
            v1::ShardState::Unspecified => Err(PeerError::misbehaved("a shard without a state")),
        }
    }

    /// Which of the shards the node holds, in the order asked. Asks in batches of 10,000.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn has(&self, cids: Vec<Cid>, deadline: Deadline) -> Result<Vec<bool>, PeerError> {
        let mut found = Vec::with_capacity(cids.len());
        for batch in cids.chunks(BATCH_MAX) {
            let request = v1::HasShardsRequest {
                cids: batch.iter().map(cid_to_wire).collect(),
            };
            let answer = within(deadline, self.control(deadline).has_shards(request)).await?;
            if answer.has.len() != batch.len() {
                return Err(PeerError::misbehaved("not one answer per shard"));
            }
            found.extend(answer.has);
        }
        Ok(found)
    }

    /// Up to `limit` (1 to 10,000) shards after `after` in the order of their CIDs; fewer mean the end.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn list(
        &self,
        after: Option<Cid>,
        filter: ListFilter,
        limit: u32,
        deadline: Deadline,
    ) -> Result<Vec<ShardSummary>, PeerError> {
        let request = v1::ListShardsRequest {
            after: after.as_ref().map(cid_to_wire).unwrap_or_default(),
            kind: filter.kind.map(i32::from),
            epoch_below: filter.epoch_below,
            limit,
        };
        let answer = within(deadline, self.control(deadline).list_shards(request)).await?;
        if answer.shards.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(PeerError::misbehaved("more shards than asked for"));
        }
        let mut previous = after;
        answer
            .shards
            .into_iter()
            .map(|entry| {
                let cid = Cid::from_bytes(&entry.cid).ok();
                let tag = tag_from_wire(entry.kind, entry.epoch);
                let (Some(cid), Some(tag)) = (cid, tag) else {
                    return Err(PeerError::misbehaved("a listed shard without name or tag"));
                };
                // A list that does not advance would keep its reader busy for ever.
                if previous.is_some_and(|previous| previous >= cid) {
                    return Err(PeerError::misbehaved("a list out of order"));
                }
                previous = Some(cid);
                Ok(ShardSummary {
                    cid,
                    tag,
                    total_bytes: entry.total_bytes,
                })
            })
            .collect()
    }

    /// Up to `limit` (1 to 10,000) shards after `after` that the node found damaged and that were not replaced or deleted since.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn damaged(
        &self,
        after: Option<Cid>,
        limit: u32,
        deadline: Deadline,
    ) -> Result<Vec<Cid>, PeerError> {
        let after = after.as_ref().map(cid_to_wire).unwrap_or_default();
        let request = v1::ListDamagedRequest { limit, after };
        let answer = within(deadline, self.control(deadline).list_damaged(request)).await?;
        if answer.cids.len() > usize::try_from(limit).unwrap_or(usize::MAX) {
            return Err(PeerError::misbehaved("more shards than asked for"));
        }
        answer
            .cids
            .iter()
            .map(|bytes| {
                Cid::from_bytes(bytes).map_err(|_| PeerError::misbehaved("a shard without a name"))
            })
            .collect()
    }

    /// Capacity, use and health; the liveness probe.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn stats(&self, deadline: Deadline) -> Result<NodeStats, PeerError> {
        let request = v1::GetStatsRequest {};
        let answer = within(deadline, self.control(deadline).get_stats(request)).await?;
        let write_state = match answer.write_state() {
            v1::WriteState::Open => WriteState::Open,
            v1::WriteState::Full => WriteState::Full,
            v1::WriteState::ReadOnly => WriteState::ReadOnly,
            v1::WriteState::Poisoned => WriteState::Poisoned,
            v1::WriteState::Unspecified => {
                return Err(PeerError::misbehaved("an unknown write state"));
            }
        };
        let node_id = NodeId::try_from(answer.node_id.as_ref())
            .map_err(|_| PeerError::misbehaved("an answer without a node id"))?;
        Ok(NodeStats {
            node_id,
            total_bytes: answer.total_bytes,
            used_bytes: answer.used_bytes,
            live_bytes: answer.live_bytes,
            disk_free_bytes: answer.disk_free_bytes,
            shard_count: answer.shard_count,
            trash_count: answer.trash_count,
            trash_bytes: answer.trash_bytes,
            write_state,
            write_state_detail: answer.write_state_detail,
            uptime: Duration::from_secs(answer.uptime_seconds),
            corrupt_count: answer.corrupt_count,
            damaged_count: answer.damaged_count,
            version: answer.version,
        })
    }

    fn control(&self, deadline: Deadline) -> StorageServiceClient<Channel> {
        let channel = Channel {
            client: self.clone(),
            deadline,
        };
        StorageServiceClient::with_origin(channel, Uri::from_static("http://node"))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX)
    }
}

async fn within<T>(
    deadline: Deadline,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, PeerError> {
    match timeout_at(deadline, call).await {
        Err(_) => Err(PeerError::Timeout),
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status))
            if status.code() == Code::DeadlineExceeded && deadline.elapsed().as_nanos() > 0 =>
        {
            Err(PeerError::Timeout)
        }
        Ok(Err(status)) => Err(PeerError::from_status(&status)),
    }
}
