//! Shamir's secret sharing (CACM 22, 1979) of N bytes over GF(2^8): one polynomial of degree t - 1 for each byte, the secret
//! at 0, share i at i.
//!
//! Any t - 1 shares are independent of the secret, whatever an attacker can compute; there is nothing here that shows
//! whether a share is the right one (see [`crate::commitments`]). Time and memory accesses depend on t, n and the
//! indices, never on the secret or a share.

use crypto::Secret;
use domain::{ShareIndex, Threshold};
use rand_core::CryptoRng;

use crate::gf256;

/// One party's part of a secret of N bytes.
#[derive(Debug)]
pub struct Share<const N: usize> {
    /// The x-coordinate.
    pub index: ShareIndex,
    /// The values there.
    pub value: Secret<N>,
}

/// Why shares were not combined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CombineError {
    /// Fewer than the threshold.
    #[error("{given} shares, and {needed} are needed")]
    TooFew {
        /// Shares given.
        given: usize,
        /// t.
        needed: u8,
    },
    /// Two shares of one index, or of one that the threshold does not have.
    #[error("share {0} is given twice, or is none of this sharing")]
    Index(ShareIndex),
    /// More shares than t, and they do not lie on one polynomial of degree t - 1. Shamir's scheme alone cannot say which of
    /// them is wrong.
    #[error("the shares are not of one sharing: share {0} does not fit the first ones")]
    Inconsistent(ShareIndex),
}

/// Deals n shares, any t of which give the secret.
///
/// Draws (t - 1) * N bytes: the coefficients of x, x^2 and so on, each for all N bytes.
#[must_use]
pub fn split<const N: usize, R: CryptoRng + ?Sized>(
    secret: &Secret<N>,
    threshold: Threshold,
    rng: &mut R,
) -> Vec<Share<N>> {
    let higher: Vec<Secret<N>> = (1..threshold.t()).map(|_| Secret::random(rng)).collect();
    threshold
        .indices()
        .map(|index| {
            let mut sum = [0; N];
            for coefficient in higher.iter().rev() {
                gf256::scale_and_add(&mut sum, index.get(), coefficient.expose());
            }
            gf256::scale_and_add(&mut sum, index.get(), secret.expose());
            Share {
                index,
                value: Secret::take(&mut sum),
            }
        })
        .collect()
}

/// Gives the secret from at least t shares. More than t must agree: every further share is checked against the first t.
///
/// # Errors
/// [`CombineError`].
pub fn combine<const N: usize>(
    shares: &[&Share<N>],
    threshold: Threshold,
) -> Result<Secret<N>, CombineError> {
    let (first, further) = checked(shares, threshold)?;
    for share in further {
        if !interpolate(first, share.index.get()).ct_eq(&share.value) {
            return Err(CombineError::Inconsistent(share.index));
        }
    }
    Ok(interpolate(first, 0))
}

/// The first t shares and the others, after checking number and indices.
#[allow(clippy::type_complexity)]
fn checked<'a, 'b, const N: usize>(
    shares: &'a [&'b Share<N>],
    threshold: Threshold,
) -> Result<(&'a [&'b Share<N>], &'a [&'b Share<N>]), CombineError> {
    let mut seen = [false; 256];
    for share in shares {
        let index = share.index;
        match seen.get_mut(usize::from(index.get())) {
            Some(seen) if !*seen && threshold.has(index) => *seen = true,
            _ => return Err(CombineError::Index(index)),
        }
    }
    shares
        .split_at_checked(usize::from(threshold.t()))
        .ok_or(CombineError::TooFew {
            given: shares.len(),
            needed: threshold.t(),
        })
}

/// The polynomial through `shares`, which have distinct indices, at `x` (Lagrange).
fn interpolate<const N: usize>(shares: &[&Share<N>], x: u8) -> Secret<N> {
    let mut sum = [0; N];
    for share in shares {
        let own = share.index.get();
        let (mut numerator, mut denominator) = (1, 1);
        for other in shares.iter().map(|other| other.index.get()) {
            if other != own {
                numerator = gf256::mul(numerator, x ^ other);
                denominator = gf256::mul(denominator, own ^ other);
            }
        }
        let weight = gf256::mul(numerator, gf256::invert(denominator));
        gf256::add_scaled(&mut sum, share.value.expose(), weight);
    }
    Secret::take(&mut sum)
}
