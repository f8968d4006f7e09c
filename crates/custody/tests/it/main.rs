//! What clients, custodians and workers rely on.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]
#![allow(clippy::type_complexity, reason = "tuples of bytes as they are sent")]

mod answers;
mod audit;
mod audit_rules;
mod fixture;
mod judge;
mod permits;
mod requests;
mod versions;

#[allow(dead_code)]
#[path = "../../../ledger/tests/it/world.rs"]
mod world;
