//! What one worker process has.

use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use attestation::{Measurement, Role};
use crypto::Identity;
use custody::proof::{LedgerName, VerifiedVersion};
use custody::{Cache, Denial, LedgerView, Reason};
use domain::{KeyId, KeyVersion, PlatformType, Principal};
use enclave::{LockError, LockedPool};
use enclave_client::{Pool, Refusal};
use enclave_wire::v1;
use getrandom::SysRng;
use rand_core::UnwrapErr;
use threshold::pq::PQ_SHARE_BYTES;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::choice::Speeds;
use crate::counters::Counters;
use crate::refusal::deny;
use crate::settings::Settings;

/// Answers about dealt versions that are remembered.
const DEALT_MAX: usize = 256;

/// What a worker says of itself besides its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct About {
    /// What it runs on.
    pub platform: PlatformType,
    /// Its code.
    pub measurement: Measurement,
    /// The program's version.
    pub version: String,
}

/// What a worker is made of.
pub struct Parts {
    /// Signs for it.
    pub identity: Identity,
    /// The ledger.
    pub ledger: LedgerName,
    /// What is known of it.
    pub view: Arc<dyn LedgerView>,
    /// Custodians of all committees.
    pub custodians: Pool,
    /// The other workers.
    pub workers: Pool,
    /// What it says of itself.
    pub about: About,
    /// Bounds.
    pub settings: Settings,
}

/// A worker.
pub struct Worker {
    pub(crate) identity: Identity,
    pub(crate) ledger: LedgerName,
    pub(crate) view: Arc<dyn LedgerView>,
    pub(crate) custodians: Pool,
    pub(crate) workers: Pool,
    pub(crate) about: About,
    pub(crate) settings: Settings,
    pub(crate) memory: LockedPool,
    pub(crate) speeds: Speeds,
    pub(crate) versions: Cache<VerifiedVersion>,
    pub(crate) counters: Counters,
    decrypts: Semaphore,
    dealings: Semaphore,
    under_way: Mutex<BTreeSet<Attempt>>,
    dealt: Mutex<VecDeque<(Attempt, v1::DealtVersion)>>,
}

/// One attempt at one version.
pub(crate) type Attempt = (KeyId, KeyVersion, u64);

/// Holds an attempt until dropped.
pub(crate) struct UnderWay<'a> {
    worker: &'a Worker,
    attempt: Attempt,
    _place: SemaphorePermit<'a>,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.worker.attempts().remove(&self.attempt);
    }
}

impl Worker {
    /// Puts a worker together; locks the memory for shares.
    ///
    /// # Errors
    /// [`LockError`].
    pub fn new(parts: Parts) -> Result<Self, LockError> {
        let settings = parts.settings;
        Ok(Self {
            identity: parts.identity,
            ledger: parts.ledger,
            view: parts.view,
            custodians: parts.custodians,
            workers: parts.workers,
            about: parts.about,
            settings,
            memory: LockedPool::new(settings.shares_max, PQ_SHARE_BYTES)?,
            speeds: Speeds::new(settings.hedge),
            versions: Cache::new(settings.versions_max / 2),
            counters: Counters::default(),
            decrypts: Semaphore::new(settings.decrypts_max),
            dealings: Semaphore::new(settings.dealings_max),
            under_way: Mutex::default(),
            dealt: Mutex::default(),
        })
    }

    /// The key that signs for it.
    #[must_use]
    pub fn principal(&self) -> Principal {
        self.identity.principal()
    }

    /// What it says of itself now.
    #[must_use]
    pub fn describe(&self) -> v1::Description {
        let newest = self.view.newest();
        v1::Description {
            principal: self.principal().0.to_vec().into(),
            role: Role::Worker.name().to_owned(),
            platform: self.about.platform.to_string(),
            measurement: self.about.measurement.0.to_vec().into(),
            version: self.about.version.clone(),
            height: newest.map_or(0, |header| header.height.0),
            time_ms: self.view.time().0,
            fresh: self.view.is_fresh(),
            counters: self.counters.all(),
        }
    }

    /// Refuses while nothing recent is known of the ledger: what it proves may be over.
    pub(crate) fn expect_fresh(&self) -> Result<(), Refusal> {
        if self.view.is_fresh() {
            Ok(())
        } else {
            Err(Denial::from(Reason::LedgerStale).into())
        }
    }

    /// A place among the requests to decrypt.
    pub(crate) fn decrypt_place(&self) -> Result<SemaphorePermit<'_>, Refusal> {
        self.decrypts
            .try_acquire()
            .map_err(|_| deny(Reason::Busy, "as many requests to decrypt as may be"))
    }

    /// A place among the dealings and activations, for an attempt that is not under way here already.
    pub(crate) fn begin(&self, attempt: Attempt) -> Result<UnderWay<'_>, Refusal> {
        let place = self.dealings.try_acquire().map_err(|_| {
            deny(
                Reason::Busy,
                "as many key versions are being made as may be",
            )
        })?;
        if !self.attempts().insert(attempt) {
            return Err(deny(Reason::Busy, "this attempt is being made already"));
        }
        Ok(UnderWay {
            worker: self,
            attempt,
            _place: place,
        })
    }

    /// What was answered for an attempt before, for whoever lost the answer: custodians hold these shares and take no others for it.
    pub(crate) fn dealt_before(&self, attempt: &Attempt) -> Option<v1::DealtVersion> {
        let dealt = self.dealt.lock().unwrap_or_else(PoisonError::into_inner);
        let known = dealt.iter().find(|(known, _)| known == attempt);
        known.map(|(_, answer)| answer.clone())
    }

    /// Remembers an answer; nothing in it is secret.
    pub(crate) fn remember_dealt(&self, attempt: Attempt, answer: &v1::DealtVersion) {
        let mut dealt = self.dealt.lock().unwrap_or_else(PoisonError::into_inner);
        if dealt.len() >= DEALT_MAX {
            dealt.pop_front();
        }
        dealt.push_back((attempt, answer.clone()));
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, BTreeSet<Attempt>> {
        self.under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Worker({})", self.principal())
    }
}

/// The system's randomness.
pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}
