//! Listing a bucket: the rules are [`buckets::listing`]'s, the keys come from `heads` in its clustered order.

use buckets::listing::{Folder, Next, Seek};
use domain::{BucketId, Principal, VersionId};
use objects::metadata::{ListPage, ListQuery, ListedObject};

use crate::connection::{Connection, Failure, Row, Work, args, damaged};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT key, version, manifest, plain_bytes, modified_ms, writer, pending_shards \
             FROM heads WHERE bucket = $1 AND ",
            $rest
        )
    };
}

pub(crate) async fn list(
    c: &mut Connection,
    bucket: BucketId,
    query: &ListQuery,
) -> Work<ListPage> {
    let limit = query.limit.clamp(1, domain::limits::LIST_KEYS_MAX);
    let mut folder = Folder::new(
        &query.prefix,
        query.delimiter.as_deref(),
        query.after.as_deref(),
        limit,
    );
    while let Some(seek) = folder.seek() {
        for row in fetch(c, bucket, seek).await? {
            let key = row.bytes(0)?;
            let key = std::str::from_utf8(&key).map_err(|error| damaged("object key", error))?;
            let next = folder.offer::<Failure>(key, || listed(&row))?;
            if next == Next::Stop {
                break;
            }
        }
    }
    let page = folder.finish();
    Ok(ListPage {
        objects: page.items,
        prefixes: page.prefixes,
        next: page.next,
    })
}

async fn fetch(c: &mut Connection, bucket: BucketId, seek: Seek) -> Work<Vec<Row>> {
    // `key >= from || 0x00` would do for an exclusive bound, but only while no key may hold a NUL.
    match (seek.exclusive, seek.until) {
        (true, Some(until)) => {
            let sql = select!("key > $2 AND key < $3 ORDER BY key LIMIT $4");
            c.rows(sql, args![bucket, seek.from, until, seek.rows])
                .await
        }
        (false, Some(until)) => {
            let sql = select!("key >= $2 AND key < $3 ORDER BY key LIMIT $4");
            c.rows(sql, args![bucket, seek.from, until, seek.rows])
                .await
        }
        (true, None) => {
            let sql = select!("key > $2 ORDER BY key LIMIT $3");
            c.rows(sql, args![bucket, seek.from, seek.rows]).await
        }
        (false, None) => {
            let sql = select!("key >= $2 ORDER BY key LIMIT $3");
            c.rows(sql, args![bucket, seek.from, seek.rows]).await
        }
    }
}

fn listed(row: &Row) -> Work<ListedObject> {
    Ok(ListedObject {
        key: row.key(0)?,
        version: VersionId(row.array(1)?),
        manifest: row.cid(2)?,
        plain_bytes: row.number(3)?,
        modified: row.time(4)?,
        writer: Principal(row.array(5)?),
        fully_placed: row.int(6)? == 0,
    })
}
