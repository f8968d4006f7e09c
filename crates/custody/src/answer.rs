//! What custodians and workers answer: what is sealed to the recipient, and what their signatures cover.

use crypto::dhkem::{DhkemError, DhkemPublic, DhkemSecret};
use crypto::hybrid::{HybridError, HybridPublic, HybridSecret};
use crypto::identity::{Signature, SignatureError, verify};
use crypto::{Identity, Secret};
use domain::{DeploymentId, Principal, ShareIndex};
use rand_core::CryptoRng;
use threshold::partial::PARTIAL_BYTES;
use threshold::{Partial, Sharing};
use zeroize::Zeroizing;

use crate::labels;
use crate::request::{DecryptRequest, RequestHash};

/// Bytes of a post-quantum secret.
pub const SECRET_BYTES: usize = 32;

/// Why an answer is not what it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The request's X25519 key is of small order.
    #[error("the request's X25519 key cannot be sealed to")]
    RecipientDh,
    /// The request's X-Wing key does not parse.
    #[error("the request's X-Wing key cannot be sealed to")]
    RecipientPq,
    /// The signature is not the answerer's over this answer to this request.
    #[error("the answer is not signed by {0}")]
    Signature(Principal),
    /// Sealed to another key or for another request, or altered.
    #[error("the answer cannot be opened with the key that the request names")]
    Open,
    /// Not one part for each ciphertext, or one that does not parse.
    #[error("the answer does not have one part for each ciphertext")]
    Parts,
}

/// The two keys that a request names, as their owner has them. Drawn for one request.
#[derive(Debug)]
pub struct Recipient {
    dh: DhkemSecret,
    pq: HybridSecret,
}

impl Recipient {
    /// Draws both.
    #[must_use]
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self {
            dh: DhkemSecret::generate(rng),
            pq: HybridSecret::from_seed(Secret::random(rng)),
        }
    }

    /// [`DecryptRequest::recipient_dh`].
    #[must_use]
    pub fn dh(&self) -> [u8; 32] {
        self.dh.public().0
    }

    /// [`DecryptRequest::recipient_pq`].
    ///
    /// # Panics
    /// Never: an X-Wing key has that many bytes.
    #[must_use]
    pub fn pq(&self) -> [u8; crypto::hybrid::PUBLIC_KEY_BYTES] {
        let bytes = self.pq.public().to_bytes();
        let mut out = [0; crypto::hybrid::PUBLIC_KEY_BYTES];
        for (slot, byte) in out.iter_mut().zip(bytes) {
            *slot = byte;
        }
        out
    }

    /// Checks a custodian's signature and opens its partials, one for each of `count` ciphertexts. Their proofs are still to be checked
    /// ([`threshold::partial::verify_batch`]).
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn open_partials(
        &self,
        custodian: &Principal,
        sharing: &Sharing,
        index: ShareIndex,
        request: &RequestHash,
        count: usize,
        answer: &SealedPartials,
    ) -> Result<Vec<Partial>, AnswerError> {
        answer.verify(custodian, sharing, index, request)?;
        let plain = self
            .dh
            .open(
                labels::SEALED_PARTIALS,
                &sharing.deployment,
                &release_aad(sharing, index, request),
                &answer.sealed,
            )
            .map_err(|_| AnswerError::Open)?;
        let partials: Option<Vec<Partial>> = plain
            .chunks(PARTIAL_BYTES)
            .map(|bytes| {
                Partial::from_bytes(bytes)
                    .ok()
                    .filter(|one| one.index() == index)
            })
            .collect();
        partials
            .filter(|partials| partials.len() == count)
            .ok_or(AnswerError::Parts)
    }

    /// Checks a worker's signature and opens its post-quantum secrets, one for each of `count` ciphertexts.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn open_secrets(
        &self,
        worker: &Principal,
        deployment: &DeploymentId,
        request: &RequestHash,
        count: usize,
        answer: &SealedSecrets,
    ) -> Result<Vec<Secret<SECRET_BYTES>>, AnswerError> {
        answer.verify(worker, deployment, request)?;
        let plain = self
            .pq
            .open(
                labels::SEALED_SECRETS,
                deployment,
                &request.0,
                &answer.sealed,
            )
            .map_err(|_| AnswerError::Open)?;
        let secrets: Option<Vec<Secret<SECRET_BYTES>>> =
            plain.chunks(SECRET_BYTES).map(Secret::from_slice).collect();
        secrets
            .filter(|secrets| secrets.len() == count)
            .ok_or(AnswerError::Parts)
    }
}

/// A custodian's partials for one request, sealed together to the recipient's X25519 key, and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedPartials {
    /// HPKE: `encapsulated key (32) || ciphertext || tag (16)` of the partials, 129 bytes each, in order.
    pub sealed: Vec<u8>,
    /// Over `binding (78) || index || request hash (32) || BLAKE3 of sealed (32)`.
    pub signature: Signature,
}

impl SealedPartials {
    /// Seals and signs as the custodian of `index`.
    ///
    /// # Errors
    /// [`AnswerError::RecipientDh`].
    pub fn seal(
        rng: &mut dyn CryptoRng,
        custodian: &Identity,
        sharing: &Sharing,
        index: ShareIndex,
        request: (&DecryptRequest, &RequestHash),
        partials: &[Partial],
    ) -> Result<Self, AnswerError> {
        let (request, hash) = request;
        let mut plain = Zeroizing::new(Vec::with_capacity(partials.len() * PARTIAL_BYTES));
        for partial in partials {
            plain.extend_from_slice(&partial.to_bytes());
        }
        let sealed = DhkemPublic(request.recipient_dh)
            .seal(
                rng,
                labels::SEALED_PARTIALS,
                &sharing.deployment,
                &release_aad(sharing, index, hash),
                &plain,
            )
            .map_err(|_: DhkemError| AnswerError::RecipientDh)?;
        let body = release_body(sharing, index, hash, &sealed);
        let signature = custodian.sign(labels::RELEASE, &sharing.deployment, &body);
        Ok(Self { sealed, signature })
    }

    /// Checks the custodian's signature; workers do too, to name who answered.
    ///
    /// # Errors
    /// [`AnswerError::Signature`].
    pub fn verify(
        &self,
        custodian: &Principal,
        sharing: &Sharing,
        index: ShareIndex,
        request: &RequestHash,
    ) -> Result<(), AnswerError> {
        let body = release_body(sharing, index, request, &self.sealed);
        verify(
            custodian,
            labels::RELEASE,
            &sharing.deployment,
            &body,
            &self.signature,
        )
        .map_err(|_: SignatureError| AnswerError::Signature(*custodian))
    }
}

/// A worker's post-quantum secrets for one request, sealed together to the recipient's X-Wing key, and its signature.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedSecrets {
    /// HPKE: `encapsulated key (1,120) || ciphertext || tag (16)` of the secrets, 32 bytes each, in order.
    pub sealed: Vec<u8>,
    /// Over `request hash (32) || BLAKE3 of sealed (32)`.
    pub signature: Signature,
}

impl SealedSecrets {
    /// Seals and signs as a worker.
    ///
    /// # Errors
    /// [`AnswerError::RecipientPq`].
    pub fn seal(
        rng: &mut dyn CryptoRng,
        worker: &Identity,
        deployment: &DeploymentId,
        request: (&DecryptRequest, &RequestHash),
        secrets: &[Secret<SECRET_BYTES>],
    ) -> Result<Self, AnswerError> {
        let (request, hash) = request;
        let public = HybridPublic::from_bytes(&request.recipient_pq)
            .map_err(|_: HybridError| AnswerError::RecipientPq)?;
        let mut plain = Zeroizing::new(Vec::with_capacity(secrets.len() * SECRET_BYTES));
        for secret in secrets {
            plain.extend_from_slice(secret.expose());
        }
        let sealed = public.seal(rng, labels::SEALED_SECRETS, deployment, &hash.0, &plain);
        let body = opened_body(hash, &sealed);
        let signature = worker.sign(labels::OPENED, deployment, &body);
        Ok(Self { sealed, signature })
    }

    /// Checks the worker's signature.
    ///
    /// # Errors
    /// [`AnswerError::Signature`].
    pub fn verify(
        &self,
        worker: &Principal,
        deployment: &DeploymentId,
        request: &RequestHash,
    ) -> Result<(), AnswerError> {
        let body = opened_body(request, &self.sealed);
        verify(worker, labels::OPENED, deployment, &body, &self.signature)
            .map_err(|_: SignatureError| AnswerError::Signature(*worker))
    }
}

/// `binding || index || request hash`.
fn release_aad(sharing: &Sharing, index: ShareIndex, request: &RequestHash) -> Vec<u8> {
    [sharing.binding().as_slice(), &[index.get()], &request.0].concat()
}

fn release_body(
    sharing: &Sharing,
    index: ShareIndex,
    request: &RequestHash,
    sealed: &[u8],
) -> Vec<u8> {
    let mut body = release_aad(sharing, index, request);
    body.extend_from_slice(blake3::hash(sealed).as_bytes());
    body
}

fn opened_body(request: &RequestHash, sealed: &[u8]) -> Vec<u8> {
    [request.0.as_slice(), blake3::hash(sealed).as_bytes()].concat()
}
