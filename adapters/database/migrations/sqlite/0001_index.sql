-- The metadata index, schema version 1. Released migrations are never edited: a change is a new file.
-- Keys and ids are BLOBs, so that their order is the order of their bytes. Times are milliseconds since 1970.

CREATE TABLE gateway_starts (
    epoch INTEGER PRIMARY KEY,
    started_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE nodes (
    slot INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    zone TEXT NOT NULL,
    address TEXT NOT NULL,
    weight INTEGER NOT NULL
) STRICT;

-- Clustered by expiry: inserts touch neighbouring pages, and expiring is deleting a range.
CREATE TABLE nonces (
    expires_ms INTEGER NOT NULL,
    principal BLOB NOT NULL,
    nonce BLOB NOT NULL,
    PRIMARY KEY (expires_ms, principal, nonce)
) STRICT, WITHOUT ROWID;

CREATE TABLE buckets (
    id BLOB PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    owner BLOB NOT NULL,
    profile TEXT NOT NULL,
    record BLOB NOT NULL,
    created_ms INTEGER NOT NULL
) STRICT;

CREATE TABLE bucket_keys (
    bucket BLOB NOT NULL,
    id BLOB NOT NULL,
    writer BLOB NOT NULL,
    record BLOB NOT NULL,
    PRIMARY KEY (bucket, id)
) STRICT, WITHOUT ROWID;

-- One row per chunk or small record (kind 1). AUTOINCREMENT: an id is never given out twice, because a gateway may
-- still speak of a chunk that is gone. A
-- CID has one row, however many slots and versions refer to it. cid_prefix: the first eight bytes of the CID's digest.
CREATE TABLE chunks (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    kind INTEGER NOT NULL,
    cid BLOB NOT NULL,
    layout BLOB NOT NULL,
    shards INTEGER NOT NULL,
    cid_prefix INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL,
    pending BLOB NOT NULL,
    pending_count INTEGER NOT NULL,
    acknowledged INTEGER NOT NULL,
    refs INTEGER NOT NULL
) STRICT;
CREATE INDEX chunks_by_prefix ON chunks (cid_prefix);
CREATE INDEX chunks_pending ON chunks (id) WHERE pending_count > 0 AND acknowledged = 1;

-- Sealed recovery records. owner: a kind byte and the id of the bucket, bucket key or version they belong to.
CREATE TABLE recovery (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    owner BLOB NOT NULL,
    cid BLOB NOT NULL,
    layout BLOB NOT NULL,
    shards INTEGER NOT NULL,
    cid_prefix INTEGER NOT NULL,
    stored_bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX recovery_by_owner ON recovery (owner);
CREATE INDEX recovery_by_prefix ON recovery (cid_prefix);

-- Shards that must go: remaining holds the indices (one byte each) whose nodes have not confirmed.
CREATE TABLE deletions (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    cid BLOB NOT NULL,
    layout BLOB NOT NULL,
    cid_prefix INTEGER NOT NULL,
    remaining BLOB NOT NULL,
    due_ms INTEGER NOT NULL
) STRICT;
CREATE INDEX deletions_by_time ON deletions (due_ms);
CREATE INDEX deletions_by_prefix ON deletions (cid_prefix);

-- What never changes of a version. kind: 0 small, 1 chunked, 2 tombstone. replaced: the version it took the place of.
CREATE TABLE versions (
    sequence INTEGER PRIMARY KEY AUTOINCREMENT,
    version BLOB NOT NULL UNIQUE,
    bucket BLOB NOT NULL,
    key BLOB NOT NULL,
    kind INTEGER NOT NULL,
    writer BLOB NOT NULL,
    manifest BLOB NOT NULL,
    plain_bytes INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    chunks INTEGER NOT NULL,
    entry_hash BLOB NOT NULL,
    replaced BLOB,
    record BLOB NOT NULL,
    manifest_root BLOB NOT NULL
) STRICT;

CREATE TABLE version_chunks (
    sequence INTEGER NOT NULL,
    n INTEGER NOT NULL,
    chunk INTEGER NOT NULL,
    PRIMARY KEY (sequence, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX version_chunks_by_chunk ON version_chunks (chunk);

CREATE TABLE manifest_pages (
    sequence INTEGER NOT NULL,
    page INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    PRIMARY KEY (sequence, page)
) STRICT;

-- The current version of each key that has one, with all that a listing shows, clustered in listing order.
CREATE TABLE heads (
    bucket BLOB NOT NULL,
    key BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    version BLOB NOT NULL,
    manifest BLOB NOT NULL,
    plain_bytes INTEGER NOT NULL,
    modified_ms INTEGER NOT NULL,
    writer BLOB NOT NULL,
    pending_shards INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX heads_unplaced ON heads (bucket, key) WHERE pending_shards > 0;

-- Deleted keys: apart from heads, so that listing never wades through them.
CREATE TABLE tombstones (
    bucket BLOB NOT NULL,
    key BLOB NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (bucket, key)
) STRICT, WITHOUT ROWID;

-- sequence, replaced and entry_hash: the answer of the completion, for a client that asks again.
CREATE TABLE uploads (
    id BLOB PRIMARY KEY,
    bucket BLOB NOT NULL,
    key BLOB NOT NULL,
    principal BLOB NOT NULL,
    created_ms INTEGER NOT NULL,
    completed BLOB,
    completed_ms INTEGER,
    sequence INTEGER,
    replaced BLOB,
    entry_hash BLOB
) STRICT;
CREATE INDEX uploads_open ON uploads (bucket, created_ms) WHERE completed IS NULL;
CREATE INDEX uploads_stale ON uploads (created_ms) WHERE completed IS NULL;
CREATE INDEX uploads_completed ON uploads (completed_ms) WHERE completed IS NOT NULL;

CREATE TABLE slots (
    upload BLOB NOT NULL,
    n INTEGER NOT NULL,
    cid BLOB NOT NULL,
    chunk INTEGER NOT NULL,
    PRIMARY KEY (upload, n, cid)
) STRICT, WITHOUT ROWID;
