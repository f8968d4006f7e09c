//! Checks that a key has a value, or has none, under the root of the state.
//!
//! The tree is the binary form of the Jellyfish Merkle tree (Gao, Hu, Wu: "Jellyfish Merkle Tree", 2021), hash for hash
//! what the `jmt` crate computes with BLAKE3: a key's place is the bits of its hash from the most significant on; a
//! subtree with one leaf is that leaf; an empty one is a constant.

/// The hash of an empty subtree.
pub const EMPTY: [u8; 32] = *b"SPARSE_MERKLE_PLACEHOLDER_HASH__";
/// Siblings in a proof, at most: one for each bit of a key's hash.
pub const SIBLINGS_MAX: usize = 256;

const LEAF: &[u8] = b"JMT::LeafNode";
const INNER: &[u8] = b"JMT::IntrnalNode";

/// Where a key lies in the tree: the BLAKE3 hash of its bytes.
#[must_use]
pub fn place(key: &[u8]) -> [u8; 32] {
    *blake3::hash(key).as_bytes()
}

/// What a leaf says of a value: the BLAKE3 hash of its bytes.
#[must_use]
pub fn value_hash(value: &[u8]) -> [u8; 32] {
    *blake3::hash(value).as_bytes()
}

/// The hash of a leaf.
#[must_use]
pub fn leaf_hash(place: &[u8; 32], value_hash: &[u8; 32]) -> [u8; 32] {
    hash_parts(LEAF, place, value_hash)
}

/// The hash of a node with two subtrees.
#[must_use]
pub fn inner_hash(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    hash_parts(INNER, left, right)
}

fn hash_parts(domain: &[u8], first: &[u8; 32], second: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(domain);
    hasher.update(first);
    hasher.update(second);
    *hasher.finalize().as_bytes()
}

/// Bit `index` of a place, from the most significant; 256 and above: `false`.
#[must_use]
pub fn bit(place: &[u8; 32], index: usize) -> bool {
    place
        .get(index / 8)
        .is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0)
}

/// Why a proof is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// More siblings than a place has bits.
    #[error("a proof has at most {SIBLINGS_MAX} siblings, this one has {0}")]
    TooLong(usize),
    /// The leaf is of another key, or there is none, although a value is claimed.
    #[error("the proof shows no value at this key")]
    NoValue,
    /// The leaf is of this key, although absence is claimed.
    #[error("the proof shows a value at this key")]
    HasValue,
    /// The leaf that is said to lie in this key's place does not.
    #[error("the proof's leaf does not lie on this key's path")]
    ElsewhereLeaf,
    /// It leads to another root.
    #[error("the proof leads to another root")]
    AnotherRoot,
}

/// The way from a place in the tree to the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateProof {
    /// The leaf at the end of the path, as place and value hash: the key's own, another one's, or none.
    pub leaf: Option<([u8; 32], [u8; 32])>,
    /// Hashes of the subtrees beside the path, from the leaf up to the root.
    pub siblings: Vec<[u8; 32]>,
}

impl StateProof {
    /// Checks that `key` has exactly `value` (`None`: no value) under `root`.
    ///
    /// # Errors
    /// [`ProofError`].
    pub fn verify(
        &self,
        root: &[u8; 32],
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), ProofError> {
        let depth = self.siblings.len();
        if depth > SIBLINGS_MAX {
            return Err(ProofError::TooLong(depth));
        }
        let place = place(key);
        let start = match (value, &self.leaf) {
            (Some(value), Some((at, _))) if *at == place => leaf_hash(at, &value_hash(value)),
            (Some(_), _) => return Err(ProofError::NoValue),
            (None, None) => EMPTY,
            (None, Some((at, _))) if *at == place => return Err(ProofError::HasValue),
            (None, Some((at, value))) => {
                if (0..depth).any(|index| bit(at, index) != bit(&place, index)) {
                    return Err(ProofError::ElsewhereLeaf);
                }
                leaf_hash(at, value)
            }
        };
        let mut hash = start;
        for (sibling, index) in self.siblings.iter().zip((0..depth).rev()) {
            hash = if bit(&place, index) {
                inner_hash(sibling, &hash)
            } else {
                inner_hash(&hash, sibling)
            };
        }
        if hash == *root {
            Ok(())
        } else {
            Err(ProofError::AnotherRoot)
        }
    }
}
