//! Which nodes hold the shards of a chunk: weighted rendezvous hashing, spread over zones.
//!
//! Every node gets a score from a hash of (chunk, node); the best `n` win, taking zones in turn so that no zone holds
//! two shards before every zone that can holds one. Adding or losing a node moves only the shards that must move.
//! Weights: score = -weight / ln(u) with u uniform in (0, 1), as in Schindelhauer and Schomaker, "Weighted distributed
//! hash tables" (SPAA 2005).

use domain::Cid;

use crate::layout::NodeSlot;

/// A node that may be given shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its slot.
    pub node: NodeSlot,
    /// Its failure domain.
    pub zone: String,
    /// Relative capacity; 0 counts as 1.
    pub weight: u32,
}

/// Fewer nodes than shards.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{needed} nodes are needed for a chunk, {present} are known")]
pub struct TooFewNodes {
    /// Shards of one chunk.
    pub needed: usize,
    /// Candidates given.
    pub present: usize,
}

/// Orders all candidates for `chunk`: the first `shards` of the answer hold its shards 0, 1, 2, …, the others are
/// substitutes, best first.
///
/// # Errors
/// [`TooFewNodes`] when there are fewer candidates than `shards`: two shards of a chunk never share a node.
pub fn place(
    chunk: &Cid,
    shards: usize,
    candidates: &[Candidate],
) -> Result<Vec<NodeSlot>, TooFewNodes> {
    if candidates.len() < shards {
        return Err(TooFewNodes {
            needed: shards,
            present: candidates.len(),
        });
    }
    let mut scored: Vec<(f64, &Candidate)> =
        candidates.iter().map(|c| (score(chunk, c), c)).collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.node.cmp(&b.1.node)));

    // Rank of each node within its zone: rank 0 of every zone goes before rank 1 of any.
    let mut seen: std::collections::BTreeMap<&str, usize> = std::collections::BTreeMap::new();
    let mut ranked: Vec<(usize, NodeSlot)> = scored
        .iter()
        .map(|(_, candidate)| {
            let rank = seen.entry(candidate.zone.as_str()).or_default();
            let own = *rank;
            *rank += 1;
            (own, candidate.node)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    Ok(ranked.into_iter().map(|(_, node)| node).collect())
}

fn score(chunk: &Cid, candidate: &Candidate) -> f64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"strongroom/v1/placement");
    hasher.update(chunk.digest());
    hasher.update(&candidate.node.0.to_be_bytes());
    let mut word = [0; 4];
    hasher.finalize_xof().fill(&mut word);
    // (0, 1): 32 random bits are plenty for at most 65,536 nodes; ties fall to the lower slot.
    let uniform = (f64::from(u32::from_be_bytes(word)) + 0.5) / 4_294_967_296.0;
    -f64::from(candidate.weight.max(1)) / uniform.ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn nodes(count: u16, zones: u16) -> Vec<Candidate> {
        (0..count)
            .map(|n| Candidate {
                node: NodeSlot(n),
                zone: format!("z{}", n % zones),
                weight: 1,
            })
            .collect()
    }

    fn chunk(n: u32) -> Cid {
        Cid::of_raw(&n.to_be_bytes())
    }

    #[test]
    fn every_node_is_named_once_and_zones_are_spread() {
        for n in 0..200 {
            let order = place(&chunk(n), 14, &nodes(28, 7)).unwrap();
            assert_eq!(order.iter().collect::<BTreeSet<_>>().len(), 28);
            let mut per_zone: BTreeMap<u16, usize> = BTreeMap::new();
            for node in &order[..14] {
                *per_zone.entry(node.0 % 7).or_default() += 1;
            }
            assert!(per_zone.values().all(|&count| count == 2), "{per_zone:?}");
        }
    }

    #[test]
    fn weights_are_honoured() {
        let mut candidates = nodes(10, 10);
        candidates[0].weight = 3;
        let mut first = [0u32; 10];
        for n in 0..20_000 {
            let order = place(&chunk(n), 1, &candidates).unwrap();
            first[usize::from(order[0].0)] += 1;
        }
        let share = f64::from(first[0]) / 20_000.0;
        assert!((share - 3.0 / 12.0).abs() < 0.02, "{share}");
    }

    #[test]
    fn losing_a_node_moves_only_its_shards() {
        let all = nodes(20, 20);
        let fewer: Vec<_> = all.iter().filter(|c| c.node.0 != 5).cloned().collect();
        for n in 0..200 {
            let before: BTreeSet<_> = place(&chunk(n), 14, &all).unwrap()[..14]
                .iter()
                .copied()
                .collect();
            let after: BTreeSet<_> = place(&chunk(n), 14, &fewer).unwrap()[..14]
                .iter()
                .copied()
                .collect();
            let moved = before.difference(&after).count();
            assert!(moved <= usize::from(before.contains(&NodeSlot(5))));
        }
    }

    #[test]
    fn too_few_nodes_is_an_error() {
        assert_eq!(
            place(&chunk(0), 14, &nodes(13, 13)),
            Err(TooFewNodes {
                needed: 14,
                present: 13
            })
        );
    }
}
