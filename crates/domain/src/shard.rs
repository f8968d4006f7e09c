//! What a node is told about a shard besides its bytes.

/// Position of a shard in its chunk: data shards 0..k, then parity k..n.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct ShardIndex(pub u8);

/// Why a shard is on a node, kept beside it so that a gateway can clean up after a crash without an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ShardTag {
    /// A shard of a chunk: a durable upload intent covers it until metadata does.
    Chunk,
    /// A small record, written under this gateway epoch (one durable row per gateway start) with no intent of its own.
    Small {
        /// The gateway's epoch.
        epoch: u64,
    },
    /// A sealed recovery record, written under this gateway epoch.
    Recovery {
        /// The gateway's epoch.
        epoch: u64,
    },
}

impl ShardTag {
    /// The stored form: a kind and the epoch (0 for chunks).
    #[must_use]
    pub const fn to_parts(self) -> (u8, u64) {
        match self {
            Self::Chunk => (0, 0),
            Self::Small { epoch } => (1, epoch),
            Self::Recovery { epoch } => (2, epoch),
        }
    }

    /// Reads the stored form.
    #[must_use]
    pub const fn from_parts(kind: u8, epoch: u64) -> Option<Self> {
        match kind {
            0 => Some(Self::Chunk),
            1 => Some(Self::Small { epoch }),
            2 => Some(Self::Recovery { epoch }),
            _ => None,
        }
    }
}
