//! The public keys of a named key as a file, for encrypting without a network.
//!
//! It carries the ledger's own records of one version, with the header and the proofs that show them to be the ledger's. Who reads
//! it needs one thing from elsewhere: the deployment's genesis (its validators sign the header), or the key's id (its hash
//! pins the owner's creation record, and with that the committee). Either comes from the client's configuration, from an
//! earlier verified export, or by reading it out over the telephone; never from the file.

use domain::{DeploymentId, Height, KeyId, MerkleRoot, TimestampMs};
use records::RecordError;

use crate::genesis::Genesis;
use crate::header::{Certificate, Header, HeaderError, LightClient};
use crate::merkle::{ProofError, StateProof};
use crate::port::{Answer, AnswerError};
use crate::record::{Record as _, record};
use crate::records::{KeyState, VersionStatement};
use crate::state::StateKey;
use crate::verified::{VerifiedVersion, VersionError, decode_entry};

record! {
    /// A key version with its proofs. Says nothing until verified.
    ExportedKey = "exported-key", 196_608;
    /// The deployment that every signature is bound to.
    deployment: DeploymentId,
    /// The key.
    key: KeyId,
    /// Value of the key's creation.
    #[serde(with = "serde_bytes")]
    creation: Vec<u8>,
    /// Its proof.
    #[serde(with = "serde_bytes")]
    creation_proof: Vec<u8>,
    /// Value of the version.
    #[serde(with = "serde_bytes")]
    version: Vec<u8>,
    /// Its proof.
    #[serde(with = "serde_bytes")]
    version_proof: Vec<u8>,
    /// Value of the committee that the version's statement names.
    #[serde(with = "serde_bytes")]
    committee: Vec<u8>,
    /// Its proof.
    #[serde(with = "serde_bytes")]
    committee_proof: Vec<u8>,
    /// The header under whose state root all three lie.
    #[serde(with = "serde_bytes")]
    header: Vec<u8>,
    /// The validators' signatures on it.
    #[serde(with = "serde_bytes")]
    certificate: Vec<u8>,
}

/// What the reader of an exported key knows without it.
#[derive(Clone, Copy, Debug)]
pub enum Pin<'a> {
    /// The deployment's genesis: the key is one that this ledger has.
    Genesis(&'a Genesis),
    /// The key's id: whatever the ledger says, this key's owner and the committee that the owner named.
    Key(&'a KeyId),
}

/// A verified export.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The version, its owner's and custodians' signatures checked.
    pub version: VerifiedVersion,
    /// The block that it was read at.
    pub height: Height,
    /// That block's time: what happened to the key later is not known here.
    pub time: TimestampMs,
}

/// Why public keys are not taken.
#[derive(Debug, thiserror::Error)]
pub enum ExportedKeyError {
    /// A record that does not parse.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Another deployment's than the pinned genesis.
    #[error("the exported key is of deployment {got}, not of {expected}")]
    AnotherDeployment {
        /// The pinned one.
        expected: DeploymentId,
        /// The file's.
        got: DeploymentId,
    },
    /// Another key's than the pinned id.
    #[error("the file holds key {got}, not {expected}")]
    AnotherKey {
        /// The pinned one.
        expected: KeyId,
        /// The file's.
        got: KeyId,
    },
    /// The header is not the ledger's.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A record is not what the ledger holds.
    #[error("the {what} is not what the ledger holds: {source}")]
    Proof {
        /// Which one.
        what: &'static str,
        /// Why.
        source: ProofError,
    },
    /// The records do not show the public keys.
    #[error(transparent)]
    Version(#[from] VersionError),
    /// It decrypts no more, so nothing is encrypted to it.
    #[error("this version of the key was {0:?} when it was exported: nothing is encrypted to it")]
    State(KeyState),
}

/// Why an answer of the ledger was not made an export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The answer shows nothing.
    #[error(transparent)]
    Answer(#[from] AnswerError),
    /// The key, the version or its committee is not there.
    #[error("the ledger has no {0}")]
    Missing(&'static str),
}

impl ExportedKey {
    /// The keys of the state that an export is made of, in the order of [`ExportedKey::from_answer`].
    #[must_use]
    pub fn state_keys(statement: &VersionStatement) -> [StateKey; 3] {
        [
            StateKey::KeyCreation(statement.key),
            StateKey::KeyVersion(statement.key, statement.version),
            StateKey::Committee(statement.committee),
        ]
    }

    /// From the ledger's answer to [`ExportedKey::state_keys`]. Checks nothing but that all three are there: verify what comes out.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn from_answer(
        deployment: &DeploymentId,
        key: &KeyId,
        answer: &Answer,
    ) -> Result<Self, ExportError> {
        let [creation, version, committee] = answer.values.as_slice() else {
            return Err(ExportError::Answer(AnswerError::Count {
                asked: 3,
                got: answer.values.len(),
            }));
        };
        let value = |what, proved: &crate::port::ProvedValue| {
            let value = proved.value.as_ref().ok_or(ExportError::Missing(what))?;
            Ok::<_, ExportError>((value.to_vec(), proved.proof.encode()))
        };
        let (creation, creation_proof) = value("such key", creation)?;
        let (version, version_proof) = value("such version of the key", version)?;
        let (committee, committee_proof) = value("committee of that version", committee)?;
        Ok(Self {
            deployment: *deployment,
            key: *key,
            creation,
            creation_proof,
            version,
            version_proof,
            committee,
            committee_proof,
            header: answer.last.header.encode(),
            certificate: answer.last.certificate.encode(),
        })
    }

    /// Checks every proof and signature from what is pinned on.
    ///
    /// # Errors
    /// [`ExportedKeyError`].
    pub fn verify(&self, pin: Pin<'_>) -> Result<PublicKey, ExportedKeyError> {
        let header = Header::decode(&self.header)?;
        let certificate = Certificate::decode(&self.certificate)?;
        let (_, statement) = decode_entry(&self.version)?;
        match pin {
            Pin::Genesis(genesis) => {
                if genesis.deployment != self.deployment {
                    return Err(ExportedKeyError::AnotherDeployment {
                        expected: genesis.deployment,
                        got: self.deployment,
                    });
                }
                LightClient::new(genesis).advance(&header, &certificate, None)?;
            }
            Pin::Key(key) => {
                if *key != self.key {
                    return Err(ExportedKeyError::AnotherKey {
                        expected: *key,
                        got: self.key,
                    });
                }
            }
        }
        self.check_proofs(&header.state_root, &statement)?;
        let version = VerifiedVersion::check(
            &self.deployment,
            &self.key,
            statement.version,
            &self.creation,
            &self.committee,
            &self.version,
        )?;
        let state = version.entry.state(header.time);
        if state != KeyState::Active {
            return Err(ExportedKeyError::State(state));
        }
        Ok(PublicKey {
            version,
            height: header.height,
            time: header.time,
        })
    }

    fn check_proofs(
        &self,
        root: &MerkleRoot,
        statement: &VersionStatement,
    ) -> Result<(), ExportedKeyError> {
        let statement = VersionStatement {
            key: self.key,
            ..statement.clone()
        };
        let parts: [(&'static str, &[u8], &[u8]); 3] = [
            ("creation record", &self.creation, &self.creation_proof),
            ("version", &self.version, &self.version_proof),
            ("committee", &self.committee, &self.committee_proof),
        ];
        let keys = Self::state_keys(&statement);
        for ((what, value, proof), key) in parts.into_iter().zip(keys) {
            StateProof::decode(proof)?
                .verify(&root.0, &key.encode(), Some(value))
                .map_err(|source| ExportedKeyError::Proof { what, source })?;
        }
        Ok(())
    }
}
