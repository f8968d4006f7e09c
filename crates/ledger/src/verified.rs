//! A key version as its own signatures show it: who owns the key, who holds its shares, which public keys t of them vouch for.
//!
//! Whoever encrypts to a key trusts its public keys with everything they encrypt. So they are taken only if the key's id is
//! the hash of what its owner signed, the committee is the one that the statement names, and at least t of that committee
//! have signed that they hold a checked share of these very keys. That the records are the ledger's is shown by their
//! proofs ([`crate::port::Answer::verify`], [`crate::ExportedKey`]); nothing here takes the ledger's word for a signature.

use crypto::kem::{KeyRef, PublicKeys, PublicKeysError, SCHEME};
use domain::{CommitteeId, DeploymentId, KeyId, KeyVersion, Principal, ShareIndex, Threshold};
use records::RecordError;
use sealed::signed::Signed;

use crate::record::Record as _;
use crate::records::committee::CommitteeError;
use crate::records::{Committee, CommitteeEntry, KeyCreation, VersionEntry, VersionStatement};

/// Why a key version's records do not show its public keys.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    /// A record that does not parse.
    #[error("the {what} is malformed: {source}")]
    Record {
        /// Which one.
        what: &'static str,
        /// Why.
        source: RecordError,
    },
    /// The creation record is another key's.
    #[error("the creation record is of key {got}, not of {expected}")]
    AnotherKey {
        /// The key that was asked for.
        expected: KeyId,
        /// The record's.
        got: KeyId,
    },
    /// Its owner did not sign it.
    #[error("the creation record is not signed by {0}, whom it names as its owner")]
    OwnerSignature(Principal),
    /// A scheme that is not known here.
    #[error("encryption scheme {0} is not known here: use a newer strongroom")]
    Scheme(u8),
    /// The statement is about another version than was asked for.
    #[error("the statement is about key {key} version {version}")]
    AnotherVersion {
        /// Its key.
        key: KeyId,
        /// Its version.
        version: KeyVersion,
    },
    /// The committee record is not the one that the statement names.
    #[error("the committee is {got}, the statement names {expected}")]
    AnotherCommittee {
        /// The statement's.
        expected: CommitteeId,
        /// The record's.
        got: CommitteeId,
    },
    /// A committee that is none.
    #[error(transparent)]
    Committee(#[from] CommitteeError),
    /// The committee has another threshold than the owner asked for.
    #[error("the committee is {got}, the key was created {expected}")]
    Threshold {
        /// The creation record's.
        expected: Threshold,
        /// The committee's.
        got: Threshold,
    },
    /// An acknowledgement that does not hold.
    #[error("custodian {0} has not signed for these public keys")]
    Acknowledgement(ShareIndex),
    /// Acknowledgements out of order, of a standby, or of a slot that the committee does not have.
    #[error("acknowledgements stand in the order of the committee's custodians, each once")]
    Order,
    /// Fewer custodians than the threshold.
    #[error("{got} custodians signed for these public keys, {needed} have to")]
    TooFew {
        /// The threshold.
        needed: u8,
        /// Good signatures.
        got: usize,
    },
    /// Public keys that are none.
    #[error(transparent)]
    PublicKeys(#[from] PublicKeysError),
}

/// A key version that its owner's and its custodians' signatures show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedVersion {
    /// What the owner signed.
    pub creation: Signed<KeyCreation>,
    /// Who held the shares when the version was made.
    pub committee: Committee,
    /// What the custodians signed.
    pub statement: VersionStatement,
    /// The ledger's entry.
    pub entry: VersionEntry,
    /// What can be encapsulated to.
    pub key: KeyRef,
}

impl VerifiedVersion {
    /// Checks the values of [`crate::StateKey::KeyCreation`], [`crate::StateKey::Committee`] (of the statement's committee) and
    /// [`crate::StateKey::KeyVersion`] against each other and every signature in them.
    ///
    /// # Errors
    /// [`VersionError`].
    pub fn check(
        deployment: &DeploymentId,
        key: &KeyId,
        version: KeyVersion,
        creation: &[u8],
        committee: &[u8],
        entry: &[u8],
    ) -> Result<Self, VersionError> {
        let creation = check_creation(deployment, key, creation)?;
        let (entry, statement) = decode_entry(entry)?;
        if (statement.key, statement.version) != (*key, version) {
            return Err(VersionError::AnotherVersion {
                key: statement.key,
                version: statement.version,
            });
        }
        let committee = CommitteeEntry::decode(committee)
            .and_then(|entry| Committee::decode(&entry.committee))
            .map_err(malformed("committee"))?;
        let got = committee.id(deployment);
        if got != statement.committee {
            return Err(VersionError::AnotherCommittee {
                expected: statement.committee,
                got,
            });
        }
        committee.validate()?;
        // The owner signed which committee: state alone, which is the validators' word, names none.
        if statement.committee != creation.committee {
            return Err(VersionError::AnotherCommittee {
                expected: creation.committee,
                got: statement.committee,
            });
        }
        if committee.threshold != creation.threshold {
            return Err(VersionError::Threshold {
                expected: creation.threshold,
                got: committee.threshold,
            });
        }
        check_acknowledgements(deployment, &statement, &committee, &entry)?;
        let key = KeyRef {
            deployment: *deployment,
            key: *key,
            version,
            public: PublicKeys::from_bytes(&statement.pq, &statement.dh)?,
        };
        Ok(Self {
            creation,
            committee,
            statement,
            entry,
            key,
        })
    }
}

/// The creation record of a key: its hash is the key's id, its owner signed it, its scheme is known.
///
/// # Errors
/// [`VersionError`].
pub fn check_creation(
    deployment: &DeploymentId,
    key: &KeyId,
    bytes: &[u8],
) -> Result<Signed<KeyCreation>, VersionError> {
    let creation = Signed::<KeyCreation>::decode(bytes).map_err(malformed("creation record"))?;
    let got = creation.key_id(deployment);
    if got != *key {
        return Err(VersionError::AnotherKey {
            expected: *key,
            got,
        });
    }
    if creation.scheme != SCHEME {
        return Err(VersionError::Scheme(creation.scheme));
    }
    creation
        .verify_signature(deployment)
        .map_err(|_| VersionError::OwnerSignature(creation.owner))?;
    Ok(creation)
}

/// A version's entry with its statement; checks no signature.
///
/// # Errors
/// [`VersionError::Record`].
pub fn decode_entry(bytes: &[u8]) -> Result<(VersionEntry, VersionStatement), VersionError> {
    let entry = VersionEntry::decode(bytes).map_err(malformed("version's entry"))?;
    let statement =
        VersionStatement::decode(&entry.statement).map_err(malformed("version's statement"))?;
    Ok((entry, statement))
}

fn check_acknowledgements(
    deployment: &DeploymentId,
    statement: &VersionStatement,
    committee: &Committee,
    entry: &VersionEntry,
) -> Result<(), VersionError> {
    let given = &entry.acknowledgements;
    if !given.is_sorted_by(|a, b| a.slot < b.slot) {
        return Err(VersionError::Order);
    }
    for acknowledgement in given {
        let member = committee
            .member(acknowledgement.slot)
            .filter(|member| !member.slot.standby)
            .ok_or(VersionError::Order)?;
        statement
            .verify_acknowledgement(&member.key, deployment, acknowledgement)
            .map_err(|_| VersionError::Acknowledgement(member.slot.index))?;
    }
    let needed = committee.threshold.t();
    if given.len() < usize::from(needed) {
        return Err(VersionError::TooFew {
            needed,
            got: given.len(),
        });
    }
    Ok(())
}

fn malformed(what: &'static str) -> impl FnOnce(RecordError) -> VersionError {
    move |source| VersionError::Record { what, source }
}
