//! What can go wrong with the ledger's files.

use std::io;
use std::path::PathBuf;

use domain::Height;

/// Why a ledger does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With which file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// There is no ledger in the folder.
    #[error("there is no ledger in {0}: it is made by `strongroom init`")]
    Missing(PathBuf),
    /// There is one already.
    #[error("there is a ledger in {0} already")]
    Exists(PathBuf),
    /// The genesis does not fit the identity, or is not one of a Solo ledger.
    #[error("the genesis record cannot be used: {0}")]
    Genesis(String),
    /// Blocks are missing or altered in the middle of the log: nothing of that ledger may be trusted before a human has looked.
    #[error(
        "{path} is damaged at byte {offset}, with good blocks behind it: restore it from a copy"
    )]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
    },
    /// A block does not follow the one before.
    #[error("{path}: block {got} where {expected} was expected")]
    Gap {
        /// Which file.
        path: PathBuf,
        /// The height that is missing.
        expected: Height,
        /// The height that is there.
        got: Height,
    },
    /// A block that is whole, and does not come to what its header says.
    #[error("{path}: block {height} does not come to what its header says: {reason}")]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// Which block.
        height: Height,
        /// What differs.
        reason: String,
    },
    /// No snapshot can be read and the log does not reach back to the beginning.
    #[error("no snapshot in {0} can be read, and the log does not begin at the first block")]
    NoBase(PathBuf),
}

impl OpenError {
    pub(crate) fn io(action: &'static str, path: &std::path::Path, source: io::Error) -> Self {
        Self::Io {
            action,
            path: path.to_owned(),
            source,
        }
    }
}
