//! Which shard bytes a range of a chunk needs, and how they become that range.
//!
//! Coding works byte column by byte column, so the columns `[a, b)` of a lost shard follow from the columns `[a, b)` of
//! any k others: a ranged read moves only the columns it touches. Data shard `i` holds chunk bytes
//! `[i * s, (i + 1) * s)` with `s` the shard length.

use std::ops::Range;

/// The part of one data shard that a chunk range needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Shard index, below k.
    pub shard: usize,
    /// Bytes within the shard.
    pub columns: Range<usize>,
}

/// Splits `range` of a chunk into pieces of its data shards, in chunk order.
///
/// `range` must lie within the chunk and `shard_bytes` be its shard length; an empty range has no pieces.
#[must_use]
pub fn pieces(range: Range<usize>, shard_bytes: usize) -> Vec<Piece> {
    let mut out = Vec::new();
    let mut at = range.start;
    while at < range.end && shard_bytes > 0 {
        let shard = at / shard_bytes;
        let start = at % shard_bytes;
        let end = (start + range.end - at).min(shard_bytes);
        out.push(Piece {
            shard,
            columns: start..end,
        });
        at += end - start;
    }
    out
}

/// The columns that reconstruct all of `pieces`: the smallest range that covers the missing ones.
#[must_use]
pub fn covering(pieces: &[Piece]) -> Range<usize> {
    let start = pieces.iter().map(|p| p.columns.start).min().unwrap_or(0);
    let end = pieces.iter().map(|p| p.columns.end).max().unwrap_or(0);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_are_the_range(len in 1usize..5000, k in 1usize..20, a in 0usize..5000, b in 0usize..5000) {
            let shard = len.div_ceil(k);
            let (a, b) = (a.min(len), b.min(len));
            let range = a.min(b)..a.max(b);
            let chunk: Vec<usize> = (0..shard * k).collect();
            let mut got: Vec<usize> = Vec::new();
            for piece in pieces(range.clone(), shard) {
                prop_assert!(piece.columns.end <= shard && !piece.columns.is_empty());
                got.extend_from_slice(&chunk[piece.shard * shard..][piece.columns]);
            }
            prop_assert_eq!(got, range.collect::<Vec<_>>());
        }
    }

    #[test]
    fn covering_spans_all_pieces() {
        let some = [
            Piece {
                shard: 0,
                columns: 5..9,
            },
            Piece {
                shard: 1,
                columns: 0..3,
            },
        ];
        assert_eq!(covering(&some), 0..9);
        assert_eq!(covering(&[]), 0..0);
    }
}
