//! The machines against adversaries, other implementations and exhaustive enumeration.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod dkg;
mod partials;
mod pq;
mod record;
mod shamir;
mod support;
