//! Bounds that are part of the format or the protocol. Each is enforced where the value enters.

/// Bytes of ciphertext in a full block: plaintext and tag.
pub const BLOCK_BYTES: usize = 65_536;
/// Bytes of an AES-256-GCM tag.
pub const TAG_BYTES: usize = 16;
/// Bytes of plaintext in a full block.
pub const BLOCK_PLAIN_BYTES: usize = BLOCK_BYTES - TAG_BYTES;
/// Blocks in a chunk, at most.
pub const CHUNK_BLOCKS_MAX: usize = 64;
/// Bytes of ciphertext in a chunk, at most (4 MiB).
pub const CHUNK_BYTES_MAX: usize = BLOCK_BYTES * CHUNK_BLOCKS_MAX;
/// Bytes of plaintext in a chunk, at most.
pub const CHUNK_PLAIN_BYTES_MAX: usize = BLOCK_PLAIN_BYTES * CHUNK_BLOCKS_MAX;
/// Chunk entries in one page of a content manifest.
pub const MANIFEST_PAGE_CHUNKS: usize = 1_024;
/// Pages of one content manifest.
pub const MANIFEST_PAGES_MAX: usize = 1_536;
/// Chunks in one object: 1,536 pages of 1,024, about 6 TiB at 4 MiB.
pub const OBJECT_CHUNKS_MAX: usize = MANIFEST_PAGES_MAX * MANIFEST_PAGE_CHUNKS;
/// Plaintext bytes up to which an object is one self-contained small record.
pub const SMALL_PLAIN_BYTES_MAX: usize = 262_144;
/// Bytes of an object key in UTF-8.
pub const OBJECT_KEY_BYTES_MAX: usize = 1_024;
/// Bytes of one encoded manifest page, record or entry, at most.
pub const RECORD_BYTES_MAX: usize = 1 << 20;
/// Bytes of a JSON or CBOR request body that is not a chunk.
pub const CONTROL_BODY_BYTES_MAX: usize = 2 << 20;
/// Writers in one bucket's writer set.
pub const WRITERS_MAX: usize = 1_000;
/// Principals that a bucket lets read, besides its writers.
pub const READERS_MAX: usize = 1_000;
/// Wraps on one bucket key or version.
pub const WRAPS_MAX: usize = 64;
/// Keys in one listing answer.
pub const LIST_KEYS_MAX: usize = 1_000;
/// Milliseconds a signed request may live.
pub const SIGNATURE_LIFETIME_MS_MAX: u64 = 300_000;
/// Shards of one chunk, data and parity together.
pub const SHARDS_MAX: usize = 255;
/// Bytes of one shard with its chunk proof (k = 1: a whole chunk, 2 KiB of proof and a sealed record).
pub const SHARD_BYTES_MAX: usize = CHUNK_BYTES_MAX + (64 << 10);
/// Entries of one encryption context.
pub const CONTEXT_ENTRIES_MAX: usize = 32;
/// Bytes of one key of an encryption context; at least 1.
pub const CONTEXT_KEY_BYTES_MAX: usize = 128;
/// Bytes of one value of an encryption context.
pub const CONTEXT_VALUE_BYTES_MAX: usize = 1_024;
/// Bytes of all keys and values of an encryption context together.
pub const CONTEXT_BYTES_MAX: usize = 8_192;
/// Ciphertexts whose proofs are checked together.
pub const PROOF_BATCH_MAX: usize = 64;
