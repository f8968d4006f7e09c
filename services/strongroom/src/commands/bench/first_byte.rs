//! How soon the first verified byte of a 1 GiB object comes: alone, beside other readers, and with nodes dead.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use client::ByteRange;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Bench, Measured};
use crate::address::Remote;
use crate::failure::{Exit, Failure, Outcome};
use crate::progress::Bar;
use crate::store::{PutOptions, Store};

const OBJECT_BYTES: u64 = 1 << 30;
/// Chunks that other clients read meanwhile.
const OTHERS: u64 = 8;
const CHUNK_BYTES: u64 = 4 << 20;
/// Nodes killed for the last measurement: as many as a fully placed object survives.
const DEAD: [&str; 4] = ["node-00", "node-03", "node-07", "node-11"];
/// A platform's supervisor answers within this.
const PATIENCE: Duration = Duration::from_secs(30);

impl Bench<'_> {
    pub(super) async fn first_byte(&self) -> Outcome<Vec<Measured>> {
        let key = self.bucket.join("first-byte")?;
        let source = Repeat {
            payload: Arc::clone(&self.payload),
            left: OBJECT_BYTES,
        };
        let options = PutOptions {
            wait_placed: true,
            ..PutOptions::default()
        };
        self.store
            .put_stream(source, &key, options, &Bar::default())
            .await?;
        let mut measured = vec![self.starts("idle", &key).await?];

        let mut others = JoinSet::new();
        for n in 0..OTHERS {
            let (store, key) = (Arc::clone(&self.store), key.clone());
            others.spawn(async move {
                let mut at = n;
                loop {
                    let start = at % (OBJECT_BYTES / CHUNK_BYTES) * CHUNK_BYTES;
                    let range = ByteRange::Span(start, start + CHUNK_BYTES - 1);
                    let bar = Bar::default();
                    let read = store.get_stream(&key, range, tokio::io::sink(), &bar);
                    if let Err(failure) = read.await {
                        return failure;
                    }
                    at += OTHERS + 1;
                }
            });
        }
        let beside = self.starts("8 readers", &key).await;
        if let Some(Ok(failure)) = others.try_join_next() {
            return Err(failure);
        }
        others.shutdown().await;
        measured.push(beside?);

        let control = self.folder.run().join("control.sock");
        if self.processes.is_some() && control.exists() {
            order(&control, "hold").await?;
            let dead = self.starts("4 nodes dead", &key).await;
            order(&control, "release").await?;
            measured.push(dead?);
        }
        self.store.delete(&key).await?;
        Ok(measured)
    }

    /// Opens the object again and again, and leaves when the first byte has come.
    async fn starts(&self, operation: &'static str, key: &Remote) -> Outcome<Measured> {
        let (store, key) = (Arc::clone(&self.store), key.clone());
        let mut measured = self
            .measure("1 GiB", operation, 1, move |_| {
                let (store, key) = (Arc::clone(&store), key.clone());
                async move {
                    let first = first_byte(&store, &key).await?;
                    // What the cancelled read left in flight is not this one's to wait for.
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok(Some((Some(first), first, 0)))
                }
            })
            .await?;
        // Bytes that were cut off say nothing about rates.
        measured.cpu_s.clear();
        Ok(measured)
    }
}

async fn first_byte(store: &Store, key: &Remote) -> Outcome<Duration> {
    let (seen, first) = oneshot::channel();
    let mut sink = Bell { seen: Some(seen) };
    let started = Instant::now();
    let bar = Bar::default();
    let read = store.get_stream(key, ByteRange::All, &mut sink, &bar);
    tokio::select! {
        at = first => at
            .map(|at: Instant| at.duration_since(started))
            .map_err(|_| Failure::new(Exit::Failure, "internal", "a read ended without a byte")),
        done = read => {
            done?;
            Err(Failure::new(Exit::Failure, "internal", "a read ended without a byte"))
        }
    }
}

/// Says when the first byte comes, and takes no second.
struct Bell {
    seen: Option<oneshot::Sender<Instant>>,
}

impl AsyncWrite for Bell {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match self.seen.take() {
            Some(seen) => {
                // Nobody listens any more only when the measurement was given up.
                let _ = seen.send(Instant::now());
                Poll::Ready(Ok(buf.len().min(1)))
            }
            None => Poll::Pending,
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The payload over and over.
struct Repeat {
    payload: Arc<Vec<u8>>,
    left: u64,
}

impl AsyncRead for Repeat {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let payload = Arc::clone(&self.payload);
        let at = usize::try_from(OBJECT_BYTES - self.left).unwrap_or(0) % payload.len();
        let rest = payload.get(at..).unwrap_or_default();
        let count = rest
            .len()
            .min(buf.remaining())
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        buf.put_slice(rest.get(..count).unwrap_or_default());
        self.left -= u64::try_from(count).unwrap_or(0);
        Poll::Ready(Ok(()))
    }
}

/// Tells the supervisor to kill the nodes and keep them down, or to start them again.
async fn order(socket: &Path, what: &'static str) -> Outcome {
    let socket = socket.to_owned();
    let answer = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        writeln!(stream, "{what} {}", DEAD.join(" "))?;
        let mut answer = String::new();
        stream.take(1_024).read_to_string(&mut answer)?;
        Ok::<_, std::io::Error>(answer)
    })
    .await
    .map_err(|error| Failure::new(Exit::Failure, "internal", error.to_string()))?
    .map_err(|error| {
        Failure::new(
            Exit::Failure,
            "control",
            format!("the supervisor does not answer: {error}"),
        )
    })?;
    if answer.trim() == "ok" {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Failure,
        "control",
        format!("the supervisor refused to {what} nodes: {}", answer.trim()),
    ))
}
