//! A record that its author signs: `{"body": <bytes>, "signature": <64 bytes>}`.
//!
//! The body is carried as the bytes that were signed, so a signature is checked over what arrived and never over a
//! re-encoding; the body is a record of its own, decoded as strictly as any.

use std::ops::Deref;

use crypto::identity::{Signature, SignatureError};
use crypto::{Identity, Label};
use domain::limits::RECORD_BYTES_MAX;
use domain::{DeploymentId, Principal};
use serde::{Deserialize, Serialize};

use crate::codec::{self, RecordError, Typed};

/// What can be signed: knows its label, its author and its encoding.
pub trait Content: Sized {
    /// The signature's label.
    const LABEL: Label;

    /// Who must have signed.
    fn author(&self) -> Principal;

    /// The body's deterministic bytes.
    fn encode(&self) -> Vec<u8>;

    /// Reads a body strictly.
    ///
    /// # Errors
    /// [`RecordError`].
    fn decode(body: &[u8]) -> Result<Self, RecordError>;
}

/// Content with its signed bytes and its signature. Says nothing until verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    content: T,
    body: Vec<u8>,
    signature: Signature,
}

impl<T: Content> Signed<T> {
    /// Signs as `identity`, which must be the content's author.
    ///
    /// # Panics
    /// When `identity` is somebody else: the result could not be verified by anyone.
    #[must_use]
    pub fn sign(identity: &Identity, deployment: &DeploymentId, content: T) -> Self {
        assert_eq!(
            identity.principal(),
            content.author(),
            "only its author signs a record"
        );
        let body = content.encode();
        let signature = identity.sign(T::LABEL, deployment, &body);
        Self {
            content,
            body,
            signature,
        }
    }

    /// Reads envelope and body strictly; checks no signature.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let envelope: Envelope = codec::decode(bytes)?;
        let content = T::decode(&envelope.body)?;
        Ok(Self {
            content,
            body: envelope.body,
            signature: envelope.signature,
        })
    }

    /// The envelope's deterministic bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&EnvelopeRef {
            body: &self.body,
            signature: self.signature,
        })
    }

    /// The bytes that were signed (after label and deployment).
    #[must_use]
    pub fn body(&self) -> &[u8] {
        &self.body
    }

    /// The author's signature.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// BLAKE3 of the body: names what is said, whatever signature is on it. Makes `complete` idempotent.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        *blake3::hash(&self.body).as_bytes()
    }

    /// Checks that the content's author signed the body in this deployment.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_signature(&self, deployment: &DeploymentId) -> Result<(), SignatureError> {
        let author = self.content.author();
        crypto::identity::verify(&author, T::LABEL, deployment, &self.body, &self.signature)
    }
}

impl<T> Deref for Signed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    #[serde(with = "serde_bytes")]
    body: Vec<u8>,
    signature: Signature,
}

impl Typed for Envelope {
    const TYPE: &'static str = "signed";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;
}

#[derive(Serialize)]
struct EnvelopeRef<'a> {
    #[serde(with = "serde_bytes")]
    body: &'a [u8],
    signature: Signature,
}
