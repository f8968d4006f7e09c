//! What can go wrong, by operation.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use attestation::SourceError;
use rustix::io::Errno;

use crate::store::StoreState;

/// A file operation that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried, as a verb.
    pub action: &'static str,
    /// The file or folder.
    pub path: PathBuf,
    /// The system's answer.
    pub source: Arc<io::Error>,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self {
            action,
            path: path.to_path_buf(),
            source: Arc::new(source),
        }
    }

    fn is(&self, errnos: &[Errno]) -> bool {
        let code = self.source.raw_os_error();
        errnos
            .iter()
            .any(|errno| code == Some(errno.raw_os_error()))
    }
}

/// The store is not what the ledger says it was: refuse to serve from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RollbackError {
    /// An older store than the ledger knows: put back, or shortened.
    #[error("the sealed store was rolled back: it has {} changes, and the ledger knows of {}", have.counter, ledger.counter)]
    Behind {
        /// What the store is at.
        have: StoreState,
        /// What the ledger says.
        ledger: StoreState,
    },
    /// As far along as the ledger knows, by another history: two copies have run.
    #[error("the sealed store has another history than the ledger knows (at change {})", ledger.counter)]
    Forked {
        /// What the store is at.
        have: StoreState,
        /// What the ledger says.
        ledger: StoreState,
    },
    /// The ledger knows of a store, and there is none.
    #[error("the sealed store is gone, and the ledger knows of {} changes in it", ledger.counter)]
    Missing {
        /// What the ledger says.
        ledger: StoreState,
    },
}

/// Why a store could not be opened. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The configuration makes no sense: the caller's fault.
    #[error("the sealed store's configuration is wrong: {0}")]
    Config(&'static str),
    /// Another process has it open.
    #[error("{} is in use by another process; stop it first", .0.display())]
    Locked(PathBuf),
    /// The platform gives no key.
    #[error(transparent)]
    Key(#[from] SourceError),
    /// Of a version that this program does not know.
    #[error("{} is of version {version}: use the newer program", path.display())]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// Not sealed by this deployment, role, owner and platform root, or its beginning is damaged.
    #[error("{} is not this process's store, or its beginning is damaged: {reason}", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: &'static str,
    },
    /// Records that were acknowledged are gone or altered.
    #[error("{} is shortened or altered: it can be read up to change {found}, and had {acknowledged}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The last change that can be read.
        found: u64,
        /// The last change that was acknowledged, as far as the file itself knows.
        acknowledged: u64,
    },
    /// The ledger knows better.
    #[error(transparent)]
    Rollback(#[from] RollbackError),
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}

/// Why changes were not applied. None of the batch is, then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriteError {
    /// A key, a value or a batch over its bound, or an empty one: the caller's fault.
    #[error("not a batch: {0}")]
    Bounds(&'static str),
    /// More is waiting to be written than may wait. Try again.
    #[error("{bytes_max} bytes are waiting to be written; try again")]
    Busy {
        /// The bound.
        bytes_max: usize,
    },
    /// The disk is full. What was stored stays readable; free space and try again.
    #[error("the disk is full: {0}")]
    DiskFull(FileError),
    /// The disk takes no writes. What was stored stays readable.
    #[error("the disk is read-only: {0}")]
    ReadOnly(FileError),
    /// A write or sync failed in a way that leaves open what is on the disk: nothing more is taken until the process has
    /// been started again. Reads go on.
    #[error("the sealed store takes no more changes: {reason}")]
    Poisoned {
        /// The first failure.
        reason: Arc<str>,
    },
    /// No randomness.
    #[error("the operating system gave no randomness")]
    Randomness,
    /// A stored record could not be read while compacting. The old file stands.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file operation failed and left the store sound.
    #[error(transparent)]
    File(FileError),
}

impl From<FileError> for WriteError {
    fn from(error: FileError) -> Self {
        if error.is(&[Errno::NOSPC, Errno::DQUOT]) {
            Self::DiskFull(error)
        } else if error.is(&[Errno::ROFS]) {
            Self::ReadOnly(error)
        } else {
            Self::File(error)
        }
    }
}

/// Why a record could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// Its bytes have changed since the store was opened.
    #[error("the sealed record at byte {offset} was altered or damaged")]
    Damaged {
        /// Where it lies.
        offset: u64,
    },
    /// A file operation failed.
    #[error(transparent)]
    File(#[from] FileError),
}
