//! The worker: the one process that sees the post-quantum leg of a named key, for one operation at a time.
//!
//! What this crate does, each on what the ledger proves and no further:
//! - **decrypt**: asks t custodians, rebuilds the ML-KEM seed from their shares, decapsulates, forgets the seed, and seals the
//!   post-quantum secrets to whoever the signed request names. Custodians' partials pass through sealed; the worker cannot open
//!   them, so it never has the key of a ciphertext.
//! - **deal**: carries the messages of the custodians' key generation, deals the post-quantum leg of a pending key version, and has every
//!   custodian keep its share and say so.
//! - **activate**: as another worker than the dealer, collects all shares of a pending version and checks that they are shares of one key.
//!
//! What it does not do: decide who may decrypt (each custodian does, by itself), keep anything but its own signing key, or believe the
//! host about the ledger. It links no HTTP, consensus or database code: a test lists its dependencies.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod activate;
mod answer;
mod choice;
mod counters;
mod deal;
mod decrypt;
pub mod identity;
pub mod program;
mod proof;
mod refusal;
pub mod settings;
pub mod state;

pub use settings::Settings;
pub use state::{About, Parts, Worker};
