//! Datasets: published, versioned trees of objects.

use domain::{Cid, DatasetId, DeploymentId, Height, MerkleRoot, Principal, TimestampMs};

use crate::labels;
use crate::record::record;

record! {
    /// The newest version of a dataset.
    DatasetEntry = "dataset", 1_024;
    /// Who publishes it.
    owner: Principal,
    /// Grows by one with every version.
    version: u64,
    /// The root object.
    root: Cid,
    /// Over its objects ([`crate::merkle::list`]).
    merkle: MerkleRoot,
    /// Bytes of plaintext.
    size_bytes: u64,
    /// The block of this version.
    height: Height,
    /// The block's time.
    time: TimestampMs,
}

/// BLAKE3 of label, deployment id, owner and random: nobody else can register it.
#[must_use]
pub fn dataset_id(deployment: &DeploymentId, owner: &Principal, random: &[u8; 32]) -> DatasetId {
    let body = [owner.as_bytes().as_slice(), random].concat();
    DatasetId(labels::hash(labels::DATASET_ID, deployment, &body))
}
