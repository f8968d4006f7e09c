//! Errors as clients see them: `application/problem+json` (RFC 9457) with a stable code.
//!
//! The `type` is `urn:strongroom:problem:<code>`; `detail` is a sentence that says what to do; internals (paths, SQL,
//! peers' addresses) never appear. Codes are never renamed; new ones may be added.

use std::fmt;
use std::str::FromStr;

use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Media type of a problem document.
pub const MEDIA_TYPE: &str = "application/problem+json";
/// What a problem's `type` starts with.
pub const TYPE_PREFIX: &str = "urn:strongroom:problem:";
/// Bytes of an encoded problem document that a client reads, at most.
pub const PROBLEM_BYTES_MAX: usize = 64 << 10;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:ident, $title:literal;)+) => {
        /// What went wrong, one of a closed set. Text form: `snake_case`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code {
            $($(#[$doc])* $name,)+
        }

        impl Code {
            /// All codes, in order of declaration.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)+ }
            }

            /// The HTTP status it travels with.
            #[must_use]
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status,)+ }
            }

            /// A short summary, the same for every occurrence.
            #[must_use]
            pub const fn title(self) -> &'static str {
                match self { $(Self::$name => $title,)+ }
            }
        }
    };
}

codes! {
    /// A parameter, header or JSON body that cannot be read.
    BadRequest = "bad_request", BAD_REQUEST, "The request cannot be understood";
    /// A sealed record that does not decode or contradicts itself or the request.
    MalformedRecord = "malformed_record", BAD_REQUEST, "The record is malformed";
    /// A bucket name or object key outside the rules.
    BadName = "bad_name", BAD_REQUEST, "The name is not allowed";
    /// A range outside the chunk or not on block borders.
    BadRange = "bad_range", RANGE_NOT_SATISFIABLE, "The range cannot be served";
    /// Not there, or not visible to the caller: existence does not leak.
    NotFound = "not_found", NOT_FOUND, "Not found";
    /// The bucket's name or id is taken.
    BucketExists = "bucket_exists", CONFLICT, "The bucket exists already";
    /// Only empty buckets can be removed.
    BucketNotEmpty = "bucket_not_empty", CONFLICT, "The bucket is not empty";
    /// Another change to the bucket's record came first.
    BucketChanged = "bucket_changed", CONFLICT, "The bucket's record has changed";
    /// The bucket key is of an earlier generation: somebody lost a right since it was drawn.
    StaleBucketKey = "stale_bucket_key", CONFLICT, "The bucket key is no longer used";
    /// A conditional write lost; extra `present_version` (text or null).
    Conflict = "conflict", CONFLICT, "The object has changed";
    /// No signature and no token.
    Unauthenticated = "unauthenticated", UNAUTHORIZED, "The request is not signed";
    /// A signature or token that does not verify or does not cover what it must.
    SignatureInvalid = "signature_invalid", UNAUTHORIZED, "The signature is not valid";
    /// Outside the signature's or token's lifetime.
    SignatureExpired = "signature_expired", UNAUTHORIZED, "The signature has expired";
    /// The nonce of a mutation was used before.
    RequestReplayed = "request_replayed", CONFLICT, "The request was carried out before";
    /// The caller is known, sees the thing and may not do this.
    Forbidden = "forbidden", FORBIDDEN, "Not allowed";
    /// A body over its bound.
    BodyTooLarge = "body_too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    /// A chunk's bytes do not hash to the CID in the header.
    ChunkCidMismatch = "chunk_cid_mismatch", UNPROCESSABLE_ENTITY, "The chunk is not what its CID says";
    /// The manifest names a chunk that the upload has not acknowledged; extra `chunk`.
    ChunkMissing = "chunk_missing", CONFLICT, "A chunk is missing";
    /// The upload was completed with another entry, or takes no more chunks.
    UploadCompleted = "upload_completed", CONFLICT, "The upload is completed";
    /// Fewer reachable nodes than the write quorum; extras `needed`, `reachable`.
    NotEnoughNodes = "not_enough_nodes", SERVICE_UNAVAILABLE, "Too few storage nodes are reachable";
    /// Fewer shards than needed to read; extras `chunk`, `found`, `needed`.
    NotEnoughShards = "not_enough_shards", SERVICE_UNAVAILABLE, "Too few shards were found";
    /// A transaction that the ledger does not apply; extra `rejection`, its stable code.
    LedgerRejected = "ledger_rejected", CONFLICT, "The ledger refused the transaction";
    /// Custodians or workers refused; extra `reason`, a code of docs/custody.md.
    CustodyRefused = "custody_refused", FORBIDDEN, "The custodians refused";
    /// Fewer custodians answer than the key needs, or no worker does; extra `reason`.
    NotEnoughCustodians = "not_enough_custodians", SERVICE_UNAVAILABLE, "Too few custodians are reachable";
    /// A rate or concurrency limit; `Retry-After` says when.
    TooManyRequests = "too_many_requests", TOO_MANY_REQUESTS, "Too many requests";
    /// The request took longer than it may.
    Timeout = "timeout", GATEWAY_TIMEOUT, "The request timed out";
    /// The nodes are full.
    StorageFull = "storage_full", INSUFFICIENT_STORAGE, "Storage is full";
    /// A part of the service is away for now.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Temporarily unavailable";
    /// Our fault.
    Internal = "internal", INTERNAL_SERVER_ERROR, "Internal error";
    /// A route that this gateway does not serve.
    NotImplemented = "not_implemented", NOT_IMPLEMENTED, "Not implemented";
    /// A route that has no such method.
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "The method is not allowed here";
}

impl Code {
    /// Whether the same request may succeed later without a change by the caller.
    #[must_use]
    pub const fn retryable(self) -> bool {
        matches!(
            self,
            Self::TooManyRequests
                | Self::Timeout
                | Self::Unavailable
                | Self::NotEnoughNodes
                | Self::NotEnoughShards
                | Self::NotEnoughCustodians
        )
    }

    /// The problem's `type`: `urn:strongroom:problem:<code>`.
    #[must_use]
    pub fn type_uri(self) -> String {
        format!("{TYPE_PREFIX}{}", self.as_str())
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A text that is no code of this version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a problem code")]
pub struct UnknownCode;

impl FromStr for Code {
    type Err = UnknownCode;

    fn from_str(text: &str) -> Result<Self, UnknownCode> {
        Self::ALL
            .iter()
            .copied()
            .find(|code| code.as_str() == text)
            .ok_or(UnknownCode)
    }
}

/// A problem document (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Problem {
    /// `urn:strongroom:problem:<code>`.
    #[serde(rename = "type")]
    pub type_uri: String,
    /// The code's summary.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// The stable code.
    pub code: Code,
    /// What happened here and what to do about it.
    pub detail: String,
    /// Finds the request in the gateway's logs.
    #[serde(default)]
    pub request_id: String,
    /// What a code adds, by name.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    pub extra: Map<String, Value>,
}

impl Problem {
    /// A problem without extras; the gateway fills in the request id.
    #[must_use]
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            type_uri: code.type_uri(),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            code,
            detail: detail.into(),
            request_id: String::new(),
            extra: Map::new(),
        }
    }

    /// Adds an extra field. A name of RFC 9457 itself (`type`, `status`, …) is ignored: it would appear twice.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        if !matches!(
            name,
            "type" | "title" | "status" | "code" | "detail" | "request_id"
        ) {
            self.extra.insert(name.to_owned(), value.into());
        }
        self
    }

    /// Sets the request id.
    #[must_use]
    pub fn with_request_id(mut self, request_id: impl Into<String>) -> Self {
        self.request_id = request_id.into();
        self
    }

    /// The HTTP status as a type; the code's own when the number is none.
    #[must_use]
    pub fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(self.code.status())
    }

    /// The JSON bytes.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        // Strings, numbers and a map with string keys always serialise.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a document of at most [`PROBLEM_BYTES_MAX`]; `None` when it is none (a proxy's page, say).
    #[must_use]
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > PROBLEM_BYTES_MAX {
            return None;
        }
        serde_json::from_slice(bytes).ok()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.detail, self.code)?;
        if !self.request_id.is_empty() {
            write!(f, ", request {}", self.request_id)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_round_trip_and_keep_their_text_in_json() {
        for &code in Code::ALL {
            assert_eq!(code.as_str().parse(), Ok(code));
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(code.status().is_client_error() || code.status().is_server_error());
        }
        assert_eq!("teapot".parse::<Code>(), Err(UnknownCode));
    }

    #[test]
    fn documents_round_trip_with_extras() {
        let problem = Problem::new(Code::NotEnoughNodes, "start 3 more nodes")
            .with("needed", 12)
            .with("reachable", 9)
            .with("status", 200)
            .with_request_id("abc");
        let json: Value = serde_json::from_slice(&problem.to_json()).unwrap();
        assert_eq!(json["type"], "urn:strongroom:problem:not_enough_nodes");
        assert_eq!(json["status"], 503);
        assert_eq!(json["needed"], 12);
        assert_eq!(Problem::from_json(&problem.to_json()), Some(problem));
    }

    #[test]
    fn pages_that_are_no_problem_are_none() {
        for bytes in [&b"<html>"[..], b"{}", b"[]", b"{\"code\":\"teapot\"}"] {
            assert_eq!(Problem::from_json(bytes), None);
        }
        let mut big = Problem::new(Code::Internal, "x".repeat(PROBLEM_BYTES_MAX)).to_json();
        assert_eq!(Problem::from_json(&big), None);
        big.clear();
        assert_eq!(Problem::from_json(&big), None);
    }
}
