//! Writes down every decision before it is answered: one chain, many at a time in one sync.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use custody::audit::hash;
use custody::{
    AuditEntry, AuditHead, AuditPermit, AuditRecord, AuditStart, AuditedOperation, Decision,
    Denial, Facts, Page, Reason,
};
use domain::{DeploymentId, Height, Principal, RecordHash, TimestampMs};
use ledger::Record as _;
use tokio::sync::{mpsc, oneshot};

use crate::store::StoreError;

/// Decisions that wait to be written, at most.
pub const WAITING_MAX: usize = 4_096;
/// Decisions that are written with one sync, at most.
const BATCH_MAX: usize = 512;
/// Seconds of allowance for refusals that are saved up.
const SAVED_SECONDS: f64 = 100.0;
/// Old records that go with one batch, at most: two for each new one, so that a lowered bound is reached.
const DROPPED_MAX: u64 = 1_024;
/// How often a page is put together anew because records of it were dropped meanwhile.
const PAGE_ATTEMPTS: u32 = 8;

/// Where records are kept. Every method blocks while the disk works.
pub trait AuditRecords: Send + Sync {
    /// Appends records under their sequence numbers and drops old ones, all or nothing; durable on return.
    ///
    /// # Errors
    /// [`StoreError`]; what the records are about must not be answered then.
    fn append(
        &self,
        records: &[(u64, Vec<u8>)],
        drop: std::ops::Range<u64>,
    ) -> Result<(), StoreError>;

    /// The record of a sequence number.
    ///
    /// # Errors
    /// [`StoreError`].
    fn get(&self, sequence: u64) -> Result<Option<Vec<u8>>, StoreError>;
}

/// A decision at a moment.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What it was about.
    pub facts: Facts,
    /// What was decided.
    pub decision: Decision,
    /// The ledger's time.
    pub time: TimestampMs,
    /// The newest header's height.
    pub height: Height,
}

struct Job {
    decided: Decided,
    written: Option<oneshot::Sender<Result<(), Denial>>>,
}

/// The log. Cheap to clone; the writer ends with the last clone.
#[derive(Clone)]
pub struct AuditLog {
    jobs: mpsc::Sender<Job>,
    shared: Arc<Shared>,
}

struct Shared {
    store: Arc<dyn AuditRecords>,
    deployment: DeploymentId,
    state: Mutex<State>,
    suppressed: AtomicU64,
    suppressed_total: AtomicU64,
    refusals: Mutex<Refusals>,
    records_max: u64,
}

/// The log's ends.
#[derive(Clone, Copy, Debug)]
struct State {
    /// The first sequence number that is kept.
    first: u64,
    head: AuditHead,
}

/// Which refusals still get a record of their own: those of requests whose signature was good, and a tenth as many others, so that
/// whoever can only make noise does not push out what matters.
#[derive(Debug)]
struct Refusals {
    verified: Allowance,
    others: Allowance,
}

/// Grows with time up to a hundred seconds' worth.
#[derive(Debug)]
struct Allowance {
    left: f64,
    per_second: f64,
    at: Instant,
}

impl Allowance {
    fn new(per_second: f64) -> Self {
        Self {
            left: per_second * SAVED_SECONDS,
            per_second,
            at: Instant::now(),
        }
    }

    fn take(&mut self) -> bool {
        let now = Instant::now();
        let grown = now.duration_since(self.at).as_secs_f64() * self.per_second;
        self.left = (self.left + grown).min(self.per_second * SAVED_SECONDS);
        self.at = now;
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}

impl AuditLog {
    /// Continues the log in `store`, whose ends are the sequence numbers `ends`; starts the thread that writes.
    ///
    /// # Errors
    /// [`StoreError`] when the newest record cannot be read.
    pub fn open(
        store: Arc<dyn AuditRecords>,
        deployment: DeploymentId,
        ends: Option<(u64, u64)>,
        records_max: u64,
        denials_per_second: u32,
    ) -> Result<Self, StoreError> {
        let state = match ends {
            None => State {
                first: 1,
                head: AuditHead::EMPTY,
            },
            Some((first, sequence)) => {
                let missing = StoreError::Foreign("an audit log with a gap");
                let newest = store.get(sequence)?.ok_or(missing)?;
                let hash = hash(&deployment, &newest);
                State {
                    first,
                    head: AuditHead { sequence, hash },
                }
            }
        };
        let shared = Arc::new(Shared {
            store,
            deployment,
            state: Mutex::new(state),
            suppressed: AtomicU64::new(0),
            suppressed_total: AtomicU64::new(0),
            refusals: Mutex::new(Refusals {
                verified: Allowance::new(f64::from(denials_per_second)),
                others: Allowance::new(f64::from(denials_per_second) / 10.0),
            }),
            records_max: records_max.max(1),
        });
        let (jobs, queue) = mpsc::channel(WAITING_MAX);
        let writer = shared.clone();
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || writer.write(queue))
            .map_err(|_| StoreError::Foreign("nothing that could be written: no thread"))?;
        Ok(Self { jobs, shared })
    }

    /// Writes down that something is allowed; returns once that is durable.
    ///
    /// # Errors
    /// [`Reason::Busy`], [`Reason::Storage`]: it must not be answered then.
    pub async fn allow(&self, decided: Decided) -> Result<(), Denial> {
        let (written, done) = oneshot::channel();
        let job = Job {
            decided,
            written: Some(written),
        };
        self.jobs
            .try_send(job)
            .map_err(|_| Denial::new(Reason::Busy, "the audit log"))?;
        done.await
            .map_err(|_| Denial::new(Reason::Storage, "the audit log"))?
    }

    /// Has a refusal written down, or counted when too many come. Does not wait: nothing is given out with it.
    pub fn deny(&self, decided: Decided) {
        let allowed = {
            let mut refusals = lock(&self.shared.refusals);
            if decided.facts.verified {
                refusals.verified.take()
            } else {
                refusals.others.take()
            }
        };
        let job = Job {
            decided,
            written: None,
        };
        if !allowed || self.jobs.try_send(job).is_err() {
            self.shared.suppress(1);
        }
    }

    /// The newest durable record.
    #[must_use]
    pub fn head(&self) -> AuditHead {
        lock(&self.shared.state).head
    }

    /// Refusals without a record of their own, since the start.
    #[must_use]
    pub fn suppressed(&self) -> u64 {
        self.shared.suppressed_total.load(Ordering::Relaxed)
    }

    /// A page, with the ends of the log as of then. Blocks while the disk works.
    ///
    /// # Errors
    /// [`Reason::Storage`]; [`Reason::Busy`] when records go faster than they can be read.
    pub fn page(&self, permit: &AuditPermit) -> Result<Page, Denial> {
        for _ in 0..PAGE_ATTEMPTS {
            if let Some(page) = self.page_now(permit)? {
                return Ok(page);
            }
        }
        Err(Denial::new(
            Reason::Busy,
            "the audit log is being shortened",
        ))
    }

    /// `None` when records of the page were dropped while it was put together.
    fn page_now(&self, permit: &AuditPermit) -> Result<Option<Page>, Denial> {
        let State { first, head } = *lock(&self.shared.state);
        let mut start = AuditStart {
            before: AuditHead::EMPTY,
            time: TimestampMs(0),
        };
        if first <= head.sequence {
            let Some((bytes, _)) = self.shared.record(first)? else {
                return Ok(None);
            };
            let oldest =
                AuditRecord::decode(&bytes).map_err(|error| Denial::new(Reason::Storage, error))?;
            start = AuditStart {
                before: AuditHead {
                    sequence: first.saturating_sub(1),
                    hash: oldest.previous,
                },
                time: oldest.time,
            };
        }
        let from = permit.request.after.saturating_add(1).max(first);
        let mut entries = Vec::new();
        for sequence in (from..=head.sequence).take(permit.request.limit.try_into().unwrap_or(0)) {
            let Some((record, hash)) = self.shared.record(sequence)? else {
                return Ok(None);
            };
            let shown = AuditRecord::decode(&record)
                .is_ok_and(|one| permit.shows(one.key, one.principal.filter(|_| one.verified)));
            entries.push(AuditEntry {
                sequence,
                hash,
                record: shown.then_some(record),
            });
        }
        Ok(Some(Page {
            start,
            head,
            entries,
        }))
    }

    /// The hash of a record; `None` when it was dropped, or was never written. Blocks while the disk works.
    ///
    /// # Errors
    /// [`Reason::Storage`].
    pub fn hash_of(&self, sequence: u64) -> Result<Option<RecordHash>, Denial> {
        if sequence > self.head().sequence {
            return Ok(None);
        }
        Ok(self.shared.record(sequence)?.map(|(_, hash)| hash))
    }

    /// Calls `visit` with requests to decrypt that were answered no longer than `window_ms` before the newest record, newest first, at most `max`.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn recent(
        &self,
        window_ms: u64,
        max: usize,
        mut visit: impl FnMut(RecordHash, Principal, TimestampMs),
    ) -> Result<(), StoreError> {
        let State { first, head } = *lock(&self.shared.state);
        let mut since = None;
        for sequence in (first..=head.sequence).rev().take(max) {
            let Some(bytes) = self.shared.store.get(sequence)? else {
                continue;
            };
            let record =
                AuditRecord::decode(&bytes).map_err(|_| StoreError::Foreign("an audit record"))?;
            let since = *since.get_or_insert(record.time.0.saturating_sub(window_ms));
            if record.time.0 < since {
                break;
            }
            if let (AuditedOperation::Decrypt, Decision::Allow, Some(request), Some(principal)) = (
                record.operation,
                record.decision,
                record.request,
                record.principal,
            ) {
                visit(request, principal, record.time);
            }
        }
        Ok(())
    }
}

impl Shared {
    /// A record and its hash; `None` when it was dropped.
    fn record(&self, sequence: u64) -> Result<Option<(Vec<u8>, RecordHash)>, Denial> {
        let unreadable = |detail: String| Denial::new(Reason::Storage, detail);
        match self.store.get(sequence) {
            Ok(Some(record)) => {
                let hash = hash(&self.deployment, &record);
                Ok(Some((record, hash)))
            }
            Ok(None) if sequence < lock(&self.state).first => Ok(None),
            Ok(None) => Err(unreadable(format!("record {sequence} is missing"))),
            Err(error) => Err(unreadable(error.to_string())),
        }
    }

    fn suppress(&self, count: u64) {
        self.suppressed.fetch_add(count, Ordering::Relaxed);
        self.suppressed_total.fetch_add(count, Ordering::Relaxed);
    }

    fn write(&self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(job) = queue.try_recv()
            {
                batch.push(job);
            }
            self.write_batch(batch);
        }
    }

    fn write_batch(&self, batch: Vec<Job>) {
        let state = *lock(&self.state);
        let suppressed = self.suppressed.swap(0, Ordering::Relaxed);
        let mut head = state.head;
        let mut records = Vec::with_capacity(batch.len());
        for job in &batch {
            let facts = &job.decided.facts;
            let record = AuditRecord {
                sequence: head.sequence + 1,
                previous: head.hash,
                time: job.decided.time,
                height: job.decided.height,
                principal: facts.principal,
                verified: facts.verified,
                key: facts.key,
                version: facts.version,
                operation: facts.operation,
                count: facts.count,
                decision: job.decided.decision,
                request: facts.request.map(|hash| RecordHash(hash.0)),
                suppressed: if records.is_empty() { suppressed } else { 0 },
            };
            let bytes = record.encode();
            head = AuditHead {
                sequence: record.sequence,
                hash: hash(&self.deployment, &bytes),
            };
            records.push((record.sequence, bytes));
        }
        // The first sequence number to keep, so that no more than the bound are.
        let keep = (head.sequence + 1).saturating_sub(self.records_max);
        let until = keep.clamp(state.first, state.first + DROPPED_MAX);
        // Not beyond what is there already: records of this very batch stay.
        let until = until.min(state.head.sequence + 1);
        let result = self.store.append(&records, state.first..until);
        if let Err(error) = &result {
            tracing::error!(%error, "decisions cannot be written down: everything is refused");
            self.suppressed.fetch_add(suppressed, Ordering::Relaxed);
        } else {
            *lock(&self.state) = State { first: until, head };
        }
        for job in batch {
            match job.written {
                // The asker may have gone.
                Some(written) => drop(written.send(match &result {
                    Ok(()) => Ok(()),
                    Err(_) => Err(Denial::new(Reason::Storage, "the audit log")),
                })),
                None if result.is_err() => self.suppress(1),
                None => {}
            }
        }
    }
}

impl std::fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuditLog")
            .field("head", &self.head())
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
