//! Records: structures that are stored, signed and sent as deterministic dag-cbor, described in `docs/format.md`.
//!
//! What this crate does: it encodes, and strictly decodes, any type that names its record type and its bound
//! ([`codec`]). What it does not do: it defines no record (whoever owns the content does), signs nothing, and does no IO.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod codec;

pub use codec::RecordError;
