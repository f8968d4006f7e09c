-- Shards that several chunks share, versions that stay readable for a while, answers to late repeats, recovery records
-- on their way to five copies, manifest pages that arrive before the completion.

-- Which chunks have a shard that begins with these eight bytes of digest. Only chunks with k > 1: with k = 1 the
-- shard's CID is the chunk's. Rows stay until the chunk's last deletion is confirmed.
CREATE TABLE chunk_shards (
    shard BYTEA NOT NULL,
    chunk BIGINT NOT NULL,
    PRIMARY KEY (shard, chunk)
);
INSERT INTO chunk_shards (shard, chunk)
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 254)
    SELECT substr(k.layout, 10 + 34 * n.i, 8), k.id FROM chunks k JOIN n ON n.i < k.shards
    WHERE get_byte(k.layout, 1) > 1
    ON CONFLICT DO NOTHING;

-- Whose shards a deletion takes: the chunk's id, also when the chunk is gone; negative for deletions of before.
ALTER TABLE deletions ADD COLUMN chunk BIGINT;
UPDATE deletions SET chunk = -id;
CREATE INDEX deletions_by_chunk ON deletions (chunk);
INSERT INTO chunk_shards (shard, chunk)
    WITH RECURSIVE n (i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM n WHERE i < 254)
    SELECT substr(d.layout, 10 + 34 * n.i, 8), d.chunk FROM deletions d JOIN n ON n.i < (length(d.layout) - 7) / 34
    WHERE get_byte(d.layout, 1) > 1
    ON CONFLICT DO NOTHING;

-- Versions that are no longer current: readable by their id until they fall due, then let go of.
CREATE TABLE releases (
    due_ms BIGINT NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (due_ms, sequence)
);

-- What became of entries whose versions are gone, for whoever asks again late.
CREATE TABLE past_versions (
    version BYTEA PRIMARY KEY,
    entry_hash BYTEA NOT NULL,
    sequence BIGINT NOT NULL,
    replaced BYTEA,
    until_ms BIGINT NOT NULL
);
CREATE INDEX past_versions_by_time ON past_versions (until_ms);

-- Copies that are not on their nodes yet.
ALTER TABLE recovery ADD COLUMN pending BYTEA NOT NULL DEFAULT ''::bytea;
ALTER TABLE recovery ADD COLUMN pending_count BIGINT NOT NULL DEFAULT 0;
CREATE INDEX recovery_pending ON recovery (id) WHERE pending_count > 0;

-- When something last arrived for an upload (to ten seconds).
ALTER TABLE uploads ADD COLUMN touched_ms BIGINT NOT NULL DEFAULT 0;
UPDATE uploads SET touched_ms = created_ms;
DROP INDEX uploads_stale;
CREATE INDEX uploads_idle ON uploads (touched_ms) WHERE completed IS NULL;

-- Manifest pages that wait for the completion. choices: the digests (32 bytes each) of the page's chunks, in order.
CREATE TABLE upload_pages (
    upload BYTEA NOT NULL,
    page BIGINT NOT NULL,
    cid BYTEA NOT NULL,
    choices BYTEA NOT NULL,
    bytes BYTEA NOT NULL,
    PRIMARY KEY (upload, page)
);
