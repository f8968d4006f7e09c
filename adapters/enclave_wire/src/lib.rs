//! What custodians, workers and whoever asks them say to each other: the messages of `proto/strongroom/v1/custody.proto`.
//!
//! What this crate does: hold the generated messages and their bounds, and keep the secret fields of some out of logs and of
//! memory that is given back ([`secrets`]), and lend what is shown of the ledger to `custody`'s rules ([`proof`]). What it does not
//! do: carry them (`enclave_client` over `attested`), know what the records inside them mean (`ledger`, `custody`), or link an HTTP
//! stack: enclaves use it.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod proof;
pub mod secrets;

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
/// Values in one [`v1::LedgerProof`], at most.
pub const PROOF_VALUES_MAX: usize = custody::proof::VALUES_MAX;
/// Messages in one [`v1::Ceremony`] step, at most.
pub const CEREMONY_MESSAGES_MAX: usize = 256;
/// Bytes of all messages in one [`v1::Ceremony`] step, at most.
pub const CEREMONY_BYTES_MAX: usize = 1 << 20;
/// Bytes of a post-quantum share with its opening.
pub const PQ_SHARE_BYTES: usize = 96;
