//! One connection's bytes, whichever way they travel. Vectored writes pass through, so that a frame's header and its
//! payload leave together (in one TLS record) without being copied into one buffer first.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// Bytes that one read from a TCP socket takes, at most. The TLS library asks for 4 KiB at a time, which is a hundred
/// system calls for a shard; one more copy is far cheaper.
const TLS_READ_BYTES: usize = 128 << 10;
/// Bytes that are encrypted before they are written, at most: four times the library's choice.
pub(crate) const TLS_WRITE_BYTES: usize = 256 << 10;

/// A TCP connection under TLS.
pub(crate) type Tcp = BufReader<TcpStream>;

/// Makes a TCP connection ready for TLS.
pub(crate) fn buffered(stream: TcpStream) -> Tcp {
    BufReader::with_capacity(TLS_READ_BYTES, stream)
}

/// An authenticated connection.
#[derive(Debug)]
pub enum Stream {
    /// A Unix socket after its handshake.
    Unix(UnixStream),
    /// TLS over TCP.
    Tls(Box<TlsStream<BufReader<TcpStream>>>),
}

macro_rules! each {
    ($self:ident, $stream:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Unix($stream) => {
                let $stream = Pin::new($stream);
                $call
            }
            Stream::Tls($stream) => {
                let $stream = Pin::new($stream.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, stream => stream.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, stream => stream.poll_shutdown(cx))
    }
}
