//! Small objects: one record, one transaction, and the hottest mutation there is.

use domain::{TimestampMs, VersionId};
use objects::metadata::{Committed, Mutation, PutSmall, VersionKind};

use crate::chunks::{self, Kind};
use crate::connection::{Connection, Script, Value, Work, args, damaged, script};
use crate::nonces::spend_nonce;
use crate::releases::put_off;
use crate::versions::{Checked, Head, Insert, check, due, insert, lift_tombstone, point};
use crate::{deletions, shard_index};

/// What the fast path of [`put_small`] needs to know, in one query: whether the bucket is there, how much else is in the
/// way, and the key's present version.
const GLANCE: &str = "SELECT (SELECT COUNT(*) FROM buckets WHERE id = $1), \
    (SELECT COUNT(*) FROM nonces WHERE expires_ms = $3 AND principal = $4 AND nonce = $5) \
    + (SELECT COUNT(*) FROM versions WHERE version = $6) \
    + (SELECT COUNT(*) FROM past_versions WHERE version = $6) \
    + (SELECT COUNT(*) FROM tombstones WHERE bucket = $1 AND key = $2) \
    + (SELECT COUNT(*) FROM chunks WHERE cid_prefix = $7) \
    + (SELECT COUNT(*) FROM deletions WHERE cid_prefix = $7), \
    (SELECT sequence FROM heads WHERE bucket = $1 AND key = $2), \
    (SELECT version FROM heads WHERE bucket = $1 AND key = $2)";

/// Everything that a small object writes; the last statement, on the head, answers with the sequence.
macro_rules! put_script {
    ($head:literal) => {
        script![
            "INSERT INTO nonces (expires_ms, principal, nonce) SELECT $3, $4, $5 WHERE $3 >= 0",
            "INSERT INTO versions (version, bucket, key, kind, writer, manifest, plain_bytes, modified_ms, \
             chunks, entry_hash, replaced, record, manifest_root) \
             VALUES ($6, $1, $2, 0, $8, $9, $10, $11, 1, $12, $21, $13, $14)",
            "INSERT INTO chunks (kind, cid, layout, shards, cid_prefix, stored_bytes, pending, pending_count, \
             acknowledged, refs) VALUES (1, $15, $16, $17, $7, $18, $19, $20, 1, 1)",
            "INSERT INTO version_chunks (sequence, n, chunk) SELECT v.sequence, 0, k.id \
             FROM versions v, chunks k WHERE v.version = $6 AND k.cid_prefix = $7 AND k.cid = $15",
            $head
        ]
    };
}

const PUT_FRESH: Script = put_script!(
    "INSERT INTO heads (bucket, key, sequence, version, manifest, plain_bytes, modified_ms, writer, \
     pending_shards) SELECT $1, $2, sequence, $6, $9, $10, $11, $8, $20 FROM versions WHERE version = $6 \
     RETURNING sequence"
);

const PUT_OVER: Script = put_script!(
    "UPDATE heads SET sequence = (SELECT sequence FROM versions WHERE version = $6), version = $6, \
     manifest = $9, plain_bytes = $10, modified_ms = $11, writer = $8, pending_shards = $20 \
     WHERE bucket = $1 AND key = $2 RETURNING sequence"
);

/// A small object in the usual case, in few round trips instead of a dozen.
///
/// `None` when anything is in the way (then nothing was written, and the long way finds out what). For a new key the
/// unique keys of heads, versions, nonces and chunks hold off another gateway that has the same idea at the same time;
/// for a key that has a version its head would have to be locked first, so there this is SQLite's alone.
async fn put_fast(
    c: &mut Connection,
    put: &PutSmall,
    m: &Mutation,
    due: TimestampMs,
) -> Work<Option<Committed>> {
    let new = &put.version;
    let (expires, principal, nonce) = match &m.nonce {
        Some(nonce) => (
            Value::from(nonce.expires),
            Value::from(nonce.principal),
            Value::from(&nonce.nonce),
        ),
        None => (
            Value::from(-1_i64),
            Value::from(&[0; 1]),
            Value::from(&[0; 1]),
        ),
    };
    let mut arguments = vec![
        Value::from(new.bucket),
        Value::from(&new.key),
        expires,
        principal,
        nonce,
        Value::from(new.version),
        Value::from(deletions::cid_prefix(&put.record_cid)),
    ];
    let seen = c.one(GLANCE, arguments.clone()).await?;
    let head = match (seen.maybe_int(2)?, seen.maybe_array(3)?) {
        (Some(sequence), Some(version)) => Some(Head {
            sequence,
            version: VersionId(version),
        }),
        _ => None,
    };
    let present = head.as_ref().map(|head| head.version);
    let in_the_way = seen.int(0)? != 1
        || seen.int(1)? != 0
        || new.predecessor.is_some_and(|expected| expected != present)
        || (head.is_some() && c.shared());
    if in_the_way {
        return Ok(None);
    }
    let pending = chunks::pending_list(put.pending.clone(), &put.layout);
    arguments.extend(args![
        new.writer,
        new.manifest,
        new.plain_bytes,
        new.modified,
        &new.entry_hash,
        &new.record,
        &put.manifest_root,
        put.record_cid,
        put.layout.encode(),
        put.layout.shards.len(),
        deletions::stored_bytes(&put.layout),
        &pending,
        pending.len(),
        present,
    ]);
    let sequence = match &head {
        Some(head) => {
            let sequence = c.script_insert(PUT_OVER, arguments).await?;
            put_off(c, head.sequence, due).await?;
            sequence
        }
        None => {
            let sequence = c.script_insert(PUT_FRESH, arguments).await?;
            if c.shared() {
                lift_tombstone(c, new, due).await?;
            }
            sequence
        }
    };
    Ok(Some(Committed {
        sequence,
        replaced: present,
        fresh: true,
    }))
}

/// See [`objects::metadata::Metadata::put_small`].
pub(crate) async fn put_small(
    c: &mut Connection,
    put: &PutSmall,
    m: &Mutation,
    grace_ms: u64,
) -> Work<Committed> {
    deletions::check(&put.layout)?;
    if put.layout.profile.data() != 1 {
        return Err(damaged(
            "layout record",
            "a small record that is not copies",
        ));
    }
    let due = due(m, grace_ms);
    if let Some(committed) = put_fast(c, put, m, due).await? {
        return Ok(committed);
    }
    let nonce = spend_nonce(c, m).await?;
    let before = match check(c, &put.version).await? {
        Checked::Repeat(committed) => {
            // The repeat wrote the record again, perhaps to other nodes.
            let stored = chunks::one_of_version(c, put.version.version, 0).await?;
            nonce.write(c).await?;
            let extra = match stored {
                Some(stored) => deletions::superseded(&put.layout, &stored.layout),
                // What it repeats is gone, so nothing of it is wanted.
                None => deletions::indices(&put.layout, |_| true),
            };
            deletions::insert(c, put.record_cid, None, &put.layout, extra, due).await?;
            return Ok(committed);
        }
        Checked::Fresh(before) => before,
    };
    let held = chunks::find(c, put.record_cid).await?;
    if held.is_none() {
        let (cid, places) = (put.record_cid, &put.layout.shards);
        shard_index::refuse_if_being_deleted(c, Some(cid), places).await?;
    }
    nonce.write(c).await?;
    let replaced = before.as_ref().map(|head| head.version);
    let sequence = insert(
        c,
        Insert {
            new: &put.version,
            kind: VersionKind::Small,
            chunks: 1,
            manifest_root: &put.manifest_root,
            replaced,
        },
    )
    .await?;
    let (chunk, pending_shards) = match held {
        Some(held) => {
            chunks::hold(c, held.id).await?;
            let extra = deletions::superseded(&put.layout, &held.layout);
            deletions::insert(c, put.record_cid, None, &put.layout, extra, due).await?;
            (held.id, held.pending.len())
        }
        None => {
            let pending = chunks::pending_list(put.pending.clone(), &put.layout);
            let (cid, layout) = (put.record_cid, &put.layout);
            let id = chunks::insert(c, Kind::Small, cid, layout, &pending, true).await?;
            (id, pending.len())
        }
    };
    c.execute(
        "INSERT INTO version_chunks (sequence, n, chunk) VALUES ($1, 0, $2)",
        args![sequence, chunk],
    )
    .await?;
    let pending_shards = i64::try_from(pending_shards).unwrap_or(i64::MAX);
    point(
        c,
        &put.version,
        sequence,
        pending_shards,
        before.as_ref(),
        due,
    )
    .await?;
    Ok(Committed {
        sequence,
        replaced,
        fresh: true,
    })
}
