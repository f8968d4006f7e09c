//! Fixed randomness, identities and records for the other modules.

use std::convert::Infallible;

use crypto::wrap::BucketKey;
use crypto::{Identity, Secret};
use domain::{DeploymentId, ObjectKey, Profile, TimestampMs};
use rand_core::{TryCryptoRng, TryRng};
use sealed::bucket::{Bucket, VerifiedBucket};
use sealed::small::{SmallHead, SmallRecord};

/// The deployment of all tests.
pub const DEPLOYMENT: DeploymentId = DeploymentId([0xd0; 32]);
/// The time of all tests.
pub const TIME: TimestampMs = TimestampMs(1_800_000_000_000);

/// BLAKE3's output stream over a name: the same bytes in every run and in any language.
pub struct FixedRng(blake3::OutputReader);

impl FixedRng {
    pub fn new(name: &str) -> Self {
        Self(blake3::Hasher::new().update(name.as_bytes()).finalize_xof())
    }
}

impl TryRng for FixedRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(out);
        Ok(())
    }
}

// Not random at all; the trait is what the code under test asks for.
impl TryCryptoRng for FixedRng {}

/// The plaintext of that name and length.
pub fn plaintext(name: &str, len: usize) -> Vec<u8> {
    let mut out = vec![0; len];
    blake3::Hasher::new()
        .update(b"plaintext ")
        .update(name.as_bytes())
        .finalize_xof()
        .fill(&mut out);
    out
}

pub fn alice() -> Identity {
    Identity::from_seed(Secret::take(&mut [0xa1; 32]))
}

pub fn mallory() -> Identity {
    Identity::from_seed(Secret::take(&mut [0x3a; 32]))
}

pub fn key(name: &str) -> ObjectKey {
    name.parse().unwrap()
}

pub fn bucket(owner: &Identity, name: &str) -> Bucket {
    Bucket::create(
        &mut FixedRng::new(name),
        &DEPLOYMENT,
        owner.principal(),
        name.parse().unwrap(),
        Profile::DATACENTRE,
        TIME,
    )
}

/// Alice's bucket `photos`, checked, and a key for it.
pub fn photos() -> (VerifiedBucket, BucketKey) {
    let record = bucket(&alice(), "photos").sign(&alice(), &DEPLOYMENT);
    let verified = record.verify(&DEPLOYMENT).unwrap();
    let key = BucketKey::random(&mut FixedRng::new("photos key"), DEPLOYMENT, verified.id);
    (verified, key)
}

pub fn head(bucket: &VerifiedBucket, name: &str) -> SmallHead {
    SmallHead {
        bucket: bucket.id,
        name: key(name),
        writer_set: bucket.writers.version(),
        time: TIME,
        predecessor: None,
    }
}

/// A small object of Alice's in `photos`.
pub fn small(name: &str, plain: &[u8], metadata: Option<&[u8]>) -> SmallRecord {
    let (bucket, bucket_key) = photos();
    let mut rng = FixedRng::new(&format!("small {name}"));
    SmallRecord::seal(
        &mut rng,
        &DEPLOYMENT,
        &alice(),
        &bucket_key,
        head(&bucket, name),
        plain,
        metadata,
    )
    .unwrap()
}
