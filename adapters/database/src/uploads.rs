//! Uploads: the durable intent that covers an object's chunks until the object is visible.

use domain::{BucketId, Cid, Principal, TimestampMs, UploadId, VersionId};
use objects::layout::ChunkLayout;
use objects::metadata::{
    ChunkRow, Committed, CompleteUpload, MetadataError, Mutation, SlotRow, StagedPage, UploadRow,
    VersionKind,
};

use crate::chunks::{self, Kind};
use crate::connection::{Connection, Row, Work, args, damaged, locked, script};
use crate::nonces::spend_nonce;
use crate::versions::{self, Commit};
use crate::{deletions, shard_index};

/// Slots that are read at once while an upload is completed.
const SLOTS_AT_ONCE: usize = 4_096;
/// Completed uploads answer repeats of their completion for this long.
const COMPLETED_KEPT_MS: u64 = 24 * 60 * 60 * 1_000;
/// An upload's last use is noted to this: not with every chunk.
const TOUCHED_EVERY_MS: u64 = 10_000;
/// Staged pages of which the choices are read at once (32 KiB each).
const PAGES_AT_ONCE: usize = 64;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, bucket, key, principal, created_ms, completed FROM uploads ",
            $rest
        )
    };
}

fn upload_row(row: &Row) -> Work<UploadRow> {
    Ok(UploadRow {
        id: UploadId(row.array(0)?),
        bucket: BucketId(row.array(1)?),
        key: row.key(2)?,
        principal: Principal(row.array(3)?),
        created: row.time(4)?,
        completed: row.maybe_array(5)?.map(VersionId),
    })
}

pub(crate) async fn create(c: &mut Connection, upload: &UploadRow, m: &Mutation) -> Work<()> {
    let nonce = spend_nonce(c, m).await?;
    c.row("SELECT id FROM buckets WHERE id = $1", args![upload.bucket])
        .await?
        .ok_or(MetadataError::NotFound("bucket"))?;
    if by_id(c, upload.id).await?.is_some() {
        return Err(MetadataError::Exists("upload").into());
    }
    nonce.write(c).await?;
    c.execute(
        "INSERT INTO uploads (id, bucket, key, principal, created_ms, touched_ms) \
         VALUES ($1, $2, $3, $4, $5, $5)",
        args![
            upload.id,
            upload.bucket,
            &upload.key,
            upload.principal,
            upload.created
        ],
    )
    .await?;
    Ok(())
}

pub(crate) async fn by_id(c: &mut Connection, id: UploadId) -> Work<Option<UploadRow>> {
    c.row(select!("WHERE id = $1"), args![id])
        .await?
        .map(|row| upload_row(&row))
        .transpose()
}

pub(crate) async fn of_bucket(
    c: &mut Connection,
    bucket: BucketId,
    limit: usize,
) -> Work<Vec<UploadRow>> {
    c.rows(
        select!("WHERE bucket = $1 AND completed IS NULL ORDER BY created_ms, id LIMIT $2"),
        args![bucket, limit],
    )
    .await?
    .iter()
    .map(upload_row)
    .collect()
}

pub(crate) async fn stale(
    c: &mut Connection,
    before: TimestampMs,
    limit: usize,
) -> Work<Vec<UploadId>> {
    c.rows(
        "SELECT id FROM uploads WHERE completed IS NULL AND touched_ms < $1 \
         ORDER BY touched_ms, id LIMIT $2",
        args![before, limit],
    )
    .await?
    .iter()
    .map(|row| row.array(0).map(UploadId))
    .collect()
}

/// What [`lock`] reads: the completion, when there was one.
struct Locked {
    bucket: BucketId,
    key: domain::ObjectKey,
    touched: TimestampMs,
    completed: Option<Completed>,
}

struct Completed {
    sequence: i64,
    replaced: Option<VersionId>,
    entry_hash: Vec<u8>,
}

async fn lock(c: &mut Connection, id: UploadId) -> Work<Locked> {
    let row = c
        .row(
            locked!(
                "SELECT bucket, key, completed, sequence, replaced, entry_hash, touched_ms FROM uploads WHERE id = $1"
            ),
            args![id],
        )
        .await?
        .ok_or(MetadataError::NotFound("upload"))?;
    let completed = match row.maybe_bytes(2)? {
        None => None,
        Some(_) => Some(Completed {
            sequence: row.int(3)?,
            replaced: row.maybe_array(4)?.map(VersionId),
            entry_hash: row.bytes(5)?,
        }),
    };
    Ok(Locked {
        bucket: BucketId(row.array(0)?),
        key: row.key(1)?,
        touched: row.time(6)?,
        completed,
    })
}

fn slot_row(row: &Row) -> Work<SlotRow> {
    Ok(SlotRow {
        n: row.number(0)?,
        chunk: chunks::chunk_row(row, 1)?,
        acknowledged: row.int(5)? == 1,
    })
}

/// See [`objects::metadata::Metadata::plan_chunk`].
pub(crate) async fn plan(
    c: &mut Connection,
    upload: UploadId,
    n: u32,
    cid: Cid,
    layout: &ChunkLayout,
    now: TimestampMs,
) -> Work<SlotRow> {
    deletions::check(layout)?;
    let open = lock(c, upload).await?;
    if open.completed.is_some() {
        return Err(MetadataError::NotFound("upload").into());
    }
    let known = c
        .row(
            "SELECT s.n, k.id, k.cid, k.layout, k.pending, k.acknowledged \
             FROM slots s JOIN chunks k ON k.id = s.chunk \
             WHERE s.upload = $1 AND s.n = $2 AND s.cid = $3",
            args![upload, n, cid],
        )
        .await?;
    if let Some(row) = known {
        touch(c, upload, open.touched, now).await?;
        return slot_row(&row);
    }
    let held = chunks::find(c, cid).await?;
    if held.is_none() {
        shard_index::refuse_if_being_deleted(c, Some(cid), &layout.shards).await?;
    }
    touch(c, upload, open.touched, now).await?;
    let (chunk, acknowledged) = match held {
        Some(held) => {
            chunks::hold(c, held.id).await?;
            let acknowledged = held.acknowledged;
            (held.into_row(), acknowledged)
        }
        None => {
            let pending = chunks::pending_list(deletions::all_indices(), layout);
            let id = chunks::insert(c, Kind::Chunk, cid, layout, &pending, false).await?;
            let layout = layout.clone();
            let row = ChunkRow {
                id,
                cid,
                layout,
                pending,
            };
            (row, false)
        }
    };
    c.execute(
        "INSERT INTO slots (upload, n, cid, chunk) VALUES ($1, $2, $3, $4)",
        args![upload, n, cid, chunk.id],
    )
    .await?;
    Ok(SlotRow {
        n,
        chunk,
        acknowledged,
    })
}

/// Notes that something arrived for an upload.
async fn touch(
    c: &mut Connection,
    id: UploadId,
    touched: TimestampMs,
    now: TimestampMs,
) -> Work<()> {
    if now.0 < touched.0.saturating_add(TOUCHED_EVERY_MS) {
        return Ok(());
    }
    c.execute(
        "UPDATE uploads SET touched_ms = $2 WHERE id = $1",
        args![id, now],
    )
    .await?;
    Ok(())
}

/// See [`objects::metadata::Metadata::stage_page`].
pub(crate) async fn stage_page(
    c: &mut Connection,
    upload: UploadId,
    page: &StagedPage,
    now: TimestampMs,
) -> Work<()> {
    let open = lock(c, upload).await?;
    if open.completed.is_some() {
        return Err(MetadataError::NotFound("upload").into());
    }
    touch(c, upload, open.touched, now).await?;
    let choices: Vec<u8> = page
        .chunks
        .iter()
        .flat_map(|cid| cid.digest().iter().copied())
        .collect();
    c.execute(
        "INSERT INTO upload_pages (upload, page, cid, choices, bytes) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (upload, page) DO UPDATE SET cid = excluded.cid, choices = excluded.choices, \
         bytes = excluded.bytes",
        args![upload, page.number, page.cid, choices, &page.bytes],
    )
    .await?;
    Ok(())
}

/// See [`objects::metadata::Metadata::staged_page`].
pub(crate) async fn staged_page(
    c: &mut Connection,
    upload: UploadId,
    number: u32,
) -> Work<Option<StagedPage>> {
    c.row(
        "SELECT cid, choices, bytes FROM upload_pages WHERE upload = $1 AND page = $2",
        args![upload, number],
    )
    .await?
    .map(|row| {
        Ok(StagedPage {
            number,
            cid: row.cid(0)?,
            chunks: chosen_chunks(&row.bytes(1)?)?,
            bytes: row.bytes(2)?,
        })
    })
    .transpose()
}

fn chosen_chunks(choices: &[u8]) -> Work<Vec<Cid>> {
    let (digests, rest) = choices.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(damaged("staged page", "a cut digest"));
    }
    Ok(digests
        .iter()
        .map(|digest| Cid::from_digest(domain::Codec::Raw, *digest))
        .collect())
}

pub(crate) async fn slots(
    c: &mut Connection,
    upload: UploadId,
    from: u32,
    limit: usize,
) -> Work<Vec<SlotRow>> {
    c.rows(
        "SELECT s.n, k.id, k.cid, k.layout, k.pending, k.acknowledged \
         FROM slots s JOIN chunks k ON k.id = s.chunk \
         WHERE s.upload = $1 AND s.n >= $2 ORDER BY s.n, s.cid LIMIT $3",
        args![upload, from, limit],
    )
    .await?
    .iter()
    .map(slot_row)
    .collect()
}

/// Ends an upload's hold on its chunks ($1: the upload, $2: when deletions fall due, $3: all indices).
const RELEASE_SLOTS: crate::connection::Script = script![
    // A chunk may be in several slots of one upload.
    "UPDATE chunks SET refs = refs - (SELECT COUNT(*) FROM slots WHERE upload = $1 AND chunk = chunks.id) \
     WHERE id IN (SELECT chunk FROM slots WHERE upload = $1)",
    "INSERT INTO deletions (cid, layout, cid_prefix, remaining, due_ms, chunk) \
     SELECT cid, layout, cid_prefix, substr($3, 1, CAST(shards AS INTEGER)), $2, id FROM chunks \
     WHERE refs = 0 AND id IN (SELECT chunk FROM slots WHERE upload = $1)",
    "DELETE FROM chunks WHERE refs = 0 AND id IN (SELECT chunk FROM slots WHERE upload = $1)",
    "DELETE FROM slots WHERE upload = $1",
    "DELETE FROM upload_pages WHERE upload = $1",
];

/// See [`objects::metadata::Metadata::abort_upload`].
pub(crate) async fn abort(
    c: &mut Connection,
    id: UploadId,
    m: &Mutation,
    grace_ms: u64,
) -> Work<()> {
    let nonce = spend_nonce(c, m).await?;
    match lock(c, id).await {
        Ok(upload) if upload.completed.is_some() => {
            return Err(MetadataError::Exists("the completed object").into());
        }
        Ok(_) => {}
        // Aborted before.
        Err(crate::connection::Failure::Refused(MetadataError::NotFound(_))) => {
            return nonce.write(c).await;
        }
        Err(error) => return Err(error),
    }
    nonce.write(c).await?;
    end(c, id, m.now.0.saturating_add(grace_ms)).await
}

/// See [`objects::metadata::Metadata::abort_if_stale`].
pub(crate) async fn abort_if_stale(
    c: &mut Connection,
    id: UploadId,
    before: TimestampMs,
    due: TimestampMs,
) -> Work<bool> {
    let open = match lock(c, id).await {
        Err(crate::connection::Failure::Refused(MetadataError::NotFound(_))) => return Ok(false),
        open => open?,
    };
    if open.completed.is_some() || open.touched >= before {
        return Ok(false);
    }
    end(c, id, due.0).await?;
    Ok(true)
}

/// Turns everything that an upload brought into deletions due at `due`, and forgets it.
async fn end(c: &mut Connection, id: UploadId, due: u64) -> Work<()> {
    c.script(RELEASE_SLOTS, args![id, due, deletions::all_indices()])
        .await?;
    c.execute("DELETE FROM uploads WHERE id = $1", args![id])
        .await?;
    Ok(())
}

/// What the chosen slots of an upload add up to.
struct Chosen {
    chunks: u32,
    pending_shards: i64,
    /// Slots that the manifest did not choose: n and CID.
    others: Vec<(u32, Cid)>,
}

/// The chunks of the object in order: those of the completion itself, or those of the pages that were staged, which are
/// read some at a time.
struct Choices<'a> {
    complete: &'a CompleteUpload,
    /// The next staged page.
    page: u32,
    /// Choices that were read and not taken, last first.
    read: Vec<Cid>,
    /// Index of the next choice.
    n: u32,
}

impl<'a> Choices<'a> {
    fn new(complete: &'a CompleteUpload) -> Work<Self> {
        for (expected, slot) in (0_u32..).zip(&complete.slots) {
            if slot.n != expected {
                return Err(MetadataError::ChunkMissing { n: expected }.into());
            }
        }
        Ok(Self {
            complete,
            page: 0,
            read: complete.slots.iter().rev().map(|slot| slot.cid).collect(),
            n: 0,
        })
    }

    /// The next choice without taking it.
    async fn peek(&mut self, c: &mut Connection) -> Work<Option<(u32, Cid)>> {
        while self.read.is_empty() {
            let from = usize::try_from(self.page).unwrap_or(usize::MAX);
            let expected: Vec<Cid> = self
                .complete
                .staged
                .iter()
                .skip(from)
                .take(PAGES_AT_ONCE)
                .copied()
                .collect();
            if expected.is_empty() {
                return Ok(None);
            }
            let rows = c
                .rows(
                    "SELECT page, cid, choices FROM upload_pages \
                     WHERE upload = $1 AND page >= $2 ORDER BY page LIMIT $3",
                    args![self.complete.upload, self.page, expected.len()],
                )
                .await?;
            let mut chunks = Vec::new();
            for (index, cid) in expected.iter().enumerate() {
                let page = rows.get(index);
                let number: Option<u32> = page.map(|row| row.number(0)).transpose()?;
                match page {
                    Some(row) if number == Some(self.page) && row.cid(1)? == *cid => {
                        chunks.extend(chosen_chunks(&row.bytes(2)?)?);
                    }
                    _ => return Err(MetadataError::PageMissing { page: self.page }.into()),
                }
                self.page = self.page.saturating_add(1);
            }
            chunks.reverse();
            self.read = chunks;
        }
        Ok(self.read.last().map(|cid| (self.n, *cid)))
    }

    fn take(&mut self) {
        self.read.pop();
        self.n = self.n.saturating_add(1);
    }
}

/// Walks the upload's slots and the choice, both in order of n. The chunks are locked: their pending counts hold still.
async fn choose(c: &mut Connection, complete: &CompleteUpload) -> Work<Chosen> {
    let mut chosen = Chosen {
        chunks: 0,
        pending_shards: 0,
        others: Vec::new(),
    };
    let mut wanted = Choices::new(complete)?;
    let mut from = (0_u32, Vec::new());
    loop {
        let rows = c
            .rows(
                locked!(
                    "SELECT s.n, s.cid, k.acknowledged, k.pending_count \
                     FROM slots s JOIN chunks k ON k.id = s.chunk \
                     WHERE s.upload = $1 AND (s.n, s.cid) > ($2, $3) ORDER BY s.n, s.cid LIMIT $4",
                    " OF k"
                ),
                args![complete.upload, from.0, &from.1, SLOTS_AT_ONCE],
            )
            .await?;
        for row in &rows {
            let n: u32 = row.number(0)?;
            let cid = row.cid(1)?;
            let acknowledged = row.int(2)? == 1;
            match wanted.peek(c).await? {
                // The choice for this index was not among the slots that came before.
                Some((next, _)) if next < n => {
                    return Err(MetadataError::ChunkMissing { n: next }.into());
                }
                Some(choice) if choice == (n, cid) => {
                    if !acknowledged {
                        return Err(MetadataError::ChunkMissing { n }.into());
                    }
                    chosen.pending_shards = chosen.pending_shards.saturating_add(row.int(3)?);
                    wanted.take();
                }
                _ => chosen.others.push((n, cid)),
            }
            from = (n, cid.to_bytes().to_vec());
        }
        if rows.len() < SLOTS_AT_ONCE {
            break;
        }
    }
    if let Some((n, _)) = wanted.peek(c).await? {
        return Err(MetadataError::ChunkMissing { n }.into());
    }
    chosen.chunks = wanted.n;
    Ok(chosen)
}

/// See [`objects::metadata::Metadata::complete_upload`].
pub(crate) async fn complete(
    c: &mut Connection,
    complete: &CompleteUpload,
    m: &Mutation,
    grace_ms: u64,
) -> Work<Committed> {
    let nonce = spend_nonce(c, m).await?;
    let upload = lock(c, complete.upload).await?;
    let new = &complete.version;
    if let Some(done) = upload.completed {
        if done.entry_hash != new.entry_hash {
            return Err(MetadataError::Exists("the completed object").into());
        }
        nonce.write(c).await?;
        return Ok(Committed {
            sequence: done.sequence,
            replaced: done.replaced,
            fresh: false,
        });
    }
    if (upload.bucket, &upload.key) != (new.bucket, &new.key) {
        return Err(MetadataError::NotFound("upload for this key").into());
    }
    let prepared = match versions::prepare(c, new, &complete.recovery).await? {
        // Its id and entry are stored, but not through this upload.
        Err(_) => return Err(MetadataError::Exists("version").into()),
        Ok(prepared) => prepared,
    };
    let chosen = choose(c, complete).await?;
    nonce.write(c).await?;
    let due = TimestampMs(m.now.0.saturating_add(grace_ms));
    release_others(c, complete.upload, &chosen.others, due).await?;
    let committed = prepared
        .commit(
            c,
            Commit {
                new,
                kind: VersionKind::Chunked,
                chunks: chosen.chunks,
                manifest_root: &complete.manifest_root,
                recovery: &complete.recovery,
                pending_shards: chosen.pending_shards,
                due,
            },
        )
        .await?;
    // The slots' references become the version's.
    c.execute(
        "INSERT INTO version_chunks (sequence, n, chunk) SELECT CAST($2 AS BIGINT), n, chunk FROM slots WHERE upload = $1",
        args![complete.upload, committed.sequence],
    )
    .await?;
    c.execute(
        "DELETE FROM slots WHERE upload = $1",
        args![complete.upload],
    )
    .await?;
    c.execute(
        "INSERT INTO manifest_pages (sequence, page, bytes) \
         SELECT CAST($2 AS BIGINT), page, bytes FROM upload_pages WHERE upload = $1 AND page < $3",
        args![complete.upload, committed.sequence, complete.staged.len()],
    )
    .await?;
    c.execute(
        "DELETE FROM upload_pages WHERE upload = $1",
        args![complete.upload],
    )
    .await?;
    for (page, bytes) in (0_u32..).zip(&complete.pages) {
        c.execute(
            "INSERT INTO manifest_pages (sequence, page, bytes) VALUES ($1, $2, $3)",
            args![committed.sequence, page, bytes],
        )
        .await?;
    }
    c.execute(
        "UPDATE uploads SET completed = $2, completed_ms = $3, sequence = $4, replaced = $5, entry_hash = $6 \
         WHERE id = $1",
        args![
            complete.upload,
            new.version,
            m.now,
            committed.sequence,
            committed.replaced,
            &new.entry_hash,
        ],
    )
    .await?;
    Ok(committed)
}

/// Slots that the manifest did not choose go.
async fn release_others(
    c: &mut Connection,
    upload: UploadId,
    others: &[(u32, Cid)],
    due: TimestampMs,
) -> Work<()> {
    for (n, cid) in others {
        c.script(
            script![
                "UPDATE chunks SET refs = refs - 1 \
                 WHERE id IN (SELECT chunk FROM slots WHERE upload = $1 AND n = $4 AND cid = $5)",
                "INSERT INTO deletions (cid, layout, cid_prefix, remaining, due_ms, chunk) \
                 SELECT cid, layout, cid_prefix, substr($3, 1, CAST(shards AS INTEGER)), $2, id FROM chunks WHERE refs = 0 \
                 AND id IN (SELECT chunk FROM slots WHERE upload = $1 AND n = $4 AND cid = $5)",
                "DELETE FROM chunks WHERE refs = 0 \
                 AND id IN (SELECT chunk FROM slots WHERE upload = $1 AND n = $4 AND cid = $5)",
                "DELETE FROM slots WHERE upload = $1 AND n = $4 AND cid = $5",
            ],
            args![upload, due, deletions::all_indices(), *n, *cid],
        )
        .await?;
    }
    Ok(())
}

/// Forgets the answers of completions that nobody will ask for again.
pub(crate) async fn forget_completed(c: &mut Connection, now: TimestampMs) -> Work<u64> {
    const AT_ONCE: i64 = 1_000;
    c.execute(
        "DELETE FROM uploads WHERE id IN (SELECT id FROM uploads \
         WHERE completed IS NOT NULL AND completed_ms < $1 ORDER BY completed_ms LIMIT $2)",
        args![now.0.saturating_sub(COMPLETED_KEPT_MS), AT_ONCE],
    )
    .await
}
