//! The validator: keeps the ledger and answers for it.
//!
//! One listener (a Unix socket or mutual TLS) carries the gRPC `LedgerService`, `/health` and `/metrics`. What it answers
//! need not be trusted: values come with proofs, headers with certificates. The one engine so far is solo, and every status
//! says what that means: the operator is the ledger.
//!
//! It does not decide what a transaction does (`ledger`), and does not keep the log (`solo`).

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod config;
pub mod metrics;
pub mod server;

mod control;
mod routes;

pub use config::ValidatorConfig;
pub use server::{Validator, ValidatorError, run, run_until_signal};
