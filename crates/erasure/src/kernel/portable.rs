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

impl Products {
    fn new(coefficients: [u8; GROUP]) -> Products {
        let mut products = [0; 256];
        for (entry, byte) in products.iter_mut().zip(0..=255) {
            *entry = u32::from_le_bytes(coefficients.map(|coefficient| mul(coefficient, byte)));
        }
        Products(products)
    }

    #[expect(clippy::indexing_slicing, reason = "there is an entry for every byte")]
    fn of(&self, byte: u8) -> u32 {
        self.0[usize::from(byte)]
    }
}

/// One table for each source, group after group; rows that the last group lacks count as zeros.
pub(super) fn table(rows: &[Row]) -> Vec<Products> {
    let mut tables = Vec::new();
    for group in rows.chunks(GROUP) {
        for source in 0..group.first().map_or(0, Vec::len) {
            let mut coefficients = [0; GROUP];
            for (coefficient, row) in coefficients.iter_mut().zip(group) {
                *coefficient = row.get(source).copied().unwrap_or_default();
            }
            tables.push(Products::new(coefficients));
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
    let mut start = columns.start;
    while columns.end - start >= STRIP {
        let mut sums = [0; STRIP];
        for (source, products) in sources.iter().zip(tables) {
            if let Some(bytes) = source
                .get(start..)
                .and_then(|rest| rest.first_chunk::<STRIP>())
            {
                for (sum, &byte) in sums.iter_mut().zip(bytes) {
                    *sum ^= products.of(byte);
                }
            }
        }
        for (output, shift) in outputs.iter_mut().zip(ROW_SHIFTS) {
            if let Some(bytes) = output
                .get_mut(start..)
                .and_then(|rest| rest.first_chunk_mut::<STRIP>())
            {
                *bytes = sums.map(|sum| (sum >> shift).to_le_bytes()[0]);
            }
        }
        start += STRIP;
    }
    for column in start..columns.end {
        let bytes = sources.iter().filter_map(|source| source.get(column));
        let sum = bytes
            .zip(tables)
            .fold(0, |sum, (&byte, products)| sum ^ products.of(byte));
        for (output, shift) in outputs.iter_mut().zip(ROW_SHIFTS) {
            if let Some(byte) = output.get_mut(column) {
                *byte = (sum >> shift).to_le_bytes()[0];
            }
        }
    }
}

/// Where each row's byte lies in a word of [`Products`].
const ROW_SHIFTS: [u32; GROUP] = [0, 8, 16, 24];
