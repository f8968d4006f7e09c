//! Bodies that are sent without copying: a list of buffers, or what gRPC encodes.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

/// What a body may fail with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body of known buffers, each sent as one frame where the peer's window allows.
#[derive(Debug, Clone, Default)]
pub struct Buffers {
    buffers: VecDeque<Bytes>,
    remaining: u64,
}

impl Buffers {
    /// The buffers in order; empty ones are left out.
    pub fn new(buffers: impl IntoIterator<Item = Bytes>) -> Self {
        let buffers: VecDeque<Bytes> = buffers
            .into_iter()
            .filter(|buffer| !buffer.is_empty())
            .collect();
        let remaining = buffers.iter().map(length).sum();
        Self { buffers, remaining }
    }

    /// Bytes not yet sent.
    #[must_use]
    pub fn remaining(&self) -> u64 {
        self.remaining
    }
}

fn length(buffer: &Bytes) -> u64 {
    u64::try_from(buffer.len()).unwrap_or(u64::MAX)
}

impl Body for Buffers {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let next = this.buffers.pop_front();
        if let Some(buffer) = &next {
            this.remaining = this.remaining.saturating_sub(length(buffer));
        }
        Poll::Ready(next.map(|buffer| Ok(Frame::data(buffer))))
    }

    fn is_end_stream(&self) -> bool {
        self.buffers.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

/// What a client of this crate sends, and a service without bytes of its own to account for answers.
#[derive(Debug)]
pub enum MessageBody {
    /// Buffers, or nothing.
    Buffers(Buffers),
    /// A gRPC message.
    Grpc(tonic::body::Body),
}

impl Body for MessageBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Buffers(buffers) => Pin::new(buffers).poll_frame(cx),
            Self::Grpc(body) => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Buffers(buffers) => buffers.is_end_stream(),
            Self::Grpc(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Buffers(buffers) => buffers.size_hint(),
            Self::Grpc(body) => body.size_hint(),
        }
    }
}
