//! Keys that nobody holds: Shamir's sharing, the post-quantum leg's deal and rebuild, distributed generation of the
//! threshold leg, and partial decryption with proofs.
//!
//! What this crate does, each part on its own and without IO:
//! - [`shamir`]: t-of-n sharing of bytes over GF(2^8), in constant time;
//! - [`pq`]: the 64-byte ML-KEM seed dealt, opened, rebuilt, and checked before a sharing becomes active;
//! - [`dkg`]: the ristretto255 key made by n parties of whom none is trusted, as a machine that is fed messages and ticks;
//! - [`partial`]: TDH2 partial decryption (Shoup and Gennaro 2002) with proofs that name who cheated, checked one by one or
//!   in batches, and combined;
//! - [`commitments`] and [`record`]: what the ledger pins of a sharing, and what a custodian stores of it.
//!
//! What it does not do: implement the group (curve25519-dalek), FROST's key generation (frost-ristretto255) or ML-KEM (a
//! function is passed in); make or check ciphertext proofs (`crypto`); decide who may decrypt (`custody`); read a clock,
//! draw randomness, send or store anything. Nothing here has been audited.
//!
//! Conventions: byte layouts are fixed, big-endian except for ristretto255's own encodings (RFC 9496), and decoders
//! accept exactly what encoders give. Every hash, challenge and signature carries its own label, the deployment and the
//! [`Sharing`] that it is about.

#![cfg_attr(not(test), warn(clippy::indexing_slicing))]
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod bytes;
pub mod commitments;
pub mod dh;
pub mod dkg;
mod dleq;
mod gf256;
mod labels;
pub mod partial;
pub mod pq;
pub mod record;
pub mod shamir;
pub mod sharing;

pub use commitments::{CommitmentList, ShareCommitment};
pub use dh::{DhPublic, DhShare};
pub use partial::{Partial, VerifiedPartial};
pub use pq::PqShare;
pub use record::CustodianRecord;
pub use sharing::Sharing;
