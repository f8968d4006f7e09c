//! Accepts connections, authenticates them, and serves HTTP/2 on them with the settings that measured best.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::body::BoxError;
use crate::clock::Clock;
use crate::handshake::HandshakeError;
use crate::identity::Peer;
use crate::listener::{Listener, Unauthenticated};
use crate::stream::Stream;

/// Bytes that one stream may have in flight towards us (measured; buffers grow with use, none is preallocated).
pub(crate) const STREAM_WINDOW_BYTES: u32 = 2 << 20;
/// Bytes that one connection may have in flight towards us.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Bytes of one frame, at most: a shard travels in one.
pub(crate) const FRAME_BYTES: u32 = 1 << 20;
/// Cancelled streams that are remembered, per connection.
pub(crate) const CANCELLED_STREAMS: usize = 1_024;
/// Bytes that wait to be sent, per stream.
pub(crate) const SEND_BUFFER_BYTES: usize = 1 << 20;

/// Bounds on what peers can make a server hold.
#[derive(Debug, Clone)]
pub struct ServerLimits {
    /// Authenticated connections at once.
    pub connections: usize,
    /// Connections whose peer is not known yet, at once.
    pub handshakes: usize,
    /// How long a peer has to prove who it is.
    pub handshake_timeout: Duration,
    /// Requests at once on one connection.
    pub streams: u32,
    /// A silent peer is pinged after this long, and dropped when it does not answer within the same.
    pub keep_alive: Duration,
    /// How long requests may take to finish once a connection is to end.
    pub drain: Duration,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 64,
            handshakes: 32,
            handshake_timeout: Duration::from_secs(5),
            streams: 256,
            keep_alive: Duration::from_secs(20),
            drain: Duration::from_secs(10),
        }
    }
}

/// Serves until `shutdown` resolves, then lets running requests finish for [`ServerLimits::drain`].
///
/// `service` gets who is asking with every request.
pub async fn serve<S, F, B>(
    listener: Listener,
    clock: Clock,
    limits: ServerLimits,
    service: S,
    shutdown: impl Future<Output = ()>,
) where
    S: Fn(Arc<Peer>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let listener = Arc::new(listener);
    let handshakes = Arc::new(Semaphore::new(limits.handshakes));
    let connections = Arc::new(Semaphore::new(limits.connections));
    let limits = Arc::new(limits);
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let next = async {
            // The semaphore is never closed.
            let permit = handshakes.clone().acquire_owned().await.ok();
            (permit, listener.accept().await)
        };
        let (handshake_permit, accepted) = tokio::select! {
            () = &mut shutdown => break,
            Some(_) = tasks.join_next() => continue,
            next = next => next,
        };
        let connection = match accepted {
            Ok(connection) => connection,
            Err(error) => {
                // Out of descriptors, mostly: it passes when connections end.
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let listener = listener.clone();
        let connections = connections.clone();
        let limits = limits.clone();
        let service = service.clone();
        let clock = clock.clone();
        let stopped = stopped.clone();
        tasks.spawn(async move {
            let (stream, peer) = match authenticate(&listener, connection, &limits).await {
                Ok(authenticated) => authenticated,
                Err(error) => {
                    tracing::info!(%error, "a connection was refused");
                    return;
                }
            };
            drop(handshake_permit);
            drop(listener);
            let Ok(_permit) = connections.try_acquire_owned() else {
                tracing::warn!(role = %peer.role, "too many connections");
                return;
            };
            serve_connection(stream, peer, &limits, &clock, service, stopped).await;
        });
    }
    let drain = limits.drain;
    // No new connections from here on: the socket goes with the listener.
    drop(listener);
    let _ = stop.send(true);
    let all = async { while tasks.join_next().await.is_some() {} };
    if timeout(drain, all).await.is_err() {
        tracing::warn!("requests that did not finish in time were cut off");
    }
}

async fn authenticate(
    listener: &Listener,
    connection: Unauthenticated,
    limits: &ServerLimits,
) -> Result<(Stream, Peer), HandshakeError> {
    match timeout(limits.handshake_timeout, listener.authenticate(connection)).await {
        Ok(result) => result,
        Err(_) => Err(HandshakeError::Io(io::ErrorKind::TimedOut.into())),
    }
}

async fn serve_connection<S, F, B>(
    stream: Stream,
    peer: Peer,
    limits: &ServerLimits,
    clock: &Clock,
    service: S,
    mut stopped: watch::Receiver<bool>,
) where
    S: Fn(Arc<Peer>, Request<Incoming>) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let valid_for = Duration::from_millis(peer.not_after.0.saturating_sub(clock.now().0));
    let peer = Arc::new(peer);
    let service = service_fn(move |request| {
        let response = service(peer.clone(), request);
        async move { Ok::<_, Infallible>(response.await) }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(16 << 10)
        // Gateways cancel whatever came too late, all the time; peers are authenticated, so a flood of resets is no
        // stranger's weapon, and the library's default would close a busy connection after a thousand of them.
        .max_pending_accept_reset_streams(CANCELLED_STREAMS)
        .max_local_error_reset_streams(None)
        .keep_alive_interval(limits.keep_alive)
        .keep_alive_timeout(limits.keep_alive)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    // A certificate that ends takes its connections along: the peer comes back with the renewed one.
    let end = async {
        tokio::select! {
            _ = stopped.wait_for(|stopped| *stopped) => {}
            () = sleep(valid_for) => {}
        }
    };
    let ended = tokio::select! {
        result = connection.as_mut() => Some(result),
        () = end => None,
    };
    let result = match ended {
        Some(result) => result,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout_at(Instant::now() + limits.drain, connection).await {
                Ok(result) => result,
                Err(_) => return,
            }
        }
    };
    if let Err(error) = result {
        tracing::debug!(%error, "a connection broke");
    }
}
