//! The code itself: geometry, checks of the caller's slices, and which columns go to the kernel.

use std::ops::Range;
use std::sync::Arc;

use crate::error::CodecError;
use crate::kernel::{Kernel, Plan};
use crate::matrix::{Row, parity_rows, recovery};

/// Most shards of a code, data and parity together.
pub const SHARDS_MAX: usize = 255;

/// A Reed-Solomon code of `data + parity` shards with everything precomputed; cloning it copies a pointer.
///
/// Shards are numbered from zero, data first. All methods may be called from many threads at once.
#[derive(Clone, Debug)]
pub struct Codec {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    data: usize,
    kernel: Kernel,
    parity_rows: Vec<Row>,
    encode: Plan,
}

impl Codec {
    /// A code of `data >= 1` and `parity >= 0` shards, at most [`SHARDS_MAX`] together, on the best kernel of this processor.
    ///
    /// # Errors
    /// [`CodecError::Geometry`].
    pub fn new(data: usize, parity: usize) -> Result<Codec, CodecError> {
        Codec::with_kernel(data, parity, Kernel::best())
    }

    /// As [`Codec::new`], on a kernel of the caller's choice; for tests and measurements.
    ///
    /// # Errors
    /// [`CodecError::Geometry`], [`CodecError::KernelUnavailable`].
    #[doc(hidden)]
    pub fn with_kernel(data: usize, parity: usize, kernel: Kernel) -> Result<Codec, CodecError> {
        let geometry = CodecError::Geometry { data, parity };
        if data == 0
            || data
                .checked_add(parity)
                .is_none_or(|total| total > SHARDS_MAX)
        {
            return Err(geometry);
        }
        let parity_rows = parity_rows(data, parity).ok_or(geometry)?;
        let encode =
            Plan::new(kernel, data, &parity_rows).ok_or(CodecError::KernelUnavailable {
                kernel: kernel.name(),
            })?;
        Ok(Codec {
            inner: Arc::new(Inner {
                data,
                kernel,
                parity_rows,
                encode,
            }),
        })
    }

    /// Data shards (`k`): how many shards are enough.
    #[must_use]
    pub fn data(&self) -> usize {
        self.inner.data
    }

    /// Parity shards (`m`): how many may be lost.
    #[must_use]
    pub fn parity(&self) -> usize {
        self.inner.parity_rows.len()
    }

    /// All shards, `k + m`.
    #[must_use]
    pub fn total(&self) -> usize {
        self.data() + self.parity()
    }

    /// Bytes of each shard of a chunk of `chunk_len` bytes: `ceil(chunk_len / k)`.
    #[must_use]
    pub fn shard_len(&self, chunk_len: usize) -> usize {
        chunk_len.div_ceil(self.data())
    }

    /// Where data shard `index` lies in a chunk of `chunk_len` bytes. Shorter than [`Codec::shard_len`] (down to empty) where
    /// the chunk ends; the missing bytes of the shard are zeros. Empty for an index that is not a data shard's.
    #[must_use]
    pub fn data_range(&self, chunk_len: usize, index: usize) -> Range<usize> {
        let shard_len = self.shard_len(chunk_len);
        let start = index.saturating_mul(shard_len).min(chunk_len);
        let end = start.saturating_add(shard_len).min(chunk_len);
        if index < self.data() {
            start..end
        } else {
            chunk_len..chunk_len
        }
    }

    /// Computes all parity shards: `data` are the `k` data shards, `parity` the `m` buffers to fill, all of one length.
    ///
    /// # Errors
    /// [`CodecError::DataCount`], [`CodecError::ParityCount`], [`CodecError::UnequalLength`].
    pub fn encode(&self, data: &[&[u8]], parity: &mut [&mut [u8]]) -> Result<(), CodecError> {
        if data.len() != self.data() {
            return Err(CodecError::DataCount {
                expected: self.data(),
                found: data.len(),
            });
        }
        if parity.len() != self.parity() {
            return Err(CodecError::ParityCount {
                expected: self.parity(),
                found: parity.len(),
            });
        }
        let shard_len = data.first().map_or(0, |shard| shard.len());
        let lengths = data
            .iter()
            .map(|shard| shard.len())
            .chain(parity.iter().map(|shard| shard.len()));
        all_equal(shard_len, lengths.enumerate())?;
        self.inner.encode.run(data, parity, 0..shard_len);
        Ok(())
    }

    /// Computes the parity shards of a contiguous chunk into `parity`, which becomes `m` shards of [`Codec::shard_len`]
    /// bytes one after the other; what it held is overwritten, its allocation reused. The chunk's padding is virtual: no
    /// byte of it is copied.
    ///
    /// # Errors
    /// None today; the signature leaves room.
    pub fn encode_chunk(&self, chunk: &[u8], parity: &mut Vec<u8>) -> Result<(), CodecError> {
        parity.resize(self.parity() * self.shard_len(chunk.len()), 0);
        self.encode_chunk_into(chunk, parity)
    }

    /// As [`Codec::encode_chunk`], into a buffer of exactly `m * shard_len` bytes.
    ///
    /// # Errors
    /// [`CodecError::ParityLength`].
    pub fn encode_chunk_into(&self, chunk: &[u8], parity: &mut [u8]) -> Result<(), CodecError> {
        let shard_len = self.shard_len(chunk.len());
        let expected = self.parity() * shard_len;
        if parity.len() != expected {
            return Err(CodecError::ParityLength {
                expected,
                found: parity.len(),
            });
        }
        if expected == 0 {
            return Ok(());
        }
        let sources: Vec<&[u8]> = chunk.chunks(shard_len).collect();
        let mut outputs: Vec<&mut [u8]> = parity.chunks_exact_mut(shard_len).collect();
        // Shards after the chunk's end are zeros, which add nothing: leave them out. The one that the end cuts takes part
        // up to its last byte, and is left out of the columns behind.
        let cut = sources.last().map_or(0, |shard| shard.len());
        let whole = sources.get(..sources.len() - 1).unwrap_or_default();
        self.inner.encode.run(&sources, &mut outputs, 0..cut);
        self.inner.encode.run(whole, &mut outputs, cut..shard_len);
        Ok(())
    }

    /// Computes the shards `wanted` from any `k` or more others.
    ///
    /// `present` are (index, bytes) pairs in any order, `out` one buffer for each wanted index, all of one length: whole
    /// shards, or the same column range of each. Of more than `k` present shards `k` are read, data shards first. A wanted
    /// shard that is itself present is copied.
    ///
    /// # Errors
    /// [`CodecError::OutputCount`], [`CodecError::NoSuchShard`], [`CodecError::DuplicateShard`],
    /// [`CodecError::TooFewShards`], [`CodecError::UnequalLength`].
    pub fn reconstruct(
        &self,
        present: &[(usize, &[u8])],
        wanted: &[usize],
        out: &mut [&mut [u8]],
    ) -> Result<(), CodecError> {
        if wanted.len() != out.len() {
            return Err(CodecError::OutputCount {
                wanted: wanted.len(),
                found: out.len(),
            });
        }
        let total = self.total();
        let mut shards: Vec<Option<&[u8]>> = vec![None; total];
        for &(index, bytes) in present {
            let slot = shards
                .get_mut(index)
                .ok_or(CodecError::NoSuchShard { index, total })?;
            if slot.replace(bytes).is_some() {
                return Err(CodecError::DuplicateShard { index });
            }
        }
        if let Some(&index) = wanted.iter().find(|&&index| index >= total) {
            return Err(CodecError::NoSuchShard { index, total });
        }
        let too_few = CodecError::TooFewShards {
            needed: self.data(),
            found: present.len(),
        };
        if present.len() < self.data() {
            return Err(too_few);
        }
        let shard_len = present.first().map_or(0, |(_, bytes)| bytes.len());
        let given = present.iter().map(|&(index, bytes)| (index, bytes.len()));
        let asked = wanted
            .iter()
            .zip(out.iter())
            .map(|(&index, bytes)| (index, bytes.len()));
        all_equal(shard_len, given.chain(asked))?;

        let mut missing = Vec::with_capacity(wanted.len());
        let mut outputs: Vec<&mut [u8]> = Vec::with_capacity(wanted.len());
        for (&index, buffer) in wanted.iter().zip(out.iter_mut()) {
            if let Some(bytes) = shards.get(index).copied().flatten() {
                buffer.copy_from_slice(bytes);
            } else {
                missing.push(index);
                outputs.push(buffer);
            }
        }
        if missing.is_empty() {
            return Ok(());
        }
        let indexes: Vec<usize> = present.iter().map(|&(index, _)| index).collect();
        let recovery = recovery(self.data(), &self.inner.parity_rows, &indexes, &missing)
            .ok_or_else(|| too_few.clone())?;
        let sources: Option<Vec<&[u8]>> = recovery
            .sources
            .iter()
            .map(|&index| shards.get(index).copied().flatten())
            .collect();
        let sources = sources.ok_or(too_few)?;
        let kernel = self.inner.kernel;
        let plan = Plan::new(kernel, self.data(), &recovery.rows).ok_or(
            CodecError::KernelUnavailable {
                kernel: kernel.name(),
            },
        )?;
        plan.run(&sources, &mut outputs, 0..shard_len);
        Ok(())
    }
}

fn all_equal(
    expected: usize,
    lengths: impl Iterator<Item = (usize, usize)>,
) -> Result<(), CodecError> {
    for (index, found) in lengths {
        if found != expected {
            return Err(CodecError::UnequalLength {
                index,
                expected,
                found,
            });
        }
    }
    Ok(())
}
