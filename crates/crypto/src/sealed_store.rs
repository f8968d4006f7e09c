//! Keys of an enclave's sealed store: an append-only log of frames, each under AES-256-GCM.
//!
//! A host may copy the log, put an old copy back and let the enclave go on from there. A counter alone would then give
//! two frames one nonce. So every process that appends draws a fresh 32-byte salt and seals under a session key of its
//! own; within a session the nonce is the frame's number. The store's key comes from the role's sealing root and the
//! store's random id. Bytes: `docs/attestation.md`, "Sealed store".

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use aws_lc_rs::hmac;
use domain::DeploymentId;
use zeroize::Zeroizing;

use crate::kdf::hkdf;
use crate::label::Label;
use crate::sealed_box::gcm_key;
use crate::secret::Secret;

/// Bytes that sealing adds to a frame.
pub const TAG_BYTES: usize = domain::limits::TAG_BYTES;

/// The keys of one store.
pub struct StoreKeys {
    deployment: DeploymentId,
    store: Secret<32>,
    head: hmac::Key,
}

impl StoreKeys {
    /// HKDF-SHA-256(sealing root, salt = store id, info = `strongroom/v1/sealed-store 00 deployment role`); from that the
    /// head's HMAC key with `sealed-head`.
    #[must_use]
    pub fn derive(
        sealing_root: &Secret<32>,
        deployment: &DeploymentId,
        role: u8,
        store_id: &[u8; 16],
    ) -> Self {
        let info = Label::SEALED_STORE.message(deployment, &[role]);
        let store: Secret<32> = hkdf(sealing_root.expose(), store_id, &info);
        let head: Secret<32> = hkdf(
            store.expose(),
            &[],
            &Label::SEALED_HEAD.message(deployment, &[]),
        );
        Self {
            deployment: *deployment,
            store,
            head: hmac::Key::new(hmac::HMAC_SHA256, head.expose()),
        }
    }

    /// HMAC-SHA-256 of a head.
    #[must_use]
    pub fn authenticate(&self, head: &[u8]) -> [u8; 32] {
        let mut out = [0; 32];
        for (to, from) in out.iter_mut().zip(hmac::sign(&self.head, head).as_ref()) {
            *to = *from;
        }
        out
    }

    /// Whether [`StoreKeys::authenticate`] made `tag` over `head`; in constant time.
    #[must_use]
    pub fn is_authentic(&self, head: &[u8], tag: &[u8]) -> bool {
        hmac::verify(&self.head, head, tag).is_ok()
    }

    /// The key of the session with that salt: HKDF-SHA-256(store key, salt, info = `strongroom/v1/sealed-session 00
    /// deployment`).
    #[must_use]
    pub fn session(&self, salt: &[u8; 32]) -> SessionKey {
        let info = Label::SEALED_SESSION.message(&self.deployment, &[]);
        let key: Secret<32> = hkdf(self.store.expose(), salt, &info);
        SessionKey(gcm_key(&key))
    }

    /// The chain's next value: BLAKE3 of `strongroom/v1/sealed-chain 00 deployment previous(32) frame`.
    #[must_use]
    pub fn chain(&self, previous: &[u8; 32], frame: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&Label::SEALED_CHAIN.message(&self.deployment, previous));
        hasher.update(frame);
        *hasher.finalize().as_bytes()
    }
}

impl std::fmt::Debug for StoreKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StoreKeys(redacted)")
    }
}

/// The key of one writing session.
pub struct SessionKey(LessSafeKey);

impl SessionKey {
    /// Seals `body` from the offset `from` on, in place, and appends the tag. The caller never uses a number twice within a session.
    ///
    /// # Panics
    /// When `body` is longer than 64 GiB.
    pub fn danger_seal(&self, number: u32, aad: &[u8], body: &mut Vec<u8>, from: usize) {
        let tag = {
            let plain = body.get_mut(from..).unwrap_or_default();
            self.0
                .seal_in_place_separate_tag(nonce(number), Aad::from(aad), plain)
                .expect("AES-256-GCM seals anything shorter than 64 GiB")
        };
        body.extend_from_slice(tag.as_ref());
    }

    /// Opens what [`SessionKey::danger_seal`] made; `None` for another key, number or AAD, or any altered byte.
    #[must_use]
    pub fn open(&self, number: u32, aad: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let plain_len = sealed.len().checked_sub(TAG_BYTES)?;
        let (body, tag) = sealed.split_at_checked(plain_len)?;
        let mut out = Zeroizing::new(vec![0; plain_len]);
        self.0
            .open_separate_gather(nonce(number), Aad::from(aad), body, tag, &mut out)
            .ok()?;
        Some(out)
    }
}

impl std::fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SessionKey(redacted)")
    }
}

/// Eight zero bytes and the number, big-endian.
fn nonce(number: u32) -> Nonce {
    let mut bytes = [0; 12];
    for (to, from) in bytes.iter_mut().skip(8).zip(number.to_be_bytes()) {
        *to = from;
    }
    Nonce::assume_unique_for_key(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(root: u8, deployment: u8, role: u8, id: u8) -> StoreKeys {
        StoreKeys::derive(
            &Secret::take(&mut [root; 32]),
            &DeploymentId([deployment; 32]),
            role,
            &[id; 16],
        )
    }

    fn sealed(key: &SessionKey) -> Vec<u8> {
        let mut body = b"frame".to_vec();
        key.danger_seal(7, b"aad", &mut body, 0);
        body
    }

    #[test]
    fn only_the_same_root_deployment_role_store_and_session_open() {
        let base = keys(1, 2, 3, 4);
        let body = sealed(&base.session(&[5; 32]));
        let open = |keys: &StoreKeys, salt, number, aad: &[u8]| {
            keys.session(&[salt; 32]).open(number, aad, &body)
        };
        assert_eq!(open(&base, 5, 7, b"aad").unwrap().as_slice(), b"frame");
        for other in [
            keys(9, 2, 3, 4),
            keys(1, 9, 3, 4),
            keys(1, 2, 9, 4),
            keys(1, 2, 3, 9),
        ] {
            assert!(open(&other, 5, 7, b"aad").is_none());
            let tag = base.authenticate(b"head");
            assert!(base.is_authentic(b"head", &tag) && !other.is_authentic(b"head", &tag));
        }
        assert!(open(&base, 6, 7, b"aad").is_none());
        assert!(open(&base, 5, 8, b"aad").is_none());
        assert!(open(&base, 5, 7, b"AAD").is_none());
        for bit in 0..body.len() * 8 {
            let mut altered = body.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(base.session(&[5; 32]).open(7, b"aad", &altered).is_none());
        }
    }

    #[test]
    fn a_chain_depends_on_every_frame_and_its_place() {
        let keys = keys(1, 2, 3, 4);
        let chain = |frames: &[&[u8]]| {
            frames
                .iter()
                .fold([0; 32], |last, frame| keys.chain(&last, frame))
        };
        assert_ne!(chain(&[b"a", b"b"]), chain(&[b"b", b"a"]));
        assert_ne!(chain(&[b"ab"]), chain(&[b"a", b"b"]));
        assert_ne!(chain(&[b"a"]), keys.chain(&[1; 32], b"a"));
    }
}
