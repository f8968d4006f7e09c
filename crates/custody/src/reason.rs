//! Why something was refused: a stable code, one sentence for people, and whether it may work later.

use std::fmt;
use std::str::FromStr;

/// Every reason. The code is stable; `docs/custody.md` lists them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Reason {
    /// Bytes that are no request, or one that this version does not know.
    Malformed,
    /// Not signed by the principal that it names.
    Signature,
    /// For another ledger.
    OtherLedger,
    /// Its time is over, or longer than allowed.
    Expired,
    /// From the future.
    TooEarly,
    /// Answered before, or perhaps so.
    Replayed,
    /// Nobody has said lately what the ledger's newest header is.
    LedgerStale,
    /// The proofs are older than what the request or the custodian asks for.
    ProofStale,
    /// A header, certificate, value or proof that shows nothing, or is missing.
    Proof,
    /// No chain of grants from the owner.
    NotGranted,
    /// Pending, retired or destroyed.
    KeyState,
    /// Governance has stopped all releases.
    Suspended,
    /// Below the least version that the owner lets be decrypted.
    BelowMinimum,
    /// The ledger's entry is about another version.
    VersionMismatch,
    /// The custodian's share is of another epoch or committee.
    Epoch,
    /// Not the ciphertext that was signed for.
    KemHash,
    /// A ciphertext whose proof does not hold.
    CiphertextProof,
    /// A context without a name that the key's policy asks for.
    ContextPolicy,
    /// A question that this peer may not ask.
    PeerRole,
    /// As much is being done or remembered as may be.
    Busy,
    /// Not in the committee, or not in a place that serves.
    NotAMember,
    /// The custodian holds no such share, or another one.
    UnknownShare,
    /// A statement that does not fit what the custodian knows of the version.
    Statement,
    /// The sealed store takes or gives nothing.
    Storage,
    /// The sealed store is older than what the custodian has put on the ledger.
    Rollback,
}

impl Reason {
    /// Every reason, in the order of the documentation.
    pub const ALL: [Self; 25] = [
        Self::Malformed,
        Self::Signature,
        Self::OtherLedger,
        Self::Expired,
        Self::TooEarly,
        Self::Replayed,
        Self::LedgerStale,
        Self::ProofStale,
        Self::Proof,
        Self::NotGranted,
        Self::KeyState,
        Self::Suspended,
        Self::BelowMinimum,
        Self::VersionMismatch,
        Self::Epoch,
        Self::KemHash,
        Self::CiphertextProof,
        Self::ContextPolicy,
        Self::PeerRole,
        Self::Busy,
        Self::NotAMember,
        Self::UnknownShare,
        Self::Statement,
        Self::Storage,
        Self::Rollback,
    ];

    /// The stable code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed",
            Self::Signature => "signature",
            Self::OtherLedger => "other-ledger",
            Self::Expired => "expired",
            Self::TooEarly => "too-early",
            Self::Replayed => "replayed",
            Self::LedgerStale => "ledger-stale",
            Self::ProofStale => "proof-stale",
            Self::Proof => "proof",
            Self::NotGranted => "not-granted",
            Self::KeyState => "key-state",
            Self::Suspended => "suspended",
            Self::BelowMinimum => "below-minimum",
            Self::VersionMismatch => "version-mismatch",
            Self::Epoch => "epoch",
            Self::KemHash => "kem-hash",
            Self::CiphertextProof => "ciphertext-proof",
            Self::ContextPolicy => "context-policy",
            Self::PeerRole => "peer-role",
            Self::Busy => "busy",
            Self::NotAMember => "not-a-member",
            Self::UnknownShare => "unknown-share",
            Self::Statement => "statement",
            Self::Storage => "storage",
            Self::Rollback => "rollback",
        }
    }

    /// What a person is told.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Self::Malformed => {
                "the request cannot be read, or asks for something that is not known here"
            }
            Self::Signature => "the request is not signed by the principal that it names",
            Self::OtherLedger => "the request is for another ledger",
            Self::Expired => "the request's time is over or longer than a minute: sign a new one",
            Self::TooEarly => {
                "the request is from the future: compare the clock with the ledger's time"
            }
            Self::Replayed => {
                "the request was answered before, or signed before this custodian started: sign a new one"
            }
            Self::LedgerStale => {
                "the ledger's validators have not confirmed their newest block lately: nothing is released until they do"
            }
            Self::ProofStale => "the ledger's proofs are too old: fetch them again",
            Self::Proof => "the ledger's proofs do not show what the request needs",
            Self::NotGranted => "no chain of grants leads from the key's owner to this principal",
            Self::KeyState => {
                "the key or this version of it is not open for decryption: pending, retired or destroyed"
            }
            Self::Suspended => "governance has suspended the key",
            Self::BelowMinimum => {
                "the version is below the least one that the owner lets be decrypted"
            }
            Self::VersionMismatch => "the ledger's entry is about another version of the key",
            Self::Epoch => "the custodian holds a share of another epoch or committee",
            Self::KemHash => "a ciphertext or context is not the one that was signed for",
            Self::CiphertextProof => {
                "a ciphertext's proof does not hold for this key version and context"
            }
            Self::ContextPolicy => "a context lacks a name that the key's policy asks for",
            Self::PeerRole => "this question is not answered to such a peer",
            Self::Busy => "too much is being done at once: try again",
            Self::NotAMember => "the custodian has no serving place in the committee",
            Self::UnknownShare => "the custodian does not hold the share that the ledger names",
            Self::Statement => {
                "the statement does not fit what the custodian knows of the key version"
            }
            Self::Storage => "the custodian's store takes or gives nothing now",
            Self::Rollback => {
                "the custodian's store is older than what it has put on the ledger: it serves nothing any more"
            }
        }
    }

    /// Whether the same may work later, elsewhere, or with newer proofs.
    #[must_use]
    pub const fn retry(self) -> bool {
        matches!(
            self,
            Self::TooEarly
                | Self::LedgerStale
                | Self::ProofStale
                | Self::Epoch
                | Self::Busy
                | Self::UnknownShare
                | Self::Storage
                | Self::Rollback
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Not a code of a reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a reason for a refusal")]
pub struct UnknownReason;

impl FromStr for Reason {
    type Err = UnknownReason;

    fn from_str(code: &str) -> Result<Self, UnknownReason> {
        Self::ALL
            .into_iter()
            .find(|reason| reason.code() == code)
            .ok_or(UnknownReason)
    }
}

/// A refusal: the reason, and what exactly. Nothing in it is secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", .reason.sentence(), Detail(.detail))]
pub struct Denial {
    /// Why.
    pub reason: Reason,
    /// What exactly, in words; may be empty.
    pub detail: String,
}

/// Characters of a detail, at most: it may quote what came in.
const DETAIL_CHARS_MAX: usize = 200;

impl Denial {
    /// With what exactly.
    #[must_use]
    pub fn new(reason: Reason, detail: impl fmt::Display) -> Self {
        let detail = detail.to_string().chars().take(DETAIL_CHARS_MAX).collect();
        Self { reason, detail }
    }
}

impl From<Reason> for Denial {
    fn from(reason: Reason) -> Self {
        Self {
            reason,
            detail: String::new(),
        }
    }
}

struct Detail<'a>(&'a str);

impl fmt::Display for Detail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            Ok(())
        } else {
            write!(f, " ({})", self.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_distinct_and_read_back() {
        for (at, reason) in Reason::ALL.into_iter().enumerate() {
            assert_eq!(reason.code().parse(), Ok(reason));
            assert_eq!(
                Reason::ALL
                    .iter()
                    .position(|one| one.code() == reason.code()),
                Some(at)
            );
            assert!(!reason.sentence().is_empty() && reason.code() != "allow");
        }
        assert_eq!("Malformed".parse::<Reason>(), Err(UnknownReason));
    }

    #[test]
    fn a_denial_says_its_sentence_and_bounds_what_it_quotes() {
        let denial = Denial::new(Reason::Busy, "x".repeat(1_000));
        assert_eq!(denial.detail.len(), DETAIL_CHARS_MAX);
        let text = Denial::from(Reason::Signature).to_string();
        assert_eq!(text, Reason::Signature.sentence());
    }
}
