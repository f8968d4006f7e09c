//! The software platform: evidence signed by a key on the same machine, and sealing keys beside it.
//!
//! Everything lies in `danger-software-platform/` in the configuration folder, never in the data folder: a copy of the
//! data alone opens nothing. The folder's name and every error say what it is worth. Keyed by role, not by measurement, so
//! that the next build opens what this one sealed.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use attestation::{
    Evidence, EvidenceSource, Measurement, ReportData, Role, SealingKeySource, SoftwareStatement,
    SourceError,
};
use crypto::{Identity, Secret};
use domain::{DeploymentId, PlatformType, Principal, TimestampMs};
use zeroize::Zeroizing;

use crate::hardening::Hardened;

/// How long a statement lives: ten minutes. It is used within seconds.
pub const STATEMENT_LIFETIME_MS: u64 = 600_000;
const FOLDER: &str = "danger-software-platform";
const ATTESTATION_KEY: &str = "attestation.key";
const NOTICE: &str = "\
These keys stand in for enclave hardware in a development deployment. They protect nothing from whoever
owns this machine: who reads them can forge attestation and open every sealed store of the deployment.
";

/// Why the platform's keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PlatformError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// There are none.
    #[error("{} holds no software platform: run `strongroom init --development`", .0.display())]
    Missing(PathBuf),
    /// There are some already; they are never overwritten.
    #[error("{} exists already", .0.display())]
    Exists(PathBuf),
    /// Others can read or replace a key.
    #[error("{} must belong to this user and be readable by nobody else (mode 0600, folder 0700), not {mode:o}", path.display())]
    Permissions {
        /// The file or folder.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Not a key.
    #[error("{} does not hold a key of 32 bytes", .0.display())]
    Malformed(PathBuf),
    /// The keys would lie in the data folder.
    #[error("the configuration folder {} must not lie in the data folder {}", config.display(), data.display())]
    InDataFolder {
        /// The configuration folder.
        config: PathBuf,
        /// The data folder.
        data: PathBuf,
    },
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
}

/// Draws the keys of a new development deployment's software platform, one for evidence and one for sealing per role, into
/// `config_dir`. The principal goes into the genesis.
///
/// # Errors
/// [`PlatformError`].
pub fn danger_create(config_dir: &Path, data_dir: &Path) -> Result<Principal, PlatformError> {
    let folder = config_dir.join(FOLDER);
    apart(config_dir, data_dir)?;
    if folder.exists() {
        return Err(PlatformError::Exists(folder));
    }
    make_dir(config_dir)?;
    // Made under another name first: a crash leaves no half of it.
    let making = config_dir.join(format!("{FOLDER}.new"));
    match std::fs::remove_dir_all(&making) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&making)(error)),
        _ => {}
    }
    make_dir(&making)?;
    let root = draw()?;
    write_key(&making.join(ATTESTATION_KEY), root.as_slice())?;
    for role in [Role::Custodian, Role::Worker] {
        write_key(&making.join(sealing_key(role)), draw()?.as_slice())?;
    }
    write_key(&making.join("README"), NOTICE.as_bytes())?;
    sync_dir(&making)?;
    std::fs::rename(&making, &folder).map_err(at(&folder))?;
    sync_dir(config_dir)?;
    let seed = Secret::from_slice(root.as_slice()).ok_or(PlatformError::Randomness)?;
    Ok(Identity::from_seed(seed).principal())
}

/// One process's software platform.
pub struct SoftwarePlatform {
    deployment: DeploymentId,
    folder: PathBuf,
    root: Identity,
    measurement: Measurement,
    security_version: u64,
    debug: bool,
}

impl SoftwarePlatform {
    /// Opens what [`danger_create`] made. `measurement` is this program's ([`crate::measure_self`]); `hardened` is the
    /// proof that this process may not be looked into, and without it all evidence says `debug`.
    ///
    /// # Errors
    /// [`PlatformError`].
    pub fn danger_open(
        config_dir: &Path,
        data_dir: &Path,
        deployment: DeploymentId,
        measurement: Measurement,
        security_version: u64,
        hardened: Option<&Hardened>,
    ) -> Result<Self, PlatformError> {
        apart(config_dir, data_dir)?;
        let folder = config_dir.join(FOLDER);
        if !folder.exists() {
            return Err(PlatformError::Missing(config_dir.to_path_buf()));
        }
        check_private(&folder)?;
        let root = Identity::from_seed(read_key(&folder.join(ATTESTATION_KEY))?);
        Ok(Self {
            deployment,
            folder,
            root,
            measurement,
            security_version,
            debug: hardened.is_none(),
        })
    }

    /// The key that signs evidence; the genesis pins it.
    #[must_use]
    pub fn root(&self) -> Principal {
        self.root.principal()
    }
}

impl std::fmt::Debug for SoftwarePlatform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SoftwarePlatform")
            .field("measurement", &self.measurement)
            .field("debug", &self.debug)
            .finish_non_exhaustive()
    }
}

impl EvidenceSource for SoftwarePlatform {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn measurement(&self) -> Measurement {
        self.measurement
    }

    fn evidence(
        &self,
        role: Role,
        report_data: &ReportData,
        now: TimestampMs,
    ) -> Result<Evidence, SourceError> {
        let statement = SoftwareStatement {
            root: self.root.principal(),
            measurement: self.measurement,
            role,
            report_data: *report_data,
            debug: self.debug,
            security_version: self.security_version,
            not_before: now,
            not_after: TimestampMs(now.0.saturating_add(STATEMENT_LIFETIME_MS)),
        };
        Ok(statement.danger_sign(&self.root, &self.deployment))
    }
}

impl SealingKeySource for SoftwarePlatform {
    fn platform(&self) -> PlatformType {
        PlatformType::Software
    }

    fn sealing_root(&self, role: Role) -> Result<Secret<32>, SourceError> {
        read_key(&self.folder.join(sealing_key(role))).map_err(|error| SourceError {
            platform: PlatformType::Software,
            action: "give a sealing key",
            source: Box::new(error),
        })
    }
}

fn sealing_key(role: Role) -> String {
    format!("sealing-{role}.key")
}

/// Refuses a configuration folder within the data folder. Links are followed as far as the folders exist.
fn apart(config: &Path, data: &Path) -> Result<(), PlatformError> {
    let (config, data) = (resolve(config)?, resolve(data)?);
    if config.starts_with(&data) {
        return Err(PlatformError::InDataFolder { config, data });
    }
    Ok(())
}

fn resolve(path: &Path) -> Result<PathBuf, PlatformError> {
    let absolute = std::path::absolute(path).map_err(at(path))?;
    let mut missing = Vec::new();
    let mut existing = absolute.as_path();
    loop {
        match existing.canonicalize() {
            Ok(mut found) => {
                found.extend(missing.iter().rev());
                return Ok(found);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(existing)(error)),
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                missing.push(name.to_owned());
                existing = parent;
            }
            _ => return Ok(absolute),
        }
    }
}

fn draw() -> Result<Zeroizing<[u8; 32]>, PlatformError> {
    let mut key = Zeroizing::new([0; 32]);
    getrandom::fill(key.as_mut_slice()).map_err(|_| PlatformError::Randomness)?;
    Ok(key)
}

fn make_dir(dir: &Path) -> Result<(), PlatformError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(at(dir))
}

fn write_key(path: &Path, bytes: &[u8]) -> Result<(), PlatformError> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    let mut file = options.open(path).map_err(at(path))?;
    file.write_all(bytes).map_err(at(path))?;
    file.sync_all().map_err(at(path))
}

fn read_key(path: &Path) -> Result<Secret<32>, PlatformError> {
    check_private(path)?;
    let file = File::open(path).map_err(at(path))?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(33));
    file.take(33).read_to_end(&mut bytes).map_err(at(path))?;
    Secret::from_slice(&bytes).ok_or_else(|| PlatformError::Malformed(path.to_path_buf()))
}

/// Its owner's alone, and its owner is this process's user.
fn check_private(path: &Path) -> Result<(), PlatformError> {
    let metadata = std::fs::symlink_metadata(path).map_err(at(path))?;
    let own = metadata.uid() == rustix::process::geteuid().as_raw();
    if metadata.is_symlink() || !own || metadata.mode() & 0o077 != 0 {
        return Err(PlatformError::Permissions {
            path: path.to_path_buf(),
            mode: metadata.mode() & 0o7777,
        });
    }
    Ok(())
}

fn sync_dir(dir: &Path) -> Result<(), PlatformError> {
    File::open(dir)
        .and_then(|dir| dir.sync_all())
        .map_err(at(dir))
}

fn at(path: &Path) -> impl Fn(io::Error) -> PlatformError + '_ {
    move |source| PlatformError::Io {
        path: path.to_path_buf(),
        source,
    }
}
