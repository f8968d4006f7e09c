//! The listener: bounded connections, patience with headers, writes that must move.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{Instant, Sleep};
use tower::util::MapRequest;

use super::flow::Flows;

/// How long a client may take to send the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A receiver is judged over windows of this length.
const WINDOW: Duration = Duration::from_secs(10);
/// How long running requests may take to end at shutdown.
const DRAIN: Duration = Duration::from_secs(10);
/// Bytes of request head.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// Serves until `shutdown` resolves, then lets running requests end.
///
/// # Errors
/// When the listener fails for good.
pub async fn serve(
    listener: TcpListener,
    tls: Option<tokio_rustls::TlsAcceptor>,
    router: Router,
    connections_max: usize,
    min_rate: u64,
    shutdown: impl Future<Output = ()>,
) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(connections_max));
    let graceful = GracefulShutdown::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(512 << 10)
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(Duration::from_secs(20))
        .max_concurrent_streams(64)
        .initial_stream_window_size(2 << 20)
        .initial_connection_window_size(8 << 20)
        .max_frame_size(1 << 20)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX));
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot.map_err(io::Error::other)?,
            () = &mut shutdown => break,
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, or a connection that was gone before it was accepted.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
            () = &mut shutdown => break,
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot set TCP_NODELAY");
        }
        let flows = Arc::new(Flows::new(min_rate));
        let of_connection = Arc::clone(&flows);
        let service = TowerToHyperService::new(MapRequest::new(
            router.clone(),
            move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(Arc::clone(&of_connection));
                request
            },
        ));
        let builder = builder.clone();
        let watcher = graceful.watcher();
        let tls = tls.clone();
        tokio::spawn(async move {
            let _slot = slot;
            // A connection that says nothing may not keep its place.
            if tokio::time::timeout(HEADER_TIMEOUT, stream.readable())
                .await
                .is_err()
            {
                return;
            }
            let stream = MinRate::new(stream, min_rate);
            let serve = async move {
                match tls {
                    None => {
                        watcher
                            .watch(
                                builder
                                    .serve_connection(TokioIo::new(stream), service)
                                    .into_owned(),
                            )
                            .await
                    }
                    Some(tls) => {
                        match tokio::time::timeout(HEADER_TIMEOUT, tls.accept(stream)).await {
                            Ok(Ok(stream)) => {
                                watcher
                                    .watch(
                                        builder
                                            .serve_connection(TokioIo::new(stream), service)
                                            .into_owned(),
                                    )
                                    .await
                            }
                            Ok(Err(error)) => Err(error.into()),
                            Err(_) => Err("TLS handshake timed out".into()),
                        }
                    }
                }
            };
            let result = tokio::select! {
                result = serve => result,
                () = flows.watch() => Err("a response was taken too slowly".into()),
            };
            if let Err(error) = result {
                tracing::debug!(%error, "connection ended");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("requests still running at shutdown were cut off");
    }
    Ok(())
}

/// Fails writes to a receiver that takes less than a minimum rate while there is something to send.
struct MinRate<S> {
    inner: S,
    bytes_per_window: u64,
    written: u64,
    last_poll: Instant,
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<S> MinRate<S> {
    fn new(inner: S, min_rate: u64) -> Self {
        Self {
            inner,
            bytes_per_window: min_rate.saturating_mul(WINDOW.as_secs()),
            written: 0,
            last_poll: Instant::now(),
            stalled: None,
        }
    }

    /// Judges the outcome of a write: bytes count, waiting starts or goes on with a window.
    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        poll: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let now = Instant::now();
        if now.duration_since(self.last_poll) > 2 * WINDOW {
            // Idle in between: nothing was waiting to be taken, so an old window says nothing.
            self.stalled = None;
        }
        self.last_poll = now;
        match poll {
            Poll::Ready(Ok(n)) => {
                self.written = self.written.saturating_add(u64::try_from(n).unwrap_or(0));
                if self.written >= self.bytes_per_window {
                    self.stalled = None;
                    self.written = 0;
                }
                Poll::Ready(Ok(n))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => {
                if self.stalled.is_none() {
                    self.written = 0;
                }
                let window = self
                    .stalled
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(WINDOW)));
                if window.as_mut().poll(cx).is_ready() {
                    if self.written < self.bytes_per_window {
                        return Poll::Ready(Err(io::Error::new(
                            io::ErrorKind::TimedOut,
                            "the receiver is too slow",
                        )));
                    }
                    self.written = 0;
                    window.as_mut().reset(Instant::now() + WINDOW);
                    // Registers the new deadline with the task.
                    if window.as_mut().poll(cx).is_ready() {
                        cx.waker().wake_by_ref();
                    }
                }
                Poll::Pending
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for MinRate<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MinRate<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.judge(cx, poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.judge(cx, poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
