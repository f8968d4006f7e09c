//! The handle: what the rest of the process does with the ledger.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread::JoinHandle;

use bytes::Bytes;
use domain::{Height, TransactionHash};
use ledger::header::{FreshAnswer, sign_freshness};
use ledger::port::{
    Answer, FinalHeader, Freshness, LIST_MAX, Ledger, ProvedValue, READ_KEYS_MAX, ReadError,
    SubmitError,
};
use ledger::transaction::{Change, Decision};
use ledger::{Action, Checked, Genesis, Receipt, Record as _, Rejection, StatePrefix, check};
use tokio::sync::{oneshot, watch};

use crate::blocks::{SoloBlocks, block_at};
use crate::disk::{Disk, OsDisk};
use crate::error::OpenError;
use crate::open::{self, Opened};
use crate::shared::{Queue, Recent, Shared, Trouble, Waiting, lock};
use crate::writer::Writer;
use crate::{ENGINE, RecoveryReport, SoloConfig, SoloStatus};

/// An open ledger. Clones share it; when the last one goes the writer ends, after what waits.
#[derive(Clone)]
pub struct Solo(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    genesis: Genesis,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Solo {
    /// Makes a ledger's folder with its genesis.
    ///
    /// # Errors
    /// [`OpenError`] when there is one already, or the disk fails.
    pub fn create(dir: &Path, genesis: &Genesis) -> Result<(), OpenError> {
        open::create(&OsDisk, dir, genesis)
    }

    /// Opens a ledger and starts its writer.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(config: SoloConfig) -> Result<(Self, RecoveryReport), OpenError> {
        Self::open_on(Arc::new(OsDisk), config)
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        config: SoloConfig,
    ) -> Result<(Self, RecoveryReport), OpenError> {
        let Opened {
            committed,
            log,
            chain,
            report,
            lock: file,
            since_snapshot,
            recent,
        } = open::open(&*disk, &config)?;
        let genesis = committed.state.genesis_record().clone();
        let mut kept = Recent::default();
        for block in recent {
            kept.push(
                Arc::new(block),
                config.recent_blocks_max,
                config.recent_bytes_max,
            );
        }
        let shared = Arc::new(Shared {
            dir: config.dir.clone(),
            chain,
            disk,
            queue: Mutex::new(Queue::default()),
            wake: Condvar::new(),
            recent: Mutex::new(kept),
            trouble: Mutex::new(Trouble::default()),
            height: watch::Sender::new(committed.state.height()),
            applied: AtomicU64::new(0),
            syncs: AtomicU64::new(0),
            log_bytes: AtomicU64::new(log.end()),
            snapshot: AtomicU64::new(report.snapshot.0),
            committed: RwLock::new(committed),
            config,
            _lock: file,
        });
        let writer = Writer::new(shared.clone(), log, since_snapshot);
        let thread = std::thread::Builder::new()
            .name("ledger-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| OpenError::io("start a thread for", &shared.dir, error))?;
        let solo = Self(Arc::new(Inner {
            shared,
            genesis,
            writer: Mutex::new(Some(thread)),
        }));
        Ok((solo, report))
    }

    /// The ledger at this moment.
    #[must_use]
    pub fn status(&self) -> SoloStatus {
        let shared = &self.0.shared;
        let (height, time, keys) = {
            let committed = shared.committed();
            let tree = committed.state.tree();
            (
                committed.state.height(),
                committed.last.header.time,
                tree.len(),
            )
        };
        SoloStatus {
            height,
            time,
            keys,
            waiting: lock(&shared.queue).unanswered,
            applied: shared.applied.load(Ordering::Relaxed),
            syncs: shared.syncs.load(Ordering::Relaxed),
            log_bytes: shared.log_bytes.load(Ordering::Relaxed),
            snapshot: Height(shared.snapshot.load(Ordering::Relaxed)),
            writable: shared.writable(),
            poisoned: shared.is_poisoned(),
            engine: ENGINE,
            development: self.0.genesis.development,
        }
    }

    /// Keys and values whose key begins with `prefix`, after `after`, in order, at most `limit`.
    #[must_use]
    pub fn list_bytes(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
    ) -> Vec<(Bytes, Bytes)> {
        let committed = self.0.shared.committed();
        committed
            .state
            .list(prefix, after, limit.min(LIST_MAX))
            .map(|(key, value)| (Bytes::copy_from_slice(key), Bytes::copy_from_slice(value)))
            .collect()
    }

    /// Takes no more transactions, finishes what waits, and ends the writer. Waits for it.
    pub fn close(&self) {
        lock(&self.0.shared.queue).stop = true;
        self.0.shared.wake.notify_all();
        if let Some(thread) = lock(&self.0.writer).take() {
            let _ = thread.join();
        }
    }

    /// Puts a checked transaction into the queue.
    fn enqueue(
        &self,
        checked: Checked,
    ) -> Result<oneshot::Receiver<Result<Receipt, SubmitError>>, SubmitError> {
        let shared = &self.0.shared;
        if let Err(reason) = shared.writable()
            && shared.is_poisoned()
        {
            return Err(SubmitError::Unavailable(reason));
        }
        let (reply, answer) = oneshot::channel();
        let len = checked.bytes().len();
        let mut queue = lock(&shared.queue);
        if queue.stop {
            return Err(SubmitError::Unavailable("it is shutting down".to_owned()));
        }
        if queue.unanswered >= shared.config.waiting_max
            || queue.unanswered_bytes.saturating_add(len) > shared.config.waiting_bytes_max
        {
            return Err(SubmitError::Busy);
        }
        queue.unanswered += 1;
        queue.unanswered_bytes += len;
        queue.waiting.push_back(Waiting { checked, reply });
        drop(queue);
        shared.wake.notify_one();
        Ok(answer)
    }

    async fn reach(&self, freshness: Freshness) -> Result<(), ReadError> {
        let Freshness::AtLeast(wanted) = freshness else {
            return Ok(());
        };
        let shared = &self.0.shared;
        let mut height = shared.height.subscribe();
        let wait = height.wait_for(|height| *height >= wanted);
        match tokio::time::timeout(shared.config.read_wait, wait).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(ReadError::NotReached {
                wanted,
                height: *shared.height.borrow(),
            }),
        }
    }
}

/// What a ledger with one validator cannot do.
fn check_supported(checked: &Checked) -> Result<(), Rejection> {
    if let Action::Govern(govern) = &checked.transaction().action
        && let Ok(decision) = Decision::decode(&govern.decision)
        && let Change::SetValidators(_) = decision.change
    {
        return Err(Rejection::Unsupported(
            "a solo ledger keeps its one validator; promotion begins a new ledger",
        ));
    }
    Ok(())
}

impl Ledger for Solo {
    type Blocks = SoloBlocks;

    fn genesis(&self) -> &Genesis {
        &self.0.genesis
    }

    async fn submit(&self, transaction: Bytes) -> Result<Receipt, SubmitError> {
        let checked = check(&self.0.shared.chain, &transaction)?;
        check_supported(&checked)?;
        let answer = self.enqueue(checked)?;
        answer
            .await
            .unwrap_or_else(|_| Err(SubmitError::Unavailable("it has stopped".to_owned())))
    }

    async fn read(&self, keys: Vec<Bytes>, freshness: Freshness) -> Result<Answer, ReadError> {
        if keys.len() > READ_KEYS_MAX {
            return Err(ReadError::Malformed(format!(
                "at most {READ_KEYS_MAX} keys in one read"
            )));
        }
        self.reach(freshness).await?;
        let (tree, last) = {
            let committed = self.0.shared.committed();
            (committed.state.tree().clone(), committed.last.clone())
        };
        let values = keys
            .iter()
            .map(|key| {
                let (value, proof) = tree.prove(key);
                ProvedValue {
                    value: value.map(|value| Bytes::copy_from_slice(&value)),
                    proof,
                }
            })
            .collect();
        Ok(Answer { values, last })
    }

    async fn list(
        &self,
        prefix: StatePrefix,
        after: Option<Bytes>,
        limit: usize,
    ) -> Result<Vec<(Bytes, Bytes)>, ReadError> {
        Ok(self.list_bytes(&prefix.encode(), after.as_deref(), limit))
    }

    async fn subscribe(&self, from: Height) -> Result<SoloBlocks, ReadError> {
        // There is no block at height 0.
        Ok(SoloBlocks::new(
            self.0.shared.clone(),
            Height(from.0.max(1)),
        ))
    }

    async fn finality(&self, height: Option<Height>) -> Result<FinalHeader, ReadError> {
        let last = self.0.shared.committed().last.clone();
        let newest = last.header.height;
        match height {
            None => Ok(last),
            Some(wanted) if wanted == newest => Ok(last),
            Some(wanted) if wanted > newest => Err(ReadError::NotReached {
                wanted,
                height: newest,
            }),
            Some(wanted) => {
                let shared = self.0.shared.clone();
                tokio::task::spawn_blocking(move || block_at(&shared, wanted))
                    .await
                    .map_err(|error| ReadError::Unavailable(error.to_string()))?
                    .map(|block| block.last)
            }
        }
    }

    async fn freshness(&self, nonce: [u8; 32]) -> Result<Vec<FreshAnswer>, ReadError> {
        let shared = &self.0.shared;
        let header = shared.committed().last.header.clone();
        Ok(vec![sign_freshness(
            &shared.config.validator,
            &shared.chain.deployment,
            &header,
            nonce,
        )])
    }

    async fn receipt(&self, transaction: TransactionHash) -> Result<Option<Receipt>, ReadError> {
        let recent = lock(&self.0.shared.recent);
        Ok(recent.receipts.get(&transaction).cloned())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        lock(&self.shared.queue).stop = true;
        self.shared.wake.notify_all();
        if let Some(thread) = lock(&self.writer).take() {
            let _ = thread.join();
        }
    }
}
