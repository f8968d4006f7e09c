//! Secret bytes: on the heap (a move copies a pointer, not the secret), wiped on drop, never printed.

use std::fmt;

use rand_core::CryptoRng;
use zeroize::Zeroize;

/// N secret bytes. No `Clone`, no `Copy`, no `PartialEq`: compare with [`Secret::ct_eq`].
pub struct Secret<const N: usize>(Box<[u8; N]>);

impl<const N: usize> Secret<N> {
    /// Draws a fresh secret.
    #[must_use]
    pub fn random<R: CryptoRng + ?Sized>(rng: &mut R) -> Self {
        let mut secret = Self::zeroed();
        rng.fill_bytes(secret.0.as_mut_slice());
        secret
    }

    /// Takes the bytes over and wipes the array that was passed by reference.
    #[must_use]
    pub fn take(bytes: &mut [u8; N]) -> Self {
        let mut secret = Self::zeroed();
        secret.0.copy_from_slice(bytes);
        bytes.zeroize();
        secret
    }

    /// Copies a slice of exactly N bytes; the caller wipes its own copy.
    #[must_use]
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        if bytes.len() != N {
            return None;
        }
        let mut secret = Self::zeroed();
        secret.0.copy_from_slice(bytes);
        Some(secret)
    }

    /// The bytes. Named so that every use can be found.
    #[must_use]
    pub fn expose(&self) -> &[u8; N] {
        &self.0
    }

    /// Compares in constant time.
    #[must_use]
    pub fn ct_eq(&self, other: &Self) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(self.0.as_slice(), other.0.as_slice())
            .is_ok()
    }

    pub(crate) fn zeroed() -> Self {
        Self(Box::new([0; N]))
    }

    pub(crate) fn expose_mut(&mut self) -> &mut [u8; N] {
        &mut self.0
    }
}

impl<const N: usize> Drop for Secret<N> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const N: usize> fmt::Debug for Secret<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret<{N}>(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_byte() {
        let secret = Secret::take(&mut [0xab; 32]);
        assert_eq!(format!("{secret:?}"), "Secret<32>(redacted)");
    }

    #[test]
    fn take_wipes_its_source() {
        let mut source = [7; 16];
        let secret = Secret::take(&mut source);
        assert_eq!(source, [0; 16]);
        assert_eq!(secret.expose(), &[7; 16]);
    }

    #[test]
    fn other_lengths_are_refused_and_equality_sees_every_byte() {
        assert!(Secret::<32>::from_slice(&[0; 31]).is_none());
        let a = Secret::take(&mut [1; 8]);
        for i in 0..8 {
            let mut bytes = [1; 8];
            bytes[i] ^= 0x80;
            assert!(!a.ct_eq(&Secret::take(&mut bytes)));
        }
        assert!(a.ct_eq(&Secret::take(&mut [1; 8])));
    }
}
