//! The key of one process: drawn at its start, kept in memory, presented as a raw public key (RFC 7250).
//!
//! The key says nothing about who the process is; evidence over it does.

use std::sync::Arc;

use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::crypto::aws_lc_rs::sign::any_eddsa_type;
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};

use crate::error::SessionError;

/// SubjectPublicKeyInfo of an Ed25519 key up to the key itself (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// An Ed25519 key for TLS alone.
#[derive(Clone)]
pub struct ProcessKey {
    certified: Arc<CertifiedKey>,
    public: [u8; 32],
}

impl ProcessKey {
    /// Draws one.
    ///
    /// # Errors
    /// [`SessionError::Randomness`] when the system gives none.
    pub fn generate() -> Result<Self, SessionError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| SessionError::Randomness)?;
        let private: Pkcs8V1Der<'_> = pair.as_der().map_err(|_| SessionError::Randomness)?;
        let public: [u8; 32] = pair
            .public_key()
            .as_ref()
            .try_into()
            .map_err(|_| SessionError::Malformed("an Ed25519 key has 32 bytes"))?;
        let signer = any_eddsa_type(&PrivatePkcs8KeyDer::from(private.as_ref().to_vec()))?;
        let spki = [SPKI_PREFIX.as_slice(), &public].concat();
        Ok(Self {
            certified: Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signer)),
            public,
        })
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.certified.clone()
    }
}

impl std::fmt::Debug for ProcessKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ProcessKey({:02x?}..)", &self.public[..4])
    }
}

/// The key in a SubjectPublicKeyInfo, when that is exactly an Ed25519 key's.
pub(crate) fn from_spki(spki: &[u8]) -> Option<[u8; 32]> {
    spki.strip_prefix(SPKI_PREFIX.as_slice())?.try_into().ok()
}
