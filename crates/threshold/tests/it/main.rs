//! The machines against adversaries, other implementations and exhaustive enumeration.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod dkg;
mod partials;
mod pq;
mod record;
mod shamir;
mod support;
#[allow(
    dead_code,
    reason = "shared with the tests of `sealed`, which use all of it"
)]
#[path = "../../../sealed/tests/it/vector_files.rs"]
mod vector_files;
mod vectors;
