//! The deployment's private certificate authority: made by `init`, used to issue and renew the certificates of
//! gateways and nodes. All keys are Ed25519; a process keeps its key when its certificate is renewed, so a node's id
//! (SHA-256 of that key) never changes.

use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::{DeploymentId, NodeId, TimestampMs};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ED25519, PublicKeyData as _, SanType,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use crate::identity::{IdentityError, Role, Side, Trust, key_and_end, node_id, role_uri};

/// How long a certificate lives unless said otherwise: 30 days.
pub const CERTIFICATE_VALIDITY: Duration = Duration::from_secs(30 * 86_400);
/// How long the CA lives: 10 years.
const CA_VALIDITY: Duration = Duration::from_secs(3_650 * 86_400);
/// Certificates are valid from this long before they are issued: a machine's clock may be wrong by an hour.
const BACKDATED: Duration = Duration::from_secs(2 * 3_600);

const CA_CERTIFICATE: &str = "ca.pem";
const CA_KEY: &str = "ca.key";

/// Why the CA could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// A CA is already there; it is never overwritten.
    #[error("{} already holds a certificate authority", .0.display())]
    Exists(PathBuf),
    /// A file holds something else than it should.
    #[error("{}: {detail}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A certificate is not one of this CA.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The cryptographic library refused.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
    /// A time outside what certificates can carry.
    #[error("the time is outside what a certificate can carry")]
    Time,
}

/// The three files that a process needs to speak for itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The CA's certificate.
    pub ca: PathBuf,
    /// The process's certificate.
    pub certificate: PathBuf,
    /// Its private key, readable by its owner alone.
    pub key: PathBuf,
}

impl CertificateFiles {
    /// `ca.pem`, `certificate.pem` and `certificate.key` in `dir`.
    #[must_use]
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            ca: dir.join(CA_CERTIFICATE),
            certificate: dir.join("certificate.pem"),
            key: dir.join("certificate.key"),
        }
    }
}

/// What [`CertificateAuthority::issue`] made.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Where the files are.
    pub files: CertificateFiles,
    /// SHA-256 of the public key: the node id, for a node.
    pub node_id: NodeId,
    /// When the certificate ends.
    pub not_after: TimestampMs,
}

/// What [`CertificateAuthority::renew_if_due`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewal {
    /// More than a third of the validity is left.
    NotDue {
        /// When the present certificate ends.
        not_after: TimestampMs,
    },
    /// A new certificate was written; running processes take it by themselves.
    Renewed {
        /// When the new certificate ends.
        not_after: TimestampMs,
    },
}

/// A deployment's CA with its private key.
pub struct CertificateAuthority {
    deployment: DeploymentId,
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    certificate_pem: String,
}

impl std::fmt::Debug for CertificateAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CertificateAuthority")
            .field("deployment", &self.deployment)
            .finish_non_exhaustive()
    }
}

/// Makes the CA of a new deployment in `dir` (created with mode 0700): `ca.pem` and `ca.key` (mode 0600).
///
/// # Errors
/// [`PkiError::Exists`] when there is one, [`PkiError`] when files cannot be written.
pub fn create_ca(
    dir: &Path,
    deployment: DeploymentId,
    now: TimestampMs,
) -> Result<CertificateAuthority, PkiError> {
    create_private_dir(dir)?;
    let key_path = dir.join(CA_KEY);
    let certificate_path = dir.join(CA_CERTIFICATE);
    if key_path.exists() || certificate_path.exists() {
        return Err(PkiError::Exists(dir.to_owned()));
    }
    let key = KeyPair::generate_for(&PKCS_ED25519)?;
    let mut params = CertificateParams::default();
    params.not_before = at(now, -i128::from(millis(BACKDATED)))?;
    params.not_after = at(now, i128::from(millis(CA_VALIDITY)))?;
    params.distinguished_name = common_name(&format!("Strongroom CA {deployment}"));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key)?;
    write_file(&key_path, key.serialize_pem().as_bytes(), 0o600)?;
    write_file(&certificate_path, certificate.pem().as_bytes(), 0o644)?;
    Ok(CertificateAuthority {
        deployment,
        issuer: Issuer::new(params, key),
        certificate: certificate.der().clone(),
        certificate_pem: certificate.pem(),
    })
}

/// Opens the CA that [`create_ca`] made.
///
/// # Errors
/// [`PkiError`] when its files are missing or are not those of a CA for `deployment`.
pub fn open_ca(dir: &Path, deployment: DeploymentId) -> Result<CertificateAuthority, PkiError> {
    let certificate_path = dir.join(CA_CERTIFICATE);
    let certificate_pem = read_text(&certificate_path)?;
    let certificate = read_certificate(&certificate_path)?;
    let key = read_key(&dir.join(CA_KEY))?;
    let issuer = Issuer::from_ca_cert_der(&certificate, key)?;
    let (_, parsed) =
        x509_parser::parse_x509_certificate(&certificate).map_err(|_| PkiError::Malformed {
            path: certificate_path.clone(),
            detail: "not X.509".to_owned(),
        })?;
    let name = parsed
        .subject()
        .iter_common_name()
        .next()
        .and_then(|name| name.as_str().ok());
    if name != Some(format!("Strongroom CA {deployment}").as_str()) {
        return Err(PkiError::Identity(IdentityError::OtherDeployment));
    }
    if parsed.public_key().subject_public_key.data.as_ref() != issuer.key().der_bytes() {
        return Err(PkiError::Malformed {
            path: dir.join(CA_KEY),
            detail: "the key does not belong to the CA certificate".to_owned(),
        });
    }
    Ok(CertificateAuthority {
        deployment,
        issuer,
        certificate,
        certificate_pem,
    })
}

impl CertificateAuthority {
    /// The deployment.
    #[must_use]
    pub fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// The CA's certificate in PEM, for everyone.
    #[must_use]
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate for `role` into `dir` (created with mode 0700). A key that is there is kept, so that the
    /// identity stays; otherwise one is made.
    ///
    /// # Errors
    /// [`PkiError`] when files cannot be read or written.
    pub fn issue(
        &self,
        role: Role,
        dir: &Path,
        validity: Duration,
        now: TimestampMs,
    ) -> Result<Issued, PkiError> {
        create_private_dir(dir)?;
        let files = CertificateFiles::in_dir(dir);
        let key = if files.key.exists() {
            read_key(&files.key)?
        } else {
            let key = KeyPair::generate_for(&PKCS_ED25519)?;
            write_file(&files.key, key.serialize_pem().as_bytes(), 0o600)?;
            key
        };
        let mut params = CertificateParams::default();
        params.not_before = at(now, -i128::from(millis(BACKDATED)))?;
        params.not_after = at(now, i128::from(millis(validity)))?;
        params.distinguished_name = common_name(&format!("Strongroom {role}"));
        let name = role_uri(&self.deployment, role);
        params.subject_alt_names = vec![SanType::URI(name.try_into()?)];
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // A node serves, and reads from other nodes when it repairs; a gateway asks.
        params.extended_key_usages = match role {
            Role::Gateway => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Role::Node { .. } | Role::Validator => {
                vec![
                    ExtendedKeyUsagePurpose::ServerAuth,
                    ExtendedKeyUsagePurpose::ClientAuth,
                ]
            }
        };
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, &self.issuer)?;
        write_file(&files.ca, self.certificate_pem.as_bytes(), 0o644)?;
        write_file(&files.certificate, certificate.pem().as_bytes(), 0o644)?;
        let (public, not_after) = key_and_end(certificate.der())?;
        Ok(Issued {
            files,
            node_id: node_id(&public),
            not_after,
        })
    }

    /// Renews the certificate in `dir` when less than a third of its validity is left, or it has ended. Role and key
    /// stay. Call it regularly: running processes look at their files every minute.
    ///
    /// # Errors
    /// [`PkiError::Identity`] when the present certificate is not one of this CA, [`PkiError`] on file trouble.
    pub fn renew_if_due(
        &self,
        dir: &Path,
        validity: Duration,
        now: TimestampMs,
    ) -> Result<Renewal, PkiError> {
        let certificate = read_certificate(&CertificateFiles::in_dir(dir).certificate)?;
        let (_, not_after) = key_and_end(&certificate)?;
        let left = not_after.0.saturating_sub(now.0);
        if left > millis(validity) / 3 {
            return Ok(Renewal::NotDue { not_after });
        }
        // The role is read as of a moment when the certificate was valid: an ended one is renewed all the same.
        let trust = Trust::new(&self.certificate, self.deployment)?;
        let within = UnixTime::since_unix_epoch(Duration::from_millis(not_after.0.min(now.0)));
        let peer = trust.verify(&certificate, Side::Client, within)?;
        let issued = self.issue(peer.role, dir, validity, now)?;
        Ok(Renewal::Renewed {
            not_after: issued.not_after,
        })
    }
}

/// The certificate in a PEM file.
pub(crate) fn read_certificate(path: &Path) -> Result<CertificateDer<'static>, PkiError> {
    let text = read_text(path)?;
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|error| PkiError::Malformed {
        path: path.to_owned(),
        detail: format!("no certificate in it: {error}"),
    })
}

fn read_key(path: &Path) -> Result<KeyPair, PkiError> {
    KeyPair::from_pem(&read_text(path)?).map_err(|error| PkiError::Malformed {
        path: path.to_owned(),
        detail: format!("no private key in it: {error}"),
    })
}

/// Reads a file of at most 64 KiB.
pub(crate) fn read_text(path: &Path) -> Result<String, PkiError> {
    let failed = |source| PkiError::Io {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    io::Read::read_to_string(&mut io::Read::take(file, 64 << 10), &mut text).map_err(failed)?;
    Ok(text)
}

fn create_private_dir(dir: &Path) -> Result<(), PkiError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|source| PkiError::Io {
            path: dir.to_owned(),
            source,
        })
}

/// Writes through a temporary file and a rename, so that a reader sees the old or the new file and a crash leaves one.
fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), PkiError> {
    let failed = |source| PkiError::Io {
        path: path.to_owned(),
        source,
    };
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = PathBuf::from(name);
    match std::fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    std::fs::rename(&temporary, path).map_err(failed)?;
    if let Some(dir) = path.parent() {
        std::fs::File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(failed)?;
    }
    Ok(())
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Certificates carry whole seconds.
fn at(now: TimestampMs, offset_ms: i128) -> Result<OffsetDateTime, PkiError> {
    let seconds = (i128::from(now.0) + offset_ms).div_euclid(1_000);
    i64::try_from(seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .ok_or(PkiError::Time)
}
