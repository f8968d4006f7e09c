//! The identity in the configuration folder: sealed under a passphrase, mode 0600, never in a data folder.

use std::io::Read as _;
use std::path::Path;

use crypto::identity::ReceiverKey;
use crypto::identity_file::{self, IdentityFileError};
use crypto::seed_text::{self, SeedKind};
use crypto::{Identity, Signature};
use domain::{DeploymentId, Principal};
use rand_core::UnwrapErr;
use sealed::armor::{self, ArmorKind};
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

/// The deployment of this configuration without asking anybody: the one that was named, the one that answered at this endpoint
/// before, or the only one whose genesis is pinned.
///
/// # Errors
/// A usage failure when there is none, or more than one.
pub fn deployment(settings: &Settings) -> Outcome<DeploymentId> {
    if let Some(text) = &settings.deployment.value {
        return text.parse().map_err(|error: domain::IdParseError| {
            Failure::usage(format!("--deployment {text}: {error}"))
        });
    }
    let endpoint = &settings.endpoint.value;
    let known = client::pinned_deployment(&settings.state_dir(), endpoint);
    if let Some(known) = known.map_err(crate::store::explain)? {
        return Ok(known);
    }
    let mut pinned: Vec<DeploymentId> = std::fs::read_dir(settings.genesis_dir())
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name();
            name.to_str()?.strip_suffix(".cbor")?.parse().ok()
        })
        .collect();
    match (pinned.pop(), pinned.is_empty()) {
        (Some(only), true) => Ok(only),
        _ => Err(Failure::usage(
            "it is not clear which deployment this is for: none has answered here yet",
        )
        .advise("name it with --deployment ID")),
    }
}

/// A receiver key as a file: armor of principal (32), signature (64), X-Wing key.
pub fn receiver_text(key: &ReceiverKey) -> String {
    let bytes = [
        key.principal().as_bytes().as_slice(),
        &key.signature().0,
        &key.public().to_bytes(),
    ]
    .concat();
    armor::encode(ArmorKind::ReceiverKey, &bytes)
}

/// A receiver key from its file, its signature checked.
///
/// # Errors
/// A sentence when it is none, or of another deployment.
pub fn receiver_from(text: &[u8], deployment: &DeploymentId) -> Result<ReceiverKey, String> {
    let bytes = armor::decode(ArmorKind::ReceiverKey, text).map_err(|error| error.to_string())?;
    let short = || "the receiver key is cut off".to_owned();
    let (principal, rest) = bytes.split_first_chunk::<32>().ok_or_else(short)?;
    let (signature, public) = rest.split_first_chunk::<64>().ok_or_else(short)?;
    ReceiverKey::from_parts(
        deployment,
        Principal(*principal),
        public,
        Signature(*signature),
    )
    .map_err(|error| format!("{error} in deployment {deployment}"))
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
