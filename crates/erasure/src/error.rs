//! What can be wrong with a call: always the caller's input, never a state of this crate.

/// Why a coding call was refused. Nothing was written to the output buffers when one of these is returned.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// `data` is zero, or there are more than [`crate::SHARDS_MAX`] shards.
    #[error(
        "a code needs at least 1 data shard and at most 255 shards in all, not {data} + {parity}"
    )]
    Geometry {
        /// Data shards asked for.
        data: usize,
        /// Parity shards asked for.
        parity: usize,
    },
    /// The forced kernel does not run on this processor.
    #[error("this processor cannot run the kernel {kernel}")]
    KernelUnavailable {
        /// Name of the kernel.
        kernel: &'static str,
    },
    /// The number of data slices is not the code's.
    #[error("{expected} data shards are needed, {found} were given")]
    DataCount {
        /// The code's data shards.
        expected: usize,
        /// Slices given.
        found: usize,
    },
    /// The number of parity buffers is not the code's.
    #[error("{expected} parity buffers are needed, {found} were given")]
    ParityCount {
        /// The code's parity shards.
        expected: usize,
        /// Buffers given.
        found: usize,
    },
    /// The number of output buffers differs from the number of wanted shards.
    #[error("{wanted} shards are wanted, but {found} output buffers were given")]
    OutputCount {
        /// Wanted shards.
        wanted: usize,
        /// Buffers given.
        found: usize,
    },
    /// A slice or buffer differs in length from the first one.
    #[error("shard {index} has {found} bytes where the others have {expected}")]
    UnequalLength {
        /// Index of the shard within the code (data first, then parity).
        index: usize,
        /// Length of the first slice, in bytes.
        expected: usize,
        /// Length of this one, in bytes.
        found: usize,
    },
    /// The contiguous parity buffer has not `parity * shard_len` bytes.
    #[error("the parity buffer has {found} bytes, {expected} are needed")]
    ParityLength {
        /// Bytes needed.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A shard index is beyond the code's last shard.
    #[error("there is no shard {index} in a code of {total} shards")]
    NoSuchShard {
        /// The index given.
        index: usize,
        /// Shards of the code.
        total: usize,
    },
    /// The same shard was given twice.
    #[error("shard {index} was given twice")]
    DuplicateShard {
        /// The index given twice.
        index: usize,
    },
    /// Fewer than `data` shards are present, so the chunk cannot be recovered from them.
    #[error("{needed} shards are needed, {found} are present")]
    TooFewShards {
        /// Shards needed.
        needed: usize,
        /// Shards present.
        found: usize,
    },
}
