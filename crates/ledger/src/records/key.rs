//! Named keys: their creation, their versions, their states.

use crypto::Identity;
use crypto::identity::{Signature, SignatureError, verify};
use domain::{
    CommitteeId, DeploymentId, Epoch, Height, KeyId, KeyName, KeyVersion, MerkleRoot, Principal,
    Slot, Threshold, TimestampMs,
};
use serde::{Deserialize, Serialize};
use threshold::commitments::CommitmentListError;
use threshold::{CommitmentList, Sharing};

use crate::labels;
use crate::record::{Record as _, record, signed_by};

/// Names that a context policy asks for, at most.
pub const CONTEXT_NAMES_MAX: usize = 16;

record! {
    /// What an owner signs to make a named key. The key's id is its hash, so nothing here ever changes.
    KeyCreation = "key-creation", 4_096;
    /// Who decides about the key.
    owner: Principal,
    /// The name among the owner's keys. Public.
    name: KeyName,
    /// Makes the id.
    #[serde(with = "serde_bytes")]
    random: [u8; 32],
    /// The encryption scheme: 1.
    scheme: u8,
    /// t of n.
    threshold: Threshold,
    /// Who holds the shares of version 1.
    committee: CommitteeId,
    /// What custodians ask of an encryption context before they answer.
    context: ContextPolicy,
    /// By the owner's clock.
    created: TimestampMs,
}

signed_by!(KeyCreation, owner, labels::KEY_CREATION);

impl KeyCreation {
    /// BLAKE3 of label, deployment id and the record.
    #[must_use]
    pub fn key_id(&self, deployment: &DeploymentId) -> KeyId {
        KeyId(labels::hash(labels::KEY_ID, deployment, &self.encode()))
    }
}

/// What an encryption context must have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct ContextPolicy(Vec<ContextName>);

/// The name of an entry of an encryption context: 1 to 64 bytes of UTF-8.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct ContextName(String);

/// Why a context policy is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a context policy has at most {CONTEXT_NAMES_MAX} names of 1 to 64 bytes, ascending, each once"
)]
pub struct ContextPolicyError;

impl ContextName {
    /// Takes 1 to 64 bytes.
    ///
    /// # Errors
    /// [`ContextPolicyError`].
    pub fn new(name: impl Into<String>) -> Result<Self, ContextPolicyError> {
        let name = name.into();
        if (1..=64).contains(&name.len()) {
            Ok(Self(name))
        } else {
            Err(ContextPolicyError)
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl ContextPolicy {
    /// Any context, also none.
    pub const ANY: Self = Self(Vec::new());

    /// A context with at least these names.
    ///
    /// # Errors
    /// [`ContextPolicyError`] for more than 16, or one that is given twice.
    pub fn requiring(mut names: Vec<ContextName>) -> Result<Self, ContextPolicyError> {
        names.sort_unstable();
        if names.len() > CONTEXT_NAMES_MAX || !names.is_sorted_by(|a, b| a < b) {
            return Err(ContextPolicyError);
        }
        Ok(Self(names))
    }

    /// The first name that must be there and is not.
    #[must_use]
    pub fn missing(&self, there: impl Fn(&str) -> bool) -> Option<&ContextName> {
        self.0.iter().find(|name| !there(name.as_str()))
    }

    /// The names that must be there, ascending.
    #[must_use]
    pub fn required(&self) -> &[ContextName] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for ContextPolicy {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?
            .into_iter()
            .map(ContextName::new)
            .collect::<Result<Vec<_>, _>>()
            .map_err(serde::de::Error::custom)?;
        if !names.is_sorted_by(|a, b| a < b) {
            return Err(serde::de::Error::custom(ContextPolicyError));
        }
        Self::requiring(names).map_err(serde::de::Error::custom)
    }
}

record! {
    /// What is said of one version of a key once it is dealt. Custodians and the activating worker sign it.
    VersionStatement = "key-version", 2_048;
    /// The key.
    key: KeyId,
    /// The version.
    version: KeyVersion,
    /// Which attempt at this version: [`Pending::fencing`].
    fencing: u64,
    /// The sharing.
    epoch: Epoch,
    /// Who holds the shares.
    committee: CommitteeId,
    /// ML-KEM-768 encapsulation key.
    #[serde(with = "serde_bytes")]
    pq: [u8; 1_184],
    /// Compressed ristretto255 point.
    #[serde(with = "serde_bytes")]
    dh: [u8; 32],
    /// Over the commitments to the shares of both legs.
    commitments: MerkleRoot,
    /// The worker that dealt the post-quantum leg.
    dealer: Principal,
}

impl VersionStatement {
    /// Says as a custodian: my share of this version, in this slot, is on my disk for good.
    #[must_use]
    pub fn acknowledge(
        &self,
        custodian: &Identity,
        deployment: &DeploymentId,
        slot: Slot,
    ) -> Acknowledgement {
        Acknowledgement {
            slot,
            signature: custodian.sign(
                labels::SHARE_ACKNOWLEDGEMENT,
                deployment,
                &self.acknowledged(slot),
            ),
        }
    }

    /// Checks a custodian's acknowledgement.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_acknowledgement(
        &self,
        custodian: &Principal,
        deployment: &DeploymentId,
        acknowledgement: &Acknowledgement,
    ) -> Result<(), SignatureError> {
        verify(
            custodian,
            labels::SHARE_ACKNOWLEDGEMENT,
            deployment,
            &self.acknowledged(acknowledgement.slot),
            &acknowledgement.signature,
        )
    }

    /// Says as a worker: the shares fit one polynomial of the right degree and give these public keys.
    #[must_use]
    pub fn activate(&self, worker: &Identity, deployment: &DeploymentId) -> Activation {
        Activation {
            worker: worker.principal(),
            signature: worker.sign(labels::KEY_ACTIVATION, deployment, &self.encode()),
        }
    }

    /// Checks a worker's activation.
    ///
    /// # Errors
    /// [`SignatureError`].
    pub fn verify_activation(
        &self,
        deployment: &DeploymentId,
        activation: &Activation,
    ) -> Result<(), SignatureError> {
        verify(
            &activation.worker,
            labels::KEY_ACTIVATION,
            deployment,
            &self.encode(),
            &activation.signature,
        )
    }

    /// Which sharing the statement is about, among `threshold` (the committee's).
    #[must_use]
    pub fn sharing(&self, deployment: &DeploymentId, threshold: Threshold) -> Sharing {
        Sharing {
            deployment: *deployment,
            key: self.key,
            version: self.version,
            epoch: self.epoch,
            committee: self.committee,
            threshold,
        }
    }

    /// Reads what is public of each share, and checks it against the root that everybody signed for.
    ///
    /// # Errors
    /// [`CommitmentListError`].
    pub fn commitment_list(
        &self,
        deployment: &DeploymentId,
        threshold: Threshold,
        commitments: &[u8],
    ) -> Result<CommitmentList, CommitmentListError> {
        let sharing = self.sharing(deployment, threshold);
        CommitmentList::decode(sharing, &self.commitments.0, commitments)
    }

    /// Slot, then statement: what an acknowledgement signs.
    fn acknowledged(&self, slot: Slot) -> Vec<u8> {
        let mut body = vec![slot.index.get(), u8::from(slot.standby)];
        body.extend(self.encode());
        body
    }
}

/// A custodian's word that it holds its share durably.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acknowledgement {
    /// The custodian's place in the committee.
    pub slot: Slot,
    /// Its signature ([`VersionStatement::acknowledge`]).
    pub signature: Signature,
}

/// A worker's word that the shares are good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Activation {
    /// Which worker. Not the dealer.
    pub worker: Principal,
    /// Its signature ([`VersionStatement::activate`]).
    pub signature: Signature,
}

/// A version that is being dealt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pending {
    /// Which version it will be.
    pub version: KeyVersion,
    /// Grows with every attempt; an activation with another one is refused.
    pub fencing: u64,
    /// Who will hold the shares.
    pub committee: CommitteeId,
    /// When another attempt may take its place.
    pub deadline: TimestampMs,
}

record! {
    /// Where a key stands. Small: custodians are sent it with every request.
    KeyStatus = "key-status", 512;
    /// Whose it is, as in the creation record.
    owner: Principal,
    /// The version to encrypt under; absent until the first is active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    current: Option<KeyVersion>,
    /// A version that is being dealt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<Pending>,
    /// The last fencing number that was given out.
    fencing: u64,
    /// Versions below are not decrypted.
    min_decrypt: KeyVersion,
    /// Whether retiring the key and destroying versions are refused.
    delete_protected: bool,
    /// Whether governance has stopped all releases.
    suspended: bool,
    /// When the whole key retires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retires: Option<TimestampMs>,
    /// The block of the last change.
    height: Height,
}

/// The state of a key or of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyState {
    /// Not all shares are held and checked. Nobody encrypts under it.
    Pending,
    /// In use.
    Active,
    /// Decrypts until the deadline, encrypts no more.
    Retiring {
        /// Exclusive.
        deadline: TimestampMs,
    },
    /// Decrypts no more; the shares may still exist.
    Retired,
    /// Its custodians were told to erase their shares. That they did cannot be proved.
    Destroyed,
}

impl KeyState {
    /// Whether ciphertexts are opened in this state.
    #[must_use]
    pub fn decrypts(self) -> bool {
        matches!(self, Self::Active | Self::Retiring { .. })
    }

    fn retiring(retires: Option<TimestampMs>, now: TimestampMs) -> Self {
        match retires {
            None => Self::Active,
            Some(deadline) if now < deadline => Self::Retiring { deadline },
            Some(_) => Self::Retired,
        }
    }
}

impl KeyStatus {
    /// The key's state at `now`, whatever its versions'.
    #[must_use]
    pub fn state(&self, now: TimestampMs) -> KeyState {
        if self.current.is_none() {
            return KeyState::Pending;
        }
        KeyState::retiring(self.retires, now)
    }
}

record! {
    /// An activated version of a key.
    VersionEntry = "key-version-entry", 65_536;
    /// The statement that everybody signed, encoded.
    #[serde(with = "serde_bytes")]
    statement: Vec<u8>,
    /// What is public of each share, [`threshold::CommitmentList::encode`], under the root that the statement has: whoever reads this
    /// entry can tell a good partial decryption or share from a bad one.
    #[serde(with = "serde_bytes")]
    commitments: Vec<u8>,
    /// The word of every custodian that is no standby. (Standbys have signed too; their words are in the transaction.)
    acknowledgements: Vec<Acknowledgement>,
    /// The worker's.
    activation: Activation,
    /// The sharing now.
    epoch: Epoch,
    /// Who holds the shares now.
    committee: CommitteeId,
    /// The block that activated it: the least height at which a release may be asked for.
    height: Height,
    /// When it retires.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    retires: Option<TimestampMs>,
    /// Whether it is destroyed.
    destroyed: bool,
}

impl VersionEntry {
    /// The version's state at `now`, whatever its key's.
    #[must_use]
    pub fn state(&self, now: TimestampMs) -> KeyState {
        if self.destroyed {
            return KeyState::Destroyed;
        }
        KeyState::retiring(self.retires, now)
    }
}

/// Whether `version` may be opened: neither it nor its key retired, none suspended, not below the minimum.
#[must_use]
pub fn decrypts(
    status: &KeyStatus,
    version: KeyVersion,
    entry: &VersionEntry,
    now: TimestampMs,
) -> bool {
    !status.suspended
        && version >= status.min_decrypt
        && status.state(now).decrypts()
        && entry.state(now).decrypts()
}
