//! Identifiers, units, limits, coding profiles and names that every plane shares.
//!
//! Parse once into these types and never validate again. This crate does no IO, reads no clock, draws no
//! randomness and knows no cryptography beyond the shape of a hash (a [`Cid`] can be computed from bytes).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod base_ids;
pub mod cid;
pub mod custody_ids;
pub mod ledger_ids;
pub mod limits;
pub mod names;
pub mod permission;
pub mod profile;
pub mod shard;

pub use base_ids::{
    BucketId, BucketKeyId, DeploymentId, EnvelopeId, IdParseError, NodeId, Principal, UploadId,
    VersionId,
};
pub use cid::{Cid, CidError, Codec};
pub use custody_ids::{
    CommitteeId, Epoch, Height, KeyId, KeyVersion, NumberError, PlatformType, ShareIndex, Slot,
    Threshold,
};
pub use ledger_ids::{DatasetId, GenesisHash, HeaderHash, MerkleRoot, RecordHash, TransactionHash};
pub use names::{BucketName, KeyName, NameError, ObjectKey};
pub use permission::{Permission, Permissions};
pub use profile::{Profile, ProfileError};
pub use shard::{ShardIndex, ShardTag};

/// Milliseconds since 1970-01-01T00:00:00Z, as carried in signed records. Always passed in, never read here.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct TimestampMs(pub u64);
