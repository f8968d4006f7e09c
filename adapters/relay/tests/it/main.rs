//! The relay between real sockets, over ledgers that tell the truth and over ones that do not.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod carry;
mod lies;
mod support;
mod view;
#[allow(dead_code, reason = "only parts of it are used here")]
#[path = "../../../../crates/ledger/tests/it/world.rs"]
mod world;
