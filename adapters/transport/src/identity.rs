//! Who a certificate speaks for, and the check that it may.
//!
//! The role and the deployment are bound into the certificate as its only URI name:
//! `strongroom://<deployment id>/gateway`, `.../validator` or `.../node/<slot>`.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::digest;
use domain::{DeploymentId, NodeId, TimestampMs};
use rustls_pki_types::{CertificateDer, SignatureVerificationAlgorithm, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

/// Signature algorithms of certificates and handshakes: Ed25519 and nothing else.
pub(crate) static ALGORITHMS: &[&dyn SignatureVerificationAlgorithm] =
    &[webpki::aws_lc_rs::ED25519];

/// Bytes of a certificate that are looked at, at most.
pub(crate) const CERTIFICATE_BYTES_MAX: usize = 4_096;

/// What a process is, by its certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// May ask a node of its deployment for everything.
    Gateway,
    /// Holds shards; may read those of other nodes, for repair.
    Node {
        /// The node's place in the deployment, from 0.
        slot: u16,
    },
    /// Keeps the ledger; answers gateways.
    Validator,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Node { slot } => write!(f, "node/{slot}"),
            Self::Validator => f.write_str("validator"),
        }
    }
}

/// Why a certificate was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Not a certificate, or larger than one of ours can be.
    #[error("not a certificate of this platform: {0}")]
    Malformed(&'static str),
    /// Not issued by this deployment's CA, outside its validity, or not for this use.
    #[error("the certificate does not verify: {0}")]
    Chain(String),
    /// Issued for another deployment.
    #[error("the certificate belongs to another deployment")]
    OtherDeployment,
    /// A valid certificate of the wrong role.
    #[error("the certificate is for `{found}`, expected `{expected}`")]
    WrongRole {
        /// The role found.
        found: Role,
        /// The role wanted.
        expected: Role,
    },
    /// The peer did not prove that it holds the certificate's key.
    #[error("the peer did not prove that it holds the certificate's key")]
    Signature,
}

/// A peer whose certificate was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// What it is.
    pub role: Role,
    /// Its Ed25519 public key.
    pub key: [u8; 32],
    /// When its certificate ends; a connection does not outlive it.
    pub not_after: TimestampMs,
}

impl Peer {
    /// SHA-256 of the public key: the node id, when it is a node.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        node_id(&self.key)
    }
}

/// SHA-256 of an Ed25519 public key.
#[must_use]
pub fn node_id(key: &[u8; 32]) -> NodeId {
    let mut id = [0; 32];
    id.copy_from_slice(digest::digest(&digest::SHA256, key).as_ref());
    NodeId(id)
}

/// The name that a certificate of `role` carries.
#[must_use]
pub fn role_uri(deployment: &DeploymentId, role: Role) -> String {
    format!("strongroom://{deployment}/{role}")
}

/// Reads the name: the exact form that [`role_uri`] writes, nothing else.
fn parse_role_uri(uri: &str) -> Option<(DeploymentId, Role)> {
    let (deployment, role) = uri.strip_prefix("strongroom://")?.split_once('/')?;
    let deployment = DeploymentId::from_str(deployment).ok()?;
    let role = match role.strip_prefix("node/") {
        Some(digits) => Role::Node {
            slot: digits.parse().ok()?,
        },
        None if role == "gateway" => Role::Gateway,
        None if role == "validator" => Role::Validator,
        None => return None,
    };
    // `node/+1` and `node/01` parse as numbers but are not what we write.
    (role_uri(&deployment, role) == uri).then_some((deployment, role))
}

/// The CA and the deployment that certificates are checked against.
#[derive(Debug, Clone)]
pub struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    deployment: DeploymentId,
}

/// Which side of a connection the checked certificate is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// It opened the connection.
    Client,
    /// It accepted the connection.
    Server,
}

impl Trust {
    /// Trusts what `ca` issued for `deployment`.
    ///
    /// # Errors
    /// [`IdentityError::Malformed`] when `ca` is no certificate.
    pub fn new(ca: &CertificateDer<'_>, deployment: DeploymentId) -> Result<Self, IdentityError> {
        let anchor = webpki::anchor_from_trusted_cert(ca)
            .map_err(|_| IdentityError::Malformed("the CA certificate cannot be read"))?
            .to_owned();
        Ok(Self {
            anchors: vec![anchor],
            deployment,
        })
    }

    /// The deployment.
    #[must_use]
    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    /// Verifies chain, validity at `now`, use and deployment, and reads who the certificate speaks for.
    ///
    /// # Errors
    /// [`IdentityError`] with the first check that failed.
    pub fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        side: Side,
        now: UnixTime,
    ) -> Result<Peer, IdentityError> {
        if certificate.len() > CERTIFICATE_BYTES_MAX {
            return Err(IdentityError::Malformed("too large"));
        }
        let parsed = EndEntityCert::try_from(certificate)
            .map_err(|_| IdentityError::Malformed("not X.509 version 3"))?;
        let usage = match side {
            Side::Client => KeyUsage::client_auth(),
            Side::Server => KeyUsage::server_auth(),
        };
        parsed
            .verify_for_usage(ALGORITHMS, &self.anchors, &[], now, usage, None, None)
            .map_err(|error| IdentityError::Chain(error.to_string()))?;
        let mut names = parsed.valid_uri_names();
        let (deployment, role) = match (names.next(), names.next()) {
            (Some(name), None) => {
                parse_role_uri(name).ok_or(IdentityError::Malformed("its name has no role"))?
            }
            _ => {
                return Err(IdentityError::Malformed(
                    "it does not have exactly one name",
                ));
            }
        };
        if deployment != self.deployment {
            return Err(IdentityError::OtherDeployment);
        }
        let (key, not_after) = key_and_end(certificate)?;
        Ok(Peer {
            role,
            key,
            not_after,
        })
    }

    /// As [`Trust::verify`], and the role must be `expected`.
    ///
    /// # Errors
    /// [`IdentityError`] with the first check that failed.
    pub fn verify_role(
        &self,
        certificate: &CertificateDer<'_>,
        side: Side,
        now: UnixTime,
        expected: Role,
    ) -> Result<Peer, IdentityError> {
        let peer = self.verify(certificate, side, now)?;
        if peer.role == expected {
            Ok(peer)
        } else {
            Err(IdentityError::WrongRole {
                found: peer.role,
                expected,
            })
        }
    }
}

/// Checks an Ed25519 signature by the key of `certificate`, whose chain was verified before.
pub(crate) fn verify_signature(
    certificate: &CertificateDer<'_>,
    message: &[u8],
    signature: &[u8],
) -> Result<(), IdentityError> {
    EndEntityCert::try_from(certificate)
        .and_then(|parsed| parsed.verify_signature(webpki::aws_lc_rs::ED25519, message, signature))
        .map_err(|_| IdentityError::Signature)
}

/// The Ed25519 key of a certificate and the end of its validity.
pub(crate) fn key_and_end(
    certificate: &CertificateDer<'_>,
) -> Result<([u8; 32], TimestampMs), IdentityError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate)
        .map_err(|_| IdentityError::Malformed("not X.509"))?;
    let key = <[u8; 32]>::try_from(parsed.public_key().subject_public_key.data.as_ref())
        .map_err(|_| IdentityError::Malformed("its key is not Ed25519"))?;
    let end = u64::try_from(parsed.validity().not_after.timestamp())
        .map_err(|_| IdentityError::Malformed("it ended before 1970"))?;
    Ok((key, TimestampMs(end.saturating_mul(1_000))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn role_names_round_trip_and_nothing_else_parses() {
        let deployment = DeploymentId([0x5a; 32]);
        for role in [
            Role::Gateway,
            Role::Node { slot: 0 },
            Role::Node { slot: u16::MAX },
            Role::Validator,
        ] {
            assert_eq!(
                parse_role_uri(&role_uri(&deployment, role)),
                Some((deployment, role))
            );
        }
        let id = deployment.to_string();
        for bad in [
            format!("strongroom://{id}/node/+1"),
            format!("strongroom://{id}/node/01"),
            format!("strongroom://{id}/node/65536"),
            format!("strongroom://{id}/node/"),
            format!("strongroom://{id}/gateway/"),
            format!("strongroom://{id}/Gateway"),
            format!("strongroom://{id}"),
            format!("https://{id}/gateway"),
            "strongroom://ab/gateway".to_owned(),
        ] {
            assert_eq!(parse_role_uri(&bad), None, "{bad}");
        }
    }
}
