//! TDH2 decryption (Shoup and Gennaro, "Securing Threshold Cryptosystems against Chosen Ciphertext Attack", Journal of
//! Cryptology 15, 2002, section 4.3): a custodian multiplies the ciphertext's `u` by its share and proves that it did;
//! whoever asked checks the proofs and combines t of the products into `ss_dh`, the secret of the threshold leg.
//!
//! A partial exists only for a [`VerifiedCiphertext`]: without the ciphertext's own proof a custodian would multiply any
//! element that it is handed, and the scheme would not withstand chosen ciphertexts. The proof of a partial is bound to the
//! sharing (key, version, epoch, committee, threshold), the index and the hash of the request that it answers.

use std::collections::BTreeSet;

use crypto::Secret;
use crypto::ristretto::{Element, SecretScalar};
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::traits::VartimeMultiscalarMul as _;
use domain::ShareIndex;
use rand_core::CryptoRng;

use crate::bytes::Reader;
use crate::dh::{DhPublic, DhShare, weights_at_zero};
use crate::dleq::{self, PROOF_BYTES, Proof, Statement};
use crate::labels;
use crate::sharing::Sharing;

mod ciphertext;

pub use ciphertext::VerifiedCiphertext;

/// Bytes of an encoded partial: index, element, proof.
pub const PARTIAL_BYTES: usize = 1 + 32 + PROOF_BYTES;
/// Partials that are checked together at most; more are checked in several batches.
pub const BATCH_MAX: usize = 1_024;

/// One custodian's answer: x_i * u, and a proof that x_i is the share behind Y_i. Says nothing until verified. Whoever
/// holds t of one request has `ss_dh`, so partials travel sealed to the recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Partial {
    index: ShareIndex,
    power: Element,
    proof: Proof,
}

/// Bytes that are no partial.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a partial decryption: {PARTIAL_BYTES} bytes with a canonical element and scalar")]
pub struct PartialFormatError;

/// Why no partial was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PartialError {
    /// The ciphertext was verified for another key, version or deployment than the share is of.
    #[error("the ciphertext is for another key version than this share")]
    AnotherKey,
}

impl Partial {
    /// Multiplies `u` by the share and proves it. About one millionth of a second of the caller's permission check must have
    /// come first: this only guards against ciphertexts whose maker does not know what they encrypt.
    ///
    /// # Errors
    /// [`PartialError`].
    pub fn make<R: CryptoRng + ?Sized>(
        share: &DhShare,
        ciphertext: &VerifiedCiphertext,
        request_hash: &[u8; 32],
        rng: &mut R,
    ) -> Result<Self, PartialError> {
        if !ciphertext.is_for(share.sharing()) {
            return Err(PartialError::AnotherKey);
        }
        let secret: &SecretScalar = share.danger_secret();
        let u = ciphertext.u();
        // Neither factor is zero and the group's order is prime, so the product is not the identity.
        let power = Element::from_point(u.point() * secret.danger_scalar())
            .map_err(|_| PartialError::AnotherKey)?;
        let context = context(share.sharing(), share.index(), request_hash);
        let statement = Statement {
            label: labels::PARTIAL_PROOF,
            deployment: &share.sharing().deployment,
            context: &context,
            base: u,
            public: share.public(),
            power: &power,
        };
        let proof = Proof::make(&statement, secret, rng);
        Ok(Self {
            index: share.index(),
            power,
            proof,
        })
    }

    /// Whose it claims to be.
    #[must_use]
    pub fn index(&self) -> ShareIndex {
        self.index
    }

    /// `index || x_i * u (32) || k * G (32) || k * u (32) || response (32)`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; PARTIAL_BYTES] {
        let mut out = [0; PARTIAL_BYTES];
        let proof = self.proof.to_bytes();
        let parts: [&[u8]; 3] = [&[self.index.get()], self.power.as_bytes(), &proof];
        for (slot, byte) in out.iter_mut().zip(parts.into_iter().flatten()) {
            *slot = *byte;
        }
        out
    }

    /// Reads what [`Partial::to_bytes`] gives.
    ///
    /// # Errors
    /// [`PartialFormatError`] also for elements and scalars that are not canonical, and for the identity.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PartialFormatError> {
        Self::read(bytes).ok_or(PartialFormatError)
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(bytes);
        let index = ShareIndex::new(reader.byte()?).ok()?;
        let power = Element::from_bytes(&reader.array::<32>()?).ok()?;
        let proof = Proof::read(&mut reader)?;
        reader.end()?;
        Some(Self {
            index,
            power,
            proof,
        })
    }
}

impl std::fmt::Debug for Partial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Partial(of {}, redacted)", self.index)
    }
}

/// What partials are checked against: one ciphertext of one sharing, asked for by one request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The public keys of the sharing.
    pub public: &'a DhPublic,
    /// The ciphertext's first element.
    pub u: &'a Element,
    /// The hash of the signed request.
    pub request_hash: &'a [u8; 32],
}

/// A partial whose proof holds, with what it is an answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPartial {
    partial: Partial,
    sharing: Sharing,
    u: [u8; 32],
}

impl VerifiedPartial {
    /// Whose it is.
    #[must_use]
    pub fn index(&self) -> ShareIndex {
        self.partial.index
    }
}

/// The proof does not hold: that custodian cheated, is broken, or serves another epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the partial decryption of custodian {0} is wrong")]
pub struct BadPartial(pub ShareIndex);

/// Checks one partial.
///
/// # Errors
/// [`BadPartial`] names the index.
pub fn verify(request: &Request<'_>, partial: Partial) -> Result<VerifiedPartial, BadPartial> {
    let index = partial.index;
    let checked = (|| {
        let context = context(request.public.sharing(), index, request.request_hash);
        let statement = statement(request, &context, &partial)?;
        partial.proof.holds(&statement).then_some(())
    })();
    match checked {
        Some(()) => Ok(verified(request, partial)),
        None => Err(BadPartial(index)),
    }
}

/// Checks many partials, of one or many requests, together: some three times as fast as one by one when all are right,
/// and a third slower when one is wrong. Answers stand in the order of the questions.
#[must_use]
pub fn verify_batch(
    partials: Vec<(Request<'_>, Partial)>,
) -> Vec<Result<VerifiedPartial, BadPartial>> {
    let mut answers = Vec::with_capacity(partials.len());
    for batch in partials.chunks(BATCH_MAX) {
        let together = batch_holds(batch);
        answers.extend(batch.iter().map(|(request, partial)| {
            if together {
                Ok(verified(request, partial.clone()))
            } else {
                verify(request, partial.clone())
            }
        }));
    }
    answers
}

fn batch_holds(batch: &[(Request<'_>, Partial)]) -> bool {
    let contexts: Vec<_> = batch
        .iter()
        .map(|(request, partial)| {
            context(
                request.public.sharing(),
                partial.index,
                request.request_hash,
            )
        })
        .collect();
    let proofs: Option<Vec<(Statement<'_>, Proof)>> = batch
        .iter()
        .zip(&contexts)
        .map(|((request, partial), context)| {
            Some((statement(request, context, partial)?, partial.proof))
        })
        .collect();
    proofs.is_some_and(|proofs| dleq::all_hold(&proofs))
}

/// Why partials were not combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Fewer than t.
    #[error("{given} partial decryptions, and {needed} are needed")]
    TooFew {
        /// Distinct ones given.
        given: usize,
        /// t.
        needed: u8,
    },
    /// They answer for different ciphertexts or sharings.
    #[error("the partial decryption of custodian {0} belongs to another ciphertext or sharing")]
    Mixed(ShareIndex),
}

/// Combines t partials into `ss_dh`, the encoding of x * u (Lagrange at 0 in the exponent). An index that comes twice counts
/// once, and what comes after the first t is not used: each has been verified, so any t give the same.
///
/// # Errors
/// [`CombineError`].
pub fn combine(partials: &[VerifiedPartial]) -> Result<Secret<32>, CombineError> {
    let Some(first) = partials.first() else {
        return Err(CombineError::TooFew {
            given: 0,
            needed: 1,
        });
    };
    let mut seen = BTreeSet::new();
    let mut used = Vec::new();
    for partial in partials {
        if partial.sharing != first.sharing || partial.u != first.u {
            return Err(CombineError::Mixed(partial.index()));
        }
        if seen.insert(partial.index()) {
            used.push(partial);
        }
    }
    let needed = first.sharing.threshold.t();
    let given = used.len();
    if given < usize::from(needed) {
        return Err(CombineError::TooFew { given, needed });
    }
    used.truncate(usize::from(needed));
    let indices: Vec<ShareIndex> = used.iter().map(|partial| partial.index()).collect();
    // The weights are public; which points they multiply does not show in the time that it takes.
    let secret = RistrettoPoint::vartime_multiscalar_mul(
        weights_at_zero(&indices),
        used.iter().map(|partial| partial.partial.power.point()),
    );
    Ok(Secret::take(&mut secret.compress().to_bytes()))
}

const CONTEXT_BYTES: usize = Sharing::BINDING_BYTES + 1 + 32;

/// `binding || index || request hash`.
fn context(sharing: &Sharing, index: ShareIndex, request_hash: &[u8; 32]) -> [u8; CONTEXT_BYTES] {
    let mut out = [0; CONTEXT_BYTES];
    let parts: [&[u8]; 3] = [&sharing.binding(), &[index.get()], request_hash];
    for (slot, byte) in out.iter_mut().zip(parts.into_iter().flatten()) {
        *slot = *byte;
    }
    out
}

/// What the partial's proof must prove; `None` when the sharing has no such index.
fn statement<'a>(
    request: &Request<'a>,
    context: &'a [u8; CONTEXT_BYTES],
    partial: &'a Partial,
) -> Option<Statement<'a>> {
    Some(Statement {
        label: labels::PARTIAL_PROOF,
        deployment: &request.public.sharing().deployment,
        context,
        base: request.u,
        public: request.public.share(partial.index)?,
        power: &partial.power,
    })
}

fn verified(request: &Request<'_>, partial: Partial) -> VerifiedPartial {
    VerifiedPartial {
        partial,
        sharing: *request.public.sharing(),
        u: *request.u.as_bytes(),
    }
}
