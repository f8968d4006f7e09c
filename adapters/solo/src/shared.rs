//! What the handle, the writer and subscribers share.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{
    Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard,
};

use domain::{Height, TransactionHash};
use ledger::port::{Block, FinalHeader, SubmitError};
use ledger::{Chain, Checked, Receipt, State};
use tokio::sync::{oneshot, watch};

use crate::SoloConfig;
use crate::disk::Disk;

/// A transaction that waits for its block.
pub(crate) struct Waiting {
    pub(crate) checked: Checked,
    pub(crate) reply: oneshot::Sender<Result<Receipt, SubmitError>>,
}

/// Transactions in the order in which they came.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) waiting: VecDeque<Waiting>,
    /// Taken in and not answered: those in the queue and those being written.
    pub(crate) unanswered: usize,
    /// Their bytes.
    pub(crate) unanswered_bytes: usize,
    /// The writer shall end.
    pub(crate) stop: bool,
}

/// The last durable block and its state.
pub(crate) struct Committed {
    pub(crate) state: State,
    pub(crate) last: FinalHeader,
}

/// The newest blocks, for subscribers and for receipts.
#[derive(Default)]
pub(crate) struct Recent {
    pub(crate) blocks: VecDeque<Arc<Block>>,
    pub(crate) bytes: usize,
    pub(crate) receipts: HashMap<TransactionHash, Receipt>,
}

impl Recent {
    pub(crate) fn push(&mut self, block: Arc<Block>, blocks_max: usize, bytes_max: usize) {
        self.bytes += bytes_of(&block);
        for receipt in &block.receipts {
            self.receipts.insert(receipt.transaction, receipt.clone());
        }
        self.blocks.push_back(block);
        // The newest one stays, whatever its size.
        while self.blocks.len() > blocks_max.max(1)
            || (self.bytes > bytes_max && self.blocks.len() > 1)
        {
            let Some(old) = self.blocks.pop_front() else {
                break;
            };
            self.bytes -= bytes_of(&old);
            for receipt in &old.receipts {
                self.receipts.remove(&receipt.transaction);
            }
        }
    }

    pub(crate) fn get(&self, height: Height) -> Option<Arc<Block>> {
        let first = self.blocks.front()?.last.header.height.0;
        let at = usize::try_from(height.0.checked_sub(first)?).ok()?;
        self.blocks.get(at).cloned()
    }
}

fn bytes_of(block: &Block) -> usize {
    block.transactions.iter().map(bytes::Bytes::len).sum()
}

/// Why no transactions are taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trouble {
    pub(crate) reason: Option<String>,
    /// For good: the disk may hold something else than what was answered.
    pub(crate) poisoned: bool,
}

pub(crate) struct Shared {
    pub(crate) config: SoloConfig,
    pub(crate) dir: PathBuf,
    pub(crate) chain: Chain,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) queue: Mutex<Queue>,
    pub(crate) wake: Condvar,
    pub(crate) committed: RwLock<Committed>,
    pub(crate) recent: Mutex<Recent>,
    pub(crate) trouble: Mutex<Trouble>,
    pub(crate) height: watch::Sender<Height>,
    pub(crate) applied: AtomicU64,
    pub(crate) syncs: AtomicU64,
    pub(crate) log_bytes: AtomicU64,
    pub(crate) snapshot: AtomicU64,
    /// Locked as long as the ledger is open.
    pub(crate) _lock: File,
}

impl Shared {
    pub(crate) fn committed(&self) -> RwLockReadGuard<'_, Committed> {
        self.committed
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn committed_mut(&self) -> RwLockWriteGuard<'_, Committed> {
        self.committed
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether transactions are taken, or why not.
    pub(crate) fn writable(&self) -> Result<(), String> {
        lock(&self.trouble).reason.clone().map_or(Ok(()), Err)
    }

    pub(crate) fn set_trouble(&self, reason: String, poisoned: bool) {
        let mut trouble = lock(&self.trouble);
        if trouble.poisoned {
            return;
        }
        if trouble.reason.as_ref() != Some(&reason) {
            if poisoned {
                tracing::error!(%reason, "the ledger takes no more transactions until it is restarted");
            } else {
                tracing::warn!(%reason, "the ledger takes no transactions for now");
            }
        }
        *trouble = Trouble {
            reason: Some(reason),
            poisoned,
        };
    }

    pub(crate) fn clear_trouble(&self) {
        let mut trouble = lock(&self.trouble);
        if !trouble.poisoned && trouble.reason.take().is_some() {
            tracing::info!("the ledger takes transactions again");
        }
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        lock(&self.trouble).poisoned
    }

    pub(crate) fn count(counter: &AtomicU64, more: u64) {
        counter.fetch_add(more, Ordering::Relaxed);
    }
}

/// A panic elsewhere leaves nothing half done under these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
