//! A deployment's ledger on one machine: the validator's key, the genesis, and the keys of the software platform.
//!
//! `init` makes them; `up` makes what a deployment of an earlier build does not have. Every step finds what an interrupted run left.

use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::Measurement;
use crypto::{Identity, Secret};
use domain::DeploymentId;
use enclave::SoftwarePlatform;
use enclave::software::{PlatformError, danger_create};
use ledger::{Genesis, Governance, Limits, Record as _, ValidatorSet};
use solo::Solo;
use transport::client::{ClientOptions, NodeAddress};
use transport::pki::{self, CERTIFICATE_VALIDITY};
use transport::{Clock, Credentials, LedgerClient, Role};
use zeroize::Zeroizing;

use super::DataFolder;
use super::deployment::{Deployment, gateway_certificates, no_randomness};
use super::files::{private_dir, write_new};
use crate::clock::now;
use crate::failure::{Exit, Failure, Outcome};

/// Where what must not lie in the data folder lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    /// The configuration folder.
    pub config_dir: PathBuf,
    /// The folder that the software platform's keys must not lie in: the data folder, and for the demonstration, which keeps everything
    /// below it, the part of it that custodians have.
    pub apart_from: PathBuf,
}

impl Home {
    /// The software platform of a deployment: what enclaves are given as `software:DIR`.
    pub fn software_platform(&self, deployment: &DeploymentId) -> PathBuf {
        self.config_dir
            .join("platforms")
            .join(deployment.to_string())
    }

    /// Where clients find the pinned genesis of every deployment.
    pub fn genesis_dir(&self) -> PathBuf {
        genesis_dir(&self.config_dir)
    }
}

/// Where clients find the pinned genesis of every deployment, as `<deployment>.cbor`.
pub fn genesis_dir(config_dir: &Path) -> PathBuf {
    config_dir.join("genesis")
}

/// The deployment's ledger, made now as far as it is missing: one validator, one governor (the deployment's administrator).
///
/// # Errors
/// When what is there does not belong together, and whatever the disk refuses.
pub fn ensure(folder: &DataFolder, deployment: &Deployment, home: &Home) -> Outcome<Arc<Genesis>> {
    let dir = folder.validator();
    private_dir(&dir)?;
    let identity = DataFolder::identity(&dir);
    if !identity.join("certificate.pem").exists() {
        let made =
            |error: pki::PkiError| Failure::new(Exit::Failure, "certificates", error.to_string());
        let ca = pki::open_ca(&folder.ca(), deployment.id).map_err(made)?;
        ca.issue(Role::Validator, &identity, CERTIFICATE_VALIDITY, now())
            .map_err(made)?;
    }
    let key = key_file(&dir);
    let genesis_file = folder.genesis_file();
    if !key.exists() {
        if genesis_file.exists() {
            return Err(damaged(&key, "the validator's key is gone"));
        }
        let mut seed = Zeroizing::new([0; 32]);
        getrandom::fill(seed.as_mut_slice()).map_err(no_randomness)?;
        write_new(&key, seed.as_slice(), 0o600)?;
    }
    let validator = validator_key(&dir)?.principal();
    let genesis = if genesis_file.exists() {
        read_genesis(&genesis_file)?
    } else {
        let genesis = Genesis {
            deployment: deployment.id,
            development: true,
            software_root: Some(software_root(deployment, home)?),
            governance: Governance::new(1, vec![deployment.administrator])
                .map_err(|error| Failure::usage(error.to_string()))?,
            validators: ValidatorSet::new(vec![validator])
                .map_err(|error| Failure::usage(error.to_string()))?,
            limits: Limits::DEFAULT,
            time: now(),
            continues: None,
        };
        private_dir(&folder.ledger())?;
        write_new(&genesis_file, &genesis.encode(), 0o644)?;
        genesis
    };
    if genesis.deployment != deployment.id {
        return Err(damaged(&genesis_file, "it is another deployment's"));
    }
    if genesis.validators.keys() != [validator] {
        return Err(damaged(&key, "the genesis names another validator"));
    }
    let solo = dir.join("solo");
    if !solo.join("genesis").exists() {
        Solo::create(&solo, &genesis)
            .map_err(|error| Failure::new(Exit::Failure, "ledger", error.to_string()))?;
    }
    pin(&genesis, home)?;
    Ok(Arc::new(genesis))
}

/// Pins the genesis for this configuration folder's clients.
fn pin(genesis: &Genesis, home: &Home) -> Outcome {
    let folder = home.genesis_dir();
    let path = folder.join(format!("{}.cbor", genesis.deployment));
    if !path.exists() {
        private_dir(&folder)?;
        return write_new(&path, &genesis.encode(), 0o644);
    }
    if read_genesis(&path)?.hash() != genesis.hash() {
        return Err(Failure::new(
            Exit::Integrity,
            "other_genesis",
            format!(
                "{} pins another ledger for this deployment than its data folder has",
                path.display()
            ),
        )
        .advise("one of the two was replaced: find out which before you go on"));
    }
    Ok(())
}

/// The key of the software platform, made when there is none.
fn software_root(deployment: &Deployment, home: &Home) -> Outcome<domain::Principal> {
    let folder = home.software_platform(&deployment.id);
    match danger_create(&folder, &home.apart_from) {
        Ok(root) => Ok(root),
        Err(PlatformError::Exists(_)) => open_root(deployment.id, home),
        Err(error) => Err(platform_failure(&error)),
    }
}

fn open_root(deployment: DeploymentId, home: &Home) -> Outcome<domain::Principal> {
    let folder = home.software_platform(&deployment);
    let nothing = Measurement([0; 32]);
    SoftwarePlatform::danger_open(&folder, &home.apart_from, deployment, nothing, 0, None)
        .map(|platform| platform.root())
        .map_err(|error| platform_failure(&error))
}

/// Whether this configuration folder has the software platform that the genesis names.
///
/// # Errors
/// A sentence that says what is missing.
pub fn check_platform(genesis: &Genesis, home: &Home) -> Result<(), String> {
    let root = open_root(genesis.deployment, home).map_err(|failure| failure.message)?;
    if genesis.software_root != Some(root) {
        return Err(format!(
            "{} holds another software platform than the genesis names",
            home.software_platform(&genesis.deployment).display()
        ));
    }
    Ok(())
}

fn platform_failure(error: &PlatformError) -> Failure {
    Failure::new(Exit::Failure, "software_platform", error.to_string())
}

fn key_file(validator_dir: &Path) -> PathBuf {
    validator_dir.join("validator.key")
}

/// The key that signs headers.
///
/// # Errors
/// When it is not there, not 32 bytes, or readable by others.
pub fn validator_key(validator_dir: &Path) -> Outcome<Identity> {
    let path = key_file(validator_dir);
    let failed = |error: std::io::Error| Failure::file("read", &path, &error);
    let file = std::fs::File::open(&path).map_err(failed)?;
    if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(damaged(&path, "others can read it: chmod 0600"));
    }
    let mut seed = Zeroizing::new(Vec::with_capacity(33));
    file.take(33).read_to_end(&mut seed).map_err(failed)?;
    Secret::from_slice(&seed)
        .map(Identity::from_seed)
        .ok_or_else(|| damaged(&path, "a key has 32 bytes"))
}

/// Reads a genesis record.
///
/// # Errors
/// When it is not there or is none.
pub fn read_genesis(path: &Path) -> Outcome<Genesis> {
    let bytes = std::fs::read(path).map_err(|error| Failure::file("read", path, &error))?;
    Genesis::decode(&bytes).map_err(|error| damaged(path, &error.to_string()))
}

fn damaged(path: &Path, why: &str) -> Failure {
    Failure::new(
        Exit::Integrity,
        "ledger_damaged",
        format!("{}: {why}", path.display()),
    )
    .advise("put the file back from a copy")
}

/// The way from this machine to its validator, with the gateway's certificate.
///
/// # Errors
/// When the certificate cannot be used.
pub fn client(
    folder: &DataFolder,
    deployment: &Deployment,
    genesis: &Arc<Genesis>,
) -> Outcome<LedgerClient> {
    let failed = |error: String| Failure::new(Exit::Failure, "certificates", error);
    let files = gateway_certificates(&folder.gateway());
    let credentials = Credentials::load(files, deployment.id, Clock::system())
        .map_err(|error| failed(error.to_string()))?;
    LedgerClient::new(
        NodeAddress::Unix(folder.validator_socket()),
        genesis.clone(),
        credentials,
        ClientOptions::default(),
    )
    .map_err(|error| failed(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::initialise;
    use domain::Principal;

    #[test]
    fn a_ledger_is_made_once_and_pinned() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(&dir.path().join("data"));
        let home = Home {
            config_dir: dir.path().join("config"),
            apart_from: folder.path().to_owned(),
        };
        let deployment = initialise(&folder, Principal([7; 32])).unwrap().deployment;
        let genesis = ensure(&folder, &deployment, &home).unwrap();
        assert!(genesis.development);
        assert_eq!(genesis.governance.keys(), [Principal([7; 32])]);
        check_platform(&genesis, &home).unwrap();
        // Again, and after an interruption at any step that can be told.
        assert_eq!(ensure(&folder, &deployment, &home).unwrap(), genesis);
        std::fs::remove_dir_all(folder.validator().join("solo")).unwrap();
        let pinned = home.genesis_dir().join(format!("{}.cbor", deployment.id));
        std::fs::remove_file(&pinned).unwrap();
        assert_eq!(ensure(&folder, &deployment, &home).unwrap(), genesis);
        assert_eq!(read_genesis(&pinned).unwrap(), *genesis);

        // Another pin, another platform, a lost key.
        let mut other = (*genesis).clone();
        other.time.0 += 1;
        std::fs::write(&pinned, other.encode()).unwrap();
        let failure = ensure(&folder, &deployment, &home).unwrap_err();
        assert_eq!(failure.code, "other_genesis");
        let elsewhere = Home {
            config_dir: dir.path().join("other"),
            ..home.clone()
        };
        ensure(&folder, &deployment, &elsewhere).unwrap();
        assert!(check_platform(&genesis, &elsewhere).is_err());
        std::fs::remove_file(folder.validator().join("validator.key")).unwrap();
        let failure = ensure(&folder, &deployment, &elsewhere).unwrap_err();
        assert_eq!(failure.code, "ledger_damaged");
    }

    #[test]
    fn the_software_platform_never_lies_in_the_data_folder() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(dir.path());
        let deployment = initialise(&folder, Principal([7; 32])).unwrap().deployment;
        let home = Home {
            config_dir: dir.path().join("config"),
            apart_from: folder.path().to_owned(),
        };
        let failure = ensure(&folder, &deployment, &home).unwrap_err();
        assert_eq!(failure.code, "software_platform");
    }
}
