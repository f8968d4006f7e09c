//! Connections between processes, the right ones and all the others.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod answers;
mod connections;
mod handshake;
mod pki;
mod support;
