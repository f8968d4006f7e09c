//! Enclave processes as their neighbours see them.
//!
//! What an unprivileged neighbour can do is tried by one: where the tests run as root, the processes involved run as
//! `nobody`. Each attack is tried on a process that is not hardened as well, and has to work there.

#![allow(clippy::unwrap_used)]

mod attack;
mod memory;
mod platform;
mod process;
