//! The port: what the rest of the platform asks of a ledger, whichever engine agrees on its blocks.

use std::future::Future;

use bytes::Bytes;
use domain::{Height, MerkleRoot, TransactionHash};

use crate::Genesis;
use crate::header::{Certificate, FreshAnswer, Header, HeaderError, LightClient};
use crate::merkle::{ProofError, StateProof};
use crate::receipt::Receipt;
use crate::record::{Record as _, record};
use crate::rejection::Rejection;
use crate::state::StatePrefix;

/// Why a transaction has no receipt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// It will not be applied as it stands.
    #[error("{0}")]
    Rejected(#[from] Rejection),
    /// Too many wait: nothing was taken, try again.
    #[error("the ledger is busy: try again")]
    Busy,
    /// The ledger takes no writes now. What was sent may or may not be applied when it comes back: ask with the same transaction.
    #[error("the ledger takes no transactions: {0}")]
    Unavailable(String),
}

/// Why a read has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The height that was asked for was not reached in time.
    #[error("height {wanted} is not reached: the ledger is at {height}")]
    NotReached {
        /// What was asked for.
        wanted: Height,
        /// The ledger's.
        height: Height,
    },
    /// A block that is no longer kept.
    #[error("block {0} is not kept any more")]
    Pruned(Height),
    /// The question is malformed or too large.
    #[error("{0}")]
    Malformed(String),
    /// No answer.
    #[error("the ledger does not answer: {0}")]
    Unavailable(String),
}

/// Keys in one read, at most.
pub const READ_KEYS_MAX: usize = 64;
/// Keys and values in one listing, at most.
pub const LIST_MAX: usize = 1_000;

/// How new an answer must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// What is there.
    Local,
    /// At this height or above; waits a little for it.
    AtLeast(Height),
}

/// A final block's header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinalHeader {
    /// The header.
    pub header: Header,
    /// The validators' signatures.
    pub certificate: Certificate,
}

/// A final block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Header and certificate.
    pub last: FinalHeader,
    /// The signed transactions, in order.
    pub transactions: Vec<Bytes>,
    /// What became of them.
    pub receipts: Vec<Receipt>,
}

/// Values, all of one height, with everything that shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// One for each key that was asked for, in order.
    pub values: Vec<ProvedValue>,
    /// The header of that state.
    pub last: FinalHeader,
}

/// A value, or that there is none, with the way to the header's state root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvedValue {
    /// The bytes; `None`: there are none.
    pub value: Option<Bytes>,
    /// The proof.
    pub proof: StateProof,
}

impl Answer {
    /// Checks header, certificate and every proof, for the keys that were asked for. Takes what [`LightClient::admit`] takes.
    ///
    /// # Errors
    /// [`AnswerError`].
    pub fn verify<K: AsRef<[u8]>>(
        &self,
        client: &mut LightClient,
        keys: &[K],
    ) -> Result<(), AnswerError> {
        if keys.len() != self.values.len() {
            return Err(AnswerError::Count {
                asked: keys.len(),
                got: self.values.len(),
            });
        }
        client.admit(&self.last.header, &self.last.certificate, None)?;
        let MerkleRoot(root) = self.last.header.state_root;
        for (key, proved) in keys.iter().zip(&self.values) {
            proved
                .proof
                .verify(&root, key.as_ref(), proved.value.as_deref())?;
        }
        Ok(())
    }
}

/// Why an answer shows nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// The header.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// A proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// Not one value for each key.
    #[error("{got} values for {asked} keys")]
    Count {
        /// Keys that were asked for.
        asked: usize,
        /// Values that came.
        got: usize,
    },
}

record! {
    /// A [`StateProof`] as it is stored and sent.
    ProofRecord = "state-proof", 10_000;
    /// Place of the leaf at the path's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    place: Option<domain::RecordHash>,
    /// Its value's hash; there when `place` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value_hash: Option<domain::RecordHash>,
    /// 32 bytes each, from the leaf up.
    #[serde(with = "serde_bytes")]
    siblings: Vec<u8>,
}

impl StateProof {
    /// The deterministic bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        ProofRecord {
            place: self.leaf.map(|(place, _)| domain::RecordHash(place)),
            value_hash: self.leaf.map(|(_, hash)| domain::RecordHash(hash)),
            siblings: self.siblings.concat(),
        }
        .encode()
    }

    /// Reads them strictly.
    ///
    /// # Errors
    /// [`records::RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, records::RecordError> {
        let record = ProofRecord::decode(bytes)?;
        let invalid = |reason| records::RecordError::Invalid {
            kind: "state-proof",
            reason,
        };
        let leaf = match (record.place, record.value_hash) {
            (None, None) => None,
            (Some(place), Some(hash)) => Some((place.0, hash.0)),
            _ => return Err(invalid("a leaf has a place and a value's hash")),
        };
        let (siblings, rest) = record.siblings.as_chunks::<32>();
        if !rest.is_empty() || siblings.len() > crate::merkle::proof::SIBLINGS_MAX {
            return Err(invalid("at most 256 siblings of 32 bytes"));
        }
        Ok(Self {
            leaf,
            siblings: siblings.to_vec(),
        })
    }
}

/// A ledger.
pub trait Ledger: Send + Sync {
    /// Blocks, one after the other.
    type Blocks: Blocks;

    /// What it began with.
    fn genesis(&self) -> &Genesis;

    /// Sends a signed transaction; resolves when its block is final. Sending the sender's last transaction again gives its receipt
    /// again, so an answer that was lost is found by asking once more.
    fn submit(
        &self,
        transaction: Bytes,
    ) -> impl Future<Output = Result<Receipt, SubmitError>> + Send;

    /// The values at up to [`READ_KEYS_MAX`] keys ([`crate::StateKey::encode`]), all of one height, with their proofs.
    fn read(
        &self,
        keys: Vec<Bytes>,
        freshness: Freshness,
    ) -> impl Future<Output = Result<Answer, ReadError>> + Send;

    /// Keys and values under a prefix, after `after`, in order, at most `limit` (and [`LIST_MAX`]). Without proof: a lying ledger can leave
    /// some out. Read what matters one by one.
    fn list(
        &self,
        prefix: StatePrefix,
        after: Option<Bytes>,
        limit: usize,
    ) -> impl Future<Output = Result<Vec<(Bytes, Bytes)>, ReadError>> + Send;

    /// Blocks from a height on, as they become final.
    fn subscribe(
        &self,
        from: Height,
    ) -> impl Future<Output = Result<Self::Blocks, ReadError>> + Send;

    /// The header and certificate of a height; `None`: the newest.
    fn finality(
        &self,
        height: Option<Height>,
    ) -> impl Future<Output = Result<FinalHeader, ReadError>> + Send;

    /// Validators' signed answers to a nonce: which height is final now.
    fn freshness(
        &self,
        nonce: [u8; 32],
    ) -> impl Future<Output = Result<Vec<FreshAnswer>, ReadError>> + Send;

    /// Which block has a transaction, if it is known and still kept.
    fn receipt(
        &self,
        transaction: TransactionHash,
    ) -> impl Future<Output = Result<Option<Receipt>, ReadError>> + Send;
}

/// A subscription.
pub trait Blocks: Send {
    /// The next block; waits for it. After an error the subscription is over.
    fn next(&mut self) -> impl Future<Output = Result<Block, ReadError>> + Send;
}
