//! Committees of custodians, and the roots over their shares, epoch by epoch.

use std::collections::BTreeSet;

use crypto::Identity;
use crypto::identity::{Signature, SignatureError, verify};
use domain::{
    CommitteeId, DeploymentId, Epoch, Height, MerkleRoot, PlatformType, Principal, Slot, Threshold,
    TimestampMs,
};
use serde::{Deserialize, Serialize};

use crate::labels;
use crate::record::{Record as _, record};

/// One custodian of a committee.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Which share it holds, and whether as a standby.
    pub slot: Slot,
    /// The Ed25519 key that signs for it.
    pub key: Principal,
    /// What it runs on.
    pub platform: PlatformType,
}

record! {
    /// Custodians that share keys among themselves. Its id is its hash.
    Committee = "committee", 65_000;
    /// t of n.
    threshold: Threshold,
    /// One custodian for each index from 1 to n, at most one standby for each; ascending by index, the standby after its primary.
    members: Vec<Member>,
    /// Random, so that the same custodians can form another committee.
    #[serde(with = "serde_bytes")]
    random: [u8; 16],
}

/// Why a committee is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CommitteeError {
    /// Members out of order, a slot filled twice, or an index beyond n.
    #[error("members stand in the order of their slots, each slot once, indices 1 to n")]
    Slots,
    /// An index without a custodian.
    #[error("every index from 1 to n has a custodian that is no standby")]
    Missing,
    /// One key in two slots.
    #[error("a custodian has one slot only: {0}")]
    Key(Principal),
}

impl Committee {
    /// BLAKE3 of label, deployment id and the record.
    #[must_use]
    pub fn id(&self, deployment: &DeploymentId) -> CommitteeId {
        CommitteeId(labels::hash(labels::COMMITTEE, deployment, &self.encode()))
    }

    /// Checks the slots.
    ///
    /// # Errors
    /// [`CommitteeError`].
    pub fn validate(&self) -> Result<(), CommitteeError> {
        if !self.members.is_sorted_by(|a, b| a.slot < b.slot)
            || !self
                .members
                .iter()
                .all(|m| self.threshold.has(m.slot.index))
        {
            return Err(CommitteeError::Slots);
        }
        if self.primaries().count() != usize::from(self.threshold.n()) {
            return Err(CommitteeError::Missing);
        }
        let mut keys = BTreeSet::new();
        for member in &self.members {
            if !keys.insert(member.key) {
                return Err(CommitteeError::Key(member.key));
            }
        }
        Ok(())
    }

    /// The member in a slot.
    #[must_use]
    pub fn member(&self, slot: Slot) -> Option<&Member> {
        self.members.iter().find(|member| member.slot == slot)
    }

    /// Members that are no standby.
    pub fn primaries(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| !member.slot.standby)
    }
}

record! {
    /// A committee that governance admitted.
    CommitteeEntry = "committee-entry", 65_536;
    /// The committee.
    #[serde(with = "serde_bytes")]
    committee: Vec<u8>,
    /// The block.
    height: Height,
    /// From when keys may be made with it.
    from: TimestampMs,
}

record! {
    /// What the members of a committee hold in an epoch, said by each of them.
    ShareRoot = "share-root", 512;
    /// The committee.
    committee: CommitteeId,
    /// The epoch.
    epoch: Epoch,
    /// Over (key, version, commitment) of every sharing of that epoch.
    root: MerkleRoot,
    /// How many.
    count: u64,
}

impl ShareRoot {
    /// Signs it as a custodian.
    #[must_use]
    pub fn sign(&self, custodian: &Identity, deployment: &DeploymentId) -> Signature {
        custodian.sign(labels::SHARE_ROOT, deployment, &self.encode())
    }

    /// Checks a custodian's signature.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify(
        &self,
        custodian: &Principal,
        deployment: &DeploymentId,
        signature: &Signature,
    ) -> Result<(), SignatureError> {
        verify(
            custodian,
            labels::SHARE_ROOT,
            deployment,
            &self.encode(),
            signature,
        )
    }
}

record! {
    /// A recorded share root. At least t + 1 members (all of them where n = t) have signed it.
    ShareRootEntry = "share-root-entry", 1_024;
    /// What they signed.
    share_root: ShareRootStatement,
    /// The block.
    height: Height,
}

/// A [`ShareRoot`] inside another record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShareRootStatement {
    /// The committee.
    pub committee: CommitteeId,
    /// The epoch.
    pub epoch: Epoch,
    /// The root.
    pub root: MerkleRoot,
    /// How many sharings.
    pub count: u64,
}

impl From<ShareRootStatement> for ShareRoot {
    fn from(statement: ShareRootStatement) -> Self {
        let ShareRootStatement {
            committee,
            epoch,
            root,
            count,
        } = statement;
        Self {
            committee,
            epoch,
            root,
            count,
        }
    }
}
