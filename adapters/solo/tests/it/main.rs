//! The solo ledger through its public handle, on a real disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod damage;
mod kill;
mod life;
mod support;
#[allow(dead_code, reason = "only parts of it are used here")]
#[path = "../../../../crates/ledger/tests/it/world.rs"]
mod world;
