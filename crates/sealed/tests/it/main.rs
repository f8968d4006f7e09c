//! Records and objects from the outside: what a client makes, what a reader must refuse, and the committed vectors.

#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

mod chain;
mod envelopes;
mod fields;
mod objects;
mod round_trips;
mod support;
mod vector_files;
mod vectors;
