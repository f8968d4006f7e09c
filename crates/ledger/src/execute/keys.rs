//! Named keys: creation, retirement, protection.

use domain::{Height, KeyId, KeyVersion, Principal};

use super::Executor;
use crate::check::Brought;
use crate::records::{CommitteeEntry, KeyState, KeyStatus, VersionEntry};
use crate::rejection::Rejection;
use crate::state::StateKey;
use crate::transaction::{CreateKey, Retire, SetDeleteProtection, VersionOf};

impl Executor<'_> {
    pub(super) fn create_key(
        &mut self,
        brought: &Brought,
        create: &CreateKey,
    ) -> Result<(), Rejection> {
        let Brought::Creation(key, creation) = brought else {
            return Err(Rejection::Malformed("no creation record".to_owned()));
        };
        if self.bytes(&StateKey::KeyStatus(*key)).is_some() {
            return Err(Rejection::Exists("key"));
        }
        let name = StateKey::KeyName(creation.owner, creation.name.clone());
        if self.bytes(&name).is_some() {
            return Err(Rejection::Exists("key name"));
        }
        self.usable_committee(&creation.committee, Some(creation.threshold))?;
        let pending = self.pending(KeyVersion::FIRST, 1, creation.committee)?;
        let status = KeyStatus {
            owner: creation.owner,
            current: None,
            pending: Some(pending),
            fencing: 1,
            min_decrypt: KeyVersion::FIRST,
            delete_protected: false,
            suspended: false,
            retires: None,
            height: self.context.height,
        };
        self.write_bytes(&StateKey::KeyCreation(*key), create.creation.clone());
        self.write(&StateKey::KeyStatus(*key), &status);
        self.write_bytes(&name, key.0.to_vec());
        Ok(())
    }

    pub(super) fn retire(&mut self, sender: Principal, retire: &Retire) -> Result<(), Rejection> {
        let now = self.now();
        if retire.deadline.is_some_and(|deadline| deadline < now) {
            return Err(Rejection::WrongState("the deadline has passed"));
        }
        let mut status = self.owned_key(sender, &retire.key)?;
        let Some(version) = retire.version else {
            if status.state(now) == KeyState::Retired {
                return Err(Rejection::WrongState("the key is retired"));
            }
            if status.delete_protected && retire.deadline.is_some() {
                return Err(Rejection::DeleteProtected);
            }
            if status.current.is_none() {
                return Err(Rejection::WrongState("no version of the key is active"));
            }
            status.retires = retire.deadline;
            if retire.deadline.is_some() {
                status.pending = None;
            }
            return self.put_status(&retire.key, status);
        };
        if status.current == Some(version) {
            return Err(Rejection::WrongState(
                "the current version retires when a newer one is there, or with its key",
            ));
        }
        let (at, mut entry) = self.version(&retire.key, version)?;
        if !entry.state(now).decrypts() {
            return Err(Rejection::WrongState("the version is retired"));
        }
        entry.retires = retire.deadline;
        self.write(&at, &entry);
        Ok(())
    }

    pub(super) fn destroy_version(
        &mut self,
        sender: Principal,
        target: &VersionOf,
    ) -> Result<(), Rejection> {
        let now = self.now();
        let status = self.owned_key(sender, &target.key)?;
        if status.delete_protected {
            return Err(Rejection::DeleteProtected);
        }
        let (at, mut entry) = self.version(&target.key, target.version)?;
        let retired =
            status.state(now) == KeyState::Retired || entry.state(now) == KeyState::Retired;
        if entry.destroyed || !retired {
            return Err(Rejection::WrongState("only what is retired is destroyed"));
        }
        entry.destroyed = true;
        self.write(&at, &entry);
        Ok(())
    }

    pub(super) fn set_min_decrypt(
        &mut self,
        sender: Principal,
        target: &VersionOf,
    ) -> Result<(), Rejection> {
        let mut status = self.owned_key(sender, &target.key)?;
        if status
            .current
            .is_none_or(|current| target.version > current)
        {
            return Err(Rejection::NotFound("version"));
        }
        status.min_decrypt = target.version;
        self.put_status(&target.key, status)
    }

    pub(super) fn set_delete_protection(
        &mut self,
        sender: Principal,
        set: &SetDeleteProtection,
    ) -> Result<(), Rejection> {
        let mut status = self.owned_key(sender, &set.key)?;
        status.delete_protected = set.protected;
        self.put_status(&set.key, status)
    }

    pub(super) fn status(&self, key: &KeyId) -> Result<KeyStatus, Rejection> {
        self.require(&StateKey::KeyStatus(*key), "key")
    }

    pub(super) fn put_status(
        &mut self,
        key: &KeyId,
        mut status: KeyStatus,
    ) -> Result<(), Rejection> {
        status.height = self.context.height;
        self.write(&StateKey::KeyStatus(*key), &status);
        Ok(())
    }

    fn owned_key(&self, sender: Principal, key: &KeyId) -> Result<KeyStatus, Rejection> {
        let status = self.status(key)?;
        if status.owner != sender {
            return Err(Rejection::NotAllowed("only the key's owner may"));
        }
        Ok(status)
    }

    fn version(
        &self,
        key: &KeyId,
        version: KeyVersion,
    ) -> Result<(StateKey, VersionEntry), Rejection> {
        let at = StateKey::KeyVersion(*key, version);
        let entry = self.require(&at, "version")?;
        Ok((at, entry))
    }

    /// A committee that is admitted, in force, and has the wanted threshold.
    pub(super) fn usable_committee(
        &self,
        id: &domain::CommitteeId,
        threshold: Option<domain::Threshold>,
    ) -> Result<crate::records::Committee, Rejection> {
        let entry: CommitteeEntry = self.require(&StateKey::Committee(*id), "committee")?;
        if self.now() < entry.from {
            return Err(Rejection::TimeLocked);
        }
        let committee = self.decode_stored::<crate::records::Committee>(&entry.committee)?;
        if threshold.is_some_and(|threshold| threshold != committee.threshold) {
            return Err(Rejection::Malformed(
                "the committee has another threshold than the key".to_owned(),
            ));
        }
        Ok(committee)
    }

    pub(super) fn decode_stored<T: crate::record::Record>(
        &self,
        bytes: &[u8],
    ) -> Result<T, Rejection> {
        T::decode(bytes).map_err(|error| Rejection::StateDamaged(error.to_string()))
    }

    pub(super) fn height(&self) -> Height {
        self.context.height
    }
}
