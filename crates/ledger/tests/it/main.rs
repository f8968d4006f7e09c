//! The state machine from outside: whole blocks, whole proofs.

#![allow(clippy::unwrap_used, reason = "a test that cannot set itself up fails")]

mod codes;
mod exported;
mod grants;
mod headers;
mod keys;
mod model;
mod policy;
mod proofs;
#[allow(
    dead_code,
    reason = "shared with the tests of `sealed`, which use all of it"
)]
#[path = "../../../sealed/tests/it/vector_files.rs"]
mod vector_files;
mod vectors;
#[allow(dead_code, reason = "engines' tests use parts that are not used here")]
mod world;
