//! Sums over the whole index.

use objects::metadata::Space;

use crate::connection::{Connection, Work, args};

/// Every sum is taken in the one statement, so that they belong together.
const SUMS: &str = "SELECT \
    (SELECT COUNT(*) FROM buckets), \
    (SELECT COUNT(*) FROM heads), \
    (SELECT CAST(COALESCE(SUM(plain_bytes), 0) AS BIGINT) FROM heads), \
    (SELECT COUNT(*) FROM chunks), \
    (SELECT CAST(COALESCE(SUM(stored_bytes), 0) AS BIGINT) FROM chunks), \
    (SELECT COUNT(*) FROM uploads WHERE completed IS NULL), \
    (SELECT CAST(COALESCE(SUM(pending_count), 0) AS BIGINT) FROM chunks \
     WHERE pending_count > 0 AND acknowledged = 1), \
    (SELECT COUNT(*) FROM deletions) + (SELECT COUNT(*) FROM releases), \
    (SELECT CAST(COALESCE(SUM(stored_bytes), 0) AS BIGINT) FROM recovery), \
    (SELECT CAST(COALESCE(SUM(pending_count), 0) AS BIGINT) FROM recovery WHERE pending_count > 0)";

pub(crate) async fn sums(c: &mut Connection) -> Work<Space> {
    let row = c.one(SUMS, args![]).await?;
    Ok(Space {
        buckets: row.number(0)?,
        objects: row.number(1)?,
        plain_bytes: row.number(2)?,
        chunks: row.number(3)?,
        shard_bytes: row.number(4)?,
        uploads: row.number(5)?,
        pending_shards: row.number(6)?,
        deletions: row.number(7)?,
        recovery_bytes: row.number(8)?,
        pending_copies: row.number(9)?,
    })
}

pub(crate) async fn unplaced(c: &mut Connection) -> Work<u64> {
    c.one(
        "SELECT COUNT(*) FROM heads WHERE pending_shards > 0",
        args![],
    )
    .await?
    .number(0)
}

pub(crate) async fn ping(c: &mut Connection) -> Work<()> {
    c.one("SELECT CAST(1 AS BIGINT)", args![]).await?.int(0)?;
    Ok(())
}
