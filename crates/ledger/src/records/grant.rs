//! Grants: an owner's signed word that another principal may use a key, and chains of them.

use domain::{DeploymentId, Height, KeyId, Principal, RecordHash, TimestampMs};
use sealed::signed::Signed;
use serde::{Deserialize, Serialize};

use crate::labels;
use crate::record::{record, signed_by};

/// Links from the owner to whoever uses the key, at most.
pub const CHAIN_LINKS_MAX: usize = 4;

/// What a grant allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Operations(u8);

impl Operations {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// Open ciphertexts.
    pub const DECRYPT: Self = Self(1);
    /// Pass on what one has oneself, to others.
    pub const GRANT: Self = Self(2);
    /// Make new versions.
    pub const ROTATE: Self = Self(4);
    const ALL: u8 = 7;

    /// Both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` are allowed.
    #[must_use]
    pub const fn allow(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl From<Operations> for u8 {
    fn from(operations: Operations) -> Self {
        operations.0
    }
}

impl TryFrom<u8> for Operations {
    type Error = &'static str;

    fn try_from(bits: u8) -> Result<Self, Self::Error> {
        if bits == 0 || bits > Self::ALL {
            return Err("operations are decrypt 1, grant 2, rotate 4, at least one");
        }
        Ok(Self(bits))
    }
}

record! {
    /// A principal may use a key.
    KeyGrant = "key-grant", 1_024;
    /// Which key.
    key: KeyId,
    /// Who may.
    grantee: Principal,
    /// What.
    operations: Operations,
    /// Who says so: the owner, or somebody with [`Operations::GRANT`].
    granted_by: Principal,
    /// Of a granter that is not the owner: the hash of the grant that makes it one. When that one falls, so does this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    parent: Option<RecordHash>,
    /// Grows with every grant of this key to this grantee, so that a revoked one can never be brought back.
    serial: u64,
    /// Until when, exclusive; absent: until revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<TimestampMs>,
}

signed_by!(KeyGrant, granted_by, labels::KEY_GRANT);

record! {
    /// The newest grant of a key to a principal, and whether it was revoked. Revoked ones stay, so that they are proved to be.
    GrantEntry = "grant-entry", 2_048;
    /// The signed grant.
    #[serde(with = "serde_bytes")]
    grant: Vec<u8>,
    /// The block that brought it.
    height: Height,
    /// The block that revoked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked: Option<Height>,
}

/// Why a chain of grants does not reach from the owner to a principal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainError {
    /// There is none, or one too long.
    #[error("a principal other than the owner needs 1 to {CHAIN_LINKS_MAX} grants, {0} were given")]
    Length(usize),
    /// An entry that does not parse.
    #[error("grant {index} of the chain is malformed: {reason}")]
    Malformed {
        /// Its place, 0 is the principal's own.
        index: usize,
        /// Why.
        reason: String,
    },
    /// Revoked.
    #[error("grant {index} of the chain was revoked in block {height}")]
    Revoked {
        /// Its place.
        index: usize,
        /// When.
        height: Height,
    },
    /// Expired.
    #[error("grant {index} of the chain has expired")]
    Expired {
        /// Its place.
        index: usize,
    },
    /// For another key or principal, or by another granter than the next link is for.
    #[error("grant {index} of the chain does not fit the one before")]
    Mismatch {
        /// Its place.
        index: usize,
    },
    /// It does not allow what is asked for, or its holder may not pass it on.
    #[error("grant {index} of the chain does not allow this")]
    NotAllowed {
        /// Its place.
        index: usize,
    },
    /// Not signed by its granter.
    #[error("grant {index} of the chain is not signed by its granter")]
    Signature {
        /// Its place.
        index: usize,
    },
    /// The last one is not the owner's.
    #[error("the chain does not begin with the owner")]
    NotTheOwners,
}

/// Checks that `principal` may do `wanted` with the key at `now`: it is the owner, or each of `chain` (the entry of the principal
/// first, then its granter's, and so on up to one that the owner signed) stands, is signed, fits the next, and allows it. That the
/// entries are in the state is shown by their proofs; the signatures are what binds the ledger's operator.
///
/// # Errors
/// [`ChainError`].
pub fn verify_chain(
    deployment: &DeploymentId,
    owner: &Principal,
    key: &KeyId,
    principal: &Principal,
    wanted: Operations,
    now: TimestampMs,
    chain: &[GrantEntry],
) -> Result<(), ChainError> {
    if principal == owner {
        return Ok(());
    }
    if chain.is_empty() || chain.len() > CHAIN_LINKS_MAX {
        return Err(ChainError::Length(chain.len()));
    }
    let (mut holder, mut needed) = (*principal, wanted);
    // The hash that the link before names as its parent.
    let mut named: Option<RecordHash> = None;
    for (index, entry) in chain.iter().enumerate() {
        let grant =
            Signed::<KeyGrant>::decode(&entry.grant).map_err(|error| ChainError::Malformed {
                index,
                reason: error.to_string(),
            })?;
        if let Some(height) = entry.revoked {
            return Err(ChainError::Revoked { index, height });
        }
        if grant.expires.is_some_and(|expires| now >= expires) {
            return Err(ChainError::Expired { index });
        }
        let fits = index == 0 || named == Some(RecordHash(grant.hash()));
        if grant.key != *key || grant.grantee != holder || !fits {
            return Err(ChainError::Mismatch { index });
        }
        if !grant.operations.allow(needed) {
            return Err(ChainError::NotAllowed { index });
        }
        grant
            .verify_signature(deployment)
            .map_err(|_| ChainError::Signature { index })?;
        if grant.granted_by == *owner {
            return if index + 1 == chain.len() && grant.parent.is_none() {
                Ok(())
            } else {
                Err(ChainError::Mismatch { index })
            };
        }
        holder = grant.granted_by;
        named = grant.parent;
        needed = needed.and(Operations::GRANT);
    }
    Err(ChainError::NotTheOwners)
}
