//! A validator over its real listeners, asked through the typed client. The same suite runs over the engine itself: whatever
//! implements the port passes it.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod over_wire;
mod suite;
#[allow(dead_code, reason = "only parts of it are used here")]
#[path = "../../../../crates/ledger/tests/it/world.rs"]
mod world;
