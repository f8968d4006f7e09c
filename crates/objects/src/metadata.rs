//! The metadata port: one transactional index of buckets, versions, chunks, uploads and intents.
//!
//! Every method is one transaction: when it returns `Ok`, its effect is durable; when it returns `Err`, nothing of it
//! happened. Signed bytes are stored as they came (this crate never re-encodes them); the gateway has checked
//! signatures, sizes and permissions before it calls.

use std::future::Future;

use domain::{
    BucketId, BucketKeyId, BucketName, Cid, NodeId, ObjectKey, Principal, Profile, TimestampMs,
    UploadId, VersionId,
};

use crate::layout::{ChunkLayout, NodeSlot};

/// Why a metadata operation did not happen.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// The bucket, version, upload or key is not there.
    #[error("{0} not found")]
    NotFound(&'static str),
    /// The name or id is taken by something else.
    #[error("{0} exists already")]
    Exists(&'static str),
    /// A change to a bucket's record that is not the present one.
    #[error("the bucket's record has changed meanwhile")]
    Superseded,
    /// A bucket that still has objects or uploads.
    #[error("the bucket is not empty")]
    BucketNotEmpty,
    /// A conditional write whose predecessor is not the present version (carried here, if any).
    #[error("the object has changed: its present version is {}", .present.map_or_else(|| "none".to_owned(), |id| id.to_string()))]
    Conflict {
        /// The present version, `None` when the key is free or deleted.
        present: Option<VersionId>,
    },
    /// A manifest page that was said to be staged is not, or is another one by now.
    #[error("page {page} of the manifest was not staged in this upload")]
    PageMissing {
        /// Its number.
        page: u32,
    },
    /// The manifest names a chunk that this upload never acknowledged.
    #[error("chunk {n} was not acknowledged in this upload")]
    ChunkMissing {
        /// Index of the chunk in the object.
        n: u32,
    },
    /// The same ciphertext is being deleted just now; the caller may retry in a few seconds.
    #[error("this chunk is being deleted")]
    BeingDeleted,
    /// A chunk that shares shards with more others than any honest ciphertext does.
    #[error("too many chunks share a shard with this one")]
    TooManyAlike,
    /// A request nonce that was used before.
    #[error("this request was already carried out")]
    Replayed,
    /// A stored row that this build cannot read.
    #[error("stored {what} is damaged: {reason}")]
    Damaged {
        /// Kind of row.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The database refused or is out of reach; safe to retry.
    #[error("the metadata database is unavailable: {0}")]
    Unavailable(String),
}

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

/// Result of a metadata operation.
pub type MetadataResult<T> = Result<T, MetadataError>;

/// The index. Implementations are cheap to clone.
///
/// Deleting and overwriting: a version that is replaced or deleted stays readable by its id for `grace_ms`, so that its
/// readers can finish. Then it is let go of ([`Metadata::release_due`]): chunks whose last reference it was become
/// deletions that are due at once. Chunks of an upload that is aborted, of which nothing is visible, become deletions that
/// fall due after `grace_ms`: their last shards may still be on the way.
///
/// A version's entry is carried out once, also when the request is repeated after others have replaced it: the answer is
/// then what became of it, for an hour after it is gone.
///
/// A chunk is one row per CID in the whole deployment, counted by reference. Shards are content-addressed on the nodes, and
/// different chunks may have a shard in common: a deletion never takes a shard from a node where any live chunk or record
/// keeps it, and while a deletion of a shard on a node is outstanding, planning a chunk that would put it there is refused
/// with [`MetadataError::BeingDeleted`].
pub trait Metadata: Clone + Send + Sync + 'static {
    /// Records a start of a gateway and returns its epoch: the time in milliseconds, or one more than the latest epoch when
    /// that is not earlier. So starts that a restored or new database knows nothing of have other numbers than its own.
    fn start_epoch(&self, now: TimestampMs) -> impl Future<Output = MetadataResult<u64>> + Send;

    /// Epochs of all starts that this database knows of.
    fn epochs(&self) -> impl Future<Output = MetadataResult<Vec<u64>>> + Send;

    /// Adds a node or updates its zone, address and weight (by id); returns its slot, which never changes.
    fn register_node(
        &self,
        id: NodeId,
        zone: &str,
        address: &str,
        weight: u32,
    ) -> impl Future<Output = MetadataResult<NodeSlot>> + Send;
    /// All nodes, by slot.
    fn nodes(&self) -> impl Future<Output = MetadataResult<Vec<NodeRow>>> + Send;

    /// Registers a bucket. [`MetadataError::Exists`] when the name or id is taken by a different record; registering the very
    /// same record again is `Ok(false)`.
    fn create_bucket(
        &self,
        bucket: BucketRow,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<bool>> + Send;
    /// Puts `bucket` in the place of the same bucket's record `replaces`, and its recovery records in the place of the former
    /// ones. [`MetadataError::Superseded`] when another record is there; the very same one again is `Ok(false)`.
    fn update_bucket(
        &self,
        bucket: BucketRow,
        replaces: Vec<u8>,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<bool>> + Send;
    /// By name.
    fn bucket_by_name(
        &self,
        name: &BucketName,
    ) -> impl Future<Output = MetadataResult<Option<BucketRow>>> + Send;
    /// By id.
    fn bucket(
        &self,
        id: BucketId,
    ) -> impl Future<Output = MetadataResult<Option<BucketRow>>> + Send;
    /// By name order, after `after`, at most `limit`.
    fn buckets(
        &self,
        after: Option<&BucketName>,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<Vec<BucketRow>>> + Send;
    /// Removes an empty bucket with its keys and tombstones.
    fn delete_bucket(
        &self,
        id: BucketId,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<()>> + Send;

    /// Stores a bucket key. The same record again is `Ok(false)`; another record under the id is
    /// [`MetadataError::Exists`].
    fn put_bucket_key(
        &self,
        key: BucketKeyRow,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<bool>> + Send;
    /// By bucket and id.
    fn bucket_key(
        &self,
        bucket: BucketId,
        id: BucketKeyId,
    ) -> impl Future<Output = MetadataResult<Option<BucketKeyRow>>> + Send;

    /// Starts an upload: the durable intent.
    fn create_upload(
        &self,
        upload: UploadRow,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// By id.
    fn upload(
        &self,
        id: UploadId,
    ) -> impl Future<Output = MetadataResult<Option<UploadRow>>> + Send;
    /// Uploads in progress of a bucket, oldest first.
    fn uploads(
        &self,
        bucket: BucketId,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<Vec<UploadRow>>> + Send;
    /// Writes down where a chunk's shards will go, before the first leaves. Repeating (upload, n, cid) returns the stored
    /// slot unchanged (its layout counts, not the new one); a CID that another upload or version already holds becomes a
    /// further reference to that chunk row, with its layout. Fails when the upload is completed or gone
    /// ([`MetadataError::NotFound`]) and while the CID, or one of the shards on the node where it would go, is being deleted
    /// ([`MetadataError::BeingDeleted`]). Counts as use of the upload at `now`.
    fn plan_chunk(
        &self,
        upload: UploadId,
        n: u32,
        cid: Cid,
        layout: ChunkLayout,
        now: TimestampMs,
    ) -> impl Future<Output = MetadataResult<SlotRow>> + Send;
    /// A planned shard goes to another node, because the first is slow: written down before it is sent there. What may have
    /// come to the first becomes a deletion due at `clear_at`. Fails for a shard of an acknowledged chunk that is not
    /// pending, and when the chunk has a shard on that node already ([`MetadataError::Exists`]).
    fn substitute_node(
        &self,
        chunk: i64,
        index: u8,
        node: NodeSlot,
        clear_at: TimestampMs,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// Keeps a manifest page for the completion; the same number again replaces it. [`MetadataError::NotFound`] when the
    /// upload is completed or gone. Counts as use of the upload at `now`.
    fn stage_page(
        &self,
        upload: UploadId,
        page: StagedPage,
        now: TimestampMs,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// A staged page.
    fn staged_page(
        &self,
        upload: UploadId,
        number: u32,
    ) -> impl Future<Output = MetadataResult<Option<StagedPage>>> + Send;
    /// The write quorum holds the chunk; `layout` replaces the planned one (slow nodes may have been swapped: shards of
    /// the planned layout that are not in the new one become a deletion), `pending` are indices that have not landed.
    fn acknowledge_chunk(
        &self,
        chunk: i64,
        layout: ChunkLayout,
        pending: Vec<u8>,
        now: TimestampMs,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// Slots of an upload from index `from`, ordered by n, at most `limit`.
    fn slots(
        &self,
        upload: UploadId,
        from: u32,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<Vec<SlotRow>>> + Send;
    /// Ends an upload without an object: all its chunks become deletions. Idempotent; [`MetadataError::Exists`] when it is
    /// completed.
    fn abort_upload(
        &self,
        id: UploadId,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// [`Metadata::abort_upload`] if nothing has arrived for it since `before` and it is not completed; says whether it was.
    fn abort_if_stale(
        &self,
        id: UploadId,
        before: TimestampMs,
        now: TimestampMs,
    ) -> impl Future<Output = MetadataResult<bool>> + Send;
    /// Uploads in progress that nothing arrived for since `before` (to ten seconds), at most `limit`.
    fn stale_uploads(
        &self,
        before: TimestampMs,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<Vec<UploadId>>> + Send;
    /// Makes the object visible: checks every slot is acknowledged, the predecessor if conditional, inserts the version,
    /// points the key at it, turns slots that were not selected and the replaced version into deletions. Idempotent by
    /// the entry's hash.
    fn complete_upload(
        &self,
        complete: CompleteUpload,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<Committed>> + Send;

    /// A small object, in one transaction.
    fn put_small(
        &self,
        put: PutSmall,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<Committed>> + Send;
    /// Deletes a key: the tombstone becomes its current version. [`MetadataError::NotFound`] when there is nothing to
    /// delete.
    fn put_tombstone(
        &self,
        tombstone: PutTombstone,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<Committed>> + Send;
    /// A copy or a move.
    fn copy_version(
        &self,
        copy: CopyVersion,
        mutation: Mutation,
    ) -> impl Future<Output = MetadataResult<Committed>> + Send;

    /// The current version of a key; tombstones count as none.
    fn current(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> impl Future<Output = MetadataResult<Option<VersionRow>>> + Send;
    /// By version id: current ones, and replaced ones until their grace is over.
    fn version(
        &self,
        id: VersionId,
    ) -> impl Future<Output = MetadataResult<Option<VersionRow>>> + Send;
    /// Chunk `n` of a version (for small objects chunk 0 is the small record).
    fn chunk(
        &self,
        version: VersionId,
        n: u32,
    ) -> impl Future<Output = MetadataResult<Option<ChunkRow>>> + Send;
    /// Current version and, for a small object, the place of its record, in one round trip (the hot path of small gets).
    fn current_with_small(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> impl Future<Output = MetadataResult<Option<(VersionRow, Option<ChunkRow>)>>> + Send;
    /// Chunks `from..from+limit` of a version, ordered by n.
    fn chunks(
        &self,
        version: VersionId,
        from: u32,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<Vec<ChunkRow>>> + Send;
    /// How many shards a version has, and how many of them have not reached their node; none when it is gone.
    fn placement(
        &self,
        version: VersionId,
    ) -> impl Future<Output = MetadataResult<Placement>> + Send;
    /// Page `page` of a version's manifest.
    fn manifest_page(
        &self,
        version: VersionId,
        page: u32,
    ) -> impl Future<Output = MetadataResult<Option<Vec<u8>>>> + Send;
    /// Lists a bucket.
    fn list(
        &self,
        bucket: BucketId,
        query: ListQuery,
    ) -> impl Future<Output = MetadataResult<ListPage>> + Send;

    /// Shards that have not reached their node, oldest chunk first, starting after chunk id `after`, at most `limit`
    /// chunks.
    fn pending_shards(
        &self,
        after: i64,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<Vec<PendingShard>>> + Send;
    /// A pending shard is durable on `node` (which may differ from the planned one: the layout is updated, and what may
    /// have come to the planned node becomes a deletion). Not pending any more: nothing changes, and a copy on another node
    /// becomes a deletion. [`MetadataError::BeingDeleted`] while an earlier copy of the shard on that node waits to be deleted:
    /// the shard stays pending and has to be sent again later.
    fn shard_landed(
        &self,
        chunk: i64,
        index: u8,
        node: NodeSlot,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// A shard was found missing or corrupt on its node: it becomes pending again.
    fn shard_lost(&self, chunk: i64, index: u8) -> impl Future<Output = MetadataResult<()>> + Send;
    /// These shards were found missing or corrupt on a node: whatever keeps them there (chunks, recovery records) has them
    /// pending again. Tells for each whether anything did.
    fn shards_lost_on(
        &self,
        node: NodeSlot,
        shards: Vec<Cid>,
    ) -> impl Future<Output = MetadataResult<Vec<bool>>> + Send;
    /// Keeps the sealed recovery session of a gateway's start, for ever.
    fn put_session(
        &self,
        epoch: u64,
        record: RecoveryRecord,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// Recovery records with copies that have not reached their node, after row `after`, at most `limit`; `id` is the row,
    /// to be told to [`Self::recovery_landed`].
    fn pending_recovery(
        &self,
        after: i64,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<Vec<PendingRecovery>>> + Send;
    /// Copy `index` of a recovery record is on its node.
    fn recovery_landed(
        &self,
        id: i64,
        index: u8,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// Copy `index` of a recovery record was found missing or corrupt.
    fn recovery_lost(&self, id: i64, index: u8) -> impl Future<Output = MetadataResult<()>> + Send;
    /// Small or recovery records of which it is not known whether their version was committed: those that nothing refers
    /// to become deletions, and what would commit them later is refused with [`MetadataError::BeingDeleted`].
    fn disown(
        &self,
        records: Vec<ChunkLayout>,
        now: TimestampMs,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// Lets go of versions that were replaced and whose grace is over at `now`, at most `limit`, and returns their number:
    /// chunks that nothing else holds become deletions. What became of their entries is remembered for an hour.
    fn release_due(
        &self,
        now: TimestampMs,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<u64>> + Send;
    /// Deletions that are due, at most `limit`.
    fn due_deletions(
        &self,
        now: TimestampMs,
        limit: usize,
    ) -> impl Future<Output = MetadataResult<Vec<Deletion>>> + Send;
    /// Nodes of these shard indices have confirmed; an empty remainder removes the row, otherwise it is due again at
    /// `retry_at`.
    fn deletion_progress(
        &self,
        id: i64,
        remaining: Vec<u8>,
        retry_at: TimestampMs,
    ) -> impl Future<Output = MetadataResult<()>> + Send;
    /// Which of these shard CIDs does any chunk, small record, recovery record or deletion of one refer to, on whatever
    /// node? (For cleaning up after a crash.)
    fn referenced_shards(
        &self,
        cids: &[Cid],
    ) -> impl Future<Output = MetadataResult<Vec<bool>>> + Send;
    /// Removes request nonces that expired before `now`, uploads that were completed more than a day before (until then
    /// a completion may be repeated) and what is remembered of versions that are gone; at most some thousands a call.
    /// Returns how many rows went: at 0 there is nothing left to do.
    fn expire_nonces(&self, now: TimestampMs) -> impl Future<Output = MetadataResult<u64>> + Send;
    /// Sums for `admin space`.
    fn space(&self) -> impl Future<Output = MetadataResult<Space>> + Send;
    /// Current versions with shards that have not reached their node (0 means fully placed).
    fn unplaced_versions(&self) -> impl Future<Output = MetadataResult<u64>> + Send;
    /// Whether the database answers.
    fn ping(&self) -> impl Future<Output = MetadataResult<()>> + Send;
}
