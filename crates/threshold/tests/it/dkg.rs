//! Key generation among honest, silent, lying, equivocating and replaying parties, over a network that reorders.
//!
//! Time is rounds: a message that an honest party sends in one round arrives in that round or the next, in any order. That
//! is the assumption under which silence is blamed on the right party; proven faults need none.

mod adversary;
mod cluster;
mod faults;
mod random;

pub use cluster::{identity, plan};
