//! An identity at rest: its seed under a passphrase.
//!
//! ```text
//! offset  bytes  what
//!      0      4  "SRID"
//!      4      1  version, 1
//!      5     32  principal
//!     37     28  Argon2id parameters (memory KiB, passes, lanes: u32; salt: 16)
//!     65     48  AES-256-GCM of the seed: ciphertext (32), tag (16)
//! ```
//! Key: HKDF-SHA-256(Argon2id(passphrase), info `strongroom/v1/identity-file 00`); nonce zero (the salt is fresh, so
//! the key is); AAD: the 65 bytes before. The principal stands in the open so that it can be shown without a passphrase.

use domain::Principal;
use rand_core::CryptoRng;

use crate::identity::Identity;
use crate::passphrase::{
    OutOfMemory, PARAMS_BYTES, PassphraseParams, PassphraseParamsError, file_info,
};
use crate::sealed_box::{gcm_key, open_once, seal_once};
use crate::secret::Secret;

/// Bytes of an identity file.
pub const FILE_BYTES: usize = HEADER_BYTES + 48;

const MAGIC: &[u8; 4] = b"SRID";
const VERSION: u8 = 1;
const HEADER_BYTES: usize = 4 + 1 + 32 + PARAMS_BYTES;

/// Why an identity file was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityFileError {
    /// No identity file at all, or cut short.
    #[error("not an identity file")]
    Malformed,
    /// A later version than this program reads.
    #[error("identity file version {0} is not known here: use a newer strongroom")]
    UnsupportedVersion(u8),
    /// Parameters that would cost too much or are invalid.
    #[error(transparent)]
    Params(#[from] PassphraseParamsError),
    /// The passphrase is wrong (or the file was altered: the two look the same).
    #[error("wrong passphrase for identity {0}, or the file was altered")]
    WrongPassphrase(Principal),
    /// The seed that was sealed is not that of the principal in the header.
    #[error("the identity file is not consistent")]
    Inconsistent,
    /// Argon2id's memory could not be had.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
}

/// Seals an identity under a passphrase, with the recommended costs.
///
/// # Errors
/// [`OutOfMemory`] when 64 MiB cannot be had.
pub fn seal(
    rng: &mut dyn CryptoRng,
    identity: &Identity,
    passphrase: &[u8],
) -> Result<Vec<u8>, OutOfMemory> {
    let mut salt = [0; 16];
    rng.fill_bytes(&mut salt);
    seal_with(identity, passphrase, &PassphraseParams::recommended(salt))
}

/// Seals with chosen costs; the salt in `params` must be fresh.
///
/// # Errors
/// [`OutOfMemory`].
pub fn seal_with(
    identity: &Identity,
    passphrase: &[u8],
    params: &PassphraseParams,
) -> Result<Vec<u8>, OutOfMemory> {
    let mut out = Vec::with_capacity(FILE_BYTES);
    out.extend_from_slice(MAGIC);
    out.push(VERSION);
    out.extend_from_slice(identity.principal().as_bytes());
    out.extend_from_slice(&params.encode());
    let key = gcm_key(&params.derive(passphrase, &file_info())?);
    let mut body = identity.danger_seed().expose().to_vec();
    seal_once(&key, &out, &mut body);
    out.append(&mut body);
    Ok(out)
}

/// Whose file it is, without a passphrase. Unauthenticated until [`open`] succeeds.
///
/// # Errors
/// [`IdentityFileError`] when it is no identity file of a known version.
pub fn principal(file: &[u8]) -> Result<Principal, IdentityFileError> {
    parse(file).map(|parts| parts.principal)
}

/// Opens an identity file.
///
/// # Errors
/// [`IdentityFileError`].
pub fn open(file: &[u8], passphrase: &[u8]) -> Result<Identity, IdentityFileError> {
    let parts = parse(file)?;
    let key = gcm_key(&parts.params.derive(passphrase, &file_info())?);
    let seed = open_once(&key, parts.header, parts.sealed)
        .ok_or(IdentityFileError::WrongPassphrase(parts.principal))?;
    let seed = Secret::from_slice(&seed).ok_or(IdentityFileError::Inconsistent)?;
    let identity = Identity::from_seed(seed);
    if identity.principal() != parts.principal {
        return Err(IdentityFileError::Inconsistent);
    }
    Ok(identity)
}

struct Parts<'a> {
    principal: Principal,
    params: PassphraseParams,
    header: &'a [u8],
    sealed: &'a [u8],
}

fn parse(file: &[u8]) -> Result<Parts<'_>, IdentityFileError> {
    let (magic, rest) = file
        .split_first_chunk::<4>()
        .ok_or(IdentityFileError::Malformed)?;
    if magic != MAGIC {
        return Err(IdentityFileError::Malformed);
    }
    match rest.first() {
        Some(&VERSION) if file.len() == FILE_BYTES => {}
        Some(&VERSION) | None => return Err(IdentityFileError::Malformed),
        Some(&version) => return Err(IdentityFileError::UnsupportedVersion(version)),
    }
    let (header, sealed) = file
        .split_at_checked(HEADER_BYTES)
        .ok_or(IdentityFileError::Malformed)?;
    let (_, fields) = header
        .split_at_checked(5)
        .ok_or(IdentityFileError::Malformed)?;
    let (principal, params) = fields
        .split_first_chunk::<32>()
        .ok_or(IdentityFileError::Malformed)?;
    let params = params
        .try_into()
        .map_err(|_| IdentityFileError::Malformed)?;
    Ok(Parts {
        principal: Principal(*principal),
        params: PassphraseParams::decode(params)?,
        header,
        sealed,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> (Identity, Vec<u8>) {
        let identity = Identity::from_seed(Secret::take(&mut [7; 32]));
        let params = PassphraseParams::danger_cheap([1; 16]);
        let file = seal_with(&identity, b"correct horse", &params).unwrap();
        (identity, file)
    }

    #[test]
    fn opens_with_its_passphrase_only() {
        let (identity, file) = file();
        assert_eq!(file.len(), FILE_BYTES);
        assert_eq!(principal(&file), Ok(identity.principal()));
        let opened = open(&file, b"correct horse").unwrap();
        assert!(opened.danger_seed().ct_eq(identity.danger_seed()));
        let wrong = IdentityFileError::WrongPassphrase(identity.principal());
        assert_eq!(open(&file, b"correct horsE").unwrap_err(), wrong);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_refused() {
        let (_, file) = file();
        for bit in 0..file.len() * 8 {
            // The upper bits of the costs only make the derivation slow, up to the bound; the lowest ones show the check.
            if (37 * 8..49 * 8).contains(&bit) && ![48 * 8 + 7, 44 * 8 + 7].contains(&bit) {
                continue;
            }
            let mut altered = file.clone();
            altered[bit / 8] ^= 0x80 >> (bit % 8);
            assert!(open(&altered, b"correct horse").is_err(), "bit {bit}");
        }
        for len in 0..file.len() {
            assert_eq!(
                open(&file[..len], b"correct horse").unwrap_err(),
                IdentityFileError::Malformed
            );
        }
        let mut longer = file.clone();
        longer.push(0);
        assert_eq!(
            open(&longer, b"correct horse").unwrap_err(),
            IdentityFileError::Malformed
        );
    }

    #[test]
    fn later_versions_and_hostile_costs_say_so() {
        let (_, mut file) = file();
        file[4] = 2;
        assert_eq!(
            principal(&file),
            Err(IdentityFileError::UnsupportedVersion(2))
        );
        file[4] = 1;
        file[37] = 0xff;
        assert_eq!(
            open(&file, b"correct horse").unwrap_err(),
            IdentityFileError::Params(PassphraseParamsError)
        );
    }
}
