//! Why a transaction is refused. The codes are stable: clients and tests rely on them.

use domain::{KeyVersion, Principal};

/// Why a transaction changes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// More bytes than the ledger takes.
    #[error("a transaction has at most {max} bytes, this one has {len}")]
    TooLarge {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Not a transaction, or a record in it is not what it should be.
    #[error("malformed: {0}")]
    Malformed(String),
    /// For another ledger.
    #[error("the transaction is for another ledger")]
    WrongChain,
    /// Not signed by its sender.
    #[error("the transaction is not signed by its sender")]
    BadSignature,
    /// A record, acknowledgement or decision in it is not signed by whom it should be.
    #[error("{0} did not sign what is said in its name")]
    BadRecordSignature(Principal),
    /// Its time has passed.
    #[error("the transaction has expired")]
    Expired,
    /// Its nonce was used.
    #[error("nonce {got} was used: the next is {next}")]
    NonceUsed {
        /// The transaction's.
        got: u64,
        /// The account's next.
        next: u64,
    },
    /// Transactions of this sender are missing before it.
    #[error("nonce {got} is too high: the next is {next}")]
    NonceTooHigh {
        /// The transaction's.
        got: u64,
        /// The account's next.
        next: u64,
    },
    /// The sender has no right to it.
    #[error("not allowed: {0}")]
    NotAllowed(&'static str),
    /// No such key, version, grant, committee, bucket or the like.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    /// It is there already.
    #[error("this {0} exists already")]
    Exists(&'static str),
    /// A version is being dealt.
    #[error("version {0} is being made")]
    VersionPending(KeyVersion),
    /// Not the next version, or the key has as many as it may.
    #[error("the next version is {next}")]
    WrongVersion {
        /// What may be begun.
        next: KeyVersion,
    },
    /// Another attempt came in between.
    #[error("the fencing number is {current}, not {got}: another attempt came in between")]
    Fenced {
        /// The transaction's.
        got: u64,
        /// The key's.
        current: u64,
    },
    /// No version is pending.
    #[error("no version of this key is pending")]
    NothingPending,
    /// The pending attempt's deadline is over.
    #[error("the time for this attempt is over: begin another")]
    AttemptOver,
    /// Not every member of the committee has acknowledged, or not in the order of slots.
    #[error("every member of the committee must acknowledge, in the order of slots")]
    AcknowledgementsMissing,
    /// Too few members have signed.
    #[error("{got} signatures, {needed} are needed")]
    TooFewSignatures {
        /// Good ones.
        got: usize,
        /// The least.
        needed: usize,
    },
    /// The activating worker is the dealer, or no other vendor's although there is one.
    #[error(
        "the activating worker must be another than the dealer, of another vendor where there is one"
    )]
    WorkerNotIndependent,
    /// Not enrolled, or no longer.
    #[error("{0} is not enrolled")]
    NotEnrolled(Principal),
    /// A measurement that the policy does not allow now.
    #[error("the measurement is not allowed")]
    MeasurementNotAllowed,
    /// The state of the key or version does not allow it.
    #[error("the key's state does not allow this: {0}")]
    WrongState(&'static str),
    /// Delete protection is on.
    #[error("the key is protected from deletion")]
    DeleteProtected,
    /// A serial, sequence or version number that is not the next.
    #[error("sequence number {got} where {expected} was expected")]
    OutOfSequence {
        /// What may come.
        expected: u64,
        /// What came.
        got: u64,
    },
    /// What is waiting is not in force yet.
    #[error("this waits for the time lock")]
    TimeLocked,
    /// A number is at the end of its range.
    #[error("a counter is at its end")]
    Overflow,
    /// The engine does not support it.
    #[error("this ledger's engine does not do this: {0}")]
    Unsupported(&'static str),
    /// Refused by a ledger that was asked from afar; the code is one of the others'.
    #[error("{detail}")]
    Remote {
        /// Its code ([`Rejection::known_code`]).
        code: &'static str,
        /// Its words.
        detail: String,
    },
    /// A record in the state does not parse: the state is damaged, or a bug of ours.
    #[error("the ledger's state is damaged: {0}")]
    StateDamaged(String),
}

impl Rejection {
    /// The stable code.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too-large",
            Self::Malformed(_) => "malformed",
            Self::WrongChain => "wrong-chain",
            Self::BadSignature => "bad-signature",
            Self::BadRecordSignature(_) => "bad-record-signature",
            Self::Expired => "expired",
            Self::NonceUsed { .. } => "nonce-used",
            Self::NonceTooHigh { .. } => "nonce-too-high",
            Self::NotAllowed(_) => "not-allowed",
            Self::NotFound(_) => "not-found",
            Self::Exists(_) => "exists",
            Self::VersionPending(_) => "version-pending",
            Self::WrongVersion { .. } => "wrong-version",
            Self::Fenced { .. } => "fenced",
            Self::NothingPending => "nothing-pending",
            Self::AttemptOver => "attempt-over",
            Self::AcknowledgementsMissing => "acknowledgements-missing",
            Self::TooFewSignatures { .. } => "too-few-signatures",
            Self::WorkerNotIndependent => "worker-not-independent",
            Self::NotEnrolled(_) => "not-enrolled",
            Self::MeasurementNotAllowed => "measurement-not-allowed",
            Self::WrongState(_) => "wrong-state",
            Self::DeleteProtected => "delete-protected",
            Self::OutOfSequence { .. } => "out-of-sequence",
            Self::TimeLocked => "time-locked",
            Self::Overflow => "overflow",
            Self::Unsupported(_) => "unsupported",
            Self::StateDamaged(_) => "state-damaged",
            Self::Remote { code, .. } => code,
        }
    }

    /// The code that is written so; `unknown` for those of later versions.
    #[must_use]
    pub fn known_code(text: &str) -> &'static str {
        CODES
            .iter()
            .find(|code| **code == text)
            .copied()
            .unwrap_or("unknown")
    }
}

/// Every code, as [`Rejection::code`] gives it.
pub const CODES: &[&str] = &[
    "too-large",
    "malformed",
    "wrong-chain",
    "bad-signature",
    "bad-record-signature",
    "expired",
    "nonce-used",
    "nonce-too-high",
    "not-allowed",
    "not-found",
    "exists",
    "version-pending",
    "wrong-version",
    "fenced",
    "nothing-pending",
    "attempt-over",
    "acknowledgements-missing",
    "too-few-signatures",
    "worker-not-independent",
    "not-enrolled",
    "measurement-not-allowed",
    "wrong-state",
    "delete-protected",
    "out-of-sequence",
    "time-locked",
    "overflow",
    "unsupported",
    "state-damaged",
];
