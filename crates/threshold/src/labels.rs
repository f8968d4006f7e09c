//! What this crate hashes, derives and signs for. The names are part of the formats in `docs/threshold.md`.

use crypto::Label;

/// Commits to one share of the post-quantum leg.
pub(crate) const PQ_SHARE: Label = Label::new("pq-share");
/// Hashes both legs' commitments of one index.
pub(crate) const SHARE: Label = Label::new("share");
/// Hashes the commitments of all indices.
pub(crate) const SHARES_ROOT: Label = Label::new("shares-root");
/// Challenge of the proof that a partial decryption is right.
pub(crate) const PARTIAL_PROOF: Label = Label::new("partial-proof");
/// Derives a proof's nonce from the secret, fresh randomness and the statement.
pub(crate) const PROOF_NONCE: Label = Label::new("proof-nonce");
/// Derives the weights with which proofs are checked together; never stored.
pub(crate) const BATCH_WEIGHTS: Label = Label::new("partial-proof-weights");
/// Derives the random polynomial of the degree check on share public keys; never stored.
pub(crate) const DEGREE_CHECK: Label = Label::new("share-degree-check");
/// Hashes the payload of a key generation message.
pub(crate) const DKG_PAYLOAD: Label = Label::new("dkg-payload");
/// Signs a key generation message.
pub(crate) const DKG_MESSAGE: Label = Label::new("dkg-message");
/// Derives the pad of a share that one party sends another in key generation.
pub(crate) const DKG_SHARE: Label = Label::new("dkg-share");
/// Challenge of the proof with which a party shows the pad of a share that it complains about.
pub(crate) const DKG_COMPLAINT: Label = Label::new("dkg-complaint");
