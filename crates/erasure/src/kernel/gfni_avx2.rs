//! GFNI on 32-byte registers, for processors with GFNI but without AVX-512.

use core::arch::x86_64::{
    __m256i, _mm256_gf2p8affine_epi64_epi8, _mm256_loadu_si256, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_storeu_si256, _mm256_xor_si256,
};
use std::ops::Range;

use super::prefetch;

/// Bytes of a register.
const VECTOR: usize = 32;
/// Registers side by side in a strip of columns: four rows of two sums leave half of the sixteen registers for the rest.
const WIDE: usize = 2;

/// Writes `columns` of the outputs.
///
/// # Safety
/// The processor has GFNI and AVX2. `matrices` has one entry for each source and output, at least. Sources and outputs have
/// at least `columns.end` bytes each, and `columns` is not reversed.
#[target_feature(enable = "gfni,avx2")]
pub(super) unsafe fn run(
    matrices: &[i64],
    sources: &[&[u8]],
    outputs: &mut [&mut [u8]],
    columns: Range<usize>,
) {
    // SAFETY: the caller's promise, with the number of outputs as the constant.
    unsafe {
        match outputs {
            [a] => group([a], matrices, sources, columns),
            [a, b] => group([a, b], matrices, sources, columns),
            [a, b, c] => group([a, b, c], matrices, sources, columns),
            [a, b, c, d] => group([a, b, c, d], matrices, sources, columns),
            _ => unreachable!("a group has 1 to 4 rows"),
        }
    }
}

/// # Safety
/// As [`run`].
#[target_feature(enable = "gfni,avx2")]
#[inline]
unsafe fn group<const ROWS: usize>(
    outputs: [&mut &mut [u8]; ROWS],
    matrices: &[i64],
    sources: &[&[u8]],
    columns: Range<usize>,
) {
    let outputs = outputs.map(|output| output.as_mut_ptr());
    let matrices = matrices.as_ptr();
    let mut column = columns.start;
    // SAFETY: each strip begins at or after `columns.start` and ends at or before `columns.end`, which no slice is shorter
    // than.
    unsafe {
        while columns.end - column >= WIDE * VECTOR {
            strip::<ROWS, WIDE>(outputs, matrices, sources, column);
            column += WIDE * VECTOR;
        }
        while columns.end - column >= VECTOR {
            strip::<ROWS, 1>(outputs, matrices, sources, column);
            column += VECTOR;
        }
        if column < columns.end {
            tail(outputs, matrices, sources, column, columns.end - column);
        }
    }
}

/// `REGISTERS * VECTOR` columns from `column`.
///
/// # Safety
/// As [`run`] with these columns; `outputs` point to the first bytes of slices of which no other reference is in use.
#[target_feature(enable = "gfni,avx2")]
#[inline]
unsafe fn strip<const ROWS: usize, const REGISTERS: usize>(
    outputs: [*mut u8; ROWS],
    mut matrices: *const i64,
    sources: &[&[u8]],
    column: usize,
) {
    for output in outputs {
        prefetch(output.wrapping_add(column), REGISTERS * VECTOR);
    }
    let mut sums = [[_mm256_setzero_si256(); REGISTERS]; ROWS];
    for source in sources {
        prefetch(source.as_ptr().wrapping_add(column), REGISTERS * VECTOR);
        let mut bytes = [_mm256_setzero_si256(); REGISTERS];
        for (index, register) in bytes.iter_mut().enumerate() {
            // SAFETY: the caller promises these columns of every source.
            *register = unsafe {
                _mm256_loadu_si256(
                    source
                        .as_ptr()
                        .add(column + index * VECTOR)
                        .cast::<__m256i>(),
                )
            };
        }
        for row_sums in &mut sums {
            // SAFETY: the caller promises ROWS matrices for each source.
            let matrix = unsafe {
                let matrix = _mm256_set1_epi64x(*matrices);
                matrices = matrices.add(1);
                matrix
            };
            for (sum, &register) in row_sums.iter_mut().zip(&bytes) {
                *sum = _mm256_xor_si256(*sum, _mm256_gf2p8affine_epi64_epi8::<0>(register, matrix));
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
#[target_feature(enable = "gfni,avx2")]
#[inline]
unsafe fn tail<const ROWS: usize>(
    outputs: [*mut u8; ROWS],
    mut matrices: *const i64,
    sources: &[&[u8]],
    column: usize,
    count: usize,
) {
    let mut buffer = [0_u8; VECTOR];
    let mut sums = [_mm256_setzero_si256(); ROWS];
    for source in sources {
        // SAFETY: the caller promises these columns of every source, and they are fewer than the buffer's bytes.
        let bytes = unsafe {
            core::ptr::copy_nonoverlapping(source.as_ptr().add(column), buffer.as_mut_ptr(), count);
            _mm256_loadu_si256(buffer.as_ptr().cast::<__m256i>())
        };
        for sum in &mut sums {
            // SAFETY: the caller promises ROWS matrices for each source.
            let matrix = unsafe {
                let matrix = _mm256_set1_epi64x(*matrices);
                matrices = matrices.add(1);
                matrix
            };
            *sum = _mm256_xor_si256(*sum, _mm256_gf2p8affine_epi64_epi8::<0>(bytes, matrix));
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
