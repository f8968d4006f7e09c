//! Tables in memory, for processors without a vector kernel.
//!
//! The products of one source byte with the coefficients of all rows of a group lie side by side in one word, so one look-up
//! and one addition serve the whole group.

use std::ops::Range;

use super::GROUP;
use crate::field::mul;
use crate::matrix::Row;

/// Columns summed at once, in registers.
const STRIP: usize = 8;

/// For one source and one group of rows: byte `r` of entry `x` is the product of `x` and the coefficient of row `r`.
#[derive(Debug)]
pub(super) struct Products([u32; 256]);

/// One table for each source, group after group.
pub(super) fn table(rows: &[Row]) -> Vec<Products> {
    let mut tables = Vec::new();
    for group in rows.chunks(GROUP) {
        for source in 0..group.first().map_or(0, Vec::len) {
            let mut products = [0; 256];
            for (entry, byte) in products.iter_mut().zip(0..=255) {
                let mut lanes = [0; GROUP];
                for (lane, row) in lanes.iter_mut().zip(group) {
                    *lane = row
                        .get(source)
                        .map_or(0, |&coefficient| mul(coefficient, byte));
                }
                *entry = u32::from_le_bytes(lanes);
            }
            tables.push(Products(products));
        }
    }
    tables
}

/// Writes `columns` of the outputs, at most [`GROUP`] of them.
pub(super) fn run(
    tables: &[Products],
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
    columns: Range<usize>,
) {
    for start in columns.clone().step_by(STRIP) {
        let end = columns.end.min(start + STRIP);
        let mut sums = [0_u32; STRIP];
        for (source, Products(products)) in sources.iter().zip(tables) {
            let Some(bytes) = source.get(start..end) else {
                continue;
            };
            for (sum, &byte) in sums.iter_mut().zip(bytes) {
                *sum ^= products.get(usize::from(byte)).copied().unwrap_or_default();
            }
        }
        for (row, output) in outputs.iter_mut().enumerate() {
            for (byte, sum) in output
                .get_mut(start..end)
                .unwrap_or_default()
                .iter_mut()
                .zip(sums)
            {
                *byte = sum.to_le_bytes().get(row).copied().unwrap_or_default();
            }
        }
    }
}
