//! Deletion intents: what a last reference leaves behind, and what became of it.
//!
//! Shards are named by their content, so the very same shard can become wanted again while a deletion of it waits, by
//! the same chunk or by another that has it in common. Two rules keep it alive: a deletion never hands out a shard that
//! any live chunk keeps on the same node, and what would bring the content back to a node is refused until the deletion is
//! done ([`crate::shard_index::refuse_if_being_deleted`]).

use domain::{Cid, TimestampMs};
use objects::layout::{ChunkLayout, ShardPlace};
use objects::metadata::{Deletion, PendingRecovery, RecoveryRecord};

use crate::connection::{Connection, Failure, Row, Script, Work, args, damaged, locked, script};
use crate::{chunks, shard_index};

/// All shard indices: a prefix of this, as long as a chunk has shards, is "all of them".
pub(crate) fn all_indices() -> Vec<u8> {
    (0..=u8::MAX).collect()
}

/// What chunks, records and deletions are found by: the first eight bytes of the CID's digest, in an index a third of
/// the size of one over whole CIDs. With k = 1 the record's CID is that of each of its shards.
pub(crate) fn cid_prefix(cid: &Cid) -> i64 {
    let [a, b, c, d, e, f, g, h, ..] = *cid.digest();
    i64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Bytes of all shards together.
pub(crate) fn stored_bytes(layout: &ChunkLayout) -> usize {
    layout.shard_bytes().saturating_mul(layout.shards.len())
}

/// Turns the recovery records of an owner ($1) into deletions due at $2; $3 are all indices.
pub(crate) const RELEASE_RECOVERY: Script = script![
    "INSERT INTO deletions (cid, layout, cid_prefix, remaining, due_ms) \
     SELECT cid, layout, cid_prefix, substr($3, 1, CAST(shards AS INTEGER)), $2 FROM recovery WHERE owner = $1",
    "DELETE FROM recovery WHERE owner = $1",
];

/// Who a recovery record belongs to.
pub(crate) enum Owner {
    /// The sealed session of a gateway's start: kept for ever.
    Session(u64),
    Bucket(domain::BucketId),
    BucketKey(domain::BucketId, domain::BucketKeyId),
    Version(domain::VersionId),
}

impl Owner {
    const SESSION: u8 = 3;

    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Session(epoch) => [&[Self::SESSION], epoch.to_be_bytes().as_slice()].concat(),
            Self::Bucket(id) => [&[0], id.0.as_slice()].concat(),
            Self::BucketKey(bucket, id) => [&[1], bucket.0.as_slice(), id.0.as_slice()].concat(),
            Self::Version(id) => [&[2], id.0.as_slice()].concat(),
        }
    }
}

pub(crate) async fn insert_recovery(
    c: &mut Connection,
    owner: &Owner,
    records: &[RecoveryRecord],
) -> Work<()> {
    for record in records {
        let layout = &record.layout;
        let pending = chunks::pending_list(record.pending.clone(), layout);
        // Copies: the record's CID is that of each shard.
        let Some(first) = layout.shards.first() else {
            continue;
        };
        c.execute(
            "INSERT INTO recovery (owner, cid, layout, shards, cid_prefix, stored_bytes, pending, pending_count) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
            args![
                owner.bytes(),
                first.cid,
                layout.encode(),
                layout.shards.len(),
                cid_prefix(&first.cid),
                stored_bytes(layout),
                &pending,
                pending.len(),
            ],
        )
        .await?;
    }
    Ok(())
}

pub(crate) async fn recovery(c: &mut Connection, owner: &Owner) -> Work<Vec<RecoveryRecord>> {
    c.rows(
        "SELECT layout, pending FROM recovery WHERE owner = $1 ORDER BY id",
        args![owner.bytes()],
    )
    .await?
    .iter()
    .map(|row| {
        Ok(RecoveryRecord {
            layout: row.layout(0)?,
            pending: row.bytes(1)?,
        })
    })
    .collect()
}

/// Checks recovery records before anything of their owner is written: whole, and not given up as nobody's meanwhile.
pub(crate) async fn check_recovery(c: &mut Connection, records: &[RecoveryRecord]) -> Work<()> {
    for record in records {
        check(&record.layout)?;
        shard_index::refuse_if_being_deleted(c, None, &record.layout.shards).await?;
    }
    Ok(())
}

/// See [`objects::metadata::Metadata::put_session`].
pub(crate) async fn put_session(
    c: &mut Connection,
    epoch: u64,
    record: &RecoveryRecord,
) -> Work<()> {
    let records = std::slice::from_ref(record);
    check_recovery(c, records).await?;
    insert_recovery(c, &Owner::Session(epoch), records).await
}

/// See [`objects::metadata::Metadata::pending_recovery`].
pub(crate) async fn pending_recovery(
    c: &mut Connection,
    after: i64,
    limit: usize,
) -> Work<Vec<PendingRecovery>> {
    c.rows(
        "SELECT id, cid, layout, pending, owner FROM recovery \
         WHERE pending_count > 0 AND id > $1 ORDER BY id LIMIT $2",
        args![after, limit],
    )
    .await?
    .iter()
    .map(|row| {
        Ok(PendingRecovery {
            record: chunks::chunk_row(row, 0)?,
            session: row.bytes(4)?.first() == Some(&Owner::SESSION),
        })
    })
    .collect()
}

/// Sets or clears that copy `index` of a recovery record is pending; a record that is gone by now is left alone.
pub(crate) async fn set_recovery_pending(
    c: &mut Connection,
    id: i64,
    index: u8,
    is_pending: bool,
) -> Work<()> {
    let row = c
        .row(
            locked!("SELECT layout, pending FROM recovery WHERE id = $1"),
            args![id],
        )
        .await?;
    let Some(row) = row else {
        return Ok(());
    };
    let mut pending = row.bytes(1)?;
    if is_pending == pending.contains(&index) {
        return Ok(());
    }
    if is_pending {
        pending.push(index);
    } else {
        pending.retain(|&other| other != index);
    }
    let pending = chunks::pending_list(pending, &row.layout(0)?);
    c.execute(
        "UPDATE recovery SET pending = $2, pending_count = $3 WHERE id = $1",
        args![id, &pending, pending.len()],
    )
    .await?;
    Ok(())
}

/// See [`objects::metadata::Metadata::disown`].
pub(crate) async fn disown(
    c: &mut Connection,
    layouts: &[ChunkLayout],
    now: TimestampMs,
) -> Work<()> {
    layouts.iter().try_for_each(check)?;
    for layout in layouts {
        let Some(first) = layout.shards.first() else {
            continue;
        };
        let live = shard_index::live_places(c, &[first.cid]).await?;
        let remaining = indices(layout, |place| !live.contains(place));
        insert(c, first.cid, None, layout, remaining, now).await?;
    }
    Ok(())
}

/// Intends the deletion of some shards of a layout; `chunk` is needed to find those of chunks with k > 1.
pub(crate) async fn insert(
    c: &mut Connection,
    cid: Cid,
    chunk: Option<i64>,
    layout: &ChunkLayout,
    remaining: Vec<u8>,
    due: TimestampMs,
) -> Work<()> {
    if remaining.is_empty() {
        return Ok(());
    }
    c.execute(
        "INSERT INTO deletions (cid, layout, cid_prefix, remaining, due_ms, chunk) \
         VALUES ($1, $2, $3, $4, $5, CASE WHEN $6 = 0 THEN NULL ELSE $6 END)",
        args![
            cid,
            layout.encode(),
            cid_prefix(&cid),
            remaining,
            due,
            chunk.unwrap_or(0)
        ],
    )
    .await?;
    Ok(())
}

/// Indices of the shards of `old` that `new` does not keep on the same node.
pub(crate) fn superseded(old: &ChunkLayout, new: &ChunkLayout) -> Vec<u8> {
    indices(old, |place| !new.shards.contains(place))
}

pub(crate) fn indices(layout: &ChunkLayout, wanted: impl Fn(&ShardPlace) -> bool) -> Vec<u8> {
    (0..=u8::MAX)
        .zip(&layout.shards)
        .filter(|(_, place)| wanted(place))
        .map(|(index, _)| index)
        .collect()
}

pub(crate) fn place(layout: &ChunkLayout, index: u8) -> Option<&ShardPlace> {
    layout.shards.get(usize::from(index))
}

pub(crate) fn deletion(row: &Row) -> Work<Deletion> {
    Ok(Deletion {
        id: row.int(0)?,
        chunk: row.cid(1)?,
        layout: row.layout(2)?,
        remaining: row.bytes(3)?,
    })
}

/// Deletions that are due, without the shards that are wanted again.
pub(crate) async fn due(c: &mut Connection, now: TimestampMs, limit: usize) -> Work<Vec<Deletion>> {
    let rows = c
        .rows(
            "SELECT id, cid, layout, remaining FROM deletions WHERE due_ms <= $1 \
             ORDER BY due_ms, id LIMIT $2",
            args![now, limit],
        )
        .await?;
    let mut deletions = Vec::with_capacity(rows.len());
    for row in &rows {
        let mut deletion = deletion(row)?;
        let shards: Vec<Cid> = deletion
            .remaining
            .iter()
            .filter_map(|&index| place(&deletion.layout, index).map(|place| place.cid))
            .collect();
        let kept = shard_index::live_places(c, &shards).await?;
        deletion.remaining.retain(|&index| {
            place(&deletion.layout, index).is_some_and(|place| !kept.contains(place))
        });
        // One without a shard left to delete goes out as well: confirming nothing removes the row.
        deletions.push(deletion);
    }
    Ok(deletions)
}

pub(crate) async fn progress(
    c: &mut Connection,
    id: i64,
    remaining: Vec<u8>,
    retry_at: TimestampMs,
) -> Work<()> {
    if remaining.is_empty() {
        let row = c
            .row(
                "SELECT chunk, layout FROM deletions WHERE id = $1",
                args![id],
            )
            .await?;
        c.execute("DELETE FROM deletions WHERE id = $1", args![id])
            .await?;
        if let Some(row) = row
            && let Some(chunk) = row.maybe_int(0)?
        {
            shard_index::forget(c, chunk, &row.layout(1)?).await?;
        }
    } else {
        c.execute(
            "UPDATE deletions SET remaining = $2, due_ms = $3 WHERE id = $1",
            args![id, remaining, retry_at],
        )
        .await?;
    }
    Ok(())
}

/// See [`objects::metadata::Metadata::referenced_shards`].
pub(crate) async fn referenced(c: &mut Connection, cids: &[Cid]) -> Work<Vec<bool>> {
    let mut answers = Vec::with_capacity(cids.len());
    for cid in cids {
        answers.push(shard_index::referenced(c, *cid).await?);
    }
    Ok(answers)
}

/// Refuses a layout whose number of shards is not its profile's: such a record could not be read back.
pub(crate) fn check(layout: &ChunkLayout) -> Result<(), Failure> {
    if layout.shards.len() == layout.profile.total() {
        Ok(())
    } else {
        Err(damaged(
            "layout record",
            format!(
                "{} shards for profile {}",
                layout.shards.len(),
                layout.profile
            ),
        ))
    }
}
