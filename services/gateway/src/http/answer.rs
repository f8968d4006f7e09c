//! How failures become problem documents, and which detail a caller may see.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, Response};
use objects::metadata::MetadataError;
use wire::problem::{Code, Problem};

use crate::budget::BudgetExhausted;
use crate::shard_io::read::ReadError;
use crate::shard_io::write::WriteError;

/// A failed request; becomes an RFC 9457 document with the request's id.
#[derive(Clone, Debug)]
pub struct Failure(pub Box<Problem>);

impl Failure {
    /// With a stable code and a sentence for this occurrence.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem::new(code, detail)))
    }

    /// Our fault: the log gets the reason, the caller a request id.
    pub fn internal(reason: impl std::fmt::Display) -> Self {
        tracing::error!(%reason, "internal error");
        Self::new(
            Code::Internal,
            "the gateway met an error of its own; its log has the request id",
        )
    }

    /// Something that is not there, or not for this caller to know of.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(Code::NotFound, format!("no such {what}"))
    }
}

/// Seconds after which a caller may try again.
const RETRY_AFTER_S: &str = "2";

pub(super) fn problem_response(problem: &Problem) -> Response<Body> {
    let mut response = Response::new(Body::from(problem.to_json()));
    *response.status_mut() = problem.status_code();
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(wire::problem::MEDIA_TYPE),
    );
    if problem.code.retryable() {
        headers.insert(RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
    }
    response
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        let text = error.to_string();
        match error {
            MetadataError::NotFound(what) => Self::not_found(what),
            MetadataError::Exists("bucket") => Self::new(Code::BucketExists, text),
            MetadataError::Exists(_) => Self::new(Code::Conflict, text),
            MetadataError::Superseded => Self::new(
                Code::BucketChanged,
                "the bucket's record has changed meanwhile: read it again and repeat the change on top of that",
            ),
            MetadataError::BucketNotEmpty => Self::new(
                Code::BucketNotEmpty,
                "the bucket still has objects or uploads in progress: remove them first",
            ),
            MetadataError::Conflict { present } => Self::from(
                Problem::new(Code::Conflict, text)
                    .with("present_version", present.map(|id| id.to_string())),
            ),
            MetadataError::ChunkMissing { n } => {
                Self::from(Problem::new(Code::ChunkMissing, text).with("chunk", n))
            }
            MetadataError::PageMissing { page } => {
                Self::from(Problem::new(Code::ChunkMissing, text).with("page", page))
            }
            MetadataError::Replayed => Self::new(Code::RequestReplayed, text),
            MetadataError::BeingDeleted => Self::new(
                Code::Unavailable,
                "this very ciphertext is being deleted: try again in a few seconds",
            ),
            MetadataError::TooManyAlike => Self::new(
                Code::Conflict,
                "too many chunks share a shard with this one: encrypt it anew",
            ),
            MetadataError::Damaged { .. } => Self::internal(text),
            MetadataError::Unavailable(_) => {
                tracing::warn!(reason = %text, "metadata is unavailable");
                Self::new(
                    Code::Unavailable,
                    "the metadata database does not answer: try again",
                )
            }
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let text = error.to_string();
        match error {
            WriteError::TooFewNodes(few) => Self::from(
                Problem::new(Code::NotEnoughNodes, text)
                    .with("needed", few.needed)
                    .with("reachable", few.present),
            ),
            WriteError::NoQuorum { reason, .. } if reason.contains("full") => {
                Self::new(Code::StorageFull, format!("{text}: {reason}"))
            }
            WriteError::NoQuorum {
                reachable,
                needed,
                reason,
            } => {
                tracing::warn!(reachable, needed, %reason, "write quorum not reached");
                Self::from(
                    Problem::new(Code::NotEnoughNodes, text)
                        .with("needed", needed)
                        .with("reachable", reachable),
                )
            }
            WriteError::Encode(error) => Self::internal(error),
        }
    }
}

/// A failed read of chunk `n`.
pub(crate) fn read_failure(n: u32, error: ReadError) -> Failure {
    match error {
        ReadError::NotEnoughShards { found, needed, .. } => Failure::from(
            Problem::new(
                Code::NotEnoughShards,
                format!("chunk {n}: {found} of the {needed} shards that are needed answer"),
            )
            .with("chunk", n)
            .with("found", found)
            .with("needed", needed),
        ),
        ReadError::WrongChunk | ReadError::Layout(_) => {
            Failure::internal(format!("chunk {n}: {error}"))
        }
    }
}

impl From<BudgetExhausted> for Failure {
    fn from(error: BudgetExhausted) -> Self {
        Self::new(
            Code::TooManyRequests,
            format!("{error}: try again in a few seconds"),
        )
    }
}

impl From<wire::http_signature::SignatureError> for Failure {
    fn from(error: wire::http_signature::SignatureError) -> Self {
        error.problem().into()
    }
}

impl From<wire::rest::BodyError> for Failure {
    fn from(error: wire::rest::BodyError) -> Self {
        Self::new(Code::MalformedRecord, error.to_string())
    }
}
