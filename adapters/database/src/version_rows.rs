//! Reading versions.

use domain::{BucketId, ObjectKey, Principal, VersionId};
use objects::metadata::{ChunkRow, NewVersion, VersionKind, VersionRow};

use crate::chunks;
use crate::connection::{Connection, Row, Work, args, damaged};

pub(crate) fn version_kind(code: i64) -> Work<VersionKind> {
    match code {
        0 => Ok(VersionKind::Small),
        1 => Ok(VersionKind::Chunked),
        2 => Ok(VersionKind::Tombstone),
        other => Err(damaged("version", format!("kind {other}"))),
    }
}

macro_rules! version_columns {
    ($more:literal) => {
        concat!(
            "SELECT v.sequence, v.version, v.bucket, v.key, v.kind, v.writer, v.manifest, v.plain_bytes, \
             v.modified_ms, v.chunks, v.entry_hash, v.record, v.manifest_root, h.pending_shards ",
            $more
        )
    };
}

fn version_row(row: &Row) -> Work<VersionRow> {
    Ok(VersionRow {
        sequence: row.int(0)?,
        version: NewVersion {
            version: VersionId(row.array(1)?),
            bucket: BucketId(row.array(2)?),
            key: row.key(3)?,
            writer: Principal(row.array(5)?),
            manifest: row.cid(6)?,
            plain_bytes: row.number(7)?,
            modified: row.time(8)?,
            entry_hash: row.array(10)?,
            record: row.bytes(11)?,
            predecessor: None,
        },
        kind: version_kind(row.int(4)?)?,
        chunks: row.number(9)?,
        manifest_root: row.bytes(12)?,
        pending_shards: row
            .maybe_int(13)?
            .map_or(Ok(0), u32::try_from)
            .map_err(|error| damaged("pending shards", error))?,
    })
}

pub(crate) async fn current(
    c: &mut Connection,
    bucket: BucketId,
    key: &ObjectKey,
) -> Work<Option<VersionRow>> {
    c.row(
        version_columns!(
            "FROM heads h JOIN versions v ON v.sequence = h.sequence WHERE h.bucket = $1 AND h.key = $2"
        ),
        args![bucket, key],
    )
    .await?
    .map(|row| version_row(&row))
    .transpose()
}

pub(crate) async fn by_id(c: &mut Connection, id: VersionId) -> Work<Option<VersionRow>> {
    c.row(
        version_columns!(
            "FROM versions v LEFT JOIN heads h \
             ON h.bucket = v.bucket AND h.key = v.key AND h.sequence = v.sequence WHERE v.version = $1"
        ),
        args![id],
    )
    .await?
    .map(|row| version_row(&row))
    .transpose()
}

pub(crate) async fn current_with_small(
    c: &mut Connection,
    bucket: BucketId,
    key: &ObjectKey,
) -> Work<Option<(VersionRow, Option<ChunkRow>)>> {
    let row = c
        .row(
            version_columns!(
                ", k.id, k.cid, k.layout, k.pending \
                 FROM heads h JOIN versions v ON v.sequence = h.sequence \
                 LEFT JOIN version_chunks vc ON vc.sequence = v.sequence AND vc.n = 0 AND v.kind = 0 \
                 LEFT JOIN chunks k ON k.id = vc.chunk \
                 WHERE h.bucket = $1 AND h.key = $2"
            ),
            args![bucket, key],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    let small = match row.maybe_int(14)? {
        Some(_) => Some(chunks::chunk_row(&row, 14)?),
        None => None,
    };
    Ok(Some((version_row(&row)?, small)))
}

pub(crate) async fn manifest_page(
    c: &mut Connection,
    version: VersionId,
    page: u32,
) -> Work<Option<Vec<u8>>> {
    c.row(
        "SELECT p.bytes FROM versions v JOIN manifest_pages p ON p.sequence = v.sequence \
         WHERE v.version = $1 AND p.page = $2",
        args![version, page],
    )
    .await?
    .map(|row| row.bytes(0))
    .transpose()
}
