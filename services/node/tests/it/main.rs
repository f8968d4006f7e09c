//! A whole node in this process, asked over both kinds of listener.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod bounds;
mod conformance;
mod faults;
mod lifecycle;
mod memory;
mod permissions;
mod support;
mod wire_level;
