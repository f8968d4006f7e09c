//! Making and opening whole objects: plaintext to chunks and manifest, and back by ranges.

use std::collections::BTreeMap;
use std::ops::Range;

use crypto::block_stream::{self, ChunkTooLong, OpenError};
use crypto::chunk_proof::ProofError;
use crypto::{ChunkOpener, ChunkProof, ChunkVerifier, Dek, SealedChunk};
use domain::limits::{BLOCK_BYTES, BLOCK_PLAIN_BYTES, MANIFEST_PAGE_CHUNKS};
use domain::{Cid, DeploymentId};
use rand_core::CryptoRng;

use crate::entry::Entry;
use crate::manifest::{
    ChunkEntry, ChunkList, ContentManifest, EncodedPage, FinishedManifest, Geometry,
    ManifestBuilder, ManifestError, cid_of,
};

/// Makes an object. Chunks may be sealed on several threads ([`ObjectSealer::seal_chunk`] takes `&self`) and are then
/// recorded in order ([`ObjectSealer::push`]).
#[derive(Debug)]
pub struct ObjectSealer {
    dek: Dek,
    builder: ManifestBuilder,
}

impl ObjectSealer {
    /// A new object under a fresh DEK.
    #[must_use]
    pub fn new(rng: &mut dyn CryptoRng, deployment: DeploymentId, geometry: Geometry) -> Self {
        Self::with_dek(Dek::random(rng, deployment), geometry)
    }

    /// Goes on with the DEK of an interrupted upload: push what was acknowledged, encrypt the rest anew.
    #[must_use]
    pub fn with_dek(dek: Dek, geometry: Geometry) -> Self {
        Self {
            dek,
            builder: ManifestBuilder::new(geometry),
        }
    }

    /// The object's DEK, to wrap it and to keep it for a resume.
    #[must_use]
    pub fn dek(&self) -> &Dek {
        &self.dek
    }

    /// Bytes of plaintext to give at a time.
    #[must_use]
    pub fn chunk_plain_bytes(&self) -> usize {
        self.builder.geometry().chunk_plain_bytes()
    }

    /// Encrypts one chunk under a fresh salt; `out` becomes its ciphertext.
    ///
    /// # Errors
    /// [`ChunkTooLong`] for more than a full chunk of this object's geometry.
    pub fn seal_chunk(
        &self,
        rng: &mut dyn CryptoRng,
        plaintext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<SealedChunk, ChunkTooLong> {
        if plaintext.len() > self.chunk_plain_bytes() {
            return Err(ChunkTooLong(plaintext.len()));
        }
        block_stream::seal_chunk(&self.dek, rng, plaintext, out)
    }

    /// Records the object's next chunk; gives a manifest page when one is full.
    ///
    /// # Errors
    /// [`ManifestError::Chunk`].
    pub fn push(&mut self, chunk: ChunkEntry) -> Result<Option<EncodedPage>, ManifestError> {
        self.builder.push(chunk)
    }

    /// Closes the manifest and gives the DEK back for wrapping.
    ///
    /// # Errors
    /// [`ManifestError::Empty`]: an object of no bytes has one chunk of no bytes.
    pub fn finish(self) -> Result<(Dek, FinishedManifest), ManifestError> {
        let finished = self.builder.finish(&self.dek)?;
        Ok((self.dek, finished))
    }
}

/// Why an object, or a range of it, is not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The entry says another size than the manifest.
    #[error("the entry says {entry} bytes, the manifest {manifest}")]
    Size {
        /// The entry's size.
        entry: u64,
        /// The manifest's.
        manifest: u64,
    },
    /// The entry is a tombstone.
    #[error("the version is a deletion, there is nothing to read")]
    Tombstone,
    /// A range that is empty, backwards or beyond the end.
    #[error("the object has {size} bytes, {start}..{end} is not a range of them")]
    Range {
        /// The object's size.
        size: u64,
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
    },
    /// The page was not added yet.
    #[error("page {0} of the manifest is not loaded")]
    PageMissing(usize),
    /// The object has no such chunk.
    #[error("the object has no chunk {0}")]
    NoSuchChunk(usize),
    /// A chunk does not check or open.
    #[error("chunk {index}: {source}")]
    Chunk {
        /// The chunk's index in the object.
        index: usize,
        /// What is wrong with it.
        source: OpenError,
    },
}

/// The part of one chunk that a range read needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRead {
    /// The chunk's index in the object.
    pub index: usize,
    /// What the manifest says about it.
    pub chunk: ChunkEntry,
    /// Its first block that is needed.
    pub first_block: usize,
    /// Bytes of its ciphertext to ask for: whole blocks, the last one as long as it is.
    pub ciphertext: Range<usize>,
    /// Bytes of the blocks' plaintext before the wanted ones.
    pub skip: usize,
    /// Bytes wanted.
    pub take: usize,
}

impl ChunkRead {
    /// Whether all blocks are needed: then no proof is, the chunk's hash is checked.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.ciphertext.len() == self.chunk.ciphertext_bytes()
    }
}

/// Opens an object whose manifest has been checked against the entry (CID, size), the DEK (commitment) and itself (HMAC).
#[derive(Debug)]
pub struct ObjectOpener {
    dek: Dek,
    manifest: ContentManifest,
    pages: BTreeMap<usize, Table>,
    /// Where each page's plaintext begins; one page when the chunks are in the root.
    page_starts: Vec<u64>,
}

/// A page's chunks with the offsets at which they begin in the object.
#[derive(Debug)]
struct Table {
    chunks: Vec<ChunkEntry>,
    starts: Vec<u64>,
}

impl ObjectOpener {
    /// Checks `root` against a verified entry and the unwrapped DEK.
    ///
    /// # Errors
    /// [`ReadError`]: each check has its variant.
    pub fn for_entry(entry: &Entry, root: &[u8], dek: Dek) -> Result<Self, ReadError> {
        let (manifest, size) = entry.object().ok_or(ReadError::Tombstone)?;
        let opener = Self::new(&manifest, root, dek)?;
        if opener.manifest.size() != size {
            return Err(ReadError::Size {
                entry: size,
                manifest: opener.manifest.size(),
            });
        }
        Ok(opener)
    }

    /// Checks `root` against a CID and the DEK.
    ///
    /// # Errors
    /// [`ReadError::Manifest`].
    pub fn new(cid: &Cid, root: &[u8], dek: Dek) -> Result<Self, ReadError> {
        let got = cid_of(root);
        if got != *cid {
            return Err(ManifestError::AnotherManifest {
                expected: *cid,
                got,
            }
            .into());
        }
        let manifest = ContentManifest::decode(root).map_err(ManifestError::from)?;
        manifest.verify(&dek)?;
        let mut opener = Self {
            dek,
            manifest,
            pages: BTreeMap::new(),
            page_starts: vec![0],
        };
        match opener.manifest.chunks() {
            ChunkList::Inline(chunks) => {
                let table = Table::new(0, chunks.clone());
                opener.pages.insert(0, table);
            }
            ChunkList::Pages(pages) => {
                opener.page_starts = starts(0, pages.iter().map(|page| page.size));
            }
        }
        Ok(opener)
    }

    /// The checked manifest.
    #[must_use]
    pub fn manifest(&self) -> &ContentManifest {
        &self.manifest
    }

    /// Bytes of plaintext.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.manifest.size()
    }

    /// The pages that `range` needs and that were not added: index and CID.
    #[must_use]
    pub fn missing_pages(&self, range: &Range<u64>) -> Vec<(usize, Cid)> {
        let ChunkList::Pages(pages) = self.manifest.chunks() else {
            return Vec::new();
        };
        self.pages_of(range)
            .filter(|index| !self.pages.contains_key(index))
            .filter_map(|index| pages.get(index).map(|page| (index, page.cid)))
            .collect()
    }

    /// Adds a page after checking it against the root.
    ///
    /// # Errors
    /// [`ReadError::Manifest`].
    pub fn add_page(&mut self, index: usize, bytes: &[u8]) -> Result<(), ReadError> {
        let chunks = self.manifest.open_page(index, bytes)?;
        let start = self.page_starts.get(index).copied().unwrap_or_default();
        self.pages.insert(index, Table::new(start, chunks));
        Ok(())
    }

    /// Forgets a page, so that a long read holds few.
    pub fn drop_page(&mut self, index: usize) {
        if matches!(self.manifest.chunks(), ChunkList::Pages(_)) {
            self.pages.remove(&index);
        }
    }

    /// What the manifest says about chunk `index`.
    ///
    /// # Errors
    /// [`ReadError::NoSuchChunk`], [`ReadError::PageMissing`].
    pub fn chunk(&self, index: usize) -> Result<&ChunkEntry, ReadError> {
        if index >= self.manifest.chunk_count() {
            return Err(ReadError::NoSuchChunk(index));
        }
        let page = index / MANIFEST_PAGE_CHUNKS;
        self.pages
            .get(&page)
            .and_then(|table| table.chunks.get(index % MANIFEST_PAGE_CHUNKS))
            .ok_or(ReadError::PageMissing(page))
    }

    /// The parts of chunks that `range` of the plaintext needs, in order. An empty object's only range, `0..0`, gives its
    /// one empty chunk, so that even nothing is checked; any other empty range is refused.
    ///
    /// # Errors
    /// [`ReadError::Range`], [`ReadError::PageMissing`].
    pub fn reads(&self, range: &Range<u64>) -> Result<Vec<ChunkRead>, ReadError> {
        let size = self.size();
        let whole_of_nothing = size == 0 && *range == (0..0);
        if range.end > size || (range.start >= range.end && !whole_of_nothing) {
            return Err(ReadError::Range {
                size,
                start: range.start,
                end: range.end,
            });
        }
        let mut reads = Vec::new();
        for page in self.pages_of(range) {
            let table = self.pages.get(&page).ok_or(ReadError::PageMissing(page))?;
            let first = position(&table.starts, range.start);
            let entries = table
                .chunks
                .iter()
                .zip(&table.starts)
                .enumerate()
                .skip(first);
            for (offset, (chunk, start)) in entries {
                if *start >= range.end && !whole_of_nothing {
                    break;
                }
                let from = to_usize(range.start.saturating_sub(*start));
                let to = to_usize(range.end - start).min(chunk.plain_bytes());
                reads.push(chunk_read(
                    page * MANIFEST_PAGE_CHUNKS + offset,
                    chunk,
                    from,
                    to,
                ));
            }
        }
        Ok(reads)
    }

    /// Opens a whole chunk: its hash against the CID, then its tags. `out` becomes the plaintext; empty on an error.
    ///
    /// # Errors
    /// [`ReadError::Chunk`].
    pub fn open_chunk(
        &self,
        index: usize,
        ciphertext: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let chunk = *self.chunk(index)?;
        self.opener(index, &chunk)?
            .open_verified(&chunk.cid, ciphertext, out)
            .map_err(|source| ReadError::Chunk { index, source })
    }

    /// Opens what [`ObjectOpener::reads`] asked for: the blocks against the proof and the CID, then their tags. For a
    /// whole chunk the proof may be empty. `out` becomes the wanted plaintext; empty on an error.
    ///
    /// # Errors
    /// [`ReadError::Chunk`].
    pub fn open_read(
        &self,
        read: &ChunkRead,
        ciphertext: &[u8],
        proof: ChunkProof,
        out: &mut Vec<u8>,
    ) -> Result<(), ReadError> {
        let index = read.index;
        let chunk = *self.chunk(index)?;
        let opener = self.opener(index, &chunk)?;
        let refused = |source| ReadError::Chunk { index, source };
        if read.is_whole() {
            opener
                .open_verified(&chunk.cid, ciphertext, out)
                .map_err(refused)?;
        } else {
            out.clear();
            if ciphertext.len() != read.ciphertext.len() {
                let expected = read.ciphertext.len();
                return Err(refused(OpenError::Length {
                    expected,
                    got: ciphertext.len(),
                }));
            }
            let verifier = ChunkVerifier::new(chunk.cid, chunk.ciphertext_bytes(), proof)
                .map_err(|error: ProofError| refused(error.into()))?;
            opener
                .open_range_verified(&verifier, read.first_block, ciphertext, out)
                .map_err(refused)?;
        }
        out.truncate(read.skip + read.take);
        out.drain(..read.skip.min(out.len()));
        Ok(())
    }

    fn opener(&self, index: usize, chunk: &ChunkEntry) -> Result<ChunkOpener, ReadError> {
        ChunkOpener::new(&self.dek, &chunk.salt, chunk.plain_bytes())
            .map_err(|_| ReadError::NoSuchChunk(index))
    }

    fn pages_of(&self, range: &Range<u64>) -> Range<usize> {
        let first = position(&self.page_starts, range.start);
        let last = position(
            &self.page_starts,
            range.end.saturating_sub(1).max(range.start),
        );
        first..last + 1
    }
}

impl Table {
    fn new(start: u64, chunks: Vec<ChunkEntry>) -> Self {
        let starts = starts(start, chunks.iter().map(|chunk| u64::from(chunk.plain_len)));
        Self { chunks, starts }
    }
}

fn chunk_read(index: usize, chunk: &ChunkEntry, from: usize, to: usize) -> ChunkRead {
    let first_block = from / BLOCK_PLAIN_BYTES;
    let blocks_end = to.div_ceil(BLOCK_PLAIN_BYTES).max(first_block + 1);
    ChunkRead {
        index,
        chunk: *chunk,
        first_block,
        ciphertext: first_block * BLOCK_BYTES
            ..(blocks_end * BLOCK_BYTES).min(chunk.ciphertext_bytes()),
        skip: from - first_block * BLOCK_PLAIN_BYTES,
        take: to - from,
    }
}

/// Running sums: where each of `lengths` begins.
fn starts(first: u64, lengths: impl Iterator<Item = u64>) -> Vec<u64> {
    lengths
        .scan(first, |next, length| {
            let start = *next;
            *next += length;
            Some(start)
        })
        .collect()
}

/// Which of the ascending `starts` is the last at or before `offset`.
fn position(starts: &[u64], offset: u64) -> usize {
    starts
        .partition_point(|start| *start <= offset)
        .saturating_sub(1)
}

/// Offsets inside a chunk fit; anything longer is cut to the chunk's length by the caller.
fn to_usize(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}
