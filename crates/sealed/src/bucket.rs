//! Bucket records: what a bucket is and who may write, signed by its owner.

use crypto::identity::SignatureError;
use crypto::{Identity, Label};
use domain::limits::{READERS_MAX, WRITERS_MAX};
use domain::{BucketId, BucketName, DeploymentId, KeyId, Principal, Profile, TimestampMs};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};

use crate::codec::{self, RecordError, TypeName, Typed, V1, invalid, is_zero};
use crate::manifest::Geometry;
use crate::signed::{Content, Signed};

/// A signed bucket record.
pub type BucketRecord = Signed<Bucket>;

/// What the owner says about a bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// BLAKE3 of label, deployment id, owner and random: nobody else can make a record for it.
    pub id: BucketId,
    /// Who signs.
    pub owner: Principal,
    /// 32 random bytes that make the id.
    pub random: [u8; 32],
    /// The name that clients pin to the id at first use.
    pub name: BucketName,
    /// How chunks are coded by default.
    pub profile: Profile,
    /// How objects are cut into chunks by default.
    pub geometry: Geometry,
    /// Who may write.
    pub writers: WriterSet,
    /// Who may read besides: the gateway gives them ciphertext. What opens it is a matter of keys.
    pub readers: Readers,
    /// The named key that new bucket keys are wrapped to, and to nothing else; absent: the writer's own identity.
    pub key: Option<KeyId>,
    /// Grows when somebody loses a right: bucket keys of an earlier generation take no new objects.
    pub key_generation: u64,
    /// When the bucket was made.
    pub created: TimestampMs,
}

/// Principals that may read, ascending, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers(Vec<Principal>);

/// Too many readers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a bucket has at most {READERS_MAX} readers besides its writers")]
pub struct ReadersError;

impl Readers {
    /// Sorts and deduplicates.
    ///
    /// # Errors
    /// [`ReadersError`] for more than 1,000.
    pub fn new(mut readers: Vec<Principal>) -> Result<Self, ReadersError> {
        readers.sort_unstable();
        readers.dedup();
        if readers.len() > READERS_MAX {
            return Err(ReadersError);
        }
        Ok(Self(readers))
    }

    /// In ascending order.
    #[must_use]
    pub fn list(&self) -> &[Principal] {
        &self.0
    }

    /// Whether `principal` is one.
    #[must_use]
    pub fn contains(&self, principal: &Principal) -> bool {
        self.0.binary_search(principal).is_ok()
    }
}

/// Somebody who wrote once and may no longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FormerWriter {
    /// Who.
    pub writer: Principal,
    /// The last writer set that they were in: entries under this one and earlier ones still count.
    pub until: u64,
}

/// The principals whose entries count, by version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterSet {
    version: u64,
    writers: Vec<Principal>,
    former: Vec<FormerWriter>,
}

/// Why a writer set is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a writer set has a version of at least 1 and at most {WRITERS_MAX} writers, and as many former ones of earlier versions"
)]
pub struct WriterSetError;

impl WriterSet {
    /// Sorts and deduplicates.
    ///
    /// # Errors
    /// [`WriterSetError`] for version 0 or more than 1,000 writers.
    pub fn new(version: u64, mut writers: Vec<Principal>) -> Result<Self, WriterSetError> {
        writers.sort_unstable();
        writers.dedup();
        if version == 0 || writers.len() > WRITERS_MAX {
            return Err(WriterSetError);
        }
        Ok(Self {
            version,
            writers,
            former: Vec::new(),
        })
    }

    /// With those who wrote once: sorted by writer, each once and in none of the present writers' places.
    ///
    /// # Errors
    /// [`WriterSetError`] also for a former writer of this or a later version.
    pub fn with_former(mut self, mut former: Vec<FormerWriter>) -> Result<Self, WriterSetError> {
        former.sort_unstable_by_key(|one| one.writer);
        let sound = |one: &FormerWriter| (1..self.version).contains(&one.until);
        if former.len() > WRITERS_MAX
            || !former.is_sorted_by(|a, b| a.writer < b.writer)
            || !former.iter().all(sound)
            || former.iter().any(|one| self.contains(&one.writer))
        {
            return Err(WriterSetError);
        }
        self.former = former;
        Ok(self)
    }

    /// The next version, with `writer` in it.
    ///
    /// # Errors
    /// [`WriterSetError`].
    pub fn adding(&self, writer: Principal) -> Result<Self, WriterSetError> {
        let mut writers = self.writers.clone();
        writers.push(writer);
        let mut former = self.former.clone();
        former.retain(|one| one.writer != writer);
        Self::new(self.next_version()?, writers)?.with_former(former)
    }

    /// The next version, without `writer`; entries under versions up to this one keep counting.
    ///
    /// # Errors
    /// [`WriterSetError`].
    pub fn removing(&self, writer: Principal) -> Result<Self, WriterSetError> {
        let mut writers = self.writers.clone();
        writers.retain(|other| *other != writer);
        let mut former = self.former.clone();
        if self.contains(&writer) {
            former.retain(|one| one.writer != writer);
            former.push(FormerWriter {
                writer,
                until: self.version,
            });
        }
        Self::new(self.next_version()?, writers)?.with_former(former)
    }

    /// The same writers as the next version: another part of the record changes.
    ///
    /// # Errors
    /// [`WriterSetError`].
    pub fn renewed(&self) -> Result<Self, WriterSetError> {
        Self::new(self.next_version()?, self.writers.clone())?.with_former(self.former.clone())
    }

    fn next_version(&self) -> Result<u64, WriterSetError> {
        self.version.checked_add(1).ok_or(WriterSetError)
    }

    /// Those who wrote once, ascending.
    #[must_use]
    pub fn former(&self) -> &[FormerWriter] {
        &self.former
    }

    /// Whether an entry of `principal` under version `entry` counts: it writes now, or did then.
    #[must_use]
    pub fn accepts(&self, principal: &Principal, entry: u64) -> bool {
        self.contains(principal)
            || self
                .former
                .iter()
                .any(|one| one.writer == *principal && entry <= one.until)
    }

    /// Grows by one with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// In ascending order, each once. The owner writes only when listed.
    #[must_use]
    pub fn writers(&self) -> &[Principal] {
        &self.writers
    }

    /// Whether `principal` may write.
    #[must_use]
    pub fn contains(&self, principal: &Principal) -> bool {
        self.writers.binary_search(principal).is_ok()
    }
}

/// Why a bucket record is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BucketError {
    /// Not signed by its owner in this deployment.
    #[error("the bucket record is not signed by its owner")]
    Signature(#[from] SignatureError),
    /// The id is not that of owner, random and deployment.
    #[error("the bucket record's id {0} does not belong to its owner and deployment")]
    Id(BucketId),
    /// A record for another bucket than the one asked for.
    #[error("a record of bucket {got} where bucket {expected} was expected")]
    AnotherBucket {
        /// The bucket that was asked for or pinned.
        expected: BucketId,
        /// The bucket that the record is for.
        got: BucketId,
    },
    /// An older record, or another one of the same version, than the one already known.
    #[error("the bucket record has writer-set version {got}, version {known} is known already")]
    NotNewer {
        /// The version known.
        known: u64,
        /// The version of the record.
        got: u64,
    },
}

impl Bucket {
    /// A new bucket, whose owner is its only writer.
    #[must_use]
    pub fn create(
        rng: &mut dyn CryptoRng,
        deployment: &DeploymentId,
        owner: Principal,
        name: BucketName,
        profile: Profile,
        created: TimestampMs,
    ) -> Self {
        let mut random = [0; 32];
        rng.fill_bytes(&mut random);
        Self {
            id: bucket_id(deployment, &owner, &random),
            owner,
            random,
            name,
            profile,
            geometry: Geometry::LARGEST,
            writers: WriterSet {
                version: 1,
                writers: vec![owner],
                former: Vec::new(),
            },
            readers: Readers::default(),
            key: None,
            key_generation: 0,
            created,
        }
    }

    /// Signs it as its owner.
    ///
    /// # Panics
    /// When `owner` is somebody else.
    #[must_use]
    pub fn sign(self, owner: &Identity, deployment: &DeploymentId) -> BucketRecord {
        Signed::sign(owner, deployment, self)
    }
}

/// BLAKE3(`strongroom/v1/bucket-id` 00, deployment id, owner, random).
#[must_use]
pub fn bucket_id(deployment: &DeploymentId, owner: &Principal, random: &[u8; 32]) -> BucketId {
    let body = [owner.as_bytes().as_slice(), random].concat();
    let message = Label::BUCKET_ID.message(deployment, &body);
    BucketId(*blake3::hash(&message).as_bytes())
}

impl Signed<Bucket> {
    /// Checks signature and id.
    ///
    /// # Errors
    /// [`BucketError::Signature`], [`BucketError::Id`].
    pub fn verify(self, deployment: &DeploymentId) -> Result<VerifiedBucket, BucketError> {
        self.verify_signature(deployment)?;
        if bucket_id(deployment, &self.owner, &self.random) != self.id {
            return Err(BucketError::Id(self.id));
        }
        Ok(VerifiedBucket {
            record: self,
            deployment: *deployment,
        })
    }
}

/// A bucket record that its owner signed in this deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedBucket {
    record: BucketRecord,
    deployment: DeploymentId,
}

impl VerifiedBucket {
    /// The record.
    #[must_use]
    pub fn record(&self) -> &BucketRecord {
        &self.record
    }

    /// The deployment in which it was checked.
    #[must_use]
    pub fn deployment(&self) -> &DeploymentId {
        &self.deployment
    }

    /// Checks that it is the bucket that a client pinned or asked for.
    ///
    /// # Errors
    /// [`BucketError::AnotherBucket`].
    pub fn expect_id(&self, expected: &BucketId) -> Result<(), BucketError> {
        if self.record.id == *expected {
            return Ok(());
        }
        Err(BucketError::AnotherBucket {
            expected: *expected,
            got: self.record.id,
        })
    }

    /// Checks that it may take the place of `known`: the same bucket, and newer or the very same.
    ///
    /// # Errors
    /// [`BucketError::AnotherBucket`], [`BucketError::NotNewer`].
    pub fn expect_successor_of(&self, known: &Self) -> Result<(), BucketError> {
        self.expect_id(&known.record.id)?;
        let (known_version, got) = (known.record.writers.version, self.record.writers.version);
        if got > known_version || self.record.body() == known.record.body() {
            return Ok(());
        }
        Err(BucketError::NotNewer {
            known: known_version,
            got,
        })
    }
}

impl std::ops::Deref for VerifiedBucket {
    type Target = Bucket;

    fn deref(&self) -> &Bucket {
        &self.record
    }
}

impl Content for Bucket {
    const LABEL: Label = Label::BUCKET;

    fn author(&self) -> Principal {
        self.owner
    }

    fn encode(&self) -> Vec<u8> {
        codec::encode(&Wire {
            kind: TypeName::new(),
            v: V1,
            id: self.id,
            owner: self.owner,
            random: self.random,
            name: self.name.clone(),
            profile: self.profile,
            blocks: self.geometry.chunk_blocks(),
            writer_set: self.writers.version,
            writers: self.writers.writers.clone(),
            former: self.writers.former.clone(),
            readers: self.readers.0.clone(),
            key: self.key,
            key_generation: self.key_generation,
            created: self.created,
        })
    }

    fn decode(body: &[u8]) -> Result<Self, RecordError> {
        let wire: Wire = codec::decode(body)?;
        if !wire.writers.is_sorted_by(|a, b| a < b) {
            return Err(invalid::<Wire>(
                "writers are listed in ascending order, each once",
            ));
        }
        if !wire.former.is_sorted_by(|a, b| a.writer < b.writer)
            || !wire.readers.is_sorted_by(|a, b| a < b)
        {
            return Err(invalid::<Wire>(
                "former writers and readers are listed in ascending order, each once",
            ));
        }
        let writers = WriterSet::new(wire.writer_set, wire.writers)
            .and_then(|set| set.with_former(wire.former))
            .map_err(|_| {
                invalid::<Wire>(
                    "at least version 1, at most 1,000 writers, former ones of earlier versions",
                )
            })?;
        let readers =
            Readers::new(wire.readers).map_err(|_| invalid::<Wire>("at most 1,000 readers"))?;
        let geometry = Geometry::new(wire.blocks)
            .map_err(|_| invalid::<Wire>("a chunk has 16 to 64 blocks"))?;
        Ok(Self {
            id: wire.id,
            owner: wire.owner,
            random: wire.random,
            name: wire.name,
            profile: wire.profile,
            geometry,
            writers,
            readers,
            key: wire.key,
            key_generation: wire.key_generation,
            created: wire.created,
        })
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    #[serde(rename = "type")]
    kind: TypeName<Wire>,
    v: V1,
    id: BucketId,
    owner: Principal,
    #[serde(with = "serde_bytes")]
    random: [u8; 32],
    name: BucketName,
    profile: Profile,
    blocks: u8,
    writer_set: u64,
    writers: Vec<Principal>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    former: Vec<FormerWriter>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    readers: Vec<Principal>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<KeyId>,
    #[serde(default, skip_serializing_if = "is_zero")]
    key_generation: u64,
    created: TimestampMs,
}

impl Typed for Wire {
    const TYPE: &'static str = "bucket";
    // 1,000 writers and readers of 34 bytes, 1,000 former writers of 60, and the rest.
    const BYTES_MAX: usize = 140_000;
}
