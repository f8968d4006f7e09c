//! A key wrapped to a named key: encapsulated with [`crate::kem`], and sealed under the key that comes out.
//!
//! Wrapping is local and offline. Unwrapping is not: whoever wants the key asks custodians and a worker with
//! [`NamedKeyWrap::kem_hash`] and the context, combines their answers to K, and opens the wrap with a [`ReleasedKey`].

use domain::{DeploymentId, KeyId, KeyVersion};
use rand_core::CryptoRng;

use crate::kem::{CIPHERTEXT_BYTES, Encapsulator, KemCiphertext, KemHash};
use crate::passphrase::OutOfMemory;
use crate::sealed_box::{gcm_key, open_once, seal_once};
use crate::secret::Secret;
use crate::wrap::{UnwrapError, UnwrapWith, Wrap, WrapContext, WrapTo, first_that_opens};

/// Bytes of a wrap to a named key.
pub const NAMED_KEY_WRAP_BYTES: usize = KeyId::LEN + 4 + CIPHERTEXT_BYTES + SEALED_BYTES;
const SEALED_BYTES: usize = 48;

/// A key under a key version of a named key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedKeyWrap {
    /// The named key.
    pub key: KeyId,
    /// The version that was current then.
    pub version: KeyVersion,
    /// What custodians and a worker open.
    pub ciphertext: KemCiphertext,
    /// Ciphertext and tag under K.
    pub sealed: [u8; SEALED_BYTES],
}

impl NamedKeyWrap {
    /// `key id || u32 version || KEM ciphertext || sealed`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            self.key.as_bytes().as_slice(),
            &self.version.get().to_be_bytes(),
            &self.ciphertext.to_bytes(),
            &self.sealed,
        ]
        .concat()
    }

    /// Splits what [`NamedKeyWrap::to_bytes`] joined; `None` for another length, version 0 or an unknown scheme. Whether
    /// the ciphertext's proof holds is checked by those who are asked to open it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (key, rest) = bytes.split_first_chunk::<{ KeyId::LEN }>()?;
        let (version, rest) = rest.split_first_chunk::<4>()?;
        let (ciphertext, sealed) = rest.split_at_checked(CIPHERTEXT_BYTES)?;
        Some(Self {
            key: KeyId(*key),
            version: KeyVersion::new(u32::from_be_bytes(*version)).ok()?,
            ciphertext: KemCiphertext::from_bytes(ciphertext).ok()?,
            sealed: sealed.try_into().ok()?,
        })
    }

    /// What a request to open this wrap signs.
    #[must_use]
    pub fn kem_hash(&self, deployment: &DeploymentId, context: &WrapContext) -> KemHash {
        let context = context.context_hash(deployment);
        self.ciphertext.kem_hash(deployment, context)
    }
}

impl WrapTo for Encapsulator {
    /// # Panics
    /// When the key is another deployment's: a bug of the caller's.
    fn wrap(
        &self,
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        context: &WrapContext,
        key: &Secret<32>,
    ) -> Result<Wrap, OutOfMemory> {
        let to = self.key();
        assert_eq!(
            to.deployment, *deployment,
            "a named key of another deployment"
        );
        let (ciphertext, kem_key) = self.encapsulate(rng, &context.context_hash(deployment));
        let mut body = key.expose().to_vec();
        seal_once(&gcm_key(&kem_key), &context.encode(), &mut body);
        let sealed = body
            .as_slice()
            .try_into()
            .expect("a key of 32 bytes seals to 48");
        Ok(Wrap::NamedKey(Box::new(NamedKeyWrap {
            key: to.key,
            version: to.version,
            ciphertext,
            sealed,
        })))
    }
}

/// K of one ciphertext, after custodians and a worker have released its two legs.
#[derive(Debug)]
pub struct ReleasedKey {
    /// Which ciphertext, in which context.
    pub kem_hash: KemHash,
    /// K ([`crate::kem::KeyRef::derive_key`]).
    pub key: Secret<32>,
}

impl UnwrapWith for ReleasedKey {
    fn unwrap_key(
        &self,
        deployment: &DeploymentId,
        context: &WrapContext,
        wraps: &[Wrap],
    ) -> Result<Secret<32>, UnwrapError> {
        first_that_opens(wraps, "the released key", |wrap| match wrap {
            Wrap::NamedKey(wrap) if wrap.kem_hash(deployment, context) == self.kem_hash => Some(
                open_once(&gcm_key(&self.key), &context.encode(), &wrap.sealed)
                    .and_then(|key| Secret::from_slice(&key)),
            ),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests;
