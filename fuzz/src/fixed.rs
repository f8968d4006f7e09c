//! Fixed ids, keys and "randomness", so that the same seeds are made every time and an input once found replays.

use std::convert::Infallible;

use crypto::{Dek, Identity, Secret};
use domain::{BucketId, BucketKeyId, DeploymentId, VersionId};
use rand_core::{TryCryptoRng, TryRng};

pub fn deployment() -> DeploymentId {
    DeploymentId([0xd1; 32])
}

pub fn bucket() -> BucketId {
    BucketId([0xb1; 32])
}

pub fn bucket_key() -> BucketKeyId {
    BucketKeyId([0xb2; 16])
}

pub fn version() -> VersionId {
    VersionId([0x5e; 16])
}

pub fn identity() -> Identity {
    Identity::from_seed(Secret::take(&mut [0x1d; 32]))
}

pub fn dek() -> Dek {
    Dek::new(Secret::take(&mut [0xde; 32]), deployment())
}

/// A counter hashed: nothing about it is secret, and nothing it keys ever protects anything.
pub struct FixedRng(u64);

pub fn rng() -> FixedRng {
    FixedRng(0)
}

impl TryRng for FixedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        for part in out.chunks_mut(32) {
            self.0 += 1;
            let hash = blake3::hash(&self.0.to_le_bytes());
            for (slot, byte) in part.iter_mut().zip(hash.as_bytes()) {
                *slot = *byte;
            }
        }
        Ok(())
    }
}

impl TryCryptoRng for FixedRng {}
