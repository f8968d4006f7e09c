//! Messages with their length in front: u32, big-endian, then that many bytes.

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::error::SessionError;

/// Bytes of the length.
const LENGTH_BYTES: usize = 4;
/// How much is read at a time: a claimed length reserves no memory by itself.
const READ_BYTES: usize = 64 << 10;

/// Writes one message.
pub(crate) async fn write<S: AsyncWrite + Unpin>(
    stream: &mut S,
    message: &[u8],
    bytes_max: usize,
) -> Result<(), SessionError> {
    let bytes = message.len();
    let length = u32::try_from(bytes)
        .ok()
        .filter(|_| bytes <= bytes_max)
        .ok_or(SessionError::TooLong { bytes, bytes_max })?;
    // One write, one TLS record when it is short.
    let mut framed = Vec::with_capacity(LENGTH_BYTES + bytes);
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend_from_slice(message);
    stream.write_all(&framed).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads messages. What has arrived stays here when a read is given up, so every method may be cancelled.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    /// Whether a message has begun to arrive.
    pub(crate) fn has_begun(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Waits for the first byte of a message; false when the peer closed instead.
    pub(crate) async fn begin<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
    ) -> Result<bool, SessionError> {
        if self.has_begun() {
            return Ok(true);
        }
        self.fill(stream, LENGTH_BYTES).await
    }

    /// Reads the message that has begun.
    pub(crate) async fn message<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        bytes_max: usize,
    ) -> Result<Vec<u8>, SessionError> {
        while self.buffer.len() < LENGTH_BYTES {
            self.more(stream, LENGTH_BYTES).await?;
        }
        let (length, _) = self
            .buffer
            .split_first_chunk::<LENGTH_BYTES>()
            .ok_or(SessionError::Malformed("no length"))?;
        let bytes = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if bytes > bytes_max {
            return Err(SessionError::TooLong { bytes, bytes_max });
        }
        let end = LENGTH_BYTES + bytes;
        while self.buffer.len() < end {
            self.more(stream, end).await?;
        }
        let rest = self.buffer.split_off(end);
        let mut message = std::mem::replace(&mut self.buffer, rest);
        message.drain(..LENGTH_BYTES);
        Ok(message)
    }

    async fn more<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        end: usize,
    ) -> Result<(), SessionError> {
        if self.fill(stream, end).await? {
            return Ok(());
        }
        Err(SessionError::Malformed("closed within a message"))
    }

    /// Reads something; false at the end of the stream. Reads ahead no further than `end` or what one call gives.
    async fn fill<S: AsyncRead + Unpin>(
        &mut self,
        stream: &mut S,
        end: usize,
    ) -> Result<bool, SessionError> {
        let want = end
            .saturating_sub(self.buffer.len())
            .clamp(LENGTH_BYTES, READ_BYTES);
        self.buffer.reserve(want);
        let read = stream.read_buf(&mut self.buffer).await?;
        Ok(read > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands out its bytes in pieces of given sizes, then ends.
    struct Pieces {
        bytes: Vec<u8>,
        at: usize,
        random: u64,
    }

    impl AsyncRead for Pieces {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
            into: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            self.random = self
                .random
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            let most = usize::try_from(self.random >> 60).unwrap() + 1;
            let (from, left) = (self.at, self.bytes.len() - self.at);
            let to = from + most.min(left).min(into.remaining());
            into.put_slice(&self.bytes[from..to]);
            self.at = to;
            std::task::Poll::Ready(Ok(()))
        }
    }

    /// However the bytes are cut, the same messages come out; and any prefix gives a prefix of them and no panic.
    #[tokio::test]
    async fn messages_do_not_depend_on_how_the_bytes_arrive() {
        let messages = [&b""[..], b"one", &[7; 40], b"", &[9; 100]];
        let mut whole = Vec::new();
        for message in messages {
            write(&mut whole, message, 100).await.unwrap();
        }
        for random in 0..20 {
            for end in 0..=whole.len() {
                let mut stream = Pieces {
                    bytes: whole[..end].to_vec(),
                    at: 0,
                    random,
                };
                let mut reader = Reader::default();
                let mut read = Vec::new();
                while reader.begin(&mut stream).await.unwrap() {
                    match reader.message(&mut stream, 100).await {
                        Ok(message) => read.push(message),
                        Err(error) => {
                            assert!(matches!(error, SessionError::Malformed(_)), "{error}");
                            assert!(end < whole.len());
                            break;
                        }
                    }
                }
                assert!(messages.starts_with(&read.iter().map(Vec::as_slice).collect::<Vec<_>>()));
                assert_eq!(end == whole.len(), read.len() == messages.len());
            }
        }
    }

    #[tokio::test]
    async fn a_claimed_length_reserves_nothing() {
        let mut reader = Reader::default();
        let mut claims: &[u8] = &[0, 0x3f, 0xff, 0xff, 1, 2, 3];
        let refused = reader.message(&mut claims, 1 << 22).await.unwrap_err();
        assert!(matches!(refused, SessionError::Malformed(_)), "{refused}");
        assert!(reader.buffer.capacity() < 1 << 18);
    }
}
