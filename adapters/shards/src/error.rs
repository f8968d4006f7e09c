//! What can go wrong, one enum per kind of operation, so that a caller can tell its own fault from a full disk,
//! a read-only disk, a poisoned store and plain trouble with a file.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::Cid;

/// Why a store could not be opened.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The configuration makes no sense: the caller's fault.
    #[error("the shard store's configuration is wrong: {0}")]
    Config(&'static str),
    /// Another process has this folder open.
    #[error("{} is in use by another process; stop it first", dir.display())]
    Locked {
        /// The store's folder.
        dir: PathBuf,
    },
    /// A file of a version that this program does not know. Nothing was changed.
    #[error("{} is of version {version}, and this program reads up to {known}; use the newer program", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
        /// The newest version known here.
        known: u32,
    },
    /// Segments are there but nothing says which key their records are checked with.
    #[error("{} and every segment header are damaged; the records cannot be checked", path.display())]
    NoKey {
        /// The file that holds the key.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

/// Why a put, delete, restore or maintenance run did not happen. After any of these nothing is acknowledged.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// The bytes do not hash to the CID: the sender's fault.
    #[error("the bytes are not those of {cid}")]
    WrongContent {
        /// The CID that was claimed.
        cid: Cid,
    },
    /// A body or a proof over its limit: the sender's fault.
    #[error("a {what} of {bytes} bytes is over the limit of {bytes_max}")]
    TooLarge {
        /// `shard` or `proof`.
        what: &'static str,
        /// Its size.
        bytes: u64,
        /// The limit.
        bytes_max: u64,
    },
    /// The disk is full, or would be left with less than its reserve. Deleting is still possible.
    #[error("the disk is full: {free_bytes} bytes free, {reserve_bytes} kept in reserve")]
    DiskFull {
        /// Bytes free when the write was refused.
        free_bytes: u64,
        /// Bytes that are kept free.
        reserve_bytes: u64,
    },
    /// The node's own capacity is used up.
    #[error("the store holds {used_bytes} bytes of its capacity of {capacity_bytes}")]
    CapacityReached {
        /// Bytes of segments on disk.
        used_bytes: u64,
        /// The configured capacity.
        capacity_bytes: u64,
    },
    /// The disk refuses writes. Reads go on.
    #[error("the disk is read-only: {reason}")]
    ReadOnly {
        /// Which operation met it.
        reason: Arc<str>,
    },
    /// A sync or a write failed before; nothing is accepted until the process has been restarted on a sound disk.
    /// Reads go on.
    #[error("the store takes no more writes after a failure: {reason}")]
    Poisoned {
        /// The first failure.
        reason: Arc<str>,
    },
    /// The store was closed while this waited.
    #[error("the store is closing")]
    Closing,
    /// A file operation failed in a way that leaves the store sound.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

/// Why a shard that is in the index could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The range does not lie within the shard: the caller's fault.
    #[error("bytes {start}..{end} do not lie within the shard's {total_bytes}")]
    Range {
        /// First byte asked for.
        start: u32,
        /// One past the last.
        end: u32,
        /// The shard's size.
        total_bytes: u32,
    },
    /// The record on disk is damaged; the shard must be repaired from elsewhere.
    #[error("the stored record of {cid} is damaged")]
    Corrupt {
        /// The shard.
        cid: Cid,
    },
    /// A file operation failed.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's answer.
        source: Arc<io::Error>,
    },
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }
}

impl ReadError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }
}

impl WriteError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }
}
