//! Buckets and bucket keys.

use domain::{BucketId, BucketKeyId, BucketName, Principal};
use objects::metadata::{BucketKeyRow, BucketRow, MetadataError, Mutation};

use crate::connection::{Connection, Row, Work, args, damaged, locked};
use crate::deletions::{self, Owner};
use crate::nonces::spend_nonce;

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, name, owner, profile, record, created_ms FROM buckets ",
            $rest
        )
    };
}

pub(crate) async fn create(c: &mut Connection, bucket: &BucketRow, m: &Mutation) -> Work<bool> {
    let nonce = spend_nonce(c, m).await?;
    deletions::check_recovery(c, &bucket.recovery).await?;
    let taken = c
        .rows(
            "SELECT id, record FROM buckets WHERE id = $1 OR name = $2",
            args![bucket.id, bucket.name.as_str()],
        )
        .await?;
    if let Some(row) = taken.first() {
        let same =
            taken.len() == 1 && row.array(0)? == bucket.id.0 && row.bytes(1)? == bucket.record;
        if !same {
            return Err(MetadataError::Exists("bucket").into());
        }
        nonce.write(c).await?;
        return Ok(false);
    }
    nonce.write(c).await?;
    c.execute(
        "INSERT INTO buckets (id, name, owner, profile, record, created_ms) \
         VALUES ($1, $2, $3, $4, $5, $6)",
        args![
            bucket.id,
            bucket.name.as_str(),
            bucket.owner,
            bucket.profile.to_string().as_str(),
            &bucket.record,
            bucket.created,
        ],
    )
    .await?;
    deletions::insert_recovery(c, &Owner::Bucket(bucket.id), &bucket.recovery).await?;
    Ok(true)
}

/// See [`objects::metadata::Metadata::update_bucket`].
pub(crate) async fn update(
    c: &mut Connection,
    bucket: &BucketRow,
    replaces: &[u8],
    m: &Mutation,
    grace_ms: u64,
) -> Work<bool> {
    let nonce = spend_nonce(c, m).await?;
    deletions::check_recovery(c, &bucket.recovery).await?;
    let present = c
        .row(
            locked!("SELECT record FROM buckets WHERE id = $1"),
            args![bucket.id],
        )
        .await?
        .ok_or(MetadataError::NotFound("bucket"))?
        .bytes(0)?;
    if present == bucket.record {
        nonce.write(c).await?;
        return Ok(false);
    }
    if present != replaces {
        return Err(MetadataError::Superseded.into());
    }
    nonce.write(c).await?;
    let owner = Owner::Bucket(bucket.id);
    let due = m.now.0.saturating_add(grace_ms);
    c.script(
        deletions::RELEASE_RECOVERY,
        args![owner.bytes(), due, deletions::all_indices()],
    )
    .await?;
    deletions::insert_recovery(c, &owner, &bucket.recovery).await?;
    c.execute(
        "UPDATE buckets SET record = $2 WHERE id = $1",
        args![bucket.id, &bucket.record],
    )
    .await?;
    Ok(true)
}

async fn bucket_row(c: &mut Connection, row: &Row) -> Work<BucketRow> {
    let id = BucketId(row.array(0)?);
    Ok(BucketRow {
        id,
        name: row
            .text(1)?
            .parse()
            .map_err(|error| damaged("bucket name", error))?,
        owner: Principal(row.array(2)?),
        profile: row
            .text(3)?
            .parse()
            .map_err(|error| damaged("coding profile", error))?,
        record: row.bytes(4)?,
        created: row.time(5)?,
        recovery: deletions::recovery(c, &Owner::Bucket(id)).await?,
    })
}

async fn maybe(c: &mut Connection, row: Option<Row>) -> Work<Option<BucketRow>> {
    match row {
        Some(row) => bucket_row(c, &row).await.map(Some),
        None => Ok(None),
    }
}

pub(crate) async fn by_name(c: &mut Connection, name: &BucketName) -> Work<Option<BucketRow>> {
    let row = c
        .row(select!("WHERE name = $1"), args![name.as_str()])
        .await?;
    maybe(c, row).await
}

pub(crate) async fn by_id(c: &mut Connection, id: BucketId) -> Work<Option<BucketRow>> {
    let row = c.row(select!("WHERE id = $1"), args![id]).await?;
    maybe(c, row).await
}

pub(crate) async fn page(
    c: &mut Connection,
    after: Option<&BucketName>,
    limit: usize,
) -> Work<Vec<BucketRow>> {
    let after = after.map_or("", BucketName::as_str);
    let rows = c
        .rows(
            select!("WHERE name > $1 ORDER BY name LIMIT $2"),
            args![after, limit],
        )
        .await?;
    let mut buckets = Vec::with_capacity(rows.len());
    for row in &rows {
        buckets.push(bucket_row(c, row).await?);
    }
    Ok(buckets)
}

pub(crate) async fn delete(
    c: &mut Connection,
    id: BucketId,
    m: &Mutation,
    grace_ms: u64,
) -> Work<()> {
    let nonce = spend_nonce(c, m).await?;
    c.row(locked!("SELECT id FROM buckets WHERE id = $1"), args![id])
        .await?
        .ok_or(MetadataError::NotFound("bucket"))?;
    let used = c
        .one(
            "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM heads WHERE bucket = $1) \
             OR EXISTS (SELECT 1 FROM uploads WHERE bucket = $1 AND completed IS NULL) \
             THEN 1 ELSE 0 END AS BIGINT)",
            args![id],
        )
        .await?
        .int(0)?;
    if used != 0 {
        return Err(MetadataError::BucketNotEmpty.into());
    }
    nonce.write(c).await?;
    let due = m.now.0.saturating_add(grace_ms);
    release_recovery(c, id, due).await?;
    c.script(
        crate::connection::script![
            "DELETE FROM versions WHERE sequence IN (SELECT sequence FROM tombstones WHERE bucket = $1)",
            "DELETE FROM tombstones WHERE bucket = $1",
            "DELETE FROM bucket_keys WHERE bucket = $1",
            "DELETE FROM uploads WHERE bucket = $1",
            "DELETE FROM buckets WHERE id = $1",
        ],
        args![id],
    )
    .await?;
    Ok(())
}

/// All recovery records of an empty bucket become deletions.
async fn release_recovery(c: &mut Connection, id: BucketId, due: u64) -> Work<()> {
    let mut owners = vec![Owner::Bucket(id)];
    let keys = c
        .rows("SELECT id FROM bucket_keys WHERE bucket = $1", args![id])
        .await?;
    for row in &keys {
        owners.push(Owner::BucketKey(id, BucketKeyId(row.array(0)?)));
    }
    let tombstones = c
        .rows(
            "SELECT v.version FROM tombstones t JOIN versions v ON v.sequence = t.sequence \
             WHERE t.bucket = $1",
            args![id],
        )
        .await?;
    for row in &tombstones {
        owners.push(Owner::Version(domain::VersionId(row.array(0)?)));
    }
    for owner in owners {
        c.script(
            deletions::RELEASE_RECOVERY,
            args![owner.bytes(), due, deletions::all_indices()],
        )
        .await?;
    }
    Ok(())
}

pub(crate) async fn put_key(c: &mut Connection, key: &BucketKeyRow, m: &Mutation) -> Work<bool> {
    let nonce = spend_nonce(c, m).await?;
    deletions::check_recovery(c, &key.recovery).await?;
    c.row("SELECT id FROM buckets WHERE id = $1", args![key.bucket])
        .await?
        .ok_or(MetadataError::NotFound("bucket"))?;
    let known = c
        .row(
            "SELECT record FROM bucket_keys WHERE bucket = $1 AND id = $2",
            args![key.bucket, key.id],
        )
        .await?;
    if let Some(row) = known {
        if row.bytes(0)? != key.record {
            return Err(MetadataError::Exists("bucket key").into());
        }
        nonce.write(c).await?;
        return Ok(false);
    }
    nonce.write(c).await?;
    c.execute(
        "INSERT INTO bucket_keys (bucket, id, writer, record) VALUES ($1, $2, $3, $4)",
        args![key.bucket, key.id, key.writer, &key.record],
    )
    .await?;
    let owner = Owner::BucketKey(key.bucket, key.id);
    deletions::insert_recovery(c, &owner, &key.recovery).await?;
    Ok(true)
}

pub(crate) async fn key(
    c: &mut Connection,
    bucket: BucketId,
    id: BucketKeyId,
) -> Work<Option<BucketKeyRow>> {
    let row = c
        .row(
            "SELECT writer, record FROM bucket_keys WHERE bucket = $1 AND id = $2",
            args![bucket, id],
        )
        .await?;
    let Some(row) = row else {
        return Ok(None);
    };
    Ok(Some(BucketKeyRow {
        id,
        bucket,
        writer: Principal(row.array(0)?),
        record: row.bytes(1)?,
        recovery: deletions::recovery(c, &Owner::BucketKey(bucket, id)).await?,
    }))
}
