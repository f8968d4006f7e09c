//! HPKE (RFC 9180) in base mode with the X-Wing KEM (ML-KEM-768 and X25519): seal to a public key, post-quantum.
//!
//! Suite: KEM 0x647a (X-Wing, draft-ietf-hpke-pq), KDF 0x0001 (HKDF-SHA-256), AEAD 0x0002 (AES-256-GCM).
//! A sealed message is `encapsulated key (1,120) || ciphertext || tag (16)`. Base mode says nothing about who sealed:
//! where that matters the caller checks a signed commitment to what was sealed.

use domain::DeploymentId;
use hpke::kem::XWing;
use hpke::{Deserializable, Kem, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::hpke_base;
use crate::label::Label;
use crate::secret::Secret;

/// Bytes of an X-Wing public key.
pub const PUBLIC_KEY_BYTES: usize = 1_216;
/// Bytes of an X-Wing encapsulated key.
pub const ENCAPSULATED_BYTES: usize = 1_120;
/// What a sealed message has more than its plaintext.
pub const OVERHEAD: usize = ENCAPSULATED_BYTES + hpke_base::TAG_BYTES;

/// Why a message was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HybridError {
    /// The bytes are not an X-Wing public key.
    #[error("not an X-Wing public key")]
    PublicKey,
    /// Too short to be sealed to an X-Wing key.
    #[error("a sealed message of {0} bytes is shorter than an encapsulated key and a tag")]
    TooShort(usize),
    /// Sealed to another key, for another purpose or deployment, or altered.
    #[error("not sealed to this key for this purpose, or altered")]
    Open,
}

/// An X-Wing public key that parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HybridPublic(<XWing as Kem>::PublicKey);

impl HybridPublic {
    /// Parses 1,216 bytes.
    ///
    /// # Errors
    /// [`HybridError::PublicKey`] for another length or an ML-KEM key that fails its modulus check.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HybridError> {
        <XWing as Kem>::PublicKey::from_bytes(bytes)
            .map(Self)
            .map_err(|_| HybridError::PublicKey)
    }

    /// The 1,216 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.to_bytes().to_vec()
    }

    /// Seals `plaintext` with `info` = label, deployment; `aad` is bound, not carried.
    #[must_use]
    pub fn seal(
        &self,
        rng: &mut dyn CryptoRng,
        label: Label,
        deployment: &DeploymentId,
        aad: &[u8],
        plaintext: &[u8],
    ) -> Vec<u8> {
        let info = label.message(deployment, &[]);
        hpke_base::seal::<XWing>(&self.0, rng, &info, aad, plaintext)
            .expect("encapsulating to a parsed X-Wing key cannot fail")
    }
}

/// An X-Wing secret key: its 32-byte seed.
#[derive(Debug)]
pub struct HybridSecret(Secret<32>);

impl HybridSecret {
    /// From the seed of X-Wing's decapsulation key.
    #[must_use]
    pub fn from_seed(seed: Secret<32>) -> Self {
        Self(seed)
    }

    /// The public half; expands the seed (about 50 microseconds).
    #[must_use]
    pub fn public(&self) -> HybridPublic {
        HybridPublic(XWing::sk_to_pk(&self.private()))
    }

    /// Opens what [`HybridPublic::seal`] made.
    ///
    /// # Errors
    /// [`HybridError`]; it does not tell a wrong key from an altered byte, which implicit rejection cannot.
    pub fn open(
        &self,
        label: Label,
        deployment: &DeploymentId,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, HybridError> {
        if sealed.len() < OVERHEAD {
            return Err(HybridError::TooShort(sealed.len()));
        }
        let (encapsulated, body) = sealed
            .split_at_checked(ENCAPSULATED_BYTES)
            .ok_or(HybridError::TooShort(sealed.len()))?;
        let info = label.message(deployment, &[]);
        hpke_base::open::<XWing>(&self.private(), encapsulated, &info, aad, body)
            .map_err(|_| HybridError::Open)
    }

    fn private(&self) -> <XWing as Kem>::PrivateKey {
        <XWing as Kem>::PrivateKey::from_bytes(self.0.expose())
            .expect("any 32 bytes are an X-Wing seed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: DeploymentId = DeploymentId([9; 32]);

    #[test]
    fn only_the_receiver_opens_and_only_for_the_purpose() {
        let mut rng = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let secret = HybridSecret::from_seed(Secret::take(&mut [1; 32]));
        let public = HybridPublic::from_bytes(&secret.public().to_bytes()).unwrap();
        assert_eq!(public, secret.public());
        let sealed = public.seal(&mut rng, Label::WRAP_IDENTITY, &DEPLOYMENT, b"aad", b"key");
        assert_eq!(sealed.len(), OVERHEAD + 3);
        let open = |label, deployment: &DeploymentId, aad: &[u8], bytes: &[u8]| {
            secret
                .open(label, deployment, aad, bytes)
                .map(|plain| plain.to_vec())
        };
        let good = open(Label::WRAP_IDENTITY, &DEPLOYMENT, b"aad", &sealed);
        assert_eq!(good, Ok(b"key".to_vec()));
        let refused = Err(HybridError::Open);
        assert_eq!(
            open(Label::RECOVERY_SESSION, &DEPLOYMENT, b"aad", &sealed),
            refused
        );
        assert_eq!(
            open(
                Label::WRAP_IDENTITY,
                &DeploymentId([8; 32]),
                b"aad",
                &sealed
            ),
            refused
        );
        assert_eq!(
            open(Label::WRAP_IDENTITY, &DEPLOYMENT, b"AAD", &sealed),
            refused
        );
        let other = HybridSecret::from_seed(Secret::take(&mut [2; 32]));
        assert!(
            other
                .open(Label::WRAP_IDENTITY, &DEPLOYMENT, b"aad", &sealed)
                .is_err()
        );
        for i in [0, 500, 1_087, 1_088, 1_119, 1_120, 1_130, sealed.len() - 1] {
            let mut altered = sealed.clone();
            altered[i] ^= 1;
            assert_eq!(
                open(Label::WRAP_IDENTITY, &DEPLOYMENT, b"aad", &altered),
                refused,
                "{i}"
            );
        }
        assert_eq!(
            open(
                Label::WRAP_IDENTITY,
                &DEPLOYMENT,
                b"aad",
                &sealed[..OVERHEAD - 1]
            ),
            Err(HybridError::TooShort(OVERHEAD - 1))
        );
    }

    #[test]
    fn malformed_public_keys_are_refused() {
        assert_eq!(
            HybridPublic::from_bytes(&[0; 10]),
            Err(HybridError::PublicKey)
        );
        // 0xfff is above ML-KEM's modulus 3329 (FIPS 203, 7.2).
        assert_eq!(
            HybridPublic::from_bytes(&[0xff; PUBLIC_KEY_BYTES]),
            Err(HybridError::PublicKey)
        );
    }
}
