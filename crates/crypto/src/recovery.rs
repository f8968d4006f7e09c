//! Recovery records: what the index is rebuilt from, sealed so that storage nodes learn neither names nor wraps.
//!
//! `init` draws a recovery secret and prints it for offline keeping; the gateway knows only its public key. A public-key
//! seal for each record would cost 150 microseconds and 1,136 bytes (X-Wing), as much as all else in a small put, so the
//! gateway draws a session key at its start, seals that once to the public key, stores the sealed session like any
//! record, and seals records symmetrically: `HKDF(session key, fresh salt)`, AES-256-GCM. What this gives away: whoever
//! takes over a running gateway reads the records of that session, all of which passed through that gateway anyway.
//!
//! ```text
//! session:  01  encapsulated key (1,120)  ciphertext of the session key (32)  tag (16)     1,169 bytes
//! record:   01  session id (16)  salt (16)  ciphertext  tag (16)                           49 bytes more than the plaintext
//! ```
//! A session's id is the first 16 bytes of the BLAKE3 of its encoded form. A record's AAD is its first 17 bytes.

use std::collections::HashMap;
use std::fmt;

use domain::DeploymentId;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::hybrid::{self, HybridError, HybridPublic, HybridSecret};
use crate::kdf::hkdf;
use crate::label::Label;
use crate::sealed_box;
use crate::secret::Secret;

/// Bytes of an encoded session.
pub const SESSION_BYTES: usize = 1 + hybrid::OVERHEAD + 32;
/// What a record has more than its plaintext.
pub const RECORD_OVERHEAD: usize = HEADER_BYTES + sealed_box::OVERHEAD;

const VERSION: u8 = 1;
const HEADER_BYTES: usize = 17;

/// Names a session by its encoded form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 16]);

impl SessionId {
    fn of(session: &[u8]) -> Self {
        let hash = blake3::hash(session);
        let (id, _) = hash
            .as_bytes()
            .split_first_chunk()
            .expect("a hash has 32 bytes");
        Self(*id)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&data_encoding::HEXLOWER.encode(&self.0))
    }
}

/// Why a session or record was not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RecoveryError {
    /// Not of the form above.
    #[error("not a recovery session or record")]
    Malformed,
    /// A later version.
    #[error("recovery version {0} is not known here")]
    UnsupportedVersion(u8),
    /// The session was sealed to another recovery key or in another deployment, or altered.
    #[error("the session does not open with this recovery secret")]
    Session(#[from] HybridError),
    /// The record's session was not added.
    #[error("the record belongs to session {0}, which was not found")]
    UnknownSession(SessionId),
    /// The record was altered.
    #[error("the record was altered")]
    Altered,
}

/// The secret kept offline.
#[derive(Debug)]
pub struct RecoverySecret(HybridSecret);

impl RecoverySecret {
    /// X-Wing seed = HKDF(seed, info `strongroom/v1/recovery-x-wing 00`). The seed's text form is
    /// [`crate::seed_text`] with [`crate::seed_text::SeedKind::Recovery`].
    #[must_use]
    pub fn from_seed(seed: &Secret<32>) -> Self {
        Self(HybridSecret::from_seed(hkdf(
            seed.expose(),
            &[],
            &Label::RECOVERY_X_WING.bare(),
        )))
    }

    /// What the gateway is given.
    #[must_use]
    pub fn public(&self) -> HybridPublic {
        self.0.public()
    }
}

/// A gateway's session: seals records until the process ends.
pub struct RecoverySession {
    id: SessionId,
    key: Secret<32>,
    deployment: DeploymentId,
    encoded: Vec<u8>,
}

impl RecoverySession {
    /// Draws a session key and seals it to the recovery key.
    #[must_use]
    pub fn start(
        rng: &mut dyn CryptoRng,
        recovery: &HybridPublic,
        deployment: DeploymentId,
    ) -> Self {
        let key = Secret::<32>::random(rng);
        let mut encoded = vec![VERSION];
        encoded.append(&mut recovery.seal(
            rng,
            Label::RECOVERY_SESSION,
            &deployment,
            &[],
            key.expose(),
        ));
        Self {
            id: SessionId::of(&encoded),
            key,
            deployment,
            encoded,
        }
    }

    /// Its id, which stands in every record.
    #[must_use]
    pub fn id(&self) -> SessionId {
        self.id
    }

    /// The sealed session: to be stored, before its first record, wherever the records are.
    #[must_use]
    pub fn encoded(&self) -> &[u8] {
        &self.encoded
    }

    /// Seals one record.
    #[must_use]
    pub fn seal(&self, rng: &mut dyn CryptoRng, plaintext: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(plaintext.len() + RECORD_OVERHEAD);
        out.push(VERSION);
        out.extend_from_slice(&self.id.0);
        let info = Label::RECOVERY_RECORD.message(&self.deployment, &[]);
        let mut body = sealed_box::seal(rng, &self.key, &info, &out, plaintext);
        out.append(&mut body);
        out
    }
}

impl fmt::Debug for RecoverySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecoverySession({})", self.id)
    }
}

/// Opens records with the offline secret: sessions first, then their records.
#[derive(Debug)]
pub struct RecoveryOpener {
    secret: RecoverySecret,
    deployment: DeploymentId,
    sessions: HashMap<SessionId, Secret<32>>,
}

impl RecoveryOpener {
    /// Without any session yet.
    #[must_use]
    pub fn new(secret: RecoverySecret, deployment: DeploymentId) -> Self {
        Self {
            secret,
            deployment,
            sessions: HashMap::new(),
        }
    }

    /// Opens a stored session, so that its records can be opened.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn add_session(&mut self, encoded: &[u8]) -> Result<SessionId, RecoveryError> {
        let sealed = versioned(encoded)?;
        if encoded.len() != SESSION_BYTES {
            return Err(RecoveryError::Malformed);
        }
        let key = self
            .secret
            .0
            .open(Label::RECOVERY_SESSION, &self.deployment, &[], sealed)?;
        let id = SessionId::of(encoded);
        let key = Secret::from_slice(&key).ok_or(RecoveryError::Malformed)?;
        self.sessions.insert(id, key);
        Ok(id)
    }

    /// Opens a record of a session that was added.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn open(&self, record: &[u8]) -> Result<Zeroizing<Vec<u8>>, RecoveryError> {
        let id = session_of(record)?;
        let (header, body) = record
            .split_at_checked(HEADER_BYTES)
            .ok_or(RecoveryError::Malformed)?;
        let key = self
            .sessions
            .get(&id)
            .ok_or(RecoveryError::UnknownSession(id))?;
        let info = Label::RECOVERY_RECORD.message(&self.deployment, &[]);
        sealed_box::open(key, &info, header, body).ok_or(RecoveryError::Altered)
    }
}

/// Which session a record belongs to.
///
/// # Errors
/// [`RecoveryError`] when it is no record of a known version.
pub fn session_of(record: &[u8]) -> Result<SessionId, RecoveryError> {
    let rest = versioned(record)?;
    if record.len() < RECORD_OVERHEAD {
        return Err(RecoveryError::Malformed);
    }
    let (id, _) = rest.split_first_chunk().ok_or(RecoveryError::Malformed)?;
    Ok(SessionId(*id))
}

fn versioned(bytes: &[u8]) -> Result<&[u8], RecoveryError> {
    match bytes {
        [VERSION, rest @ ..] => Ok(rest),
        [] => Err(RecoveryError::Malformed),
        [version, ..] => Err(RecoveryError::UnsupportedVersion(*version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use getrandom::{SysRng, rand_core::UnwrapErr};

    const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);

    fn secret(byte: u8) -> RecoverySecret {
        RecoverySecret::from_seed(&Secret::take(&mut [byte; 32]))
    }

    #[test]
    fn records_open_with_the_offline_secret_and_their_session() {
        let mut rng = UnwrapErr(SysRng);
        let session = RecoverySession::start(&mut rng, &secret(1).public(), DEPLOYMENT);
        assert_eq!(session.encoded().len(), SESSION_BYTES);
        let record = session.seal(&mut rng, b"bucket record");
        assert_eq!(record.len(), 13 + RECORD_OVERHEAD);
        assert_eq!(session_of(&record), Ok(session.id()));
        let mut opener = RecoveryOpener::new(secret(1), DEPLOYMENT);
        assert_eq!(
            opener.open(&record).unwrap_err(),
            RecoveryError::UnknownSession(session.id())
        );
        assert_eq!(opener.add_session(session.encoded()), Ok(session.id()));
        assert_eq!(opener.open(&record).unwrap().as_slice(), b"bucket record");
        for mut stranger in [
            RecoveryOpener::new(secret(2), DEPLOYMENT),
            RecoveryOpener::new(secret(1), DeploymentId([2; 32])),
        ] {
            assert_eq!(
                stranger.add_session(session.encoded()),
                Err(HybridError::Open.into())
            );
        }
    }

    #[test]
    fn every_altered_byte_is_refused() {
        let mut rng = UnwrapErr(SysRng);
        let session = RecoverySession::start(&mut rng, &secret(1).public(), DEPLOYMENT);
        let record = session.seal(&mut rng, b"x");
        let mut opener = RecoveryOpener::new(secret(1), DEPLOYMENT);
        opener.add_session(session.encoded()).unwrap();
        for i in 0..record.len() {
            let mut altered = record.clone();
            altered[i] ^= 1;
            assert!(opener.open(&altered).is_err(), "byte {i}");
            assert!(opener.open(&record[..i]).is_err(), "cut at {i}");
        }
        for i in (0..SESSION_BYTES).step_by(97) {
            let mut altered = session.encoded().to_vec();
            altered[i] ^= 1;
            assert!(opener.add_session(&altered).is_err(), "byte {i}");
        }
        assert_eq!(opener.open(&[]).unwrap_err(), RecoveryError::Malformed);
        assert_eq!(
            opener.open(&[2; 100]).unwrap_err(),
            RecoveryError::UnsupportedVersion(2)
        );
    }
}
