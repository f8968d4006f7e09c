//! Bounds of both sides.

use std::time::Duration;

use tokio_util::codec::LengthDelimitedCodec;

/// Bytes of a question, at most: a transaction of the largest kind, or 64 keys.
pub const ASK_BYTES_MAX: usize = 192 << 10;
/// Bytes of a reply, at most: 64 of the largest values with their proofs.
pub const REPLY_BYTES_MAX: usize = 8 << 20;
/// Bytes of the keys and values of a listing, about, at most; what does not fit follows in the next one.
pub(crate) const LIST_BYTES_MAX: usize = 2 << 20;
/// Bytes of one key, at most.
pub(crate) const KEY_BYTES_MAX: usize = 256;
/// Questions that one client has open, at most; others wait.
pub(crate) const OPEN_MAX: usize = 32;

/// Bounds of the host's side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; further ones wait to be accepted.
    pub connections_max: usize,
    /// Questions of one connection that are being answered; it is not read further at that bound.
    pub open_max: usize,
    /// Questions of all connections that are being answered; others wait.
    pub open_total_max: usize,
    /// How long a question may take to be answered.
    pub answer: Duration,
    /// How long a reply may take to be written.
    pub write: Duration,
    /// How long a connection may be silent.
    pub idle: Duration,
}

impl Default for Limits {
    /// 64 connections, 32 questions each and 128 in all, 12 s for an answer, 10 s for a write, 5 min of silence.
    fn default() -> Self {
        Self {
            connections_max: 64,
            open_max: 32,
            open_total_max: 128,
            answer: Duration::from_secs(12),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(300),
        }
    }
}

/// Frames of at most `bytes_max`: u32 length, big-endian, then the message.
pub(crate) fn codec(bytes_max: usize) -> LengthDelimitedCodec {
    LengthDelimitedCodec::builder()
        .length_field_type::<u32>()
        .max_frame_length(bytes_max)
        .new_codec()
}
