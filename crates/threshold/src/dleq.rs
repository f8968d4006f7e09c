//! Proofs that two elements have the same discrete logarithm (Chaum and Pedersen, CRYPTO '92), made non-interactive by
//! hashing (Fiat and Shamir): Y = x * G and P = x * B, without showing x.

use std::collections::BTreeMap;

use crypto::Label;
use crypto::ristretto::{Element, SecretScalar, hash_to_scalar, scalar_from_bytes};
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use domain::DeploymentId;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::bytes::Reader;
use crate::labels;

/// Bytes of an encoded proof.
pub(crate) const PROOF_BYTES: usize = 96;

/// What is proved, and what the proof is bound to.
#[derive(Clone, Copy)]
pub(crate) struct Statement<'a> {
    pub(crate) label: Label,
    pub(crate) deployment: &'a DeploymentId,
    /// Of one length for each label.
    pub(crate) context: &'a [u8],
    /// B.
    pub(crate) base: &'a Element,
    /// Y = x * G.
    pub(crate) public: &'a Element,
    /// P = x * B.
    pub(crate) power: &'a Element,
}

/// `(k * G, k * B, k + c * x)`. Commitments rather than the challenge are carried so that proofs can be checked together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) commitment: [u8; 32],
    pub(crate) base_commitment: [u8; 32],
    pub(crate) response: Scalar,
}

impl Proof {
    /// Proves with x. The nonce is a hash of x, fresh randomness and the statement: a generator that repeats itself does
    /// not give x away, and one that can be predicted does not either.
    pub(crate) fn make<R: CryptoRng + ?Sized>(
        statement: &Statement<'_>,
        x: &SecretScalar,
        rng: &mut R,
    ) -> Self {
        let mut fresh = Zeroizing::new([0; 32]);
        rng.fill_bytes(fresh.as_mut_slice());
        let own = x.to_secret();
        let parts: [&[u8]; 6] = [
            own.expose(),
            fresh.as_slice(),
            statement.base.as_bytes(),
            statement.public.as_bytes(),
            statement.power.as_bytes(),
            statement.context,
        ];
        let mut nonce = hash_to_scalar(labels::PROOF_NONCE, statement.deployment, &parts);
        let nonce = SecretScalar::take(&mut nonce);
        let commitment = nonce.times_base().compress().to_bytes();
        let base_commitment = (statement.base.point() * nonce.danger_scalar())
            .compress()
            .to_bytes();
        let challenge = statement.challenge(&commitment, &base_commitment);
        Self {
            commitment,
            base_commitment,
            response: nonce.danger_scalar() + challenge * x.danger_scalar(),
        }
    }

    /// Checks one proof: `z * G - c * Y` and `z * B - c * P` must encode to the commitments.
    pub(crate) fn holds(&self, statement: &Statement<'_>) -> bool {
        let negated = -self.challenge(statement);
        let commitment = RistrettoPoint::vartime_double_scalar_mul_basepoint(
            &negated,
            statement.public.point(),
            &self.response,
        );
        let base_commitment = RistrettoPoint::vartime_multiscalar_mul(
            [self.response, negated],
            [statement.base.point(), statement.power.point()],
        );
        commitment.compress().as_bytes() == &self.commitment
            && base_commitment.compress().as_bytes() == &self.base_commitment
    }

    pub(crate) fn challenge(&self, statement: &Statement<'_>) -> Scalar {
        statement.challenge(&self.commitment, &self.base_commitment)
    }

    /// `k * G (32) || k * B (32) || response (32)`.
    pub(crate) fn to_bytes(self) -> [u8; PROOF_BYTES] {
        let mut out = [0; PROOF_BYTES];
        let response = self.response.to_bytes();
        let parts = [self.commitment, self.base_commitment, response];
        for (slot, byte) in out.iter_mut().zip(parts.as_flattened()) {
            *slot = *byte;
        }
        out
    }

    /// Refuses a response that is not canonical; commitments are compared as bytes when the proof is checked.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            commitment: reader.array()?,
            base_commitment: reader.array()?,
            response: scalar_from_bytes(&reader.array()?)?,
        })
    }
}

impl Statement<'_> {
    fn challenge(&self, commitment: &[u8; 32], base_commitment: &[u8; 32]) -> Scalar {
        let parts: [&[u8]; 6] = [
            self.context,
            self.base.as_bytes(),
            self.public.as_bytes(),
            self.power.as_bytes(),
            commitment,
            base_commitment,
        ];
        hash_to_scalar(self.label, self.deployment, &parts)
    }
}

/// Checks many proofs together: a random combination of all their equations must be the identity. True when every proof
/// holds; when any does not, false but for a chance of 2^-128.
///
/// The weights are derived from everything that is checked (Bellare, Garay and Rabin's small exponents, EUROCRYPT '98, with
/// weights that whoever made the proofs could not choose).
pub(crate) fn all_hold(proofs: &[(Statement<'_>, Proof)]) -> bool {
    let challenges: Vec<Scalar> = proofs
        .iter()
        .map(|(statement, proof)| proof.challenge(statement))
        .collect();
    let Some((first, _)) = proofs.first() else {
        return true;
    };
    // A challenge is a hash over its whole statement and both commitments; with the response that is everything.
    let mut transcript = Vec::with_capacity(proofs.len() * 64);
    for ((_, proof), challenge) in proofs.iter().zip(&challenges) {
        transcript.extend_from_slice(challenge.as_bytes());
        transcript.extend_from_slice(proof.response.as_bytes());
    }
    let seed = labels::BATCH_WEIGHTS.hash(first.deployment, &[&transcript]);
    let mut sums = Sums::default();
    for (number, ((statement, proof), challenge)) in (0_u64..).zip(proofs.iter().zip(&challenges)) {
        let (Some(commitment), Some(base_commitment)) = (
            CompressedRistretto(proof.commitment).decompress(),
            CompressedRistretto(proof.base_commitment).decompress(),
        ) else {
            return false;
        };
        let [ours, theirs] = weights(first.deployment, &seed, number);
        sums.add_base(ours * proof.response);
        sums.add(statement.public, -(ours * challenge));
        sums.add(statement.base, theirs * proof.response);
        sums.push(*statement.power.point(), -(theirs * challenge));
        sums.push(commitment, -ours);
        sums.push(base_commitment, -theirs);
    }
    sums.vanish()
}

/// Two weights of 128 bits.
fn weights(deployment: &DeploymentId, seed: &[u8; 32], number: u64) -> [Scalar; 2] {
    let hash = labels::BATCH_WEIGHTS.hash(deployment, &[seed, &number.to_be_bytes()]);
    let mut reader = Reader::new(&hash);
    [(); 2].map(|()| {
        let half: [u8; 16] = reader.array().unwrap_or_default();
        Scalar::from(u128::from_le_bytes(half))
    })
}

/// A sum of products under way; elements that come again (a base, a custodian's key) are multiplied once.
#[derive(Default)]
struct Sums {
    base: Scalar,
    scalars: Vec<Scalar>,
    points: Vec<RistrettoPoint>,
    known: BTreeMap<[u8; 32], usize>,
}

impl Sums {
    fn add_base(&mut self, scalar: Scalar) {
        self.base += scalar;
    }

    fn add(&mut self, element: &Element, scalar: Scalar) {
        let known = self.known.get(element.as_bytes());
        match known.and_then(|at| self.scalars.get_mut(*at)) {
            Some(sum) => *sum += scalar,
            None => {
                self.known.insert(*element.as_bytes(), self.scalars.len());
                self.push(*element.point(), scalar);
            }
        }
    }

    fn push(&mut self, point: RistrettoPoint, scalar: Scalar) {
        self.scalars.push(scalar);
        self.points.push(point);
    }

    fn vanish(mut self) -> bool {
        self.push(RISTRETTO_BASEPOINT_POINT, self.base);
        RistrettoPoint::vartime_multiscalar_mul(&self.scalars, &self.points).is_identity()
    }
}
