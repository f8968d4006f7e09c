//! The post-quantum leg: ML-KEM-768 (FIPS 203) by libcrux, secret keys as their 64-byte seed `d || z`.
//!
//! Decapsulation never fails: for a ciphertext that was not made for the key it gives 32 bytes that depend on `z` and
//! look random (implicit rejection). So nothing here tells a right secret from a wrong one; the AEAD under the combined
//! key does. And a seed rebuilt from shares is checked by [`PqSeed::open`] before use: a wrong share would otherwise
//! give a working key pair that is somebody else's.
//!
//! libcrux wipes nothing. Expanded secret keys are held here in a box that is overwritten when dropped; what its
//! functions leave on the stack while they run is not wiped.

use libcrux_ml_kem::mlkem768::{self, MlKem768Ciphertext, MlKem768PublicKey};
use rand_core::CryptoRng;

use crate::kem::expanded::{ExpandedPair, ExpandedPublic};
use crate::secret::Secret;

/// Bytes of a seed: `d || z`.
pub const SEED_BYTES: usize = 64;
/// Bytes of an encapsulation key.
pub const PUBLIC_BYTES: usize = 1_184;
/// Bytes of a ciphertext.
pub const CIPHERTEXT_BYTES: usize = 1_088;

/// Why bytes are not an ML-KEM-768 key, or not the key that was meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PqKeyError {
    /// Another length, or a coefficient that is not reduced (FIPS 203, 7.2).
    #[error("not an ML-KEM-768 encapsulation key")]
    Public,
    /// The seed's public key is another: a share was wrong, or belongs to another key.
    #[error("the seed is not that of this ML-KEM-768 key")]
    AnotherKey,
}

/// An encapsulation key that passed FIPS 203's checks.
#[derive(Clone, PartialEq, Eq)]
pub struct PqPublic(Box<[u8; PUBLIC_BYTES]>);

impl PqPublic {
    /// Parses 1,184 bytes.
    ///
    /// # Errors
    /// [`PqKeyError::Public`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PqKeyError> {
        let bytes: Box<[u8; PUBLIC_BYTES]> = Box::<[u8]>::from(bytes)
            .try_into()
            .map_err(|_| PqKeyError::Public)?;
        if mlkem768::validate_public_key(&MlKem768PublicKey::from(&*bytes)) {
            Ok(Self(bytes))
        } else {
            Err(PqKeyError::Public)
        }
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PUBLIC_BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for PqPublic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = self.0.get(..8).unwrap_or_default();
        write!(f, "PqPublic({}...)", data_encoding::HEXLOWER.encode(head))
    }
}

/// An ML-KEM ciphertext, as it came: nothing about it can be checked without the secret key.
#[derive(Clone, PartialEq, Eq)]
pub struct PqCiphertext(Box<[u8; CIPHERTEXT_BYTES]>);

impl PqCiphertext {
    /// Takes 1,088 bytes; `None` for another length.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Box::<[u8]>::from(bytes).try_into().ok().map(Self)
    }

    /// The bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; CIPHERTEXT_BYTES] {
        &self.0
    }
}

impl std::fmt::Debug for PqCiphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let head = self.0.get(..8).unwrap_or_default();
        write!(
            f,
            "PqCiphertext({}...)",
            data_encoding::HEXLOWER.encode(head)
        )
    }
}

/// The secret key as it is dealt into shares and rebuilt from them.
#[derive(Debug)]
pub struct PqSeed(Secret<SEED_BYTES>);

impl PqSeed {
    /// Draws a seed.
    #[must_use]
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        Self(Secret::random(rng))
    }

    /// From `d || z`. Any 64 bytes are a seed.
    #[must_use]
    pub fn from_secret(seed: Secret<SEED_BYTES>) -> Self {
        Self(seed)
    }

    /// `d || z`, for dealing into shares.
    #[must_use]
    pub fn danger_bytes(&self) -> &Secret<SEED_BYTES> {
        &self.0
    }

    /// The public key of this seed.
    #[must_use]
    pub fn public(&self) -> PqPublic {
        self.expand().0
    }

    /// Expands the seed and compares its public key with the one it must have, `expected` from the ledger.
    ///
    /// # Errors
    /// [`PqKeyError::AnotherKey`].
    pub fn open(&self, expected: &PqPublic) -> Result<PqSecret, PqKeyError> {
        let (public, secret) = self.expand();
        // Both are public.
        if public == *expected {
            Ok(secret)
        } else {
            Err(PqKeyError::AnotherKey)
        }
    }

    fn expand(&self) -> (PqPublic, PqSecret) {
        let pair = ExpandedPair::generate(self.0.expose());
        let public = PqPublic(Box::new(*pair.public().as_slice()));
        (public, PqSecret(pair))
    }
}

/// An expanded secret key whose public key was compared, wiped on drop.
pub struct PqSecret(ExpandedPair);

impl PqSecret {
    /// The secret in a ciphertext, or, when the ciphertext was not made for this key, 32 bytes that look random.
    #[must_use]
    pub fn decapsulate(&self, ciphertext: &PqCiphertext) -> Secret<32> {
        let mut shared = self
            .0
            .decapsulate(&MlKem768Ciphertext::from(&*ciphertext.0));
        Secret::take(&mut shared)
    }
}

impl std::fmt::Debug for PqSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PqSecret(redacted)")
    }
}

/// A public key with its matrix expanded (6 KB): encapsulating to it costs a third of encapsulating to its bytes.
pub(super) struct PqPrepared(ExpandedPublic);

impl PqPrepared {
    pub(super) fn new(public: &PqPublic) -> Self {
        Self(ExpandedPublic::expand(&MlKem768PublicKey::from(&*public.0)))
    }

    /// Encapsulates with `m`, 32 random bytes used for nothing else.
    pub(super) fn encapsulate(&self, m: &Secret<32>) -> (PqCiphertext, Secret<32>) {
        let (ciphertext, mut shared) = self.0.encapsulate(*m.expose());
        let bytes = Box::new(*ciphertext.as_slice());
        (PqCiphertext(bytes), Secret::take(&mut shared))
    }
}

#[cfg(test)]
pub(super) mod tests;
