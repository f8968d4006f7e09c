//! The shard store as a node uses it: through its public handle, on a real disk.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod kill;
mod life;
mod model;
mod support;
