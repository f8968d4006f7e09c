//! Chunks: where their shards lie, which are pending, and how many references hold them.
//!
//! A chunk is held by the slot of the upload that brought it, then by each version that it is part of.

use domain::{Cid, TimestampMs, VersionId};
use objects::layout::{ChunkLayout, NodeSlot, ShardPlace};
use objects::metadata::{ChunkRow, MetadataError, PendingShard, Placement};

use crate::connection::{Connection, Row, Work, args, damaged, locked};
use crate::deletions;
use crate::shard_index::{self, Holder};

/// What a chunk's row says its bytes are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Chunk = 0,
    Small = 1,
}

impl Kind {
    fn code(self) -> i64 {
        match self {
            Self::Chunk => 0,
            Self::Small => 1,
        }
    }
}

/// Inserts a chunk with one reference; returns its id.
pub(crate) async fn insert(
    c: &mut Connection,
    kind: Kind,
    cid: Cid,
    layout: &ChunkLayout,
    pending: &[u8],
    acknowledged: bool,
) -> Work<i64> {
    let id = c
        .insert(
        "INSERT INTO chunks (kind, cid, layout, shards, cid_prefix, stored_bytes, pending, pending_count, \
         acknowledged, refs) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 1) RETURNING id",
        args![
            kind.code(),
            cid,
            layout.encode(),
            layout.shards.len(),
            deletions::cid_prefix(&cid),
            deletions::stored_bytes(layout),
            pending,
            pending.len(),
            acknowledged,
        ],
    )
    .await?;
    shard_index::insert(c, id, layout).await?;
    Ok(id)
}

/// Reads a chunk from four columns: id, cid, layout, pending.
pub(crate) fn chunk_row(row: &Row, first: usize) -> Work<ChunkRow> {
    Ok(ChunkRow {
        id: row.int(first)?,
        cid: row.cid(first + 1)?,
        layout: row.layout(first + 2)?,
        pending: row.bytes(first + 3)?,
    })
}

/// A chunk that nobody else changes before this transaction ends.
pub(crate) struct Held {
    pub id: i64,
    pub cid: Cid,
    pub layout: ChunkLayout,
    pub pending: Vec<u8>,
    pub acknowledged: bool,
}

impl Held {
    fn read(row: &Row) -> Work<Self> {
        let ChunkRow {
            id,
            cid,
            layout,
            pending,
        } = chunk_row(row, 0)?;
        Ok(Self {
            id,
            cid,
            layout,
            pending,
            acknowledged: row.int(4)? == 1,
        })
    }

    pub(crate) fn into_row(self) -> ChunkRow {
        ChunkRow {
            id: self.id,
            cid: self.cid,
            layout: self.layout,
            pending: self.pending,
        }
    }
}

/// The chunk with this CID, if there is one.
pub(crate) async fn find(c: &mut Connection, cid: Cid) -> Work<Option<Held>> {
    c.row(
        locked!(
            "SELECT id, cid, layout, pending, acknowledged FROM chunks WHERE cid_prefix = $1 AND cid = $2"
        ),
        args![deletions::cid_prefix(&cid), cid],
    )
    .await?
    .map(|row| Held::read(&row))
    .transpose()
}

async fn lock(c: &mut Connection, chunk: i64) -> Work<Held> {
    let row = c
        .row(
            locked!("SELECT id, cid, layout, pending, acknowledged FROM chunks WHERE id = $1"),
            args![chunk],
        )
        .await?
        .ok_or(MetadataError::NotFound("chunk"))?;
    Held::read(&row)
}

/// Adds a reference.
pub(crate) async fn hold(c: &mut Connection, chunk: i64) -> Work<()> {
    c.execute(
        "UPDATE chunks SET refs = refs + 1 WHERE id = $1",
        args![chunk],
    )
    .await?;
    Ok(())
}

/// Sorted, without repeats, and only shards that exist.
pub(crate) fn pending_list(mut pending: Vec<u8>, layout: &ChunkLayout) -> Vec<u8> {
    pending.sort_unstable();
    pending.dedup();
    pending.retain(|&index| usize::from(index) < layout.shards.len());
    pending
}

pub(crate) async fn acknowledge(
    c: &mut Connection,
    chunk: i64,
    layout: &ChunkLayout,
    pending: &[u8],
    now: TimestampMs,
    grace_ms: u64,
) -> Work<()> {
    deletions::check(layout)?;
    let pending = pending_list(pending.to_vec(), layout);
    let planned = lock(c, chunk).await?;
    same_shards(&planned.layout, layout)?;
    let due = TimestampMs(now.0.saturating_add(grace_ms));
    if planned.acknowledged {
        // A repeat, or a second upload of the same ciphertext whose shards went elsewhere: what was acknowledged first
        // stays, and the other places are cleared.
        let extra = deletions::superseded(layout, &planned.layout);
        return deletions::insert(c, planned.cid, Some(chunk), layout, extra, due).await;
    }
    // Shards that had been given another node and then landed on the first: what was to clear them there must not.
    let returned: Vec<_> = deletions::superseded(layout, &planned.layout)
        .into_iter()
        .filter_map(|index| deletions::place(layout, index).copied())
        .collect();
    shard_index::keep(c, &returned, now).await?;
    c.execute(
        "UPDATE chunks SET layout = $2, shards = $3, stored_bytes = $4, pending = $5, pending_count = $6, \
         acknowledged = 1 WHERE id = $1",
        args![
            chunk,
            layout.encode(),
            layout.shards.len(),
            deletions::stored_bytes(layout),
            &pending,
            pending.len(),
        ],
    )
    .await?;
    let gone = deletions::superseded(&planned.layout, layout);
    deletions::insert(c, planned.cid, Some(chunk), &planned.layout, gone, due).await
}

/// A chunk's shards may move, but they stay the same: it is found by them.
fn same_shards(planned: &ChunkLayout, layout: &ChunkLayout) -> Work<()> {
    let cids = |layout: &ChunkLayout| -> Vec<Cid> {
        layout.shards.iter().map(|place| place.cid).collect()
    };
    if planned.profile == layout.profile && cids(planned) == cids(layout) {
        Ok(())
    } else {
        Err(damaged("layout record", "other shards than were planned"))
    }
}

/// See [`objects::metadata::Metadata::substitute_node`].
pub(crate) async fn substitute(
    c: &mut Connection,
    chunk: i64,
    index: u8,
    node: NodeSlot,
    due: TimestampMs,
) -> Work<()> {
    let Held {
        cid,
        layout: before,
        pending,
        acknowledged,
        ..
    } = lock(c, chunk).await?;
    let mut layout = before.clone();
    let place = layout
        .shards
        .get_mut(usize::from(index))
        .ok_or(MetadataError::NotFound("shard"))?;
    if place.node == node {
        return Ok(());
    }
    if acknowledged && !pending.contains(&index) {
        // It is where the row says; one that goes elsewhere now would have no intent.
        return Err(MetadataError::Exists("the shard").into());
    }
    if before.shards.iter().any(|other| other.node == node) {
        return Err(MetadataError::Exists("a shard of this chunk on the node").into());
    }
    place.node = node;
    let place = *place;
    shard_index::refuse_if_being_deleted(c, None, &[place]).await?;
    c.execute(
        "UPDATE chunks SET layout = $2 WHERE id = $1",
        args![chunk, layout.encode()],
    )
    .await?;
    deletions::insert(c, cid, Some(chunk), &before, vec![index], due).await
}

/// See [`objects::metadata::Metadata::pending_shards`].
pub(crate) async fn pending(
    c: &mut Connection,
    after: i64,
    limit: usize,
) -> Work<Vec<PendingShard>> {
    let rows = c
        .rows(
            "SELECT id, cid, layout, pending, kind FROM chunks \
             WHERE pending_count > 0 AND acknowledged = 1 AND id > $1 ORDER BY id LIMIT $2",
            args![after, limit],
        )
        .await?;
    let mut shards = Vec::new();
    for row in &rows {
        let chunk = chunk_row(row, 0)?;
        let small = row.int(4)? == Kind::Small.code();
        shards.extend(chunk.pending.clone().into_iter().map(|index| PendingShard {
            chunk: chunk.clone(),
            index,
            small,
        }));
    }
    Ok(shards)
}

/// Stores a chunk's pending shards and layout, and adds `change` to the versions that hold it.
async fn set_pending(
    c: &mut Connection,
    chunk: i64,
    layout: &ChunkLayout,
    pending: &[u8],
    change: i64,
) -> Work<()> {
    c.execute(
        "UPDATE chunks SET layout = $2, pending = $3, pending_count = $4 WHERE id = $1",
        args![chunk, layout.encode(), pending, pending.len()],
    )
    .await?;
    c.execute(
        "UPDATE heads SET pending_shards = pending_shards + $2 * (SELECT COUNT(*) FROM version_chunks vc \
         WHERE vc.sequence = heads.sequence AND vc.chunk = $1) \
         WHERE (bucket, key) IN (SELECT v.bucket, v.key FROM version_chunks vc \
         JOIN versions v ON v.sequence = vc.sequence WHERE vc.chunk = $1)",
        args![chunk, change],
    )
    .await?;
    Ok(())
}

/// See [`objects::metadata::Metadata::shard_landed`].
pub(crate) async fn landed(c: &mut Connection, chunk: i64, index: u8, node: NodeSlot) -> Work<()> {
    let Held {
        cid,
        mut layout,
        mut pending,
        acknowledged,
        ..
    } = lock(c, chunk).await?;
    let before = layout.clone();
    let place = layout
        .shards
        .get_mut(usize::from(index))
        .ok_or(MetadataError::NotFound("shard"))?;
    let moved = place.node != node;
    place.node = node;
    let place = *place;
    if !acknowledged {
        // Whoever writes the chunk will say where its shards are.
        return Ok(());
    }
    let other_place = if moved { vec![index] } else { Vec::new() };
    // Deletions here are due at once: no reader is sent to these places.
    let at_once = TimestampMs(0);
    if !pending.contains(&index) {
        // It had landed already; a second copy elsewhere is one too many.
        return deletions::insert(c, cid, Some(chunk), &layout, other_place, at_once).await;
    }
    shard_index::refuse_if_being_deleted(c, None, &[place]).await?;
    pending.retain(|&other| other != index);
    set_pending(c, chunk, &layout, &pending, -1).await?;
    deletions::insert(c, cid, Some(chunk), &before, other_place, at_once).await
}

/// See [`objects::metadata::Metadata::shard_lost`].
pub(crate) async fn lost(c: &mut Connection, chunk: i64, index: u8) -> Work<()> {
    let locked = lock(c, chunk).await?;
    if usize::from(index) >= locked.layout.shards.len() {
        return Err(MetadataError::NotFound("shard").into());
    }
    if !locked.acknowledged || locked.pending.contains(&index) {
        return Ok(());
    }
    let mut pending = locked.pending;
    pending.push(index);
    let pending = pending_list(pending, &locked.layout);
    set_pending(c, chunk, &locked.layout, &pending, 1).await
}

/// See [`objects::metadata::Metadata::shards_lost_on`].
pub(crate) async fn lost_on(c: &mut Connection, node: NodeSlot, shards: &[Cid]) -> Work<Vec<bool>> {
    let mut held = Vec::with_capacity(shards.len());
    for &cid in shards {
        let holders = shard_index::holders_of(c, &ShardPlace { node, cid }).await?;
        held.push(!holders.is_empty());
        for holder in holders {
            match holder {
                Holder::Chunk(chunk, index) => lost(c, chunk, index).await?,
                Holder::Recovery(id, index) => {
                    deletions::set_recovery_pending(c, id, index, true).await?;
                }
            }
        }
    }
    Ok(held)
}

/// Chunks `from..from + limit` of a version.
pub(crate) async fn of_version(
    c: &mut Connection,
    version: VersionId,
    from: u32,
    limit: usize,
) -> Work<Vec<ChunkRow>> {
    c.rows(
        "SELECT k.id, k.cid, k.layout, k.pending FROM versions v \
         JOIN version_chunks vc ON vc.sequence = v.sequence AND vc.n >= $2 \
         JOIN chunks k ON k.id = vc.chunk WHERE v.version = $1 ORDER BY vc.n LIMIT $3",
        args![version, from, limit],
    )
    .await?
    .iter()
    .map(|row| chunk_row(row, 0))
    .collect()
}

/// See [`objects::metadata::Metadata::placement`].
pub(crate) async fn placement(c: &mut Connection, version: VersionId) -> Work<Placement> {
    let row = c
        .one(
            "SELECT CAST(COALESCE(SUM(k.shards), 0) AS BIGINT), CAST(COALESCE(SUM(k.pending_count), 0) AS BIGINT) \
             FROM versions v JOIN version_chunks vc ON vc.sequence = v.sequence \
             JOIN chunks k ON k.id = vc.chunk WHERE v.version = $1",
            args![version],
        )
        .await?;
    Ok(Placement {
        total_shards: row.number(0)?,
        pending_shards: row.number(1)?,
    })
}

/// Chunk `n` of a version.
pub(crate) async fn one_of_version(
    c: &mut Connection,
    version: VersionId,
    n: u32,
) -> Work<Option<ChunkRow>> {
    c.row(
        "SELECT k.id, k.cid, k.layout, k.pending FROM versions v \
         JOIN version_chunks vc ON vc.sequence = v.sequence AND vc.n = $2 \
         JOIN chunks k ON k.id = vc.chunk WHERE v.version = $1",
        args![version, n],
    )
    .await?
    .map(|row| chunk_row(&row, 0))
    .transpose()
}
