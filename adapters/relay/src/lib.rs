//! How an enclave reaches the ledger, and what it keeps of it.
//!
//! What this crate does: a small framed protocol on a local socket ([`server`] on the host's side over any
//! [`ledger::port::Ledger`], [`client`] in the enclave), and [`View`]: the light client that an enclave judges with. It starts
//! from a pinned genesis, asks the validators every few seconds with a random number of its own which height is final, holds
//! every header to that, takes its time from headers, and keeps the attestation policy that the ledger proves.
//!
//! What it does not do: believe the relay. A relay can be silent, and then the view is no longer fresh and whoever uses it
//! denies; it can leave an allowed measurement out of a listing that this process has not seen yet, which also only denies. It
//! cannot show an old state as the present one for longer than the bounds in [`view`]. Nothing here links HTTP, reads a clock
//! but for timeouts, or knows what requests mean. Bounds are in [`limits`]; the messages in `proto/strongroom/v1/relay.proto`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod client;
mod convert;
pub mod limits;
mod policy;
pub mod server;
pub mod view;

pub use client::RelayClient;
pub use limits::Limits;
pub use policy::verifiers;
pub use server::serve;
pub use view::{Options, Proved, View, ViewError};

/// What a client reads out of the values in a reply; for the fuzz targets.
#[doc(hidden)]
#[must_use]
pub fn values_of(values: v1::Values) -> Option<ledger::port::Answer> {
    convert::answer(values).ok()
}

/// Messages of `strongroom.relay.v1`.
#[allow(
    missing_docs,
    clippy::pedantic,
    reason = "generated code; the contract is documented in proto/"
)]
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/strongroom.relay.v1.rs"));
}
