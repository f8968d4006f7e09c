//! The writer thread: queue, block, log, sync, answers.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::{Height, Principal, TimestampMs};
use ledger::execute::{BlockContext, Executor};
use ledger::header::{Certificate, sign_header};
use ledger::port::{Block, FinalHeader, SubmitError};
use ledger::{Executed, Receipt, Rejection};

use crate::log::{self, Log};
use crate::record::encode_block;
use crate::shared::{Shared, Waiting, lock};
use crate::snapshot;

/// Pause before the disk is tried again after it was full.
const FULL_PAUSE: Duration = Duration::from_millis(200);

/// Pause of a writer that has nothing to do any more but to answer those who came before it knew.
const POISONED_PAUSE: Duration = Duration::from_millis(20);

pub(crate) struct Writer {
    shared: Arc<Shared>,
    log: Log,
    last_block: Instant,
    /// Transactions and bytes since the newest snapshot was begun.
    since_snapshot: (u64, u64),
    snapshot: Option<JoinHandle<()>>,
}

type Answer = Result<Receipt, SubmitError>;

/// A transaction of the block that is being made, and what it will be told.
struct Told {
    waiting: Waiting,
    answer: Answer,
}

impl Writer {
    pub(crate) fn new(shared: Arc<Shared>, log: Log, since_snapshot: (u64, u64)) -> Self {
        Self {
            shared,
            log,
            last_block: Instant::now(),
            since_snapshot,
            snapshot: None,
        }
    }

    pub(crate) fn run(mut self) {
        // A header at once: whoever asks for the time after a start gets the present one.
        self.block(Vec::new(), true);
        loop {
            let (batch, stop) = self.next_batch();
            if stop && batch.is_empty() {
                break;
            }
            let due = self.last_block.elapsed() >= self.shared.config.empty_block_every;
            self.block(batch, due);
            self.maybe_snapshot();
        }
        if let Some(snapshot) = self.snapshot.take() {
            let _ = snapshot.join();
        }
    }

    /// Waits for transactions or for the time of an empty block.
    fn next_batch(&self) -> (Vec<Waiting>, bool) {
        let limits = self.shared.chain.limits;
        let count_max = usize::try_from(limits.block_transactions).unwrap_or(usize::MAX);
        let bytes_max = usize::try_from(limits.block_bytes).unwrap_or(usize::MAX);
        let mut queue = lock(&self.shared.queue);
        loop {
            if queue.stop || !queue.waiting.is_empty() {
                break;
            }
            let every = self.shared.config.empty_block_every;
            let left = every.saturating_sub(self.last_block.elapsed());
            if left.is_zero() {
                break;
            }
            queue = self
                .shared
                .wake
                .wait_timeout(queue, left)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        let mut batch = Vec::new();
        let mut bytes = 0_usize;
        while batch.len() < count_max.max(1) {
            let Some(next) = queue.waiting.front() else {
                break;
            };
            bytes = bytes.saturating_add(next.checked.bytes().len());
            // One always fits: no transaction is larger than a block may be, or it would wait for ever.
            if bytes > bytes_max && !batch.is_empty() {
                break;
            }
            batch.extend(queue.waiting.pop_front());
        }
        (batch, queue.stop)
    }

    /// Makes a block of what can be applied, and answers everybody once it is durable. Without anything to apply there is a block only
    /// when one is due.
    fn block(&mut self, batch: Vec<Waiting>, due: bool) {
        if self.shared.is_poisoned() {
            let reason = self.shared.writable().err().unwrap_or_default();
            self.answer_all(batch, &SubmitError::Unavailable(reason));
            std::thread::sleep(POISONED_PAUSE);
            return;
        }
        if let Err(reason) = self.check_space() {
            self.shared.set_trouble(reason.clone(), false);
            self.answer_all(batch, &SubmitError::Unavailable(reason));
            std::thread::sleep(FULL_PAUSE);
            return;
        }
        let (told, transactions, made) = self.execute(batch);
        let executed = match made {
            Ok(executed) => executed,
            Err(rejection) => {
                self.shared.set_trouble(rejection.to_string(), true);
                self.fail(told, &rejection.to_string());
                return;
            }
        };
        if transactions.is_empty() && !due {
            self.answer(told);
            return;
        }
        let block = self.sign(&executed, transactions);
        let written = self.write(&block);
        match written {
            Ok(()) => {
                self.commit(&executed, block);
                self.shared.clear_trouble();
                self.answer(told);
            }
            Err(reason) => self.fail(told, &reason),
        }
    }

    /// Applies transactions in the order of their coming; one whose predecessor of the same sender comes later in the batch waits for it.
    fn execute(&self, batch: Vec<Waiting>) -> (Vec<Told>, Vec<Bytes>, Result<Executed, Rejection>) {
        let committed = self.shared.committed();
        let now = (self.shared.config.now)();
        let context = BlockContext {
            height: Height(committed.state.height().0.saturating_add(1)),
            time: TimestampMs(now.0.max(committed.last.header.time.0)),
        };
        let mut executor = Executor::new(&committed.state, self.shared.chain, context);
        let mut told = Vec::with_capacity(batch.len());
        let mut transactions = Vec::with_capacity(batch.len());
        let mut parked: BTreeMap<(Principal, u64), Vec<Waiting>> = BTreeMap::new();
        for waiting in batch {
            let mut next = Some(waiting);
            while let Some(waiting) = next.take() {
                let transaction = waiting.checked.transaction();
                let (sender, nonce) = (transaction.sender, transaction.nonce);
                let answer = match executor.apply(&waiting.checked) {
                    Ok(()) => {
                        transactions.push(Bytes::copy_from_slice(waiting.checked.bytes()));
                        next = unpark(&mut parked, sender, nonce);
                        executor
                            .known(&waiting.checked)
                            .ok_or_else(|| SubmitError::Unavailable("no receipt".to_owned()))
                    }
                    Err(Rejection::NonceTooHigh { .. }) => {
                        parked.entry((sender, nonce)).or_default().push(waiting);
                        continue;
                    }
                    // Sent again after its answer was lost.
                    Err(rejection) => executor
                        .known(&waiting.checked)
                        .ok_or(SubmitError::Rejected(rejection)),
                };
                told.push(Told { waiting, answer });
            }
        }
        for waiting in parked.into_values().flatten() {
            let answer = match executor.apply(&waiting.checked) {
                Err(rejection) => Err(SubmitError::Rejected(rejection)),
                Ok(()) => {
                    transactions.push(Bytes::copy_from_slice(waiting.checked.bytes()));
                    executor
                        .known(&waiting.checked)
                        .ok_or_else(|| SubmitError::Unavailable("no receipt".to_owned()))
                }
            };
            told.push(Told { waiting, answer });
        }
        (told, transactions, executor.finish())
    }

    fn sign(&self, executed: &Executed, transactions: Vec<Bytes>) -> Block {
        let deployment = &self.shared.chain.deployment;
        let previous = self.shared.committed().last.header.hash(deployment);
        let header = executed.header(&self.shared.chain, previous, &transactions);
        let signature = sign_header(&self.shared.config.validator, deployment, &header);
        Block {
            last: FinalHeader {
                header,
                certificate: Certificate {
                    signatures: vec![signature],
                },
            },
            transactions,
            receipts: executed.receipts.clone(),
        }
    }

    /// Appends and syncs. When the disk is full nothing has happened; any other failure leaves the disk unknown, and nothing more is
    /// written.
    fn write(&mut self, block: &Block) -> Result<(), String> {
        let before = self.log.end();
        if let Err(error) = self.log.append(&encode_block(block)) {
            self.log.forget_from(before);
            let full = error.kind() == io::ErrorKind::StorageFull
                || error.kind() == io::ErrorKind::QuotaExceeded;
            let reason = if full {
                "the disk is full".to_owned()
            } else {
                format!("the log cannot be written: {error}")
            };
            self.shared.set_trouble(reason.clone(), !full);
            return Err(reason);
        }
        if let Err(error) = self.log.sync() {
            let reason = format!("the log cannot be synced: {error}; restart and look at the disk");
            self.shared.set_trouble(reason.clone(), true);
            return Err(reason);
        }
        Shared::count(&self.shared.syncs, 1);
        let end = self.log.end();
        self.shared.log_bytes.store(end, Ordering::Relaxed);
        self.since_snapshot.1 += end - before;
        Ok(())
    }

    fn commit(&mut self, executed: &Executed, block: Block) {
        let height = block.last.header.height;
        let applied = u64::try_from(block.transactions.len()).unwrap_or(u64::MAX);
        {
            let mut committed = self.shared.committed_mut();
            if let Err(gap) = committed.state.commit(executed) {
                drop(committed);
                self.shared.set_trouble(gap.to_string(), true);
                return;
            }
            committed.last = block.last.clone();
        }
        let config = &self.shared.config;
        lock(&self.shared.recent).push(
            Arc::new(block),
            config.recent_blocks_max,
            config.recent_bytes_max,
        );
        self.last_block = Instant::now();
        self.since_snapshot.0 += applied;
        Shared::count(&self.shared.applied, applied);
        self.shared.height.send_replace(height);
    }

    fn check_space(&self) -> Result<(), String> {
        let reserve = self.shared.config.reserve_bytes;
        match self.shared.disk.free_bytes(&self.shared.dir) {
            Ok(free) if free < reserve => Err(format!(
                "the disk is full: {free} bytes are free, {reserve} are kept in reserve"
            )),
            // A disk that does not say how full it is will say when it is.
            _ => Ok(()),
        }
    }

    fn answer(&self, told: Vec<Told>) {
        let mut queue = lock(&self.shared.queue);
        for one in &told {
            queue.unanswered -= 1;
            queue.unanswered_bytes -= one.waiting.checked.bytes().len();
        }
        drop(queue);
        for Told { waiting, answer } in told {
            // Whoever has stopped waiting does not get it.
            let _ = waiting.reply.send(answer);
        }
    }

    fn fail(&self, told: Vec<Told>, reason: &str) {
        let told = told
            .into_iter()
            .map(|told| Told {
                answer: Err(SubmitError::Unavailable(reason.to_owned())),
                ..told
            })
            .collect();
        self.answer(told);
    }

    fn answer_all(&self, batch: Vec<Waiting>, error: &SubmitError) {
        let told = batch
            .into_iter()
            .map(|waiting| Told {
                waiting,
                answer: Err(error.clone()),
            })
            .collect();
        self.answer(told);
    }

    /// Begins a snapshot when one is due: the state's tree is shared with it, so blocks go on meanwhile. The log goes on in a new file.
    fn maybe_snapshot(&mut self) {
        let config = &self.shared.config;
        let keys = u64::try_from(self.shared.committed().state.tree().len()).unwrap_or(u64::MAX);
        let due = self.since_snapshot.0 >= config.snapshot_transactions.max(keys / 8)
            || self.since_snapshot.1 >= config.snapshot_log_bytes;
        let busy = self.snapshot.as_ref().is_some_and(|s| !s.is_finished());
        if !due || busy || self.shared.is_poisoned() {
            return;
        }
        if let Some(done) = self.snapshot.take() {
            let _ = done.join();
        }
        let (last, tree) = {
            let committed = self.shared.committed();
            (committed.last.clone(), committed.state.tree().clone())
        };
        let next = Height(last.header.height.0.saturating_add(1));
        let shared = self.shared.clone();
        if self.log.first() != next {
            let create = self
                .log
                .seal()
                .and_then(|()| Log::create(&*shared.disk, &shared.dir, shared.chain.genesis, next));
            match create {
                Ok(log) => self.log = log,
                Err(error) => {
                    tracing::warn!(%error, "no new log file: the snapshot waits");
                    return;
                }
            }
        }
        self.since_snapshot = (0, 0);
        let spawned = std::thread::Builder::new()
            .name("ledger-snapshot".to_owned())
            .spawn(
                move || match snapshot::write(&*shared.disk, &shared.dir, &last, &tree) {
                    Ok(bytes) => {
                        let height = last.header.height;
                        shared.snapshot.store(height.0, Ordering::Relaxed);
                        tracing::info!(height = height.0, bytes, "a snapshot was written");
                        tidy(&shared);
                    }
                    Err(error) => tracing::error!(%error, "the snapshot cannot be written"),
                },
            );
        match spawned {
            Ok(thread) => self.snapshot = Some(thread),
            Err(error) => tracing::error!(%error, "no thread for the snapshot"),
        }
    }
}

/// The parked transaction that follows this one.
fn unpark(
    parked: &mut BTreeMap<(Principal, u64), Vec<Waiting>>,
    sender: Principal,
    nonce: u64,
) -> Option<Waiting> {
    let at = (sender, nonce.checked_add(1)?);
    let same = parked.get_mut(&at)?;
    let next = same.pop();
    if same.is_empty() {
        parked.remove(&at);
    }
    next
}

/// Removes snapshots but the last two, and old log files that neither of them needs.
fn tidy(shared: &Shared) {
    let (disk, dir) = (&*shared.disk, &shared.dir);
    let result = (|| {
        let snapshots = log::numbered(disk, dir, "snapshot-")?;
        let keep_from = snapshots.len().saturating_sub(2);
        for height in snapshots.iter().take(keep_from) {
            disk.remove(&snapshot::path(dir, *height))?;
        }
        let oldest = snapshots.get(keep_from).copied().unwrap_or_default();
        let files = log::files(disk, dir)?;
        // A file ends where the next one begins: it is not needed when that is at or below the oldest snapshot's successor.
        let needed = files
            .partition_point(|first| first.0 <= oldest.0.saturating_add(1))
            .saturating_sub(1);
        let mut kept = 0_u64;
        for first in files.iter().take(needed).rev() {
            let path = log::path(dir, *first);
            kept = kept.saturating_add(disk.open(&path)?.len()?);
            if kept > shared.config.keep_log_bytes {
                disk.remove(&path)?;
            }
        }
        disk.sync_dir(dir)
    })();
    if let Err(error) = result {
        let _: &io::Error = &error;
        tracing::warn!(%error, "old snapshots and log files cannot be removed");
    }
}
