//! What a node answers with, and the room that an answer takes until its last byte has left.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use transport::body::{BoxError, Buffers};

/// The body of an answer.
pub enum NodeBody {
    /// Buffers, or nothing.
    Buffers(Buffers),
    /// A gRPC message and the room it takes.
    Grpc {
        /// What tonic encoded.
        body: tonic::body::Body,
        /// Held until the body has been sent.
        room: Option<OwnedSemaphorePermit>,
    },
}

impl NodeBody {
    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::Buffers(Buffers::default())
    }

    /// One buffer.
    #[must_use]
    pub fn from_bytes(bytes: Bytes) -> Self {
        Self::Buffers(Buffers::new([bytes]))
    }
}

impl Body for NodeBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::Buffers(buffers) => Pin::new(buffers).poll_frame(cx),
            Self::Grpc { body, .. } => Pin::new(body).poll_frame(cx).map_err(Into::into),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Buffers(buffers) => buffers.is_end_stream(),
            Self::Grpc { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Buffers(buffers) => buffers.size_hint(),
            Self::Grpc { body, .. } => body.size_hint(),
        }
    }
}

/// Bytes that hold their share of a budget until the last reference to them is gone: until the connection has really
/// sent them, not until it has taken them into its queue.
pub fn with_room(bytes: Bytes, room: OwnedSemaphorePermit) -> Bytes {
    struct Held {
        bytes: Bytes,
        _room: OwnedSemaphorePermit,
    }
    impl AsRef<[u8]> for Held {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    Bytes::from_owner(Held { bytes, _room: room })
}
