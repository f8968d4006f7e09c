//! Small records: an object of at most 256 KiB in one record, put in one request and got in one.

use crypto::wrap::{BucketKey, UnwrapError};
use crypto::{Dek, Identity, block_stream};
use domain::limits::{RECORD_BYTES_MAX, SMALL_PLAIN_BYTES_MAX};
use domain::{BucketId, Cid, DeploymentId, ObjectKey, TimestampMs, VersionId};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::bucket::VerifiedBucket;
use crate::bucket_key::BucketKeyRecord;
use crate::codec::{self, RecordError, TypeName, Typed, V1, invalid};
use crate::entry::{Entry, EntryError, Predecessor, Target};
use crate::manifest::{
    ChunkEntry, ChunkList, ContentManifest, Geometry, ManifestBuilder, ManifestError, cid_of,
};
use crate::object::{ObjectOpener, ReadError};
use crate::version::{Protection, VersionRecord};

/// Chunk, manifest and version of a small object; with the bucket key's record when the gateway may not have it yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SmallRecord {
    chunk: Vec<u8>,
    manifest: Vec<u8>,
    version: VersionRecord,
    bucket_key: Option<BucketKeyRecord>,
}

/// What a small object is about, besides its bytes.
#[derive(Clone, Debug)]
pub struct SmallHead {
    /// The bucket.
    pub bucket: BucketId,
    /// The name in it.
    pub name: ObjectKey,
    /// Version of the writer set that the writer acts under.
    pub writer_set: u64,
    /// The writer's time.
    pub time: TimestampMs,
    /// The condition, for a conditional write.
    pub predecessor: Option<Predecessor>,
}

/// Why a small record was not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SmallError {
    /// The entry is refused.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// The DEK does not unwrap.
    #[error(transparent)]
    Unwrap(#[from] UnwrapError),
    /// Manifest or chunk is refused.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The record's parts do not belong together.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl SmallRecord {
    /// Encrypts, names, signs and wraps `plaintext` and, sealed, `metadata`.
    ///
    /// # Errors
    /// [`RecordError::Invalid`] above 256 KiB or for too much metadata.
    ///
    /// # Panics
    /// When `key` is another bucket's: the object could not be read by anyone.
    pub fn seal(
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        writer: &Identity,
        key: &BucketKey,
        head: SmallHead,
        plaintext: &[u8],
        metadata: Option<&[u8]>,
    ) -> Result<Self, RecordError> {
        assert_eq!(
            key.bucket, head.bucket,
            "a bucket's objects are wrapped under its own keys"
        );
        if plaintext.len() > SMALL_PLAIN_BYTES_MAX {
            return Err(invalid::<Wire>("a small object has at most 262,144 bytes"));
        }
        if metadata.is_some_and(|plain| plain.len() > crate::entry::METADATA_BYTES_MAX - 32) {
            return Err(invalid::<Wire>("at most 8,160 bytes of metadata"));
        }
        let dek = Dek::random(rng, *deployment);
        let mut chunk = Vec::with_capacity(block_stream::ciphertext_len(plaintext.len()));
        let sealed = block_stream::seal_chunk(&dek, rng, plaintext, &mut chunk)
            .map_err(|_| invalid::<Wire>("a small object is one chunk"))?;
        let mut builder = ManifestBuilder::new(Geometry::LARGEST);
        let one_chunk = |_: ManifestError| invalid::<Wire>("a small object is one chunk");
        builder.push(ChunkEntry::from(&sealed)).map_err(one_chunk)?;
        let finished = builder.finish(&dek).map_err(one_chunk)?;
        let mut version = [0; VersionId::LEN];
        rng.fill_bytes(&mut version);
        let version = VersionId(version);
        let entry = Entry {
            bucket: head.bucket,
            name: head.name,
            version,
            writer: writer.principal(),
            writer_set: head.writer_set,
            time: head.time,
            target: Target::Object {
                manifest: finished.cid,
                size: finished.manifest.size(),
            },
            predecessor: head.predecessor,
            metadata: metadata.map(|plain| dek.seal_metadata(rng, &head.bucket, &version, plain)),
        };
        let protection = Protection {
            bucket_key: key.id,
            wrapped_dek: key.wrap_dek(rng, &version, &dek),
        };
        let entry = entry.sign(writer, deployment);
        Ok(Self {
            chunk,
            manifest: finished.root,
            version: VersionRecord::object(entry, protection, Vec::new())?,
            bucket_key: None,
        })
    }

    /// The same with the bucket key's record, for the first object under that key.
    #[must_use]
    pub fn with_bucket_key(mut self, record: BucketKeyRecord) -> Self {
        self.bucket_key = Some(record);
        self
    }

    /// From parts that were stored apart, such as when a gateway assembles an answer.
    ///
    /// # Errors
    /// [`RecordError`] when they do not belong together.
    pub fn from_parts(
        chunk: Vec<u8>,
        manifest: Vec<u8>,
        version: VersionRecord,
        bucket_key: Option<BucketKeyRecord>,
    ) -> Result<Self, RecordError> {
        let record = Self {
            chunk,
            manifest,
            version,
            bucket_key,
        };
        record.check()?;
        Ok(record)
    }

    /// The chunk's ciphertext.
    #[must_use]
    pub fn chunk(&self) -> &[u8] {
        &self.chunk
    }

    /// The manifest's encoded root.
    #[must_use]
    pub fn manifest(&self) -> &[u8] {
        &self.manifest
    }

    /// Entry and wraps.
    #[must_use]
    pub fn version(&self) -> &VersionRecord {
        &self.version
    }

    /// The bucket key's record, when it came along.
    #[must_use]
    pub fn bucket_key(&self) -> Option<&BucketKeyRecord> {
        self.bucket_key.as_ref()
    }

    /// The chunk's CID, as the manifest has it.
    ///
    /// # Errors
    /// [`RecordError`] when the parts do not belong together.
    pub fn chunk_cid(&self) -> Result<Cid, RecordError> {
        self.check().map(|chunk| chunk.cid)
    }

    /// Everything that can be checked without a key or a signature: the entry names the manifest, the manifest the chunk,
    /// sizes agree, and the bucket key's record is the one that the version names. [`SmallRecord::decode`] does it.
    ///
    /// # Errors
    /// [`RecordError::Invalid`].
    pub fn check(&self) -> Result<ChunkEntry, RecordError> {
        let bad = invalid::<Wire>;
        let entry = self.version.entry();
        let (cid, size) = entry
            .object()
            .ok_or(bad("a small record holds an object"))?;
        if cid_of(&self.manifest) != cid {
            return Err(bad("the entry names another manifest"));
        }
        let manifest = ContentManifest::decode(&self.manifest)?;
        let chunk = match manifest.chunks() {
            ChunkList::Inline(chunks) => match chunks.as_slice() {
                [chunk] if chunk.plain_bytes() <= SMALL_PLAIN_BYTES_MAX => *chunk,
                _ => return Err(bad("a small object is one chunk of at most 262,144 bytes")),
            },
            ChunkList::Pages(_) => return Err(bad("a small object is one chunk")),
        };
        if manifest.size() != size {
            return Err(bad("entry and manifest say different sizes"));
        }
        if chunk.ciphertext_bytes() != self.chunk.len() || Cid::of_raw(&self.chunk) != chunk.cid {
            return Err(bad("the chunk is not the one that the manifest names"));
        }
        if let Some(key) = &self.bucket_key {
            let named = self
                .version
                .protection()
                .map(|protection| protection.bucket_key);
            let statement = key.statement();
            if named != Some(statement.id) || statement.bucket != entry.bucket {
                return Err(bad("the bucket key is another than the version names"));
            }
        }
        Ok(chunk)
    }

    /// Checks everything and opens: entry (bucket, name, writer, signature), DEK, manifest, chunk.
    ///
    /// # Errors
    /// [`SmallError`]: each check has its variant.
    pub fn open(
        &self,
        bucket: &VerifiedBucket,
        name: &ObjectKey,
        key: &BucketKey,
    ) -> Result<Zeroizing<Vec<u8>>, SmallError> {
        let entry = self.version.entry();
        entry.verify_for(bucket, name, None)?;
        let dek = self.version.unwrap_dek(key)?;
        let opener = ObjectOpener::for_entry(entry, &self.manifest, dek)?;
        let mut out = Zeroizing::new(Vec::new());
        opener.open_chunk(0, &self.chunk, &mut out)?;
        Ok(out)
    }

    /// Deterministic dag-cbor.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            chunk: self.chunk.clone(),
            manifest: self.manifest.clone(),
            version: self.version.encode(),
            bucket_key: self
                .bucket_key
                .as_ref()
                .map(|key| ByteBuf::from(key.encode())),
        })
    }

    /// Reads strictly and does [`SmallRecord::check`]; checks no signature.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn decode(bytes: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(bytes)?;
        let bucket_key = match wire.bucket_key {
            Some(bytes) => Some(BucketKeyRecord::decode(&bytes)?),
            None => None,
        };
        Self::from_parts(
            wire.chunk,
            wire.manifest,
            VersionRecord::decode(&wire.version)?,
            bucket_key,
        )
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    #[serde(with = "serde_bytes")]
    chunk: Vec<u8>,
    #[serde(with = "serde_bytes")]
    manifest: Vec<u8>,
    #[serde(with = "serde_bytes")]
    version: Vec<u8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    bucket_key: Option<ByteBuf>,
}

impl Typed for Wire {
    const TYPE: &'static str = "small";
    const BYTES_MAX: usize = RECORD_BYTES_MAX;
}
