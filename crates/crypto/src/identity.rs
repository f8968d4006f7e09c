//! An identity: one 32-byte seed, from which an Ed25519 key (to sign; its public key is the principal) and an X-Wing
//! key (to receive) are derived.

use std::fmt;

use aws_lc_rs::signature::{self, Ed25519KeyPair, KeyPair as _};
use domain::{DeploymentId, Principal};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::hybrid::{HybridError, HybridPublic, HybridSecret};
use crate::kdf::hkdf;
use crate::label::Label;
use crate::sealed_box;
use crate::secret::Secret;

/// An Ed25519 signature (RFC 8032).
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({})", data_encoding::HEXLOWER.encode(&self.0))
    }
}

impl TryFrom<&[u8]> for Signature {
    type Error = SignatureError;

    fn try_from(bytes: &[u8]) -> Result<Self, SignatureError> {
        bytes.try_into().map(Self).map_err(|_| SignatureError)
    }
}

impl serde::Serialize for Signature {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&self.0, serializer)
    }
}

impl<'de> serde::Deserialize<'de> for Signature {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_bytes::deserialize(deserializer).map(Self)
    }
}

/// The signature was not made by that principal over those bytes for that purpose in that deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature does not match the principal and what it signs")]
pub struct SignatureError;

/// Who can sign and receive. Holds the expanded keys, so that signing costs one signature.
pub struct Identity {
    seed: Secret<32>,
    signing: Ed25519KeyPair,
    principal: Principal,
    receiving: HybridSecret,
}

impl Identity {
    /// Derives both key pairs: Ed25519 seed = HKDF(seed, info `strongroom/v1/identity-ed25519 00`), X-Wing seed
    /// likewise with `identity-x-wing`.
    #[must_use]
    pub fn from_seed(seed: Secret<32>) -> Self {
        let ed25519: Secret<32> = hkdf(seed.expose(), &[], &Label::IDENTITY_ED25519.bare());
        let x_wing = hkdf(seed.expose(), &[], &Label::IDENTITY_X_WING.bare());
        let signing = Ed25519KeyPair::from_seed_unchecked(ed25519.expose())
            .expect("any 32 bytes are an Ed25519 seed");
        let principal = Principal(
            signing
                .public_key()
                .as_ref()
                .try_into()
                .expect("an Ed25519 public key has 32 bytes"),
        );
        Self {
            seed,
            signing,
            principal,
            receiving: HybridSecret::from_seed(x_wing),
        }
    }

    /// Draws a new identity.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self::from_seed(Secret::random(rng))
    }

    /// The seed, for sealing it into a file or writing it into a recovery kit.
    #[must_use]
    pub fn danger_seed(&self) -> &Secret<32> {
        &self.seed
    }

    /// The Ed25519 public key.
    #[must_use]
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// Signs label, deployment and body.
    #[must_use]
    pub fn sign(&self, label: Label, deployment: &DeploymentId, body: &[u8]) -> Signature {
        self.sign_bytes(&label.message(deployment, body))
    }

    /// Signs an RFC 9421 signature base, whose `tag` parameter carries the deployment id.
    ///
    /// # Panics
    /// When `base` does not begin with a quotation mark, as every signature base does (RFC 9421, 2.5): so this can
    /// never be made to sign what [`Identity::sign`] signs, which begins with `strongroom/v1/`.
    #[must_use]
    pub fn sign_http(&self, base: &[u8]) -> Signature {
        assert_eq!(
            base.first(),
            Some(&b'"'),
            "a signature base begins with a quoted component name"
        );
        self.sign_bytes(base)
    }

    /// The public key that others seal to.
    #[must_use]
    pub fn receiver_public(&self) -> HybridPublic {
        self.receiving.public()
    }

    /// The public key that others seal to, signed, so that nobody can put their own in its place.
    #[must_use]
    pub fn receiver_key(&self, deployment: &DeploymentId) -> ReceiverKey {
        let public = self.receiver_public();
        let signature = self.sign(Label::RECEIVER, deployment, &public.to_bytes());
        ReceiverKey {
            principal: self.principal,
            public,
            signature,
        }
    }

    /// Opens what was sealed to [`Identity::receiver_public`].
    ///
    /// # Errors
    /// [`HybridError`] when it was sealed to another key, for another purpose or deployment, or altered.
    pub fn open(
        &self,
        label: Label,
        deployment: &DeploymentId,
        aad: &[u8],
        sealed: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, HybridError> {
        self.receiving.open(label, deployment, aad, sealed)
    }

    /// Seals state that only this identity reads again on its own machine (an upload's DEK, a bucket key in use).
    /// Symmetric: 32 bytes more than the plaintext, no public-key operation. `context` says what it is.
    #[must_use]
    pub fn seal_local(
        &self,
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        context: &[u8],
        plaintext: &[u8],
    ) -> Vec<u8> {
        let info = Label::IDENTITY_LOCAL.message(deployment, &[]);
        sealed_box::seal(rng, &self.seed, &info, context, plaintext)
    }

    /// Opens what [`Identity::seal_local`] made; `None` when it is another identity's, for another context, or altered.
    #[must_use]
    pub fn open_local(
        &self,
        deployment: &DeploymentId,
        context: &[u8],
        sealed: &[u8],
    ) -> Option<Zeroizing<Vec<u8>>> {
        let info = Label::IDENTITY_LOCAL.message(deployment, &[]);
        sealed_box::open(&self.seed, &info, context, sealed)
    }

    fn sign_bytes(&self, message: &[u8]) -> Signature {
        let signature = self.signing.sign(message);
        Signature(
            signature
                .as_ref()
                .try_into()
                .expect("an Ed25519 signature has 64 bytes"),
        )
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.principal)
    }
}

/// Checks what [`Identity::sign`] made.
///
/// # Errors
/// [`SignatureError`] when signer, label, deployment or body is another.
pub fn verify(
    principal: &Principal,
    label: Label,
    deployment: &DeploymentId,
    body: &[u8],
    signature: &Signature,
) -> Result<(), SignatureError> {
    verify_bytes(principal, &label.message(deployment, body), signature)
}

/// Checks what [`Identity::sign_http`] made.
///
/// # Errors
/// [`SignatureError`] when the signer or the base is another, or it is no signature base.
pub fn verify_http(
    principal: &Principal,
    base: &[u8],
    signature: &Signature,
) -> Result<(), SignatureError> {
    if base.first() != Some(&b'"') {
        return Err(SignatureError);
    }
    verify_bytes(principal, base, signature)
}

fn verify_bytes(
    principal: &Principal,
    message: &[u8],
    signature: &Signature,
) -> Result<(), SignatureError> {
    signature::UnparsedPublicKey::new(&signature::ED25519, principal.as_bytes())
        .verify(message, &signature.0)
        .map_err(|_| SignatureError)
}

/// A principal's X-Wing public key, signed by the principal for one deployment. Build it from stored parts with
/// [`ReceiverKey::from_parts`], which verifies; so every value of this type has a good signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReceiverKey {
    principal: Principal,
    public: HybridPublic,
    signature: Signature,
}

impl ReceiverKey {
    /// Parses and verifies.
    ///
    /// # Errors
    /// [`ReceiverKeyError`] when the key does not parse or the signature is not the principal's.
    pub fn from_parts(
        deployment: &DeploymentId,
        principal: Principal,
        public: &[u8],
        signature: Signature,
    ) -> Result<Self, ReceiverKeyError> {
        verify(&principal, Label::RECEIVER, deployment, public, &signature)?;
        let public = HybridPublic::from_bytes(public)?;
        Ok(Self {
            principal,
            public,
            signature,
        })
    }

    /// Whose key it is.
    #[must_use]
    pub fn principal(&self) -> Principal {
        self.principal
    }

    /// The key.
    #[must_use]
    pub fn public(&self) -> &HybridPublic {
        &self.public
    }

    /// The principal's signature over the key.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }
}

/// Why a receiver key is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReceiverKeyError {
    /// Not signed by that principal in that deployment.
    #[error("the receiver key is not signed by its principal")]
    Signature(#[from] SignatureError),
    /// Not an X-Wing public key.
    #[error(transparent)]
    Key(#[from] HybridError),
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: DeploymentId = DeploymentId([3; 32]);

    fn identity(byte: u8) -> Identity {
        Identity::from_seed(Secret::take(&mut [byte; 32]))
    }

    #[test]
    fn a_signature_is_bound_to_signer_label_deployment_and_body() {
        let alice = identity(1);
        let signature = alice.sign(Label::ENTRY, &DEPLOYMENT, b"body");
        let check = |principal: Principal, label, deployment, body: &[u8]| {
            verify(&principal, label, &deployment, body, &signature)
        };
        assert_eq!(
            check(alice.principal(), Label::ENTRY, DEPLOYMENT, b"body"),
            Ok(())
        );
        let refused = Err(SignatureError);
        assert_eq!(
            check(identity(2).principal(), Label::ENTRY, DEPLOYMENT, b"body"),
            refused
        );
        assert_eq!(
            check(alice.principal(), Label::BUCKET, DEPLOYMENT, b"body"),
            refused
        );
        assert_eq!(
            check(
                alice.principal(),
                Label::ENTRY,
                DeploymentId([4; 32]),
                b"body"
            ),
            refused
        );
        assert_eq!(
            check(alice.principal(), Label::ENTRY, DEPLOYMENT, b"bodY"),
            refused
        );
        for bit in 0..512 {
            let mut altered = signature;
            altered.0[bit / 8] ^= 1 << (bit % 8);
            let result = verify(
                &alice.principal(),
                Label::ENTRY,
                &DEPLOYMENT,
                b"body",
                &altered,
            );
            assert_eq!(result, refused, "bit {bit}");
        }
    }

    #[test]
    fn http_signatures_are_only_over_signature_bases() {
        let alice = identity(1);
        let base = b"\"@method\": GET";
        let signature = alice.sign_http(base);
        assert_eq!(verify_http(&alice.principal(), base, &signature), Ok(()));
        let labelled = alice.sign(Label::ENTRY, &DEPLOYMENT, b"x");
        let message = Label::ENTRY.message(&DEPLOYMENT, b"x");
        assert_eq!(
            verify_http(&alice.principal(), &message, &labelled),
            Err(SignatureError)
        );
    }

    #[test]
    #[should_panic(expected = "quoted component name")]
    fn http_signing_refuses_labelled_messages() {
        let _ = identity(1).sign_http(&Label::ENTRY.message(&DEPLOYMENT, b"x"));
    }

    #[test]
    fn receiver_keys_are_only_their_principals() {
        let (alice, mallory) = (identity(1), identity(2));
        let key = alice.receiver_key(&DEPLOYMENT);
        let parts = |principal, public: &HybridPublic, signature| {
            ReceiverKey::from_parts(&DEPLOYMENT, principal, &public.to_bytes(), signature)
        };
        assert_eq!(
            parts(alice.principal(), key.public(), key.signature),
            Ok(key.clone())
        );
        let refused = Err(ReceiverKeyError::Signature(SignatureError));
        assert_eq!(
            parts(alice.principal(), &mallory.receiver_public(), key.signature),
            refused
        );
        assert_eq!(
            parts(mallory.principal(), key.public(), key.signature),
            refused
        );
    }

    #[test]
    fn local_state_is_bound_to_identity_deployment_and_context() {
        let mut rng = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let alice = identity(1);
        let sealed = alice.seal_local(&mut rng, &DEPLOYMENT, b"upload", b"dek");
        assert_eq!(
            alice
                .open_local(&DEPLOYMENT, b"upload", &sealed)
                .unwrap()
                .as_slice(),
            b"dek"
        );
        assert!(alice.open_local(&DEPLOYMENT, b"bucket", &sealed).is_none());
        assert!(
            alice
                .open_local(&DeploymentId([4; 32]), b"upload", &sealed)
                .is_none()
        );
        assert!(
            identity(2)
                .open_local(&DEPLOYMENT, b"upload", &sealed)
                .is_none()
        );
    }

    #[test]
    fn the_debug_form_shows_the_principal_only() {
        let alice = identity(1);
        assert_eq!(
            format!("{alice:?}"),
            format!("Identity({})", alice.principal())
        );
    }
}
