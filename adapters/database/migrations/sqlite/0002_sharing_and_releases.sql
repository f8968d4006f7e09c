-- Shards that several chunks share, versions that stay readable for a while, answers to late repeats, recovery records
-- on their way to five copies, manifest pages that arrive before the completion.

-- Which chunks have a shard that begins with these eight bytes of digest. Only chunks with k > 1: with k = 1 the
-- shard's CID is the chunk's. Rows stay until the chunk's last deletion is confirmed.
CREATE TABLE chunk_shards (
    shard BLOB NOT NULL,
    chunk INTEGER NOT NULL,
    PRIMARY KEY (shard, chunk)
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO chunk_shards (shard, chunk)
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 254)
    SELECT substr(k.layout, 10 + 34 * n.i, 8), k.id FROM chunks k JOIN n ON n.i < k.shards
    WHERE substr(k.layout, 2, 1) > X'01';

-- Whose shards a deletion takes: the chunk's id, also when the chunk is gone; negative for deletions of before.
ALTER TABLE deletions ADD COLUMN chunk INTEGER;
UPDATE deletions SET chunk = -id;
CREATE INDEX deletions_by_chunk ON deletions (chunk);
INSERT OR IGNORE INTO chunk_shards (shard, chunk)
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 254)
    SELECT substr(d.layout, 10 + 34 * n.i, 8), d.chunk FROM deletions d JOIN n ON n.i < (length(d.layout) - 7) / 34
    WHERE substr(d.layout, 2, 1) > X'01';

-- Versions that are no longer current: readable by their id until they fall due, then let go of.
CREATE TABLE releases (
    due_ms INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (due_ms, sequence)
) STRICT, WITHOUT ROWID;

-- What became of entries whose versions are gone, for whoever asks again late.
CREATE TABLE past_versions (
    version BLOB PRIMARY KEY,
    entry_hash BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    replaced BLOB,
    until_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX past_versions_by_time ON past_versions (until_ms);

-- Copies that are not on their nodes yet.
ALTER TABLE recovery ADD COLUMN pending BLOB NOT NULL DEFAULT X'';
ALTER TABLE recovery ADD COLUMN pending_count INTEGER NOT NULL DEFAULT 0;
CREATE INDEX recovery_pending ON recovery (id) WHERE pending_count > 0;

-- When something last arrived for an upload (to ten seconds).
ALTER TABLE uploads ADD COLUMN touched_ms INTEGER NOT NULL DEFAULT 0;
UPDATE uploads SET touched_ms = created_ms;
DROP INDEX uploads_stale;
CREATE INDEX uploads_idle ON uploads (touched_ms) WHERE completed IS NULL;

-- Manifest pages that wait for the completion. choices: the digests (32 bytes each) of the page's chunks, in order.
CREATE TABLE upload_pages (
    upload BLOB NOT NULL,
    page INTEGER NOT NULL,
    cid BLOB NOT NULL,
    choices BLOB NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (upload, page)
) STRICT;
