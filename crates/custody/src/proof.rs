//! Values of the ledger that an asker brings along, with everything that shows them.

use crypto::kem::{KeyTarget, PublicKeys};
use domain::{CommitteeId, DeploymentId, KeyId, KeyVersion, Principal, TimestampMs};
use ledger::records::{
    Committee, CommitteeEntry, GovernanceEntry, GrantEntry, KeyCreation, KeyGrant, KeyStatus,
    Operations, VersionEntry, VersionStatement, grant,
};
use ledger::verified::{check_creation, decode_entry};
use ledger::{Certificate, Genesis, Header, HeaderError, Record, StateKey, StateProof};
use sealed::signed::Signed;
use threshold::CommitmentList;

use crate::reason::{Denial, Reason};
use crate::view::LedgerView;

/// Values in one proof, at most.
pub const VALUES_MAX: usize = 64;

/// Values of one height with their header, as they came. Says nothing yet.
#[derive(Clone, Debug, Default)]
pub struct LedgerProof<'a> {
    /// A header record.
    pub header: &'a [u8],
    /// A certificate record.
    pub certificate: &'a [u8],
    /// At most [`VALUES_MAX`].
    pub values: Vec<ProvedValue<'a>>,
}

/// One value, as it came.
#[derive(Clone, Copy, Debug)]
pub struct ProvedValue<'a> {
    /// [`StateKey::encode`].
    pub key: &'a [u8],
    /// `None`: there is none.
    pub value: Option<&'a [u8]>,
    /// A state-proof record.
    pub proof: &'a [u8],
}

/// Values under a header that was admitted. Each value's proof is checked when it is asked for.
#[derive(Debug)]
pub struct Shown<'a> {
    deployment: DeploymentId,
    header: Header,
    values: &'a [ProvedValue<'a>],
}

/// The creation record of a key, by its owner's signature and the key's id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedCreation {
    /// The key.
    pub key: KeyId,
    /// The record.
    pub creation: KeyCreation,
}

/// An activated version, with its parts read and checked against each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedVersion {
    /// The entry.
    pub entry: VersionEntry,
    /// The statement in it.
    pub statement: VersionStatement,
    /// Its public keys.
    pub public: PublicKeys,
    /// What ciphertexts of it are bound to.
    pub target: KeyTarget,
    /// The commitments to its shares, under the statement's root.
    pub commitments: CommitmentList,
}

impl<'a> Shown<'a> {
    /// Reads the header and has `view` admit it.
    ///
    /// # Errors
    /// [`Reason::Proof`], [`Reason::ProofStale`] for a header below the floor.
    pub fn open(
        view: &dyn LedgerView,
        deployment: &DeploymentId,
        proof: &'a LedgerProof<'a>,
    ) -> Result<Self, Denial> {
        if proof.values.len() > VALUES_MAX {
            return Err(Denial::new(Reason::Proof, "too many values"));
        }
        let (header, certificate) = read_header(proof.header, proof.certificate)?;
        view.admit(&header, &certificate).map_err(refused_header)?;
        Ok(Self {
            deployment: *deployment,
            header,
            values: &proof.values,
        })
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The value of a key, or that there is none, as proved.
    ///
    /// # Errors
    /// [`Reason::Proof`] when the asker did not bring it, or its proof does not hold.
    pub fn value(&self, key: &StateKey, what: &str) -> Result<Option<&'a [u8]>, Denial> {
        let key = key.encode();
        let found = self.values.iter().find(|value| value.key == key);
        let found =
            found.ok_or_else(|| Denial::new(Reason::Proof, format_args!("no {what} is shown")))?;
        StateProof::decode(found.proof)
            .map_err(|error| Denial::new(Reason::Proof, error))?
            .verify(&self.header.state_root.0, &key, found.value)
            .map_err(|error| Denial::new(Reason::Proof, format_args!("{what}: {error}")))?;
        Ok(found.value)
    }

    /// The record of a key, which must be there.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn record<T: Record>(&self, key: &StateKey, what: &str) -> Result<T, Denial> {
        self.find(key, what)?.ok_or_else(|| {
            Denial::new(Reason::Proof, format_args!("the ledger has no such {what}"))
        })
    }

    /// The record of a key, if there is one.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn find<T: Record>(&self, key: &StateKey, what: &str) -> Result<Option<T>, Denial> {
        self.value(key, what)?
            .map(|bytes| {
                T::decode(bytes)
                    .map_err(|error| Denial::new(Reason::Proof, format_args!("{what}: {error}")))
            })
            .transpose()
    }

    /// The bytes of the key's creation.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn creation_bytes(&self, key: &KeyId) -> Result<&'a [u8], Denial> {
        self.value(&StateKey::KeyCreation(*key), "creation of the key")?
            .ok_or_else(|| Denial::new(Reason::Proof, "the ledger has no such key"))
    }

    /// The key's creation: its id is the record's hash, and its owner has signed it.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn creation(&self, key: &KeyId) -> Result<VerifiedCreation, Denial> {
        VerifiedCreation::read(&self.deployment, key, self.creation_bytes(key)?)
    }

    /// Where the key stands.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn status(&self, key: &KeyId) -> Result<KeyStatus, Denial> {
        self.record(&StateKey::KeyStatus(*key), "status of the key")
    }

    /// The bytes of the entry of a version; `None` when it was never activated.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn version_bytes(
        &self,
        key: &KeyId,
        version: KeyVersion,
    ) -> Result<Option<&'a [u8]>, Denial> {
        self.value(&StateKey::KeyVersion(*key, version), "version of the key")
    }

    /// A committee, by its id.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn committee(&self, id: &CommitteeId) -> Result<Committee, Denial> {
        let entry: CommitteeEntry = self.record(&StateKey::Committee(*id), "committee")?;
        let committee = Committee::decode(&entry.committee)
            .map_err(|error| Denial::new(Reason::Proof, error))?;
        if committee.id(&self.deployment) != *id {
            return Err(Denial::new(Reason::Proof, "another committee"));
        }
        committee
            .validate()
            .map_err(|error| Denial::new(Reason::Proof, error))?;
        Ok(committee)
    }

    /// Whether governance keys include `principal` at `now`.
    ///
    /// # Errors
    /// [`Reason::Proof`].
    pub fn governs(&self, principal: &Principal, now: TimestampMs) -> Result<bool, Denial> {
        let entry: GovernanceEntry = self.record(&StateKey::Governance, "governance")?;
        Ok(entry.at(now).keys().contains(principal))
    }

    /// Whether a value of that key was brought along at all.
    #[must_use]
    pub fn has(&self, key: &StateKey) -> bool {
        let key = key.encode();
        self.values.iter().any(|value| value.key == key)
    }

    /// Checks that `principal` is the owner or has a chain of grants from the owner for `wanted` at `now`. Returns when the first of these
    /// grants ends.
    ///
    /// # Errors
    /// [`Reason::NotGranted`] when the ledger shows that it has not, [`Reason::Proof`] when nothing is shown.
    pub fn check_chain(
        &self,
        creation: &VerifiedCreation,
        principal: &Principal,
        wanted: Operations,
        now: TimestampMs,
    ) -> Result<Option<TimestampMs>, Denial> {
        let (key, owner) = (&creation.key, &creation.creation.owner);
        let mut chain = Vec::new();
        let mut until: Option<TimestampMs> = None;
        let mut holder = *principal;
        while holder != *owner && chain.len() < grant::CHAIN_LINKS_MAX {
            let name = StateKey::KeyGrant(*key, holder);
            let Some(entry) = self.find::<GrantEntry>(&name, "grant")? else {
                break;
            };
            let link = Signed::<KeyGrant>::decode(&entry.grant)
                .map_err(|error| Denial::new(Reason::NotGranted, error))?;
            until = until.into_iter().chain(link.expires).min();
            chain.push(entry);
            holder = link.granted_by;
        }
        grant::verify_chain(&self.deployment, owner, key, principal, wanted, now, &chain)
            .map_err(|error| Denial::new(Reason::NotGranted, error))?;
        Ok(until)
    }
}

impl VerifiedCreation {
    /// Reads a signed creation and checks that it is that key's.
    ///
    /// # Errors
    /// [`Reason::Proof`], also for a scheme that is not known here.
    pub fn read(deployment: &DeploymentId, key: &KeyId, bytes: &[u8]) -> Result<Self, Denial> {
        let signed = check_creation(deployment, key, bytes)
            .map_err(|error| Denial::new(Reason::Proof, error))?;
        Ok(Self {
            key: *key,
            creation: (*signed).clone(),
        })
    }
}

impl VerifiedVersion {
    /// Reads the entry of a version and checks that its parts belong together and to that version of that key.
    ///
    /// # Errors
    /// [`Reason::VersionMismatch`], [`Reason::Proof`].
    pub fn read(
        deployment: &DeploymentId,
        creation: &VerifiedCreation,
        version: KeyVersion,
        bytes: &[u8],
    ) -> Result<Self, Denial> {
        let (entry, statement) =
            decode_entry(bytes).map_err(|error| Denial::new(Reason::Proof, error))?;
        if (statement.key, statement.version) != (creation.key, version) {
            return Err(Reason::VersionMismatch.into());
        }
        let public = PublicKeys::from_bytes(&statement.pq, &statement.dh)
            .map_err(|error| Denial::new(Reason::Proof, error))?;
        let target = KeyTarget {
            deployment: *deployment,
            key: statement.key,
            version,
            public: public.hash(deployment),
        };
        let commitments = statement
            .commitment_list(deployment, creation.creation.threshold, &entry.commitments)
            .map_err(|error| Denial::new(Reason::Proof, error))?;
        Ok(Self {
            entry,
            statement,
            public,
            target,
            commitments,
        })
    }
}

/// Reads a header and its certificate.
///
/// # Errors
/// [`Reason::Proof`].
pub fn read_header(header: &[u8], certificate: &[u8]) -> Result<(Header, Certificate), Denial> {
    let header = Header::decode(header).map_err(|error| Denial::new(Reason::Proof, error))?;
    let certificate =
        Certificate::decode(certificate).map_err(|error| Denial::new(Reason::Proof, error))?;
    Ok((header, certificate))
}

/// What is said of a header that a view refuses.
#[must_use]
pub fn refused_header(error: HeaderError) -> Denial {
    let reason = match error {
        HeaderError::Stale { .. } => Reason::ProofStale,
        HeaderError::AnotherLedger { .. } => Reason::OtherLedger,
        _ => Reason::Proof,
    };
    Denial::new(reason, error)
}

/// What names a ledger to whoever judges requests for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LedgerName {
    /// The deployment.
    pub deployment: DeploymentId,
    /// The genesis.
    pub genesis: domain::GenesisHash,
}

impl From<&Genesis> for LedgerName {
    fn from(genesis: &Genesis) -> Self {
        Self {
            deployment: genesis.deployment,
            genesis: genesis.hash(),
        }
    }
}
