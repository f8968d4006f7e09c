//! Which chunks hold a shard: nodes keep a shard once per CID, and different chunks may have one in common.
//!
//! The truth is in the layouts; `chunk_shards` only finds them, by the first eight bytes of a shard's digest. A chunk
//! is in it from its plan until its last deletion is confirmed. What has k = 1 (copies, small and recovery records) is
//! not: there the shard's CID is the chunk's, by which it is found anyway.

use std::fmt::Write as _;
use std::sync::Arc;

use domain::{Cid, TimestampMs};
use objects::layout::{ChunkLayout, ShardPlace};
use objects::metadata::MetadataError;

use crate::connection::{Connection, Sql, Value, Work, args};
use crate::deletions::{cid_prefix, deletion, place, progress};

/// What `chunk_shards` is searched by.
fn prefix(shard: &Cid) -> Vec<u8> {
    shard.digest().iter().take(8).copied().collect()
}

/// `$FIRST, …`: as many as there are arguments.
fn list(first: usize, count: usize) -> String {
    let mut text = String::new();
    for number in first..first + count {
        let comma = if number == first { "" } else { ", " };
        // Writing into a string does not fail.
        let _ = write!(text, "{comma}${number}");
    }
    text
}

fn built(text: String) -> Sql {
    Sql::Built(Arc::from(text))
}

/// Each shard once: a chunk may have several shards of the same bytes.
fn distinct(shards: impl Iterator<Item = Cid>) -> Vec<Cid> {
    let mut shards: Vec<Cid> = shards.collect();
    shards.sort_unstable();
    shards.dedup();
    shards
}

/// Makes a planned chunk findable by its shards.
pub(crate) async fn insert(c: &mut Connection, chunk: i64, layout: &ChunkLayout) -> Work<()> {
    if layout.profile.data() == 1 {
        return Ok(());
    }
    let shards = distinct(layout.shards.iter().map(|place| place.cid));
    let mut text = "INSERT INTO chunk_shards (shard, chunk) VALUES ".to_owned();
    let mut arguments = args![chunk];
    for (number, shard) in (2_usize..).zip(&shards) {
        let comma = if number == 2 { "" } else { ", " };
        let _ = write!(text, "{comma}(${number}, $1)");
        arguments.push(Value::Bytes(prefix(shard)));
    }
    text.push_str(" ON CONFLICT DO NOTHING");
    c.execute(built(text), arguments).await?;
    Ok(())
}

/// Forgets a chunk's shards once neither the chunk nor a deletion of it is left.
pub(crate) async fn forget(c: &mut Connection, chunk: i64, layout: &ChunkLayout) -> Work<()> {
    if layout.profile.data() == 1 {
        return Ok(());
    }
    let shards = distinct(layout.shards.iter().map(|place| place.cid));
    let text = format!(
        "DELETE FROM chunk_shards WHERE chunk = $1 AND shard IN ({}) \
         AND NOT EXISTS (SELECT 1 FROM chunks WHERE id = $1) \
         AND NOT EXISTS (SELECT 1 FROM deletions WHERE chunk = $1)",
        list(2, shards.len())
    );
    let mut arguments = args![chunk];
    arguments.extend(shards.iter().map(|shard| Value::Bytes(prefix(shard))));
    c.execute(built(text), arguments).await?;
    Ok(())
}

/// Chunks with k > 1 that may have one of these shards: live ones, and ones whose deletion waits.
async fn holders(c: &mut Connection, shards: &[Cid]) -> Work<Vec<i64>> {
    if shards.is_empty() {
        return Ok(Vec::new());
    }
    let text = format!(
        "SELECT DISTINCT chunk FROM chunk_shards WHERE shard IN ({})",
        list(1, shards.len())
    );
    let arguments = shards.iter().map(|shard| Value::Bytes(prefix(shard)));
    c.rows(built(text), arguments.collect())
        .await?
        .iter()
        .map(|row| row.int(0))
        .collect()
}

/// Where live chunks and recovery records keep these shards (and, beside them, their other shards).
pub(crate) async fn live_places(c: &mut Connection, shards: &[Cid]) -> Work<Vec<ShardPlace>> {
    let shards = distinct(shards.iter().copied());
    if shards.is_empty() {
        return Ok(Vec::new());
    }
    let copies = list(1, shards.len());
    let text = format!(
        "SELECT layout FROM chunks WHERE cid_prefix IN ({copies}) \
         UNION ALL SELECT layout FROM recovery WHERE cid_prefix IN ({copies})"
    );
    let arguments = shards.iter().map(|shard| Value::Int(cid_prefix(shard)));
    let mut rows = c.rows(built(text), arguments.collect()).await?;
    let chunks = holders(c, &shards).await?;
    if !chunks.is_empty() {
        let text = format!(
            "SELECT layout FROM chunks WHERE id IN ({})",
            list(1, chunks.len())
        );
        rows.extend(
            c.rows(built(text), chunks.into_iter().map(Value::Int).collect())
                .await?,
        );
    }
    let mut places = Vec::new();
    for row in &rows {
        places.extend(row.layout(0)?.shards);
    }
    Ok(places)
}

/// Whether anything that is live or waits to be deleted has this shard on any node.
pub(crate) async fn referenced(c: &mut Connection, shard: Cid) -> Work<bool> {
    let same = |place: &ShardPlace| place.cid.digest() == shard.digest();
    if live_places(c, &[shard]).await?.iter().any(same) {
        return Ok(true);
    }
    let waiting = waiting(c, &[], &[shard]).await?;
    Ok(waiting
        .iter()
        .any(|deletion| deletion.layout.shards.iter().any(same)))
}

/// Chunks that may share shards with a new one. Fresh ciphertext shares none; the bound keeps what somebody makes on purpose
/// from costing others more than a few rows, and each list of ids far below what a statement may carry: a chunk of 255
/// shards meets at most 255 times as many.
const ALIKE_MAX: usize = 64;

/// Deletions that may take one of these shards, or that are of one of these chunks (then a new chunk is meant, and refused
/// when it is like too many others).
async fn waiting(
    c: &mut Connection,
    chunks: &[Cid],
    shards: &[Cid],
) -> Work<Vec<objects::metadata::Deletion>> {
    let shards = distinct(shards.iter().copied());
    let by_cid = distinct(shards.iter().chain(chunks).copied());
    // One round trip in the ordinary case, in which there is nothing: it is on the way of every new chunk.
    let text = format!(
        "SELECT CAST(0 AS BIGINT), chunk FROM chunk_shards WHERE shard IN ({}) \
         UNION ALL SELECT CAST(1 AS BIGINT), id FROM deletions WHERE cid_prefix IN ({})",
        list(1, shards.len()),
        list(1 + shards.len(), by_cid.len())
    );
    let mut arguments: Vec<Value> = shards.iter().map(|s| Value::Bytes(prefix(s))).collect();
    arguments.extend(by_cid.iter().map(|cid| Value::Int(cid_prefix(cid))));
    let mut holders = Vec::new();
    let mut deletions = Vec::new();
    for row in c.rows(built(text), arguments).await? {
        match row.int(0)? {
            0 => holders.push(row.int(1)?),
            _ => deletions.push(row.int(1)?),
        }
    }
    if c.shared() && !shards.is_empty() {
        // Copies and records with k = 1 are found by their CID: whoever is letting go of one is waited for as well.
        for table in ["chunks", "recovery"] {
            let text = format!(
                "SELECT id FROM {table} WHERE cid_prefix IN ({}) ORDER BY id FOR UPDATE",
                list(1, shards.len())
            );
            let arguments = shards.iter().map(|shard| Value::Int(cid_prefix(shard)));
            c.rows(built(text), arguments.collect()).await?;
        }
    }
    if !holders.is_empty() {
        holders.sort_unstable();
        holders.dedup();
        if !chunks.is_empty() && holders.len() > ALIKE_MAX {
            return Err(MetadataError::TooManyAlike.into());
        }
        let ids = list(1, holders.len());
        let arguments: Vec<Value> = holders.into_iter().map(Value::Int).collect();
        if c.shared() {
            // Whoever is letting go of one of them just now is waited for, and whoever wants to waits for us.
            let text = format!("SELECT id FROM chunks WHERE id IN ({ids}) ORDER BY id FOR UPDATE");
            c.rows(built(text), arguments.clone()).await?;
        }
        let text = format!("SELECT id FROM deletions WHERE chunk IN ({ids})");
        for row in c.rows(built(text), arguments).await? {
            deletions.push(row.int(0)?);
        }
    }
    if deletions.is_empty() {
        return Ok(Vec::new());
    }
    deletions.sort_unstable();
    deletions.dedup();
    let text = format!(
        "SELECT id, cid, layout, remaining FROM deletions WHERE id IN ({})",
        list(1, deletions.len())
    );
    c.rows(built(text), deletions.into_iter().map(Value::Int).collect())
        .await?
        .iter()
        .map(deletion)
        .collect()
}

/// Refuses places whose shard waits to be deleted there, whatever chunk it was deleted with: it may be gone a moment
/// after it was written. With `chunk` all of that chunk's deletions count, wherever its shards were.
///
/// # Errors
/// [`MetadataError::BeingDeleted`].
pub(crate) async fn refuse_if_being_deleted(
    c: &mut Connection,
    chunk: Option<Cid>,
    places: &[ShardPlace],
) -> Work<()> {
    let shards: Vec<Cid> = places.iter().map(|place| place.cid).collect();
    let chunks: Vec<Cid> = chunk.into_iter().collect();
    for deletion in waiting(c, &chunks, &shards).await? {
        let meets = |index: &u8| {
            place(&deletion.layout, *index).is_some_and(|place| places.contains(place))
        };
        let whole = chunk == Some(deletion.chunk) && !deletion.remaining.is_empty();
        if whole || deletion.remaining.iter().any(meets) {
            return Err(MetadataError::BeingDeleted.into());
        }
    }
    Ok(())
}

/// Takes places back from deletions that are not due yet.
///
/// # Errors
/// [`MetadataError::BeingDeleted`] when one is due: it may be under way.
pub(crate) async fn keep(c: &mut Connection, places: &[ShardPlace], now: TimestampMs) -> Work<()> {
    if places.is_empty() {
        return Ok(());
    }
    let shards: Vec<Cid> = places.iter().map(|place| place.cid).collect();
    for mut deletion in waiting(c, &[], &shards).await? {
        let before = deletion.remaining.len();
        let layout = &deletion.layout;
        deletion
            .remaining
            .retain(|&index| !place(layout, index).is_some_and(|place| places.contains(place)));
        if deletion.remaining.len() == before {
            continue;
        }
        let due = c
            .one(
                "SELECT due_ms FROM deletions WHERE id = $1",
                args![deletion.id],
            )
            .await?
            .time(0)?;
        if due <= now {
            return Err(MetadataError::BeingDeleted.into());
        }
        progress(c, deletion.id, deletion.remaining, due).await?;
    }
    Ok(())
}

/// A chunk or recovery record that keeps a shard on a node.
pub(crate) enum Holder {
    Chunk(i64, u8),
    Recovery(i64, u8),
}

/// What keeps `place`'s shard on its node.
pub(crate) async fn holders_of(c: &mut Connection, place: &ShardPlace) -> Work<Vec<Holder>> {
    let mut rows = c
        .rows(
            "SELECT CAST(0 AS BIGINT), id, layout FROM chunks WHERE cid_prefix = $1 \
             UNION ALL SELECT CAST(1 AS BIGINT), id, layout FROM recovery WHERE cid_prefix = $1",
            args![cid_prefix(&place.cid)],
        )
        .await?;
    let chunks = holders(c, &[place.cid]).await?;
    if !chunks.is_empty() {
        let text = format!(
            "SELECT CAST(0 AS BIGINT), id, layout FROM chunks WHERE id IN ({})",
            list(1, chunks.len())
        );
        rows.extend(
            c.rows(built(text), chunks.into_iter().map(Value::Int).collect())
                .await?,
        );
    }
    let mut found = Vec::new();
    for row in &rows {
        let id = row.int(1)?;
        for (index, held) in (0..=u8::MAX).zip(row.layout(2)?.shards) {
            if held == *place {
                found.push(match row.int(0)? {
                    0 => Holder::Chunk(id, index),
                    _ => Holder::Recovery(id, index),
                });
            }
        }
    }
    Ok(found)
}
