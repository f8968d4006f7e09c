//! The genesis record: what a ledger begins with, and what clients and enclaves pin by its hash.

use domain::{DeploymentId, GenesisHash, MerkleRoot, Principal, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::header::ValidatorSet;
use crate::labels;
use crate::record::{Record as _, record};

/// Governance keys, at most.
pub const GOVERNORS_MAX: usize = 64;

record! {
    /// What a ledger begins with. Its hash is the chain id of every transaction.
    Genesis = "ledger-genesis", 16_384;
    /// The deployment, bound into every label.
    deployment: DeploymentId,
    /// Whether this is a development deployment: software attestation is accepted and nothing waits for a time lock.
    /// It protects nothing from the machine's owner, and can never become a production deployment.
    development: bool,
    /// The key that signs evidence of the software platform; of use in a development deployment only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    software_root: Option<Principal>,
    /// Who decides about measurements, policy, committees and enrolment.
    governance: Governance,
    /// Who signs headers.
    validators: ValidatorSet,
    /// Bounds.
    limits: Limits,
    /// Time of the genesis header.
    time: TimestampMs,
    /// The ledger that this one continues, if it is a promotion of a Solo ledger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    continues: Option<Continues>,
}

/// k of m keys that govern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Governance {
    k: u8,
    keys: Vec<Principal>,
}

/// Why a governance set is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("governance is k of m keys, each once, in ascending order, 1 <= k <= m <= {GOVERNORS_MAX}")]
pub struct GovernanceError;

impl Governance {
    /// Sorts the keys.
    ///
    /// # Errors
    /// [`GovernanceError`] for a k that the keys cannot reach, too many keys or one that is given twice.
    pub fn new(k: u8, mut keys: Vec<Principal>) -> Result<Self, GovernanceError> {
        keys.sort_unstable();
        let ascending = keys.is_sorted_by(|a, b| a < b);
        if k == 0 || usize::from(k) > keys.len() || keys.len() > GOVERNORS_MAX || !ascending {
            return Err(GovernanceError);
        }
        Ok(Self { k, keys })
    }

    /// Signatures that are needed.
    #[must_use]
    pub fn k(&self) -> u8 {
        self.k
    }

    /// The keys, ascending.
    #[must_use]
    pub fn keys(&self) -> &[Principal] {
        &self.keys
    }
}

impl<'de> Deserialize<'de> for Governance {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Parts {
            k: u8,
            keys: Vec<Principal>,
        }
        let parts = Parts::deserialize(deserializer)?;
        if !parts.keys.is_sorted_by(|a, b| a < b) {
            return Err(serde::de::Error::custom(GovernanceError));
        }
        Self::new(parts.k, parts.keys).map_err(serde::de::Error::custom)
    }
}

/// Bounds that belong to the ledger, fixed at its genesis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Bytes of a signed transaction.
    pub transaction_bytes: u32,
    /// Transactions in a block.
    pub block_transactions: u32,
    /// Bytes of transactions in a block.
    pub block_bytes: u32,
    /// How long a change that allows more waits before it takes effect. In a development deployment nothing waits.
    pub time_lock_ms: u64,
    /// How long a key version may stay pending before another attempt may take its place.
    pub pending_ms: u64,
    /// Versions of one key.
    pub key_versions: u32,
}

impl Limits {
    /// 64 KiB transactions, blocks of 4,096 transactions and 8 MiB, a day of time lock, ten minutes to deal a key
    /// version, 10,000 versions.
    pub const DEFAULT: Self = Self {
        transaction_bytes: 64 << 10,
        block_transactions: 4_096,
        block_bytes: 8 << 20,
        time_lock_ms: 24 * 3_600_000,
        pending_ms: 600_000,
        key_versions: 10_000,
    };
}

/// Where a promoted ledger takes over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Continues {
    /// The genesis before.
    pub genesis: GenesisHash,
    /// Its last height.
    pub height: domain::Height,
    /// Its state there.
    pub state_root: MerkleRoot,
}

impl Genesis {
    /// The chain id: BLAKE3 of label, deployment id and the record.
    #[must_use]
    pub fn hash(&self) -> GenesisHash {
        GenesisHash(labels::hash(
            labels::GENESIS,
            &self.deployment,
            &self.encode(),
        ))
    }

    /// How long what allows more has to wait: nothing in a development deployment.
    #[must_use]
    pub fn time_lock_ms(&self) -> u64 {
        if self.development {
            0
        } else {
            self.limits.time_lock_ms
        }
    }
}
