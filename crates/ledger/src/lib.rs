//! The ledger's state machine: transactions, the state transition, the Merkle state and its proofs, headers and what makes
//! them final.
//!
//! What this crate does: [`check()`] says of bytes whether they are a well-formed, signed transaction of this ledger;
//! [`execute()`] applies a block of them to a [`State`] and gives writes, receipts and the next root; [`State::commit`] takes
//! the result, once. [`LightClient`], [`merkle::StateProof`] and [`records::grant::verify_chain`] are what custodians and clients check
//! with, [`VerifiedVersion`] and [`ExportedKey`] what everybody checks public keys with before encrypting to them;
//! [`port::Ledger`] is what an engine offers.
//!
//! What it does not do: agree with anybody (engines do: `adapters/solo`), keep anything on a disk, read a clock (time comes
//! from the header), draw randomness, or hold data, file names or key material.
//!
//! Everything that is stored, signed or sent is a record in deterministic dag-cbor, described in `docs/ledger.md`.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod check;
pub mod execute;
pub mod exported_key;
pub mod genesis;
pub mod header;
mod labels;
pub mod merkle;
pub mod port;
pub mod receipt;
pub mod record;
pub mod records;
pub mod rejection;
pub mod state;
pub mod transaction;
pub mod verified;

pub use check::{Chain, Checked, check};
pub use execute::{BlockContext, Executed, Executor, execute};
pub use exported_key::{ExportedKey, ExportedKeyError, Pin, PublicKey};
pub use genesis::{Genesis, Governance, Limits};
pub use header::{Certificate, FreshAnswer, Header, HeaderError, LightClient, ValidatorSet};
pub use merkle::StateProof;
pub use receipt::{Outcome, Receipt};
pub use record::Record;
pub use rejection::Rejection;
pub use state::{State, StateKey, StatePrefix};
pub use transaction::{Action, Expiry, SignedTransaction, Transaction, transaction_hash};
pub use verified::{VerifiedVersion, VersionError};
