//! What clients sign when they ask for something.

use crypto::hybrid;
use crypto::kem::KemHash;
use domain::{
    DeploymentId, GenesisHash, Height, KeyId, KeyVersion, Principal, RecordHash, TimestampMs,
};
use ledger::Record as _;
use ledger::record::{record, signed_by};
use sealed::signed::Signed;
use serde::{Deserialize, Serialize};

use crate::labels;

/// Ciphertexts in one request, at most.
pub const CIPHERTEXTS_MAX: usize = 64;
/// Milliseconds from `issued` to `expires`, at most.
pub const LIFETIME_MS_MAX: u64 = 60_000;
/// How far `issued` may lie ahead of the newest header that a custodian knows, whose time is some seconds old.
pub const AHEAD_MS_MAX: u64 = 10_000;
/// Entries of one page of an audit log, at most.
pub const AUDIT_PAGE_MAX: u32 = 256;

/// What is done with the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Opens ciphertexts.
    Decrypt,
}

impl Operation {
    /// The name in records and logs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Decrypt => "decrypt",
        }
    }
}

record! {
    /// A client asks custodians and a worker to open 1 to 64 ciphertexts of one key version, for one recipient.
    DecryptRequest = "decrypt-request", 8_192;
    /// The ledger.
    chain: GenesisHash,
    /// Who asks, and signs.
    principal: Principal,
    /// What for.
    operation: Operation,
    /// The key.
    key: KeyId,
    /// Its version.
    version: KeyVersion,
    /// One for each ciphertext, in order. Each covers the ciphertext and its context.
    kem_hashes: KemHashes,
    /// X25519 key that custodians seal their partials to. Drawn for this request.
    #[serde(with = "serde_bytes")]
    recipient_dh: [u8; 32],
    /// X-Wing key that the worker seals the post-quantum secrets to. Drawn for this request.
    #[serde(with = "serde_bytes")]
    recipient_pq: [u8; hybrid::PUBLIC_KEY_BYTES],
    /// The ledger's proofs must be of this height or above.
    min_height: Height,
    /// When it was signed, by the ledger's time.
    issued: TimestampMs,
    /// Until when it may be answered, exclusive; at most a minute later.
    expires: TimestampMs,
    /// Random. A custodian answers each once.
    #[serde(with = "serde_bytes")]
    nonce: [u8; 16],
    /// The job that it is for, where the recipient is a worker. No custodian answers such a request yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    job: Option<RecordHash>,
}

signed_by!(DecryptRequest, principal, labels::DECRYPT_REQUEST);

record! {
    /// Whoever may rotate a key asks a worker and the custodians to make its pending version.
    DealRequest = "deal-request", 512;
    /// The ledger.
    chain: GenesisHash,
    /// Who asks, and signs.
    principal: Principal,
    /// The key.
    key: KeyId,
    /// Its pending version.
    version: KeyVersion,
    /// Which attempt at it.
    fencing: u64,
    /// When it was signed, by the ledger's time.
    issued: TimestampMs,
    /// Until when it may be begun with, exclusive; at most a minute later.
    expires: TimestampMs,
    /// Random.
    #[serde(with = "serde_bytes")]
    nonce: [u8; 16],
}

signed_by!(DealRequest, principal, labels::DEAL_REQUEST);

record! {
    /// A client asks a custodian for a page of its audit log.
    AuditRequest = "audit-request", 512;
    /// The ledger.
    chain: GenesisHash,
    /// Who asks, and signs.
    principal: Principal,
    /// Whose entries are shown in full; absent: of every key that the proofs show to be the asker's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    /// Entries after this sequence number; 0: from the first one kept.
    after: u64,
    /// How many, at most 256.
    limit: u32,
    /// When it was signed, by the ledger's time.
    issued: TimestampMs,
    /// Until when it may be answered, exclusive; at most a minute later.
    expires: TimestampMs,
    /// Random.
    #[serde(with = "serde_bytes")]
    nonce: [u8; 16],
}

signed_by!(AuditRequest, principal, labels::AUDIT_REQUEST);

/// 1 to 64 hashes of ciphertexts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct KemHashes(Vec<KemHash>);

/// Not 1 to 64 ciphertexts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a request is for 1 to {CIPHERTEXTS_MAX} ciphertexts, not {0}")]
pub struct CountError(pub usize);

impl KemHashes {
    /// Takes 1 to 64.
    ///
    /// # Errors
    /// [`CountError`].
    pub fn new(hashes: Vec<KemHash>) -> Result<Self, CountError> {
        if (1..=CIPHERTEXTS_MAX).contains(&hashes.len()) {
            Ok(Self(hashes))
        } else {
            Err(CountError(hashes.len()))
        }
    }

    /// The hashes, in order.
    #[must_use]
    pub fn as_slice(&self) -> &[KemHash] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for KemHashes {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Vec::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Names a request in answers, proofs and audit records: BLAKE3 of label `request-hash`, deployment and the signed body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestHash(pub [u8; 32]);

impl RequestHash {
    /// Of the body of any request.
    #[must_use]
    pub fn of_body(deployment: &DeploymentId, body: &[u8]) -> Self {
        Self(labels::REQUEST_HASH.hash(deployment, &[body]))
    }
}

impl DecryptRequest {
    /// The hash of this request.
    #[must_use]
    pub fn hash(&self, deployment: &DeploymentId) -> RequestHash {
        RequestHash::of_body(deployment, &self.encode())
    }
}

impl AuditRequest {
    /// The hash of this request.
    #[must_use]
    pub fn hash(&self, deployment: &DeploymentId) -> RequestHash {
        RequestHash::of_body(deployment, &self.encode())
    }
}

/// The hash of a signed request.
#[must_use]
pub fn request_hash<T: sealed::signed::Content>(
    deployment: &DeploymentId,
    request: &Signed<T>,
) -> RequestHash {
    RequestHash::of_body(deployment, request.body())
}
