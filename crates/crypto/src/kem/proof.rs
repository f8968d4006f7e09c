//! The threshold leg's ciphertext: `u = r G`, `u_bar = r G_bar`, and the proof that both have one logarithm.
//!
//! TDH2 of Shoup and Gennaro ("Securing Threshold Cryptosystems against Chosen Ciphertext Attack", Journal of Cryptology
//! 15, 2002, section 4.3): with s random, `w = s G`, `w_bar = s G_bar`, `e = H(label, u, u_bar, w, w_bar)`,
//! `f = s + r e`. The paper's ciphertext carries `e`; this one carries `w` and `w_bar` instead, from which `e` follows, so
//! that many proofs are checked in one multiplication. A custodian multiplies `u` by its share only after this proof:
//! without it, whoever has a request permitted could have any element multiplied.

use std::sync::LazyLock;

use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
use curve25519_dalek::ristretto::{RistrettoBasepointTable, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use domain::DeploymentId;
use domain::limits::PROOF_BATCH_MAX;
use rand_core::CryptoRng;
use zeroize::Zeroize as _;

use crate::label::Label;
use crate::ristretto::{
    Element, ElementError, SecretScalar, hash_to_point, hash_to_scalar, scalar_from_bytes,
};
use crate::secret::Secret;

/// Bytes of an encoded [`DhCiphertext`].
pub const DH_CIPHERTEXT_BYTES: usize = 160;

/// The second generator.
static G_BAR: LazyLock<RistrettoPoint> = LazyLock::new(|| hash_to_point(Label::TDH2_GENERATOR));

/// Its multiples, for multiplying it in constant time: 30 KB, a millisecond to make, once in a process.
static G_BAR_TABLE: LazyLock<RistrettoBasepointTable> =
    LazyLock::new(|| RistrettoBasepointTable::create(&G_BAR));

/// One half, for `RistrettoPoint::double_and_compress_batch`, which encodes many doubled points with one inversion.
static HALF: LazyLock<Scalar> = LazyLock::new(|| Scalar::from(2_u8).invert());

/// G_bar: the one-way map of SHA-512 of the bare label `tdh2-generator`.
#[must_use]
pub fn second_generator() -> &'static RistrettoPoint {
    &G_BAR
}

/// Which of a ciphertext's parts is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// `r G`.
    U,
    /// `r G_bar`.
    UBar,
    /// `s G`.
    W,
    /// `s G_bar`.
    WBar,
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::U => "u",
            Self::UBar => "u_bar",
            Self::W => "w",
            Self::WBar => "w_bar",
        })
    }
}

/// Why a ciphertext is refused before any share touches it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CiphertextError {
    /// An element that is not encoded canonically or is the identity.
    #[error("{part} of the ciphertext is {source}")]
    Element {
        /// Which one.
        part: Part,
        /// What is wrong with it.
        source: ElementError,
    },
    /// `f` is not reduced.
    #[error("f of the ciphertext's proof is not a canonical scalar")]
    Scalar,
    /// The proof is of another ciphertext, key, version, context or deployment, or of nothing.
    #[error("the ciphertext's proof does not hold for this key, version and context")]
    Proof,
}

/// Encoded elements and scalar, as they came; [`DhCiphertext::verify`] decides about them.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DhCiphertext {
    /// `r G`.
    pub u: [u8; 32],
    /// `r G_bar`.
    pub u_bar: [u8; 32],
    /// `s G`.
    pub w: [u8; 32],
    /// `s G_bar`.
    pub w_bar: [u8; 32],
    /// `s + r e`, little-endian.
    pub f: [u8; 32],
}

impl std::fmt::Debug for DhCiphertext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let hex = data_encoding::HEXLOWER.encode(&self.u);
        write!(f, "DhCiphertext(u {hex})")
    }
}

/// What a proof is bound to: the hash of scheme, key, version, public keys, ML-KEM ciphertext and context
/// ([`super::KeyTarget::proof_label`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProofLabel(pub(super) [u8; 32]);

/// A proof that parsed, with its challenge.
struct Parsed {
    u: Element,
    u_bar: Element,
    w: Element,
    w_bar: Element,
    f: Scalar,
    e: Scalar,
}

impl DhCiphertext {
    /// `u || u_bar || w || w_bar || f`.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; DH_CIPHERTEXT_BYTES] {
        let mut out = [0; DH_CIPHERTEXT_BYTES];
        let parts = [&self.u, &self.u_bar, &self.w, &self.w_bar, &self.f];
        for (slot, part) in out.chunks_exact_mut(32).zip(parts) {
            slot.copy_from_slice(part);
        }
        out
    }

    /// Splits what [`DhCiphertext::to_bytes`] joined.
    #[must_use]
    pub fn from_bytes(bytes: &[u8; DH_CIPHERTEXT_BYTES]) -> Self {
        let mut parts = [[0; 32]; 5];
        for (part, from) in parts.iter_mut().zip(bytes.chunks_exact(32)) {
            part.copy_from_slice(from);
        }
        let [u, u_bar, w, w_bar, f] = parts;
        Self {
            u,
            u_bar,
            w,
            w_bar,
            f,
        }
    }

    /// Checks every encoding and the proof; gives `u`, which a share may then multiply.
    ///
    /// # Errors
    /// [`CiphertextError`].
    pub fn verify(
        &self,
        deployment: &DeploymentId,
        label: &ProofLabel,
    ) -> Result<Element, CiphertextError> {
        let parsed = self.parse(deployment, label)?;
        if hold(deployment, &[], &[&parsed]) {
            Ok(parsed.u)
        } else {
            Err(CiphertextError::Proof)
        }
    }

    fn parse(
        &self,
        deployment: &DeploymentId,
        label: &ProofLabel,
    ) -> Result<Parsed, CiphertextError> {
        let element = |part, bytes: &[u8; 32]| {
            Element::from_bytes(bytes).map_err(|source| CiphertextError::Element { part, source })
        };
        Ok(Parsed {
            u: element(Part::U, &self.u)?,
            u_bar: element(Part::UBar, &self.u_bar)?,
            w: element(Part::W, &self.w)?,
            w_bar: element(Part::WBar, &self.w_bar)?,
            f: scalar_from_bytes(&self.f).ok_or(CiphertextError::Scalar)?,
            e: self.challenge(deployment, label),
        })
    }

    fn challenge(&self, deployment: &DeploymentId, label: &ProofLabel) -> Scalar {
        let parts: [&[u8]; 5] = [&label.0, &self.u, &self.u_bar, &self.w, &self.w_bar];
        hash_to_scalar(Label::TDH2_CHALLENGE, deployment, &parts)
    }
}

/// Checks many ciphertexts at once, 64 at a time: one multiplication with random weights for all, and one for each only
/// where that fails. The answers are in the order of `ciphertexts`, and a bad ciphertext makes no other one fail.
pub fn verify_batch(
    rng: &mut dyn CryptoRng,
    deployment: &DeploymentId,
    ciphertexts: &[(DhCiphertext, ProofLabel)],
) -> Vec<Result<Element, CiphertextError>> {
    let mut answers = Vec::with_capacity(ciphertexts.len());
    for batch in ciphertexts.chunks(PROOF_BATCH_MAX) {
        let parsed: Vec<Result<Parsed, CiphertextError>> = batch
            .iter()
            .map(|(ciphertext, label)| ciphertext.parse(deployment, label))
            .collect();
        let sound: Vec<&Parsed> = parsed.iter().filter_map(|one| one.as_ref().ok()).collect();
        let mut seed = [0; 32];
        rng.fill_bytes(&mut seed);
        let all_hold = hold(deployment, &seed, &sound);
        answers.extend(parsed.iter().map(|one| match one {
            Ok(one) if all_hold || hold(deployment, &[], &[one]) => Ok(one.u),
            Ok(_) => Err(CiphertextError::Proof),
            Err(error) => Err(*error),
        }));
    }
    answers
}

/// What `u`'s sender multiplies besides the two generators.
pub(super) enum DhPublic {
    Point(RistrettoPoint),
    Table(Box<RistrettoBasepointTable>),
}

impl DhPublic {
    pub(super) fn point(public: &Element) -> Self {
        Self::Point(*public.point())
    }

    pub(super) fn table(public: &Element) -> Self {
        Self::Table(Box::new(RistrettoBasepointTable::create(public.point())))
    }
}

/// Makes a ciphertext bound to `label` and the secret `r H` that it carries, for fresh random `r` and `s`.
pub(super) fn seal(
    deployment: &DeploymentId,
    label: &ProofLabel,
    public: &DhPublic,
    r: &SecretScalar,
    s: &SecretScalar,
) -> (DhCiphertext, Secret<32>) {
    let r_half = SecretScalar::take(&mut (r.danger_scalar() * *HALF));
    let s_half = SecretScalar::take(&mut (s.danger_scalar() * *HALF));
    // By base, as each base's table just fills the first cache.
    let mut halves = [
        r_half.times_base(),
        s_half.times_base(),
        &*G_BAR_TABLE * r_half.danger_scalar(),
        &*G_BAR_TABLE * s_half.danger_scalar(),
        match public {
            DhPublic::Point(point) => point * r_half.danger_scalar(),
            DhPublic::Table(table) => &**table * r_half.danger_scalar(),
        },
    ];
    let mut encoded = RistrettoPoint::double_and_compress_batch(&halves);
    halves.zeroize();
    let mut next = || {
        let taken = encoded.first_mut().map(std::mem::take).unwrap_or_default();
        encoded.rotate_left(1);
        taken.to_bytes()
    };
    let (u, w, u_bar, w_bar) = (next(), next(), next(), next());
    let shared = Secret::take(&mut next());
    let mut ciphertext = DhCiphertext {
        u,
        u_bar,
        w,
        w_bar,
        f: [0; 32],
    };
    let mut masked = r.danger_scalar() * ciphertext.challenge(deployment, label);
    ciphertext.f = (s.danger_scalar() + masked).to_bytes();
    masked.zeroize();
    (ciphertext, shared)
}

/// Whether for every proof `w + e u = f G` and `w_bar + e u_bar = f G_bar`: each equation times a weight of 128 bits, all
/// of them added. The weights are a hash of `seed` and all proofs; for one proof the hash alone will do: whoever wants two
/// false equations to cancel out has to find 128 bits of it.
fn hold(deployment: &DeploymentId, seed: &[u8], proofs: &[&Parsed]) -> bool {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&Label::TDH2_WEIGHTS.message(deployment, seed));
    for proof in proofs {
        // e is the hash of everything but f.
        hasher.update(proof.e.as_bytes());
        hasher.update(proof.f.as_bytes());
    }
    let mut stream = hasher.finalize_xof();
    let mut weight = || {
        let mut bytes = [0; 16];
        stream.fill(&mut bytes);
        Scalar::from(u128::from_le_bytes(bytes))
    };
    let (mut by_g, mut by_g_bar) = (Scalar::ZERO, Scalar::ZERO);
    let mut scalars = Vec::with_capacity(4 * proofs.len() + 2);
    let mut points: Vec<&RistrettoPoint> = Vec::with_capacity(4 * proofs.len() + 2);
    for proof in proofs {
        let (first, second) = (weight(), weight());
        by_g -= first * proof.f;
        by_g_bar -= second * proof.f;
        scalars.extend([first, first * proof.e, second, second * proof.e]);
        points.extend([&proof.w, &proof.u, &proof.w_bar, &proof.u_bar].map(Element::point));
    }
    scalars.extend([by_g, by_g_bar]);
    points.extend([&RISTRETTO_BASEPOINT_POINT, &*G_BAR]);
    RistrettoPoint::vartime_multiscalar_mul(scalars, points).is_identity()
}

#[cfg(test)]
mod tests;
