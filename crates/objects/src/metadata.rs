//! The metadata port: one transactional index of buckets, versions, chunks, uploads and intents.
//!
//! Every method is one transaction: when it returns `Ok`, its effect is durable; when it returns `Err`, nothing of it
//! happened. Signed bytes are stored as they came (this crate never re-encodes them); the gateway has checked
//! signatures, sizes and permissions before it calls.

mod rows;

use std::future::Future;

use domain::{
    BucketId, BucketKeyId, BucketName, Cid, NodeId, ObjectKey, TimestampMs, UploadId, VersionId,
};

use crate::layout::{ChunkLayout, NodeSlot};
pub use rows::*;

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
