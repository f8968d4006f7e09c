//! Versions that are no longer current: readable by their id for a grace, then let go of, then remembered for whoever
//! asks again what became of their entry.

use domain::{TimestampMs, VersionId};

use crate::connection::{Connection, Work, args, locked, script};
use crate::deletions::{self, Owner};

/// How long the answer of a version that is gone is remembered. An entry is accepted until 15 minutes after the time that
/// it bears, which may be 15 minutes ahead: nothing older can come again.
const REMEMBERED_MS: u64 = 60 * 60 * 1_000;

/// Puts off the release of a version that is no longer current: until `due` it is readable by its id.
pub(crate) async fn put_off(c: &mut Connection, sequence: i64, due: TimestampMs) -> Work<()> {
    c.execute(
        "INSERT INTO releases (due_ms, sequence) VALUES ($1, $2)",
        args![due, sequence],
    )
    .await?;
    Ok(())
}

/// See [`objects::metadata::Metadata::release_due`].
pub(crate) async fn release_due(c: &mut Connection, now: TimestampMs, limit: usize) -> Work<u64> {
    let rows = c
        .rows(
            locked!(
                "SELECT r.due_ms, r.sequence, v.version FROM releases r JOIN versions v ON v.sequence = r.sequence \
                 WHERE r.due_ms <= $1 ORDER BY r.due_ms, r.sequence LIMIT $2",
                " OF r"
            ),
            args![now, limit],
        )
        .await?;
    let mut released = 0;
    for row in &rows {
        let (due, sequence) = (row.int(0)?, row.int(1)?);
        release(c, due, sequence, now).await?;
        let owner = Owner::Version(VersionId(row.array(2)?));
        c.script(
            deletions::RELEASE_RECOVERY,
            args![owner.bytes(), now, deletions::all_indices()],
        )
        .await?;
        released += 1;
    }
    Ok(released)
}

/// Removes a version's rows; chunks that nothing else holds become deletions that are due now.
async fn release(c: &mut Connection, due: i64, sequence: i64, now: TimestampMs) -> Work<()> {
    c.script(
        script![
            // A chunk may be part of one version several times.
            "UPDATE chunks SET refs = refs - \
             (SELECT COUNT(*) FROM version_chunks WHERE sequence = $1 AND chunk = chunks.id) \
             WHERE id IN (SELECT chunk FROM version_chunks WHERE sequence = $1)",
            "INSERT INTO deletions (cid, layout, cid_prefix, remaining, due_ms, chunk) \
             SELECT cid, layout, cid_prefix, substr($3, 1, CAST(shards AS INTEGER)), $2, id FROM chunks \
             WHERE refs = 0 AND id IN (SELECT chunk FROM version_chunks WHERE sequence = $1)",
            "DELETE FROM chunks \
             WHERE refs = 0 AND id IN (SELECT chunk FROM version_chunks WHERE sequence = $1)",
            "DELETE FROM version_chunks WHERE sequence = $1",
            "DELETE FROM manifest_pages WHERE sequence = $1",
        ],
        args![sequence, now, deletions::all_indices()],
    )
    .await?;
    c.script(
        script![
            "INSERT INTO past_versions (version, entry_hash, sequence, replaced, until_ms) \
             SELECT version, entry_hash, sequence, replaced, $2 FROM versions WHERE sequence = $1",
            "DELETE FROM versions WHERE sequence = $1",
            "DELETE FROM releases WHERE sequence = $1 AND due_ms = $3",
        ],
        args![sequence, now.0.saturating_add(REMEMBERED_MS), due],
    )
    .await?;
    Ok(())
}

/// Forgets what nobody can ask for any more; returns how many.
pub(crate) async fn forget_past(c: &mut Connection, now: TimestampMs) -> Work<u64> {
    const AT_ONCE: i64 = 5_000;
    c.execute(
        "DELETE FROM past_versions WHERE version IN (SELECT version FROM past_versions \
         WHERE until_ms < $1 ORDER BY until_ms LIMIT $2)",
        args![now, AT_ONCE],
    )
    .await
}
