//! The client: everything that happens to an object outside the platform.
//!
//! It encrypts, names, signs and checks; the gateway stores ciphertext and is believed in nothing but availability. What
//! a [`Client`] returns was checked link by link: bucket record (pinned at first use) -> entry signature and writer set ->
//! manifest CID, key commitment and HMAC -> chunk CID or proof -> tag. Used by the command line, the benchmarks and
//! programs that speak to Strongroom directly.
//!
//! [`Client::ledger`] reads the ledger by proof from a pinned genesis, [`Client::keys`] makes, grants and opens named keys: custodians and
//! workers are believed what their signatures and proofs show.
//!
//! What it does not do: parse options, print, walk folders, or keep anything secret on disk unsealed.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod api;
mod bucket;
mod buffers;
mod client;
mod config;
mod connector;
mod copy;
mod download;
mod error;
mod get;
mod key;
pub mod keys;
pub mod ledger;
mod named_keys;
mod pace;
mod put;
mod random;
mod state;
mod transport;
mod upload;

pub use crate::keys::{KeyAddress, Keys};
pub use crate::ledger::Ledger;
pub use bucket::{Bucket, BucketChange};
pub use client::{Client, ListOptions};
pub use config::{ClientConfig, DeploymentPin};
pub use copy::CopyOptions;
pub use download::Downloaded;
pub use error::{Error, ErrorKind, Result};
pub use get::{ByteRange, GetOptions, ObjectHead, VerifyReport};
pub use named_keys::{Later, NamedKeys};
pub use put::{Condition, PutOptions, Stored};
pub use state::endpoint_pin as pinned_deployment;

/// Told how many more bytes of plaintext are done (stored and acknowledged, or checked and delivered).
pub type Progress = std::sync::Arc<dyn Fn(u64) + Send + Sync>;
