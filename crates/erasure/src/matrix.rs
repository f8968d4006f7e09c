//! The generator matrix and the coefficients that give lost shards back.

use crate::field::{inverse, mul};

/// One row of coefficients, one for each source shard.
pub(crate) type Row = Vec<u8>;

/// The parity rows of the generator matrix; the rows above them are the identity.
///
/// Row `i` (from `data` up) is `1 / (i XOR j)` for `j < data`: a Cauchy matrix, so that every square part of it can be
/// inverted, which makes any `data` shards enough. It is what ISA-L calls `gf_gen_cauchy1_matrix`. With one data shard the
/// rows are ones instead (plain replication), so that a small object's shards are all the object itself.
///
/// `None` when a coefficient does not exist, which no geometry of at most 256 shards can cause.
pub(crate) fn parity_rows(data: usize, parity: usize) -> Option<Vec<Row>> {
    if data == 1 {
        return Some(vec![vec![1]; parity]);
    }
    (data..data + parity)
        .map(|i| {
            (0..data)
                .map(|j| u8::try_from(i ^ j).ok().and_then(inverse))
                .collect()
        })
        .collect()
}

/// Which shards a reconstruction reads, and the coefficients with which each wanted one is their sum.
pub(crate) struct Recovery {
    /// `data` distinct shard indexes, in the order of the coefficients.
    pub(crate) sources: Vec<usize>,
    /// For each wanted shard its row over `sources`.
    pub(crate) rows: Vec<Row>,
}

/// Plans the reconstruction of `wanted` from `present` (distinct indexes below `data + parity.len()`).
///
/// Present data shards are preferred as sources, since then only a square matrix of the size of the loss has to be
/// inverted: with the lost data shards L, the data shards D and as many parity shards P as there are lost ones,
/// P = A D + B L gives L = B^-1 P + B^-1 A D (addition is its own inverse here).
///
/// `None` when fewer than `data` shards are present or an index is unknown.
pub(crate) fn recovery(
    data: usize,
    parity: &[Row],
    present: &[usize],
    wanted: &[usize],
) -> Option<Recovery> {
    let mut sources: Vec<usize> = present
        .iter()
        .copied()
        .filter(|&index| index < data)
        .collect();
    let lost: Vec<usize> = (0..data).filter(|index| !sources.contains(index)).collect();
    let kept = sources.clone();
    let used: Vec<usize> = present
        .iter()
        .copied()
        .filter(|&index| index >= data)
        .take(lost.len())
        .collect();
    sources.extend(&used);
    if sources.len() != data {
        return None;
    }
    let used_rows: Vec<&Row> = used
        .iter()
        .map(|&index| parity.get(index - data))
        .collect::<Option<_>>()?;
    let square = used_rows
        .iter()
        .map(|row| pick(row, &lost))
        .collect::<Option<_>>()?;
    let inverted = invert(square)?;
    let mut lost_rows: Vec<Row> = Vec::with_capacity(lost.len());
    for inverted_row in inverted {
        let mut row = vec![0; kept.len()];
        for (&factor, used_row) in inverted_row.iter().zip(&used_rows) {
            add_scaled(&mut row, factor, &pick(used_row, &kept)?);
        }
        row.extend(inverted_row);
        lost_rows.push(row);
    }

    let data_row = |index: usize| -> Option<Row> {
        if let Some(position) = lost.iter().position(|&other| other == index) {
            return lost_rows.get(position).cloned();
        }
        Some(
            sources
                .iter()
                .map(|&source| u8::from(source == index))
                .collect(),
        )
    };
    let mut rows = Vec::with_capacity(wanted.len());
    for &index in wanted {
        rows.push(if index < data {
            data_row(index)?
        } else {
            // A parity shard is its generator row over the data, with the lost data replaced by what gives it back.
            let generator = parity.get(index - data)?;
            let mut row = pick(generator, &kept)?;
            row.resize(data, 0);
            for (factor, lost_row) in pick(generator, &lost)?.into_iter().zip(&lost_rows) {
                add_scaled(&mut row, factor, lost_row);
            }
            row
        });
    }
    Some(Recovery { sources, rows })
}

/// The coefficients of `row` at `columns`.
fn pick(row: &Row, columns: &[usize]) -> Option<Row> {
    columns
        .iter()
        .map(|&column| row.get(column).copied())
        .collect()
}

/// `row += factor * other`.
fn add_scaled(row: &mut Row, factor: u8, other: &Row) {
    for (coefficient, &addend) in row.iter_mut().zip(other) {
        *coefficient ^= mul(factor, addend);
    }
}

/// Gauss-Jordan elimination; `None` when the square matrix has no inverse.
fn invert(mut matrix: Vec<Row>) -> Option<Vec<Row>> {
    let size = matrix.len();
    for (index, row) in matrix.iter_mut().enumerate() {
        row.extend((0..size).map(|column| u8::from(column == index)));
    }
    for column in 0..size {
        let pivot = (column..size).find(|&row| {
            matrix
                .get(row)
                .and_then(|row| row.get(column))
                .is_some_and(|&c| c != 0)
        })?;
        matrix.swap(column, pivot);
        let scale = inverse(*matrix.get(column)?.get(column)?)?;
        let pivot_row: Row = matrix.get(column)?.iter().map(|&c| mul(scale, c)).collect();
        for (index, row) in matrix.iter_mut().enumerate() {
            if index == column {
                row.clone_from(&pivot_row);
            } else {
                let factor = *row.get(column)?;
                add_scaled(row, factor, &pivot_row);
            }
        }
    }
    Some(
        matrix
            .into_iter()
            .map(|mut row| row.split_off(size))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_is_isal_cauchy1() {
        // First parity rows of 4+2 by hand: 1 / (i XOR j) for i = 4, 5 and j = 0..4.
        let rows = parity_rows(4, 2).expect("geometry");
        let by_hand = |i: u8| {
            (0..4)
                .map(|j| inverse(i ^ j).expect("not zero"))
                .collect::<Row>()
        };
        assert_eq!(rows, [by_hand(4), by_hand(5)]);
        // 1/4 = 0x47 and 1/5 = 0xA7 modulo 0x11D.
        assert_eq!(rows[0][0], 0x47);
        assert_eq!(rows[0][1], 0xA7);
    }

    #[test]
    fn one_data_shard_is_replication() {
        assert_eq!(parity_rows(1, 4).expect("geometry"), vec![vec![1]; 4]);
    }

    #[test]
    fn inversion_inverts() {
        let square: Vec<Row> = parity_rows(7, 7).expect("geometry");
        let inverse = invert(square.clone()).expect("a Cauchy matrix");
        for (i, row) in square.iter().enumerate() {
            for j in 0..7 {
                let sum = row
                    .iter()
                    .zip(&inverse)
                    .fold(0, |sum, (&a, other)| sum ^ mul(a, other[j]));
                assert_eq!(sum, u8::from(i == j));
            }
        }
    }

    #[test]
    fn a_singular_matrix_has_no_inverse() {
        assert_eq!(invert(vec![vec![1, 2], vec![2, 4]]), None);
        assert_eq!(invert(vec![vec![0]]), None);
    }

    #[test]
    fn inversion_survives_a_zero_pivot() {
        assert_eq!(
            invert(vec![vec![0, 1], vec![1, 0]]),
            Some(vec![vec![0, 1], vec![1, 0]])
        );
    }
}
