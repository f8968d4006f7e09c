//! Elements and scalars of ristretto255 (RFC 9496): parsed once, never the identity, secret ones wiped.
//!
//! The group's arithmetic is `curve25519-dalek` 4.1.3, the release that `frost-ristretto255` pins; its types appear
//! here so that `threshold` works on the same ones. Encodings are RFC 9496's; scalars are little-endian and canonical.

use std::fmt;

use aws_lc_rs::digest;
use curve25519_dalek::constants::RISTRETTO_BASEPOINT_TABLE;
use curve25519_dalek::ristretto::{CompressedRistretto, RistrettoPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::IsIdentity as _;
use domain::DeploymentId;
use rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use crate::label::Label;
use crate::secret::Secret;

/// Bytes of an encoded element.
pub const ELEMENT_BYTES: usize = 32;
/// Bytes of an encoded scalar.
pub const SCALAR_BYTES: usize = 32;

/// Why bytes are not an element that may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ElementError {
    /// Not 32 bytes, or not the canonical encoding of an element (RFC 9496, 4.3.1).
    #[error("not the canonical encoding of a ristretto255 element")]
    NotCanonical,
    /// The identity: whoever multiplies it by a secret shows nothing and proves nothing.
    #[error("the identity element")]
    Identity,
}

/// An element other than the identity, with its one encoding.
#[derive(Clone, Copy)]
pub struct Element {
    point: RistrettoPoint,
    bytes: [u8; ELEMENT_BYTES],
}

impl Element {
    /// Parses the canonical encoding.
    ///
    /// # Errors
    /// [`ElementError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ElementError> {
        let bytes: [u8; ELEMENT_BYTES] =
            bytes.try_into().map_err(|_| ElementError::NotCanonical)?;
        let point = CompressedRistretto(bytes)
            .decompress()
            .ok_or(ElementError::NotCanonical)?;
        if point.is_identity() {
            return Err(ElementError::Identity);
        }
        Ok(Self { point, bytes })
    }

    /// Encodes a computed point.
    ///
    /// # Errors
    /// [`ElementError::Identity`].
    pub fn from_point(point: RistrettoPoint) -> Result<Self, ElementError> {
        if point.is_identity() {
            return Err(ElementError::Identity);
        }
        let bytes = point.compress().to_bytes();
        Ok(Self { point, bytes })
    }

    /// The encoding.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; ELEMENT_BYTES] {
        &self.bytes
    }

    /// The point, for arithmetic.
    #[must_use]
    pub fn point(&self) -> &RistrettoPoint {
        &self.point
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.bytes == other.bytes
    }
}

impl Eq for Element {}

impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = data_encoding::HEXLOWER.encode(&self.bytes);
        write!(f, "Element({hex})")
    }
}

/// A scalar that nobody else may learn: on the heap, wiped on drop, never printed.
pub struct SecretScalar(Box<Scalar>);

impl SecretScalar {
    /// Draws 64 bytes and reduces them: uniform but for 2^-259.
    #[must_use]
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut wide = Zeroizing::new([0; 64]);
        rng.fill_bytes(wide.as_mut_slice());
        Self::from_wide(&wide)
    }

    /// Reduces 64 bytes (little-endian) modulo the group's order.
    #[must_use]
    pub fn from_wide(wide: &[u8; 64]) -> Self {
        Self(Box::new(Scalar::from_bytes_mod_order_wide(wide)))
    }

    /// Takes a scalar over and wipes the one that was passed by reference.
    #[must_use]
    pub fn take(scalar: &mut Scalar) -> Self {
        let secret = Self(Box::new(*scalar));
        scalar.zeroize();
        secret
    }

    /// Reads a canonical encoding; `None` for any other bytes.
    #[must_use]
    pub fn from_secret(bytes: &Secret<SCALAR_BYTES>) -> Option<Self> {
        Option::from(Scalar::from_canonical_bytes(*bytes.expose()))
            .map(|mut scalar: Scalar| Self::take(&mut scalar))
    }

    /// The canonical encoding.
    #[must_use]
    pub fn to_secret(&self) -> Secret<SCALAR_BYTES> {
        Secret::take(&mut self.0.to_bytes())
    }

    /// The scalar, for arithmetic; what is computed from it is the caller's to wipe.
    #[must_use]
    pub fn danger_scalar(&self) -> &Scalar {
        &self.0
    }

    /// This scalar times the base point, in constant time.
    #[must_use]
    pub fn times_base(&self) -> RistrettoPoint {
        RISTRETTO_BASEPOINT_TABLE * &*self.0
    }
}

impl Drop for SecretScalar {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretScalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretScalar(redacted)")
    }
}

/// Reads a canonical scalar that is not secret; `None` for any other bytes.
#[must_use]
pub fn scalar_from_bytes(bytes: &[u8; SCALAR_BYTES]) -> Option<Scalar> {
    Scalar::from_canonical_bytes(*bytes).into()
}

/// SHA-512 of `label`'s message over the concatenated `parts`, as a little-endian number modulo the group's order: the
/// challenge of a proof. As with [`Label::hash`], parts have fixed lengths, at most the last a variable one.
#[must_use]
pub fn hash_to_scalar(label: Label, deployment: &DeploymentId, parts: &[&[u8]]) -> Scalar {
    let mut context = digest::Context::new(&digest::SHA512);
    context.update(&label.message(deployment, &[]));
    for part in parts {
        context.update(part);
    }
    let mut wide = [0; 64];
    for (slot, byte) in wide.iter_mut().zip(context.finish().as_ref()) {
        *slot = *byte;
    }
    Scalar::from_bytes_mod_order_wide(&wide)
}

/// The element that RFC 9496's one-way map (4.3.4) gives for SHA-512 of the bare label: nobody knows its logarithm.
#[must_use]
pub fn hash_to_point(label: Label) -> RistrettoPoint {
    let hash = digest::digest(&digest::SHA512, &label.bare());
    let mut wide = [0; 64];
    for (slot, byte) in wide.iter_mut().zip(hash.as_ref()) {
        *slot = *byte;
    }
    RistrettoPoint::from_uniform_bytes(&wide)
}

#[cfg(test)]
mod tests {
    use super::*;
    use curve25519_dalek::constants::RISTRETTO_BASEPOINT_POINT;
    use curve25519_dalek::traits::Identity as _;

    fn unhex(hex: &str) -> Vec<u8> {
        data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()
    }

    /// RFC 9496, appendix A.1: multiples of the generator.
    #[test]
    fn multiples_of_the_generator() {
        for (times, hex) in [
            (
                1_u64,
                "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76",
            ),
            (
                2,
                "6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919",
            ),
            (
                3,
                "94741f5d5d52755ece4f23f044ee27d5d1ea1e2bd196b462166b16152a9d0259",
            ),
            (
                15,
                "e0c418f7c8d9c4cdd7395b93ea124f3ad99021bb681dfc3302a9d99a2e53e64e",
            ),
        ] {
            let element = Element::from_bytes(&unhex(hex)).unwrap();
            assert_eq!(
                *element.point(),
                RISTRETTO_BASEPOINT_POINT * Scalar::from(times)
            );
            assert_eq!(Element::from_point(*element.point()), Ok(element));
        }
    }

    /// RFC 9496, appendix A.2: one of each class of invalid encodings.
    #[test]
    fn invalid_encodings_are_refused() {
        for hex in [
            // Non-canonical field encodings.
            "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            // Negative field elements.
            "0100000000000000000000000000000000000000000000000000000000000000",
            "01ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "ed57ffd8c914fb201471d1c3d245ce3c746fcbe63a3679d51b6a516ebebe0e20",
            // Non-square x^2.
            "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
            "4eac077a713c57b4f4397629a4145982c661f48044dd3f96427d40b147d9742f",
            // Negative x * y.
            "3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e",
            "a45fdc55c76448c049a1ab33f17023edfb2be3581e9c7aade8a6125215e04220",
            // s = -1, which causes y = 0.
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            let refused = Err(ElementError::NotCanonical);
            assert_eq!(Element::from_bytes(&unhex(hex)), refused, "{hex}");
        }
        assert_eq!(Element::from_bytes(&[0; 32]), Err(ElementError::Identity));
        assert_eq!(
            Element::from_point(RistrettoPoint::identity()),
            Err(ElementError::Identity)
        );
        for len in [0, 31, 33] {
            let refused = Err(ElementError::NotCanonical);
            assert_eq!(Element::from_bytes(&vec![0; len]), refused);
        }
    }

    /// RFC 9496, appendix A.3: SHA-512 of a label through the one-way map.
    #[test]
    fn the_one_way_map() {
        let wide = unhex(
            "5d1be09e3d0c82fc538112490e35701979d99e06ca3e2b5b54bffe8b4dc772c14d98b696a1bbfb5ca32c436cc61c16563790306c79eaca7705668b47dffe5bb6",
        );
        let point = RistrettoPoint::from_uniform_bytes(&wide.try_into().unwrap());
        assert_eq!(
            point.compress().as_bytes().as_slice(),
            unhex("3066f82a1a747d45120d1740f14358531a8f04bbffe6a819f86dfe50f44a0a46")
        );
    }

    #[test]
    fn scalars_are_canonical_or_refused() {
        // The group's order, little-endian (RFC 9496, 4).
        let order = "edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010";
        let mut bytes: [u8; 32] = unhex(order).try_into().unwrap();
        assert!(scalar_from_bytes(&bytes).is_none());
        assert!(SecretScalar::from_secret(&Secret::take(&mut bytes.clone())).is_none());
        bytes[0] -= 1;
        assert_eq!(scalar_from_bytes(&bytes), Some(-Scalar::ONE));
        let secret = SecretScalar::from_secret(&Secret::take(&mut bytes.clone())).unwrap();
        assert_eq!(secret.to_secret().expose(), &bytes);
        assert_eq!(secret.times_base(), -RISTRETTO_BASEPOINT_POINT);
        assert_eq!(format!("{secret:?}"), "SecretScalar(redacted)");
    }

    #[test]
    fn challenges_follow_label_deployment_and_parts() {
        let hash = |label, deployment: u8, parts: &[&[u8]]| {
            hash_to_scalar(label, &DeploymentId([deployment; 32]), parts)
        };
        let base = hash(Label::TDH2_CHALLENGE, 1, &[b"ab", b"c"]);
        assert_eq!(hash(Label::TDH2_CHALLENGE, 1, &[b"abc"]), base);
        assert_ne!(hash(Label::TDH2_LABEL, 1, &[b"abc"]), base);
        assert_ne!(hash(Label::TDH2_CHALLENGE, 2, &[b"abc"]), base);
        assert_ne!(hash(Label::TDH2_CHALLENGE, 1, &[b"xyz"]), base);
    }
}
