//! Named keys over REST: `/v1/keys`, `/v1/custody`. What enclaves sign and seal passes through; clients check it.

use domain::{CommitteeId, KeyId, Principal};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Base64Url;

/// Ciphertexts of one request to decrypt, at most.
pub const DECRYPT_MAX: usize = 64;

/// `POST /v1/keys/{key}/versions/{version}/deal`: has the pending version made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DealBody {
    /// A signed deal-request record.
    pub request: Base64Url,
}

/// What an activate-version transaction needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DealAnswer {
    /// A key-version record.
    pub statement: Base64Url,
    /// What is public of each share, 64 bytes each.
    pub commitments: Base64Url,
    /// Of every member of the committee, in the order of their slots.
    pub acknowledgements: Vec<AcknowledgementInfo>,
    /// The worker that checked the shares.
    #[schema(value_type = String)]
    pub activation_worker: Principal,
    /// Its signature.
    pub activation_signature: Base64Url,
}

/// A custodian's word that it holds its share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AcknowledgementInfo {
    /// Share index, from 1.
    pub index: u8,
    /// Whether it is a standby.
    pub standby: bool,
    /// 64 bytes.
    pub signature: Base64Url,
}

/// `POST /v1/keys/{key}/decrypt`: 1 to 64 ciphertexts of one key version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecryptBody {
    /// A signed decrypt-request record.
    pub request: Base64Url,
    /// In the request's order.
    pub ciphertexts: Vec<CiphertextInfo>,
}

/// A ciphertext of a named key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CiphertextInfo {
    /// `u`, `u-bar`, `w`, `w-bar`, `f`: 160 bytes.
    pub dh: Base64Url,
    /// The ML-KEM ciphertext, 1,088 bytes.
    pub pq: Base64Url,
    /// The encryption context, encoded.
    pub context: Base64Url,
}

/// What a worker and the custodians released: sealed to the request's recipient keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DecryptAnswer {
    /// Of at least t custodians.
    pub partials: Vec<SealedPartialsInfo>,
    /// One 32-byte secret per ciphertext, sealed together to the X-Wing key.
    pub sealed_secrets: Base64Url,
    /// Which worker.
    #[schema(value_type = String)]
    pub worker: Principal,
    /// Its signature.
    pub signature: Base64Url,
    /// Custodians that refused or failed.
    pub failures: Vec<CustodianRefusal>,
}

/// A custodian's partial decryptions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SealedPartialsInfo {
    /// One partial per ciphertext, sealed together to the X25519 key.
    pub sealed: Base64Url,
    /// Share index.
    pub index: u8,
    /// Who it says it is.
    #[schema(value_type = String)]
    pub custodian: Principal,
    /// Over request hash, index, epoch and hash of `sealed`.
    pub signature: Base64Url,
}

/// A custodian that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CustodianRefusal {
    /// Share index; 0: the worker itself.
    pub index: u8,
    /// Stable, listed in docs/custody.md; `unreachable` when it did not answer.
    pub code: String,
    /// One sentence.
    pub detail: String,
    /// Whether the same may work later or elsewhere.
    pub retry: bool,
}

/// `POST /v1/custody/confirm`: has every custodian release nothing any more on proofs older than this header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConfirmBody {
    /// A ledger-header record.
    pub header: Base64Url,
    /// A ledger-certificate record over it.
    pub certificate: Base64Url,
    /// The key whose custodians are asked.
    #[schema(value_type = String)]
    pub key: KeyId,
    /// 32 random bytes that answers are signed over.
    pub nonce: Base64Url,
}

/// Who has confirmed, signed by each custodian: the gateway only carries it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfirmAnswer {
    /// Those whose least height is now at least the header's.
    pub confirmed: Vec<ConfirmedInfo>,
    /// Those that refused or did not answer.
    pub refused: Vec<CustodianRefusal>,
}

/// A custodian that confirmed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConfirmedInfo {
    /// Share index.
    pub index: u8,
    /// Below this height it releases nothing.
    pub height: u64,
    /// Who it says it is.
    #[schema(value_type = String)]
    pub custodian: Principal,
    /// Over the ledger, the custodian, the key, the nonce and the height: 64 bytes.
    pub signature: Base64Url,
}

/// `POST /v1/custody/audit`: a page of one custodian's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditBody {
    /// Share index.
    pub index: u8,
    /// Whether its standby is meant.
    #[serde(default)]
    pub standby: bool,
    /// A signed audit-request record.
    pub request: Base64Url,
}

/// A page of an audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditAnswer {
    /// In order.
    pub entries: Vec<AuditEntryInfo>,
    /// The number of the record before the first one that is kept; 0 while all are.
    pub start: u64,
    /// That record's hash, 32 bytes.
    pub start_hash: Base64Url,
    /// The time of the first record that is kept.
    pub start_time_ms: u64,
    /// The newest record's number.
    pub head: u64,
    /// The newest record's hash, 32 bytes.
    pub head_hash: Base64Url,
    /// Whose log.
    #[schema(value_type = String)]
    pub custodian: Principal,
    /// Its signature over the request, both ends of the log, the entries and which of them are shown.
    pub signature: Base64Url,
}

/// A record of an audit log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntryInfo {
    /// From 1, without gaps.
    pub sequence: u64,
    /// The record's hash, 32 bytes.
    pub hash: Base64Url,
    /// The audit-record; null: not for the asker to read.
    #[schema(value_type = Option<String>)]
    pub record: Option<Base64Url>,
}

/// `GET /v1/custody`: custodians and workers as this gateway sees them. Not proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CustodyInfo {
    /// Committees of these custodians.
    #[schema(value_type = Vec<String>)]
    pub committees: Vec<CommitteeId>,
    /// Custodians, by index, a standby after its primary.
    pub custodians: Vec<EnclaveInfo>,
    /// Workers.
    pub workers: Vec<EnclaveInfo>,
}

/// An enclave.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnclaveInfo {
    /// The key that signs for it.
    #[schema(value_type = String)]
    pub principal: Principal,
    /// Share index of a custodian.
    pub index: Option<u8>,
    /// Whether a custodian is a standby.
    pub standby: bool,
    /// Whether it answered just now, with evidence that the ledger's policy accepts.
    pub reachable: bool,
    /// Why not.
    pub detail: Option<String>,
    /// What it says of itself; null when it does not answer.
    #[schema(value_type = Option<Object>)]
    pub description: Option<EnclaveDescription>,
}

/// What an enclave says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EnclaveDescription {
    /// `custodian` or `worker`.
    pub role: String,
    /// What it runs on.
    pub platform: String,
    /// What the platform measured.
    pub measurement: Base64Url,
    /// Version of its program.
    pub software_version: String,
    /// The newest header that it has checked.
    pub height: u64,
    /// That header's time.
    pub time_ms: u64,
    /// Whether it has a recent answer of the ledger, without which it releases nothing.
    pub fresh: bool,
    /// Totals since its start.
    #[schema(value_type = Object)]
    pub counters: std::collections::BTreeMap<String, u64>,
}
