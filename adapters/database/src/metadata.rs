//! The port, method by method: reads take a reading connection, mutations a transaction.

use std::sync::Arc;

use domain::{
    BucketId, BucketKeyId, BucketName, Cid, NodeId, ObjectKey, TimestampMs, UploadId, VersionId,
};
use objects::layout::{ChunkLayout, NodeSlot};
use objects::metadata::{
    BucketKeyRow, BucketRow, ChunkRow, Committed, CompleteUpload, CopyVersion, Deletion, ListPage,
    ListQuery, Metadata, MetadataError, MetadataResult, Mutation, NodeRow, PendingRecovery,
    PendingShard, Placement, PutSmall, PutTombstone, RecoveryRecord, SlotRow, Space, StagedPage,
    UploadRow, VersionRow,
};

use crate::connection::{Connection, Handle};
use crate::sqlite::Running;
use crate::{
    Backend, Database, buckets_table, chunks, deletions, listing, nodes, nonces, postgres,
    releases, small, space, uploads, version_rows, versions,
};

impl Database {
    async fn reader(&self) -> MetadataResult<Connection> {
        let handle = match &*self.backend {
            Backend::Sqlite(store) => store.reader().await.map(Handle::SqliteReader),
            Backend::Postgres(pool) => pool.acquire().await.map(Handle::PostgresReader),
        };
        handle
            .map(Connection::new)
            .map_err(|error| MetadataError::Unavailable(error.to_string()))
    }

    /// Runs a mutation to its end, also when the caller stops waiting.
    async fn mutate<T, F>(&self, work: F) -> MetadataResult<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Connection) -> Running<'a, T> + Send + Sync + 'static,
    {
        match &*self.backend {
            Backend::Sqlite(store) => store.transact(work).await,
            Backend::Postgres(pool) => {
                let pool = pool.clone();
                postgres::detached(async move { postgres::transact(&pool, work).await }).await
            }
        }
    }
}

/// A read: acquires a connection and runs the function on it.
macro_rules! read {
    ($database:expr, $function:path $(, $argument:expr)*) => {{
        let mut connection = $database.reader().await?;
        let answer = $function(&mut connection $(, $argument)*).await;
        connection.end(answer)
    }};
}

/// A mutation: the function is run inside a transaction, perhaps several times, so it takes its arguments by reference
/// from a shared copy.
macro_rules! mutate {
    ($database:expr, ($($name:ident),*), $function:path $(, $argument:expr)*) => {{
        let shared = Arc::new(($($name,)*));
        $database
            .mutate(move |connection| {
                let shared = Arc::clone(&shared);
                Box::pin(async move {
                    let ($($name,)*) = &*shared;
                    $function(connection $(, $argument)*).await
                })
            })
            .await
    }};
}

impl Metadata for Database {
    async fn start_epoch(&self, now: TimestampMs) -> MetadataResult<u64> {
        mutate!(self, (now), nodes::start_epoch, *now)
    }

    async fn epochs(&self) -> MetadataResult<Vec<u64>> {
        read!(self, nodes::epochs)
    }

    async fn register_node(
        &self,
        id: NodeId,
        zone: &str,
        address: &str,
        weight: u32,
    ) -> MetadataResult<NodeSlot> {
        let (zone, address) = (zone.to_owned(), address.to_owned());
        mutate!(
            self,
            (id, zone, address, weight),
            nodes::register,
            *id,
            zone,
            address,
            *weight
        )
    }

    async fn nodes(&self) -> MetadataResult<Vec<NodeRow>> {
        read!(self, nodes::all)
    }

    async fn create_bucket(&self, bucket: BucketRow, mutation: Mutation) -> MetadataResult<bool> {
        mutate!(
            self,
            (bucket, mutation),
            buckets_table::create,
            bucket,
            mutation
        )
    }

    async fn bucket_by_name(&self, name: &BucketName) -> MetadataResult<Option<BucketRow>> {
        read!(self, buckets_table::by_name, name)
    }

    async fn bucket(&self, id: BucketId) -> MetadataResult<Option<BucketRow>> {
        read!(self, buckets_table::by_id, id)
    }

    async fn buckets(
        &self,
        after: Option<&BucketName>,
        limit: usize,
    ) -> MetadataResult<Vec<BucketRow>> {
        read!(self, buckets_table::page, after, limit)
    }

    async fn delete_bucket(&self, id: BucketId, mutation: Mutation) -> MetadataResult<()> {
        let grace = self.grace_ms;
        mutate!(
            self,
            (id, mutation, grace),
            buckets_table::delete,
            *id,
            mutation,
            *grace
        )
    }

    async fn update_bucket(
        &self,
        bucket: BucketRow,
        replaces: Vec<u8>,
        mutation: Mutation,
    ) -> MetadataResult<bool> {
        let grace = self.grace_ms;
        mutate!(
            self,
            (bucket, replaces, mutation, grace),
            buckets_table::update,
            bucket,
            replaces,
            mutation,
            *grace
        )
    }

    async fn put_bucket_key(&self, key: BucketKeyRow, mutation: Mutation) -> MetadataResult<bool> {
        mutate!(self, (key, mutation), buckets_table::put_key, key, mutation)
    }

    async fn bucket_key(
        &self,
        bucket: BucketId,
        id: BucketKeyId,
    ) -> MetadataResult<Option<BucketKeyRow>> {
        read!(self, buckets_table::key, bucket, id)
    }

    async fn create_upload(&self, upload: UploadRow, mutation: Mutation) -> MetadataResult<()> {
        mutate!(self, (upload, mutation), uploads::create, upload, mutation)
    }

    async fn upload(&self, id: UploadId) -> MetadataResult<Option<UploadRow>> {
        read!(self, uploads::by_id, id)
    }

    async fn uploads(&self, bucket: BucketId, limit: usize) -> MetadataResult<Vec<UploadRow>> {
        read!(self, uploads::of_bucket, bucket, limit)
    }

    async fn plan_chunk(
        &self,
        upload: UploadId,
        n: u32,
        cid: Cid,
        layout: ChunkLayout,
        now: TimestampMs,
    ) -> MetadataResult<SlotRow> {
        mutate!(
            self,
            (upload, n, cid, layout, now),
            uploads::plan,
            *upload,
            *n,
            *cid,
            layout,
            *now
        )
    }

    async fn substitute_node(
        &self,
        chunk: i64,
        index: u8,
        node: NodeSlot,
        clear_at: TimestampMs,
    ) -> MetadataResult<()> {
        mutate!(
            self,
            (chunk, index, node, clear_at),
            chunks::substitute,
            *chunk,
            *index,
            *node,
            *clear_at
        )
    }

    async fn stage_page(
        &self,
        upload: UploadId,
        page: StagedPage,
        now: TimestampMs,
    ) -> MetadataResult<()> {
        mutate!(
            self,
            (upload, page, now),
            uploads::stage_page,
            *upload,
            page,
            *now
        )
    }

    async fn staged_page(
        &self,
        upload: UploadId,
        number: u32,
    ) -> MetadataResult<Option<StagedPage>> {
        read!(self, uploads::staged_page, upload, number)
    }

    async fn put_session(&self, epoch: u64, record: RecoveryRecord) -> MetadataResult<()> {
        mutate!(
            self,
            (epoch, record),
            deletions::put_session,
            *epoch,
            record
        )
    }

    async fn pending_recovery(
        &self,
        after: i64,
        limit: usize,
    ) -> MetadataResult<Vec<PendingRecovery>> {
        read!(self, deletions::pending_recovery, after, limit)
    }

    async fn recovery_landed(&self, id: i64, index: u8) -> MetadataResult<()> {
        mutate!(
            self,
            (id, index),
            deletions::set_recovery_pending,
            *id,
            *index,
            false
        )
    }

    async fn recovery_lost(&self, id: i64, index: u8) -> MetadataResult<()> {
        mutate!(
            self,
            (id, index),
            deletions::set_recovery_pending,
            *id,
            *index,
            true
        )
    }

    async fn shards_lost_on(&self, node: NodeSlot, shards: Vec<Cid>) -> MetadataResult<Vec<bool>> {
        mutate!(self, (node, shards), chunks::lost_on, *node, shards)
    }

    async fn disown(&self, records: Vec<ChunkLayout>, now: TimestampMs) -> MetadataResult<()> {
        mutate!(self, (records, now), deletions::disown, records, *now)
    }

    async fn release_due(&self, now: TimestampMs, limit: usize) -> MetadataResult<u64> {
        mutate!(self, (now, limit), releases::release_due, *now, *limit)
    }

    async fn acknowledge_chunk(
        &self,
        chunk: i64,
        layout: ChunkLayout,
        pending: Vec<u8>,
        now: TimestampMs,
    ) -> MetadataResult<()> {
        let grace = self.grace_ms;
        mutate!(
            self,
            (chunk, layout, pending, now, grace),
            chunks::acknowledge,
            *chunk,
            layout,
            pending,
            *now,
            *grace
        )
    }

    async fn slots(
        &self,
        upload: UploadId,
        from: u32,
        limit: usize,
    ) -> MetadataResult<Vec<SlotRow>> {
        read!(self, uploads::slots, upload, from, limit)
    }

    async fn abort_upload(&self, id: UploadId, mutation: Mutation) -> MetadataResult<()> {
        let grace = self.grace_ms;
        mutate!(
            self,
            (id, mutation, grace),
            uploads::abort,
            *id,
            mutation,
            *grace
        )
    }

    async fn abort_if_stale(
        &self,
        id: UploadId,
        before: TimestampMs,
        now: TimestampMs,
    ) -> MetadataResult<bool> {
        let due = TimestampMs(now.0.saturating_add(self.grace_ms));
        mutate!(
            self,
            (id, before, due),
            uploads::abort_if_stale,
            *id,
            *before,
            *due
        )
    }

    async fn stale_uploads(
        &self,
        before: TimestampMs,
        limit: usize,
    ) -> MetadataResult<Vec<UploadId>> {
        read!(self, uploads::stale, before, limit)
    }

    async fn complete_upload(
        &self,
        complete: CompleteUpload,
        mutation: Mutation,
    ) -> MetadataResult<Committed> {
        let grace = self.grace_ms;
        mutate!(
            self,
            (complete, mutation, grace),
            uploads::complete,
            complete,
            mutation,
            *grace
        )
    }

    async fn put_small(&self, put: PutSmall, mutation: Mutation) -> MetadataResult<Committed> {
        let grace = self.grace_ms;
        mutate!(
            self,
            (put, mutation, grace),
            small::put_small,
            put,
            mutation,
            *grace
        )
    }

    async fn put_tombstone(
        &self,
        tombstone: PutTombstone,
        mutation: Mutation,
    ) -> MetadataResult<Committed> {
        let grace = self.grace_ms;
        mutate!(
            self,
            (tombstone, mutation, grace),
            versions::put_tombstone,
            tombstone,
            mutation,
            *grace
        )
    }

    async fn copy_version(
        &self,
        copy: CopyVersion,
        mutation: Mutation,
    ) -> MetadataResult<Committed> {
        let grace = self.grace_ms;
        mutate!(
            self,
            (copy, mutation, grace),
            versions::copy,
            copy,
            mutation,
            *grace
        )
    }

    async fn current(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> MetadataResult<Option<VersionRow>> {
        read!(self, version_rows::current, bucket, key)
    }

    async fn version(&self, id: VersionId) -> MetadataResult<Option<VersionRow>> {
        read!(self, version_rows::by_id, id)
    }

    async fn chunk(&self, version: VersionId, n: u32) -> MetadataResult<Option<ChunkRow>> {
        read!(self, chunks::one_of_version, version, n)
    }

    async fn current_with_small(
        &self,
        bucket: BucketId,
        key: &ObjectKey,
    ) -> MetadataResult<Option<(VersionRow, Option<ChunkRow>)>> {
        read!(self, version_rows::current_with_small, bucket, key)
    }

    async fn chunks(
        &self,
        version: VersionId,
        from: u32,
        limit: usize,
    ) -> MetadataResult<Vec<ChunkRow>> {
        read!(self, chunks::of_version, version, from, limit)
    }

    async fn placement(&self, version: VersionId) -> MetadataResult<Placement> {
        read!(self, chunks::placement, version)
    }

    async fn manifest_page(
        &self,
        version: VersionId,
        page: u32,
    ) -> MetadataResult<Option<Vec<u8>>> {
        read!(self, version_rows::manifest_page, version, page)
    }

    async fn list(&self, bucket: BucketId, query: ListQuery) -> MetadataResult<ListPage> {
        read!(self, listing::list, bucket, &query)
    }

    async fn pending_shards(&self, after: i64, limit: usize) -> MetadataResult<Vec<PendingShard>> {
        read!(self, chunks::pending, after, limit)
    }

    async fn shard_landed(&self, chunk: i64, index: u8, node: NodeSlot) -> MetadataResult<()> {
        mutate!(
            self,
            (chunk, index, node),
            chunks::landed,
            *chunk,
            *index,
            *node
        )
    }

    async fn shard_lost(&self, chunk: i64, index: u8) -> MetadataResult<()> {
        mutate!(self, (chunk, index), chunks::lost, *chunk, *index)
    }

    async fn due_deletions(&self, now: TimestampMs, limit: usize) -> MetadataResult<Vec<Deletion>> {
        read!(self, deletions::due, now, limit)
    }

    async fn deletion_progress(
        &self,
        id: i64,
        remaining: Vec<u8>,
        retry_at: TimestampMs,
    ) -> MetadataResult<()> {
        mutate!(
            self,
            (id, remaining, retry_at),
            deletions::progress,
            *id,
            remaining.clone(),
            *retry_at
        )
    }

    async fn referenced_shards(&self, cids: &[Cid]) -> MetadataResult<Vec<bool>> {
        read!(self, deletions::referenced, cids)
    }

    async fn expire_nonces(&self, now: TimestampMs) -> MetadataResult<u64> {
        let uploads = mutate!(self, (now), uploads::forget_completed, *now)?;
        let versions = mutate!(self, (now), releases::forget_past, *now)?;
        let nonces = mutate!(self, (now), nonces::expire_nonces, *now)?;
        Ok(uploads + versions + nonces)
    }

    async fn space(&self) -> MetadataResult<Space> {
        read!(self, space::sums)
    }

    async fn unplaced_versions(&self) -> MetadataResult<u64> {
        read!(self, space::unplaced)
    }

    async fn ping(&self) -> MetadataResult<()> {
        read!(self, space::ping)
    }
}
