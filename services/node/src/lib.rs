//! The storage node: keeps shards, gives them back, and obeys nobody but gateways of its own deployment.
//!
//! One listener (a Unix socket or mutual TLS) carries raw shard bodies, the gRPC `StorageService`, `/health` and
//! `/metrics`. Everything that a peer can make the node hold is bounded: connections, streams, bytes being written,
//! bytes being sent, time. The node can read nothing of what it keeps and is trusted for nothing; it does check that
//! what it stores hashes to its CID, says when its copy is damaged, and refuses writes with a reason when its disk is
//! full, read-only or failing, while reads go on.
//!
//! It does not decide where shards belong, does not repair, and never deletes for good: a deleted shard lies in the
//! trash for the retention.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod body;
pub mod config;
pub mod metrics;
pub mod server;
pub mod shard_store;
pub mod storage;

mod background;
mod control;
mod operations;
mod raw;
mod routes;

pub use config::{NodeConfig, NodeLimits};
pub use server::{Node, NodeError, run, run_until_signal, runtime};
