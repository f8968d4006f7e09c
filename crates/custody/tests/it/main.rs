//! What clients, custodians and workers rely on.

mod answers;
mod audit;
mod audit_rules;
mod fixture;
mod judge;
mod requests;
mod versions;

#[allow(dead_code)]
#[path = "../../../ledger/tests/it/world.rs"]
mod world;
