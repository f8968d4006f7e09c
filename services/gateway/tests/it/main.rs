//! The gateway's paths against nodes that die, hang and lie.

#![allow(clippy::unwrap_used, missing_docs)]

mod fake_node;
mod shard_paths;
mod slow_receivers;
