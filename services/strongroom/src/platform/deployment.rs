//! A deployment's public record, and `init`, which makes it.

use std::path::Path;

use crypto::Secret;
use crypto::recovery::RecoverySecret;
use crypto::seed_text::{self, SeedKind};
use domain::{DeploymentId, NodeId, Principal, TimestampMs};
use serde::{Deserialize, Serialize};
use transport::pki::{self, CERTIFICATE_VALIDITY};
use transport::{CertificateFiles, Role};
use zeroize::Zeroizing;

use super::files::{private_dir, write_new};
use super::{DataFolder, NODES, lock};
use crate::clock::now;
use crate::failure::{Exit, Failure, Outcome};

const VERSION: u32 = 1;

/// `deployment.toml`: everything public that a gateway or a person needs to know of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deployment {
    version: u32,
    /// The deployment's id.
    #[serde(rename = "deployment")]
    pub id: DeploymentId,
    /// Its first administrator.
    pub administrator: Principal,
    /// Public half of the recovery key, base64url.
    recovery_public: String,
    /// When it was made, milliseconds since 1970.
    pub created_ms: u64,
    /// Its storage nodes.
    pub nodes: Vec<NodeRecord>,
}

/// A storage node of a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NodeRecord {
    /// Its place, from 0.
    pub slot: u16,
    /// Its identity.
    pub id: NodeId,
    /// Its failure domain.
    pub zone: String,
}

/// What `init` made.
#[derive(Debug)]
pub struct InitReport {
    /// The new deployment.
    pub deployment: Deployment,
    /// The recovery key as text to keep offline.
    pub recovery_kit: Zeroizing<String>,
}

impl Deployment {
    /// Reads a deployment's record.
    ///
    /// # Errors
    /// A usage failure that says to run `init` when there is none, or what is wrong with it.
    pub fn read(path: &Path) -> Outcome<Self> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let folder = path.parent().unwrap_or(path);
                return Err(Failure::new(
                    Exit::Usage,
                    "not_initialised",
                    format!("there is no deployment in {}", folder.display()),
                )
                .advise("run `strongroom init` first, or name the folder with --data"));
            }
            Err(error) => return Err(Failure::file("read", path, &error)),
        };
        let deployment: Self = toml::from_str(&text).map_err(|error| {
            Failure::usage(format!(
                "{} is damaged: {}",
                path.display(),
                error.message()
            ))
        })?;
        if deployment.version != VERSION {
            return Err(Failure::usage(format!(
                "{} has version {}, this program knows version {VERSION}",
                path.display(),
                deployment.version
            ))
            .advise("use a newer strongroom"));
        }
        deployment.recovery_public()?;
        Ok(deployment)
    }

    /// Public half of the recovery key, as `crypto` encodes it.
    ///
    /// # Errors
    /// When the record is damaged.
    pub fn recovery_public(&self) -> Outcome<Vec<u8>> {
        data_encoding::BASE64URL_NOPAD
            .decode(self.recovery_public.as_bytes())
            .map_err(|_| {
                Failure::usage(
                    "the deployment's record is damaged: recovery_public is not base64url",
                )
            })
    }
}

/// Makes a deployment in `folder`: id, certificate authority, certificates for the gateway and every node, recovery key.
/// The record is written last, so that an interrupted `init` leaves a folder that `init` takes again.
///
/// # Errors
/// A conflict when there is a deployment already, and whatever the disk refuses.
pub fn initialise(folder: &DataFolder, administrator: Principal) -> Outcome<InitReport> {
    private_dir(folder.path())?;
    let _lock = lock::take(folder)?;
    refuse_existing(folder)?;
    // What an interrupted `init` left: nothing was issued to anybody yet.
    remove_dir(&folder.ca())?;

    let mut id = [0; 32];
    getrandom::fill(&mut id).map_err(no_randomness)?;
    let id = DeploymentId(id);
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(no_randomness)?;
    let seed = Secret::take(&mut seed);
    let recovery = RecoverySecret::from_seed(&seed);

    let at = now();
    let made =
        |error: pki::PkiError| Failure::new(Exit::Failure, "certificates", error.to_string());
    let ca = pki::create_ca(&folder.ca(), id, at).map_err(made)?;
    let issue = |role: Role, dir: &Path| {
        private_dir(dir)?;
        let identity = DataFolder::identity(dir);
        remove_dir(&identity)?;
        ca.issue(role, &identity, CERTIFICATE_VALIDITY, at)
            .map_err(made)
    };
    issue(Role::Gateway, &folder.gateway())?;
    let mut nodes = Vec::with_capacity(NODES.into());
    for slot in 0..NODES {
        let issued = issue(Role::Node { slot }, &folder.node(slot))?;
        // Each process fails for itself; on one machine there is no wider domain to tell apart.
        nodes.push(NodeRecord {
            slot,
            id: issued.node_id,
            zone: format!("local-{slot:02}"),
        });
    }
    private_dir(&folder.run())?;

    let deployment = Deployment {
        version: VERSION,
        id,
        administrator,
        recovery_public: data_encoding::BASE64URL_NOPAD.encode(&recovery.public().to_bytes()),
        created_ms: at.0,
        nodes,
    };
    let recovery_kit = seed_text::kit(
        SeedKind::Recovery,
        &seed,
        &[("deployment", &id.to_string())],
    );
    write_record(&folder.deployment_file(), &deployment)?;
    Ok(InitReport {
        deployment,
        recovery_kit,
    })
}

/// Renews every certificate that has less than a third of its time left; running processes take them by themselves.
///
/// # Errors
/// When the authority or a certificate cannot be read or written.
pub fn renew_certificates(
    folder: &DataFolder,
    deployment: &Deployment,
    at: TimestampMs,
) -> Outcome<usize> {
    let failed =
        |error: pki::PkiError| Failure::new(Exit::Failure, "certificates", error.to_string());
    let ca = pki::open_ca(&folder.ca(), deployment.id).map_err(failed)?;
    let mut renewed = 0;
    let nodes = deployment.nodes.iter().map(|node| folder.node(node.slot));
    // A deployment of an earlier build has no validator before its next start.
    let validator = Some(folder.validator()).filter(|dir| DataFolder::identity(dir).exists());
    for dir in std::iter::once(folder.gateway())
        .chain(nodes)
        .chain(validator)
    {
        let renewal = ca
            .renew_if_due(&DataFolder::identity(&dir), CERTIFICATE_VALIDITY, at)
            .map_err(failed)?;
        renewed += usize::from(matches!(renewal, pki::Renewal::Renewed { .. }));
    }
    Ok(renewed)
}

/// The files of the gateway's certificate.
pub fn gateway_certificates(gateway_dir: &Path) -> CertificateFiles {
    CertificateFiles::in_dir(&DataFolder::identity(gateway_dir))
}

fn refuse_existing(folder: &DataFolder) -> Outcome {
    if folder.deployment_file().exists() {
        return Err(Failure::new(
            Exit::Conflict,
            "already_initialised",
            format!(
                "{} holds a deployment already; nothing was changed",
                folder.path().display()
            ),
        )
        .advise("start it with `strongroom up`, or choose another folder with --data"));
    }
    // Without its record a folder with data can still be somebody's only copy.
    let holds_data = (0..NODES)
        .map(|slot| folder.node(slot).join("data"))
        .chain([
            folder.gateway().join("metadata.sqlite"),
            folder.validator().join("solo"),
        ])
        .find(|path| path.exists());
    match holds_data {
        Some(path) => Err(Failure::new(
            Exit::Conflict,
            "folder_holds_data",
            format!(
                "{} has data of a deployment whose deployment.toml is gone; nothing was changed",
                path.display()
            ),
        )
        .advise("put its deployment.toml back, or choose another folder with --data")),
        None => Ok(()),
    }
}

fn remove_dir(path: &Path) -> Outcome {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(Failure::file("remove", path, &error))
        }
        _ => Ok(()),
    }
}

fn write_record(path: &Path, deployment: &Deployment) -> Outcome {
    let text = toml::to_string(deployment).map_err(|error| {
        Failure::new(
            Exit::Failure,
            "internal",
            format!("the record cannot be written: {error}"),
        )
    })?;
    let head =
        "# A Strongroom deployment. Everything here is public; it must not be lost or changed.\n";
    write_new(path, format!("{head}{text}").as_bytes(), 0o644)
}

pub(crate) fn no_randomness(error: getrandom::Error) -> Failure {
    Failure::new(
        Exit::Failure,
        "randomness",
        format!("the system gave no randomness: {error}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    const ADMIN: Principal = Principal([7; 32]);

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn init_makes_a_deployment_that_reads_back_and_keeps_its_secrets_to_itself() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(&dir.path().join("data"));
        let report = initialise(&folder, ADMIN).unwrap();
        let read = Deployment::read(&folder.deployment_file()).unwrap();
        assert_eq!(read, report.deployment);
        assert_eq!(read.administrator, ADMIN);
        assert_eq!(read.nodes.len(), usize::from(NODES));
        for private in [folder.path(), &folder.ca(), &folder.run(), &folder.node(13)] {
            assert_eq!(mode(private), 0o700, "{}", private.display());
        }
        assert_eq!(mode(&folder.ca().join("ca.key")), 0o600);
        assert_eq!(mode(&gateway_certificates(&folder.gateway()).key), 0o600);
        // The kit opens to the recovery key whose public half is on record, and is nowhere on the disk.
        let seed = seed_text::parse(SeedKind::Recovery, &report.recovery_kit).unwrap();
        let public = RecoverySecret::from_seed(&seed).public().to_bytes();
        assert_eq!(public, read.recovery_public().unwrap());
        assert_eq!(renew_certificates(&folder, &read, now()).unwrap(), 0);
        let later = TimestampMs(now().0 + 25 * 86_400_000);
        assert_eq!(renew_certificates(&folder, &read, later).unwrap(), 15);
    }

    #[test]
    fn init_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let folder = DataFolder::new(dir.path());
        let first = initialise(&folder, ADMIN).unwrap().deployment;
        assert_eq!(
            initialise(&folder, ADMIN).unwrap_err().code,
            "already_initialised"
        );
        // The record is lost, but a node has data.
        std::fs::rename(folder.deployment_file(), dir.path().join("saved")).unwrap();
        std::fs::create_dir(folder.node(3).join("data")).unwrap();
        assert_eq!(
            initialise(&folder, ADMIN).unwrap_err().code,
            "folder_holds_data"
        );
        // An interrupted init is taken up again, as another deployment.
        std::fs::remove_dir(folder.node(3).join("data")).unwrap();
        assert_ne!(initialise(&folder, ADMIN).unwrap().deployment.id, first.id);
    }

    #[test]
    fn a_missing_or_foreign_record_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deployment.toml");
        let missing = Deployment::read(&path).unwrap_err();
        assert_eq!(
            (missing.exit, missing.code.as_ref()),
            (Exit::Usage, "not_initialised")
        );
        assert!(missing.advice.unwrap().contains("strongroom init"));
        for text in ["", "nonsense", "version = 1"] {
            std::fs::write(&path, text).unwrap();
            assert!(
                Deployment::read(&path)
                    .unwrap_err()
                    .message
                    .contains("damaged"),
                "{text}"
            );
        }
    }
}
