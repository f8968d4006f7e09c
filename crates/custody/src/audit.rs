//! What a custodian writes down of every decision, as a chain of records with a signed head.

use crypto::Identity;
use crypto::identity::{Signature, SignatureError, verify};
use domain::{
    DeploymentId, GenesisHash, Height, KeyId, KeyVersion, Principal, RecordHash, TimestampMs,
};
use ledger::Record as _;
use ledger::record::record;
use serde::{Deserialize, Serialize};

use crate::labels;
use crate::reason::Reason;
use crate::request::RequestHash;

record! {
    /// One decision. Its hash stands in the next one.
    AuditRecord = "audit-record", 1_024;
    /// 1 for the first record ever, then without gaps.
    sequence: u64,
    /// The hash of the record before; zeros for the first.
    previous: RecordHash,
    /// The ledger's time at the decision.
    time: TimestampMs,
    /// The newest header that the custodian knew.
    height: Height,
    /// Who asked, as the request says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    principal: Option<Principal>,
    /// Whether that principal's signature on the request was found good.
    verified: bool,
    /// The key, as the request says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    /// Its version, as the request says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<KeyVersion>,
    /// What was asked for.
    operation: AuditedOperation,
    /// How many ciphertexts.
    count: u32,
    /// What was decided.
    decision: Decision,
    /// The request's hash, where it could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    request: Option<RecordHash>,
    /// Refusals since the record before that have no record of their own, because too many came.
    suppressed: u64,
}

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditedOperation {
    /// A request to decrypt.
    Decrypt,
    /// A share of a new version, to be kept.
    HoldShare,
    /// A share of a pending version, to be shown to a worker.
    ShowShare,
    /// A page of this log.
    Audit,
}

/// What was decided: `allow`, or the code of a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Decision {
    /// Answered.
    Allow,
    /// Refused.
    Deny(Reason),
}

impl Decision {
    /// `allow`, or the reason's code.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny(reason) => reason.code(),
        }
    }
}

impl From<Decision> for String {
    fn from(decision: Decision) -> Self {
        decision.code().to_owned()
    }
}

impl TryFrom<String> for Decision {
    type Error = crate::reason::UnknownReason;

    fn try_from(code: String) -> Result<Self, Self::Error> {
        if code == Self::Allow.code() {
            return Ok(Self::Allow);
        }
        code.parse().map(Self::Deny)
    }
}

impl AuditRecord {
    /// What the next record names as the one before: BLAKE3 of label `audit-record`, deployment and the record.
    #[must_use]
    pub fn hash(&self, deployment: &DeploymentId) -> RecordHash {
        hash(deployment, &self.encode())
    }
}

/// The hash of an encoded record.
#[must_use]
pub fn hash(deployment: &DeploymentId, record: &[u8]) -> RecordHash {
    RecordHash(labels::AUDIT_RECORD.hash(deployment, &[record]))
}

/// The end of a custodian's log: the newest record's sequence number and hash. 0 and zeros: there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Sequence number.
    pub sequence: u64,
    /// Hash.
    pub hash: RecordHash,
}

impl AuditHead {
    /// Of a log without records.
    pub const EMPTY: Self = Self {
        sequence: 0,
        hash: RecordHash([0; 32]),
    };
}

/// The beginning of what is kept of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditStart {
    /// The entry before the first one that is kept; [`AuditHead::EMPTY`] while all are.
    pub before: AuditHead,
    /// The time of the first entry that is kept; 0 when there is none.
    pub time: TimestampMs,
}

/// A page of a log, with the log's ends as they were then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// What the log begins after.
    pub start: AuditStart,
    /// Where it ends.
    pub head: AuditHead,
    /// The entries, in order.
    pub entries: Vec<AuditEntry>,
}

impl Page {
    /// Says as a custodian that this is its answer to that request: the ends of its log, which entries, and which of them are shown.
    #[must_use]
    pub fn sign(
        &self,
        custodian: &Identity,
        deployment: &DeploymentId,
        chain: &GenesisHash,
        request: &RequestHash,
    ) -> Signature {
        custodian.sign(labels::AUDIT_PAGE, deployment, &self.body(chain, request))
    }

    /// Checks a custodian's word. A record that was left out on the way, an entry that was, and other ends than the log's do not hold.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(
        &self,
        custodian: &Principal,
        deployment: &DeploymentId,
        chain: &GenesisHash,
        request: &RequestHash,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        let body = self.body(chain, request);
        verify(custodian, labels::AUDIT_PAGE, deployment, &body, signature)
    }

    /// `genesis hash || request hash || u64 start || hash || u64 time || u64 head || hash || BLAKE3 of the entries`, of which each is
    /// `u64 sequence || hash || 1 if its record is shown, else 0`.
    fn body(&self, chain: &GenesisHash, request: &RequestHash) -> Vec<u8> {
        let mut entries = blake3::Hasher::new();
        for entry in &self.entries {
            entries.update(&entry.sequence.to_be_bytes());
            entries.update(entry.hash.as_bytes());
            entries.update(&[u8::from(entry.record.is_some())]);
        }
        let AuditStart { before, time } = &self.start;
        [
            chain.as_bytes().as_slice(),
            &request.0,
            &before.sequence.to_be_bytes(),
            before.hash.as_bytes(),
            &time.0.to_be_bytes(),
            &self.head.sequence.to_be_bytes(),
            self.head.hash.as_bytes(),
            entries.finalize().as_bytes(),
        ]
        .concat()
    }
}

/// An entry of a page: the whole record, or its hash where the asker may not read it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Sequence number.
    pub sequence: u64,
    /// The record's hash.
    pub hash: RecordHash,
    /// The record, encoded.
    pub record: Option<Vec<u8>>,
}

/// Why a page is no part of one chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PageError {
    /// An entry that is not the next.
    #[error("entry {got} does not follow entry {after}")]
    Gap {
        /// The entry before.
        after: u64,
        /// The entry.
        got: u64,
    },
    /// A record that does not have the hash beside it.
    #[error("entry {0} is not the record that its hash names")]
    Hash(u64),
    /// A record that names another one as the one before.
    #[error("entry {0} does not continue the one before")]
    Link(u64),
    /// A record that cannot be read.
    #[error("entry {sequence}: {source}")]
    Record {
        /// Which.
        sequence: u64,
        /// Why.
        source: records::RecordError,
    },
    /// The last entry is the head's, with another hash; or lies beyond it.
    #[error("entry {0} does not agree with the signed head")]
    Head(u64),
}

/// Checks that entries follow one another without gaps, that each record has its hash and names the one before, and that they
/// agree with the head. `before` is the entry before the first, where the caller has it from an earlier page.
///
/// # Errors
/// [`PageError`].
pub fn verify_page(
    deployment: &DeploymentId,
    before: Option<AuditHead>,
    entries: &[AuditEntry],
    head: &AuditHead,
) -> Result<Vec<Option<AuditRecord>>, PageError> {
    let mut last = before;
    let mut out = Vec::with_capacity(entries.len());
    for entry in entries {
        let sequence = entry.sequence;
        if let Some(last) = last
            && last.sequence.checked_add(1) != Some(sequence)
        {
            let after = last.sequence;
            return Err(PageError::Gap {
                after,
                got: sequence,
            });
        }
        let record = entry.record.as_deref().map(|bytes| {
            if hash(deployment, bytes) != entry.hash {
                return Err(PageError::Hash(sequence));
            }
            let record = AuditRecord::decode(bytes)
                .map_err(|source| PageError::Record { sequence, source })?;
            let follows = last.is_none_or(|last| record.previous == last.hash);
            if record.sequence != sequence || !follows {
                return Err(PageError::Link(sequence));
            }
            Ok(record)
        });
        out.push(record.transpose()?);
        if sequence > head.sequence || (sequence == head.sequence && entry.hash != head.hash) {
            return Err(PageError::Head(sequence));
        }
        last = Some(AuditHead {
            sequence,
            hash: entry.hash,
        });
    }
    Ok(out)
}
