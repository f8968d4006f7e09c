//! One listener, three kinds of request: raw shard bodies, gRPC, and what monitors read.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::time::timeout;
use tonic::codegen::Service as _;
use tracing::Instrument as _;
use transport::protocol::{REQUEST_ID, SHARDS_PATH};
use transport::{Peer, Refusal, Role, WriteState};
use wire::grpc::MESSAGE_BYTES_MAX;
use wire::grpc::v1::storage_service_server::StorageServiceServer;

use crate::body::NodeBody;
use crate::control::{Control, status};
use crate::operations::Operations;
use crate::raw;
use crate::storage::{Refused, Storage};

/// Path prefix of the gRPC service.
const SERVICE_PATH: &str = "/strongroom.v1.StorageService/";
/// Bytes of a request id that a log line carries, at most.
const REQUEST_ID_CHARS: usize = 64;

/// Answers the requests of one node.
pub struct Routes<S> {
    node: Arc<Operations<S>>,
    control: StorageServiceServer<Control<S>>,
}

impl<S: Storage> Routes<S> {
    /// Routes over `node`.
    pub fn new(node: Arc<Operations<S>>) -> Self {
        let control = StorageServiceServer::new(Control(node.clone()))
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        Self { node, control }
    }

    /// Answers a request of an authenticated peer.
    pub async fn answer(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Response<NodeBody> {
        let span = tracing::debug_span!(
            "request",
            operation = %request.uri().path().rsplit('/').next().unwrap_or_default().chars().take(16).collect::<String>(),
            request_id = %request_id(&request),
            peer = %peer.role,
        );
        self.route(peer, request).instrument(span).await
    }

    async fn route(&self, peer: Arc<Peer>, request: Request<Incoming>) -> Response<NodeBody> {
        let path = request.uri().path().to_owned();
        if let Some(name) = path.strip_prefix(SHARDS_PATH) {
            raw::shard(&self.node, &peer, name, request).await
        } else if let Some(method) = path.strip_prefix(SERVICE_PATH) {
            self.grpc(peer, method, request).await
        } else if peer.role == Role::Gateway {
            monitor(&self.node, request.method(), &path)
        } else {
            raw::refusal(&Refused::new(
                Refusal::NotPermitted,
                "a node may only read, for repair",
            ))
        }
    }

    async fn grpc(
        &self,
        peer: Arc<Peer>,
        method: &str,
        mut request: Request<Incoming>,
    ) -> Response<NodeBody> {
        // These carry a whole shard in one message, which tonic gathers before a handler sees it.
        let room = match method {
            "PutShard" => Some(self.node.write_room(MESSAGE_BYTES_MAX).await),
            "GetShard" => Some(self.node.read_room(MESSAGE_BYTES_MAX).await),
            _ => None,
        };
        let room = match room.transpose() {
            Ok(room) => room,
            Err(refused) => return from_tonic(status(refused).into_http(), None),
        };
        request.extensions_mut().insert(peer);
        let mut control = self.control.clone();
        match timeout(self.node.limits().control, control.call(request)).await {
            Ok(Ok(response)) => from_tonic(response, room),
            Ok(Err(never)) => match never {},
            Err(_) => {
                let late = Refused::new(Refusal::TooSlow, "the call took too long");
                from_tonic(status(late).into_http(), None)
            }
        }
    }
}

fn from_tonic(
    response: Response<tonic::body::Body>,
    room: Option<tokio::sync::OwnedSemaphorePermit>,
) -> Response<NodeBody> {
    response.map(|body| NodeBody::Grpc { body, room })
}

fn request_id(request: &Request<Incoming>) -> String {
    request
        .headers()
        .get(REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .map(|id| id.chars().take(REQUEST_ID_CHARS).collect())
        .unwrap_or_default()
}

/// `GET /health` and `GET /metrics`.
pub fn monitor<S: Storage>(
    node: &Operations<S>,
    method: &Method,
    path: &str,
) -> Response<NodeBody> {
    let (content_type, text) = match (method, path) {
        (&Method::GET, "/health") => ("application/json", health(node)),
        (&Method::GET, "/metrics") => match node.metrics.text(&node.gauges()) {
            Ok(text) => (
                "text/plain; version=0.0.4; charset=utf-8",
                Bytes::from(text),
            ),
            Err(error) => {
                tracing::error!(%error, "the metrics cannot be written");
                return raw::refusal(&Refused::new(
                    Refusal::Internal,
                    "the metrics cannot be written",
                ));
            }
        },
        _ => {
            let mut response = raw::refusal(&Refused::new(
                Refusal::Malformed,
                "there is nothing under this path",
            ));
            *response.status_mut() = StatusCode::NOT_FOUND;
            return response;
        }
    };
    let mut response = Response::new(NodeBody::from_bytes(text));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A node that serves reads is alive, whether or not it takes writes; the text tells which.
fn health<S: Storage>(node: &Operations<S>) -> Bytes {
    let (status, writes) = match node.own_stats().write_state {
        WriteState::Open => ("ok", "open"),
        WriteState::Full => ("degraded", "full"),
        WriteState::ReadOnly => ("degraded", "read-only"),
        WriteState::Poisoned => ("degraded", "poisoned"),
    };
    let uptime = node.metrics.uptime().as_secs();
    let version = env!("CARGO_PKG_VERSION");
    Bytes::from(format!(
        "{{\"status\":\"{status}\",\"role\":\"node\",\"writes\":\"{writes}\",\"uptime_seconds\":{uptime},\"version\":\"{version}\"}}\n"
    ))
}

/// The same for the loopback listener, which knows no peers.
pub async fn answer_monitor<S: Storage>(
    node: Arc<Operations<S>>,
    request: Request<Incoming>,
) -> Result<Response<NodeBody>, Infallible> {
    Ok(monitor(&node, request.method(), request.uri().path()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_path_is_that_of_the_contract() {
        assert_eq!(
            SERVICE_PATH,
            format!("/{}/", wire::grpc::v1::storage_service_server::SERVICE_NAME)
        );
    }
}
