//! What the metadata port takes and gives: rows, mutations and their answers.

use domain::{
    BucketId, BucketKeyId, BucketName, Cid, NodeId, ObjectKey, Principal, Profile, TimestampMs,
    UploadId, VersionId,
};

use crate::layout::{ChunkLayout, NodeSlot};

/// The nonce of a signed request, stored in the transaction of the mutation it asks for.
///
/// Two are the same when principal, nonce and expiry are: the signature covers all three, so a replayed request cannot
/// change any. A refused mutation spends no nonce; an idempotent repeat spends its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestNonce {
    /// Who signed.
    pub principal: Principal,
    /// At most 64 bytes.
    pub nonce: Vec<u8>,
    /// After this time the signature is refused anyway and the row may go.
    pub expires: TimestampMs,
}

/// What every mutation carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mutation {
    /// The gateway's time.
    pub now: TimestampMs,
    /// `None` for the gateway's own work.
    pub nonce: Option<RequestNonce>,
}

/// A node as the gateway knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRow {
    /// Its number here.
    pub slot: NodeSlot,
    /// Its identity.
    pub id: NodeId,
    /// Its failure domain; shards of one chunk are spread over zones.
    pub zone: String,
    /// Where it listens: `unix:PATH` or `tls:HOST:PORT`.
    pub address: String,
    /// Relative capacity for placement.
    pub weight: u32,
}

/// A sealed recovery record as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryRecord {
    /// Five copies: its places.
    pub layout: ChunkLayout,
    /// Copies that are not on their node yet.
    pub pending: Vec<u8>,
}

impl From<ChunkLayout> for RecoveryRecord {
    /// One of which every copy is on its node.
    fn from(layout: ChunkLayout) -> Self {
        Self {
            layout,
            pending: Vec::new(),
        }
    }
}

/// A registered bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketRow {
    /// Its id.
    pub id: BucketId,
    /// Its name, unique in the deployment.
    pub name: BucketName,
    /// Who signed the record.
    pub owner: Principal,
    /// Coding of chunks; objects of at most 256 KiB are always five copies.
    pub profile: Profile,
    /// The owner-signed bucket record, as it came.
    pub record: Vec<u8>,
    /// When the gateway registered it.
    pub created: TimestampMs,
    /// Its sealed recovery records, deleted with it.
    pub recovery: Vec<RecoveryRecord>,
}

/// A bucket key's record, as its writer made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BucketKeyRow {
    /// Its id.
    pub id: BucketKeyId,
    /// The bucket it belongs to.
    pub bucket: BucketId,
    /// Who made it.
    pub writer: Principal,
    /// The record with its wraps, as it came.
    pub record: Vec<u8>,
    /// Its sealed recovery records, deleted with the bucket.
    pub recovery: Vec<RecoveryRecord>,
}

/// What is written with every new version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewVersion {
    /// The bucket.
    pub bucket: BucketId,
    /// The key.
    pub key: ObjectKey,
    /// Drawn by the client.
    pub version: VersionId,
    /// Who signed the entry.
    pub writer: Principal,
    /// The version record (entry, bucket-key id, wrapped DEK, wraps), as it came.
    pub record: Vec<u8>,
    /// BLAKE3 of the entry: completing twice with the same entry is the same completion.
    pub entry_hash: [u8; 32],
    /// The object's CID.
    pub manifest: Cid,
    /// Bytes of plaintext.
    pub plain_bytes: u64,
    /// `Some(p)` makes the write conditional: the present version must be `p` (`Some(None)`: the key must be free; a
    /// deleted key is free). Not kept: a version that is read back has `None` here.
    pub predecessor: Option<Option<VersionId>>,
    /// The entry's time.
    pub modified: TimestampMs,
}

/// How the bytes of a version are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VersionKind {
    /// One self-contained record on five nodes: chunk 0 of the version is that record.
    Small,
    /// Chunks and manifest pages.
    Chunked,
    /// Deleted: the entry is a tombstone.
    Tombstone,
}

/// A stored version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VersionRow {
    /// Orders versions within the deployment.
    pub sequence: i64,
    /// What was written.
    pub version: NewVersion,
    /// How its bytes are held.
    pub kind: VersionKind,
    /// Chunks.
    pub chunks: u32,
    /// Manifest bytes: the root page (and, for small objects, the whole manifest).
    pub manifest_root: Vec<u8>,
    /// Shards that are not on their node yet, over all chunks.
    pub pending_shards: u32,
}

/// A chunk with where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkRow {
    /// Key in the database.
    pub id: i64,
    /// BLAKE3 of the ciphertext.
    pub cid: Cid,
    /// Coding and places.
    pub layout: ChunkLayout,
    /// Shard indices that are not on their node yet.
    pub pending: Vec<u8>,
}

/// An upload in progress: the durable intent that covers its shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadRow {
    /// Its id.
    pub id: UploadId,
    /// Where the object goes.
    pub bucket: BucketId,
    /// Under which key.
    pub key: ObjectKey,
    /// Who started it; nobody else may continue it.
    pub principal: Principal,
    /// When.
    pub created: TimestampMs,
    /// `Some` once completed: the version it became.
    pub completed: Option<VersionId>,
}

/// A slot of an upload: (n, chunk CID); the manifest selects among several for one n.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotRow {
    /// Index of the chunk in the object.
    pub n: u32,
    /// The chunk.
    pub chunk: ChunkRow,
    /// Whether the write quorum was reached.
    pub acknowledged: bool,
}

/// Selects a slot on completion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotChoice {
    /// Index of the chunk in the object.
    pub n: u32,
    /// Which of the slots with this index.
    pub cid: Cid,
}

/// A manifest page that arrived before the completion: large objects have more than fit one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StagedPage {
    /// Its number, from 0.
    pub number: u32,
    /// Its CID.
    pub cid: Cid,
    /// The CIDs of the chunks that it lists, in order.
    pub chunks: Vec<Cid>,
    /// Its bytes, as they came.
    pub bytes: Vec<u8>,
}

/// Completion of an upload.
#[derive(Clone, Debug)]
pub struct CompleteUpload {
    /// The upload.
    pub upload: UploadId,
    /// The version it becomes.
    pub version: NewVersion,
    /// Every chunk of the object in order: n = 0, 1, 2, … Empty when its pages were staged.
    pub slots: Vec<SlotChoice>,
    /// CIDs of the staged manifest pages, in order; their chunks are the object's. Empty when the pages come along.
    pub staged: Vec<Cid>,
    /// Manifest root bytes.
    pub manifest_root: Vec<u8>,
    /// Manifest pages, when they are not within the root.
    pub pages: Vec<Vec<u8>>,
    /// Recovery records written for this version (manifest, entry, layout), so that they are deleted with it.
    pub recovery: Vec<RecoveryRecord>,
}

/// A small object: the record's layout and what metadata keeps of it.
#[derive(Clone, Debug)]
pub struct PutSmall {
    /// The version.
    pub version: NewVersion,
    /// The manifest, as it came.
    pub manifest_root: Vec<u8>,
    /// CID of the stored record.
    pub record_cid: Cid,
    /// Five copies: the record's places.
    pub layout: ChunkLayout,
    /// Copies that are not durable yet.
    pub pending: Vec<u8>,
}

/// A delete: a signed tombstone.
#[derive(Clone, Debug)]
pub struct PutTombstone {
    /// The tombstone as a version (no manifest bytes, zero length).
    pub version: NewVersion,
    /// Its recovery record.
    pub recovery: Vec<RecoveryRecord>,
}

/// A copy: a new entry over the chunks of an existing version, which are counted by reference.
#[derive(Clone, Debug)]
pub struct CopyVersion {
    /// The source.
    pub source: VersionId,
    /// The new version.
    pub version: NewVersion,
    /// For a move: the tombstone of the source's key, in the same transaction.
    pub tombstone: Option<PutTombstone>,
    /// Recovery records of the new version.
    pub recovery: Vec<RecoveryRecord>,
}

/// The answer to a put, completion, copy or delete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Orders versions.
    pub sequence: i64,
    /// The version that is no longer current, if there was one (a tombstone counts as none).
    pub replaced: Option<VersionId>,
    /// False when the same entry had been committed before (idempotent repeat).
    pub fresh: bool,
}

/// A listing request; keys are ordered by their UTF-8 bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListQuery {
    /// Keys start with this.
    pub prefix: String,
    /// Keys that contain this after the prefix are rolled up into common prefixes.
    pub delimiter: Option<String>,
    /// Only keys and common prefixes that sort after this.
    pub after: Option<String>,
    /// 1 to 1,000 keys and common prefixes together.
    pub limit: usize,
}

/// A listed object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedObject {
    /// The key.
    pub key: ObjectKey,
    /// Its current version.
    pub version: VersionId,
    /// The object's CID.
    pub manifest: Cid,
    /// Bytes of plaintext.
    pub plain_bytes: u64,
    /// The entry's time.
    pub modified: TimestampMs,
    /// Who wrote it.
    pub writer: Principal,
    /// False while shards are pending.
    pub fully_placed: bool,
}

/// A page of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListPage {
    /// Objects, in key order.
    pub objects: Vec<ListedObject>,
    /// Common prefixes, in order.
    pub prefixes: Vec<String>,
    /// Pass as `after` for the next page; `None` at the end.
    pub next: Option<String>,
}

/// A shard that still has to reach its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingShard {
    /// The chunk with all its places.
    pub chunk: ChunkRow,
    /// Which of its shards.
    pub index: u8,
    /// Whether a small record (then re-sent with that tag).
    pub small: bool,
}

/// Shards that must go: written before the first of them is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deletion {
    /// Key in the database.
    pub id: i64,
    /// The chunk (or small or recovery record) that goes.
    pub chunk: Cid,
    /// What to delete.
    pub layout: ChunkLayout,
    /// Shard indices whose nodes have not confirmed yet.
    pub remaining: Vec<u8>,
}

/// Shards of a version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// All, over all chunks.
    pub total_shards: u64,
    /// Those that have not reached their node.
    pub pending_shards: u64,
}

/// A recovery record with copies that have not reached their node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRecovery {
    /// The record: one chunk of copies. Its id is the row's.
    pub record: ChunkRow,
    /// Whether it is the session of a gateway's start, which every other record of that start needs.
    pub session: bool,
}

/// Sums over the index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Buckets.
    pub buckets: u64,
    /// Current objects.
    pub objects: u64,
    /// Bytes of plaintext in them.
    pub plain_bytes: u64,
    /// Chunks and small records that metadata refers to (uploads in progress included).
    pub chunks: u64,
    /// Bytes of their shards, all copies.
    pub shard_bytes: u64,
    /// Uploads in progress.
    pub uploads: u64,
    /// Shards that have not reached their node.
    pub pending_shards: u64,
    /// Chunks whose shards wait to be deleted.
    pub deletions: u64,
    /// Bytes of sealed recovery records.
    pub recovery_bytes: u64,
    /// Copies of them that have not reached their node.
    pub pending_copies: u64,
}
