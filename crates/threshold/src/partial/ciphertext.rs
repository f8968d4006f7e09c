//! The check that comes before a share touches a ciphertext.

use crypto::kem::{
    CiphertextError, CiphertextParts, DhCiphertext, KeyTarget, ProofLabel, verify_batch,
};
use crypto::ristretto::Element;
use rand_core::CryptoRng;

use crate::sharing::Sharing;

/// A ciphertext whose proof holds for one key version and context. There is no other way to make one, and no partial
/// without one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedCiphertext {
    u: Element,
    target: KeyTarget,
}

impl VerifiedCiphertext {
    /// Checks every encoding and the proof.
    ///
    /// # Errors
    /// [`CiphertextError`].
    pub fn verify(parts: &CiphertextParts, target: &KeyTarget) -> Result<Self, CiphertextError> {
        let u = parts.verify(target)?;
        Ok(Self { u, target: *target })
    }

    /// Checks many for one key version together; answers stand in the order of the questions.
    #[must_use]
    pub fn verify_batch(
        rng: &mut dyn CryptoRng,
        parts: &[CiphertextParts],
        target: &KeyTarget,
    ) -> Vec<Result<Self, CiphertextError>> {
        let labelled: Vec<(DhCiphertext, ProofLabel)> =
            parts.iter().map(|parts| parts.with_label(target)).collect();
        verify_batch(rng, &target.deployment, &labelled)
            .into_iter()
            .map(|answer| answer.map(|u| Self { u, target: *target }))
            .collect()
    }

    /// The element that shares multiply.
    #[must_use]
    pub fn u(&self) -> &Element {
        &self.u
    }

    /// The key version that it was verified for.
    #[must_use]
    pub fn target(&self) -> &KeyTarget {
        &self.target
    }

    pub(crate) fn is_for(&self, sharing: &Sharing) -> bool {
        let target = (self.target.deployment, self.target.key, self.target.version);
        target == (sharing.deployment, sharing.key, sharing.version)
    }
}
