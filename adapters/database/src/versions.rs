//! Versions: making them current, replacing them, copying and deleting them.
//!
//! Every mutation checks first and writes then, so that a refusal leaves nothing behind (see [`crate::sqlite`]). A key's
//! row in `heads` is what writers of one key meet at: it is locked, or created under its unique key, before anything
//! that depends on it is written. Tombstones lie in a table of their own, which only the holder of the head changes.

use domain::{BucketId, ObjectKey, TimestampMs, VersionId};
use objects::metadata::{
    Committed, CopyVersion, MetadataError, Mutation, NewVersion, PutTombstone, RecoveryRecord,
    VersionKind,
};

use crate::connection::{Connection, Row, Work, args, locked, script};
use crate::deletions::{self, Owner};
use crate::nonces::spend_nonce;
use crate::releases::put_off;
use crate::version_rows::version_kind;

/// The version that a key has now.
pub(crate) struct Head {
    pub sequence: i64,
    pub version: VersionId,
}

/// What the checks before a write found.
pub(crate) enum Checked {
    /// The same entry was committed before.
    Repeat(Committed),
    /// Go on; the present version is to be replaced.
    Fresh(Option<Head>),
}

pub(crate) async fn check(c: &mut Connection, new: &NewVersion) -> Work<Checked> {
    c.row("SELECT id FROM buckets WHERE id = $1", args![new.bucket])
        .await?
        .ok_or(MetadataError::NotFound("bucket"))?;
    if let Some(repeat) = same_version(c, new).await? {
        return Ok(Checked::Repeat(repeat));
    }
    let head = head(c, new.bucket, &new.key).await?;
    let present = head.as_ref().map(|head| head.version);
    match new.predecessor {
        Some(expected) if expected != present => Err(MetadataError::Conflict { present }.into()),
        _ => Ok(Checked::Fresh(head)),
    }
}

/// The committed answer when this very entry is stored already.
async fn same_version(c: &mut Connection, new: &NewVersion) -> Work<Option<Committed>> {
    let known = c
        .row(
            "SELECT sequence, entry_hash, replaced FROM versions WHERE version = $1",
            args![new.version],
        )
        .await?;
    let known = match known {
        Some(row) => Some(row),
        // Replaced by others and gone since: it must not take effect again.
        None => {
            c.row(
                "SELECT sequence, entry_hash, replaced FROM past_versions WHERE version = $1",
                args![new.version],
            )
            .await?
        }
    };
    let Some(row) = known else {
        return Ok(None);
    };
    if row.array(1)? != new.entry_hash {
        return Err(MetadataError::Exists("version").into());
    }
    Ok(Some(Committed {
        sequence: row.int(0)?,
        replaced: row.maybe_array(2)?.map(VersionId),
        fresh: false,
    }))
}

async fn head(c: &mut Connection, bucket: BucketId, key: &ObjectKey) -> Work<Option<Head>> {
    let row = c
        .row(
            locked!("SELECT sequence, version FROM heads WHERE bucket = $1 AND key = $2"),
            args![bucket, key],
        )
        .await?;
    row.map(|row| {
        Ok(Head {
            sequence: row.int(0)?,
            version: VersionId(row.array(1)?),
        })
    })
    .transpose()
}

fn kind_code(kind: VersionKind) -> i64 {
    match kind {
        VersionKind::Small => 0,
        VersionKind::Chunked => 1,
        VersionKind::Tombstone => 2,
    }
}

/// A version about to be written.
pub(crate) struct Insert<'a> {
    pub new: &'a NewVersion,
    pub kind: VersionKind,
    pub chunks: u32,
    pub manifest_root: &'a [u8],
    pub replaced: Option<VersionId>,
}

pub(crate) async fn insert(c: &mut Connection, insert: Insert<'_>) -> Work<i64> {
    let new = insert.new;
    c.insert(
        "INSERT INTO versions (version, bucket, key, kind, writer, manifest, plain_bytes, modified_ms, chunks, \
         entry_hash, replaced, record, manifest_root) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING sequence",
        args![
            new.version,
            new.bucket,
            &new.key,
            kind_code(insert.kind),
            new.writer,
            new.manifest,
            new.plain_bytes,
            new.modified,
            insert.chunks,
            &new.entry_hash,
            insert.replaced,
            &new.record,
            insert.manifest_root,
        ],
    )
    .await
}

/// Points the key at the version; the version it had and a tombstone it may have had are released.
pub(crate) async fn point(
    c: &mut Connection,
    new: &NewVersion,
    sequence: i64,
    pending_shards: i64,
    before: Option<&Head>,
    due: TimestampMs,
) -> Work<()> {
    let arguments = args![
        new.bucket,
        &new.key,
        sequence,
        new.version,
        new.manifest,
        new.plain_bytes,
        new.modified,
        new.writer,
        pending_shards,
    ];
    if let Some(before) = before {
        c.execute(
            "UPDATE heads SET sequence = $3, version = $4, manifest = $5, plain_bytes = $6, modified_ms = $7, \
             writer = $8, pending_shards = $9 WHERE bucket = $1 AND key = $2",
            arguments,
        )
        .await?;
        put_off(c, before.sequence, due).await
    } else {
        c.execute(
            "INSERT INTO heads (bucket, key, sequence, version, manifest, plain_bytes, modified_ms, writer, \
             pending_shards) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            arguments,
        )
        .await?;
        lift_tombstone(c, new, due).await
    }
}

/// Releases the tombstone that the key may have had. The caller holds the key's head, so nobody else can be making one.
pub(crate) async fn lift_tombstone(
    c: &mut Connection,
    new: &NewVersion,
    due: TimestampMs,
) -> Work<()> {
    let tombstone = c
        .row(
            "SELECT sequence FROM tombstones WHERE bucket = $1 AND key = $2",
            args![new.bucket, &new.key],
        )
        .await?;
    let Some(row) = tombstone else {
        return Ok(());
    };
    c.execute(
        "DELETE FROM tombstones WHERE bucket = $1 AND key = $2",
        args![new.bucket, &new.key],
    )
    .await?;
    put_off(c, row.int(0)?, due).await
}

pub(crate) fn due(m: &Mutation, grace_ms: u64) -> TimestampMs {
    TimestampMs(m.now.0.saturating_add(grace_ms))
}

/// A chunked version that takes over chunks which are counted already.
pub(crate) struct Commit<'a> {
    pub new: &'a NewVersion,
    pub kind: VersionKind,
    pub chunks: u32,
    pub manifest_root: &'a [u8],
    pub recovery: &'a [RecoveryRecord],
    pub pending_shards: i64,
    pub due: TimestampMs,
}

/// Checks a version before anything of it is written; `None` with the answer of an earlier commit of the same entry.
pub(crate) async fn prepare(
    c: &mut Connection,
    new: &NewVersion,
    recovery: &[RecoveryRecord],
) -> Work<Result<Prepared, Committed>> {
    match check(c, new).await? {
        Checked::Repeat(committed) => Ok(Err(committed)),
        Checked::Fresh(before) => {
            deletions::check_recovery(c, recovery).await?;
            Ok(Ok(Prepared(before)))
        }
    }
}

/// A version that may be written.
pub(crate) struct Prepared(Option<Head>);

impl Prepared {
    /// Writes the version and makes it current; its chunks are the caller's to attach.
    pub(crate) async fn commit(self, c: &mut Connection, commit: Commit<'_>) -> Work<Committed> {
        let replaced = self.0.as_ref().map(|head| head.version);
        let sequence = insert(
            c,
            Insert {
                new: commit.new,
                kind: commit.kind,
                chunks: commit.chunks,
                manifest_root: commit.manifest_root,
                replaced,
            },
        )
        .await?;
        let owner = Owner::Version(commit.new.version);
        deletions::insert_recovery(c, &owner, commit.recovery).await?;
        point(
            c,
            commit.new,
            sequence,
            commit.pending_shards,
            self.0.as_ref(),
            commit.due,
        )
        .await?;
        Ok(Committed {
            sequence,
            replaced,
            fresh: true,
        })
    }
}

/// See [`objects::metadata::Metadata::put_tombstone`].
pub(crate) async fn put_tombstone(
    c: &mut Connection,
    tombstone: &PutTombstone,
    m: &Mutation,
    grace_ms: u64,
) -> Work<Committed> {
    let nonce = spend_nonce(c, m).await?;
    let prepared = prepare(c, &tombstone.version, &tombstone.recovery).await?;
    let head = match prepared {
        Err(committed) => {
            nonce.write(c).await?;
            return Ok(committed);
        }
        Ok(Prepared(None)) => return Err(MetadataError::NotFound("object").into()),
        Ok(Prepared(Some(head))) => head,
    };
    nonce.write(c).await?;
    bury(c, tombstone, &head, due(m, grace_ms)).await
}

/// Turns a head into a tombstone.
async fn bury(
    c: &mut Connection,
    tombstone: &PutTombstone,
    head: &Head,
    due: TimestampMs,
) -> Work<Committed> {
    let new = &tombstone.version;
    let replaced = Some(head.version);
    let sequence = insert(
        c,
        Insert {
            new,
            kind: VersionKind::Tombstone,
            chunks: 0,
            manifest_root: &[],
            replaced,
        },
    )
    .await?;
    let owner = Owner::Version(new.version);
    deletions::insert_recovery(c, &owner, &tombstone.recovery).await?;
    c.script(
        script![
            "DELETE FROM heads WHERE bucket = $1 AND key = $2",
            "INSERT INTO tombstones (bucket, key, sequence) VALUES ($1, $2, $3)",
        ],
        args![new.bucket, &new.key, sequence],
    )
    .await?;
    put_off(c, head.sequence, due).await?;
    Ok(Committed {
        sequence,
        replaced,
        fresh: true,
    })
}

/// See [`objects::metadata::Metadata::copy_version`].
pub(crate) async fn copy(
    c: &mut Connection,
    copy: &CopyVersion,
    m: &Mutation,
    grace_ms: u64,
) -> Work<Committed> {
    let nonce = spend_nonce(c, m).await?;
    let due = due(m, grace_ms);
    let prepared = match prepare(c, &copy.version, &copy.recovery).await? {
        Err(committed) => {
            nonce.write(c).await?;
            return Ok(committed);
        }
        Ok(prepared) => prepared,
    };
    let source = c
        .row(
            // Current ones alone: a deleted object does not come back from its grace.
            "SELECT v.sequence, v.kind, v.chunks, v.manifest_root, v.bucket, v.key FROM versions v \
             JOIN heads h ON h.bucket = v.bucket AND h.key = v.key AND h.sequence = v.sequence \
             WHERE v.version = $1",
            args![copy.source],
        )
        .await?
        .ok_or(MetadataError::NotFound("source version"))?;
    let from = source.int(0)?;
    let kind = version_kind(source.int(1)?)?;
    if kind == VersionKind::Tombstone {
        return Err(MetadataError::NotFound("source version").into());
    }
    // The source's chunks stay as long as they are locked here, and their pending counts hold still.
    let held = c
        .rows(
            locked!(
                "SELECT k.id, k.pending_count FROM version_chunks vc JOIN chunks k ON k.id = vc.chunk \
                 WHERE vc.sequence = $1 ORDER BY k.id",
                " OF k"
            ),
            args![from],
        )
        .await?;
    let chunks: u32 = source.number(2)?;
    if u32::try_from(held.len()) != Ok(chunks) {
        // Replaced by another gateway since the row was read.
        return Err(MetadataError::NotFound("source version").into());
    }
    let mut pending_shards = 0_i64;
    for row in &held {
        pending_shards = pending_shards.saturating_add(row.int(1)?);
    }
    let moved = match &copy.tombstone {
        None => None,
        Some(tombstone) => {
            deletions::check_recovery(c, &tombstone.recovery).await?;
            Some((tombstone, moved_from(c, copy, tombstone, &source).await?))
        }
    };
    nonce.write(c).await?;
    // Counted before anything is released: a copy over its own source must not lose its chunks in between.
    c.execute(
        "UPDATE chunks SET refs = refs + \
         (SELECT COUNT(*) FROM version_chunks WHERE sequence = $1 AND chunk = chunks.id) \
         WHERE id IN (SELECT chunk FROM version_chunks WHERE sequence = $1)",
        args![from],
    )
    .await?;
    let manifest_root = source.bytes(3)?;
    let replaced = prepared.0.as_ref().map(|head| head.version);
    let sequence = insert(
        c,
        Insert {
            new: &copy.version,
            kind,
            chunks,
            manifest_root: &manifest_root,
            replaced,
        },
    )
    .await?;
    c.script(
        script![
            "INSERT INTO version_chunks (sequence, n, chunk) \
             SELECT $2, n, chunk FROM version_chunks WHERE sequence = $1",
            "INSERT INTO manifest_pages (sequence, page, bytes) \
             SELECT $2, page, bytes FROM manifest_pages WHERE sequence = $1",
        ],
        args![from, sequence],
    )
    .await?;
    let owner = Owner::Version(copy.version.version);
    deletions::insert_recovery(c, &owner, &copy.recovery).await?;
    point(
        c,
        &copy.version,
        sequence,
        pending_shards,
        prepared.0.as_ref(),
        due,
    )
    .await?;
    if let Some((tombstone, head)) = moved {
        bury(c, tombstone, &head, due).await?;
    }
    Ok(Committed {
        sequence,
        replaced,
        fresh: true,
    })
}

/// The head that a move leaves behind: the tombstone's key must still be at the source.
async fn moved_from(
    c: &mut Connection,
    copy: &CopyVersion,
    tombstone: &PutTombstone,
    source: &Row,
) -> Work<Head> {
    let dead = &tombstone.version;
    if (dead.bucket, &dead.key) == (copy.version.bucket, &copy.version.key) {
        return Err(MetadataError::Conflict {
            present: Some(copy.source),
        }
        .into());
    }
    if source.array(4)? != dead.bucket.0 || source.key(5)? != dead.key {
        return Err(MetadataError::NotFound("source version").into());
    }
    if same_version(c, dead).await?.is_some() {
        return Err(MetadataError::Exists("version").into());
    }
    let head = head(c, dead.bucket, &dead.key).await?;
    let present = head.as_ref().map(|head| head.version);
    match head {
        Some(head)
            if head.version == copy.source
                && dead.predecessor.is_none_or(|expected| expected == present) =>
        {
            Ok(head)
        }
        _ => Err(MetadataError::Conflict { present }.into()),
    }
}
