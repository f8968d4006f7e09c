//! The ledger over REST: `/v1/ledger`. Records are bytes here; whoever asked checks proofs and signatures.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Base64Url;

/// Keys of one read, at most.
pub const LEDGER_READ_KEYS_MAX: usize = 64;
/// Entries of one listing, at most.
pub const LEDGER_LIST_MAX: u32 = 1_000;
/// Bytes of a signed transaction, at most.
pub const TRANSACTION_BYTES_MAX: usize = 128 << 10;

/// `GET /v1/ledger/status`. Not proved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerStatus {
    /// The newest block.
    pub height: u64,
    /// Its time.
    pub time_ms: u64,
    /// Keys with a value.
    pub keys: u64,
    /// Transactions that wait or are being written.
    pub waiting: u64,
    /// Whether transactions are taken.
    pub writable: bool,
    /// If not, why.
    pub writable_detail: Option<String>,
    /// How the ledger agrees: `solo: the operator is the ledger`.
    pub engine: String,
    /// Whether this is a development deployment, which protects nothing from the machine's owner.
    pub development: bool,
    /// Version of the validator's program.
    pub software_version: String,
    /// The chain's id, 64 hexadecimal digits: what clients pin.
    #[schema(value_type = String)]
    pub genesis: domain::GenesisHash,
}

/// `POST /v1/ledger/read`: values of one height, with proofs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LedgerReadBody {
    /// 1 to 64 keys of the state.
    pub keys: Vec<Base64Url>,
    /// Wait for this height; 0: answer from what is there.
    #[serde(default)]
    pub at_least: u64,
}

/// Answer to [`LedgerReadBody`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerReadAnswer {
    /// In the order of the keys.
    pub values: Vec<LedgerValue>,
    /// A ledger-header record.
    pub header: Base64Url,
    /// A ledger-certificate record over it.
    pub certificate: Base64Url,
}

/// A value, or that there is none, with the way to the state root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerValue {
    /// Null: there is no value.
    #[schema(value_type = Option<String>)]
    pub value: Option<Base64Url>,
    /// A state-proof record.
    pub proof: Base64Url,
}

/// `GET /v1/ledger/headers`: a final block's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerHeader {
    /// A ledger-header record.
    pub header: Base64Url,
    /// A ledger-certificate record over it.
    pub certificate: Base64Url,
    /// Where a nonce was sent: a ledger-fresh-answer record of each validator that answered.
    pub fresh: Vec<Base64Url>,
}

/// `GET /v1/ledger/list`: keys and values under a prefix. Without proof.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerList {
    /// In order; fewer than asked for at the end.
    pub entries: Vec<LedgerEntry>,
}

/// A key of the state with its value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LedgerEntry {
    /// The key.
    pub key: Base64Url,
    /// The value.
    pub value: Base64Url,
}
