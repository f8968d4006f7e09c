//! What travels: REST types, request signatures, bearer tokens, gRPC code, and conversions to domain types.
//!
//! What this crate does not do: open connections, read a clock, remember nonces, or look inside sealed records.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod grpc;
pub mod http_signature;
pub mod problem;
pub mod rest;
pub mod token;
