//! What the client alone makes and opens: chunks and manifests, entries, bucket records, bucket keys, small records,
//! envelopes (small payloads and streams for named keys, identities and passphrases), and armor.
//!
//! Every record is deterministic dag-cbor with a `type` and a version, decoded strictly: bounded before it is parsed,
//! and refused unless encoding it again gives the same bytes. The layouts are `docs/format.md`. Signed records are
//! [`signed::Signed`]: decoding one checks no signature, its `verify` does, and what needs a checked record asks for the
//! type that only `verify` returns.
//!
//! A reader's chain, each link a type that the next one asks for: bucket record -> [`bucket::VerifiedBucket`] -> entry
//! ([`entry::SignedEntry::verify`]) -> manifest ([`object::ObjectOpener`], which checks CID, DEK commitment and HMAC) ->
//! chunk CID or proof -> tag. Nothing unchecked leaves.
//!
//! This crate does no IO, reads no clock, draws no randomness of its own.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod armor;
pub mod bucket;
pub mod bucket_key;
pub mod entry;
pub mod envelope;
pub mod manifest;
pub mod object;
pub mod signed;
pub mod small;
pub mod version;
mod wraps;

pub use records::codec;

pub use bucket::{Bucket, BucketRecord, FormerWriter, Readers, VerifiedBucket, WriterSet};
pub use bucket_key::BucketKeyRecord;
pub use codec::RecordError;
pub use entry::{Entry, Predecessor, SignedEntry, Target};
pub use envelope::Envelope;
pub use manifest::{ChunkEntry, ContentManifest, Geometry, ManifestBuilder};
pub use object::{ChunkRead, ObjectOpener, ObjectSealer};
pub use small::SmallRecord;
pub use version::VersionRecord;
