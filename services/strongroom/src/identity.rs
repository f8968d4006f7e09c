//! The identity in the configuration folder: sealed under a passphrase, mode 0600, never in a data folder.

use std::io::Read as _;
use std::path::Path;

use crypto::Identity;
use crypto::identity_file::{self, IdentityFileError};
use crypto::seed_text::{self, SeedKind};
use domain::Principal;
use rand_core::UnwrapErr;
use zeroize::Zeroizing;

use crate::failure::{Exit, Failure, Outcome};
use crate::passphrase::{self, Passphrase};
use crate::platform::files::{private_dir, write_new};
use crate::settings::Settings;

/// The operating system's randomness. It panics when the system has none, which on Linux it never lacks after boot.
pub fn rng() -> UnwrapErr<getrandom::SysRng> {
    UnwrapErr(getrandom::SysRng)
}

/// Whose identity it is, without a passphrase.
///
/// # Errors
/// When there is none (with what to do), or the file is damaged.
pub fn principal(settings: &Settings) -> Outcome<Principal> {
    let path = settings.identity_file();
    identity_file::principal(&read(&path)?).map_err(|error| explain(error, &path))
}

/// Opens the identity with its passphrase.
///
/// # Errors
/// Refused for a wrong passphrase.
pub fn open(settings: &Settings) -> Outcome<Identity> {
    let path = settings.identity_file();
    let file = read(&path)?;
    identity_file::principal(&file).map_err(|error| explain(error, &path))?;
    let passphrase = passphrase::existing(settings)?;
    identity_file::open(&file, &passphrase).map_err(|error| explain(error, &path))
}

/// The identity that is there, or a new one sealed under a new passphrase; and whether it is new.
///
/// # Errors
/// When it cannot be read, made or written.
pub fn ensure(settings: &Settings) -> Outcome<(Principal, bool)> {
    if settings.identity_file().exists() {
        return Ok((principal(settings)?, false));
    }
    let passphrase = passphrase::new(settings)?;
    let identity = Identity::generate(&mut rng());
    save(settings, &identity, &passphrase)?;
    Ok((identity.principal(), true))
}

/// Seals an identity into the configuration folder; never replaces one.
///
/// # Errors
/// A conflict when there is one already.
pub fn save(settings: &Settings, identity: &Identity, passphrase: &Passphrase) -> Outcome {
    private_dir(&settings.config_dir.value)?;
    let sealed = identity_file::seal(&mut rng(), identity, passphrase)
        .map_err(|error| Failure::new(Exit::Failure, "memory", error.to_string()))?;
    write_new(&settings.identity_file(), &sealed, 0o600)
}

/// The recovery kit.
pub fn kit(identity: &Identity) -> Zeroizing<String> {
    let principal = identity.principal().to_string();
    seed_text::kit(
        SeedKind::Identity,
        identity.danger_seed(),
        &[("principal", &principal)],
    )
}

/// An identity from its recovery kit.
///
/// # Errors
/// A usage failure when the text is no kit, or was mistyped.
pub fn from_kit(text: &str) -> Outcome<Identity> {
    seed_text::parse(SeedKind::Identity, text)
        .map(Identity::from_seed)
        .map_err(|error| {
            Failure::usage(format!("this is not a recovery kit: {error}"))
                .advise("give the file that `strongroom identity export` wrote")
        })
}

fn read(path: &Path) -> Outcome<Vec<u8>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(Failure::new(
                Exit::Usage,
                "no_identity",
                format!(
                    "there is no identity in {}",
                    path.parent().unwrap_or(path).display()
                ),
            )
            .advise(
                "make one with `strongroom init`, or take yours with `strongroom identity import`",
            ));
        }
        Err(error) => return Err(Failure::file("read the identity", path, &error)),
    };
    let mut bytes = Vec::with_capacity(identity_file::FILE_BYTES);
    // An identity file has a fixed size: more is not read, and one byte more shows that it is none.
    file.take(u64::try_from(identity_file::FILE_BYTES).unwrap_or(u64::MAX) + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::file("read the identity", path, &error))?;
    Ok(bytes)
}

fn explain(error: IdentityFileError, path: &Path) -> Failure {
    match error {
        IdentityFileError::WrongPassphrase(principal) => Failure::new(
            Exit::Refused,
            "wrong_passphrase",
            format!("wrong passphrase for the identity {principal}"),
        )
        .advise("try again; if the passphrase is lost, import your recovery kit"),
        IdentityFileError::OutOfMemory(error) => {
            Failure::new(Exit::Failure, "memory", error.to_string())
        }
        other => Failure::new(
            Exit::Integrity,
            "identity_damaged",
            format!("{}: {other}", path.display()),
        )
        .advise("import your recovery kit with `strongroom identity import --replace`"),
    }
}
