//! A process's own certificate and key, and the CA it trusts; reloaded from the files when they are renewed.

use std::sync::{Arc, PoisonError, RwLock};

use domain::DeploymentId;
use rustls::SignatureScheme;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::clock::Clock;
use crate::identity::{IdentityError, Peer, Side, Trust};
use crate::pki::{CertificateFiles, PkiError, read_certificate, read_text};

/// Why a process cannot speak for itself.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A file cannot be read or holds something else.
    #[error(transparent)]
    File(#[from] PkiError),
    /// The certificate is not valid here and now.
    #[error("{path}: {source}")]
    Identity {
        /// The certificate's file.
        path: String,
        /// The check that failed.
        source: IdentityError,
    },
    /// The key is unusable or does not belong to the certificate.
    #[error("{path}: {source}")]
    Key {
        /// The key's file.
        path: String,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// The renewed certificate is for another key or role: a running process does not change who it is.
    #[error("{path}: the renewed certificate is for another identity")]
    Changed {
        /// The certificate's file.
        path: String,
    },
}

struct Current {
    certified: Arc<CertifiedKey>,
    own: Peer,
}

/// A process's own identity and what it trusts. Share it by `Arc`; connections made after a reload use the new
/// certificate.
pub struct Credentials {
    files: CertificateFiles,
    trust: Trust,
    clock: Clock,
    current: RwLock<Arc<Current>>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials")
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Reads and checks the files.
    ///
    /// # Errors
    /// [`CredentialsError`] when they are missing, do not belong together, or are not valid for `deployment` now.
    pub fn load(
        files: CertificateFiles,
        deployment: DeploymentId,
        clock: Clock,
    ) -> Result<Arc<Self>, CredentialsError> {
        let ca = read_certificate(&files.ca)?;
        let trust = Trust::new(&ca, deployment).map_err(|source| CredentialsError::Identity {
            path: files.ca.display().to_string(),
            source,
        })?;
        let current = read(&files, &trust, &clock)?;
        Ok(Arc::new(Self {
            files,
            trust,
            clock,
            current: RwLock::new(Arc::new(current)),
        }))
    }

    /// Takes a renewed certificate from the files; `true` when it changed. On an error the present one stays.
    ///
    /// # Errors
    /// [`CredentialsError`] when the files are not valid, or speak for someone else.
    pub fn reload(&self) -> Result<bool, CredentialsError> {
        let next = read(&self.files, &self.trust, &self.clock)?;
        let present = self.current();
        if next.certified.cert == present.certified.cert {
            return Ok(false);
        }
        if next.own.key != present.own.key || next.own.role != present.own.role {
            return Err(CredentialsError::Changed {
                path: self.files.certificate.display().to_string(),
            });
        }
        *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next);
        Ok(true)
    }

    /// Who this process is.
    #[must_use]
    pub fn own(&self) -> Peer {
        self.current().own.clone()
    }

    /// What it trusts.
    #[must_use]
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Where it gets the time from.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(crate) fn certified(&self) -> Arc<CertifiedKey> {
        self.current().certified.clone()
    }

    /// The certificate and an Ed25519 signature over what `message` makes of it.
    pub(crate) fn certificate_and_signer(
        &self,
    ) -> Result<(CertificateDer<'static>, Box<dyn rustls::sign::Signer>), rustls::Error> {
        let certified = self.certified();
        let signer = certified
            .key
            .choose_scheme(&[SignatureScheme::ED25519])
            .ok_or_else(|| rustls::Error::General("the key is not Ed25519".to_owned()))?;
        Ok((certified.end_entity_cert()?.clone().into_owned(), signer))
    }

    fn current(&self) -> Arc<Current> {
        self.current
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn read(
    files: &CertificateFiles,
    trust: &Trust,
    clock: &Clock,
) -> Result<Current, CredentialsError> {
    let certificate = read_certificate(&files.certificate)?;
    // Every role may open connections, so this use is in every certificate.
    let own = trust
        .verify(&certificate, Side::Client, clock.unix())
        .map_err(|source| CredentialsError::Identity {
            path: files.certificate.display().to_string(),
            source,
        })?;
    let key =
        PrivateKeyDer::from_pem_slice(read_text(&files.key)?.as_bytes()).map_err(|error| {
            CredentialsError::File(PkiError::Malformed {
                path: files.key.clone(),
                detail: format!("no private key in it: {error}"),
            })
        })?;
    let wrong_key = |source| CredentialsError::Key {
        path: files.key.display().to_string(),
        source,
    };
    let signing = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(wrong_key)?;
    let certified = CertifiedKey::new(vec![certificate], signing);
    certified.keys_match().map_err(wrong_key)?;
    Ok(Current {
        certified: Arc::new(certified),
        own,
    })
}
