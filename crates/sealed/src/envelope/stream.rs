//! The stream of an envelope: frames of one chunk each, sealed and opened in pieces.
//!
//! A frame is `u32 header || salt (16) || the chunk's blocks`; the header's highest bit says that it is the last, the
//! others are its bytes of plaintext. Every chunk has a DEK of its own, derived from its place and from whether it is the
//! last: an exchanged, repeated, left-out or cut-off chunk opens under no key. All chunks but the last are full, so a
//! plaintext has one cut. Plaintext is handed out chunk by chunk, each after its tags: who must not act on the beginning
//! of a stream that was cut off waits for [`StreamOpener::finish`].
//!
//! Memory: one chunk of plaintext and one of ciphertext, whatever the stream's length.

use std::ops::RangeInclusive;

use crypto::block_stream::{ChunkSalt, ciphertext_len, seal_chunk_unnamed};
use crypto::{ChunkOpener, ContextHash, Dek};
use domain::EnvelopeId;
use domain::limits::BLOCK_PLAIN_BYTES;
use rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

/// Blocks that the chunks of a stream may have.
pub(super) const BLOCKS: RangeInclusive<u8> = 1..=64;
/// Chunks of one stream, at most: 4 TiB in the largest ones.
const CHUNKS_MAX: u64 = 1_048_576;
/// Bytes of a frame before its blocks.
const HEADER_BYTES: usize = 20;
const LAST: u32 = 1 << 31;

/// Why a stream ends in an error. What was handed out before is genuine, and not all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// A header that no frame at that place has.
    #[error("chunk {index} of the envelope has an impossible header")]
    Header {
        /// The chunk's place.
        index: u64,
    },
    /// Altered, or a chunk of another place or envelope.
    #[error("chunk {index} of the envelope was altered or is not the one that belongs there")]
    Chunk {
        /// The chunk's place.
        index: u64,
    },
    /// The stream ends before its last chunk.
    #[error("the envelope is cut off in chunk {index}")]
    Truncated {
        /// The chunk that is incomplete.
        index: u64,
    },
    /// Bytes after the last chunk.
    #[error("the envelope has bytes after its end")]
    Trailing,
    /// More chunks than a stream has.
    #[error("a stream has at most {CHUNKS_MAX} chunks")]
    TooLong,
    /// An earlier call failed.
    #[error("the stream was given up after an error")]
    Failed,
}

/// The key material that both directions share.
struct Keys {
    dek: Dek,
    id: EnvelopeId,
    context: ContextHash,
    chunk_plain_bytes: usize,
}

impl Keys {
    fn chunk(&self, index: u64, last: bool) -> Dek {
        self.dek
            .envelope_chunk(&self.id, &self.context, index, last)
    }
}

/// Seals a stream in pieces.
pub struct StreamSealer {
    keys: Keys,
    index: u64,
    plain: Zeroizing<Vec<u8>>,
    scratch: Vec<u8>,
}

impl std::fmt::Debug for StreamSealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamSealer(at chunk {})", self.index)
    }
}

impl StreamSealer {
    pub(super) fn new(dek: Dek, id: EnvelopeId, context: ContextHash, blocks: u8) -> Self {
        let keys = Keys {
            dek,
            id,
            context,
            chunk_plain_bytes: usize::from(blocks) * BLOCK_PLAIN_BYTES,
        };
        Self {
            // Never grown, so that no copy is left behind unwiped.
            plain: Zeroizing::new(Vec::with_capacity(keys.chunk_plain_bytes)),
            keys,
            index: 0,
            scratch: Vec::new(),
        }
    }

    /// Takes some of `input`, says how many bytes, and appends at most one frame to `out`. Call again with the rest.
    ///
    /// # Errors
    /// [`StreamError::TooLong`].
    pub fn push(
        &mut self,
        rng: &mut dyn CryptoRng,
        input: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<usize, StreamError> {
        let room = self.keys.chunk_plain_bytes - self.plain.len();
        if room == 0 && !input.is_empty() {
            // More is to come, so this chunk is not the last.
            if self.index + 1 >= CHUNKS_MAX {
                return Err(StreamError::TooLong);
            }
            self.emit(rng, false, out);
        }
        let room = self.keys.chunk_plain_bytes - self.plain.len();
        let part = input.get(..room).unwrap_or(input);
        self.plain.extend_from_slice(part);
        Ok(part.len())
    }

    /// Appends the last frame.
    pub fn finish(mut self, rng: &mut dyn CryptoRng, out: &mut Vec<u8>) {
        self.emit(rng, true, out);
    }

    fn emit(&mut self, rng: &mut dyn CryptoRng, last: bool, out: &mut Vec<u8>) {
        let dek = self.keys.chunk(self.index, last);
        let salt = seal_chunk_unnamed(&dek, rng, &self.plain, &mut self.scratch)
            .expect("a full chunk has at most 64 blocks");
        let len = u32::try_from(self.plain.len()).expect("a chunk has at most 4 MiB");
        let header = if last { len | LAST } else { len };
        out.extend_from_slice(&header.to_be_bytes());
        out.extend_from_slice(&salt.0);
        out.extend_from_slice(&self.scratch);
        self.plain.as_mut_slice().zeroize();
        self.plain.clear();
        self.index += 1;
    }
}

/// Opens a stream in pieces.
pub struct StreamOpener {
    keys: Keys,
    index: u64,
    frame: Vec<u8>,
    plain: Zeroizing<Vec<u8>>,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Finished,
    Failed,
}

struct Header {
    plain_len: usize,
    last: bool,
    salt: ChunkSalt,
}

impl std::fmt::Debug for StreamOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StreamOpener(at chunk {})", self.index)
    }
}

impl StreamOpener {
    pub(super) fn new(dek: Dek, id: EnvelopeId, context: ContextHash, blocks: u8) -> Self {
        Self {
            keys: Keys {
                dek,
                id,
                context,
                chunk_plain_bytes: usize::from(blocks) * BLOCK_PLAIN_BYTES,
            },
            index: 0,
            frame: Vec::new(),
            plain: Zeroizing::new(Vec::new()),
            state: State::Open,
        }
    }

    /// Takes bytes up to the end of a frame, says how many, and appends the plaintext of at most one chunk to `out`. Call
    /// again with the rest.
    ///
    /// # Errors
    /// [`StreamError`]; the stream is then given up.
    pub fn push(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, StreamError> {
        let result = self.step(input, out);
        if result.is_err() {
            self.state = State::Failed;
        }
        result
    }

    /// Whether the last chunk was opened.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.state == State::Finished
    }

    /// After the last byte of input.
    ///
    /// # Errors
    /// [`StreamError::Truncated`] when the last chunk did not come, [`StreamError::Failed`].
    pub fn finish(self) -> Result<(), StreamError> {
        match self.state {
            State::Finished => Ok(()),
            State::Failed => Err(StreamError::Failed),
            State::Open => Err(StreamError::Truncated { index: self.index }),
        }
    }

    fn step(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, StreamError> {
        match self.state {
            State::Failed => return Err(StreamError::Failed),
            State::Finished if input.is_empty() => return Ok(0),
            State::Finished => return Err(StreamError::Trailing),
            State::Open => {}
        }
        let mut taken = self.fill(input, HEADER_BYTES);
        let Some(header) = self.header()? else {
            return Ok(taken);
        };
        let end = HEADER_BYTES + ciphertext_len(header.plain_len);
        taken += self.fill(input.get(taken..).unwrap_or_default(), end);
        if self.frame.len() < end {
            return Ok(taken);
        }
        let failed = StreamError::Chunk { index: self.index };
        let dek = self.keys.chunk(self.index, header.last);
        let ciphertext = self.frame.get(HEADER_BYTES..).unwrap_or_default();
        ChunkOpener::new(&dek, &header.salt, header.plain_len)
            .map_err(|_| failed)?
            .danger_open_chunk(ciphertext, &mut self.plain)
            .map_err(|_| failed)?;
        out.extend_from_slice(&self.plain);
        self.frame.clear();
        self.index += 1;
        if header.last {
            self.state = State::Finished;
        }
        Ok(taken)
    }

    /// Takes bytes until the frame has `len`.
    fn fill(&mut self, input: &[u8], len: usize) -> usize {
        let missing = len.saturating_sub(self.frame.len());
        let part = input.get(..missing).unwrap_or(input);
        self.frame.extend_from_slice(part);
        part.len()
    }

    fn header(&self) -> Result<Option<Header>, StreamError> {
        let Some((bytes, rest)) = self.frame.split_first_chunk::<4>() else {
            return Ok(None);
        };
        let refused = StreamError::Header { index: self.index };
        let header = u32::from_be_bytes(*bytes);
        let last = header & LAST != 0;
        let plain_len = usize::try_from(header & !LAST).map_err(|_| refused)?;
        let full = self.keys.chunk_plain_bytes;
        let possible = if last {
            plain_len <= full && (plain_len > 0 || self.index == 0)
        } else {
            plain_len == full && self.index + 1 < CHUNKS_MAX
        };
        if !possible {
            return Err(refused);
        }
        Ok(rest.first_chunk::<16>().map(|salt| Header {
            plain_len,
            last,
            salt: ChunkSalt(*salt),
        }))
    }
}
