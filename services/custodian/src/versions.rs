//! Shares, and attempts at versions whose fate is open.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crypto::Identity;
use custody::version::{DhOutcome, Fate, hold};
use custody::{Denial, Reason, ShareName, Shares};
use domain::{DeploymentId, PlatformType, Principal};
use enclave::{LockedPool, LockedSecret};
use ledger::records::{Acknowledgement, VersionStatement};
use threshold::dkg::Outcome;
use threshold::record::RECORD_BYTES;
use threshold::{CustodianRecord, PqShare};

use crate::store::{Open, Store, StoreError};

/// What this custodian holds.
#[derive(Debug)]
pub(crate) struct Versions {
    store: Arc<Store>,
    deployment: DeploymentId,
    platform: PlatformType,
    open: Mutex<BTreeMap<ShareName, Open>>,
    /// Whose they are, as far as the ledger has shown it since the start.
    owners: Mutex<HashMap<ShareName, Principal>>,
    open_max: usize,
    open_of_one_max: usize,
    hot: Mutex<Hot>,
}

/// Encoded shares in locked memory; the oldest goes first.
#[derive(Debug)]
struct Hot {
    pool: LockedPool,
    shares: HashMap<ShareName, LockedSecret>,
    order: VecDeque<ShareName>,
}

pub(crate) fn storage(error: &StoreError) -> Denial {
    tracing::error!(%error, "the sealed store");
    Denial::from(Reason::Storage)
}

impl Versions {
    pub(crate) fn new(
        store: Arc<Store>,
        deployment: DeploymentId,
        platform: PlatformType,
        open: BTreeMap<ShareName, Open>,
        (open_max, open_of_one_max): (usize, usize),
        pool: LockedPool,
    ) -> Self {
        Self {
            store,
            deployment,
            platform,
            open: Mutex::new(open),
            owners: Mutex::default(),
            open_max,
            open_of_one_max,
            hot: Mutex::new(Hot {
                pool,
                shares: HashMap::new(),
                order: VecDeque::new(),
            }),
        }
    }

    /// Attempts whose fate is open, at most `max`, after `after`.
    pub(crate) fn open_after(&self, after: Option<ShareName>, max: usize) -> Vec<ShareName> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        let open = lock(&self.open);
        open.range((from, Unbounded))
            .map(|(name, _)| *name)
            .take(max)
            .collect()
    }

    /// Whose key an attempt is at.
    pub(crate) fn belongs(&self, name: ShareName, owner: Principal) {
        lock(&self.owners).insert(name, owner);
    }

    /// Whether another attempt at a key of that owner may begin, and has not left outcomes behind.
    pub(crate) fn may_begin(&self, name: &ShareName, owner: &Principal) -> Result<(), Denial> {
        let open = lock(&self.open);
        if open.contains_key(name) {
            return Err(Denial::new(
                Reason::KeyState,
                "this attempt was interrupted here: go on with what was made, or begin another",
            ));
        }
        if open.len() >= self.open_max {
            return Err(Denial::new(Reason::Busy, "versions that are being made"));
        }
        let mut owners = lock(&self.owners);
        // Those that began and never came to an outcome.
        if owners.len() >= self.open_max.saturating_mul(2) {
            owners.retain(|name, _| open.contains_key(name));
        }
        let of_one = open.keys().filter(|name| owners.get(name) == Some(owner));
        if of_one.count() >= self.open_of_one_max {
            return Err(Denial::new(
                Reason::Busy,
                "versions of this owner's keys that are being made",
            ));
        }
        owners.insert(*name, *owner);
        Ok(())
    }

    /// Keeps the outcome of a key generation durably.
    pub(crate) fn keep(&self, name: &ShareName, outcome: &Outcome) -> Result<(), Denial> {
        // Under the lock, so that what is settled meanwhile is not half there.
        let mut open = lock(&self.open);
        self.store
            .put_outcome(name, outcome)
            .map_err(|error| storage(&error))?;
        open.entry(*name)
            .or_default()
            .attempts
            .insert(outcome.attempt);
        Ok(())
    }

    /// Checks a dealt share, makes it durable, and signs for it. The same again gives the same.
    pub(crate) fn hold(
        &self,
        me: &Identity,
        statement: &VersionStatement,
        statement_bytes: &[u8],
        commitments: &[u8],
        attempt: u8,
        pq_share: &crypto::Secret<{ threshold::pq::PQ_SHARE_BYTES }>,
    ) -> Result<Acknowledgement, Denial> {
        let name = ShareName::from(statement);
        let hash = *blake3::hash(statement_bytes).as_bytes();
        let mut open = lock(&self.open);
        let state = open.get(&name).ok_or_else(|| {
            Denial::new(Reason::UnknownShare, "no key generation of this attempt")
        })?;
        if let Some(held) = state.held {
            if held != hash {
                return Err(Denial::new(
                    Reason::Statement,
                    "a share of another statement of this attempt is held: begin another",
                ));
            }
            let record = self.read(&name)?.ok_or(Reason::UnknownShare)?;
            return Ok(statement.acknowledge(me, &self.deployment, record.slot()));
        }
        let outcome: DhOutcome = self
            .store
            .outcome(&name, attempt)
            .map_err(|error| storage(&error))?
            .ok_or_else(|| Denial::new(Reason::UnknownShare, "no such outcome"))?;
        let malformed = || Denial::new(Reason::Malformed, "a share");
        let pq_share =
            PqShare::from_secret(outcome.share.index(), pq_share).ok_or_else(malformed)?;
        let record = hold(
            &self.deployment,
            &name,
            outcome,
            self.platform,
            statement,
            commitments,
            pq_share,
        )?;
        self.store
            .hold(&name, &record, &hash, state)
            .map_err(|error| storage(&error))?;
        open.insert(
            name,
            Open {
                held: Some(hash),
                ..Open::default()
            },
        );
        Ok(statement.acknowledge(me, &self.deployment, record.slot()))
    }

    /// The share that is held for that statement, while its fate is open.
    pub(crate) fn pending_share(
        &self,
        name: &ShareName,
        statement_bytes: &[u8],
    ) -> Result<CustodianRecord, Denial> {
        let held = lock(&self.open).get(name).and_then(|open| open.held);
        if held != Some(*blake3::hash(statement_bytes).as_bytes()) {
            return Err(Reason::UnknownShare.into());
        }
        self.read(name)?.ok_or_else(|| Reason::UnknownShare.into())
    }

    /// Ends attempts whose fate a proof has shown.
    pub(crate) fn settle(&self, name: &ShareName, fate: Fate) -> Result<(), Denial> {
        if fate == Fate::Open {
            return Ok(());
        }
        let mut open = lock(&self.open);
        let Some(state) = open.get(name) else {
            return Ok(());
        };
        let active = fate == Fate::Active;
        self.store
            .settle(name, state, active)
            .map_err(|error| storage(&error))?;
        open.remove(name);
        drop(open);
        lock(&self.owners).remove(name);
        if !active {
            lock(&self.hot).forget(name);
        }
        tracing::info!(key = %name.key, version = %name.version, fencing = name.fencing, ?fate, "an attempt ended");
        Ok(())
    }

    /// A release was permitted: this attempt is the active one, and others at the same version are lost.
    pub(crate) fn seen_active(&self, active: &ShareName) -> Result<(), Denial> {
        let of_version: Vec<ShareName> = {
            let open = lock(&self.open);
            let (first, last) = (
                ShareName {
                    fencing: 0,
                    ..*active
                },
                ShareName {
                    fencing: u64::MAX,
                    ..*active
                },
            );
            open.range(first..=last).map(|(name, _)| *name).collect()
        };
        for name in of_version {
            let fate = if name == *active {
                Fate::Active
            } else {
                Fate::Lost
            };
            self.settle(&name, fate)?;
        }
        Ok(())
    }

    fn read(&self, name: &ShareName) -> Result<Option<CustodianRecord>, Denial> {
        let damaged = |error: threshold::record::RecordError| {
            tracing::error!(%error, "a share in the sealed store");
            Denial::from(Reason::Storage)
        };
        let known = lock(&self.hot)
            .shares
            .get(name)
            .map(|bytes| CustodianRecord::decode(self.deployment, bytes.expose()));
        if let Some(known) = known {
            return known.map(Some).map_err(damaged);
        }
        let Some(mut bytes) = self.store.share(name).map_err(|error| storage(&error))? else {
            return Ok(None);
        };
        let record = CustodianRecord::decode(self.deployment, &bytes).map_err(damaged)?;
        lock(&self.hot).keep(*name, &mut bytes);
        Ok(Some(record))
    }
}

impl Shares for Versions {
    fn share(&self, name: &ShareName) -> Result<Option<CustodianRecord>, Denial> {
        self.read(name)
    }
}

impl Hot {
    fn keep(&mut self, name: ShareName, bytes: &mut [u8]) {
        if self.shares.contains_key(&name) {
            return;
        }
        while self.pool.free() == 0
            && let Some(oldest) = self.order.pop_front()
        {
            self.shares.remove(&oldest);
        }
        // Without a place it is read from the store again.
        if let Ok(secret) = self.pool.take(bytes) {
            self.shares.insert(name, secret);
            self.order.push_back(name);
        }
    }

    fn forget(&mut self, name: &ShareName) {
        self.shares.remove(name);
        self.order.retain(|kept| kept != name);
    }
}

/// Locked memory for that many shares.
pub(crate) fn pool(shares: usize) -> Result<LockedPool, enclave::LockError> {
    LockedPool::new(shares.max(1), RECORD_BYTES.next_power_of_two())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use attestation::{Role, SealingKeySource, SourceError};
    use crypto::Secret;
    use domain::{KeyId, KeyVersion};

    use super::*;

    struct Fixed;

    impl SealingKeySource for Fixed {
        fn platform(&self) -> PlatformType {
            PlatformType::Software
        }

        fn sealing_root(&self, _: Role) -> Result<Secret<32>, SourceError> {
            Ok(Secret::take(&mut [9; 32]))
        }
    }

    fn name(number: u8) -> ShareName {
        ShareName {
            key: KeyId([number; 32]),
            version: KeyVersion::FIRST,
            fencing: 1,
        }
    }

    /// With attempts 1 to 3 open.
    fn versions(dir: &std::path::Path, bounds: (usize, usize)) -> Versions {
        let deployment = DeploymentId([1; 32]);
        let store = Store::open(dir, deployment, &Fixed).unwrap();
        let open = (1..=3).map(|number| (name(number), Open::default()));
        Versions::new(
            Arc::new(store),
            deployment,
            PlatformType::Software,
            open.collect(),
            bounds,
            pool(1).unwrap(),
        )
    }

    #[test]
    fn nobody_keeps_all_others_from_making_keys() {
        let dir = tempfile::tempdir().unwrap();
        let versions = versions(dir.path(), (10, 2));
        let (one, other) = (Principal([1; 32]), Principal([2; 32]));
        let busy = |name, owner| {
            let refused = versions.may_begin(&name, owner).err();
            refused.map(|denial| denial.reason) == Some(Reason::Busy)
        };
        for number in 1..=2 {
            versions.belongs(name(number), one);
        }
        assert!(busy(name(4), &one));
        assert!(!busy(name(5), &other));
        // One of them came to its end: there is room for another.
        versions.settle(&name(1), Fate::Lost).unwrap();
        assert!(!busy(name(4), &one));
        assert!(lock(&versions.owners).len() <= 4);
    }

    #[test]
    fn what_is_open_is_bounded_for_all_together() {
        let dir = tempfile::tempdir().unwrap();
        let versions = versions(dir.path(), (3, 2));
        let owner = Principal([1; 32]);
        let refused = versions.may_begin(&name(4), &owner).unwrap_err();
        assert_eq!(refused.reason, Reason::Busy);
        versions.settle(&name(2), Fate::Active).unwrap();
        versions.may_begin(&name(4), &owner).unwrap();
    }
}
