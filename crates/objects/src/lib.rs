//! What the gateway decides about sealed things: where shards lie, what is written down about them, and what has to
//! happen next.
//!
//! This crate opens nothing (it never sees a key), does no IO and reads no clock. It declares the ports that the
//! gateway drives ([`metadata::Metadata`]) and the pure decisions behind them: [`layout`].

pub mod layout;
pub mod metadata;
