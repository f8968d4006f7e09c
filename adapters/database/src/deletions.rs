//! Deletion intents: what a last reference leaves behind, and what became of it.
//!
//! Shards are named by their content, so the very same shard can become wanted again while a deletion of it waits. Two
//! rules keep it alive: a deletion never hands out a shard that a live chunk keeps on the same node, and what would bring
//! the content back to a node is refused until the deletion is done ([`refuse_if_being_deleted`]).

use domain::{Cid, TimestampMs};
use objects::layout::{ChunkLayout, ShardPlace};
use objects::metadata::{Deletion, MetadataError};

use crate::connection::{Connection, Failure, Row, Script, Work, args, damaged, script};

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
    Bucket(domain::BucketId),
    BucketKey(domain::BucketId, domain::BucketKeyId),
    Version(domain::VersionId),
}

impl Owner {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Bucket(id) => [&[0], id.0.as_slice()].concat(),
            Self::BucketKey(bucket, id) => [&[1], bucket.0.as_slice(), id.0.as_slice()].concat(),
            Self::Version(id) => [&[2], id.0.as_slice()].concat(),
        }
    }
}

pub(crate) async fn insert_recovery(
    c: &mut Connection,
    owner: &Owner,
    layouts: &[ChunkLayout],
) -> Work<()> {
    for layout in layouts {
        // Copies: the record's CID is that of each shard.
        let Some(first) = layout.shards.first() else {
            continue;
        };
        c.execute(
            "INSERT INTO recovery (owner, cid, layout, shards, cid_prefix, stored_bytes) \
             VALUES ($1, $2, $3, $4, $5, $6)",
            args![
                owner.bytes(),
                first.cid,
                layout.encode(),
                layout.shards.len(),
                cid_prefix(&first.cid),
                stored_bytes(layout),
            ],
        )
        .await?;
    }
    Ok(())
}

pub(crate) async fn recovery(c: &mut Connection, owner: &Owner) -> Work<Vec<ChunkLayout>> {
    c.rows(
        "SELECT layout FROM recovery WHERE owner = $1 ORDER BY id",
        args![owner.bytes()],
    )
    .await?
    .iter()
    .map(|row| row.layout(0))
    .collect()
}

/// Intends the deletion of some shards of a layout.
pub(crate) async fn insert(
    c: &mut Connection,
    chunk: Cid,
    layout: &ChunkLayout,
    remaining: Vec<u8>,
    due: TimestampMs,
) -> Work<()> {
    if remaining.is_empty() {
        return Ok(());
    }
    c.execute(
        "INSERT INTO deletions (cid, layout, cid_prefix, remaining, due_ms) VALUES ($1, $2, $3, $4, $5)",
        args![chunk, layout.encode(), cid_prefix(&chunk), remaining, due],
    )
    .await?;
    Ok(())
}

/// Indices of the shards of `old` that `new` does not keep on the same node.
pub(crate) fn superseded(old: &ChunkLayout, new: &ChunkLayout) -> Vec<u8> {
    indices(old, |place| !new.shards.contains(place))
}

fn indices(layout: &ChunkLayout, wanted: impl Fn(&ShardPlace) -> bool) -> Vec<u8> {
    (0..=u8::MAX)
        .zip(&layout.shards)
        .filter(|(_, place)| wanted(place))
        .map(|(index, _)| index)
        .collect()
}

fn place(layout: &ChunkLayout, index: u8) -> Option<&ShardPlace> {
    layout.shards.get(usize::from(index))
}

/// Refuses content whose deletion is not confirmed: its shards may be gone a moment after they were written.
///
/// `places` narrows it to shards on certain nodes, for content that is live elsewhere.
///
/// # Errors
/// [`MetadataError::BeingDeleted`].
pub(crate) async fn refuse_if_being_deleted(
    c: &mut Connection,
    chunk: Cid,
    places: Option<&[ShardPlace]>,
) -> Work<()> {
    let waiting = c
        .rows(
            "SELECT id, cid, layout, remaining FROM deletions WHERE cid_prefix = $1",
            args![cid_prefix(&chunk)],
        )
        .await?;
    for row in &waiting {
        let deletion = deletion(row)?;
        let meets = |index: &u8| {
            places.is_none_or(|places| {
                place(&deletion.layout, *index).is_some_and(|place| places.contains(place))
            })
        };
        if deletion.chunk == chunk && deletion.remaining.iter().any(meets) {
            return Err(MetadataError::BeingDeleted.into());
        }
    }
    Ok(())
}

fn deletion(row: &Row) -> Work<Deletion> {
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
        let kept = live_places(c, &deletion.chunk).await?;
        deletion.remaining.retain(|&index| {
            place(&deletion.layout, index).is_some_and(|place| !kept.contains(place))
        });
        // One without a shard left to delete goes out as well: confirming nothing removes the row.
        deletions.push(deletion);
    }
    Ok(deletions)
}

/// Where live chunks and recovery records keep shards of the same chunk.
async fn live_places(c: &mut Connection, chunk: &Cid) -> Work<Vec<ShardPlace>> {
    let rows = c
        .rows(
            "SELECT layout FROM chunks WHERE cid_prefix = $1 \
             UNION ALL SELECT layout FROM recovery WHERE cid_prefix = $1",
            args![cid_prefix(chunk)],
        )
        .await?;
    let mut places = Vec::new();
    for row in &rows {
        places.extend(row.layout(0)?.shards);
    }
    Ok(places)
}

pub(crate) async fn progress(
    c: &mut Connection,
    id: i64,
    remaining: Vec<u8>,
    retry_at: TimestampMs,
) -> Work<()> {
    if remaining.is_empty() {
        c.execute("DELETE FROM deletions WHERE id = $1", args![id])
            .await?;
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
        let rows = c
            .rows(
                "SELECT layout FROM chunks WHERE cid_prefix = $1 \
                 UNION ALL SELECT layout FROM recovery WHERE cid_prefix = $1 \
                 UNION ALL SELECT layout FROM deletions WHERE cid_prefix = $1",
                args![cid_prefix(cid)],
            )
            .await?;
        let mut found = false;
        for row in &rows {
            found |= row
                .layout(0)?
                .shards
                .iter()
                .any(|place| place.cid.digest() == cid.digest());
        }
        answers.push(found);
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
