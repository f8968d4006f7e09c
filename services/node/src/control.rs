//! The gRPC `StorageService` over the same operations as the raw routes.

use std::sync::Arc;

use bytes::Bytes;
use domain::{Cid, ShardTag};
use tonic::{Request, Response, Status};
use transport::protocol::REFUSAL;
use transport::{ListFilter, Peer, Refusal, ShardState, WriteState};
use wire::grpc::{cid_to_wire, tag_from_wire, tag_to_wire, v1};

use crate::metrics::Operation;
use crate::operations::Operations;
use crate::storage::{Refused, Storage};

/// The service.
pub struct Control<S>(pub Arc<Operations<S>>);

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl<S: Storage> v1::storage_service_server::StorageService for Control<S> {
    async fn put_shard(
        &self,
        request: Request<v1::PutShardRequest>,
    ) -> Answer<v1::PutShardResponse> {
        let (peer, message) = parts(request)?;
        let work = async {
            let cid = cid(&message.cid)?;
            let tag = tag(message.kind, message.epoch)?;
            let body = match message.body {
                body if body.is_empty() => Vec::new(),
                body => vec![body],
            };
            self.0.put(&peer, cid, tag, message.proof, body).await
        };
        let stored = self
            .0
            .observed(Operation::Put, work)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::PutShardResponse {
            already: stored.already,
        }))
    }

    async fn get_shard(
        &self,
        request: Request<v1::GetShardRequest>,
    ) -> Answer<v1::GetShardResponse> {
        let (peer, message) = parts(request)?;
        let work = async {
            let cid = cid(&message.cid)?;
            let range = message.range.map(|range| range.start..range.end);
            if range.as_ref().is_some_and(|range| range.start >= range.end) {
                return Err(Refused::new(Refusal::BadRange, "an empty range"));
            }
            self.0.get(&peer, cid, range, message.want_proof).await
        };
        let shard = self
            .0
            .observed(Operation::Get, work)
            .await
            .map_err(status)?;
        let (kind, epoch) = tag_to_wire(shard.tag);
        Ok(Response::new(v1::GetShardResponse {
            total_bytes: shard.total_bytes,
            kind: kind.into(),
            epoch,
            proof: shard.proof.unwrap_or_default(),
            body: shard.body,
        }))
    }

    async fn delete_shard(
        &self,
        request: Request<v1::DeleteShardRequest>,
    ) -> Answer<v1::DeleteShardResponse> {
        let (peer, message) = parts(request)?;
        let work = async { self.0.delete(&peer, cid(&message.cid)?).await };
        let existed = self
            .0
            .observed(Operation::Delete, work)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::DeleteShardResponse { existed }))
    }

    async fn restore_shard(
        &self,
        request: Request<v1::RestoreShardRequest>,
    ) -> Answer<v1::RestoreShardResponse> {
        let (peer, message) = parts(request)?;
        let work = async { self.0.restore(&peer, cid(&message.cid)?).await };
        let restored = self
            .0
            .observed(Operation::Restore, work)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::RestoreShardResponse { restored }))
    }

    async fn verify_shard(
        &self,
        request: Request<v1::VerifyShardRequest>,
    ) -> Answer<v1::VerifyShardResponse> {
        let (peer, message) = parts(request)?;
        let work = async { self.0.verify(&peer, cid(&message.cid)?).await };
        let state = match self
            .0
            .observed(Operation::Verify, work)
            .await
            .map_err(status)?
        {
            ShardState::Intact => v1::ShardState::Intact,
            ShardState::Corrupt => v1::ShardState::Corrupt,
            ShardState::Missing => v1::ShardState::Missing,
        };
        Ok(Response::new(v1::VerifyShardResponse {
            state: state.into(),
        }))
    }

    async fn list_shards(
        &self,
        request: Request<v1::ListShardsRequest>,
    ) -> Answer<v1::ListShardsResponse> {
        let (peer, message) = parts(request)?;
        let work = async {
            let after = match message.after.as_ref() {
                [] => None,
                bytes => Some(cid(bytes)?),
            };
            let kind = match message.kind {
                None => None,
                Some(kind) => Some(tag(kind, 0)?.to_parts().0),
            };
            let filter = ListFilter {
                kind,
                epoch_below: message.epoch_below,
            };
            let limit = usize::try_from(message.limit).unwrap_or(usize::MAX);
            self.0.list(&peer, after, filter, limit).await
        };
        let shards = self
            .0
            .observed(Operation::List, work)
            .await
            .map_err(status)?;
        let shards = shards
            .into_iter()
            .map(|shard| {
                let (kind, epoch) = tag_to_wire(shard.tag);
                v1::ShardEntry {
                    cid: cid_to_wire(&shard.cid),
                    kind: kind.into(),
                    epoch,
                    total_bytes: shard.total_bytes,
                }
            })
            .collect();
        Ok(Response::new(v1::ListShardsResponse { shards }))
    }

    async fn has_shards(
        &self,
        request: Request<v1::HasShardsRequest>,
    ) -> Answer<v1::HasShardsResponse> {
        let (peer, message) = parts(request)?;
        let work = async {
            let cids = message
                .cids
                .iter()
                .map(|bytes| cid(bytes))
                .collect::<Result<Vec<_>, _>>()?;
            self.0.has(&peer, &cids)
        };
        let has = self
            .0
            .observed(Operation::Has, work)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::HasShardsResponse { has }))
    }

    async fn list_damaged(
        &self,
        request: Request<v1::ListDamagedRequest>,
    ) -> Answer<v1::ListDamagedResponse> {
        let (peer, message) = parts(request)?;
        let limit = usize::try_from(message.limit).unwrap_or(usize::MAX);
        let work = async {
            let after = (!message.after.is_empty()).then(|| cid(&message.after));
            self.0.list_damaged(&peer, after.transpose()?, limit)
        };
        let damaged = self
            .0
            .observed(Operation::List, work)
            .await
            .map_err(status)?;
        Ok(Response::new(v1::ListDamagedResponse {
            cids: damaged.iter().map(cid_to_wire).collect(),
        }))
    }

    async fn get_stats(
        &self,
        request: Request<v1::GetStatsRequest>,
    ) -> Answer<v1::GetStatsResponse> {
        let (peer, _) = parts(request)?;
        let work = async { self.0.stats(&peer) };
        let stats = self
            .0
            .observed(Operation::Stats, work)
            .await
            .map_err(status)?;
        let write_state = match stats.write_state {
            WriteState::Open => v1::WriteState::Open,
            WriteState::Full => v1::WriteState::Full,
            WriteState::ReadOnly => v1::WriteState::ReadOnly,
            WriteState::Poisoned => v1::WriteState::Poisoned,
        };
        Ok(Response::new(v1::GetStatsResponse {
            total_bytes: stats.total_bytes,
            used_bytes: stats.used_bytes,
            live_bytes: stats.live_bytes,
            disk_free_bytes: stats.disk_free_bytes,
            shard_count: stats.shard_count,
            trash_count: stats.trash_count,
            trash_bytes: stats.trash_bytes,
            write_state: write_state.into(),
            write_state_detail: stats.write_state_detail,
            uptime_seconds: self.0.metrics.uptime().as_secs(),
            node_id: Bytes::copy_from_slice(self.0.node_id().as_bytes()),
            corrupt_count: self.0.corrupt_count(),
            damaged_count: self.0.damaged_count(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }
}

/// Who asks, as the connection's handshake found, and what.
fn parts<T>(request: Request<T>) -> Result<(Arc<Peer>, T), Status> {
    let peer = request
        .extensions()
        .get::<Arc<Peer>>()
        .cloned()
        .ok_or_else(|| Status::unauthenticated("the connection is not authenticated"))?;
    Ok((peer, request.into_inner()))
}

fn cid(bytes: &[u8]) -> Result<Cid, Refused> {
    Cid::from_bytes(bytes).map_err(|error| Refused::new(Refusal::Malformed, error.to_string()))
}

fn tag(kind: i32, epoch: u64) -> Result<ShardTag, Refused> {
    tag_from_wire(kind, epoch).ok_or_else(|| {
        Refused::new(
            Refusal::Malformed,
            "an unknown kind, or a chunk with an epoch",
        )
    })
}

/// A refusal as a gRPC status with the code in its metadata.
pub fn status(refused: Refused) -> Status {
    let mut status = Status::new(refused.reason.grpc(), refused.detail);
    if let Ok(code) = refused.reason.code().parse() {
        status.metadata_mut().insert(REFUSAL, code);
    }
    status
}
