//! Custodians in this process, over a real ledger, a real relay and real sockets.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod life;
mod process;
mod storage;
mod support;
mod tree;
