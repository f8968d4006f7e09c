//! Transactions: what a principal asks the ledger to record.

use crypto::identity::Signature;
use domain::{
    BucketId, Cid, CommitteeId, DatasetId, DeploymentId, GenesisHash, Height, KeyId, KeyVersion,
    MerkleRoot, Permissions, PlatformType, Principal, TimestampMs, TransactionHash,
};
use sealed::signed::Signed;
use serde::{Deserialize, Serialize};

use crate::genesis::Governance;
use crate::header::ValidatorSet;
use crate::labels;
use crate::record::{record, signed_by};
use crate::records::committee::ShareRootStatement;
use crate::records::{
    Acknowledgement, Activation, AnchorKind, Enrolment, Measurement, Minimum, Role,
};

/// Bytes of a signed transaction, at most, whatever a genesis says.
pub const TRANSACTION_BYTES_MAX: usize = 128 << 10;

/// A transaction as it travels.
pub type SignedTransaction = Signed<Transaction>;

record! {
    /// What a principal signs.
    Transaction = "transaction", TRANSACTION_BYTES_MAX;
    /// The ledger that it is for.
    chain: GenesisHash,
    /// Who asks, and signs.
    sender: Principal,
    /// How many transactions of the sender were applied before: each number is used once, in order.
    nonce: u64,
    /// Until when it may be applied.
    expires: Expiry,
    /// What is asked for.
    action: Action,
}

signed_by!(Transaction, sender, labels::TRANSACTION);

/// The last block, or the last block time, in which a transaction is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expiry {
    /// Inclusive.
    Height(Height),
    /// Inclusive, by the header's time.
    Time(TimestampMs),
}

/// Names a transaction: BLAKE3 of label, deployment id and what was signed.
#[must_use]
pub fn transaction_hash(
    deployment: &DeploymentId,
    transaction: &SignedTransaction,
) -> TransactionHash {
    TransactionHash(labels::hash(
        labels::TRANSACTION_HASH,
        deployment,
        transaction.body(),
    ))
}

/// What can be asked for. Anyone may carry what somebody else signed (creations, grants, activations, decisions); what
/// has no signature of its own counts as the sender's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Registers a key; its first version is then pending.
    CreateKey(CreateKey),
    /// Begins another version, or another attempt at one. By the owner, or who may rotate.
    BeginVersion(BeginVersion),
    /// Gives up the pending version.
    AbandonVersion(AbandonVersion),
    /// Makes the pending version the current one: all shares are held and checked.
    ActivateVersion(ActivateVersion),
    /// Sets or takes back a deadline, for a version that is not the current one, or for the whole key. By the owner.
    Retire(Retire),
    /// Records that custodians were told to erase a retired version. By the owner.
    DestroyVersion(VersionOf),
    /// Sets the version below which nothing is decrypted. By the owner.
    SetMinDecrypt(VersionOf),
    /// Protects a key from being retired or destroyed, or no longer. By the owner.
    SetDeleteProtection(SetDeleteProtection),
    /// Brings a signed grant.
    GrantKey(SignedRecord),
    /// Revokes one. By the owner, its granter, or the grantee.
    RevokeKey(RevokeKey),
    /// Records what the members of a committee hold in an epoch.
    RecordShareRoot(RecordShareRoot),
    /// Brings a decision of k of m governance keys.
    Govern(Govern),
    /// Brings a signed bucket record.
    RegisterBucket(SignedRecord),
    /// Sets what a principal may do in a bucket; nothing revokes. By the bucket's owner.
    GrantBucket(GrantBucket),
    /// Publishes a version of a dataset.
    RegisterDataset(RegisterDataset),
    /// Anchors a root.
    Anchor(Anchor),
}

/// A record that carries its own signature, encoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedRecord {
    /// [`sealed::signed::Signed::encode`].
    #[serde(with = "serde_bytes")]
    pub record: Vec<u8>,
}

/// [`Action::CreateKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// A signed [`crate::records::KeyCreation`].
    #[serde(with = "serde_bytes")]
    pub creation: Vec<u8>,
}

/// [`Action::BeginVersion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BeginVersion {
    /// The key.
    pub key: KeyId,
    /// One more than the current version.
    pub version: KeyVersion,
    /// The last fencing number that the sender knows: of two attempts at once, one is refused.
    pub fencing: u64,
    /// Who shall hold the shares.
    pub committee: CommitteeId,
}

/// [`Action::AbandonVersion`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AbandonVersion {
    /// The key.
    pub key: KeyId,
    /// The pending attempt.
    pub fencing: u64,
}

/// [`Action::ActivateVersion`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivateVersion {
    /// A [`crate::records::VersionStatement`], encoded.
    #[serde(with = "serde_bytes")]
    pub statement: Vec<u8>,
    /// What is public of each share ([`threshold::CommitmentList::encode`]); the statement has its root.
    #[serde(with = "serde_bytes")]
    pub commitments: Vec<u8>,
    /// The word of every member of the committee, standbys too, in the order of their slots.
    pub acknowledgements: Vec<Acknowledgement>,
    /// The word of a worker that is not the dealer.
    pub activation: Activation,
}

/// [`Action::Retire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Retire {
    /// The key.
    pub key: KeyId,
    /// A version; absent: the whole key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<KeyVersion>,
    /// When decryption ends, not before the block's time; absent: takes a deadline that has not passed back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<TimestampMs>,
}

/// A version of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionOf {
    /// The key.
    pub key: KeyId,
    /// The version.
    pub version: KeyVersion,
}

/// [`Action::SetDeleteProtection`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetDeleteProtection {
    /// The key.
    pub key: KeyId,
    /// Whether it is protected.
    pub protected: bool,
}

/// [`Action::RevokeKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevokeKey {
    /// The key.
    pub key: KeyId,
    /// Whose grant.
    pub grantee: Principal,
    /// The grant's serial number.
    pub serial: u64,
}

/// [`Action::RecordShareRoot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecordShareRoot {
    /// What is recorded.
    pub statement: ShareRootStatement,
    /// Signatures of members of the committee, ascending by slot.
    pub signatures: Vec<Acknowledgement>,
}

/// [`Action::Govern`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Govern {
    /// A [`Decision`], encoded.
    #[serde(with = "serde_bytes")]
    pub decision: Vec<u8>,
    /// At least k, ascending by key.
    pub signatures: Vec<GovernorSignature>,
}

/// One governance key's signature over a [`Decision`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GovernorSignature {
    /// Which key.
    pub key: Principal,
    /// Ed25519.
    pub signature: Signature,
}

record! {
    /// What governance decides.
    Decision = "ledger-decision", TRANSACTION_BYTES_MAX;
    /// The ledger.
    chain: GenesisHash,
    /// Decisions are applied in this order, each once.
    sequence: u64,
    /// The last block time in which it is applied.
    expires: TimestampMs,
    /// What changes.
    change: Change,
}

impl Decision {
    /// Signs it with one of the governance keys.
    #[must_use]
    pub fn sign(
        &self,
        governor: &crypto::Identity,
        deployment: &DeploymentId,
    ) -> GovernorSignature {
        let body = crate::record::Record::encode(self);
        GovernorSignature {
            key: governor.principal(),
            signature: governor.sign(labels::GOVERNANCE, deployment, &body),
        }
    }
}

/// What governance can change. What allows more waits for the time lock (in a development deployment: for nothing); what
/// denies acts at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Allows a measurement, after the time lock.
    AllowMeasurement(MeasurementOf),
    /// Denies one, at once.
    DenyMeasurement(MeasurementOf),
    /// Sets the least that a platform's evidence must show: a higher one at once, any other after the time lock.
    SetMinimum(SetMinimum),
    /// Admits a committee, after the time lock.
    AdmitCommittee(AdmitCommittee),
    /// Enrols a worker or a gateway whose measurement is allowed.
    Enrol(Enrolment),
    /// Withdraws one, at once.
    Withdraw(RoleKey),
    /// Stops all releases of a key, at once.
    SuspendKey(KeyId),
    /// Lets them go on.
    ResumeKey(KeyId),
    /// Changes who governs, after the time lock.
    SetGovernance(Governance),
    /// Changes who signs headers, from the next block on.
    SetValidators(ValidatorSet),
}

/// A measurement in a role on a platform.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MeasurementOf {
    /// As what the code may run.
    pub role: Role,
    /// Where.
    pub platform: PlatformType,
    /// What the platform measures.
    pub measurement: Measurement,
}

/// [`Change::SetMinimum`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetMinimum {
    /// Which platform.
    pub platform: PlatformType,
    /// The least.
    pub minimum: Minimum,
}

/// [`Change::AdmitCommittee`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdmitCommittee {
    /// A [`crate::records::Committee`], encoded.
    #[serde(with = "serde_bytes")]
    pub committee: Vec<u8>,
}

/// A key in a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleKey {
    /// The role.
    pub role: Role,
    /// The key.
    pub key: Principal,
}

/// [`Action::GrantBucket`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantBucket {
    /// The bucket.
    pub bucket: BucketId,
    /// Who.
    pub grantee: Principal,
    /// What; nothing revokes.
    pub permissions: Permissions,
    /// Until when, exclusive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<TimestampMs>,
}

/// [`Action::RegisterDataset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterDataset {
    /// [`crate::records::dataset::dataset_id`] of sender and random.
    pub dataset: DatasetId,
    /// Makes the id.
    #[serde(with = "serde_bytes")]
    pub random: [u8; 32],
    /// One more than the registered version; 1 for a new dataset.
    pub version: u64,
    /// The root object.
    pub root: Cid,
    /// Over its objects.
    pub merkle: MerkleRoot,
    /// Bytes of plaintext.
    pub size_bytes: u64,
}

/// [`Action::Anchor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchor {
    /// What the root stands for.
    pub kind: AnchorKind,
    /// One more than the sender's last of this kind; 1 for the first.
    pub sequence: u64,
    /// Over the items.
    pub root: MerkleRoot,
    /// How many items.
    pub count: u64,
}
