//! A short message under a long-lived symmetric key: `salt(16) || ciphertext || tag(16)`.
//!
//! Each message has its own AES-256-GCM key, HKDF-SHA-256(key, salt, info), and uses it once with the all-zero nonce.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use domain::limits::TAG_BYTES;
use rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use crate::kdf::hkdf;
use crate::secret::Secret;

/// Bytes of the salt in front.
pub(crate) const SALT_BYTES: usize = 16;
/// What a sealed message has more than its plaintext.
pub(crate) const OVERHEAD: usize = SALT_BYTES + TAG_BYTES;

/// An AES-256-GCM key that the caller promises to use with distinct nonces.
pub(crate) fn gcm_key(key: &Secret<32>) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).expect("AES-256 takes 32 bytes"))
}

/// Seals under a fresh salt from `rng`.
pub(crate) fn seal<R: CryptoRng + ?Sized>(
    rng: &mut R,
    key: &Secret<32>,
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> Vec<u8> {
    let mut out = vec![0; SALT_BYTES];
    rng.fill_bytes(&mut out);
    let one_use = gcm_key(&hkdf(key.expose(), &out, info));
    let mut body = plaintext.to_vec();
    seal_once(&one_use, aad, &mut body);
    out.append(&mut body);
    out
}

/// Opens what [`seal`] made; `None` for a wrong key, info, AAD or any altered byte.
pub(crate) fn open(
    key: &Secret<32>,
    info: &[u8],
    aad: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, body) = sealed.split_at_checked(SALT_BYTES)?;
    let one_use = gcm_key(&hkdf(key.expose(), salt, info));
    open_once(&one_use, aad, body)
}

/// Seals in place, appending the tag, with the all-zero nonce: for a key that seals one message ever.
pub(crate) fn seal_once(key: &LessSafeKey, aad: &[u8], body: &mut Vec<u8>) {
    let tag = key
        .seal_in_place_separate_tag(zero_nonce(), Aad::from(aad), body)
        .expect("AES-256-GCM seals anything shorter than 64 GiB");
    body.extend_from_slice(tag.as_ref());
}

/// Opens what [`seal_once`] made.
pub(crate) fn open_once(
    key: &LessSafeKey,
    aad: &[u8],
    sealed: &[u8],
) -> Option<Zeroizing<Vec<u8>>> {
    let plain_len = sealed.len().checked_sub(TAG_BYTES)?;
    let (body, tag) = sealed.split_at_checked(plain_len)?;
    let mut out = Zeroizing::new(vec![0; plain_len]);
    match key.open_separate_gather(zero_nonce(), Aad::from(aad), body, tag, &mut out) {
        Ok(()) => Some(out),
        Err(_) => {
            out.zeroize();
            None
        }
    }
}

fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn every_flipped_bit_is_refused() {
        let mut rng = getrandom::rand_core::UnwrapErr(getrandom::SysRng);
        let key = Secret::random(&mut rng);
        let sealed = seal(&mut rng, &key, b"info", b"aad", b"secret");
        assert_eq!(
            open(&key, b"info", b"aad", &sealed).unwrap().as_slice(),
            b"secret"
        );
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, b"info", b"aad", &altered).is_none(), "bit {bit}");
        }
        assert!(open(&key, b"INFO", b"aad", &sealed).is_none());
        assert!(open(&key, b"info", b"AAD", &sealed).is_none());
        for len in 0..sealed.len() {
            assert!(open(&key, b"info", b"aad", &sealed[..len]).is_none());
        }
    }
}
