//! The hybrid threshold KEM, scheme version 1: two legs, one key, and only the ledger's readers can have both opened.
//!
//! - Post-quantum leg ([`pq`]): ML-KEM-768, its seed shared among custodians and rebuilt in a worker for one operation.
//! - Threshold leg ([`proof`]): TDH2 on ristretto255; its secret key exists nowhere.
//! - `K = HKDF-SHA-256(ss_pq || ss_dh; key id, version, both public keys, both ciphertexts, context hash)`.
//!
//! What is here is what senders need, and what custodians and recipients check: encapsulation, the ciphertext proof, the
//! hash that a request to open signs, the derivation of K. Shares, partial openings and their combination are in
//! `threshold`. Layouts: `docs/format.md`; claims: `docs/cryptography.md`.

use std::fmt;

use domain::{DeploymentId, KeyId, KeyVersion};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::context::ContextHash;
use crate::kdf::hkdf;
use crate::label::Label;
use crate::ristretto::{Element, ElementError, SecretScalar};
use crate::secret::Secret;

mod expanded;
pub mod pq;
pub mod proof;

pub use pq::{PqCiphertext, PqKeyError, PqPublic, PqSecret, PqSeed};
pub use proof::{CiphertextError, DhCiphertext, ProofLabel, verify_batch};

/// The version of the scheme; stands in every proof label and in front of every stored ciphertext.
pub const SCHEME: u8 = 1;
/// Bytes of an encoded [`KemCiphertext`].
pub const CIPHERTEXT_BYTES: usize = 1 + pq::CIPHERTEXT_BYTES + proof::DH_CIPHERTEXT_BYTES;

/// Why bytes are not the public keys of a key version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeysError {
    /// The ML-KEM key.
    #[error(transparent)]
    Pq(#[from] PqKeyError),
    /// The ristretto255 key.
    #[error("the threshold public key is {0}")]
    Dh(#[from] ElementError),
}

/// Both public keys of a key version, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKeys {
    /// The ML-KEM-768 encapsulation key.
    pub pq: PqPublic,
    /// The threshold leg's public key `H = x G`.
    pub dh: Element,
}

impl PublicKeys {
    /// Parses both.
    ///
    /// # Errors
    /// [`PublicKeysError`].
    pub fn from_bytes(pq: &[u8], dh: &[u8]) -> Result<Self, PublicKeysError> {
        Ok(Self {
            pq: PqPublic::from_bytes(pq)?,
            dh: Element::from_bytes(dh)?,
        })
    }

    /// What stands for both in hashes and in what a custodian keeps.
    #[must_use]
    pub fn hash(&self, deployment: &DeploymentId) -> PublicKeysHash {
        let parts: [&[u8]; 2] = [self.pq.as_bytes(), self.dh.as_bytes()];
        PublicKeysHash(Label::KEM_PUBLIC_KEYS.hash(deployment, &parts))
    }
}

/// The hash of both public keys of a key version: `label(kem-public-keys)`, ML-KEM key, ristretto255 key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PublicKeysHash(#[serde(with = "serde_bytes")] pub [u8; 32]);

/// The hash of an ML-KEM ciphertext: custodians are sent this in its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct PqCiphertextHash(#[serde(with = "serde_bytes")] pub [u8; 32]);

/// What a client signs to have a ciphertext opened, so that no other can be slipped under its request: the hash of `u`,
/// `u_bar`, the proof, the hash of the ML-KEM ciphertext and the context's.
#[derive(Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct KemHash(#[serde(with = "serde_bytes")] pub [u8; 32]);

macro_rules! hex_debug {
    ($($name:ident),*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let hex = data_encoding::HEXLOWER.encode(&self.0);
                write!(f, concat!(stringify!($name), "({})"), hex)
            }
        }
    )*};
}
hex_debug!(PublicKeysHash, PqCiphertextHash, KemHash);

impl PqCiphertextHash {
    /// Of a ciphertext.
    #[must_use]
    pub fn of(deployment: &DeploymentId, ciphertext: &PqCiphertext) -> Self {
        Self(Label::KEM_PQ_CIPHERTEXT.hash(deployment, &[ciphertext.as_bytes()]))
    }
}

/// A key version in a deployment with its public keys: what K is derived for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The named key.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// Both public keys.
    pub public: PublicKeys,
}

impl KeyRef {
    /// The same with the hash in the place of the public keys.
    #[must_use]
    pub fn target(&self) -> KeyTarget {
        KeyTarget {
            deployment: self.deployment,
            key: self.key,
            version: self.version,
            public: self.public.hash(&self.deployment),
        }
    }

    /// K, from what the two legs gave. The AEAD under K tells whether they were right.
    #[must_use]
    pub fn derive_key(
        &self,
        ciphertext: &KemCiphertext,
        context: &ContextHash,
        shared: &SharedSecrets,
    ) -> Secret<32> {
        let mut input = Zeroizing::new([0; 64]);
        let legs = shared.pq.expose().iter().chain(shared.dh.expose());
        for (slot, byte) in input.iter_mut().zip(legs) {
            *slot = *byte;
        }
        let body = [
            self.key.as_bytes().as_slice(),
            &self.version.get().to_be_bytes(),
            self.public.pq.as_bytes(),
            self.public.dh.as_bytes(),
            ciphertext.pq.as_bytes(),
            &ciphertext.dh.u,
            &ciphertext.dh.u_bar,
            &context.0,
        ]
        .concat();
        let info = Label::KEM_KEY.message(&self.deployment, &body);
        hkdf(input.as_slice(), &[], &info)
    }
}

/// What both legs of one ciphertext give.
#[derive(Debug)]
pub struct SharedSecrets {
    /// ML-KEM's shared secret, which the worker sealed to the recipient.
    pub pq: Secret<32>,
    /// The encoding of `r H = x u`, which the recipient combined from the custodians' partials.
    pub dh: Secret<32>,
}

impl SharedSecrets {
    /// From the combined point `x u`.
    #[must_use]
    pub fn new(pq: Secret<32>, dh: &Element) -> Self {
        let mut encoding = *dh.as_bytes();
        Self {
            pq,
            dh: Secret::take(&mut encoding),
        }
    }
}

/// A key version as a custodian knows it: the public keys by their hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTarget {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The named key.
    pub key: KeyId,
    /// Its version.
    pub version: KeyVersion,
    /// Both public keys, hashed.
    pub public: PublicKeysHash,
}

impl KeyTarget {
    /// What the proof of a ciphertext for this key version is bound to.
    #[must_use]
    pub fn proof_label(&self, pq: &PqCiphertextHash, context: &ContextHash) -> ProofLabel {
        let parts: [&[u8]; 6] = [
            &[SCHEME],
            self.key.as_bytes(),
            &self.version.get().to_be_bytes(),
            &self.public.0,
            &pq.0,
            &context.0,
        ];
        ProofLabel(Label::TDH2_LABEL.hash(&self.deployment, &parts))
    }
}

/// What a custodian gets of a ciphertext: all that the proof and the request's hash need, without the 1,088 bytes that
/// only a worker opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CiphertextParts {
    /// The threshold leg.
    pub dh: DhCiphertext,
    /// The post-quantum leg, hashed.
    pub pq: PqCiphertextHash,
    /// The encryption context, hashed; the custodian hashes the context itself.
    pub context: ContextHash,
}

impl CiphertextParts {
    /// What the client must have signed.
    #[must_use]
    pub fn kem_hash(&self, deployment: &DeploymentId) -> KemHash {
        let parts: [&[u8]; 3] = [&self.dh.to_bytes(), &self.pq.0, &self.context.0];
        KemHash(Label::KEM_HASH.hash(deployment, &parts))
    }

    /// Checks encodings and proof for a key version; gives `u`.
    ///
    /// # Errors
    /// [`CiphertextError`].
    pub fn verify(&self, target: &KeyTarget) -> Result<Element, CiphertextError> {
        let label = target.proof_label(&self.pq, &self.context);
        self.dh.verify(&target.deployment, &label)
    }

    /// The ciphertext and its label, for [`verify_batch`].
    #[must_use]
    pub fn with_label(&self, target: &KeyTarget) -> (DhCiphertext, ProofLabel) {
        (self.dh, target.proof_label(&self.pq, &self.context))
    }
}

/// A ciphertext of the KEM. Which key, version and context it is for stands beside it, not in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KemCiphertext {
    /// ML-KEM's ciphertext.
    pub pq: PqCiphertext,
    /// The threshold leg with its proof.
    pub dh: DhCiphertext,
}

/// Bytes that are no ciphertext of a scheme that is known here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KemCiphertextError {
    /// A scheme of another version.
    #[error("KEM scheme {0} is not known here: use a newer strongroom")]
    Scheme(u8),
    /// Not as long as a ciphertext is.
    #[error("a KEM ciphertext has {CIPHERTEXT_BYTES} bytes, this one has {0}")]
    Length(usize),
}

impl KemCiphertext {
    /// `01 || ML-KEM ciphertext || u || u_bar || w || w_bar || f`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        [
            &[SCHEME],
            self.pq.as_bytes().as_slice(),
            &self.dh.to_bytes(),
        ]
        .concat()
    }

    /// Splits what [`KemCiphertext::to_bytes`] joined; checks neither encodings nor proof.
    ///
    /// # Errors
    /// [`KemCiphertextError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KemCiphertextError> {
        let length = KemCiphertextError::Length(bytes.len());
        let (scheme, rest) = bytes.split_first().ok_or(length)?;
        if *scheme != SCHEME {
            return Err(KemCiphertextError::Scheme(*scheme));
        }
        let (pq, dh) = rest.split_at_checked(pq::CIPHERTEXT_BYTES).ok_or(length)?;
        let dh = dh.try_into().map_err(|_| length)?;
        Ok(Self {
            pq: PqCiphertext::from_bytes(pq).ok_or(length)?,
            dh: DhCiphertext::from_bytes(dh),
        })
    }

    /// What custodians get of it.
    #[must_use]
    pub fn parts(&self, deployment: &DeploymentId, context: ContextHash) -> CiphertextParts {
        CiphertextParts {
            dh: self.dh,
            pq: PqCiphertextHash::of(deployment, &self.pq),
            context,
        }
    }

    /// What a client signs to have it opened.
    #[must_use]
    pub fn kem_hash(&self, deployment: &DeploymentId, context: ContextHash) -> KemHash {
        self.parts(deployment, context).kem_hash(deployment)
    }
}

/// A key version prepared for encapsulating to it: the ML-KEM matrix is expanded (13 microseconds, 6 KB), and with
/// [`Encapsulator::precomputed`] the multiples of the threshold key (a millisecond, 30 KB), which pays from some fifty
/// encapsulations on. Knows nothing secret. The public keys must have been verified (`ledger::VerifiedVersion`).
pub struct Encapsulator {
    key: KeyRef,
    target: KeyTarget,
    pq: pq::PqPrepared,
    dh: proof::DhPublic,
}

impl fmt::Debug for Encapsulator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Encapsulator({} version {})",
            self.key.key, self.key.version
        )
    }
}

impl Encapsulator {
    /// Prepares a key version for a few encapsulations.
    #[must_use]
    pub fn new(key: KeyRef) -> Self {
        let dh = proof::DhPublic::point(&key.public.dh);
        Self::with(key, dh)
    }

    /// Prepares a key version for many encapsulations.
    #[must_use]
    pub fn precomputed(key: KeyRef) -> Self {
        let dh = proof::DhPublic::table(&key.public.dh);
        Self::with(key, dh)
    }

    fn with(key: KeyRef, dh: proof::DhPublic) -> Self {
        Self {
            target: key.target(),
            pq: pq::PqPrepared::new(&key.public.pq),
            dh,
            key,
        }
    }

    /// The key version.
    #[must_use]
    pub fn key(&self) -> &KeyRef {
        &self.key
    }

    /// The key version with hashed public keys.
    #[must_use]
    pub fn target(&self) -> &KeyTarget {
        &self.target
    }

    /// A fresh key and the ciphertext from which custodians, a worker and the recipient make it again.
    #[must_use]
    pub fn encapsulate(
        &self,
        rng: &mut dyn CryptoRng,
        context: &ContextHash,
    ) -> (KemCiphertext, Secret<32>) {
        // In one call, as the operating system's generator takes a microsecond for each.
        let mut m = Secret::zeroed();
        let (mut r, mut s) = (Zeroizing::new([0; 64]), Zeroizing::new([0; 64]));
        let drawn: Secret<160> = Secret::random(rng);
        let slots = m
            .expose_mut()
            .iter_mut()
            .chain(r.iter_mut())
            .chain(s.iter_mut());
        for (slot, byte) in slots.zip(drawn.expose()) {
            *slot = *byte;
        }
        let (r, s) = (SecretScalar::from_wide(&r), SecretScalar::from_wide(&s));
        self.danger_encapsulate_with(&m, &r, &s, context)
    }

    /// [`Encapsulator::encapsulate`] with given randomness: for test vectors. Whoever uses `m` or `r` twice gives K away,
    /// and two proofs with one `s` give `r` away.
    #[must_use]
    pub fn danger_encapsulate_with(
        &self,
        m: &Secret<32>,
        r: &SecretScalar,
        s: &SecretScalar,
        context: &ContextHash,
    ) -> (KemCiphertext, Secret<32>) {
        let deployment = &self.key.deployment;
        let (pq, ss_pq) = self.pq.encapsulate(m);
        let hash = PqCiphertextHash::of(deployment, &pq);
        let label = self.target.proof_label(&hash, context);
        let (dh, ss_dh) = proof::seal(deployment, &label, &self.dh, r, s);
        let ciphertext = KemCiphertext { pq, dh };
        let shared = SharedSecrets {
            pq: ss_pq,
            dh: ss_dh,
        };
        let key = self.key.derive_key(&ciphertext, context, &shared);
        (ciphertext, key)
    }
}

#[cfg(test)]
mod tests;
