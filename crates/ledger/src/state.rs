//! The state: keys and values under one Merkle root.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::{
    BucketId, CommitteeId, DatasetId, Epoch, Height, KeyId, KeyName, KeyVersion, MerkleRoot,
    PlatformType, Principal,
};

use crate::genesis::Genesis;
use crate::header::ValidatorSet;
use crate::merkle::{StateProof, Tree};
use crate::record::{Record, record};
use crate::records::{AnchorKind, GovernanceEntry, Measurement, Role};

/// Names a value of the state. The encoding is one byte of kind, then the fields in order, numbers big-endian, so keys of one
/// kind with the same beginning lie side by side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateKey {
    /// The [`Genesis`] record.
    Genesis,
    /// Who signs headers: [`ValidatorsEntry`].
    Validators,
    /// Who governs: [`GovernanceEntry`].
    Governance,
    /// How many workers are enrolled: [`crate::records::WorkerCount`].
    WorkerCount,
    /// [`crate::records::Account`].
    Account(Principal),
    /// The signed [`crate::records::KeyCreation`], as it came.
    KeyCreation(KeyId),
    /// [`crate::records::KeyStatus`].
    KeyStatus(KeyId),
    /// The id (32 bytes) of the owner's key of that name.
    KeyName(Principal, KeyName),
    /// [`crate::records::VersionEntry`].
    KeyVersion(KeyId, KeyVersion),
    /// [`crate::records::GrantEntry`].
    KeyGrant(KeyId, Principal),
    /// [`crate::records::CommitteeEntry`].
    Committee(CommitteeId),
    /// [`crate::records::ShareRootEntry`].
    ShareRoot(CommitteeId, Epoch),
    /// The epoch (8 bytes) of a committee's newest share root.
    ShareEpoch(CommitteeId),
    /// [`crate::records::MeasurementEntry`].
    Measurement(Role, PlatformType, Measurement),
    /// [`crate::records::MinimumEntry`].
    Minimum(PlatformType),
    /// [`crate::records::EnrolmentEntry`].
    Enrolment(Role, Principal),
    /// [`crate::records::BucketEntry`].
    Bucket(BucketId),
    /// [`crate::records::BucketGrantEntry`].
    BucketGrant(BucketId, Principal),
    /// [`crate::records::DatasetEntry`].
    Dataset(DatasetId),
    /// [`crate::records::AnchorHead`].
    AnchorHead(Principal, AnchorKind),
    /// [`crate::records::AnchorEntry`].
    Anchor(Principal, AnchorKind, u64),
}

impl StateKey {
    /// The key's bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(80);
        out.push(self.kind());
        match self {
            Self::Genesis | Self::Validators | Self::Governance | Self::WorkerCount => {}
            Self::Account(principal) => out.extend(principal.0),
            Self::KeyCreation(key) | Self::KeyStatus(key) => out.extend(key.0),
            Self::KeyName(owner, name) => {
                out.extend(owner.0);
                out.extend(name.as_str().as_bytes());
            }
            Self::KeyVersion(key, version) => {
                out.extend(key.0);
                out.extend(version.get().to_be_bytes());
            }
            Self::KeyGrant(key, grantee) => {
                out.extend(key.0);
                out.extend(grantee.0);
            }
            Self::Committee(committee) | Self::ShareEpoch(committee) => out.extend(committee.0),
            Self::ShareRoot(committee, epoch) => {
                out.extend(committee.0);
                out.extend(epoch.get().to_be_bytes());
            }
            Self::Measurement(role, platform, measurement) => {
                out.push(role.code());
                out.push(platform.code());
                out.extend(measurement.as_bytes());
            }
            Self::Minimum(platform) => out.push(platform.code()),
            Self::Enrolment(role, key) => {
                out.push(role.code());
                out.extend(key.0);
            }
            Self::Bucket(bucket) => out.extend(bucket.0),
            Self::BucketGrant(bucket, grantee) => {
                out.extend(bucket.0);
                out.extend(grantee.0);
            }
            Self::Dataset(dataset) => out.extend(dataset.0),
            Self::AnchorHead(principal, kind) => {
                out.extend(principal.0);
                out.push(kind.code());
            }
            Self::Anchor(principal, kind, sequence) => {
                out.extend(principal.0);
                out.push(kind.code());
                out.extend(sequence.to_be_bytes());
            }
        }
        out
    }

    /// What [`StateKey::Measurement`] was encoded from; `None` for any other key.
    #[must_use]
    pub fn parse_measurement(key: &[u8]) -> Option<(Role, PlatformType, Measurement)> {
        let [35, role, platform, measurement @ ..] = key else {
            return None;
        };
        Some((
            Role::from_code(*role)?,
            PlatformType::try_from(*platform).ok()?,
            Measurement::new(measurement.to_vec()).ok()?,
        ))
    }

    /// Stable: part of every key.
    fn kind(&self) -> u8 {
        match self {
            Self::Genesis => 1,
            Self::Validators => 2,
            Self::Governance => 3,
            Self::WorkerCount => 4,
            Self::Account(_) => 5,
            Self::KeyCreation(_) => 16,
            Self::KeyStatus(_) => 17,
            Self::KeyName(..) => 18,
            Self::KeyVersion(..) => 19,
            Self::KeyGrant(..) => 20,
            Self::Committee(_) => 32,
            Self::ShareRoot(..) => 33,
            Self::ShareEpoch(_) => 34,
            Self::Measurement(..) => 35,
            Self::Minimum(_) => 36,
            Self::Enrolment(..) => 37,
            Self::Bucket(_) => 48,
            Self::BucketGrant(..) => 49,
            Self::Dataset(_) => 50,
            Self::AnchorHead(..) => 51,
            Self::Anchor(..) => 52,
        }
    }
}

/// The beginning of every key of a kind that belongs to one thing, for [`State::list`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatePrefix {
    /// Names of an owner's keys.
    KeyNames(Principal),
    /// Versions of a key.
    KeyVersions(KeyId),
    /// Grants of a key.
    KeyGrants(KeyId),
    /// Grants of a bucket.
    BucketGrants(BucketId),
    /// Committees.
    Committees,
    /// Measurements of the policy.
    Measurements,
    /// Enrolled keys.
    Enrolments,
}

impl StatePrefix {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let (kind, id): (u8, &[u8]) = match self {
            Self::KeyNames(owner) => (18, &owner.0),
            Self::KeyVersions(key) => (19, &key.0),
            Self::KeyGrants(key) => (20, &key.0),
            Self::BucketGrants(bucket) => (49, &bucket.0),
            Self::Committees => (32, &[]),
            Self::Measurements => (35, &[]),
            Self::Enrolments => (37, &[]),
        };
        [&[kind], id].concat()
    }

    /// Reads what [`StatePrefix::encode`] gives; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (kind, id) = bytes.split_first()?;
        let id32 = || <[u8; 32]>::try_from(id).ok();
        match kind {
            18 => id32().map(|id| Self::KeyNames(Principal(id))),
            19 => id32().map(|id| Self::KeyVersions(KeyId(id))),
            20 => id32().map(|id| Self::KeyGrants(KeyId(id))),
            49 => id32().map(|id| Self::BucketGrants(BucketId(id))),
            32 if id.is_empty() => Some(Self::Committees),
            35 if id.is_empty() => Some(Self::Measurements),
            37 if id.is_empty() => Some(Self::Enrolments),
            _ => None,
        }
    }
}

record! {
    /// Who signs headers from the next block on.
    ValidatorsEntry = "validators", 8_192;
    /// The set.
    validators: ValidatorSet,
    /// The block of the last change.
    height: Height,
}

/// New values by key; `None` removes.
pub type Writes = BTreeMap<Arc<[u8]>, Option<Arc<[u8]>>>;

/// Keys with their values, each key once.
pub type Entries = Vec<(Arc<[u8]>, Arc<[u8]>)>;

/// Everything the ledger holds, at one height.
#[derive(Clone, Debug)]
pub struct State {
    values: BTreeMap<Arc<[u8]>, Arc<[u8]>>,
    tree: Tree,
    height: Height,
    genesis: Arc<Genesis>,
}

/// A block that does not follow the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("block {got} does not follow height {height}")]
pub struct Gap {
    /// The state's height.
    pub height: Height,
    /// The block's.
    pub got: Height,
}

impl State {
    /// The state at height 0.
    #[must_use]
    pub fn genesis(genesis: Genesis) -> Self {
        let entries: [(StateKey, Vec<u8>); 3] = [
            (StateKey::Genesis, genesis.encode()),
            (
                StateKey::Validators,
                ValidatorsEntry {
                    validators: genesis.validators.clone(),
                    height: Height(0),
                }
                .encode(),
            ),
            (
                StateKey::Governance,
                GovernanceEntry {
                    governance: genesis.governance.clone(),
                    next: None,
                    sequence: 1,
                }
                .encode(),
            ),
        ];
        let entries = entries
            .into_iter()
            .map(|(key, value)| (key.encode().into(), value.into()));
        Self::from_entries(genesis, Height(0), entries.collect())
    }

    /// The state that a snapshot holds. Whether it is the right one is for the caller to see by [`State::root`].
    #[must_use]
    pub fn from_entries(genesis: Genesis, height: Height, entries: Entries) -> Self {
        let tree = Tree::default().updated(entries.iter().map(|(key, value)| (key, Some(value))));
        Self {
            values: entries.into_iter().collect(),
            tree,
            height,
            genesis: Arc::new(genesis),
        }
    }

    /// The last block that is part of it.
    #[must_use]
    pub fn height(&self) -> Height {
        self.height
    }

    /// The genesis record.
    #[must_use]
    pub fn genesis_record(&self) -> &Genesis {
        &self.genesis
    }

    /// The Merkle root.
    #[must_use]
    pub fn root(&self) -> MerkleRoot {
        MerkleRoot(self.tree.root())
    }

    /// The tree. Cheap to clone: a snapshot is written from it while blocks go on.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// The bytes at a key.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Arc<[u8]>> {
        self.values.get(key)
    }

    /// The record at a key.
    ///
    /// # Errors
    /// [`records::RecordError`] when what is there is another.
    pub fn record<T: Record>(&self, key: &StateKey) -> Result<Option<T>, records::RecordError> {
        self.get(&key.encode())
            .map(|bytes| T::decode(bytes))
            .transpose()
    }

    /// The bytes at a key, or that there are none, with the proof.
    #[must_use]
    pub fn prove(&self, key: &[u8]) -> (Option<Arc<[u8]>>, StateProof) {
        self.tree.prove(key)
    }

    /// Keys that begin with `prefix`, after `after`, in order, at most `limit`. Without proof: nothing shows that none is left out.
    pub fn list<'a>(
        &'a self,
        prefix: &'a [u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> impl Iterator<Item = (&'a Arc<[u8]>, &'a Arc<[u8]>)> {
        use std::ops::Bound;
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.values
            .range::<[u8], _>((from, Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(prefix))
            .take(limit)
    }

    /// Takes a block's writes; the block at or below the state's height is known already and changes nothing. Returns whether anything
    /// was taken.
    ///
    /// # Errors
    /// [`Gap`] for a block that is not the next.
    pub fn commit(&mut self, executed: &crate::execute::Executed) -> Result<bool, Gap> {
        if executed.height <= self.height {
            return Ok(false);
        }
        if self.height.0.checked_add(1) != Some(executed.height.0) {
            return Err(Gap {
                height: self.height,
                got: executed.height,
            });
        }
        for (key, value) in &executed.writes {
            match value {
                Some(value) => {
                    self.values.insert(key.clone(), value.clone());
                }
                None => {
                    self.values.remove(key);
                }
            }
        }
        self.tree = executed.tree.clone();
        self.height = executed.height;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_and_measurements_read_back_and_nothing_else_does() {
        let prefixes = [
            StatePrefix::KeyNames(Principal([1; 32])),
            StatePrefix::KeyVersions(KeyId([2; 32])),
            StatePrefix::KeyGrants(KeyId([3; 32])),
            StatePrefix::BucketGrants(BucketId([4; 32])),
            StatePrefix::Committees,
            StatePrefix::Measurements,
            StatePrefix::Enrolments,
        ];
        for prefix in prefixes {
            let bytes = prefix.encode();
            assert_eq!(StatePrefix::decode(&bytes), Some(prefix));
            assert_eq!(StatePrefix::decode(&[&bytes[..], &[0]].concat()), None);
            assert_eq!(StatePrefix::decode(&bytes[..bytes.len() - 1]), None);
        }
        assert_eq!(StatePrefix::decode(&[1]), None);
        let measurement = Measurement::new(vec![7; 32]).unwrap();
        for role in [Role::Custodian, Role::Worker, Role::Gateway] {
            let key = StateKey::Measurement(role, PlatformType::Tdx, measurement.clone()).encode();
            assert_eq!(
                StateKey::parse_measurement(&key),
                Some((role, PlatformType::Tdx, measurement.clone()))
            );
        }
        let minimum = StateKey::Minimum(PlatformType::Tdx).encode();
        for bad in [&minimum[..], &[35, 9, 0, 1], &[35, 1, 99, 1], &[35, 1], &[]] {
            assert_eq!(StateKey::parse_measurement(bad), None);
        }
    }
}
