//! The gateway's paths against nodes that die, hang and lie.

mod fake_node;
mod shard_paths;
