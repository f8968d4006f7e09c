//! The threshold leg's keys: a custodian's share x_i, and what is public of all of them.

use crypto::ristretto::{Element, SecretScalar};
use curve25519_dalek::ristretto::RistrettoPoint;
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity as _, VartimeMultiscalarMul as _};
use domain::ShareIndex;

use crate::labels;
use crate::sharing::Sharing;

/// One custodian's share of the ristretto255 secret.
#[derive(Debug)]
pub struct DhShare {
    sharing: Sharing,
    index: ShareIndex,
    secret: SecretScalar,
    public: Element,
}

/// The share is zero, or its index is none of the sharing's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("share {0} of the threshold leg cannot be used")]
pub struct DhShareError(pub ShareIndex);

impl DhShare {
    /// Takes a share; computes its public key.
    ///
    /// # Errors
    /// [`DhShareError`].
    pub fn new(
        sharing: Sharing,
        index: ShareIndex,
        secret: SecretScalar,
    ) -> Result<Self, DhShareError> {
        if !sharing.threshold.has(index) {
            return Err(DhShareError(index));
        }
        let public = Element::from_point(secret.times_base()).map_err(|_| DhShareError(index))?;
        Ok(Self {
            sharing,
            index,
            secret,
            public,
        })
    }

    /// The sharing.
    #[must_use]
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// The x-coordinate.
    #[must_use]
    pub fn index(&self) -> ShareIndex {
        self.index
    }

    /// Y_i = x_i * G.
    #[must_use]
    pub fn public(&self) -> &Element {
        &self.public
    }

    /// x_i, for storing it sealed.
    #[must_use]
    pub fn danger_secret(&self) -> &SecretScalar {
        &self.secret
    }
}

/// The public key of a sharing and of each of its shares, known to belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DhPublic {
    sharing: Sharing,
    group: Element,
    shares: Vec<Element>,
}

/// Why elements are not the public keys of one sharing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DhPublicError {
    /// Not n of them.
    #[error("{given} share public keys for {expected} shares")]
    Length {
        /// Elements given.
        given: usize,
        /// n.
        expected: u8,
    },
    /// They are not t-of-n shares of the group's key.
    #[error("the share public keys are not shares of the public key")]
    Degree,
}

impl DhPublic {
    /// Checks that Y_0 (the group's key) and Y_1 to Y_n lie on one polynomial of degree at most t - 1 in the exponent.
    ///
    /// The check is SCRAPE's (Cascudo and David, ACNS 2017, 3.1): such points are a Reed-Solomon code word, so their
    /// product with a random word of the dual code is zero, and otherwise it is not but for one chance in the group's order.
    /// The random word is derived from the points.
    ///
    /// # Errors
    /// [`DhPublicError`].
    pub fn new(
        sharing: Sharing,
        group: Element,
        shares: Vec<Element>,
    ) -> Result<Self, DhPublicError> {
        let n = sharing.threshold.n();
        if shares.len() != usize::from(n) {
            return Err(DhPublicError::Length {
                given: shares.len(),
                expected: n,
            });
        }
        let public = Self {
            sharing,
            group,
            shares,
        };
        if public.dual_product().is_identity() {
            return Ok(public);
        }
        Err(DhPublicError::Degree)
    }

    /// The sharing.
    #[must_use]
    pub fn sharing(&self) -> &Sharing {
        &self.sharing
    }

    /// The public key.
    #[must_use]
    pub fn group(&self) -> &Element {
        &self.group
    }

    /// Y_1 to Y_n.
    #[must_use]
    pub fn shares(&self) -> &[Element] {
        &self.shares
    }

    /// Y_i; `None` when the sharing has no such index.
    #[must_use]
    pub fn share(&self, index: ShareIndex) -> Option<&Element> {
        self.shares.get(usize::from(index.get()).checked_sub(1)?)
    }

    /// Sum over i = 0..=n of v_i * m(i) * Y_i, where v_i = 1 / product of (i - j) over the other j in 0..=n, and m is a
    /// random polynomial of degree n - t.
    fn dual_product(&self) -> RistrettoPoint {
        let (t, n) = (self.sharing.threshold.t(), self.sharing.threshold.n());
        let mut points = self.group.as_bytes().to_vec();
        for share in &self.shares {
            points.extend_from_slice(share.as_bytes());
        }
        let coefficients: Vec<Scalar> = (0..=n - t)
            .map(|power| {
                let parts: [&[u8]; 3] = [&self.sharing.binding(), &[power], &points];
                let deployment = &self.sharing.deployment;
                crypto::ristretto::hash_to_scalar(labels::DEGREE_CHECK, deployment, &parts)
            })
            .collect();
        let mut weights: Vec<Scalar> = (0..=n)
            .map(|i| {
                let x = Scalar::from(i);
                (0..=n)
                    .filter(|j| *j != i)
                    .map(|j| x - Scalar::from(j))
                    .product()
            })
            .collect();
        Scalar::batch_invert(&mut weights);
        for (i, weight) in (0..=n).zip(&mut weights) {
            let x = Scalar::from(i);
            let value = coefficients
                .iter()
                .rev()
                .fold(Scalar::ZERO, |sum, coefficient| sum * x + coefficient);
            *weight *= value;
        }
        let points = std::iter::once(&self.group).chain(&self.shares);
        RistrettoPoint::vartime_multiscalar_mul(&weights, points.map(Element::point))
    }
}

/// The Lagrange weights at 0 of distinct indices, in their order.
pub(crate) fn weights_at_zero(indices: &[ShareIndex]) -> Vec<Scalar> {
    let xs: Vec<Scalar> = indices
        .iter()
        .map(|index| Scalar::from(index.get()))
        .collect();
    let mut denominators: Vec<Scalar> = xs
        .iter()
        .map(|own| {
            xs.iter()
                .filter(|other| *other != own)
                .map(|other| other - own)
                .product()
        })
        .collect();
    Scalar::batch_invert(&mut denominators);
    xs.iter()
        .zip(denominators)
        .map(|(own, inverse)| {
            let numerator: Scalar = xs.iter().filter(|other| *other != own).product();
            numerator * inverse
        })
        .collect()
}
