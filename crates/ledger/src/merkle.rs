//! Merkle trees: the state's sparse tree with inclusion and absence proofs, and lists in the manner of RFC 6962.
//!
//! [`proof`] and [`list`] are all that a verifier links: they need BLAKE3 and nothing else.

pub mod list;
pub mod proof;
pub mod tree;

pub use proof::{ProofError, StateProof};
pub use tree::Tree;
