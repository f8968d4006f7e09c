//! Entries: "this name in this bucket is now this manifest", signed by the principal that writes.

use crypto::identity::SignatureError;
use crypto::{Dek, Identity, Label};
use domain::{BucketId, Cid, Codec, DeploymentId, ObjectKey, Principal, TimestampMs, VersionId};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::bucket::VerifiedBucket;
use crate::codec::{self, RecordError, TypeName, Typed, V1, invalid};
use crate::signed::{Content, Signed};

/// Bytes of sealed user metadata in an entry, at most.
pub const METADATA_BYTES_MAX: usize = 8_192;

/// A signed entry.
pub type SignedEntry = Signed<Entry>;

/// What a writer says about one version of one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The bucket.
    pub bucket: BucketId,
    /// The name in it.
    pub name: ObjectKey,
    /// 16 random bytes drawn by the writer.
    pub version: VersionId,
    /// Who signs.
    pub writer: Principal,
    /// Version of the writer set that the writer acted under.
    pub writer_set: u64,
    /// When, by the writer's clock.
    pub time: TimestampMs,
    /// What the name is now.
    pub target: Target,
    /// For a conditional write: what must be the present version.
    pub predecessor: Option<Predecessor>,
    /// User metadata sealed by [`Dek::seal_metadata`]; none in a tombstone.
    pub metadata: Option<Vec<u8>>,
}

/// What a name stands for from this version on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// An object.
    Object {
        /// CID of the content manifest: the object's CID.
        manifest: Cid,
        /// Bytes of plaintext.
        size: u64,
    },
    /// Nothing any more.
    Tombstone,
}

/// The condition of a conditional write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Predecessor {
    /// That version is the present one.
    Version(VersionId),
    /// The name has no version, or its latest is a tombstone.
    Nothing,
}

/// Why an entry is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// Not signed by its writer in this deployment.
    #[error("the entry is not signed by its writer")]
    Signature(#[from] SignatureError),
    /// An entry of another bucket.
    #[error("an entry of bucket {got} was given for bucket {expected}")]
    AnotherBucket {
        /// The bucket asked for.
        expected: BucketId,
        /// The entry's.
        got: BucketId,
    },
    /// An entry for another name: two objects were swapped.
    #[error("an entry for {got:?} was given for {expected:?}")]
    AnotherName {
        /// The name asked for.
        expected: ObjectKey,
        /// The entry's.
        got: ObjectKey,
    },
    /// An entry for another version of the name.
    #[error("version {got} was given for version {expected}")]
    AnotherVersion {
        /// The version asked for.
        expected: VersionId,
        /// The entry's.
        got: VersionId,
    },
    /// Signed by a principal that the owner did not let write.
    #[error("{0} is not among the bucket's writers")]
    NotAWriter(Principal),
    /// Written under a later writer set than the bucket record at hand: fetch the present record.
    #[error("the entry was written under writer set {entry}, the bucket record has {record}")]
    StaleBucketRecord {
        /// The entry's writer-set version.
        entry: u64,
        /// The record's.
        record: u64,
    },
}

impl Entry {
    /// Signs it as its writer.
    ///
    /// # Panics
    /// When `writer` is somebody else.
    #[must_use]
    pub fn sign(self, writer: &Identity, deployment: &DeploymentId) -> SignedEntry {
        Signed::sign(writer, deployment, self)
    }

    /// Manifest and size, unless it is a tombstone.
    #[must_use]
    pub fn object(&self) -> Option<(Cid, u64)> {
        match self.target {
            Target::Object { manifest, size } => Some((manifest, size)),
            Target::Tombstone => None,
        }
    }

    /// Opens the user metadata; `None` when there is none or it is not sealed under this DEK for this version.
    #[must_use]
    pub fn open_metadata(&self, dek: &Dek) -> Option<Zeroizing<Vec<u8>>> {
        dek.open_metadata(&self.bucket, &self.version, self.metadata.as_deref()?)
    }
}

impl Signed<Entry> {
    /// Checks bucket, writer set and signature.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn verify(&self, bucket: &VerifiedBucket) -> Result<(), EntryError> {
        if self.bucket != bucket.id {
            return Err(EntryError::AnotherBucket {
                expected: bucket.id,
                got: self.bucket,
            });
        }
        let record = bucket.writers.version();
        if self.writer_set > record {
            return Err(EntryError::StaleBucketRecord {
                entry: self.writer_set,
                record,
            });
        }
        if !bucket.writers.accepts(&self.writer, self.writer_set) {
            return Err(EntryError::NotAWriter(self.writer));
        }
        Ok(self.verify_signature(bucket.deployment())?)
    }

    /// [`Signed::verify`](SignedEntry::verify), and that it is the entry that was asked for.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn verify_for(
        &self,
        bucket: &VerifiedBucket,
        name: &ObjectKey,
        version: Option<&VersionId>,
    ) -> Result<(), EntryError> {
        self.verify(bucket)?;
        if self.name != *name {
            return Err(EntryError::AnotherName {
                expected: name.clone(),
                got: self.name.clone(),
            });
        }
        match version {
            Some(expected) if *expected != self.version => Err(EntryError::AnotherVersion {
                expected: *expected,
                got: self.version,
            }),
            _ => Ok(()),
        }
    }
}

impl Content for Entry {
    const LABEL: Label = Label::ENTRY;

    fn author(&self) -> Principal {
        self.writer
    }

    fn encode(&self) -> Vec<u8> {
        let (manifest, size) = self.object().unzip();
        codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            bucket: self.bucket,
            name: self.name.clone(),
            version: self.version,
            writer: self.writer,
            writer_set: self.writer_set,
            time: self.time,
            manifest,
            size,
            predecessor: self.predecessor.map(|predecessor| match predecessor {
                Predecessor::Version(id) => ByteBuf::from(id.as_bytes().to_vec()),
                Predecessor::Nothing => ByteBuf::new(),
            }),
            metadata: self.metadata.clone().map(ByteBuf::from),
        })
    }

    fn decode(body: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(body)?;
        let target = match (wire.manifest, wire.size) {
            (Some(manifest), Some(size)) if manifest.codec() == Codec::DagCbor => {
                Target::Object { manifest, size }
            }
            (None, None) => Target::Tombstone,
            _ => {
                return Err(invalid::<Wire>(
                    "an object has a dag-cbor manifest and a size",
                ));
            }
        };
        let predecessor = match wire.predecessor {
            None => None,
            Some(bytes) if bytes.is_empty() => Some(Predecessor::Nothing),
            Some(bytes) => VersionId::try_from(bytes.as_slice())
                .map(|id| Some(Predecessor::Version(id)))
                .map_err(|_| invalid::<Wire>("a predecessor is a version id or empty"))?,
        };
        let metadata = wire.metadata.map(ByteBuf::into_vec);
        if metadata
            .as_ref()
            .is_some_and(|sealed| sealed.len() > METADATA_BYTES_MAX)
        {
            return Err(invalid::<Wire>("at most 8 KiB of metadata"));
        }
        if metadata.is_some() && target == Target::Tombstone {
            return Err(invalid::<Wire>("a tombstone has no metadata"));
        }
        Ok(Self {
            bucket: wire.bucket,
            name: wire.name,
            version: wire.version,
            writer: wire.writer,
            writer_set: wire.writer_set,
            time: wire.time,
            target,
            predecessor,
            metadata,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    bucket: BucketId,
    name: ObjectKey,
    version: VersionId,
    writer: Principal,
    writer_set: u64,
    time: TimestampMs,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    manifest: Option<Cid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    predecessor: Option<ByteBuf>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<ByteBuf>,
}

impl Typed for Wire {
    const TYPE: &'static str = "entry";
    const BYTES_MAX: usize = 10_240;
}
