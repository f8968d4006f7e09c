//! What custodians, workers and whoever asks them say to each other: the messages of `proto/strongroom/v1/custody.proto`.
//!
//! What this crate does: hold the generated messages and their bounds. What it does not do: carry them (`attested`), know
//! what the records inside them mean (`ledger`, `custody`), or link an HTTP stack: enclaves use it.

/// Messages of `strongroom.custody.v1`.
#[allow(
    missing_docs,
    clippy::pedantic,
    reason = "generated code; the contract is documented in proto/"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/strongroom.custody.v1.rs"));
}

/// Ciphertexts in one request, at most.
pub const CIPHERTEXTS_MAX: usize = 64;
/// Bytes of one encoded message, at most.
pub const MESSAGE_BYTES_MAX: usize = 2 << 20;
