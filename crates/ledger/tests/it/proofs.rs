//! The state's tree and its proofs, against the `jmt` crate and against tampering.

use std::collections::BTreeMap;
use std::sync::Arc;

use jmt::mock::MockTreeStore;
use jmt::{JellyfishMerkleTree, KeyHash, SimpleHasher};
use ledger::StateProof;
use ledger::merkle::{ProofError, Tree};
use proptest::prelude::*;

/// BLAKE3 for the other implementation.
#[derive(Clone, Default)]
struct Blake3(blake3::Hasher);

impl SimpleHasher for Blake3 {
    fn new() -> Self {
        Self::default()
    }

    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self) -> [u8; 32] {
        *self.0.finalize().as_bytes()
    }
}

type Model = BTreeMap<Vec<u8>, Vec<u8>>;
type Writes = Vec<(Vec<u8>, Option<Vec<u8>>)>;

fn apply(tree: &Tree, writes: &Writes) -> Tree {
    let writes: Vec<_> = writes
        .iter()
        .map(|(key, value)| {
            let value: Option<Arc<[u8]>> = value.as_ref().map(|value| value.as_slice().into());
            let key: Arc<[u8]> = key.as_slice().into();
            (key, value)
        })
        .collect();
    tree.updated(writes.iter().map(|(key, value)| (key, value.as_ref())))
}

/// Keys from a small space, so that they meet again and are removed; values of any bytes.
fn writes() -> impl Strategy<Value = Vec<Writes>> {
    let key = (0_u16..60).prop_map(|n| n.to_be_bytes().to_vec());
    let value = prop::option::weighted(0.7, prop::collection::vec(any::<u8>(), 0..40));
    prop::collection::vec(prop::collection::vec((key, value), 0..30), 1..8)
}

proptest! {
    #[test]
    fn the_root_is_what_another_implementation_computes(batches in writes()) {
        let store = MockTreeStore::default();
        let other = JellyfishMerkleTree::<_, Blake3>::new(&store);
        let mut tree = Tree::default();
        let mut model = Model::new();
        for (version, batch) in batches.iter().enumerate() {
            tree = apply(&tree, batch);
            let mut last = BTreeMap::new();
            for (key, value) in batch {
                last.insert(key.clone(), value.clone());
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            let set = last
                .into_iter()
                .map(|(key, value)| (KeyHash::with::<Blake3>(&key), value));
            let version = u64::try_from(version).unwrap();
            let (root, update) = other.put_value_set(set, version).unwrap();
            store.write_tree_update_batch(update).unwrap();
            prop_assert_eq!(tree.root(), root.0);
            prop_assert_eq!(tree.len(), model.len());
            prop_assert_eq!(tree.entries().count(), model.len());

            for key in (0_u16..70).map(|n| n.to_be_bytes().to_vec()) {
                let (value, proof) = tree.prove(&key);
                prop_assert_eq!(value.as_deref(), model.get(&key).map(Vec::as_slice));
                prop_assert_eq!(tree.get(&key), value.as_ref());
                prop_assert_eq!(proof.verify(&root.0, &key, value.as_deref()), Ok(()));
                // The other one's proof leads to our root.
                let (_, theirs) = other
                    .get_with_proof(KeyHash::with::<Blake3>(&key), version)
                    .unwrap();
                let root = jmt::RootHash(tree.root());
                let checked = theirs.verify(
                    root,
                    KeyHash::with::<Blake3>(&key),
                    value.as_deref(),
                );
                prop_assert!(checked.is_ok());
            }
        }
    }

    #[test]
    fn batches_come_to_the_same_as_single_writes(batches in writes()) {
        let (mut single, mut batched) = (Tree::default(), Tree::default());
        for batch in &batches {
            for write in batch {
                single = apply(&single, &vec![write.clone()]);
            }
            batched = apply(&batched, batch);
            prop_assert_eq!(single.root(), batched.root());
        }
        let entries: Writes = batched
            .entries()
            .map(|(key, value)| (key.to_vec(), Some(value.to_vec())))
            .collect();
        let rebuilt = apply(&Tree::default(), &entries);
        prop_assert_eq!(rebuilt.root(), batched.root());
        prop_assert_eq!(rebuilt.len(), batched.len());
    }

    #[test]
    fn proofs_are_read_as_they_were_written(batches in writes(), at in 0_u16..60) {
        let tree = batches.iter().fold(Tree::default(), |tree, batch| apply(&tree, batch));
        let (_, proof) = tree.prove(&at.to_be_bytes());
        let bytes = proof.encode();
        prop_assert_eq!(StateProof::decode(&bytes).unwrap(), proof);
        for cut in 0..bytes.len() {
            prop_assert!(StateProof::decode(&bytes[..cut]).is_err());
        }
    }
}

/// A hundred keys; what is proved of one that is there and one that is not.
fn tree() -> Tree {
    let writes = (0_u8..100).map(|n| (vec![n], Some(vec![n; 5]))).collect();
    apply(&Tree::default(), &writes)
}

#[test]
fn no_bit_of_a_proof_can_be_changed() {
    let tree = tree();
    let root = tree.root();
    for key in [[7_u8], [200]] {
        let (value, proof) = tree.prove(&key);
        let value = value.as_deref();
        assert_eq!(proof.verify(&root, &key, value), Ok(()));
        for sibling in 0..proof.siblings.len() {
            for bit in 0..256 {
                let mut bad = proof.clone();
                bad.siblings[sibling][bit / 8] ^= 1 << (bit % 8);
                assert_eq!(
                    bad.verify(&root, &key, value),
                    Err(ProofError::AnotherRoot),
                    "sibling {sibling}, bit {bit}"
                );
            }
        }
        if let Some((place, hash)) = proof.leaf {
            for bit in 0..256 {
                let mut moved = place;
                moved[bit / 8] ^= 1 << (bit % 8);
                let bad = StateProof {
                    leaf: Some((moved, hash)),
                    ..proof.clone()
                };
                assert!(bad.verify(&root, &key, value).is_err(), "place, bit {bit}");
                let mut other = hash;
                other[bit / 8] ^= 1 << (bit % 8);
                let bad = StateProof {
                    leaf: Some((place, other)),
                    ..proof.clone()
                };
                // Of the key's own leaf only the value counts, whatever hash is said.
                let counts = place != ledger::merkle::proof::place(&key);
                assert_eq!(bad.verify(&root, &key, value).is_err(), counts);
            }
        }
        for wrong in [
            StateProof {
                siblings: proof.siblings[1..].to_vec(),
                ..proof.clone()
            },
            StateProof {
                siblings: proof.siblings[..proof.siblings.len() - 1].to_vec(),
                ..proof.clone()
            },
            StateProof {
                siblings: [proof.siblings.clone(), vec![[0; 32]]].concat(),
                ..proof.clone()
            },
            StateProof {
                siblings: vec![[0; 32]; 257],
                ..proof.clone()
            },
            StateProof {
                siblings: Vec::new(),
                ..proof.clone()
            },
        ] {
            assert!(wrong.verify(&root, &key, value).is_err());
        }
        let mut swapped = proof.clone();
        swapped.siblings.reverse();
        assert_eq!(
            swapped.verify(&root, &key, value),
            Err(ProofError::AnotherRoot)
        );
    }
}

#[test]
fn neither_presence_nor_absence_nor_another_value_can_be_claimed() {
    let tree = tree();
    let root = tree.root();
    let (value, present) = tree.prove(&[7]);
    let value = value.unwrap();
    let (_, absent) = tree.prove(&[200]);
    for (proof, key, claim) in [
        (&present, [7_u8], None),
        (&present, [7], Some([7_u8; 4].as_slice())),
        (&present, [7], Some([8; 5].as_slice())),
        (&present, [8], Some(value.as_ref())),
        (&absent, [200], Some(value.as_ref())),
        (&absent, [7], None),
        (&present, [200], None),
    ] {
        assert!(
            proof.verify(&root, &key, claim).is_err(),
            "{key:?} {claim:?}"
        );
    }
    // A leaf that is there, but elsewhere, shows nothing of this place.
    for stranger in 0_u8..100 {
        let (_, theirs) = tree.prove(&[stranger]);
        let bad = StateProof {
            leaf: theirs.leaf,
            siblings: absent.siblings.clone(),
        };
        let same = theirs.leaf == absent.leaf;
        assert_eq!(bad.verify(&root, &[200], None).is_ok(), same);
    }
    // An empty subtree where there is none.
    let bad = StateProof {
        leaf: None,
        siblings: present.siblings.clone(),
    };
    assert_eq!(bad.verify(&root, &[7], None), Err(ProofError::AnotherRoot));
}

#[test]
fn an_empty_tree_proves_that_nothing_is_there() {
    let tree = Tree::default();
    let (value, proof) = tree.prove(b"x");
    assert!(value.is_none() && proof.siblings.is_empty() && tree.is_empty());
    assert_eq!(proof.verify(&tree.root(), b"x", None), Ok(()));
    assert_eq!(
        proof.verify(&tree.root(), b"x", Some(b"")),
        Err(ProofError::NoValue)
    );
}
