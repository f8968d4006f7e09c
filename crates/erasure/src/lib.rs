//! Reed-Solomon erasure coding over GF(2^8): encode a chunk into `k + m` shards, get any of them back from any `k`.
//!
//! The code is fixed, because shards outlive the program that wrote them: field polynomial `0x11D`, systematic (the first
//! `k` shards are the chunk itself, cut into contiguous pieces of `ceil(len / k)` bytes and padded with zeros), parity row
//! `i` (counted from `k`) has the coefficient `1 / (i XOR j)` for data shard `j`. That is ISA-L's `gf_gen_cauchy1_matrix`,
//! and the parity bytes equal those of ISA-L 2.30. The one exception is `k = 1`, which is plain replication: every shard
//! is a copy of the chunk.
//!
//! The code works byte by byte: byte `c` of any shard depends on byte `c` of the others alone. So a column range of a shard
//! can be reconstructed from the same column range of `k` others, without fetching whole shards.
//!
//! What this crate does not do: it does not detect corruption (shards carry CIDs for that; a wrong input shard gives wrong
//! output), it does not know about nodes, chunks' proofs or placement, and it does no IO. It starts no threads.
//!
//! The arithmetic runs on the fastest of several kernels that the processor offers, chosen at run time; see [`Kernel`].
//! `unsafe` code lives only in the modules of the vector kernels and in `kernel`, which calls them.

#![deny(unsafe_op_in_unsafe_fn)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod codec;
mod error;
mod field;
mod kernel;
mod matrix;

pub use codec::{Codec, SHARDS_MAX};
pub use error::CodecError;
pub use kernel::{Kernel, kernel_name};
