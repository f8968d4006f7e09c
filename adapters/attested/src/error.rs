//! Why there is no session, or no longer one.

use std::io;

use attestation::{AppraisalError, Role, SourceError};
use domain::TimestampMs;

/// Why a session was not made, or has ended.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The connection broke, or TLS refused (the source says which).
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    /// Our own TLS library or its settings refuse.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// The other side was too slow.
    #[error("no {0} in time")]
    TimedOut(&'static str),
    /// The peer sent something that is not this protocol.
    #[error("the peer does not follow the protocol: {0}")]
    Malformed(&'static str),
    /// The peer's evidence does not parse.
    #[error("the peer's evidence: {0}")]
    Evidence(#[from] attestation::RecordError),
    /// The peer's evidence is refused.
    #[error("the peer's evidence is refused: {0}")]
    Appraisal(#[from] AppraisalError),
    /// Another role than was wanted, or than this port admits.
    #[error("the peer is a {role}, which is not admitted here")]
    Role {
        /// What the peer acts as.
        role: Role,
    },
    /// A role that must prove itself, and does not.
    #[error("the peer acts as a {role} and presents no evidence")]
    NoEvidence {
        /// What the peer acts as.
        role: Role,
    },
    /// The peer has our own key: our own messages are sent back to us.
    #[error("the peer has this process's own key")]
    OwnKey,
    /// The peer refused us, and says why in one word.
    #[error("the peer refused us: {code}")]
    RefusedByPeer {
        /// The peer's word: one of [`SessionError::code`]'s.
        code: String,
    },
    /// Our platform gave no evidence.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// The session's time is over: connect anew.
    #[error("the session is over (its evidence counted until {valid_until:?}): connect anew")]
    Expired {
        /// When the appraisal ended.
        valid_until: TimestampMs,
    },
    /// The attestation policy has changed since the peer was appraised: connect anew.
    #[error("the attestation policy went from version {appraised} to {now}: connect anew")]
    PolicyChanged {
        /// The version the peer was appraised under.
        appraised: u64,
        /// The version that holds now.
        now: u64,
    },
    /// Nobody will tell any more whether the policy has changed.
    #[error("the attestation policy is no longer known")]
    PolicyUnknown,
    /// A message over the limit.
    #[error("a message of {bytes} bytes, at most {bytes_max} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

impl SessionError {
    /// A stable word for logs, counters and the peer.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Io(_) => "connection",
            Self::Tls(_) => "tls",
            Self::TimedOut(_) => "timeout",
            Self::Malformed(_) => "protocol",
            Self::Evidence(_) => "malformed-evidence",
            Self::Appraisal(error) => error.code(),
            Self::Role { .. } => "role-not-admitted",
            Self::NoEvidence { .. } => "no-evidence",
            Self::OwnKey => "own-key",
            Self::RefusedByPeer { .. } => "refused-by-peer",
            Self::Source(_) => "no-own-evidence",
            Self::Randomness => "randomness",
            Self::Expired { .. } => "session-over",
            Self::PolicyChanged { .. } => "policy-changed",
            Self::PolicyUnknown => "policy-unknown",
            Self::TooLong { .. } => "message-too-long",
        }
    }
}
