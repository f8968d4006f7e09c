//! One listener, two kinds of request: gRPC, and what monitors read.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use solo::Solo;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tonic::Status;
use tonic::codegen::Service as _;
use transport::body::{Buffers, MessageBody};
use transport::{Peer, Role};
use wire::grpc::LEDGER_MESSAGE_BYTES_MAX;
use wire::grpc::v1::ledger_service_server::LedgerServiceServer;

use crate::control::Control;
use crate::metrics::Metrics;

/// Path prefix of the gRPC service.
const SERVICE_PATH: &str = "/strongroom.v1.LedgerService/";

/// Answers the requests of one validator.
pub(crate) struct Routes {
    solo: Solo,
    metrics: Arc<Metrics>,
    control: LedgerServiceServer<Control>,
    calls: Semaphore,
    call_timeout: Duration,
}

impl Routes {
    pub(crate) fn new(
        solo: Solo,
        metrics: Arc<Metrics>,
        calls_max: usize,
        subscriptions_max: usize,
        call_timeout: Duration,
    ) -> Self {
        let control = Control {
            solo: solo.clone(),
            metrics: metrics.clone(),
            subscriptions: Arc::new(Semaphore::new(subscriptions_max)),
        };
        Self {
            solo,
            metrics,
            control: LedgerServiceServer::new(control)
                .max_decoding_message_size(LEDGER_MESSAGE_BYTES_MAX)
                .max_encoding_message_size(LEDGER_MESSAGE_BYTES_MAX),
            calls: Semaphore::new(calls_max),
            call_timeout,
        }
    }

    /// Answers a request of an authenticated peer: gateways, and validators of the same deployment.
    pub(crate) async fn answer(
        &self,
        peer: Arc<Peer>,
        request: Request<Incoming>,
    ) -> Response<MessageBody> {
        let path = request.uri().path();
        if matches!(peer.role, Role::Node { .. }) {
            return from_status(Status::permission_denied("a node has no business here"));
        }
        if path.starts_with(SERVICE_PATH) {
            self.grpc(request).await
        } else {
            self.monitor(request.method(), path)
        }
    }

    async fn grpc(&self, request: Request<Incoming>) -> Response<MessageBody> {
        let Ok(_room) = self.calls.try_acquire() else {
            return from_status(Status::resource_exhausted("too many calls at once"));
        };
        let mut control = self.control.clone();
        match timeout(self.call_timeout, control.call(request)).await {
            Ok(Ok(response)) => response.map(MessageBody::Grpc),
            Ok(Err(never)) => match never {},
            Err(_) => from_status(Status::deadline_exceeded("the call took too long")),
        }
    }

    /// `GET /health` and `GET /metrics`.
    pub(crate) fn monitor(&self, method: &Method, path: &str) -> Response<MessageBody> {
        let (content_type, text) = match (method, path) {
            (&Method::GET, "/health") => ("application/json", self.health()),
            (&Method::GET, "/metrics") => match self.metrics.text(&self.solo.status()) {
                Ok(text) => (
                    "text/plain; version=0.0.4; charset=utf-8",
                    Bytes::from(text),
                ),
                Err(error) => {
                    tracing::error!(%error, "the metrics cannot be written");
                    return plain(StatusCode::INTERNAL_SERVER_ERROR);
                }
            },
            _ => return plain(StatusCode::NOT_FOUND),
        };
        let mut response = Response::new(MessageBody::Buffers(Buffers::new([text])));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        response
    }

    /// A validator that answers reads is alive, whether or not it takes transactions; the text tells which.
    fn health(&self) -> Bytes {
        let status = self.solo.status();
        let (state, writes) = match (&status.writable, status.poisoned) {
            (Ok(()), _) => ("ok", "open"),
            (Err(_), true) => ("degraded", "poisoned"),
            (Err(_), false) => ("degraded", "full"),
        };
        Bytes::from(format!(
            "{{\"status\":\"{state}\",\"role\":\"validator\",\"writes\":\"{writes}\",\"engine\":\"{}\",\
             \"development\":{},\"height\":{},\"uptime_seconds\":{},\"version\":\"{}\"}}\n",
            status.engine,
            status.development,
            status.height,
            self.metrics.uptime().as_secs(),
            env!("CARGO_PKG_VERSION"),
        ))
    }

    /// The same for the loopback listener, which knows no peers.
    pub(crate) async fn answer_monitor(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<MessageBody>, Infallible> {
        Ok(self.monitor(request.method(), request.uri().path()))
    }
}

fn plain(status: StatusCode) -> Response<MessageBody> {
    let mut response = Response::new(MessageBody::Buffers(Buffers::default()));
    *response.status_mut() = status;
    response
}

fn from_status(status: Status) -> Response<MessageBody> {
    status
        .into_http::<tonic::body::Body>()
        .map(MessageBody::Grpc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_service_path_is_that_of_the_contract() {
        assert_eq!(
            SERVICE_PATH,
            format!("/{}/", wire::grpc::v1::ledger_service_server::SERVICE_NAME)
        );
    }
}
