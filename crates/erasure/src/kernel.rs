//! The inner loop: every output shard is a sum of products of source shards, column by column.
//!
//! A [`Plan`] is a matrix of coefficients laid out for one kernel. The kernels work on up to [`GROUP`] output rows at once:
//! a strip of columns of each source is read one time, and the sums of all rows stay in registers until they are complete.

mod portable;

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod gfni_avx2;
#[cfg(target_arch = "x86_64")]
mod gfni_avx512;

use std::ops::Range;

use crate::matrix::Row;

/// Output rows computed at once: as many sums as fit the registers of every kernel.
const GROUP: usize = 4;

/// When there are several groups, each reads all sources again; so the columns are then taken in tiles of which all
/// sources together fit this many bytes of the first-level cache.
const TILE_BYTES: usize = 32 << 10;
/// Least columns of a tile, in bytes.
const TILE_COLUMNS_MIN: usize = 512;

/// How far ahead of its use memory is asked for, in bytes; measured best of 512 to 4096 where the chunk comes from memory,
/// and without effect where it is in a cache. The processor's own prefetchers lose track of fourteen streams.
#[cfg(target_arch = "x86_64")]
const PREFETCH: usize = 768;
/// Bytes that one prefetch brings.
#[cfg(target_arch = "x86_64")]
const CACHE_LINE: usize = 64;

/// An implementation of the inner loop. All give the same bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Affine instructions on 64-byte registers; x86-64 with GFNI and AVX-512 (F, BW).
    GfniAvx512,
    /// Affine instructions on 32-byte registers; x86-64 with GFNI and AVX2.
    GfniAvx2,
    /// Nibble tables by byte shuffles on 32-byte registers; x86-64 with AVX2.
    Avx2,
    /// Tables in memory; any processor.
    Portable,
}

impl Kernel {
    /// Every kernel, the preferred first.
    pub const ALL: [Kernel; 4] = [
        Kernel::GfniAvx512,
        Kernel::GfniAvx2,
        Kernel::Avx2,
        Kernel::Portable,
    ];

    /// The kernel that [`crate::Codec::new`] uses on this processor.
    #[must_use]
    pub fn best() -> Kernel {
        Kernel::ALL
            .into_iter()
            .find(|kernel| kernel.is_available())
            .unwrap_or(Kernel::Portable)
    }

    /// Whether this processor has the instructions of this kernel.
    #[must_use]
    pub fn is_available(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            use std::arch::is_x86_feature_detected as has;
            match self {
                Kernel::GfniAvx512 => has!("gfni") && has!("avx512f") && has!("avx512bw"),
                Kernel::GfniAvx2 => has!("gfni") && has!("avx2"),
                Kernel::Avx2 => has!("avx2"),
                Kernel::Portable => true,
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Kernel::Portable
        }
    }

    /// A short name for logs and tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kernel::GfniAvx512 => "gfni-avx512",
            Kernel::GfniAvx2 => "gfni-avx2",
            Kernel::Avx2 => "avx2",
            Kernel::Portable => "portable",
        }
    }
}

/// Name of the kernel that [`crate::Codec::new`] uses on this processor.
#[must_use]
pub fn kernel_name() -> &'static str {
    Kernel::best().name()
}

/// Coefficients laid out for one kernel. That a variant exists shows that the processor was found able to run it: the
/// vector kernels' safety rests on [`Plan::new`] being the only place that makes one.
#[derive(Debug)]
enum Table {
    #[cfg(target_arch = "x86_64")]
    GfniAvx512(Vec<i64>),
    #[cfg(target_arch = "x86_64")]
    GfniAvx2(Vec<i64>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Vec<avx2::Nibbles>),
    Portable(Vec<portable::Products>),
}

/// A matrix of coefficients, ready to run.
#[derive(Debug)]
pub(crate) struct Plan {
    rows: usize,
    sources: usize,
    table: Table,
}

impl Plan {
    /// Lays out `rows`, each of `sources` coefficients. `None` when this processor cannot run `kernel`.
    pub(crate) fn new(kernel: Kernel, sources: usize, rows: &[Row]) -> Option<Plan> {
        if !kernel.is_available() {
            return None;
        }
        assert!(
            rows.iter().all(|row| row.len() == sources),
            "a row has one coefficient for each source"
        );
        let table = match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::GfniAvx512 => Table::GfniAvx512(by_group(rows, crate::field::affine)),
            #[cfg(target_arch = "x86_64")]
            Kernel::GfniAvx2 => Table::GfniAvx2(by_group(rows, crate::field::affine)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => Table::Avx2(by_group(rows, avx2::Nibbles::new)),
            Kernel::Portable => Table::Portable(portable::table(rows)),
            #[cfg(not(target_arch = "x86_64"))]
            _ => return None,
        };
        Some(Plan {
            rows: rows.len(),
            sources,
            table,
        })
    }

    /// Writes `columns` of every output. Fewer sources than the matrix has coefficients stand for zeros in the rest.
    ///
    /// # Panics
    /// When the slices do not fit the matrix or end before `columns.end`: [`crate::Codec`] has checked them.
    pub(crate) fn run(&self, sources: &[&[u8]], outputs: &mut [&mut [u8]], columns: Range<usize>) {
        // The kernels' safety rests on these.
        assert!(
            sources.len() <= self.sources && outputs.len() == self.rows,
            "slices fit the matrix"
        );
        assert!(
            sources.iter().all(|source| source.len() >= columns.end),
            "sources reach the last column"
        );
        assert!(
            outputs.iter().all(|output| output.len() >= columns.end),
            "outputs reach the last column"
        );
        assert!(columns.start <= columns.end, "a range of columns");
        match &self.table {
            #[cfg(target_arch = "x86_64")]
            Table::GfniAvx512(table) => self.run_groups(
                table,
                GROUP,
                sources,
                outputs,
                columns,
                |table, sources, outputs, columns| {
                    // SAFETY: `Plan::new` found the instructions; the slices were checked above, and `run_groups` keeps within them.
                    unsafe { gfni_avx512::run(table, sources, outputs, columns) }
                },
            ),
            #[cfg(target_arch = "x86_64")]
            Table::GfniAvx2(table) => self.run_groups(
                table,
                GROUP,
                sources,
                outputs,
                columns,
                |table, sources, outputs, columns| {
                    // SAFETY: as above.
                    unsafe { gfni_avx2::run(table, sources, outputs, columns) }
                },
            ),
            #[cfg(target_arch = "x86_64")]
            Table::Avx2(table) => self.run_groups(
                table,
                GROUP,
                sources,
                outputs,
                columns,
                |table, sources, outputs, columns| {
                    // SAFETY: as above.
                    unsafe { avx2::run(table, sources, outputs, columns) }
                },
            ),
            Table::Portable(table) => {
                self.run_groups(table, 1, sources, outputs, columns, portable::run)
            }
        }
    }

    /// Calls `kernel` for each tile of columns and each group of rows. The table has `width` entries for each source and
    /// full group, one for each source and row when `width` is [`GROUP`].
    fn run_groups<T>(
        &self,
        table: &[T],
        width: usize,
        sources: &[&[u8]],
        outputs: &mut [&mut [u8]],
        columns: Range<usize>,
        kernel: impl Fn(&[T], &[&[u8]], &mut [&mut [u8]], Range<usize>),
    ) {
        let tile = if self.rows <= GROUP {
            columns.len().max(1)
        } else {
            (TILE_BYTES / sources.len().max(1)).next_multiple_of(TILE_COLUMNS_MIN)
        };
        for start in columns.clone().step_by(tile) {
            let tile = start..columns.end.min(start.saturating_add(tile));
            for (outputs, table) in outputs
                .chunks_mut(GROUP)
                .zip(table.chunks(self.sources * width))
            {
                kernel(table, sources, outputs, tile.clone());
            }
        }
    }
}

/// Asks for the `count` bytes that lie [`PREFETCH`] bytes behind `from`, for reading or writing.
#[cfg(target_arch = "x86_64")]
#[inline]
fn prefetch(from: *const u8, count: usize) {
    use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    for offset in (0..count).step_by(CACHE_LINE) {
        // SAFETY: a prefetch is a hint that never faults, whatever the address; `wrapping_add` allows any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(PREFETCH + offset).cast()) };
    }
}

/// Entries in the order in which a kernel reads them: by group of rows, then by source, then by row within the group.
#[cfg(target_arch = "x86_64")]
fn by_group<T>(rows: &[Row], entry: impl Fn(u8) -> T) -> Vec<T> {
    let mut table = Vec::new();
    for group in rows.chunks(GROUP) {
        for source in 0..group.first().map_or(0, Vec::len) {
            table.extend(
                group
                    .iter()
                    .filter_map(|row| row.get(source))
                    .map(|&coefficient| entry(coefficient)),
            );
        }
    }
    table
}
