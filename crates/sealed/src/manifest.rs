//! Content manifests: which chunks make an object, and which DEK they are under.
//!
//! The root holds geometry, size, the DEK commitment, an HMAC under a key derived from the DEK, and either the chunks
//! themselves (up to 1,024) or the CIDs of pages of 1,024. The root's CID is the object's CID. A CID says that the bytes
//! are the ones named; the HMAC says that whoever made them held the DEK; who that was, the entry says.

use crypto::block_stream::ciphertext_len;
use crypto::dek::{DekCommitment, ManifestMac};
use crypto::{ChunkSalt, Dek, SealedChunk};
use domain::limits::{
    BLOCK_BYTES, BLOCK_PLAIN_BYTES, CHUNK_BLOCKS_MAX, MANIFEST_PAGE_CHUNKS, OBJECT_CHUNKS_MAX,
};
use domain::{Cid, Codec};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteArray;

use crate::codec::{self, RecordError, TypeName, Typed, V1, invalid};

/// Bytes of an encoded root or page, at most: 1,024 chunks of 69 bytes, and the rest.
pub const MANIFEST_BYTES_MAX: usize = 81_920;
/// The only scheme: HKDF-SHA-256, AES-256-GCM in STREAM, BLAKE3.
pub const SCHEME: u64 = 1;
/// Blocks of the smallest full chunk (1 MiB).
pub const CHUNK_BLOCKS_MIN: u8 = 16;

/// How an object is cut: blocks in a full chunk, 16 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    chunk_blocks: u8,
}

/// A number of blocks that no chunk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a full chunk has 16 to 64 blocks of 64 KiB, not {0}")]
pub struct GeometryError(pub u8);

impl Geometry {
    /// 64 blocks: 4 MiB of ciphertext.
    pub const LARGEST: Self = Self { chunk_blocks: 64 };

    /// That many blocks of 64 KiB.
    ///
    /// # Errors
    /// [`GeometryError`] outside 16 to 64.
    pub fn new(chunk_blocks: u8) -> Result<Self, GeometryError> {
        let bounded =
            chunk_blocks >= CHUNK_BLOCKS_MIN && usize::from(chunk_blocks) <= CHUNK_BLOCKS_MAX;
        if bounded {
            Ok(Self { chunk_blocks })
        } else {
            Err(GeometryError(chunk_blocks))
        }
    }

    /// Blocks in a full chunk.
    #[must_use]
    pub fn chunk_blocks(self) -> u8 {
        self.chunk_blocks
    }

    /// Bytes of plaintext in a full chunk: what to read and encrypt at a time.
    #[must_use]
    pub fn chunk_plain_bytes(self) -> usize {
        usize::from(self.chunk_blocks) * BLOCK_PLAIN_BYTES
    }

    /// Bytes of ciphertext in a full chunk.
    #[must_use]
    pub fn chunk_bytes(self) -> usize {
        usize::from(self.chunk_blocks) * BLOCK_BYTES
    }
}

impl Default for Geometry {
    fn default() -> Self {
        Self::LARGEST
    }
}

/// What a manifest says about one chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkEntry {
    /// Makes the chunk's key.
    pub salt: ChunkSalt,
    /// Bytes of plaintext.
    pub plain_len: u32,
    /// Names the ciphertext.
    pub cid: Cid,
}

impl ChunkEntry {
    /// Bytes of plaintext.
    #[must_use]
    pub fn plain_bytes(&self) -> usize {
        usize::try_from(self.plain_len).unwrap_or(usize::MAX)
    }

    /// Bytes of ciphertext.
    #[must_use]
    pub fn ciphertext_bytes(&self) -> usize {
        ciphertext_len(self.plain_bytes())
    }
}

impl From<&SealedChunk> for ChunkEntry {
    fn from(sealed: &SealedChunk) -> Self {
        Self {
            salt: sealed.salt,
            plain_len: sealed.plain_len,
            cid: sealed.cid,
        }
    }
}

/// A page of a manifest, as the root names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// Names the encoded page.
    pub cid: Cid,
    /// Bytes of plaintext in its chunks.
    pub size: u64,
}

/// Where the chunks of a manifest are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkList {
    /// In the root: at most 1,024.
    Inline(Vec<ChunkEntry>),
    /// In pages of 1,024, the last one of 1 to 1,024.
    Pages(Vec<PageRef>),
}

/// Why a manifest or a page is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not a manifest.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// Not the manifest that the entry names: of another object, or altered.
    #[error("manifest {got} was given where {expected} is named")]
    AnotherManifest {
        /// The CID that was asked for.
        expected: Cid,
        /// The CID of the bytes.
        got: Cid,
    },
    /// The DEK is not the one that the manifest was made with: a wrong wrap, or another object's.
    #[error("the key that was unwrapped is not this object's")]
    WrongDek,
    /// The HMAC fails: made by somebody who did not hold the DEK.
    #[error("the manifest was not made by a holder of the object's key")]
    Mac,
    /// Another page than the root names.
    #[error("page {index} of the manifest was altered or is another's")]
    Page {
        /// The page's index.
        index: usize,
    },
    /// A chunk that may not stand there.
    #[error("chunk {index} cannot follow: {reason}")]
    Chunk {
        /// The chunk's index in the object.
        index: usize,
        /// The rule that is broken.
        reason: &'static str,
    },
    /// No chunk at all: an object of no bytes has one chunk of no bytes.
    #[error("a manifest has at least one chunk")]
    Empty,
}

/// A content manifest's root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentManifest {
    geometry: Geometry,
    size: u64,
    count: usize,
    commitment: DekCommitment,
    mac: ManifestMac,
    chunks: ChunkList,
}

impl ContentManifest {
    /// Reads strictly and checks that lengths and counts agree; checks neither CID nor HMAC.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(bytes)?;
        wire.into_manifest()
    }

    /// Deterministic dag-cbor.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&Wire::of(self, true))
    }

    /// The object's CID.
    #[must_use]
    pub fn cid(&self) -> Cid {
        cid_of(&self.encode())
    }

    /// Checks commitment, then HMAC.
    ///
    /// # Errors
    /// [`ManifestError::WrongDek`], [`ManifestError::Mac`].
    pub fn verify(&self, dek: &Dek) -> Result<(), ManifestError> {
        if dek.commitment() != self.commitment {
            return Err(ManifestError::WrongDek);
        }
        let covered = codec::encode(&Wire::of(self, false));
        if !dek.manifest_mac_matches(&covered, &self.mac) {
            return Err(ManifestError::Mac);
        }
        Ok(())
    }

    /// How the object is cut.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Bytes of plaintext.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Chunks in the object.
    #[must_use]
    pub fn chunk_count(&self) -> usize {
        self.count
    }

    /// The chunks, or the pages that hold them.
    #[must_use]
    pub fn chunks(&self) -> &ChunkList {
        &self.chunks
    }

    /// Reads page `index`, checking it against the root: CID, number of chunks, lengths.
    ///
    /// # Errors
    /// [`ManifestError::Page`], also when the manifest has no such page; [`ManifestError::Record`].
    pub fn open_page(&self, index: usize, bytes: &[u8]) -> Result<Vec<ChunkEntry>, ManifestError> {
        let altered = ManifestError::Page { index };
        let ChunkList::Pages(pages) = &self.chunks else {
            return Err(altered);
        };
        let page = pages.get(index).ok_or(altered.clone())?;
        if cid_of(bytes) != page.cid {
            return Err(altered);
        }
        let chunks = decode_page(bytes)?;
        let last = index + 1 == pages.len();
        let expected = if last {
            self.count - index * MANIFEST_PAGE_CHUNKS
        } else {
            MANIFEST_PAGE_CHUNKS
        };
        let lengths = check_lengths(&chunks, self.geometry, false).map_err(invalid::<WirePage>)?;
        if chunks.len() != expected || lengths != page.size {
            return Err(invalid::<WirePage>("a page holds the chunks that its root counts").into());
        }
        Ok(chunks)
    }
}

/// Reads a page on its own, strictly; [`ContentManifest::open_page`] also checks that it is the one the root names.
///
/// # Errors
/// [`RecordError`].
pub fn decode_page(bytes: &[u8]) -> Result<Vec<ChunkEntry>, RecordError> {
    let wire: WirePage = codec::decode(bytes)?;
    if wire.chunks.is_empty() || wire.chunks.len() > MANIFEST_PAGE_CHUNKS {
        return Err(invalid::<WirePage>("a page has 1 to 1,024 chunks"));
    }
    entries::<WirePage>(&wire.chunks)
}

/// An encoded page on its way out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedPage {
    /// Its place among the pages.
    pub index: usize,
    /// Its CID, which the root will name.
    pub cid: Cid,
    /// Its bytes.
    pub bytes: Vec<u8>,
}

/// What [`ManifestBuilder::finish`] gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedManifest {
    /// The manifest.
    pub manifest: ContentManifest,
    /// Its encoded root.
    pub root: Vec<u8>,
    /// The object's CID.
    pub cid: Cid,
    /// The last page, when there are pages.
    pub last_page: Option<EncodedPage>,
}

/// Collects chunks in the object's order; full pages leave at once, so that memory stays at one page.
#[derive(Debug)]
pub struct ManifestBuilder {
    geometry: Geometry,
    current: Vec<ChunkEntry>,
    pages: Vec<PageRef>,
    size: u64,
    count: usize,
}

impl ManifestBuilder {
    /// An object without a chunk yet.
    #[must_use]
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            current: Vec::new(),
            pages: Vec::new(),
            size: 0,
            count: 0,
        }
    }

    /// How the object is cut.
    #[must_use]
    pub fn geometry(&self) -> Geometry {
        self.geometry
    }

    /// Adds the next chunk; gives the page that it did not fit into any more, if it was full.
    ///
    /// # Errors
    /// [`ManifestError::Chunk`] for a chunk that is too long, an empty one beside others, or one too many.
    pub fn push(&mut self, chunk: ChunkEntry) -> Result<Option<EncodedPage>, ManifestError> {
        let refused = |reason| ManifestError::Chunk {
            index: self.count,
            reason,
        };
        if self.count == OBJECT_CHUNKS_MAX {
            return Err(refused("an object has at most 1,572,864 chunks"));
        }
        if self.count > 0 && (chunk.plain_len == 0 || self.size == 0) {
            return Err(refused("an empty chunk is an object's only one"));
        }
        if chunk.plain_bytes() > self.geometry.chunk_plain_bytes() {
            return Err(refused("it is longer than the object's full chunks"));
        }
        let page = (self.current.len() == MANIFEST_PAGE_CHUNKS).then(|| self.flush());
        self.size += u64::from(chunk.plain_len);
        self.count += 1;
        self.current.push(chunk);
        Ok(page)
    }

    /// Closes the manifest with the DEK's commitment and HMAC.
    ///
    /// # Errors
    /// [`ManifestError::Empty`].
    pub fn finish(mut self, dek: &Dek) -> Result<FinishedManifest, ManifestError> {
        if self.count == 0 {
            return Err(ManifestError::Empty);
        }
        let last_page = (!self.pages.is_empty()).then(|| self.flush());
        let chunks = if last_page.is_some() {
            ChunkList::Pages(self.pages)
        } else {
            ChunkList::Inline(self.current)
        };
        let mut manifest = ContentManifest {
            geometry: self.geometry,
            size: self.size,
            count: self.count,
            commitment: dek.commitment(),
            mac: ManifestMac([0; 32]),
            chunks,
        };
        manifest.mac = dek.manifest_mac(&codec::encode(&Wire::of(&manifest, false)));
        let root = manifest.encode();
        let cid = cid_of(&root);
        Ok(FinishedManifest {
            manifest,
            root,
            cid,
            last_page,
        })
    }

    fn flush(&mut self) -> EncodedPage {
        let chunks = std::mem::take(&mut self.current);
        let size = chunks.iter().map(|chunk| u64::from(chunk.plain_len)).sum();
        let bytes = codec::encode(&WirePage {
            kind: TypeName::new(),
            v: V1,
            chunks: wire_chunks(&chunks),
        });
        let cid = cid_of(&bytes);
        self.pages.push(PageRef { cid, size });
        EncodedPage {
            index: self.pages.len() - 1,
            cid,
            bytes,
        }
    }
}

/// The CID of an encoded manifest or page.
#[must_use]
pub fn cid_of(bytes: &[u8]) -> Cid {
    Cid::of(Codec::DagCbor, bytes)
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    scheme: u64,
    block: u64,
    blocks: u8,
    size: u64,
    count: u64,
    commitment: ByteArray<32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<ByteArray<32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chunks: Option<Vec<WireChunk>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pages: Option<Vec<WirePageRef>>,
}

/// `[salt, plaintext bytes, CID]`.
#[derive(Serialize, Deserialize)]
struct WireChunk(ByteArray<16>, u32, Cid);

/// `[CID, plaintext bytes]`.
#[derive(Serialize, Deserialize)]
struct WirePageRef(Cid, u64);

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WirePage {
    #[serde(rename = "type")]
    kind: TypeName<WirePage>,
    v: V1,
    chunks: Vec<WireChunk>,
}

impl Typed for Wire {
    const TYPE: &'static str = "manifest";
    const BYTES_MAX: usize = MANIFEST_BYTES_MAX;
}

impl Typed for WirePage {
    const TYPE: &'static str = "manifest-page";
    const BYTES_MAX: usize = MANIFEST_BYTES_MAX;
}

impl Wire {
    fn of(manifest: &ContentManifest, with_mac: bool) -> Self {
        let (chunks, pages) = match &manifest.chunks {
            ChunkList::Inline(chunks) => (Some(wire_chunks(chunks)), None),
            ChunkList::Pages(pages) => (
                None,
                Some(
                    pages
                        .iter()
                        .map(|page| WirePageRef(page.cid, page.size))
                        .collect(),
                ),
            ),
        };
        Self {
            kind: TypeName::new(),
            v: V1,
            scheme: SCHEME,
            block: u64::try_from(BLOCK_BYTES).unwrap_or(u64::MAX),
            blocks: manifest.geometry.chunk_blocks,
            size: manifest.size,
            count: u64::try_from(manifest.count).unwrap_or(u64::MAX),
            commitment: ByteArray::new(manifest.commitment.0),
            mac: with_mac.then(|| ByteArray::new(manifest.mac.0)),
            chunks,
            pages,
        }
    }

    fn into_manifest(self) -> Result<ContentManifest, RecordError> {
        let bad = invalid::<Self>;
        if self.scheme != SCHEME || u64::try_from(BLOCK_BYTES) != Ok(self.block) {
            return Err(bad("scheme 1 has blocks of 65,536 bytes"));
        }
        let geometry =
            Geometry::new(self.blocks).map_err(|_| bad("a full chunk has 16 to 64 blocks"))?;
        let count = usize::try_from(self.count)
            .ok()
            .filter(|count| (1..=OBJECT_CHUNKS_MAX).contains(count))
            .ok_or(bad("an object has 1 to 1,572,864 chunks"))?;
        let mac = self.mac.ok_or(bad("a manifest has an HMAC"))?;
        let (chunks, size) = match (self.chunks, self.pages) {
            (Some(chunks), None) if count <= MANIFEST_PAGE_CHUNKS && chunks.len() == count => {
                let chunks = entries::<Self>(&chunks)?;
                let size = check_lengths(&chunks, geometry, true).map_err(bad)?;
                (ChunkList::Inline(chunks), size)
            }
            (None, Some(pages))
                if count > MANIFEST_PAGE_CHUNKS
                    && pages.len() == count.div_ceil(MANIFEST_PAGE_CHUNKS) =>
            {
                let pages = pages
                    .into_iter()
                    .map(|WirePageRef(cid, size)| PageRef { cid, size })
                    .collect::<Vec<_>>();
                if pages.iter().any(|page| page.cid.codec() != Codec::DagCbor) {
                    return Err(bad("a page's CID is dag-cbor"));
                }
                let size = pages
                    .iter()
                    .try_fold(0_u64, |sum, page| sum.checked_add(page.size));
                (ChunkList::Pages(pages), size.ok_or(bad("sizes add up"))?)
            }
            _ => {
                return Err(bad(
                    "up to 1,024 chunks stand in the root, more in pages of 1,024",
                ));
            }
        };
        if size != self.size {
            return Err(bad("the size is the sum of the chunks' lengths"));
        }
        Ok(ContentManifest {
            geometry,
            size,
            count,
            commitment: DekCommitment(self.commitment.into_array()),
            mac: ManifestMac(mac.into_array()),
            chunks,
        })
    }
}

fn wire_chunks(chunks: &[ChunkEntry]) -> Vec<WireChunk> {
    chunks
        .iter()
        .map(|chunk| WireChunk(ByteArray::new(chunk.salt.0), chunk.plain_len, chunk.cid))
        .collect()
}

fn entries<T: Typed>(chunks: &[WireChunk]) -> Result<Vec<ChunkEntry>, RecordError> {
    chunks
        .iter()
        .map(|WireChunk(salt, plain_len, cid)| {
            if cid.codec() != Codec::Raw {
                return Err(invalid::<T>("a chunk's CID is raw"));
            }
            Ok(ChunkEntry {
                salt: ChunkSalt(**salt),
                plain_len: *plain_len,
                cid: *cid,
            })
        })
        .collect()
}

/// Every chunk has 1 byte to a full chunk's; only a whole object of nothing has a chunk of nothing. Gives the sum.
fn check_lengths(
    chunks: &[ChunkEntry],
    geometry: Geometry,
    whole: bool,
) -> Result<u64, &'static str> {
    let empty_object = whole && chunks.len() == 1;
    let mut sum = 0;
    for chunk in chunks {
        if chunk.plain_len == 0 && !empty_object {
            return Err("an empty chunk is an object's only one");
        }
        if chunk.plain_bytes() > geometry.chunk_plain_bytes() {
            return Err("no chunk is longer than a full one");
        }
        sum += u64::from(chunk.plain_len);
    }
    Ok(sum)
}
