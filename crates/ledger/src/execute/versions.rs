//! Versions of keys: one attempt after the other, and none half done.

use domain::{CommitteeId, Epoch, KeyId, KeyVersion, Principal, TimestampMs};
use sealed::signed::Signed;

use super::Executor;
use crate::check::malformed;
use crate::record::Record as _;
use crate::records::{
    Committee, EnrolmentEntry, KeyCreation, KeyStatus, Operations, Pending, Role, VersionEntry,
    VersionStatement, WorkerCount,
};
use crate::rejection::Rejection;
use crate::state::StateKey;
use crate::transaction::{AbandonVersion, ActivateVersion, BeginVersion};

impl Executor<'_> {
    pub(super) fn pending(
        &self,
        version: KeyVersion,
        fencing: u64,
        committee: CommitteeId,
    ) -> Result<Pending, Rejection> {
        let deadline = self
            .now()
            .0
            .checked_add(self.chain.limits.pending_ms)
            .map(TimestampMs)
            .ok_or(Rejection::Overflow)?;
        Ok(Pending {
            version,
            fencing,
            committee,
            deadline,
        })
    }

    pub(super) fn begin_version(
        &mut self,
        sender: Principal,
        begin: &BeginVersion,
    ) -> Result<(), Rejection> {
        let mut status = self.status(&begin.key)?;
        self.may_rotate(sender, &begin.key, &status)?;
        if status.retires.is_some() {
            return Err(Rejection::WrongState("the key is retiring"));
        }
        if begin.fencing != status.fencing {
            return Err(Rejection::Fenced {
                got: begin.fencing,
                current: status.fencing,
            });
        }
        if let Some(pending) = status.pending
            && self.now() < pending.deadline
        {
            return Err(Rejection::VersionPending(pending.version));
        }
        let next = status
            .current
            .map_or(Some(KeyVersion::FIRST), KeyVersion::next)
            .ok_or(Rejection::Overflow)?;
        if begin.version != next || next.get() > self.chain.limits.key_versions {
            return Err(Rejection::WrongVersion { next });
        }
        let creation = self.creation(&begin.key)?;
        // Threshold and committee are the owner's word, which everybody can check: a key stays with the committee of its creation.
        if begin.committee != creation.committee {
            return Err(Rejection::Malformed(
                "a key's versions are made by the committee that its creation names".to_owned(),
            ));
        }
        self.usable_committee(&begin.committee, Some(creation.threshold))?;
        let fencing = status.fencing.checked_add(1).ok_or(Rejection::Overflow)?;
        status.fencing = fencing;
        status.pending = Some(self.pending(next, fencing, begin.committee)?);
        self.put_status(&begin.key, status)
    }

    pub(super) fn abandon_version(
        &mut self,
        sender: Principal,
        abandon: &AbandonVersion,
    ) -> Result<(), Rejection> {
        let mut status = self.status(&abandon.key)?;
        self.may_rotate(sender, &abandon.key, &status)?;
        let pending = status.pending.ok_or(Rejection::NothingPending)?;
        if pending.fencing != abandon.fencing {
            return Err(Rejection::Fenced {
                got: abandon.fencing,
                current: pending.fencing,
            });
        }
        status.pending = None;
        self.put_status(&abandon.key, status)
    }

    pub(super) fn activate_version(&mut self, activate: &ActivateVersion) -> Result<(), Rejection> {
        let statement = VersionStatement::decode(&activate.statement).map_err(malformed)?;
        let mut status = self.status(&statement.key)?;
        let pending = status.pending.ok_or(Rejection::NothingPending)?;
        if pending.fencing != statement.fencing {
            return Err(Rejection::Fenced {
                got: statement.fencing,
                current: pending.fencing,
            });
        }
        // From then on its shares are erased.
        if self.now() >= pending.deadline {
            return Err(Rejection::AttemptOver);
        }
        let expected = (pending.version, pending.committee, Epoch::FIRST);
        if (statement.version, statement.committee, statement.epoch) != expected {
            return Err(Rejection::Malformed(
                "the statement is of another version, committee or epoch than the pending one"
                    .to_owned(),
            ));
        }
        let committee = self.usable_committee(&pending.committee, None)?;
        statement
            .commitment_list(
                &self.chain.deployment,
                committee.threshold,
                &activate.commitments,
            )
            .map_err(|error| Rejection::Malformed(error.to_string()))?;
        self.check_acknowledgements(&statement, &committee, activate)?;
        self.check_workers(&statement, activate)?;
        let primaries = activate
            .acknowledgements
            .iter()
            .filter(|acknowledgement| !acknowledgement.slot.standby)
            .copied()
            .collect();
        let entry = VersionEntry {
            statement: activate.statement.clone(),
            commitments: activate.commitments.clone(),
            acknowledgements: primaries,
            activation: activate.activation,
            epoch: statement.epoch,
            committee: statement.committee,
            height: self.height(),
            retires: None,
            destroyed: false,
        };
        self.write(
            &StateKey::KeyVersion(statement.key, statement.version),
            &entry,
        );
        status.current = Some(statement.version);
        status.pending = None;
        self.put_status(&statement.key, status)
    }

    /// Every member, standbys too, in the order of slots, each with its own signature.
    fn check_acknowledgements(
        &self,
        statement: &VersionStatement,
        committee: &Committee,
        activate: &ActivateVersion,
    ) -> Result<(), Rejection> {
        let slots = activate.acknowledgements.iter().map(|a| a.slot);
        if !slots.eq(committee.members.iter().map(|member| member.slot)) {
            return Err(Rejection::AcknowledgementsMissing);
        }
        for (member, acknowledgement) in committee.members.iter().zip(&activate.acknowledgements) {
            statement
                .verify_acknowledgement(&member.key, &self.chain.deployment, acknowledgement)
                .map_err(|_| Rejection::BadRecordSignature(member.key))?;
        }
        Ok(())
    }

    /// Dealer and activating worker are enrolled, are two, and run on platforms of two vendors where there are two.
    fn check_workers(
        &self,
        statement: &VersionStatement,
        activate: &ActivateVersion,
    ) -> Result<(), Rejection> {
        let dealer = self.worker(statement.dealer)?;
        let activator = self.worker(activate.activation.worker)?;
        if statement.dealer == activate.activation.worker {
            return Err(Rejection::WorkerNotIndependent);
        }
        let platforms = self
            .read::<WorkerCount>(&StateKey::WorkerCount)?
            .map_or(0, |count| count.platforms.len());
        if platforms > 1 && dealer.enrolment.platform == activator.enrolment.platform {
            return Err(Rejection::WorkerNotIndependent);
        }
        statement
            .verify_activation(&self.chain.deployment, &activate.activation)
            .map_err(|_| Rejection::BadRecordSignature(activate.activation.worker))
    }

    fn worker(&self, key: Principal) -> Result<EnrolmentEntry, Rejection> {
        self.read::<EnrolmentEntry>(&StateKey::Enrolment(Role::Worker, key))?
            .filter(|entry| entry.is_active(self.now()))
            .ok_or(Rejection::NotEnrolled(key))
    }

    /// The owner, or the holder of a chain of grants that allows rotation.
    fn may_rotate(
        &self,
        sender: Principal,
        key: &KeyId,
        status: &KeyStatus,
    ) -> Result<(), Rejection> {
        self.holds(&status.owner, key, sender, Operations::ROTATE)
    }

    pub(super) fn creation(&self, key: &KeyId) -> Result<Signed<KeyCreation>, Rejection> {
        let bytes = self
            .bytes(&StateKey::KeyCreation(*key))
            .ok_or(Rejection::NotFound("key"))?;
        Signed::decode(bytes).map_err(|error| Rejection::StateDamaged(error.to_string()))
    }
}
