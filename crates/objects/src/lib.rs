//! What the gateway decides about sealed things: where shards lie, what is written down about them, and what has to
//! happen next.
//!
//! This crate opens nothing (it never sees a key), does no IO and reads no clock. It declares the ports that the
//! gateway drives ([`metadata::Metadata`], [`peer::ShardPeer`]) and the pure decisions around it: [`placement`], [`layout`], [`mod@read`],
//! [`small_copy`].

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod layout;
pub mod metadata;
pub mod peer;
pub mod placement;
pub mod read;
pub mod small_copy;
