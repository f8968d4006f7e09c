//! Nibble tables by byte shuffles, for processors with AVX2 alone: a product is the sum of the products of the byte's two
//! halves, each looked up among sixteen by one shuffle (Plank, Greenan, Miller: Screaming Fast Galois Field Arithmetic Using
//! Intel SIMD Instructions, FAST 2013).

use core::arch::x86_64::{
    __m128i, __m256i, _mm_load_si128, _mm256_and_si256, _mm256_broadcastsi128_si256,
    _mm256_loadu_si256, _mm256_set1_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8,
    _mm256_srli_epi64, _mm256_storeu_si256, _mm256_xor_si256,
};
use std::ops::Range;

use super::prefetch;
use crate::field::mul;

/// Bytes of a register.
const VECTOR: usize = 32;
/// Registers side by side in a strip of columns.
const WIDE: usize = 2;

/// The products of one coefficient with every low and every high half of a byte.
#[derive(Debug)]
#[repr(C, align(32))]
pub(super) struct Nibbles {
    low: [u8; 16],
    high: [u8; 16],
}

impl Nibbles {
    pub(super) fn new(coefficient: u8) -> Nibbles {
        let mut nibbles = Nibbles {
            low: [0; 16],
            high: [0; 16],
        };
        for ((low, high), half) in nibbles.low.iter_mut().zip(&mut nibbles.high).zip(0..16) {
            *low = mul(coefficient, half);
            *high = mul(coefficient, half << 4);
        }
        nibbles
    }
}

/// Writes `columns` of the outputs.
///
/// # Safety
/// The processor has AVX2. `nibbles` has one entry for each source and output, at least. Sources and outputs have at least
/// `columns.end` bytes each, and `columns` is not reversed.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn run(
    nibbles: &[Nibbles],
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
    columns: Range<usize>,
) {
    // SAFETY: the caller's promise, with the number of outputs as the constant.
    unsafe {
        match outputs {
            [a] => group([a], nibbles, sources, columns),
            [a, b] => group([a, b], nibbles, sources, columns),
            [a, b, c] => group([a, b, c], nibbles, sources, columns),
            [a, b, c, d] => group([a, b, c, d], nibbles, sources, columns),
            _ => unreachable!("a group has 1 to 4 rows"),
        }
    }
}

/// # Safety
/// As [`run`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn group<const ROWS: usize>(
    outputs: [&mut &mut [u8]; ROWS],
    nibbles: &[Nibbles],
    sources: &[&[u8]],
    columns: Range<usize>,
) {
    let outputs = outputs.map(|output| output.as_mut_ptr());
    let nibbles = nibbles.as_ptr();
    let mut column = columns.start;
    // SAFETY: each strip begins at or after `columns.start` and ends at or before `columns.end`, which no slice is shorter
    // than.
    unsafe {
        while columns.end - column >= WIDE * VECTOR {
            strip::<ROWS, WIDE>(outputs, nibbles, sources, column);
            column += WIDE * VECTOR;
        }
        while columns.end - column >= VECTOR {
            strip::<ROWS, 1>(outputs, nibbles, sources, column);
            column += VECTOR;
        }
        if column < columns.end {
            tail(outputs, nibbles, sources, column, columns.end - column);
        }
    }
}

/// The tables of both halves, in each lane of a register.
///
/// # Safety
/// The processor has AVX2; `nibbles` can be read.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load_tables(nibbles: *const Nibbles) -> (__m256i, __m256i) {
    // SAFETY: two arrays of sixteen bytes, the first aligned to 32 by the type and the second 16 behind it.
    unsafe {
        let halves = nibbles.cast::<__m128i>();
        (
            _mm256_broadcastsi128_si256(_mm_load_si128(halves)),
            _mm256_broadcastsi128_si256(_mm_load_si128(halves.add(1))),
        )
    }
}

/// `REGISTERS * VECTOR` columns from `column`.
///
/// # Safety
/// As [`run`] with these columns; `outputs` point to the first bytes of slices of which no other reference is in use.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn strip<const ROWS: usize, const REGISTERS: usize>(
    outputs: [*mut u8; ROWS],
    mut nibbles: *const Nibbles,
    sources: &[&[u8]],
    column: usize,
) {
    let half = _mm256_set1_epi8(0x0F);
    for output in outputs {
        prefetch(output.wrapping_add(column), REGISTERS * VECTOR);
    }
    let mut sums = [[_mm256_setzero_si256(); REGISTERS]; ROWS];
    for source in sources {
        prefetch(source.as_ptr().wrapping_add(column), REGISTERS * VECTOR);
        let mut low = [_mm256_setzero_si256(); REGISTERS];
        let mut high = [_mm256_setzero_si256(); REGISTERS];
        for (index, (low, high)) in low.iter_mut().zip(&mut high).enumerate() {
            // SAFETY: the caller promises these columns of every source.
            let bytes = unsafe {
                _mm256_loadu_si256(
                    source
                        .as_ptr()
                        .add(column + index * VECTOR)
                        .cast::<__m256i>(),
                )
            };
            *low = _mm256_and_si256(bytes, half);
            *high = _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), half);
        }
        for row_sums in &mut sums {
            // SAFETY: the caller promises ROWS tables for each source.
            let (low_products, high_products) = unsafe {
                let tables = load_tables(nibbles);
                nibbles = nibbles.add(1);
                tables
            };
            for (sum, (&low, &high)) in row_sums.iter_mut().zip(low.iter().zip(&high)) {
                *sum = _mm256_xor_si256(*sum, _mm256_shuffle_epi8(low_products, low));
                *sum = _mm256_xor_si256(*sum, _mm256_shuffle_epi8(high_products, high));
            }
        }
    }
    for (output, row_sums) in outputs.into_iter().zip(sums) {
        for (index, sum) in row_sums.into_iter().enumerate() {
            // SAFETY: the caller promises these columns of every output.
            unsafe {
                _mm256_storeu_si256(output.add(column + index * VECTOR).cast::<__m256i>(), sum)
            };
        }
    }
}

/// The last `count < VECTOR` columns, from `column`, through a register's worth of stack.
///
/// # Safety
/// As [`strip`].
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn tail<const ROWS: usize>(
    outputs: [*mut u8; ROWS],
    mut nibbles: *const Nibbles,
    sources: &[&[u8]],
    column: usize,
    count: usize,
) {
    let half = _mm256_set1_epi8(0x0F);
    let mut buffer = [0_u8; VECTOR];
    let mut sums = [_mm256_setzero_si256(); ROWS];
    for source in sources {
        // SAFETY: the caller promises these columns of every source, and they are fewer than the buffer's bytes.
        let bytes = unsafe {
            core::ptr::copy_nonoverlapping(source.as_ptr().add(column), buffer.as_mut_ptr(), count);
            _mm256_loadu_si256(buffer.as_ptr().cast::<__m256i>())
        };
        let low = _mm256_and_si256(bytes, half);
        let high = _mm256_and_si256(_mm256_srli_epi64::<4>(bytes), half);
        for sum in &mut sums {
            // SAFETY: the caller promises ROWS tables for each source.
            let (low_products, high_products) = unsafe {
                let tables = load_tables(nibbles);
                nibbles = nibbles.add(1);
                tables
            };
            *sum = _mm256_xor_si256(*sum, _mm256_shuffle_epi8(low_products, low));
            *sum = _mm256_xor_si256(*sum, _mm256_shuffle_epi8(high_products, high));
        }
    }
    for (output, sum) in outputs.into_iter().zip(sums) {
        // SAFETY: the caller promises these columns of every output.
        unsafe {
            _mm256_storeu_si256(buffer.as_mut_ptr().cast::<__m256i>(), sum);
            core::ptr::copy_nonoverlapping(buffer.as_ptr(), output.add(column), count);
        }
    }
}
