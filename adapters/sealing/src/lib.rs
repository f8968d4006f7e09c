//! An enclave's sealed store: records that only the same role on the same platform can read, in one append-only file.
//!
//! What this crate does: [`SealedStore`] keeps records of opaque key and value, encrypted and authenticated under a key
//! that the platform gives ([`attestation::SealingKeySource`]). Changes are applied in atomic batches and are durable
//! when acknowledged; concurrent batches share one sync. A counter and a chained root hash stand for the whole history:
//! the caller puts them on the ledger ([`SealedStore::anchor`]) and compares ([`SealedStore::check`], or at opening), so
//! that a host that puts back an old file, a shortened one or another branch of it is found out.
//!
//! What it does not do: know what records mean, decide when to anchor, prove that anything was erased (a deleted record
//! is gone from the file after the next compaction, and may still be on the medium). Without an anchor, a host that puts
//! back a whole old file is not noticed. The format is in `docs/attestation.md`, "Sealed store".

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod compact;
mod disk;
pub mod error;
#[cfg(test)]
mod faults;
mod format;
mod index;
mod scan;
pub mod store;
mod writer;

pub use error::{OpenError, ReadError, RollbackError, WriteError};
pub use format::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
pub use store::{Change, OpenReport, SealedStore, StoreConfig, StoreState, Usage};
