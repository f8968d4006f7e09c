//! The raw shard routes: paths, headers, and refusals. They share the listener and the handlers with the gRPC
//! `StorageService`, whose refusals carry the same codes.
//!
//! ```text
//! PUT /shards/<cid>   content-length, strongroom-tag, strongroom-proof-length; body: proof, then shard
//!                     201 stored durably, 200 was there already
//! GET /shards/<cid>   range (optional, one `bytes=a-b`), strongroom-want-proof (optional)
//!                     200 or 206 with content-length, strongroom-total-bytes, strongroom-tag,
//!                     strongroom-proof-length; body: proof, then the bytes
//! ```
//!
//! Everything else is a refusal: a status, `strongroom-refusal` with a code of [`Refusal`], and a sentence as body.

use std::fmt;
use std::ops::Range;

use domain::ShardTag;
use domain::limits::SHARD_BYTES_MAX;
use http::StatusCode;

/// Path prefix of the raw routes.
pub const SHARDS_PATH: &str = "/shards/";
/// `<kind>:<epoch>`, see [`tag_to_header`].
pub const TAG: &str = "strongroom-tag";
/// Bytes of proof in front of the body.
pub const PROOF_LENGTH: &str = "strongroom-proof-length";
/// `1`: send the proof too.
pub const WANT_PROOF: &str = "strongroom-want-proof";
/// Bytes of the whole shard, without proof.
pub const TOTAL_BYTES: &str = "strongroom-total-bytes";
/// Why a request was refused: a code of [`Refusal`]. The gRPC metadata has the same name.
pub const REFUSAL: &str = "strongroom-refusal";
/// The request id that logs of both sides carry.
pub const REQUEST_ID: &str = "x-request-id";
/// Bytes of a proof, at most.
pub const PROOF_BYTES_MAX: usize = 64 << 10;
/// Bytes of a refusal's sentence that are read, at most.
pub const REFUSAL_BYTES_MAX: usize = 1_024;

/// Why a node did not do what it was asked. The codes are part of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// The node does not hold the shard.
    NotFound,
    /// No room.
    Full,
    /// The node's file system is read-only.
    ReadOnly,
    /// A sync failed on this node; it takes no writes until it is restarted and its disk looked at.
    Poisoned,
    /// Too much at once; try again.
    Busy,
    /// The caller's role may not do this.
    NotPermitted,
    /// The bytes do not hash to the CID.
    CidMismatch,
    /// Body or proof beyond the bound.
    TooLarge,
    /// The range is empty or reaches beyond the shard.
    BadRange,
    /// Not a request of this protocol.
    Malformed,
    /// The sender was too slow.
    TooSlow,
    /// The node's own copy is damaged; it said so instead of sending it.
    Corrupt,
    /// The node's disk or the node itself failed.
    Internal,
}

impl Refusal {
    const ALL: [Self; 13] = [
        Self::NotFound,
        Self::Full,
        Self::ReadOnly,
        Self::Poisoned,
        Self::Busy,
        Self::NotPermitted,
        Self::CidMismatch,
        Self::TooLarge,
        Self::BadRange,
        Self::Malformed,
        Self::TooSlow,
        Self::Corrupt,
        Self::Internal,
    ];

    /// The code on the wire.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotFound => "not-found",
            Self::Full => "full",
            Self::ReadOnly => "read-only",
            Self::Poisoned => "poisoned",
            Self::Busy => "busy",
            Self::NotPermitted => "not-permitted",
            Self::CidMismatch => "cid-mismatch",
            Self::TooLarge => "too-large",
            Self::BadRange => "bad-range",
            Self::Malformed => "malformed",
            Self::TooSlow => "too-slow",
            Self::Corrupt => "corrupt",
            Self::Internal => "internal",
        }
    }

    /// Reads a code.
    #[must_use]
    pub fn from_code(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|refusal| refusal.code() == code)
    }

    /// The HTTP status it travels with.
    #[must_use]
    pub const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Full => StatusCode::INSUFFICIENT_STORAGE,
            Self::ReadOnly | Self::Poisoned | Self::Busy => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotPermitted => StatusCode::FORBIDDEN,
            Self::CidMismatch => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BadRange => StatusCode::RANGE_NOT_SATISFIABLE,
            Self::Malformed => StatusCode::BAD_REQUEST,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Corrupt | Self::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC status it travels with.
    #[must_use]
    pub const fn grpc(self) -> tonic::Code {
        match self {
            Self::NotFound => tonic::Code::NotFound,
            Self::Full => tonic::Code::ResourceExhausted,
            Self::ReadOnly | Self::Poisoned => tonic::Code::FailedPrecondition,
            Self::Busy => tonic::Code::Unavailable,
            Self::NotPermitted => tonic::Code::PermissionDenied,
            Self::CidMismatch | Self::TooLarge | Self::Malformed => tonic::Code::InvalidArgument,
            Self::BadRange => tonic::Code::OutOfRange,
            Self::TooSlow => tonic::Code::DeadlineExceeded,
            Self::Corrupt => tonic::Code::DataLoss,
            Self::Internal => tonic::Code::Internal,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Whether a node takes writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum WriteState {
    /// It does.
    Open,
    /// No room.
    Full,
    /// Its file system is read-only.
    ReadOnly,
    /// A sync failed.
    Poisoned,
}

/// A tag as header value: `<kind>:<epoch>`.
#[must_use]
pub fn tag_to_header(tag: ShardTag) -> String {
    let (kind, epoch) = tag.to_parts();
    format!("{kind}:{epoch}")
}

/// Reads [`TAG`]; the exact form that [`tag_to_header`] writes.
#[must_use]
pub fn tag_from_header(text: &str) -> Option<ShardTag> {
    let (kind, epoch) = text.split_once(':')?;
    let tag = ShardTag::from_parts(kind.parse().ok()?, epoch.parse().ok()?)?;
    (tag_to_header(tag) == text).then_some(tag)
}

/// A half-open range as the value of a `range` header (whose end is inclusive). The range is not empty.
#[must_use]
pub fn range_to_header(range: &Range<u32>) -> String {
    format!("bytes={}-{}", range.start, range.end.saturating_sub(1))
}

/// Reads one `bytes=a-b`; suffixes, open ends and lists are not spoken between gateway and node.
#[must_use]
pub fn range_from_header(text: &str) -> Option<Range<u32>> {
    let (first, last) = text.strip_prefix("bytes=")?.split_once('-')?;
    let digits = |text: &str| -> Option<u32> {
        (!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
            .then(|| text.parse().ok())?
    };
    let (first, last) = (digits(first)?, digits(last)?);
    let end = last.checked_add(1)?;
    (first < end && usize::try_from(end).is_ok_and(|end| end <= SHARD_BYTES_MAX))
        .then_some(first..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusal_codes_round_trip() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::from_code(refusal.code()), Some(refusal));
            assert!(!refusal.status().is_success());
        }
        assert_eq!(Refusal::from_code("ok"), None);
    }

    #[test]
    fn tags_have_one_form() {
        for tag in [
            ShardTag::Chunk,
            ShardTag::Small { epoch: 9 },
            ShardTag::Recovery { epoch: u64::MAX },
        ] {
            assert_eq!(tag_from_header(&tag_to_header(tag)), Some(tag));
        }
        for bad in [
            "",
            "0",
            "3:0",
            "0:1",
            "00:0",
            "1:+1",
            "1:",
            ":1",
            "1:18446744073709551616",
        ] {
            assert_eq!(tag_from_header(bad), None, "{bad}");
        }
    }

    #[test]
    fn ranges_have_one_form() {
        assert_eq!(range_from_header(&range_to_header(&(0..1))), Some(0..1));
        assert_eq!(
            range_from_header("bytes=65536-131071"),
            Some(65_536..131_072)
        );
        for bad in [
            "bytes=5-4",
            "bytes=-5",
            "bytes=5-",
            "bytes=0-1,3-4",
            "bytes=+0-1",
            "bytes= 0-1",
            "bytes=0-4294967295",
            "bytes=0-99999999999",
            "items=0-1",
            "bytes=0-4259840",
        ] {
            assert_eq!(range_from_header(bad), None, "{bad}");
        }
    }
}
