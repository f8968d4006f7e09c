//! gRPC code generated from `proto/strongroom/v1`, the bounds of its messages, and conversions to domain types.

use domain::limits::SHARD_BYTES_MAX;
use domain::{Cid, ShardTag};

/// Messages, client and server of `strongroom.v1`.
#[allow(
    missing_docs,
    clippy::pedantic,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    clippy::cast_lossless,
    reason = "generated code; the contract is documented in proto/"
)]
pub mod v1 {
    tonic::include_proto!("strongroom.v1");
}

/// Bytes of one encoded message, at most: a shard with its proof, and room for the other fields.
pub const MESSAGE_BYTES_MAX: usize = SHARD_BYTES_MAX + (64 << 10);
/// CIDs in one `HasShards` call, and shards in one `ListShards` answer, at most.
pub const BATCH_MAX: usize = 10_000;

/// Bytes of one encoded message of the ledger, at most: a whole block, with its receipts.
pub const LEDGER_MESSAGE_BYTES_MAX: usize = 16 << 20;
/// Metadata of a refused transaction: its stable code.
pub const REJECTION: &str = "strongroom-rejection";
/// Metadata of a call that a gateway refuses: the problem's stable code.
pub const PROBLEM: &str = "strongroom-problem";
/// Descriptors of what gateways offer to their clients (`keys.proto`, `ledger.proto`), for reflection.
pub const PUBLIC_DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/public.binpb"));

/// The kind and epoch of a message, from a tag.
#[must_use]
pub fn tag_to_wire(tag: ShardTag) -> (v1::ShardKind, u64) {
    match tag {
        ShardTag::Chunk => (v1::ShardKind::Chunk, 0),
        ShardTag::Small { epoch } => (v1::ShardKind::Small, epoch),
        ShardTag::Recovery { epoch } => (v1::ShardKind::Recovery, epoch),
    }
}

/// The tag of a message, or `None` when the kind is unknown or a chunk carries an epoch.
#[must_use]
pub fn tag_from_wire(kind: i32, epoch: u64) -> Option<ShardTag> {
    match v1::ShardKind::try_from(kind).ok()? {
        v1::ShardKind::Chunk => (epoch == 0).then_some(ShardTag::Chunk),
        v1::ShardKind::Small => Some(ShardTag::Small { epoch }),
        v1::ShardKind::Recovery => Some(ShardTag::Recovery { epoch }),
    }
}

/// The CID of a message as bytes.
#[must_use]
pub fn cid_to_wire(cid: &Cid) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&cid.to_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_round_trip_and_unknown_kinds_are_refused() {
        for tag in [
            ShardTag::Chunk,
            ShardTag::Small { epoch: 7 },
            ShardTag::Recovery { epoch: u64::MAX },
        ] {
            let (kind, epoch) = tag_to_wire(tag);
            assert_eq!(tag_from_wire(i32::from(kind), epoch), Some(tag));
        }
        assert_eq!(tag_from_wire(3, 0), None);
        assert_eq!(tag_from_wire(-1, 0), None);
        assert_eq!(tag_from_wire(0, 1), None);
    }
}
