//! Chunk proofs: the BLAKE3 chaining values of a chunk's blocks.
//!
//! A block is 64 KiB, a power of two of BLAKE3's 1,024-byte leaves, so each block is a complete subtree of the chunk's
//! hash tree (the last one at the right edge) and the chunk's plain BLAKE3 hash is the merge of the blocks' chaining
//! values (BLAKE3 paper, 2.1). A proof is untrusted until [`ChunkVerifier::new`] has merged it to the chunk's CID; then
//! each block can be checked alone. A chunk of one block needs no proof: its proof is empty and its hash is the CID.

use blake3::hazmat::{
    ChainingValue, HasherExt as _, Mode, merge_subtrees_non_root, merge_subtrees_root,
};
use domain::limits::{BLOCK_BYTES, CHUNK_BLOCKS_MAX, CHUNK_BYTES_MAX};
use domain::{Cid, Codec};

/// Bytes of one chaining value.
pub const CHAINING_VALUE_BYTES: usize = 32;
/// Bytes of the longest proof.
pub const PROOF_BYTES_MAX: usize = CHUNK_BLOCKS_MAX * CHAINING_VALUE_BYTES;

/// Why a proof or a block was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// Not a list of 0 or 2 to 64 chaining values.
    #[error("a chunk proof is empty or 2 to 64 values of 32 bytes, this one has {0} bytes")]
    Malformed(usize),
    /// A chunk's ciphertext is 1 byte to 4 MiB.
    #[error("a chunk has 1 byte to 4 MiB of ciphertext, not {0}")]
    ChunkLength(usize),
    /// The proof is for a chunk of another number of blocks.
    #[error("the proof has {proof} values, the chunk {blocks} blocks")]
    BlockCount {
        /// Values in the proof.
        proof: usize,
        /// Blocks of the chunk.
        blocks: usize,
    },
    /// The proof does not merge to the chunk's CID.
    #[error("the proof does not belong to chunk {expected}")]
    Root {
        /// The CID that the manifest names.
        expected: Cid,
    },
    /// The block is not the one that the CID commits to.
    #[error("block {index} of chunk {chunk} was altered")]
    Block {
        /// The chunk.
        chunk: Cid,
        /// The block's index in it.
        index: usize,
    },
}

/// The chaining values of a chunk's blocks, as made or as received; says nothing until checked against a CID.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChunkProof(Vec<ChainingValue>);

impl ChunkProof {
    /// Of a whole ciphertext.
    ///
    /// # Errors
    /// [`ProofError::ChunkLength`].
    pub fn from_ciphertext(ciphertext: &[u8]) -> Result<Self, ProofError> {
        chunk_cid_and_proof(ciphertext).map(|(_, proof)| proof)
    }

    /// Reads the concatenated values: 0 or 2 to 64 of 32 bytes.
    ///
    /// # Errors
    /// [`ProofError::Malformed`].
    pub fn decode(bytes: &[u8]) -> Result<Self, ProofError> {
        let (values, rest) = bytes.as_chunks::<CHAINING_VALUE_BYTES>();
        if !rest.is_empty() || values.len() == 1 || values.len() > CHUNK_BLOCKS_MAX {
            return Err(ProofError::Malformed(bytes.len()));
        }
        Ok(Self(values.to_vec()))
    }

    /// The concatenated values: 0, or 64 to 2,048 bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        self.0.concat()
    }

    /// Bytes of the encoded form.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0.len() * CHAINING_VALUE_BYTES
    }

    /// The CID that the values merge to; `None` for the empty proof of a one-block chunk.
    #[must_use]
    pub fn root(&self) -> Option<Cid> {
        let (left, right) = split(&self.0)?;
        let root = merge_subtrees_root(&merge(left), &merge(right), Mode::Hash);
        Some(Cid::from_digest(Codec::Raw, *root.as_bytes()))
    }
}

/// A proof that was merged to its chunk's CID: checks single blocks.
#[derive(Clone, Debug)]
pub struct ChunkVerifier {
    cid: Cid,
    ciphertext_len: usize,
    values: Vec<ChainingValue>,
}

impl ChunkVerifier {
    /// Checks `proof` against the CID and the ciphertext length that the manifest names.
    ///
    /// # Errors
    /// [`ProofError`] when the proof is another chunk's.
    pub fn new(cid: Cid, ciphertext_len: usize, proof: ChunkProof) -> Result<Self, ProofError> {
        let blocks = block_count(ciphertext_len)?;
        let expected = if blocks == 1 { 0 } else { blocks };
        if proof.0.len() != expected {
            return Err(ProofError::BlockCount {
                proof: proof.0.len(),
                blocks,
            });
        }
        if blocks > 1 && proof.root() != Some(cid) {
            return Err(ProofError::Root { expected: cid });
        }
        Ok(Self {
            cid,
            ciphertext_len,
            values: proof.0,
        })
    }

    /// Checks one block's ciphertext (with its tag).
    ///
    /// # Errors
    /// [`ProofError::Block`] for any other bytes, length or index.
    pub fn check_block(&self, index: usize, block: &[u8]) -> Result<(), ProofError> {
        let altered = ProofError::Block {
            chunk: self.cid,
            index,
        };
        let start = index.checked_mul(BLOCK_BYTES).ok_or(altered)?;
        let expected_len = self.ciphertext_len.saturating_sub(start).min(BLOCK_BYTES);
        if block.len() != expected_len || block.is_empty() {
            return Err(altered);
        }
        // Hashes of public ciphertext: nothing here is secret, an ordinary comparison will do.
        let genuine = if self.values.is_empty() {
            Cid::of_raw(block) == self.cid
        } else {
            self.values.get(index) == Some(&chaining_value(index, block))
        };
        if genuine { Ok(()) } else { Err(altered) }
    }

    /// The chunk.
    #[must_use]
    pub fn cid(&self) -> &Cid {
        &self.cid
    }

    /// Bytes of the chunk's ciphertext.
    #[must_use]
    pub fn ciphertext_len(&self) -> usize {
        self.ciphertext_len
    }
}

/// The CID and the proof of a ciphertext in one pass over it.
///
/// # Errors
/// [`ProofError::ChunkLength`] for none or more than 4 MiB.
pub fn chunk_cid_and_proof(ciphertext: &[u8]) -> Result<(Cid, ChunkProof), ProofError> {
    let mut hasher = ChunkHasher::new(ciphertext.len())?;
    for block in ciphertext.chunks(BLOCK_BYTES) {
        hasher.push_block(block);
    }
    Ok(hasher.finish())
}

/// Hashes a chunk block by block, each while it is in cache.
pub(crate) struct ChunkHasher {
    blocks: usize,
    values: Vec<ChainingValue>,
    single: Option<Cid>,
}

impl ChunkHasher {
    pub(crate) fn new(ciphertext_len: usize) -> Result<Self, ProofError> {
        let blocks = block_count(ciphertext_len)?;
        Ok(Self {
            blocks,
            values: Vec::with_capacity(blocks),
            single: None,
        })
    }

    /// The next block: 64 KiB, the last one may be shorter, none is empty.
    pub(crate) fn push_block(&mut self, block: &[u8]) {
        if self.blocks == 1 {
            self.single = Some(Cid::of_raw(block));
        } else {
            self.values.push(chaining_value(self.values.len(), block));
        }
    }

    /// All blocks were pushed.
    pub(crate) fn finish(self) -> (Cid, ChunkProof) {
        let proof = ChunkProof(self.values);
        let cid = self
            .single
            .or_else(|| proof.root())
            .expect("every block of the chunk was pushed");
        (cid, proof)
    }
}

/// 64 KiB blocks of a ciphertext; the length is checked here.
fn block_count(ciphertext_len: usize) -> Result<usize, ProofError> {
    if ciphertext_len == 0 || ciphertext_len > CHUNK_BYTES_MAX {
        return Err(ProofError::ChunkLength(ciphertext_len));
    }
    Ok(ciphertext_len.div_ceil(BLOCK_BYTES))
}

fn chaining_value(index: usize, block: &[u8]) -> ChainingValue {
    let offset = u64::try_from(index * BLOCK_BYTES).expect("an offset in a chunk fits");
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset);
    hasher.update(block);
    hasher.finalize_non_root()
}

/// BLAKE3's tree: the left subtree has the largest power of two of blocks that is less than all of them.
fn split(values: &[ChainingValue]) -> Option<(&[ChainingValue], &[ChainingValue])> {
    if values.len() < 2 {
        return None;
    }
    values.split_at_checked(values.len().div_ceil(2).next_power_of_two())
}

fn merge(values: &[ChainingValue]) -> ChainingValue {
    match (values, split(values)) {
        (_, Some((left, right))) => {
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
        ([only], None) => *only,
        // `split` leaves no side empty, and callers pass two values or more.
        _ => unreachable!("an empty subtree"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len)
            .map(|i| u8::try_from(i * 31 % 251).unwrap())
            .collect()
    }

    /// Block borders +-1 and every number of blocks, full and with a one-byte last block.
    #[test]
    fn the_root_is_the_plain_hash_for_every_shape() {
        let mut lengths = vec![1, 16, 1_023, 1_024, 1_025];
        for blocks in 1..=CHUNK_BLOCKS_MAX {
            lengths.extend([blocks * BLOCK_BYTES - 1, blocks * BLOCK_BYTES]);
            if blocks < CHUNK_BLOCKS_MAX {
                lengths.push(blocks * BLOCK_BYTES + 1);
            }
        }
        let all = bytes(CHUNK_BYTES_MAX);
        for len in lengths {
            let (cid, proof) = chunk_cid_and_proof(&all[..len]).unwrap();
            assert_eq!(cid, Cid::of_raw(&all[..len]), "{len}");
            let blocks = len.div_ceil(BLOCK_BYTES);
            assert_eq!(
                proof.encoded_len(),
                if blocks == 1 { 0 } else { blocks * 32 }
            );
            assert_eq!(ChunkProof::decode(&proof.encode()), Ok(proof.clone()));
            assert_eq!(proof.root(), (blocks > 1).then_some(cid));
            let verifier = ChunkVerifier::new(cid, len, proof).unwrap();
            let last = blocks - 1;
            let block = &all[last * BLOCK_BYTES..len];
            assert_eq!(verifier.check_block(last, block), Ok(()));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn one_flipped_bit_is_found_in_its_block(len in 1_usize..300_000, at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let mut data = bytes(len);
            let (cid, proof) = chunk_cid_and_proof(&data).unwrap();
            let at = at.index(len);
            data[at] ^= 1 << bit;
            let verifier = ChunkVerifier::new(cid, len, proof.clone()).unwrap();
            for (index, block) in data.chunks(BLOCK_BYTES).enumerate() {
                let genuine = index != at / BLOCK_BYTES;
                prop_assert_eq!(verifier.check_block(index, block).is_ok(), genuine);
            }
            if proof.encoded_len() > 0 {
                let mut altered = proof.encode();
                let at = at % altered.len();
                altered[at] ^= 1 << bit;
                let altered = ChunkProof::decode(&altered).unwrap();
                prop_assert_eq!(ChunkVerifier::new(cid, len, altered).unwrap_err(), ProofError::Root { expected: cid });
            }
        }
    }

    #[test]
    fn blocks_in_another_place_or_length_are_refused() {
        let data = bytes(3 * BLOCK_BYTES);
        let (cid, proof) = chunk_cid_and_proof(&data).unwrap();
        let verifier = ChunkVerifier::new(cid, data.len(), proof.clone()).unwrap();
        let block = |i: usize| &data[i * BLOCK_BYTES..(i + 1) * BLOCK_BYTES];
        let refused = |index| Err(ProofError::Block { chunk: cid, index });
        assert_eq!(verifier.check_block(0, block(1)), refused(0));
        assert_eq!(
            verifier.check_block(1, &block(1)[..BLOCK_BYTES - 1]),
            refused(1)
        );
        assert_eq!(verifier.check_block(3, block(2)), refused(3));
        assert_eq!(
            verifier.check_block(usize::MAX, block(2)),
            refused(usize::MAX)
        );
        assert_eq!(verifier.check_block(3, &[]), refused(3));
        // The same blocks under another length or CID.
        assert!(ChunkVerifier::new(cid, data.len() + 1, proof.clone()).is_err());
        assert!(ChunkVerifier::new(Cid::of_raw(b"x"), data.len(), proof).is_err());
    }

    #[test]
    fn lengths_are_bounded() {
        for len in [32, 33, 65 * 32, 1 << 20] {
            assert_eq!(
                ChunkProof::decode(&bytes(len)),
                Err(ProofError::Malformed(len))
            );
        }
        assert_eq!(
            chunk_cid_and_proof(&[]).unwrap_err(),
            ProofError::ChunkLength(0)
        );
        let long = bytes(CHUNK_BYTES_MAX + 1);
        assert_eq!(
            chunk_cid_and_proof(&long).unwrap_err(),
            ProofError::ChunkLength(long.len())
        );
    }
}
