//! End to end: a whole platform of real processes per test, used through the program as a user would.

#![allow(clippy::unwrap_used)]

mod harness;
mod idle;
mod round_trip;
