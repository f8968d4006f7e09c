//! HPKE (RFC 9180) in base mode with DHKEM(X25519, HKDF-SHA256): seal to a 32-byte public key, classically.
//!
//! Suite: KEM 0x0020, KDF 0x0001 (HKDF-SHA-256), AEAD 0x0002 (AES-256-GCM). A sealed message is `encapsulated key (32) ||
//! ciphertext || tag (16)`. For what rests on the classical leg anyway: custodians' partials, whose secrecy ends where the
//! Diffie-Hellman problem does, and which need no post-quantum key of 1,216 bytes on each of them. Anything else is sealed
//! with [`crate::hybrid`]. Base mode says nothing about who sealed.

use std::fmt;

use domain::DeploymentId;
use hpke::kem::X25519HkdfSha256;
use hpke::{Deserializable, Kem, Serializable};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::hpke_base;
use crate::label::Label;
use crate::secret::Secret;

/// Bytes of a public key and of an encapsulated key.
pub const PUBLIC_KEY_BYTES: usize = 32;
/// What a sealed message has more than its plaintext.
pub const OVERHEAD: usize = PUBLIC_KEY_BYTES + hpke_base::TAG_BYTES;

/// Why a message was not sealed or opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DhkemError {
    /// A point of small order (RFC 7748, 6.1; RFC 9180, 7.1.4): everybody would know what is agreed with it.
    #[error("not an X25519 public key that may be sealed to")]
    PublicKey,
    /// Too short to be sealed.
    #[error("a sealed message of {0} bytes is shorter than an encapsulated key and a tag")]
    TooShort(usize),
    /// Sealed to another key, for another purpose or deployment, or altered.
    #[error("not sealed to this key for this purpose, or altered")]
    Open,
}

/// An X25519 public key: any 32 bytes; whether it can be sealed to shows when it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DhkemPublic(pub [u8; PUBLIC_KEY_BYTES]);

impl fmt::Debug for DhkemPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "DhkemPublic({})",
            data_encoding::HEXLOWER.encode(&self.0)
        )
    }
}

impl DhkemPublic {
    /// Seals `plaintext` with `info` = label, deployment; `aad` is bound, not carried.
    ///
    /// # Errors
    /// [`DhkemError::PublicKey`] for a point of small order.
    pub fn seal(
        &self,
        rng: &mut dyn CryptoRng,
        label: Label,
        deployment: &DeploymentId,
        aad: &[u8],
        plaintext: &[u8],
    ) -> Result<Vec<u8>, DhkemError> {
        let public = <X25519HkdfSha256 as Kem>::PublicKey::from_bytes(&self.0)
            .map_err(|_| DhkemError::PublicKey)?;
        let info = label.message(deployment, &[]);
        hpke_base::seal::<X25519HkdfSha256>(&public, rng, &info, aad, plaintext)
            .map_err(|_| DhkemError::PublicKey)
    }
}

/// An X25519 secret key.
#[derive(Debug)]
pub struct DhkemSecret(Secret<32>);

impl DhkemSecret {
    /// Draws one.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self(Secret::random(rng))
    }

    /// From its 32 bytes (RFC 7748 clamps them where they are used).
    #[must_use]
    pub fn from_secret(secret: Secret<32>) -> Self {
        Self(secret)
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> DhkemPublic {
        let public = X25519HkdfSha256::sk_to_pk(&self.private()).to_bytes();
        DhkemPublic(public.into())
    }

    /// Opens what [`DhkemPublic::seal`] made.
    ///
    /// # Errors
    /// [`DhkemError`].
    pub fn open(
        &self,
        label: Label,
        deployment: &DeploymentId,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, DhkemError> {
        let short = DhkemError::TooShort(sealed.len());
        if sealed.len() < OVERHEAD {
            return Err(short);
        }
        let (encapsulated, body) = sealed.split_at_checked(PUBLIC_KEY_BYTES).ok_or(short)?;
        let info = label.message(deployment, &[]);
        hpke_base::open::<X25519HkdfSha256>(&self.private(), encapsulated, &info, aad, body)
            .map_err(|_| DhkemError::Open)
    }

    fn private(&self) -> <X25519HkdfSha256 as Kem>::PrivateKey {
        <X25519HkdfSha256 as Kem>::PrivateKey::from_bytes(self.0.expose())
            .expect("any 32 bytes are an X25519 secret key")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: DeploymentId = DeploymentId([9; 32]);

    fn unhex<const N: usize>(hex: &str) -> [u8; N] {
        data_encoding::HEXLOWER
            .decode(hex.as_bytes())
            .unwrap()
            .try_into()
            .unwrap()
    }

    #[test]
    fn only_the_receiver_opens_and_only_for_the_purpose() {
        let mut rng = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let secret = DhkemSecret::generate(&mut rng);
        let sealed = secret
            .public()
            .seal(&mut rng, Label::WRAP_IDENTITY, &DEPLOYMENT, b"aad", b"key")
            .unwrap();
        assert_eq!(sealed.len(), OVERHEAD + 3);
        let open = |who: &DhkemSecret, label, deployment, aad: &[u8], bytes: &[u8]| {
            who.open(label, &deployment, aad, bytes)
                .map(|plain| plain.to_vec())
        };
        let good = open(&secret, Label::WRAP_IDENTITY, DEPLOYMENT, b"aad", &sealed);
        assert_eq!(good, Ok(b"key".to_vec()));
        let refused = Err(DhkemError::Open);
        let other = DhkemSecret::generate(&mut rng);
        for answer in [
            open(&other, Label::WRAP_IDENTITY, DEPLOYMENT, b"aad", &sealed),
            open(&secret, Label::RECEIVER, DEPLOYMENT, b"aad", &sealed),
            open(
                &secret,
                Label::WRAP_IDENTITY,
                DeploymentId([8; 32]),
                b"aad",
                &sealed,
            ),
            open(&secret, Label::WRAP_IDENTITY, DEPLOYMENT, b"AAD", &sealed),
        ] {
            assert_eq!(answer, refused);
        }
        // X25519 ignores the highest bit of a public key; RFC 9180 hashes the encapsulated key as it came, so it counts.
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            let answer = open(&secret, Label::WRAP_IDENTITY, DEPLOYMENT, b"aad", &altered);
            assert_eq!(answer, refused, "bit {bit}");
        }
        for len in 0..sealed.len() {
            let answer = open(
                &secret,
                Label::WRAP_IDENTITY,
                DEPLOYMENT,
                b"aad",
                &sealed[..len],
            );
            assert!(answer.is_err(), "{len}");
        }
    }

    /// Points of small order, and the same with another encoding (RFC 7748; Wycheproof's list).
    #[test]
    fn nobody_seals_to_a_point_of_small_order() {
        let mut rng = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        for hex in [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            let sealed =
                DhkemPublic(unhex(hex)).seal(&mut rng, Label::RECEIVER, &DEPLOYMENT, b"", b"key");
            assert_eq!(sealed, Err(DhkemError::PublicKey), "{hex}");
        }
    }

    /// RFC 7748, 6.1: the public key of a secret key.
    #[test]
    fn public_keys_are_those_of_rfc_7748() {
        let mut alice =
            unhex::<32>("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let alice = DhkemSecret::from_secret(Secret::take(&mut alice));
        let public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        assert_eq!(alice.public(), DhkemPublic(unhex(public)));
    }
}
