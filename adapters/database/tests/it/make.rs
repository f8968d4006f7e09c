//! Plausible rows from small numbers.

use database::Database;
use domain::{
    BucketId, BucketKeyId, Cid, Codec, ObjectKey, Principal, Profile, TimestampMs, UploadId,
    VersionId,
};
use objects::layout::{ChunkLayout, NodeSlot, ShardPlace};
use objects::metadata::{
    BucketKeyRow, BucketRow, CompleteUpload, CopyVersion, Deletion, Metadata, Mutation, NewVersion,
    PutSmall, PutTombstone, RequestNonce, SlotChoice, Space, UploadRow,
};

use crate::backend::GRACE_MS;

pub const NOW: TimestampMs = TimestampMs(1_700_000_000_000);
/// After everything that was deleted at [`NOW`] has fallen due.
pub const LATER: TimestampMs = TimestampMs(NOW.0 + GRACE_MS);

pub fn digest(kind: &str, n: u32) -> [u8; 32] {
    *blake3::hash(format!("{kind} {n}").as_bytes()).as_bytes()
}

pub fn id16(kind: &str, n: u32) -> [u8; 16] {
    *digest(kind, n).first_chunk().unwrap()
}

pub fn principal(n: u32) -> Principal {
    Principal(digest("principal", n))
}

pub fn mutation() -> Mutation {
    Mutation {
        now: NOW,
        nonce: None,
    }
}

pub fn signed(n: u32) -> Mutation {
    Mutation {
        now: NOW,
        nonce: Some(RequestNonce {
            principal: principal(1),
            nonce: id16("nonce", n).to_vec(),
            expires: TimestampMs(NOW.0 + 300_000),
        }),
    }
}

pub fn key(text: &str) -> ObjectKey {
    text.parse().unwrap()
}

pub fn bucket_id(n: u32) -> BucketId {
    BucketId(digest("bucket", n))
}

pub fn bucket_row(n: u32) -> BucketRow {
    BucketRow {
        id: bucket_id(n),
        name: format!("bucket-{n:04}").parse().unwrap(),
        owner: principal(0),
        profile: Profile::DATACENTRE,
        record: format!("bucket record {n}").into_bytes(),
        created: NOW,
        recovery: vec![copies(1_000_000 + n).into()],
    }
}

pub async fn bucket(db: &Database, n: u32) -> BucketId {
    db.create_bucket(bucket_row(n), mutation()).await.unwrap();
    bucket_id(n)
}

pub fn bucket_key(bucket: BucketId, n: u32) -> BucketKeyRow {
    BucketKeyRow {
        id: BucketKeyId(id16("bucket key", n)),
        bucket,
        writer: principal(2),
        record: format!("bucket key {n}").into_bytes(),
        recovery: vec![copies(2_000_000 + n).into()],
    }
}

/// Five copies of record `n` on nodes 0..5.
pub fn copies(n: u32) -> ChunkLayout {
    let cid = record_cid(n);
    ChunkLayout {
        profile: Profile::SMALL,
        chunk_bytes: 1_000,
        shards: (0..5)
            .map(|node| ShardPlace {
                node: NodeSlot(node),
                cid,
            })
            .collect(),
    }
}

pub fn record_cid(n: u32) -> Cid {
    Cid::from_digest(Codec::Raw, digest("record", n))
}

pub fn chunk_cid(n: u32) -> Cid {
    Cid::from_digest(Codec::Raw, digest("chunk", n))
}

/// 10+4 shards of chunk `n` on nodes 0..14.
pub fn layout(n: u32) -> ChunkLayout {
    ChunkLayout {
        profile: Profile::DATACENTRE,
        chunk_bytes: 4 << 20,
        shards: (0..14)
            .map(|node| ShardPlace {
                node: NodeSlot(node),
                cid: Cid::from_digest(Codec::Raw, digest("shard", n * 100 + u32::from(node))),
            })
            .collect(),
    }
}

/// Version `n` at a key, unconditional.
pub fn version(bucket: BucketId, key: &str, n: u32) -> NewVersion {
    NewVersion {
        bucket,
        key: key.parse().unwrap(),
        version: VersionId(id16("version", n)),
        writer: principal(3),
        record: format!("version record {n}").into_bytes(),
        entry_hash: digest("entry", n),
        manifest: Cid::from_digest(Codec::DagCbor, digest("manifest", n)),
        plain_bytes: u64::from(n) + 10,
        predecessor: None,
        modified: TimestampMs(NOW.0 + u64::from(n)),
    }
}

pub fn small(bucket: BucketId, key: &str, n: u32) -> PutSmall {
    PutSmall {
        version: version(bucket, key, n),
        manifest_root: format!("manifest {n}").into_bytes(),
        record_cid: record_cid(n),
        layout: copies(n),
        pending: Vec::new(),
    }
}

pub async fn put(db: &Database, bucket: BucketId, key: &str, n: u32) -> VersionId {
    db.put_small(small(bucket, key, n), mutation())
        .await
        .unwrap();
    VersionId(id16("version", n))
}

pub fn tombstone(bucket: BucketId, key: &str, n: u32) -> PutTombstone {
    PutTombstone {
        version: NewVersion {
            plain_bytes: 0,
            ..version(bucket, key, n)
        },
        recovery: vec![copies(3_000_000 + n).into()],
    }
}

pub fn upload_row(bucket: BucketId, key: &str, n: u32) -> UploadRow {
    UploadRow {
        id: UploadId(id16("upload", n)),
        bucket,
        key: key.parse().unwrap(),
        principal: principal(3),
        created: TimestampMs(NOW.0 + u64::from(n)),
        completed: None,
    }
}

/// An upload with acknowledged chunks `chunks` at n = 0, 1, ….
pub async fn upload(
    db: &Database,
    bucket: BucketId,
    key: &str,
    n: u32,
    chunks: std::ops::Range<u32>,
) -> UploadId {
    let row = upload_row(bucket, key, n);
    let id = row.id;
    db.create_upload(row, mutation()).await.unwrap();
    for (index, chunk) in (0..).zip(chunks) {
        let slot = db
            .plan_chunk(id, index, chunk_cid(chunk), layout(chunk), NOW)
            .await
            .unwrap();
        db.acknowledge_chunk(slot.chunk.id, layout(chunk), Vec::new(), NOW)
            .await
            .unwrap();
    }
    id
}

pub fn complete(
    upload: UploadId,
    version: NewVersion,
    chunks: std::ops::Range<u32>,
) -> CompleteUpload {
    CompleteUpload {
        upload,
        recovery: vec![copies(4_000_000 + u32::from(version.version.0[0])).into()],
        version,
        staged: Vec::new(),
        slots: (0..)
            .zip(chunks)
            .map(|(n, chunk)| SlotChoice {
                n,
                cid: chunk_cid(chunk),
            })
            .collect(),
        manifest_root: b"root page".to_vec(),
        pages: vec![b"page 0".to_vec(), b"page 1".to_vec()],
    }
}

/// Puts an object of chunks at a key.
pub async fn put_chunked(
    db: &Database,
    bucket: BucketId,
    key: &str,
    n: u32,
    chunks: std::ops::Range<u32>,
) -> VersionId {
    let id = upload(db, bucket, key, n, chunks.clone()).await;
    let mut complete = complete(id, version(bucket, key, n), chunks);
    complete.recovery = vec![copies(4_000_000 + n).into()];
    db.complete_upload(complete, mutation()).await.unwrap();
    VersionId(id16("version", n))
}

pub fn copy(source: VersionId, version: NewVersion, recovery: u32) -> CopyVersion {
    CopyVersion {
        source,
        version,
        tombstone: None,
        recovery: vec![copies(5_000_000 + recovery).into()],
    }
}

/// Deletions that are due at `now`, with those of versions whose grace is over then.
pub async fn due(db: &Database, now: TimestampMs, limit: usize) -> Vec<Deletion> {
    while db.release_due(now, 100).await.unwrap() > 0 {}
    db.due_deletions(now, limit).await.unwrap()
}

/// Confirms all deletions that are due at `now`; returns how many shards went.
pub async fn confirm_deletions(db: &Database, now: TimestampMs) -> usize {
    let mut shards = 0;
    loop {
        let due = due(db, now, 100).await;
        if due.is_empty() {
            return shards;
        }
        for deletion in due {
            shards += deletion.remaining.len();
            db.deletion_progress(deletion.id, Vec::new(), now)
                .await
                .unwrap();
        }
    }
}

/// Nothing is left but empty buckets' own records.
pub async fn assert_no_leak(db: &Database) {
    confirm_deletions(db, TimestampMs(u64::MAX / 4)).await;
    let space = db.space().await.unwrap();
    assert_eq!(
        space,
        Space {
            buckets: space.buckets,
            recovery_bytes: space.recovery_bytes,
            pending_copies: space.pending_copies,
            ..Space::default()
        }
    );
}
