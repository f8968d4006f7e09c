//! Checks of sealed records that come in: everything the gateway can check without a key.
//!
//! The only module here that knows the shapes of `sealed`.

use crypto::wrap::{Wrap, kind};
use domain::{BucketId, BucketKeyId, Cid, DeploymentId, Permissions, Principal, TimestampMs};
use objects::metadata::{BucketKeyRow, BucketRow, NewVersion, StagedPage};
use sealed::{
    BucketKeyRecord, BucketRecord, ChunkEntry, ContentManifest, Predecessor, SignedEntry,
    SmallRecord, Target, VerifiedBucket, VersionRecord,
};
use wire::problem::{Code, Problem};

use crate::http::Answer;
use crate::http::answer::Failure;

/// How far an entry's time may be from the gateway's clock.
const ENTRY_CLOCK_SKEW_MS: u64 = 15 * 60 * 1_000;

/// A registered bucket with its checked record.
#[derive(Debug)]
pub struct Bucket {
    /// As metadata has it.
    pub row: BucketRow,
    /// The owner-signed record.
    pub record: VerifiedBucket,
}

fn malformed(what: &str, reason: impl std::fmt::Display) -> Failure {
    Failure::new(Code::MalformedRecord, format!("{what}: {reason}"))
}

impl Bucket {
    /// From metadata; a stored record that does not verify is damage.
    ///
    /// # Errors
    /// Internal.
    pub fn from_row(row: BucketRow, deployment: &DeploymentId) -> Answer<Self> {
        let record = BucketRecord::decode(&row.record)
            .map_err(|error| error.to_string())
            .and_then(|record| record.verify(deployment).map_err(|error| error.to_string()))
            .map_err(|reason| Failure::internal(format!("stored bucket record: {reason}")))?;
        Ok(Self { row, record })
    }

    /// What a principal may do here: the owner everything, writers read and write, readers read, others nothing.
    #[must_use]
    pub fn permissions_of(&self, principal: &Principal) -> Permissions {
        if *principal == self.row.owner {
            Permissions::ADMIN
        } else if self.record.record().writers.contains(principal) {
            Permissions::WRITER
        } else if self.record.record().readers.contains(principal) {
            Permissions::READ
        } else {
            Permissions::NONE
        }
    }
}

/// Checks a new bucket's record.
///
/// # Errors
/// [`Code::MalformedRecord`], [`Code::Forbidden`] when it is not the caller's.
pub fn new_bucket(
    bytes: Vec<u8>,
    caller: &Principal,
    deployment: &DeploymentId,
    now: TimestampMs,
) -> Answer<BucketRow> {
    let what = "bucket record";
    let record = BucketRecord::decode(&bytes).map_err(|error| malformed(what, error))?;
    let verified = record
        .verify(deployment)
        .map_err(|error| malformed(what, error))?;
    let record = verified.record();
    if record.owner != *caller {
        return Err(Failure::new(
            Code::Forbidden,
            "a bucket is registered by its owner",
        ));
    }
    Ok(BucketRow {
        id: record.id,
        name: record.name.clone(),
        owner: record.owner,
        profile: record.profile,
        created: now,
        recovery: Vec::new(),
        record: bytes,
    })
}

/// Checks a record that shall take the place of a bucket's: of the same bucket, newer, signed by its owner, and with nothing
/// changed but who may do what, and the keys.
///
/// # Errors
/// [`Code::MalformedRecord`], [`Code::BucketChanged`].
pub fn changed_bucket(
    bytes: Vec<u8>,
    bucket: &Bucket,
    deployment: &DeploymentId,
) -> Answer<BucketRow> {
    let what = "bucket record";
    let record = BucketRecord::decode(&bytes).map_err(|error| malformed(what, error))?;
    let verified = record
        .verify(deployment)
        .map_err(|error| malformed(what, error))?;
    let (new, known) = (verified.record(), bucket.record.record());
    verified
        .expect_id(&known.id)
        .map_err(|error| malformed(what, error))?;
    verified
        .expect_successor_of(&bucket.record)
        .map_err(|error| Failure::new(Code::BucketChanged, error.to_string()))?;
    let same = new.name == known.name
        && new.profile == known.profile
        && new.geometry == known.geometry
        && new.created == known.created;
    let key_kept = new.key == known.key || new.key_generation > known.key_generation;
    if !same || !key_kept || new.key_generation < known.key_generation {
        return Err(malformed(
            what,
            "name, coding and time of a bucket stay, its key generation only grows, and with another named key it does",
        ));
    }
    Ok(BucketRow {
        recovery: Vec::new(),
        record: bytes,
        ..bucket.row.clone()
    })
}

/// Checks a bucket key's record: the caller's own, for this bucket and its present generation.
///
/// # Errors
/// [`Code::MalformedRecord`], [`Code::StaleBucketKey`].
pub fn new_bucket_key(
    bytes: Vec<u8>,
    id: BucketKeyId,
    bucket: &Bucket,
    caller: &Principal,
    deployment: &DeploymentId,
) -> Answer<BucketKeyRow> {
    let what = "bucket key record";
    let record = BucketKeyRecord::decode(&bytes).map_err(|error| malformed(what, error))?;
    record
        .verify(deployment)
        .map_err(|error| malformed(what, error))?;
    let statement = record.statement();
    if statement.id != id || statement.bucket != bucket.row.id || statement.writer != *caller {
        return Err(malformed(what, "it is for another bucket, writer or id"));
    }
    same_generation(statement.generation, bucket)?;
    if let Some(key) = bucket.record.record().key {
        let to_it = |wrap: &Wrap| matches!(wrap, Wrap::NamedKey(wrap) if wrap.key == key);
        if !record.wraps().iter().all(to_it) {
            return Err(malformed(
                what,
                "the bucket is on a named key: its keys are wrapped to that and to nothing else",
            ));
        }
    }
    Ok(BucketKeyRow {
        id,
        bucket: bucket.row.id,
        writer: statement.writer,
        recovery: Vec::new(),
        record: bytes,
    })
}

fn same_generation(generation: u64, bucket: &Bucket) -> Answer<()> {
    let present = bucket.record.record().key_generation;
    if generation == present {
        return Ok(());
    }
    let detail = format!(
        "the bucket key is of generation {generation}, the bucket's is {present}: draw a new key and write again"
    );
    Err(Failure::new(Code::StaleBucketKey, detail))
}

/// Checks that a stored bucket key still takes new objects.
///
/// # Errors
/// [`Code::StaleBucketKey`].
pub fn usable_bucket_key(stored: &[u8], bucket: &Bucket) -> Answer<()> {
    let record = BucketKeyRecord::decode(stored)
        .map_err(|error| Failure::internal(format!("stored bucket key: {error}")))?;
    same_generation(record.statement().generation, bucket)
}

/// What a version record says, checked.
#[derive(Debug)]
pub struct CheckedVersion {
    /// For metadata.
    pub row: NewVersion,
    /// The bucket key that wraps its DEK; `None` for tombstones.
    pub bucket_key: Option<BucketKeyId>,
    /// Kinds of further wraps, in words.
    pub wraps: Vec<String>,
}

/// Checks a version record for an object of `bucket`, written by the caller now.
///
/// # Errors
/// [`Code::MalformedRecord`], [`Code::Forbidden`].
pub fn object_version(
    bytes: &[u8],
    bucket: &Bucket,
    caller: &Principal,
    now: TimestampMs,
) -> Answer<CheckedVersion> {
    let what = "version record";
    let record = VersionRecord::decode(bytes).map_err(|error| malformed(what, error))?;
    let entry = record.entry();
    check_entry(entry, bucket, caller, now)?;
    let Target::Object { manifest, size } = entry.target else {
        return Err(malformed(what, "a tombstone where an object was expected"));
    };
    Ok(CheckedVersion {
        row: new_version(entry, bytes, manifest, size),
        bucket_key: record.protection().map(|protection| protection.bucket_key),
        wraps: wrap_kinds(&record),
    })
}

/// Checks a signed tombstone of `bucket`, written by the caller now.
///
/// # Errors
/// [`Code::MalformedRecord`], [`Code::Forbidden`].
pub fn tombstone(
    bytes: &[u8],
    bucket: &Bucket,
    caller: &Principal,
    now: TimestampMs,
) -> Answer<NewVersion> {
    let what = "tombstone";
    let entry = SignedEntry::decode(bytes).map_err(|error| malformed(what, error))?;
    check_entry(&entry, bucket, caller, now)?;
    if entry.target != Target::Tombstone {
        return Err(malformed(what, "an object where a tombstone was expected"));
    }
    let record = VersionRecord::tombstone(entry.clone())
        .map_err(|error| malformed(what, error))?
        .encode();
    // A tombstone names no content; the CID of its own entry stands in the column.
    let cid = Cid::from_digest(domain::Codec::DagCbor, entry.hash());
    Ok(new_version(&entry, &record, cid, 0))
}

fn check_entry(
    entry: &SignedEntry,
    bucket: &Bucket,
    caller: &Principal,
    now: TimestampMs,
) -> Answer<()> {
    entry
        .verify(&bucket.record)
        .map_err(|error| malformed("entry", error))?;
    if entry.writer != *caller {
        return Err(Failure::new(
            Code::Forbidden,
            "an entry is put by the principal that signed it",
        ));
    }
    if entry.time.0.abs_diff(now.0) > ENTRY_CLOCK_SKEW_MS {
        return Err(Failure::from(
            Problem::new(
                Code::BadRequest,
                "the entry's time is more than 15 minutes from the gateway's: set the clock right",
            )
            .with("gateway_time_ms", now.0),
        ));
    }
    Ok(())
}

fn new_version(entry: &SignedEntry, record: &[u8], manifest: Cid, size: u64) -> NewVersion {
    NewVersion {
        bucket: entry.bucket,
        key: entry.name.clone(),
        version: entry.version,
        writer: entry.writer,
        record: record.to_vec(),
        entry_hash: entry.hash(),
        manifest,
        plain_bytes: size,
        predecessor: entry.predecessor.map(|predecessor| match predecessor {
            Predecessor::Version(id) => Some(id),
            Predecessor::Nothing => None,
        }),
        modified: entry.time,
    }
}

/// What a stored version record says, for status answers.
///
/// # Errors
/// Internal: it was checked when it came in.
pub fn stored_protection(bytes: &[u8]) -> Answer<(Option<BucketKeyId>, Vec<String>)> {
    let record = VersionRecord::decode(bytes)
        .map_err(|error| Failure::internal(format!("stored version record: {error}")))?;
    Ok((
        record.protection().map(|protection| protection.bucket_key),
        wrap_kinds(&record),
    ))
}

/// What opens a stored bucket key, in words.
///
/// # Errors
/// Internal: it was checked when it came in.
pub fn bucket_key_wraps(bytes: &[u8]) -> Answer<Vec<String>> {
    let record = BucketKeyRecord::decode(bytes)
        .map_err(|error| Failure::internal(format!("stored bucket key: {error}")))?;
    Ok(record.wraps().iter().map(in_words).collect())
}

/// Kind, and for whom.
fn in_words(wrap: &Wrap) -> String {
    match wrap {
        Wrap::Identity { receiver, .. } => format!("identity {receiver}"),
        Wrap::Passphrase { .. } => "passphrase".to_owned(),
        Wrap::NamedKey(wrap) => format!("named-key {} version {}", wrap.key, wrap.version),
        Wrap::Other { kind, .. } => match *kind {
            kind::LINK_KEY => "link-key".to_owned(),
            kind::CUSTOMER_KEY => "customer-key".to_owned(),
            other => format!("kind-{other}"),
        },
    }
}

/// Wraps of the version itself, beside the one under its bucket key.
fn wrap_kinds(record: &VersionRecord) -> Vec<String> {
    record.wraps().iter().map(in_words).collect()
}

/// Checks a manifest's root against the CID that the entry names.
///
/// # Errors
/// [`Code::MalformedRecord`].
pub fn manifest(root: &[u8], expected: &Cid) -> Answer<ContentManifest> {
    let what = "manifest";
    if Cid::of(domain::Codec::DagCbor, root) != *expected {
        return Err(malformed(what, "it is not the one that the entry names"));
    }
    ContentManifest::decode(root).map_err(|error| malformed(what, error))
}

/// Checks page `index` against its manifest.
///
/// # Errors
/// [`Code::MalformedRecord`].
pub fn open_page(manifest: &ContentManifest, index: usize, page: &[u8]) -> Answer<Vec<ChunkEntry>> {
    manifest
        .open_page(index, page)
        .map_err(|error| malformed("manifest", error))
}

/// A manifest page whose root is not known yet.
///
/// # Errors
/// [`Code::MalformedRecord`].
pub fn staged_page(number: u32, bytes: Vec<u8>) -> Answer<StagedPage> {
    let entries =
        sealed::manifest::decode_page(&bytes).map_err(|error| malformed("manifest page", error))?;
    Ok(StagedPage {
        number,
        cid: sealed::manifest::cid_of(&bytes),
        chunks: entries.iter().map(|entry| entry.cid).collect(),
        bytes,
    })
}

/// A small record taken apart.
#[derive(Debug)]
pub struct Small {
    /// The ciphertext.
    pub chunk: Vec<u8>,
    /// The manifest.
    pub manifest: Vec<u8>,
    /// The version record.
    pub version_record: Vec<u8>,
    /// The writer's bucket key, with the first object under it.
    pub bucket_key: Option<(BucketKeyId, Vec<u8>)>,
}

/// Takes a small record apart; decoding has checked that chunk, manifest and entry belong together.
///
/// # Errors
/// [`Code::MalformedRecord`].
pub fn small(bytes: &[u8]) -> Answer<Small> {
    let record = SmallRecord::decode(bytes).map_err(|error| malformed("small record", error))?;
    Ok(Small {
        chunk: record.chunk().to_vec(),
        manifest: record.manifest().to_vec(),
        version_record: record.version().encode(),
        bucket_key: record
            .bucket_key()
            .map(|key| (key.statement().id, key.encode())),
    })
}

/// Whether an entry of bucket `id` was meant.
///
/// # Errors
/// [`Code::MalformedRecord`].
pub fn same_bucket(version: &NewVersion, id: BucketId) -> Answer<()> {
    if version.bucket == id {
        return Ok(());
    }
    Err(malformed("entry", "it is for another bucket"))
}
