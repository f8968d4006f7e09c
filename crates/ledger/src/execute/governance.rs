//! Decisions of governance, and share roots of committees.

use std::collections::BTreeSet;

use crypto::identity::verify;
use domain::{Epoch, KeyId, Principal};

use super::Executor;
use crate::check::malformed;
use crate::genesis::Governance;
use crate::labels;
use crate::record::Record as _;
use crate::records::committee::ShareRoot;
use crate::records::{
    Committee, CommitteeEntry, Enrolment, EnrolmentEntry, GovernanceEntry, MeasurementEntry,
    MinimumEntry, Role, ShareRootEntry, WorkerCount,
};
use crate::rejection::Rejection;
use crate::state::{StateKey, ValidatorsEntry};
use crate::transaction::{
    Change, Decision, Govern, MeasurementOf, RecordShareRoot, RoleKey, SetMinimum,
};

impl Executor<'_> {
    pub(super) fn govern(&mut self, govern: &Govern) -> Result<(), Rejection> {
        let decision = Decision::decode(&govern.decision).map_err(malformed)?;
        if decision.chain != self.chain.genesis {
            return Err(Rejection::WrongChain);
        }
        if self.now() > decision.expires {
            return Err(Rejection::Expired);
        }
        let mut entry: GovernanceEntry = self.require(&StateKey::Governance, "governance")?;
        self.check_governors(entry.at(self.now()), govern)?;
        if decision.sequence != entry.sequence {
            return Err(Rejection::OutOfSequence {
                expected: entry.sequence,
                got: decision.sequence,
            });
        }
        entry.sequence = entry.sequence.checked_add(1).ok_or(Rejection::Overflow)?;
        if let Change::SetGovernance(governance) = &decision.change {
            entry.governance = entry.at(self.now()).clone();
            entry.next = Some((governance.clone(), self.after_time_lock()?));
        }
        self.write(&StateKey::Governance, &entry);
        self.change(&decision.change)
    }

    fn check_governors(&self, governance: &Governance, govern: &Govern) -> Result<(), Rejection> {
        let signatures = &govern.signatures;
        if !signatures.is_sorted_by(|a, b| a.key < b.key) {
            return Err(Rejection::Malformed(
                "signatures stand in ascending order of keys, each once".to_owned(),
            ));
        }
        for one in signatures {
            if governance.keys().binary_search(&one.key).is_err() {
                return Err(Rejection::NotAllowed("a signer is no governance key"));
            }
        }
        let needed = usize::from(governance.k());
        if signatures.len() < needed {
            return Err(Rejection::TooFewSignatures {
                got: signatures.len(),
                needed,
            });
        }
        for one in signatures {
            verify(
                &one.key,
                labels::GOVERNANCE,
                &self.chain.deployment,
                &govern.decision,
                &one.signature,
            )
            .map_err(|_| Rejection::BadRecordSignature(one.key))?;
        }
        Ok(())
    }

    fn change(&mut self, change: &Change) -> Result<(), Rejection> {
        match change {
            Change::AllowMeasurement(of) => self.set_measurement(of, false),
            Change::DenyMeasurement(of) => self.set_measurement(of, true),
            Change::SetMinimum(set) => self.set_minimum(set),
            Change::AdmitCommittee(admit) => self.admit_committee(&admit.committee),
            Change::Enrol(enrolment) => self.enrol(enrolment),
            Change::Withdraw(role_key) => self.withdraw(role_key),
            Change::SuspendKey(key) => self.suspend(key, true),
            Change::ResumeKey(key) => self.suspend(key, false),
            // Done with the entry itself.
            Change::SetGovernance(_) => Ok(()),
            Change::SetValidators(validators) => {
                let entry = ValidatorsEntry {
                    validators: validators.clone(),
                    height: self.height(),
                };
                self.write(&StateKey::Validators, &entry);
                Ok(())
            }
        }
    }

    fn set_measurement(&mut self, of: &MeasurementOf, denied: bool) -> Result<(), Rejection> {
        let at = StateKey::Measurement(of.role, of.platform, of.measurement.clone());
        let before = self.read::<MeasurementEntry>(&at)?;
        let allowed_from = match before {
            _ if denied => self.now(),
            // Allowed already: a second decision does not set it back.
            Some(entry) if !entry.denied => entry.allowed_from,
            _ => self.after_time_lock()?,
        };
        let entry = MeasurementEntry {
            allowed_from,
            denied,
            height: self.height(),
        };
        self.write(&at, &entry);
        Ok(())
    }

    fn set_minimum(&mut self, set: &SetMinimum) -> Result<(), Rejection> {
        let at = StateKey::Minimum(set.platform);
        let now = self.now();
        let (present, waiting) = match self.read::<MinimumEntry>(&at)? {
            None => (crate::records::Minimum::default(), None),
            Some(entry) => (entry.at(now), entry.next.filter(|(_, from)| now < *from)),
        };
        let entry = if set.minimum.is_at_least(present) {
            // What waits must not lower it again behind the decision's back.
            let next = waiting.filter(|(minimum, _)| minimum.is_at_least(set.minimum));
            MinimumEntry {
                minimum: set.minimum,
                next,
                height: self.height(),
            }
        } else {
            MinimumEntry {
                minimum: present,
                next: Some((set.minimum, self.after_time_lock()?)),
                height: self.height(),
            }
        };
        self.write(&at, &entry);
        Ok(())
    }

    fn admit_committee(&mut self, bytes: &[u8]) -> Result<(), Rejection> {
        let committee = Committee::decode(bytes).map_err(malformed)?;
        committee.validate().map_err(malformed)?;
        let at = StateKey::Committee(committee.id(&self.chain.deployment));
        if self.bytes(&at).is_some() {
            return Err(Rejection::Exists("committee"));
        }
        let entry = CommitteeEntry {
            committee: bytes.to_vec(),
            height: self.height(),
            from: self.after_time_lock()?,
        };
        self.write(&at, &entry);
        Ok(())
    }

    fn enrol(&mut self, enrolment: &Enrolment) -> Result<(), Rejection> {
        if enrolment.role == Role::Custodian {
            return Err(Rejection::Malformed(
                "custodians are admitted with their committee".to_owned(),
            ));
        }
        if enrolment
            .expires
            .is_some_and(|expires| self.now() >= expires)
        {
            return Err(Rejection::Expired);
        }
        let measurement = StateKey::Measurement(
            enrolment.role,
            enrolment.platform,
            enrolment.measurement.clone(),
        );
        let allowed = self
            .read::<MeasurementEntry>(&measurement)?
            .is_some_and(|entry| entry.is_allowed(self.now()));
        if !allowed {
            return Err(Rejection::MeasurementNotAllowed);
        }
        let at = StateKey::Enrolment(enrolment.role, enrolment.key);
        if let Some(before) = self.read::<EnrolmentEntry>(&at)? {
            self.count_worker(&before, false)?;
        }
        let entry = EnrolmentEntry {
            enrolment: enrolment.clone(),
            height: self.height(),
            withdrawn: false,
        };
        self.count_worker(&entry, true)?;
        self.write(&at, &entry);
        Ok(())
    }

    fn withdraw(&mut self, role_key: &RoleKey) -> Result<(), Rejection> {
        let at = StateKey::Enrolment(role_key.role, role_key.key);
        let mut entry: EnrolmentEntry = self.require(&at, "enrolment")?;
        if entry.withdrawn {
            return Err(Rejection::WrongState("the enrolment was withdrawn"));
        }
        self.count_worker(&entry, false)?;
        entry.withdrawn = true;
        entry.height = self.height();
        self.write(&at, &entry);
        Ok(())
    }

    fn count_worker(&mut self, entry: &EnrolmentEntry, up: bool) -> Result<(), Rejection> {
        if entry.enrolment.role != Role::Worker || entry.withdrawn {
            return Ok(());
        }
        let mut count = self
            .read::<WorkerCount>(&StateKey::WorkerCount)?
            .unwrap_or(WorkerCount {
                platforms: Vec::new(),
            });
        count.change(entry.enrolment.platform, up);
        self.write(&StateKey::WorkerCount, &count);
        Ok(())
    }

    fn suspend(&mut self, key: &KeyId, suspended: bool) -> Result<(), Rejection> {
        let mut status = self.status(key)?;
        status.suspended = suspended;
        self.put_status(key, status)
    }

    pub(super) fn record_share_root(&mut self, record: &RecordShareRoot) -> Result<(), Rejection> {
        let statement = record.statement;
        let committee = self.usable_committee(&statement.committee, None)?;
        let last = self
            .bytes(&StateKey::ShareEpoch(statement.committee))
            .and_then(|bytes| <[u8; 8]>::try_from(bytes.as_ref()).ok())
            .map_or(0, u64::from_be_bytes);
        let expected = last.checked_add(1).ok_or(Rejection::Overflow)?;
        if statement.epoch.get() != expected {
            return Err(Rejection::OutOfSequence {
                expected,
                got: statement.epoch.get(),
            });
        }
        if !record.signatures.is_sorted_by(|a, b| a.slot < b.slot) {
            return Err(Rejection::Malformed(
                "signatures stand in the order of slots, each once".to_owned(),
            ));
        }
        let share_root = ShareRoot::from(statement);
        let mut primaries: BTreeSet<Principal> = BTreeSet::new();
        for one in &record.signatures {
            let member = committee
                .member(one.slot)
                .ok_or(Rejection::NotFound("member of the committee"))?;
            share_root
                .verify(&member.key, &self.chain.deployment, &one.signature)
                .map_err(|_| Rejection::BadRecordSignature(member.key))?;
            if !one.slot.standby {
                primaries.insert(member.key);
            }
        }
        let threshold = committee.threshold;
        let needed = usize::from(threshold.t().saturating_add(1).min(threshold.n()));
        if primaries.len() < needed {
            return Err(Rejection::TooFewSignatures {
                got: primaries.len(),
                needed,
            });
        }
        let entry = ShareRootEntry {
            share_root: statement,
            height: self.height(),
        };
        self.write(
            &StateKey::ShareRoot(statement.committee, statement.epoch),
            &entry,
        );
        self.write_epoch(statement.committee, statement.epoch);
        Ok(())
    }

    fn write_epoch(&mut self, committee: domain::CommitteeId, epoch: Epoch) {
        self.write_bytes(
            &StateKey::ShareEpoch(committee),
            epoch.get().to_be_bytes().to_vec(),
        );
    }
}
