//! The gateway: REST v1 for ciphertext, gRPC for named keys and the ledger, the write and read paths over the storage nodes, and the work behind them
//! (probes, pending shards, deletions, stale uploads).
//!
//! It sees ciphertext, sizes, times and names; it never holds what opens an object.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod app;
pub mod budget;
pub mod codecs;
pub mod config;
pub mod custody;
pub mod grpc;
pub mod http;
pub mod metrics;
pub mod node_port;
pub mod peers;
pub mod records;
pub mod recovery;
pub mod shard_io;
pub mod start;
mod store;
pub mod unsettled;
mod upkeep;
pub mod use_cases;

pub use config::{
    CustodianEndpoint, CustodyConfig, GatewayConfig, NodeEndpoint, PeerCredentials,
    ServerCertificate, WorkerEndpoint,
};
pub use start::{Gateway, GatewayError, run};
