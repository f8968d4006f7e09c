//! Merkle trees over lists, as RFC 6962 section 2.1 builds them, with BLAKE3 for SHA-256: the transactions and receipts
//! of a block, audit records and batches whose roots are anchored.

use domain::MerkleRoot;

/// Siblings in a proof, at most: lists have fewer than 2^64 items.
pub const SIBLINGS_MAX: usize = 64;

fn leaf(item: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[0]);
    hasher.update(item);
    *hasher.finalize().as_bytes()
}

fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[1]);
    hasher.update(left);
    hasher.update(right);
    *hasher.finalize().as_bytes()
}

/// The root over `items`; of no items: the hash of nothing.
#[must_use]
pub fn root<T: AsRef<[u8]>>(items: &[T]) -> MerkleRoot {
    let leaves: Vec<[u8; 32]> = items.iter().map(|item| leaf(item.as_ref())).collect();
    MerkleRoot(subtree(&leaves))
}

/// Merkle tree hash (RFC 6962, 2.1).
fn subtree(leaves: &[[u8; 32]]) -> [u8; 32] {
    match leaves {
        [] => *blake3::hash(b"").as_bytes(),
        [one] => *one,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node(&subtree(left), &subtree(right))
        }
    }
}

/// The largest power of two below `len`, which is at least 2.
fn split(len: usize) -> usize {
    len.div_ceil(2).next_power_of_two()
}

/// That an item stands at its place in a list: siblings from the leaf up (RFC 6962, 2.1.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListProof {
    /// Place in the list.
    pub index: u64,
    /// Length of the list.
    pub len: u64,
    /// Hashes beside the path.
    pub siblings: Vec<[u8; 32]>,
}

/// The proof for the item at `index`; `None` beyond the end.
#[must_use]
pub fn prove<T: AsRef<[u8]>>(items: &[T], index: usize) -> Option<ListProof> {
    if index >= items.len() {
        return None;
    }
    let leaves: Vec<[u8; 32]> = items.iter().map(|item| leaf(item.as_ref())).collect();
    let mut siblings = Vec::new();
    path(&leaves, index, &mut siblings);
    Some(ListProof {
        index: u64::try_from(index).ok()?,
        len: u64::try_from(items.len()).ok()?,
        siblings,
    })
}

fn path(leaves: &[[u8; 32]], index: usize, siblings: &mut Vec<[u8; 32]>) {
    if leaves.len() < 2 {
        return;
    }
    let middle = split(leaves.len());
    let (left, right) = leaves.split_at(middle);
    if index < middle {
        path(left, index, siblings);
        siblings.push(subtree(right));
    } else {
        path(right, index - middle, siblings);
        siblings.push(subtree(left));
    }
}

impl ListProof {
    /// Whether `item` stands at [`ListProof::index`] of a list of [`ListProof::len`] items with that root (RFC 9162,
    /// 2.1.3.2).
    #[must_use]
    pub fn verify(&self, root: &MerkleRoot, item: &[u8]) -> bool {
        if self.index >= self.len || self.siblings.len() > SIBLINGS_MAX {
            return false;
        }
        let (mut number, mut last) = (self.index, self.len - 1);
        let mut hash = leaf(item);
        for sibling in &self.siblings {
            if last == 0 {
                return false;
            }
            if number & 1 == 1 || number == last {
                hash = node(sibling, &hash);
                while number & 1 == 0 && number != 0 {
                    number >>= 1;
                    last >>= 1;
                }
            } else {
                hash = node(&hash, sibling);
            }
            number >>= 1;
            last >>= 1;
        }
        last == 0 && hash == root.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_of_every_short_list_is_proved_and_no_other() {
        let items: Vec<Vec<u8>> = (0_u8..40).map(|n| vec![n; 3]).collect();
        for len in 0..items.len() {
            let list = &items[..len];
            let root = root(list);
            assert_eq!(prove(list, len), None);
            for index in 0..len {
                let proof = prove(list, index).unwrap();
                for (other, item) in items.iter().enumerate() {
                    assert_eq!(
                        proof.verify(&root, item),
                        other == index,
                        "{index} of {len}"
                    );
                }
                for place in 0..len {
                    let moved = ListProof {
                        index: u64::try_from(place).unwrap(),
                        ..proof.clone()
                    };
                    assert_eq!(moved.verify(&root, &items[index]), place == index);
                }
                for bit in 0..proof.siblings.len() * 256 {
                    let mut bad = proof.clone();
                    bad.siblings[bit / 256][bit % 256 / 8] ^= 1 << (bit % 8);
                    assert!(!bad.verify(&root, &items[index]));
                }
                let mut longer = proof.clone();
                longer.siblings.push([0; 32]);
                assert!(!longer.verify(&root, &items[index]));
                let mut shorter = proof;
                if shorter.siblings.pop().is_some() {
                    assert!(!shorter.verify(&root, &items[index]));
                }
            }
        }
    }

    #[test]
    fn an_inner_node_is_no_item() {
        let items = [b"a", b"b"];
        let (a, b) = (leaf(b"a"), leaf(b"b"));
        let root = root(&items);
        assert_eq!(node(&a, &b), root.0);
        assert_ne!(super::root(&[[a, b].concat()]), root);
    }
}
