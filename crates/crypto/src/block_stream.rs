//! The block stream of format version 1: a chunk of plaintext as at most 64 AES-256-GCM blocks of 64 KiB.
//!
//! STREAM (Hoang, Reyhanitabar, Rogaway, Vizár: "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", CRYPTO 2015), with the chunk in the place of the whole stream:
//! - key: HKDF-SHA-256(DEK, salt = the chunk's 16 random bytes, info = `strongroom/v1/chunk 00 <deployment>`);
//! - nonce of block i: seven zero bytes, i as u32, 01 for the chunk's last block and 00 for others;
//! - AAD of every block: format version (1), block size (65,536), plaintext bytes of this chunk, each as u32;
//! - block: ciphertext of at most 65,520 bytes of plaintext, then the 16-byte tag.
//!
//! A chunk of no plaintext (it occurs only as the sole chunk of an empty object) is one block that is only a tag, so
//! that even nothing is authenticated and no ciphertext is ever empty.
//!
//! Each block is hashed for the chunk's CID and proof right after it was encrypted, while it is in cache.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};
use domain::Cid;
use domain::limits::{
    BLOCK_BYTES, BLOCK_PLAIN_BYTES, CHUNK_BYTES_MAX, CHUNK_PLAIN_BYTES_MAX, TAG_BYTES,
};
use rand_core::CryptoRng;
use zeroize::Zeroize as _;

use crate::chunk_proof::{ChunkHasher, ChunkProof, ChunkVerifier, ProofError};
use crate::dek::Dek;
use crate::label::Label;
use crate::sealed_box::gcm_key;
use crate::secret::Secret;

/// The version that stands in every block's AAD.
pub const FORMAT_VERSION: u32 = 1;

/// 16 random bytes that make a chunk's key; drawn anew each time a chunk is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ChunkSalt(pub [u8; 16]);

/// What encrypting a chunk yields besides its ciphertext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedChunk {
    /// Goes into the manifest.
    pub salt: ChunkSalt,
    /// Names the ciphertext; goes into the manifest.
    pub cid: Cid,
    /// Lies beside the shards.
    pub proof: ChunkProof,
    /// Bytes of plaintext; goes into the manifest.
    pub plain_len: u32,
}

/// More plaintext than a chunk holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a chunk holds at most {CHUNK_PLAIN_BYTES_MAX} bytes of plaintext, not {0}")]
pub struct ChunkTooLong(pub usize);

/// Why a chunk or some blocks of it were not opened. No plaintext is left in the output then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The bytes are not those that the CID names: altered, truncated, of another chunk, or forged by a holder of the DEK.
    #[error("chunk {chunk} was altered")]
    Altered {
        /// The CID that was expected.
        chunk: Cid,
    },
    /// The bytes are genuine, and the DEK, salt or length does not fit them.
    #[error("block {block} does not open under this key: wrong DEK, salt or length")]
    Tag {
        /// The block's index in the chunk.
        block: usize,
    },
    /// A number of bytes that these blocks do not have.
    #[error("{got} bytes where the blocks have {expected}")]
    Length {
        /// Bytes of the blocks.
        expected: usize,
        /// Bytes given.
        got: usize,
    },
    /// Blocks that the chunk does not have.
    #[error("the chunk has {blocks} blocks, {first} is past its end")]
    NoSuchBlock {
        /// Blocks in the chunk.
        blocks: usize,
        /// The block that was asked for.
        first: usize,
    },
    /// The proof does not fit the chunk, or a block does not fit the proof.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// Blocks of a chunk of so much plaintext; at least one.
#[must_use]
pub const fn block_count(plain_len: usize) -> usize {
    if plain_len == 0 {
        1
    } else {
        plain_len.div_ceil(BLOCK_PLAIN_BYTES)
    }
}

/// Bytes of ciphertext of a chunk of so much plaintext: 16 more for each block.
#[must_use]
pub const fn ciphertext_len(plain_len: usize) -> usize {
    plain_len + TAG_BYTES * block_count(plain_len)
}

/// Bytes of plaintext of a chunk of so much ciphertext; `None` where no chunk has that length.
#[must_use]
pub fn plain_len(ciphertext_len: usize) -> Option<usize> {
    if ciphertext_len > CHUNK_BYTES_MAX {
        return None;
    }
    let plain = ciphertext_len.checked_sub(ciphertext_len.div_ceil(BLOCK_BYTES) * TAG_BYTES)?;
    (self::ciphertext_len(plain) == ciphertext_len).then_some(plain)
}

/// Encrypts a chunk under a salt drawn here; `out` becomes its ciphertext (whatever it held before; its allocation is
/// reused without being cleared).
///
/// # Errors
/// [`ChunkTooLong`] above 4,193,280 bytes.
pub fn seal_chunk(
    dek: &Dek,
    rng: &mut dyn CryptoRng,
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<SealedChunk, ChunkTooLong> {
    let mut salt = [0; 16];
    rng.fill_bytes(&mut salt);
    danger_seal_chunk_with_salt(dek, ChunkSalt(salt), plaintext, out)
}

/// [`seal_chunk`] under a given salt: for test vectors. Two plaintexts under one salt and DEK give both away.
///
/// # Errors
/// [`ChunkTooLong`].
pub fn danger_seal_chunk_with_salt(
    dek: &Dek,
    salt: ChunkSalt,
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<SealedChunk, ChunkTooLong> {
    let len = ciphertext_len(plaintext.len().min(CHUNK_PLAIN_BYTES_MAX));
    let mut hasher = ChunkHasher::new(len).expect("a bounded plaintext makes a bounded chunk");
    let plain_len = seal_blocks(dek, &salt, plaintext, out, |block| hasher.push_block(block))?;
    let (cid, proof) = hasher.finish();
    Ok(SealedChunk {
        salt,
        cid,
        proof,
        plain_len,
    })
}

/// [`seal_chunk`] without hashing: for chunks that no CID names, where every holder of the DEK can forge the tags. `dek`
/// must then be one for this chunk alone ([`Dek::envelope_chunk`]), as nothing else says which chunk it is.
///
/// # Errors
/// [`ChunkTooLong`].
pub fn seal_chunk_unnamed(
    dek: &Dek,
    rng: &mut dyn CryptoRng,
    plaintext: &[u8],
    out: &mut Vec<u8>,
) -> Result<ChunkSalt, ChunkTooLong> {
    let mut salt = ChunkSalt([0; 16]);
    rng.fill_bytes(&mut salt.0);
    seal_blocks(dek, &salt, plaintext, out, |_| ())?;
    Ok(salt)
}

/// Shows each block to `sealed` while it is in cache; gives the plaintext's length.
fn seal_blocks(
    dek: &Dek,
    salt: &ChunkSalt,
    plaintext: &[u8],
    out: &mut Vec<u8>,
    mut sealed: impl FnMut(&[u8]),
) -> Result<u32, ChunkTooLong> {
    let too_long = ChunkTooLong(plaintext.len());
    if plaintext.len() > CHUNK_PLAIN_BYTES_MAX {
        return Err(too_long);
    }
    let plain_len = u32::try_from(plaintext.len()).map_err(|_| too_long)?;
    let key = chunk_key(dek, salt);
    let aad = aad(plain_len);
    let blocks = block_count(plaintext.len());
    out.resize(ciphertext_len(plaintext.len()), 0);
    let mut rest = plaintext;
    for (index, block) in out.chunks_mut(BLOCK_BYTES).enumerate() {
        let (body, tag) = block
            .split_last_chunk_mut::<TAG_BYTES>()
            .expect("every block has room for its tag");
        let (plain, tail) = rest
            .split_at_checked(body.len())
            .expect("lengths were computed");
        rest = tail;
        key.seal_out_of_place_scatter(
            nonce(index, index + 1 == blocks),
            Aad::from(aad),
            plain,
            body,
            &[],
            tag,
        )
        .expect("AES-256-GCM seals a block of 64 KiB");
        sealed(block);
    }
    Ok(plain_len)
}

/// Opens one chunk, whole or by blocks. [`ChunkOpener::open_verified`] and [`ChunkOpener::open_range_verified`] check
/// hash and tag; the two `danger_` methods check the tag alone, which any holder of the DEK can forge.
pub struct ChunkOpener {
    key: LessSafeKey,
    aad: [u8; 12],
    plain_len: usize,
}

impl ChunkOpener {
    /// Derives the chunk's key. `plain_len` is the manifest's.
    ///
    /// # Errors
    /// [`ChunkTooLong`].
    pub fn new(dek: &Dek, salt: &ChunkSalt, plain_len: usize) -> Result<Self, ChunkTooLong> {
        let bounded = u32::try_from(plain_len)
            .ok()
            .filter(|_| plain_len <= CHUNK_PLAIN_BYTES_MAX)
            .ok_or(ChunkTooLong(plain_len))?;
        Ok(Self {
            key: chunk_key(dek, salt),
            aad: aad(bounded),
            plain_len,
        })
    }

    /// Opens a whole chunk after checking that `ciphertext` is what `cid` names; `out` becomes the plaintext.
    /// One pass: each block is hashed and opened while in cache, and `out` is emptied if the hash is wrong at the end.
    ///
    /// # Errors
    /// [`OpenError::Altered`] when the bytes are not the CID's, [`OpenError::Tag`] when they are and the key is wrong.
    pub fn open_verified(
        &self,
        cid: &Cid,
        ciphertext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let result = self.open_whole(cid, ciphertext, out);
        if result.is_err() {
            wipe(out);
        }
        result
    }

    /// Opens consecutive blocks after checking each against the verified proof; `out` becomes their plaintext.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_range_verified(
        &self,
        verifier: &ChunkVerifier,
        first_block: usize,
        ciphertext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        let expected = ciphertext_len(self.plain_len);
        if verifier.ciphertext_len() != expected {
            wipe(out);
            return Err(OpenError::Length {
                expected,
                got: verifier.ciphertext_len(),
            });
        }
        let check =
            |index, block: &[u8]| verifier.check_block(index, block).map_err(OpenError::from);
        self.open_each(first_block, ciphertext, out, check)
    }

    /// Opens a whole chunk by its tags alone.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn danger_open_chunk(&self, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        let expected = ciphertext_len(self.plain_len);
        if ciphertext.len() != expected {
            wipe(out);
            return Err(OpenError::Length {
                expected,
                got: ciphertext.len(),
            });
        }
        self.danger_open_blocks(0, ciphertext, out)
    }

    /// Opens consecutive blocks by their tags alone.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn danger_open_blocks(
        &self,
        first_block: usize,
        ciphertext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), OpenError> {
        self.open_each(first_block, ciphertext, out, |_, _| Ok(()))
    }

    fn open_whole(&self, cid: &Cid, ciphertext: &[u8], out: &mut Vec<u8>) -> Result<(), OpenError> {
        let altered = OpenError::Altered { chunk: *cid };
        let mut hasher = ChunkHasher::new(ciphertext.len()).map_err(|_| altered)?;
        let opened = self.open_each(0, ciphertext, out, |_, block| {
            hasher.push_block(block);
            Ok(())
        });
        let genuine = match &opened {
            Ok(()) => hasher.finish().0 == *cid,
            // The blocks after the failed one were not hashed: do it again, to say what is wrong.
            Err(_) => Cid::of_raw(ciphertext) == *cid,
        };
        if genuine { opened } else { Err(altered) }?;
        let expected = ciphertext_len(self.plain_len);
        if ciphertext.len() != expected {
            return Err(OpenError::Length {
                expected,
                got: ciphertext.len(),
            });
        }
        Ok(())
    }

    /// The blocks from `first` on: as many as `ciphertext` has, which must end at a block's end.
    fn open_each(
        &self,
        first: usize,
        ciphertext: &[u8],
        out: &mut Vec<u8>,
        check: impl FnMut(usize, &[u8]) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let result = self.open_each_into(first, ciphertext, out, check);
        if result.is_err() {
            wipe(out);
        }
        result
    }

    fn open_each_into(
        &self,
        first: usize,
        ciphertext: &[u8],
        out: &mut Vec<u8>,
        mut check: impl FnMut(usize, &[u8]) -> Result<(), OpenError>,
    ) -> Result<(), OpenError> {
        let blocks = block_count(self.plain_len);
        if first >= blocks {
            return Err(OpenError::NoSuchBlock { blocks, first });
        }
        let available = ciphertext_len(self.plain_len) - first * BLOCK_BYTES;
        let whole_blocks = ciphertext.len().is_multiple_of(BLOCK_BYTES);
        if ciphertext.is_empty()
            || ciphertext.len() > available
            || (!whole_blocks && ciphertext.len() != available)
        {
            return Err(OpenError::Length {
                expected: available,
                got: ciphertext.len(),
            });
        }
        let tags = ciphertext.len().div_ceil(BLOCK_BYTES) * TAG_BYTES;
        out.resize(ciphertext.len().saturating_sub(tags), 0);
        let mut rest = out.as_mut_slice();
        for (offset, block) in ciphertext.chunks(BLOCK_BYTES).enumerate() {
            let index = first + offset;
            check(index, block)?;
            let failed = OpenError::Tag { block: index };
            let (body, tag) = block.split_last_chunk::<TAG_BYTES>().ok_or(failed)?;
            let (plain, tail) = std::mem::take(&mut rest)
                .split_at_mut_checked(body.len())
                .ok_or(failed)?;
            rest = tail;
            let nonce = nonce(index, index + 1 == blocks);
            self.key
                .open_separate_gather(nonce, Aad::from(self.aad), body, tag, plain)
                .map_err(|_| failed)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for ChunkOpener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChunkOpener({} bytes)", self.plain_len)
    }
}

fn wipe(out: &mut Vec<u8>) {
    // Also what an earlier, unverified block left behind.
    out.zeroize();
}

fn chunk_key(dek: &Dek, salt: &ChunkSalt) -> LessSafeKey {
    let key: Secret<32> = dek.derive(&salt.0, Label::CHUNK, &[]);
    gcm_key(&key)
}

fn nonce(index: usize, last: bool) -> Nonce {
    let index = u32::try_from(index).expect("a block's index is below 64");
    let [a, b, c, d] = index.to_be_bytes();
    Nonce::assume_unique_for_key([0, 0, 0, 0, 0, 0, 0, a, b, c, d, u8::from(last)])
}

fn aad(plain_len: u32) -> [u8; 12] {
    let block_bytes = u32::try_from(BLOCK_BYTES).expect("64 KiB fits");
    let [a, b, c, d] = FORMAT_VERSION.to_be_bytes();
    let [e, f, g, h] = block_bytes.to_be_bytes();
    let [i, j, k, l] = plain_len.to_be_bytes();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

#[cfg(test)]
mod tests;
