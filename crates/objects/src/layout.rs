//! The layout record of a chunk: its coding profile and, for each shard, node and shard CID.
//!
//! Made by the gateway and kept in metadata; replaceable when data is recoded or moved, so a chunk's CID never
//! changes. Stored form, version 1: `01 k m size(u32 BE)`, then for each shard `slot(u16 BE) digest(32)`.

use domain::{Cid, Codec, Profile};

/// A node's number in this deployment's metadata: small, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeSlot(pub u16);

/// One shard of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardPlace {
    /// The node that holds it (or shall hold it, while the shard is pending).
    pub node: NodeSlot,
    /// The shard's CID.
    pub cid: Cid,
}

/// How one chunk is coded and where its shards lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkLayout {
    /// k and m.
    pub profile: Profile,
    /// Bytes of ciphertext in the chunk.
    pub chunk_bytes: u32,
    /// `profile.total()` shards, by shard index.
    pub shards: Vec<ShardPlace>,
}

/// Why stored bytes are no layout record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A version this build does not read.
    #[error("layout record of version {0}; this build reads version 1")]
    Version(u8),
    /// Wrong length or impossible profile.
    #[error("malformed layout record")]
    Malformed,
}

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 7;
const SHARD_RECORD_BYTES: usize = 34;

impl ChunkLayout {
    /// Bytes of one shard.
    #[must_use]
    pub fn shard_bytes(&self) -> usize {
        self.profile
            .shard_bytes(usize::try_from(self.chunk_bytes).unwrap_or(usize::MAX))
    }

    /// The stored form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(HEADER_BYTES + SHARD_RECORD_BYTES * self.shards.len());
        out.push(VERSION);
        let part = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        out.push(part(self.profile.data()));
        out.push(part(self.profile.parity()));
        out.extend_from_slice(&self.chunk_bytes.to_be_bytes());
        for shard in &self.shards {
            out.extend_from_slice(&shard.node.0.to_be_bytes());
            out.extend_from_slice(shard.cid.digest());
        }
        out
    }

    /// Reads the stored form.
    ///
    /// # Errors
    /// [`LayoutError`] for another version or a wrong length.
    pub fn decode(bytes: &[u8]) -> Result<Self, LayoutError> {
        let (&version, _) = bytes.split_first().ok_or(LayoutError::Malformed)?;
        if version != VERSION {
            return Err(LayoutError::Version(version));
        }
        let (header, rest) = bytes
            .split_first_chunk::<HEADER_BYTES>()
            .ok_or(LayoutError::Malformed)?;
        let [_, data, parity, size @ ..] = *header;
        let profile = Profile::new(data, parity).map_err(|_| LayoutError::Malformed)?;
        let (records, tail) = rest.as_chunks::<SHARD_RECORD_BYTES>();
        if !tail.is_empty() || records.len() != profile.total() {
            return Err(LayoutError::Malformed);
        }
        let shards = records
            .iter()
            .map(|&[high, low, ref digest @ ..]| ShardPlace {
                node: NodeSlot(u16::from_be_bytes([high, low])),
                cid: Cid::from_digest(Codec::Raw, *digest),
            })
            .collect();
        Ok(Self {
            profile,
            chunk_bytes: u32::from_be_bytes(size),
            shards,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ChunkLayout {
        ChunkLayout {
            profile: Profile::DATACENTRE,
            chunk_bytes: 4 << 20,
            shards: (0..14u16)
                .map(|n| ShardPlace {
                    node: NodeSlot(n),
                    cid: Cid::of_raw(&n.to_be_bytes()),
                })
                .collect(),
        }
    }

    #[test]
    fn layouts_round_trip() {
        let layout = sample();
        assert_eq!(ChunkLayout::decode(&layout.encode()), Ok(layout));
    }

    #[test]
    fn truncated_extended_and_foreign_records_are_refused() {
        let bytes = sample().encode();
        for cut in 0..bytes.len() {
            assert!(ChunkLayout::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut long = bytes.clone();
        long.push(0);
        assert_eq!(ChunkLayout::decode(&long), Err(LayoutError::Malformed));
        let mut other = bytes;
        other[0] = 2;
        assert_eq!(ChunkLayout::decode(&other), Err(LayoutError::Version(2)));
    }
}
