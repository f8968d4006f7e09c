//! The HTTP/2 connections of one client: made when needed, shared by all calls, made again with bounded back-off.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::NodeId;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::{Duration, Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::{ClientOptions, Deadline, NodeAddress, PeerError};
use crate::body::MessageBody;
use crate::credentials::Credentials;
use crate::handshake::{self, HandshakeError};
use crate::identity::{IdentityError, Peer, Role, Side};
use crate::server::{
    CANCELLED_STREAMS, CONNECTION_WINDOW_BYTES, FRAME_BYTES, SEND_BUFFER_BYTES, STREAM_WINDOW_BYTES,
};
use crate::stream::{Stream, TLS_WRITE_BYTES, buffered};
use crate::{tls, unix};

pub(super) struct Connections {
    address: NodeAddress,
    /// What the certificate there must say.
    expected: Role,
    /// And whose it must be, when known.
    node: Option<NodeId>,
    credentials: Arc<Credentials>,
    tls: Arc<ClientConfig>,
    options: ClientOptions,
    links: Vec<Link>,
    turn: AtomicUsize,
}

#[derive(Default)]
struct Link {
    state: Mutex<State>,
    /// Held by the one task that connects; the others wait for it.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    sender: Option<SendRequest<MessageBody>>,
    failure: Option<Failure>,
}

struct Failure {
    error: PeerError,
    pause: Duration,
    until: Instant,
}

impl Link {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self) -> Option<SendRequest<MessageBody>> {
        self.state()
            .sender
            .as_ref()
            .filter(|sender| !sender.is_closed())
            .cloned()
    }
}

impl Connections {
    pub(super) fn new(
        address: NodeAddress,
        expected: Role,
        node: Option<NodeId>,
        credentials: Arc<Credentials>,
        options: ClientOptions,
    ) -> Result<Self, rustls::Error> {
        let tls = tls::client_config(&credentials, expected)?;
        let links = (0..options.connections.max(1))
            .map(|_| Link::default())
            .collect();
        Ok(Self {
            address,
            expected,
            node,
            credentials,
            tls,
            options,
            links,
            turn: AtomicUsize::new(0),
        })
    }

    /// Sends a request and waits for the head of the answer.
    pub(super) async fn call(
        &self,
        mut request: Request<MessageBody>,
        deadline: Deadline,
    ) -> Result<Response<Incoming>, PeerError> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.links.len();
        let link = self.links.get(turn).ok_or(PeerError::Timeout)?;
        let mut retried = false;
        loop {
            let mut sender = self.sender(link, deadline).await?;
            let sent = timeout_at(deadline, sender.try_send_request(request)).await;
            match sent {
                Err(_) => return Err(PeerError::Timeout),
                Ok(Ok(response)) => return Ok(response),
                Ok(Err(mut failed)) => match failed.take_message() {
                    // Nothing of it left this process: the connection had ended, which only shows when it is used.
                    Some(unsent) if !retried => {
                        retried = true;
                        request = unsent;
                    }
                    _ => return Err(PeerError::unavailable(failed.error())),
                },
            }
        }
    }

    async fn sender(
        &self,
        link: &Link,
        deadline: Deadline,
    ) -> Result<SendRequest<MessageBody>, PeerError> {
        if let Some(sender) = link.open() {
            return Ok(sender);
        }
        let _connecting = timeout_at(deadline, link.connecting.lock())
            .await
            .map_err(|_| PeerError::Timeout)?;
        if let Some(sender) = link.open() {
            return Ok(sender);
        }
        let now = Instant::now();
        if let Some(failure) = link
            .state()
            .failure
            .as_ref()
            .filter(|failure| now < failure.until)
        {
            return Err(failure.error.clone());
        }
        let limit = deadline.min(now + self.options.connect_timeout);
        let connected = match timeout_at(limit, self.connect()).await {
            Ok(connected) => connected,
            Err(_) => Err(PeerError::Unavailable {
                detail: format!("{}: no connection in time", self.address),
            }),
        };
        let mut state = link.state();
        match connected {
            Ok(sender) => {
                *state = State {
                    sender: Some(sender.clone()),
                    failure: None,
                };
                Ok(sender)
            }
            Err(error) => {
                let pause = state
                    .failure
                    .as_ref()
                    .map_or(self.options.backoff_min, |failure| {
                        (failure.pause * 2).min(self.options.backoff_max)
                    });
                state.sender = None;
                state.failure = Some(Failure {
                    error: error.clone(),
                    pause,
                    until: Instant::now() + pause,
                });
                Err(error)
            }
        }
    }

    async fn connect(&self) -> Result<SendRequest<MessageBody>, PeerError> {
        let (stream, peer) = match &self.address {
            NodeAddress::Unix(path) => {
                let mut stream = unix::connect(path)
                    .await
                    .map_err(|error| self.unreachable(&error))?;
                let peer = handshake::connect(&mut stream, &self.credentials, self.expected)
                    .await
                    .map_err(|error| self.not_trusted(error))?;
                (Stream::Unix(stream), peer)
            }
            NodeAddress::Tls(address) => {
                let stream = TcpStream::connect(address)
                    .await
                    .map_err(|error| self.unreachable(&error))?;
                stream
                    .set_nodelay(true)
                    .map_err(|error| self.unreachable(&error))?;
                let mut stream = TlsConnector::from(self.tls.clone())
                    .connect(tls::server_name(), buffered(stream))
                    .await
                    .map_err(|error| self.tls_failed(error))?;
                stream.get_mut().1.set_buffer_limit(Some(TLS_WRITE_BYTES));
                let peer = self.tls_peer(stream.get_ref().1)?;
                (Stream::Tls(Box::new(stream.into())), peer)
            }
        };
        if self.node.is_some_and(|expected| expected != peer.node_id()) {
            return Err(PeerError::misbehaved(format!(
                "{}: the node has another key than it should",
                self.address
            )));
        }
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .max_send_buf_size(SEND_BUFFER_BYTES)
            // Frames that were under way when a call was cancelled must not count against the connection: by default
            // it would end, with every other call on it, after a thousand of them.
            .max_concurrent_reset_streams(CANCELLED_STREAMS)
            .max_local_error_reset_streams(None)
            .keep_alive_interval(self.options.keep_alive)
            .keep_alive_timeout(self.options.keep_alive)
            .keep_alive_while_idle(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error))?;
        let address = self.address.clone();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%address, %error, "the connection to a node broke");
            }
        });
        Ok(sender)
    }

    fn tls_peer(&self, connection: &rustls::ClientConnection) -> Result<Peer, PeerError> {
        // The handshake verified it; this reads out its key.
        connection
            .peer_certificates()
            .and_then(<[_]>::first)
            .ok_or(IdentityError::Signature)
            .and_then(|certificate| {
                let now = self.credentials.clock().unix();
                self.credentials
                    .trust()
                    .verify(certificate, Side::Server, now)
            })
            .map_err(|error| self.not_trusted(error.into()))
    }

    fn unreachable(&self, error: &(dyn std::error::Error + 'static)) -> PeerError {
        match PeerError::unavailable(error) {
            PeerError::Unavailable { detail } => PeerError::Unavailable {
                detail: format!("{}: {detail}", self.address),
            },
            other => other,
        }
    }

    fn tls_failed(&self, error: io::Error) -> PeerError {
        match error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>())
        {
            Some(rustls::Error::InvalidCertificate(_) | rustls::Error::PeerMisbehaved(_)) => {
                PeerError::misbehaved(format!("{}: {error}", self.address))
            }
            _ => self.unreachable(&error),
        }
    }

    fn not_trusted(&self, error: HandshakeError) -> PeerError {
        let address = &self.address;
        match error {
            HandshakeError::Identity(_) | HandshakeError::Malformed(_) => {
                PeerError::misbehaved(format!("{address}: {error}"))
            }
            HandshakeError::Refused => PeerError::Refused {
                reason: crate::protocol::Refusal::NotPermitted,
                detail: format!("{address}: {error}"),
            },
            HandshakeError::Io(_) | HandshakeError::Own(_) | HandshakeError::Randomness => {
                self.unreachable(&error)
            }
        }
    }
}
