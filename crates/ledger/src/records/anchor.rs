//! Anchors: Merkle roots over what is kept elsewhere (audit logs, batches of object writes).

use domain::{Height, MerkleRoot, TimestampMs};
use serde::{Deserialize, Serialize};

use crate::record::record;

/// What a root stands for. Each principal has one sequence of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AnchorKind {
    /// Records of an audit log.
    Audit,
    /// A batch of facts too frequent for a transaction each.
    Batch,
}

impl AnchorKind {
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Audit => 1,
            Self::Batch => 2,
        }
    }
}

record! {
    /// One anchored root.
    AnchorEntry = "anchor", 512;
    /// Its place in the sequence, from 1.
    sequence: u64,
    /// Over the items ([`crate::merkle::list`]).
    root: MerkleRoot,
    /// How many items.
    count: u64,
    /// The block.
    height: Height,
    /// The block's time.
    time: TimestampMs,
}

record! {
    /// The end of a principal's sequence of anchors.
    AnchorHead = "anchor-head", 512;
    /// The last anchor's place.
    sequence: u64,
    /// Its root.
    root: MerkleRoot,
    /// Items in all anchors of the sequence.
    total: u64,
}
