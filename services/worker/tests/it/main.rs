//! Workers over real sockets: with custodians that judge by the real rules, and with custodians, workers and hosts that cheat.

#![allow(clippy::unwrap_used)]

mod custodian;
mod dealing;
mod decrypting;
#[allow(dead_code, reason = "not every test of the ledger's is needed here")]
#[path = "../../../../crates/ledger/tests/it/world.rs"]
mod ledger_world;
mod program;
mod rig;
mod tree;
