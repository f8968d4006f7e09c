//! Messages between two sides that know what they talk to.

use std::fmt;
use std::time::Duration;

use attestation::{Appraisal, Role};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
use tokio_rustls::TlsStream;

use crate::error::SessionError;
use crate::frame::{self, Reader};
use crate::guard::Guard;
use crate::limits::Limits;

/// Whom the other side proved to be.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What it acts as.
    pub role: Role,
    /// Its Ed25519 key in TLS, which its evidence is bound to.
    pub key: [u8; 32],
    /// What it proved; `None` for a client, which is believed nothing that its requests do not prove by signature.
    pub appraisal: Option<Appraisal>,
}

/// A session: both directions and the peer.
#[derive(Debug)]
pub struct Session<S> {
    peer: Peer,
    sender: Sender<S>,
    receiver: Receiver<S>,
}

/// Sends messages.
pub struct Sender<S> {
    stream: WriteHalf<TlsStream<S>>,
    guard: Guard,
    timeout: Duration,
    bytes_max: usize,
    /// A message was cut short; what follows would be read as part of it.
    broken: bool,
}

/// Receives messages.
pub struct Receiver<S> {
    stream: ReadHalf<TlsStream<S>>,
    reader: Reader,
    guard: Guard,
    idle: Duration,
    timeout: Duration,
    bytes_max: usize,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Session<S> {
    pub(crate) fn new(tls: TlsStream<S>, peer: Peer, guard: Guard, limits: Limits) -> Self {
        let (read, write) = tokio::io::split(tls);
        Self {
            peer,
            sender: Sender {
                stream: write,
                guard: guard.clone(),
                timeout: limits.message,
                bytes_max: limits.message_bytes_max,
                broken: false,
            },
            receiver: Receiver {
                stream: read,
                reader: Reader::default(),
                guard,
                idle: limits.idle,
                timeout: limits.message,
                bytes_max: limits.message_bytes_max,
            },
        }
    }

    /// Whom the other side proved to be.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Sends one message.
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        self.sender.send(message).await
    }

    /// Receives the next message.
    ///
    /// # Errors
    /// As [`Receiver::receive`].
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        self.receiver.receive().await
    }

    /// Both directions apart, for requests that overlap.
    #[must_use]
    pub fn split(self) -> (Peer, Sender<S>, Receiver<S>) {
        (self.peer, self.sender, self.receiver)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Sender<S> {
    /// Sends one message. Not to be cancelled: a message cut short ends the session's sending.
    ///
    /// # Errors
    /// [`SessionError::Expired`] and [`SessionError::PolicyChanged`] when the session no longer counts (nothing is sent
    /// then), [`SessionError::TooLong`] for a message over the limit, and when the connection breaks or is slow.
    pub async fn send(&mut self, message: &[u8]) -> Result<(), SessionError> {
        self.guard.check()?;
        if message.len() > self.bytes_max {
            return Err(SessionError::TooLong {
                bytes: message.len(),
                bytes_max: self.bytes_max,
            });
        }
        if self.broken {
            return Err(SessionError::Malformed("an earlier message was cut short"));
        }
        self.broken = true;
        let (stream, bytes_max) = (&mut self.stream, self.bytes_max);
        let work = tokio::time::timeout(self.timeout, frame::write(stream, message, bytes_max));
        let work = async {
            work.await
                .unwrap_or(Err(SessionError::TimedOut("room to send")))
        };
        self.guard.during(work).await?;
        self.broken = false;
        Ok(())
    }

    /// Says that nothing more will be sent.
    ///
    /// # Errors
    /// [`SessionError::Io`] when the connection has broken already.
    pub async fn close(&mut self) -> Result<(), SessionError> {
        Ok(self.stream.shutdown().await?)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Receiver<S> {
    /// The next message; `None` when the peer has closed properly. May be cancelled and called again.
    ///
    /// # Errors
    /// [`SessionError::Expired`] and [`SessionError::PolicyChanged`] as soon as the session no longer counts, whether a
    /// message is arriving or not; [`SessionError::TooLong`], and when the connection breaks or is slow.
    pub async fn receive(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        let (stream, reader) = (&mut self.stream, &mut self.reader);
        let (idle, timeout, bytes_max) = (self.idle, self.timeout, self.bytes_max);
        let work = async {
            let begun = tokio::time::timeout(idle, reader.begin(stream)).await;
            if !begun.unwrap_or(Err(SessionError::TimedOut("request")))? {
                return Ok(None);
            }
            let message = tokio::time::timeout(timeout, reader.message(stream, bytes_max)).await;
            message
                .unwrap_or(Err(SessionError::TimedOut("rest of the message")))
                .map(Some)
        };
        self.guard.during(work).await
    }
}

impl<S> fmt::Debug for Sender<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sender")
    }
}

impl<S> fmt::Debug for Receiver<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Receiver")
    }
}
