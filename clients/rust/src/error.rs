//! What can go wrong for a user of this library, each with what to do about it.

use std::path::PathBuf;
use std::time::Duration;

use domain::{BucketId, BucketName, DeploymentId, ObjectKey, VersionId};
use wire::problem::{Code, Problem};

/// Result of a client operation.
pub type Result<T> = std::result::Result<T, Error>;

/// Why an operation did not succeed. Nothing unverified has left the library when one is returned: files are not
/// renamed into place, and a writer has been given verified bytes only (perhaps not all of them).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration cannot work.
    #[error("configuration: {0}")]
    Config(String),
    /// Nobody answers.
    #[error(
        "cannot reach the gateway at {endpoint}: {reason}. Is it running (`strongroom up`), and is this its address?"
    )]
    Unreachable {
        /// The configured endpoint.
        endpoint: String,
        /// What the operating system or TLS says.
        reason: String,
    },
    /// No answer in time.
    #[error("the gateway did not finish {what} within {} s; try again, or look at its load", .after.as_secs())]
    Timeout {
        /// What was asked.
        what: &'static str,
        /// How long was waited.
        after: Duration,
    },
    /// The gateway refused, with its own words.
    #[error("{0}")]
    Refused(Box<Problem>),
    /// An answer that is not what the protocol says.
    #[error(
        "the gateway's answer to {what} is not understood ({reason}): is it a Strongroom gateway of this version?"
    )]
    Protocol {
        /// What was asked.
        what: &'static str,
        /// What is wrong with the answer.
        reason: String,
    },
    /// Another deployment answers than the pinned one.
    #[error(
        "another deployment answers at {endpoint}: expected {expected}, found {found}. Check the address; if the deployment was made anew on purpose, remove its pin from the configuration folder"
    )]
    OtherDeployment {
        /// The configured endpoint.
        endpoint: String,
        /// The pin.
        expected: DeploymentId,
        /// What answers.
        found: DeploymentId,
    },
    /// The bucket's name now stands for another bucket than at first use.
    #[error(
        "bucket `{name}` is not the bucket that this name stood for at first use (pinned {pinned}, now {found}). If it was removed and made anew on purpose, forget the pin; otherwise the gateway is not to be trusted"
    )]
    OtherBucket {
        /// The name.
        name: BucketName,
        /// Its id at first use.
        pinned: BucketId,
        /// Its id now.
        found: BucketId,
    },
    /// A signature, CID, proof or tag does not hold: the gateway, a node or a reader who knows the key altered something.
    #[error(
        "{what} does not verify: {reason}. Nothing of it was used; run `strongroom verify` and report it, since a gateway or node returned something else than was written"
    )]
    Integrity {
        /// What was checked.
        what: String,
        /// Which check failed.
        reason: String,
    },
    /// The bucket key or DEK cannot be had with this identity.
    #[error(
        "this identity cannot open {what}: {reason}. Use the identity (or passphrase) that it was written for"
    )]
    NoKey {
        /// What was to be opened.
        what: String,
        /// Why it does not open.
        reason: String,
    },
    /// This identity may not write there.
    #[error("this identity is not among the writers of bucket `{0}`: ask its owner")]
    NotAWriter(BucketName),
    /// Only the owner may change a bucket.
    #[error("this identity does not own bucket `{0}`: ask its owner")]
    NotTheOwner(BucketName),
    /// No such object.
    #[error("no object `{key}` in bucket `{bucket}` (or no right to see it)")]
    NoObject {
        /// The bucket.
        bucket: BucketName,
        /// The key.
        key: ObjectKey,
    },
    /// No such bucket.
    #[error("no bucket `{0}` (or no right to see it)")]
    NoBucket(BucketName),
    /// No such named key, version or grant.
    #[error("{0}")]
    NoNamedKey(String),
    /// Custodians or a worker answered something that their signatures and proofs do not show to be right.
    #[error("{what}: {}. Nothing of it was used", .findings.join("; "))]
    Custodians {
        /// What could not be done.
        what: String,
        /// Who misbehaved or failed, and how.
        findings: Vec<String>,
    },
    /// A conditional write lost.
    #[error(
        "the object has changed: its present version is {}. Read it again and repeat the write on top of that",
        .present.map_or_else(|| "none".to_owned(), |id| id.to_string())
    )]
    Conflict {
        /// The present version, `None` when the key is free or deleted.
        present: Option<VersionId>,
    },
    /// The object was replaced or deleted while it was being read.
    #[error("the object was replaced or deleted while it was being read: start again")]
    Replaced,
    /// A range outside the object.
    #[error("the range starts at byte {start}, the object has {size} bytes")]
    Range {
        /// First byte asked for.
        start: u64,
        /// Bytes of the object.
        size: u64,
    },
    /// More plaintext than an object may have, or a copy of something that cannot be copied.
    #[error("{0}")]
    Unsupported(String),
    /// The source changed while it was being stored.
    #[error("{} changed while it was being stored: nothing was stored; try again when it rests", .0.display())]
    SourceChanged(PathBuf),
    /// Reading the source, or writing the target, failed.
    #[error("{what}: {source}")]
    Io {
        /// What was done, with the file's name.
        what: String,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// Local state (pins, keys, resumable transfers) cannot be read or written.
    #[error("local state {}: {reason}. Check its permissions and free space; if it is damaged, remove that file", .path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Our own fault, or no memory.
    #[error("internal error: {0}. This is a defect; please report it")]
    Internal(String),
}

/// Groups errors as callers treat them, for exit codes and retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The caller's fault: configuration, names, ranges.
    Usage,
    /// Not there, or not visible.
    NotFound,
    /// Not allowed, or not the right key.
    Denied,
    /// A conditional write lost, the name is taken, or the bucket is not empty.
    Conflict,
    /// The other side is away, full or slow: later it may work.
    Unavailable,
    /// Something is not what was signed: never retry blindly.
    Integrity,
    /// Local files.
    Local,
    /// Anything else.
    Internal,
}

impl Error {
    /// The group it belongs to.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(_) | Self::Range { .. } | Self::Unsupported(_) => ErrorKind::Usage,
            Self::Unreachable { .. } | Self::Timeout { .. } => ErrorKind::Unavailable,
            Self::NoObject { .. } | Self::NoBucket(_) | Self::NoNamedKey(_) => ErrorKind::NotFound,
            Self::NoKey { .. } | Self::NotAWriter(_) | Self::NotTheOwner(_) => ErrorKind::Denied,
            Self::Conflict { .. } | Self::Replaced => ErrorKind::Conflict,
            Self::OtherDeployment { .. }
            | Self::OtherBucket { .. }
            | Self::Integrity { .. }
            | Self::Custodians { .. } => ErrorKind::Integrity,
            Self::SourceChanged(_) | Self::Io { .. } | Self::State { .. } => ErrorKind::Local,
            Self::Internal(_) | Self::Protocol { .. } => ErrorKind::Internal,
            Self::Refused(problem) => kind_of(problem.code),
        }
    }

    /// The gateway's code, when it refused.
    #[must_use]
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(problem) => Some(problem.code),
            _ => None,
        }
    }

    /// The ledger's stable code for why it did not apply a transaction.
    #[must_use]
    pub fn rejection(&self) -> Option<&str> {
        self.extra("rejection")
    }

    /// The custodians' stable code for why they refused (docs/custody.md).
    #[must_use]
    pub fn custody_reason(&self) -> Option<&str> {
        self.extra("reason")
    }

    fn extra(&self, name: &str) -> Option<&str> {
        match self {
            Self::Refused(problem) => problem.extra.get(name)?.as_str(),
            _ => None,
        }
    }

    pub(crate) fn integrity(what: impl Into<String>, reason: impl ToString) -> Self {
        Self::Integrity {
            what: what.into(),
            reason: reason.to_string(),
        }
    }

    pub(crate) fn io(what: impl Into<String>, source: std::io::Error) -> Self {
        Self::Io {
            what: what.into(),
            source,
        }
    }

    pub(crate) fn refused(problem: Problem) -> Self {
        if problem.code == Code::Conflict {
            let present = problem
                .extra
                .get("present_version")
                .and_then(|value| value.as_str())
                .and_then(|text| text.parse().ok());
            return Self::Conflict { present };
        }
        Self::Refused(Box::new(problem))
    }
}

const fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::BadRequest
        | Code::MalformedRecord
        | Code::BadName
        | Code::BadRange
        | Code::BodyTooLarge
        | Code::NotImplemented
        | Code::MethodNotAllowed => ErrorKind::Usage,
        Code::NotFound => ErrorKind::NotFound,
        Code::Unauthenticated
        | Code::SignatureInvalid
        | Code::SignatureExpired
        | Code::CustodyRefused
        | Code::Forbidden => ErrorKind::Denied,
        Code::BucketExists
        | Code::BucketNotEmpty
        | Code::BucketChanged
        | Code::StaleBucketKey
        | Code::Conflict
        | Code::RequestReplayed
        | Code::LedgerRejected
        | Code::ChunkMissing
        | Code::UploadCompleted => ErrorKind::Conflict,
        Code::NotEnoughNodes
        | Code::NotEnoughShards
        | Code::NotEnoughCustodians
        | Code::TooManyRequests
        | Code::Timeout
        | Code::StorageFull
        | Code::Unavailable => ErrorKind::Unavailable,
        Code::ChunkCidMismatch => ErrorKind::Integrity,
        Code::Internal => ErrorKind::Internal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conflict_says_which_version_is_present() {
        let id = VersionId([7; 16]);
        let problem =
            Problem::new(Code::Conflict, "changed").with("present_version", id.to_string());
        let error = Error::refused(problem);
        assert!(matches!(error, Error::Conflict { present: Some(found) } if found == id));
        assert!(error.to_string().contains(&id.to_string()));
        let none =
            Problem::new(Code::Conflict, "gone").with("present_version", serde_json::Value::Null);
        assert!(matches!(
            Error::refused(none),
            Error::Conflict { present: None }
        ));
    }

    #[test]
    fn refusals_keep_the_gateways_words_and_code() {
        let error = Error::refused(Problem::new(Code::StorageFull, "every node is full"));
        assert_eq!(error.code(), Some(Code::StorageFull));
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        assert!(error.to_string().contains("every node is full"));
    }
}
