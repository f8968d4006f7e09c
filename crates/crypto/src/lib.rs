//! Secrets, identities, labelled derivations and signatures, the block stream of object format version 1, key wraps, the
//! hybrid threshold KEM of named keys.
//!
//! What this crate does: it holds every cryptographic construction that Strongroom has of its own, each one described
//! byte by byte in `docs/format.md`. What it does not do: implement primitives (AES-256-GCM, AES key wrap, HKDF, HMAC
//! and Ed25519 are aws-lc-rs, X-Wing and HPKE are `hpke`, ML-KEM is libcrux, ristretto255 is `curve25519-dalek`, Argon2id is
//! `argon2`, BLAKE3 is `blake3`), encode records
//! (that is `sealed`), read a clock, or draw randomness: a `CryptoRng` is always passed in.
//!
//! Conventions: integers in byte layouts are big-endian; every derivation and signature is bound to a [`Label`] and,
//! once a deployment exists, to its id; names that begin with `danger_` can break a guarantee when misused.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod block_stream;
pub mod chunk_proof;
pub mod context;
pub mod dek;
pub mod dhkem;
mod hpke_base;
pub mod hybrid;
pub mod identity;
pub mod identity_file;
mod kdf;
pub mod kem;
pub mod label;
pub mod passphrase;
pub mod recovery;
pub mod ristretto;
mod sealed_box;
pub mod sealed_store;
pub mod secret;
pub mod seed_text;
pub mod wrap;

pub use block_stream::{ChunkOpener, ChunkSalt, SealedChunk};
pub use chunk_proof::{ChunkProof, ChunkVerifier};
pub use context::{ContextHash, EncryptionContext};
pub use dek::Dek;
pub use identity::{Identity, Signature};
pub use label::Label;
pub use secret::Secret;
pub use wrap::NamedKeyWrap;
