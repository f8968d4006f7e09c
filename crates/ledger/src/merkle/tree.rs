//! The state's tree, whole in memory. Persistent: an update shares what it does not change, so a reader, a snapshot
//! writer and the next block each keep the tree they have.

use std::sync::Arc;

use super::proof::{EMPTY, StateProof, bit, inner_hash, leaf_hash, place, value_hash};

/// Keys and values under one root. Cloning it is cheap.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    root: Node,
    len: usize,
}

#[derive(Clone, Debug, Default)]
enum Node {
    #[default]
    Empty,
    Leaf(Arc<Leaf>),
    Inner(Arc<Inner>),
}

#[derive(Debug)]
struct Leaf {
    place: [u8; 32],
    hash: [u8; 32],
    key: Arc<[u8]>,
    value: Arc<[u8]>,
}

#[derive(Debug)]
struct Inner {
    hash: [u8; 32],
    left: Node,
    right: Node,
}

/// A change of one key; `leaf` is `None` when the key goes.
struct Change {
    place: [u8; 32],
    leaf: Option<Arc<Leaf>>,
}

impl Tree {
    /// The root: [`EMPTY`] without keys.
    #[must_use]
    pub fn root(&self) -> [u8; 32] {
        self.root.hash()
    }

    /// How many keys have a value.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether no key has one.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The value at `key`.
    #[must_use]
    pub fn get(&self, key: &[u8]) -> Option<&Arc<[u8]>> {
        let place = place(key);
        let mut node = &self.root;
        for depth in 0.. {
            match node {
                Node::Empty => return None,
                Node::Leaf(leaf) => return (leaf.place == place).then_some(&leaf.value),
                Node::Inner(inner) => node = inner.side(bit(&place, depth)),
            }
        }
        None
    }

    /// The value at `key`, or that there is none, with the way to the root.
    #[must_use]
    pub fn prove(&self, key: &[u8]) -> (Option<Arc<[u8]>>, StateProof) {
        let place = place(key);
        let mut siblings = Vec::with_capacity(32);
        let mut node = &self.root;
        while let Node::Inner(inner) = node {
            let right = bit(&place, siblings.len());
            siblings.push(inner.side(!right).hash());
            node = inner.side(right);
        }
        siblings.reverse();
        let (value, leaf) = match node {
            Node::Leaf(leaf) => (
                (leaf.place == place).then(|| leaf.value.clone()),
                Some((leaf.place, value_hash(&leaf.value))),
            ),
            _ => (None, None),
        };
        (value, StateProof { leaf, siblings })
    }

    /// The tree with these values set, or removed where `None`. A key that is given twice has its last value.
    #[must_use]
    pub fn updated<'a>(
        &self,
        writes: impl IntoIterator<Item = (&'a Arc<[u8]>, Option<&'a Arc<[u8]>>)>,
    ) -> Self {
        let mut changes: Vec<Change> = writes
            .into_iter()
            .map(|(key, value)| {
                let place = place(key);
                let leaf = value.map(|value| {
                    Arc::new(Leaf {
                        place,
                        hash: leaf_hash(&place, &value_hash(value)),
                        key: key.clone(),
                        value: value.clone(),
                    })
                });
                Change { place, leaf }
            })
            .collect();
        changes.sort_by_key(|change| change.place);
        // Of equal places the last one stays.
        changes.reverse();
        changes.dedup_by(|later, earlier| later.place == earlier.place);
        changes.reverse();
        let mut len = self.len;
        let root = update(&self.root, &changes, 0, &mut len);
        Self { root, len }
    }

    /// Every key and value, in the order of their places.
    pub fn entries(&self) -> impl Iterator<Item = (&Arc<[u8]>, &Arc<[u8]>)> {
        let mut stack = vec![&self.root];
        std::iter::from_fn(move || {
            loop {
                match stack.pop()? {
                    Node::Empty => {}
                    Node::Leaf(leaf) => return Some((&leaf.key, &leaf.value)),
                    Node::Inner(inner) => {
                        stack.push(&inner.right);
                        stack.push(&inner.left);
                    }
                }
            }
        })
    }
}

impl Node {
    fn hash(&self) -> [u8; 32] {
        match self {
            Self::Empty => EMPTY,
            Self::Leaf(leaf) => leaf.hash,
            Self::Inner(inner) => inner.hash,
        }
    }
}

impl Inner {
    fn side(&self, right: bool) -> &Node {
        if right { &self.right } else { &self.left }
    }
}

/// Applies changes, sorted by place and each place once, to the subtree at `depth` (at most 256: two different places
/// part at one of their 256 bits).
fn update(node: &Node, changes: &[Change], depth: usize, len: &mut usize) -> Node {
    if changes.is_empty() {
        return node.clone();
    }
    match node {
        Node::Empty => build(None, changes, depth, len),
        Node::Leaf(leaf) => {
            let replaced = changes
                .binary_search_by(|change| change.place.cmp(&leaf.place))
                .is_ok();
            *len -= 1;
            if !replaced {
                *len += 1;
            }
            build((!replaced).then_some(leaf), changes, depth, len)
        }
        Node::Inner(inner) => {
            let (left, right) = split(changes, depth);
            join(
                update(&inner.left, left, depth + 1, len),
                update(&inner.right, right, depth + 1, len),
            )
        }
    }
}

/// A subtree of the leaves that `changes` bring and the one that was there.
fn build(kept: Option<&Arc<Leaf>>, changes: &[Change], depth: usize, len: &mut usize) -> Node {
    match (kept, changes) {
        (None, []) => Node::Empty,
        (Some(leaf), []) => Node::Leaf(leaf.clone()),
        (None, [one]) => match &one.leaf {
            None => Node::Empty,
            Some(leaf) => {
                *len += 1;
                Node::Leaf(leaf.clone())
            }
        },
        _ => {
            let (left, right) = split(changes, depth);
            let (kept_left, kept_right) = match kept {
                Some(leaf) if bit(&leaf.place, depth) => (None, Some(leaf)),
                other => (other, None),
            };
            join(
                build(kept_left, left, depth + 1, len),
                build(kept_right, right, depth + 1, len),
            )
        }
    }
}

fn split(changes: &[Change], depth: usize) -> (&[Change], &[Change]) {
    changes.split_at(changes.partition_point(|change| !bit(&change.place, depth)))
}

/// One node over two subtrees; a leaf alone moves up.
fn join(left: Node, right: Node) -> Node {
    match (&left, &right) {
        (Node::Empty, Node::Empty | Node::Leaf(_)) => right,
        (Node::Leaf(_), Node::Empty) => left,
        _ => Node::Inner(Arc::new(Inner {
            hash: inner_hash(&left.hash(), &right.hash()),
            left,
            right,
        })),
    }
}
