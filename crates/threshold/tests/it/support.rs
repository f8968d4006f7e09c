//! Seeded randomness, and a key shared by a dealer, as no deployment does it.

use std::convert::Infallible;

use crypto::kem::{
    CiphertextParts, Encapsulator, KemCiphertext, KeyRef, PqPublic, PqSeed, PublicKeys,
};
use crypto::ristretto::{Element, SecretScalar};
use crypto::{ContextHash, Secret};
use curve25519_dalek::scalar::Scalar;
use domain::{CommitteeId, DeploymentId, Epoch, KeyId, KeyVersion, ShareIndex, Threshold};
use rand_core::{Rng as _, TryCryptoRng, TryRng};
use threshold::partial::VerifiedCiphertext;
use threshold::pq::{self, PqDeal};
use threshold::{CommitmentList, DhPublic, DhShare, Sharing};

/// A seed and a counter, hashed.
pub struct Seeded {
    seed: u64,
    counter: u64,
}

impl Seeded {
    pub fn new(seed: u64) -> Self {
        Self { seed, counter: 0 }
    }

    /// A number below `bound`; the bias does not matter here.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next_u32()).unwrap() % bound
    }

    /// True once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }
}

impl TryRng for Seeded {
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
        let mut input = [0; 16];
        input[..8].copy_from_slice(&self.seed.to_le_bytes());
        input[8..].copy_from_slice(&self.counter.to_le_bytes());
        self.counter += 1;
        blake3::Hasher::new()
            .update(&input)
            .finalize_xof()
            .fill(out);
        Ok(())
    }
}

impl TryCryptoRng for Seeded {}

pub fn index(number: u8) -> ShareIndex {
    ShareIndex::new(number).unwrap()
}

pub fn sharing(t: u8, n: u8) -> Sharing {
    Sharing {
        deployment: DeploymentId([0xd1; 32]),
        key: KeyId([0x4e; 32]),
        version: KeyVersion::new(3).unwrap(),
        epoch: Epoch::new(7).unwrap(),
        committee: CommitteeId([0xc0; 32]),
        threshold: Threshold::new(t, n).unwrap(),
    }
}

/// Both legs of one key version, shared by somebody who knows it all.
pub struct Key {
    pub sharing: Sharing,
    pub seed: PqSeed,
    pub x: Scalar,
    pub key: KeyRef,
    pub deal: PqDeal,
    pub shares: Vec<DhShare>,
    pub public: DhPublic,
    pub list: CommitmentList,
}

impl Key {
    pub fn new(seed: u64, t: u8, n: u8) -> Self {
        let rng = &mut Seeded::new(seed);
        let sharing = sharing(t, n);
        let pq_seed = PqSeed::random(rng);
        let deal = pq::deal(&sharing, pq_seed.danger_bytes(), rng);
        let polynomial: Vec<Scalar> = (0..t).map(|_| scalar(rng)).collect();
        let x = polynomial[0];
        let shares: Vec<DhShare> = sharing
            .threshold
            .indices()
            .map(|index| {
                let point = Scalar::from(index.get());
                let mut value = polynomial
                    .iter()
                    .rev()
                    .fold(Scalar::ZERO, |sum, coefficient| sum * point + coefficient);
                DhShare::new(sharing, index, SecretScalar::take(&mut value)).unwrap()
            })
            .collect();
        let group = element(&x);
        let publics = shares.iter().map(|share| *share.public()).collect();
        let public = DhPublic::new(sharing, group, publics).unwrap();
        let list = CommitmentList::new(&public, &deal.commitments).unwrap();
        let key = KeyRef {
            deployment: sharing.deployment,
            key: sharing.key,
            version: sharing.version,
            public: PublicKeys {
                pq: pq_seed.public(),
                dh: group,
            },
        };
        Self {
            sharing,
            seed: pq_seed,
            x,
            key,
            deal,
            shares,
            public,
            list,
        }
    }

    pub fn encapsulate(&self, rng: &mut Seeded) -> (KemCiphertext, Secret<32>, CiphertextParts) {
        let (ciphertext, key) = Encapsulator::new(self.key.clone()).encapsulate(rng, &context());
        let parts = ciphertext.parts(&self.sharing.deployment, context());
        (ciphertext, key, parts)
    }

    pub fn verified(&self, rng: &mut Seeded) -> VerifiedCiphertext {
        let (_, _, parts) = self.encapsulate(rng);
        VerifiedCiphertext::verify(&parts, &self.key.target()).unwrap()
    }
}

pub fn context() -> ContextHash {
    ContextHash([0xc7; 32])
}

pub fn scalar(rng: &mut Seeded) -> Scalar {
    *SecretScalar::random(rng).danger_scalar()
}

pub fn element(scalar: &Scalar) -> Element {
    Element::from_point(SecretScalar::take(&mut scalar.clone()).times_base()).unwrap()
}

/// What `threshold::pq` is given to derive a public key with.
pub fn derive(seed: &Secret<64>) -> PqPublic {
    let copy = Secret::from_slice(seed.expose()).unwrap();
    PqSeed::from_secret(copy).public()
}
