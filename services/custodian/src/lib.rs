//! A custodian: holds shares of named keys, judges each request by itself, and writes down what it decided.
//!
//! What this crate does: it keeps identity, shares and audit log in a sealed store ([`store`]), takes part in making keys
//! ([`ceremonies`]), and answers questions over attested sessions ([`Custodian`]). The rules are in `custody`, the
//! mathematics in `threshold`; here is what needs a disk, a socket and a clock for timeouts.
//!
//! What it does not do: talk to other custodians (workers carry the messages of a key generation), reach the ledger but through
//! a relay that it believes nothing, link HTTP, consensus or a database, or release anything that is not in its audit log.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod anchoring;
pub mod audit_log;
pub mod ceremonies;
pub mod config;
mod convert;
mod counters;
mod custodian;
mod outcome;
pub mod start;
pub mod store;
mod versions;

pub use config::Config;
pub use custodian::Custodian;
pub use start::{Running, StartError, describe, start};
