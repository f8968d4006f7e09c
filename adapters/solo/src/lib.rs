//! A ledger with one validator: the operator of this machine is the ledger.
//!
//! One writer thread drains the queue of transactions, executes them as a block, appends the block to the log, calls
//! `fdatasync` once and answers everybody. Reads take the state of the last durable block and come with proofs. A snapshot
//! now and then keeps a start short. After a crash at any byte every acknowledged transaction is there, once; a tail that
//! was never whole is dropped; damage in the middle is refused. The bytes on disk are described in `record` and
//! `snapshot`.
//!
//! What this crate does not do: agree with anybody, read a clock (it is passed in), or decide what a transaction does
//! (`ledger` does).

#![cfg_attr(test, allow(clippy::unwrap_used))]

#[doc(hidden)]
pub mod bench;
mod blocks;
mod disk;
mod error;
#[cfg(test)]
mod faults;
mod log;
mod open;
mod record;
mod shared;
mod snapshot;
mod solo;
mod writer;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crypto::Identity;
use domain::{Height, TimestampMs};

pub use blocks::SoloBlocks;
pub use error::OpenError;
#[doc(hidden)]
pub use record::decode_anything;
pub use solo::Solo;

/// What every status says of a ledger like this.
pub const ENGINE: &str = "solo: the operator is the ledger";

/// A source of the present time.
pub type Now = Arc<dyn Fn() -> TimestampMs + Send + Sync>;

/// How a ledger is opened.
#[derive(Clone)]
pub struct SoloConfig {
    /// The ledger's folder.
    pub dir: PathBuf,
    /// The validator's key: the only one of the genesis.
    pub validator: Arc<Identity>,
    /// Where block times come from. A time before the last block's counts as that one.
    pub now: Now,
    /// An empty block is made when there was none for this long. Enclaves take their time from headers, so at most 5 s.
    pub empty_block_every: Duration,
    /// Transactions that wait or are being written, at most.
    pub waiting_max: usize,
    /// Bytes of them, at most.
    pub waiting_bytes_max: usize,
    /// A snapshot is begun after this many transactions (and after an eighth as many as there are keys).
    pub snapshot_transactions: u64,
    /// Or after this many bytes of log.
    pub snapshot_log_bytes: u64,
    /// Log files that no start needs any more are kept up to this many bytes, for subscribers.
    pub keep_log_bytes: u64,
    /// Transactions are refused when less than this is free on the disk.
    pub reserve_bytes: u64,
    /// How long a read waits for the height that it asks for.
    pub read_wait: Duration,
    /// Blocks kept in memory for subscribers, at most.
    pub recent_blocks_max: usize,
    /// Bytes of their transactions, at most.
    pub recent_bytes_max: usize,
}

impl SoloConfig {
    /// The defaults: an empty block every 4 s, 16,384 transactions and 64 MiB waiting, snapshots after 100,000 transactions or
    /// 128 MiB of log, 1 GiB of old log, 256 MiB of reserve, reads that wait 5 s, 1,024 recent blocks and 16 MiB.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>, validator: Arc<Identity>, now: Now) -> Self {
        Self {
            dir: dir.into(),
            validator,
            now,
            empty_block_every: Duration::from_secs(4),
            waiting_max: 16_384,
            waiting_bytes_max: 64 << 20,
            snapshot_transactions: 100_000,
            snapshot_log_bytes: 128 << 20,
            keep_log_bytes: 1 << 30,
            reserve_bytes: 256 << 20,
            read_wait: Duration::from_secs(5),
            recent_blocks_max: 1_024,
            recent_bytes_max: 16 << 20,
        }
    }
}

impl fmt::Debug for SoloConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SoloConfig")
            .field("dir", &self.dir)
            .field("validator", &self.validator)
            .finish_non_exhaustive()
    }
}

/// What [`Solo::open`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// The last block.
    pub height: Height,
    /// Keys with a value.
    pub keys: usize,
    /// The snapshot that the start began with; 0: none.
    pub snapshot: Height,
    /// Snapshots that could not be used.
    pub damaged_snapshots: usize,
    /// Blocks read from the log.
    pub replayed_blocks: u64,
    /// Transactions in them.
    pub replayed_transactions: u64,
    /// Whether a block that was never acknowledged was cut off the log's end.
    pub torn: bool,
}

/// The ledger at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoloStatus {
    /// The last block.
    pub height: Height,
    /// Its time.
    pub time: TimestampMs,
    /// Keys with a value.
    pub keys: usize,
    /// Transactions that wait or are being written.
    pub waiting: usize,
    /// Transactions applied since the start.
    pub applied: u64,
    /// Syncs since the start.
    pub syncs: u64,
    /// Bytes of the log file that is written.
    pub log_bytes: u64,
    /// The newest snapshot.
    pub snapshot: Height,
    /// Whether a transaction would be taken now, or why not.
    pub writable: Result<(), String>,
    /// Whether that will not change before a restart: a write to the disk failed, and what it left there is not known.
    pub poisoned: bool,
    /// [`ENGINE`].
    pub engine: &'static str,
    /// Whether this is a development deployment, which protects nothing from the machine's owner.
    pub development: bool,
}
