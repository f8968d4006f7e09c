//! Sealed recovery records: what the index can be rebuilt from with the nodes alone and the recovery key.
//!
//! Each is five copies on the nodes (1+4), written before the acknowledgement of what it describes. The nodes learn
//! neither names nor wraps: records are sealed under a session key of this gateway start, which itself is sealed to the
//! deployment's recovery key and stored the same way.
//!
//! Plaintext, version 1: `01 kind parts`, each part `length(u32 BE) bytes`. Kinds: 1 bucket {record}; 2 bucket key
//! {record}; 3 version {version record, manifest root, page count(u32 BE)}; 4 page {version id, page number(u32 BE),
//! manifest page, layouts (each a part of its own)}; 5 small object {version record, manifest}.

use crypto::hybrid::HybridPublic;
use crypto::recovery::RecoverySession;
use domain::DeploymentId;
use getrandom::SysRng;
use rand_core::UnwrapErr;

/// What a recovery record describes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A bucket record.
    Bucket,
    /// A bucket key's record.
    BucketKey,
    /// A version: its record and manifest root.
    Version,
    /// A page of a manifest with the layouts of its chunks.
    Page,
    /// A small object: sealed behind its own ciphertext.
    Small,
}

impl Kind {
    const fn code(self) -> u8 {
        match self {
            Self::Bucket => 1,
            Self::BucketKey => 2,
            Self::Version => 3,
            Self::Page => 4,
            Self::Small => 5,
        }
    }
}

const VERSION: u8 = 1;

/// Seals recovery records of this start.
#[derive(Debug)]
pub struct Recovery {
    session: RecoverySession,
}

impl Recovery {
    /// Draws a session and seals it to the deployment's recovery key.
    ///
    /// # Errors
    /// When `public` is no recovery key.
    pub fn start(
        public: &[u8],
        deployment: DeploymentId,
    ) -> Result<Self, crypto::hybrid::HybridError> {
        let public = HybridPublic::from_bytes(public)?;
        Ok(Self {
            session: RecoverySession::start(&mut UnwrapErr(SysRng), &public, deployment),
        })
    }

    /// The sealed session: to be stored before its first record.
    #[must_use]
    pub fn session_record(&self) -> &[u8] {
        self.session.encoded()
    }

    /// Seals the parts of a record.
    #[must_use]
    pub fn seal(&self, kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
        self.session
            .seal(&mut UnwrapErr(SysRng), &plaintext(kind, parts))
    }
}

fn plaintext(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let bytes: usize = parts.iter().map(|part| part.len() + 4).sum();
    let mut out = Vec::with_capacity(2 + bytes);
    out.extend_from_slice(&[VERSION, kind.code()]);
    for part in parts {
        out.extend_from_slice(&u32::try_from(part.len()).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::recovery::{RecoveryOpener, RecoverySecret};
    use crypto::secret::Secret;

    #[test]
    fn records_open_with_the_recovery_secret_alone() {
        let deployment = DeploymentId([7; 32]);
        let seed = Secret::random(&mut UnwrapErr(SysRng));
        let secret = RecoverySecret::from_seed(&seed);
        let recovery = Recovery::start(&secret.public().to_bytes(), deployment).unwrap();
        let sealed = recovery.seal(Kind::Bucket, &[b"record", b""]);
        assert!(!sealed.windows(6).any(|w| w == b"record"));
        let mut opener = RecoveryOpener::new(secret, deployment);
        opener.add_session(recovery.session_record()).unwrap();
        let opened = opener.open(&sealed).unwrap();
        assert_eq!(
            opened.as_slice(),
            b"\x01\x01\x00\x00\x00\x06record\x00\x00\x00\x00"
        );
    }
}
