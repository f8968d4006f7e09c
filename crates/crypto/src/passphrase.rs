//! Keys from passphrases: Argon2id (RFC 9106) with bounded, stored parameters.

use argon2::{Algorithm, Argon2, Params, Version};

use crate::kdf::hkdf;
use crate::label::Label;
use crate::secret::Secret;

/// Bytes of an encoded [`PassphraseParams`]: memory, passes, lanes (u32 each) and salt.
pub const PARAMS_BYTES: usize = 12 + SALT_BYTES;

const SALT_BYTES: usize = 16;
const MEMORY_KIB_MAX: u32 = 256 * 1_024;
const PASSES_MAX: u32 = 16;
const LANES_MAX: u32 = 16;

/// Why parameters are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "Argon2id parameters out of bounds: 8 KiB per lane to 256 MiB of memory, 1 to 16 passes, 1 to 16 lanes"
)]
pub struct PassphraseParamsError;

/// Cost and salt of one derivation. Bounded, because they are read from files that others may have written: a hostile
/// file costs at most 256 MiB and 16 passes over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassphraseParams {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: [u8; SALT_BYTES],
}

impl PassphraseParams {
    /// RFC 9106's second recommended option: 64 MiB, 3 passes, 4 lanes.
    #[must_use]
    pub fn recommended(salt: [u8; SALT_BYTES]) -> Self {
        Self {
            memory_kib: 64 * 1_024,
            passes: 3,
            lanes: 4,
            salt,
        }
    }

    /// Chosen costs.
    ///
    /// # Errors
    /// [`PassphraseParamsError`] when out of bounds.
    pub fn new(
        memory_kib: u32,
        passes: u32,
        lanes: u32,
        salt: [u8; SALT_BYTES],
    ) -> Result<Self, PassphraseParamsError> {
        let bounded = (1..=LANES_MAX).contains(&lanes)
            && (8 * lanes..=MEMORY_KIB_MAX).contains(&memory_kib)
            && (1..=PASSES_MAX).contains(&passes);
        if !bounded {
            return Err(PassphraseParamsError);
        }
        Ok(Self {
            memory_kib,
            passes,
            lanes,
            salt,
        })
    }

    /// The least cost that Argon2id takes; protects nothing: for tests.
    #[must_use]
    pub fn danger_cheap(salt: [u8; SALT_BYTES]) -> Self {
        Self {
            memory_kib: 8,
            passes: 1,
            lanes: 1,
            salt,
        }
    }

    /// `memory in KiB || passes || lanes || salt`, integers as u32.
    #[must_use]
    pub fn encode(&self) -> [u8; PARAMS_BYTES] {
        let mut out = [0; PARAMS_BYTES];
        let fields = [self.memory_kib, self.passes, self.lanes];
        let bytes = fields.iter().flat_map(|n| n.to_be_bytes()).chain(self.salt);
        for (slot, byte) in out.iter_mut().zip(bytes) {
            *slot = byte;
        }
        out
    }

    /// Reads what [`PassphraseParams::encode`] wrote.
    ///
    /// # Errors
    /// [`PassphraseParamsError`] when out of bounds.
    pub fn decode(bytes: &[u8; PARAMS_BYTES]) -> Result<Self, PassphraseParamsError> {
        let [m0, m1, m2, m3, t0, t1, t2, t3, p0, p1, p2, p3, salt @ ..] = *bytes;
        Self::new(
            u32::from_be_bytes([m0, m1, m2, m3]),
            u32::from_be_bytes([t0, t1, t2, t3]),
            u32::from_be_bytes([p0, p1, p2, p3]),
            salt,
        )
    }

    /// HKDF(Argon2id(passphrase, salt, costs; 32 bytes), info = label). The passphrase's bytes are taken as they are.
    pub(crate) fn derive(&self, passphrase: &[u8], info: &[u8]) -> Result<Secret<32>, OutOfMemory> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(32))
            .expect("our bounds lie within Argon2's");
        let mut stretched = Secret::<32>::zeroed();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase, &self.salt, stretched.expose_mut())
            .map_err(|_| OutOfMemory)?;
        Ok(hkdf(stretched.expose(), &[], info))
    }
}

/// Argon2id could not have its memory (the only way left for it to fail).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not enough memory to derive a key from the passphrase")]
pub struct OutOfMemory;

/// The label without a deployment: identity files exist before and beside deployments.
pub(crate) fn file_info() -> Vec<u8> {
    Label::IDENTITY_FILE.bare()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn params_round_trip_and_hostile_ones_are_refused() {
        let params = PassphraseParams::recommended([5; 16]);
        assert_eq!(PassphraseParams::decode(&params.encode()), Ok(params));
        for (memory, passes, lanes) in [
            (0, 1, 1),
            (7, 1, 1),
            (8, 0, 1),
            (8, 1, 0),
            (15, 1, 2),
            (MEMORY_KIB_MAX + 1, 1, 1),
            (u32::MAX, 1, 1),
            (64, 17, 1),
            (1_024, 1, 17),
            (1_024, 1, u32::MAX),
        ] {
            let result = PassphraseParams::new(memory, passes, lanes, [0; 16]);
            assert_eq!(
                result,
                Err(PassphraseParamsError),
                "{memory} {passes} {lanes}"
            );
        }
    }

    #[test]
    fn each_parameter_and_the_info_change_the_key() {
        let base = PassphraseParams::new(64, 1, 1, [1; 16]).unwrap();
        let key = |params: &PassphraseParams, passphrase: &[u8], info: &[u8]| {
            *params.derive(passphrase, info).unwrap().expose()
        };
        let reference = key(&base, b"pass", b"info");
        for params in [
            PassphraseParams {
                memory_kib: 72,
                ..base
            },
            PassphraseParams { passes: 2, ..base },
            PassphraseParams { lanes: 2, ..base },
            PassphraseParams {
                salt: [2; 16],
                ..base
            },
        ] {
            assert_ne!(key(&params, b"pass", b"info"), reference, "{params:?}");
        }
        assert_ne!(key(&base, b"Pass", b"info"), reference);
        assert_ne!(key(&base, b"pass", b"Info"), reference);
        assert_eq!(key(&base, b"pass", b"info"), reference);
    }
}
