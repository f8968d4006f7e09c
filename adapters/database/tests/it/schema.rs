//! Opening: addresses, schemas of earlier builds, rows that are damaged.

use std::path::{Path, PathBuf};

use database::{ConnectError, Database};
use objects::layout::NodeSlot;
use objects::metadata::{ListQuery, Metadata, MetadataError};
use sqlx::{Connection as _, SqliteConnection};

use crate::backend::{block_on, options};
use crate::make::{self, bucket, bucket_id, key, mutation};

fn fixture(version: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("../../test-data/database/schema-{version}.sqlite"))
}

fn url(path: &Path) -> String {
    format!("sqlite:{}", path.display())
}

/// What the fixtures hold: a small object, one of chunks, a copy, a tombstone, an open upload, a deletion.
async fn fill(db: &Database) {
    let id = bucket(db, 1).await;
    db.start_epoch(make::NOW).await.unwrap();
    db.put_bucket_key(make::bucket_key(id, 1), mutation())
        .await
        .unwrap();
    make::put(db, id, "small", 1).await;
    let chunked = make::put_chunked(db, id, "folder/chunked", 2, 0..2).await;
    let copy = make::copy(chunked, make::version(id, "folder/copy", 3), 3);
    db.copy_version(copy, mutation()).await.unwrap();
    make::put(db, id, "gone", 4).await;
    db.put_tombstone(make::tombstone(id, "gone", 5), mutation())
        .await
        .unwrap();
    make::upload(db, id, "open", 6, 7..8).await;
}

#[test]
#[ignore = "writes the fixture of the present schema; run once for each new schema version, before its release"]
fn write_fixture() {
    let path = fixture(2);
    block_on(async {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let db = Database::connect_with(&url(&path), options())
            .await
            .unwrap();
        fill(&db).await;
        db.close().await;
        let mut raw = SqliteConnection::connect(&path.display().to_string())
            .await
            .unwrap();
        sqlx::raw_sql("PRAGMA journal_mode = DELETE; VACUUM")
            .execute(&mut raw)
            .await
            .unwrap();
        raw.close().await.unwrap();
    });
}

#[test]
fn databases_of_every_schema_version_open() {
    for version in 1..=2 {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metadata.sqlite");
        std::fs::copy(fixture(version), &path).unwrap();
        block_on(async {
            let db = Database::connect_with(&url(&path), options())
                .await
                .unwrap();
            let id = bucket_id(1);
            assert_eq!(
                db.bucket(id).await.unwrap().as_ref(),
                Some(&make::bucket_row(1))
            );
            let query = ListQuery {
                prefix: String::new(),
                delimiter: Some("/".to_owned()),
                after: None,
                limit: 10,
            };
            let page = db.list(id, query).await.unwrap();
            assert_eq!(page.prefixes, ["folder/"]);
            assert_eq!(page.objects[0].key, key("small"));
            let copy = make::version(id, "folder/copy", 3);
            let row = db.version(copy.version).await.unwrap().unwrap();
            assert_eq!(row.version, copy);
            let chunks = db.chunks(copy.version, 0, 9).await.unwrap();
            assert_eq!(chunks[1].layout, make::layout(1));
            assert!(db.start_epoch(make::NOW).await.unwrap() >= make::NOW.0);
            // Chunks of before are found by their shards too.
            let lost = db
                .shards_lost_on(NodeSlot(13), vec![make::layout(1).shards[13].cid])
                .await
                .unwrap();
            assert_eq!(lost, [true], "schema {version}");
            let up = db.uploads(id, 9).await.unwrap()[0].id;
            db.abort_upload(up, mutation()).await.unwrap();
            for (n, name) in (100..).zip(["small", "folder/chunked", "folder/copy"]) {
                db.put_tombstone(make::tombstone(id, name, n), mutation())
                    .await
                    .unwrap();
            }
            make::assert_no_leak(&db).await;
        });
    }
}

#[test]
fn released_migrations_are_not_edited() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    // A change of the schema is a new file with a line of its own here.
    let released = [
        (
            "sqlite/0001_index.sql",
            "356f90c1065fe71eccaf85e208173ba600a1a4882cec488f13cbaa9fe93a9dab",
        ),
        (
            "postgres/0001_index.sql",
            "6b60a31fe42e79258ad5d10ce2f5b535776ce6f0f802f3b72a63ca220fa8d46f",
        ),
        (
            "sqlite/0002_sharing_and_releases.sql",
            "a101a4105cd34338276826655d91111c146ae19afab4900cfac77b8e575bdbb2",
        ),
        (
            "postgres/0002_sharing_and_releases.sql",
            "37984a1acba5e8a78e55dfd3a392603667d6256a4e9fe11a492035695762f107",
        ),
    ];
    for (file, hash) in released {
        let text = std::fs::read(folder.join(file)).unwrap();
        assert_eq!(blake3::hash(&text).to_hex().as_str(), hash, "{file}");
    }
}

#[test]
fn a_schema_of_a_later_build_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.sqlite");
    block_on(async {
        let db = Database::connect(&url(&path)).await.unwrap();
        db.close().await;
        let mut raw = SqliteConnection::connect(&path.display().to_string())
            .await
            .unwrap();
        let later = "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                     VALUES (9999, 'later', 1, X'00', 0)";
        sqlx::query(later).execute(&mut raw).await.unwrap();
        raw.close().await.unwrap();
        let answer = Database::connect(&url(&path)).await;
        assert!(matches!(answer, Err(ConnectError::Migrate(_))));
    });
}

#[test]
fn wrong_addresses_are_refused() {
    block_on(async {
        for address in ["", "metadata.sqlite", "mysql://localhost/x"] {
            let answer = Database::connect(address).await;
            assert!(matches!(answer, Err(ConnectError::Address)), "{address}");
        }
        for address in [
            "sqlite:/nonexistent/folder/metadata.sqlite",
            // Nothing listens on the discard port.
            "postgres://nobody@127.0.0.1:9/none",
        ] {
            let answer = Database::connect(address).await;
            assert!(matches!(answer, Err(ConnectError::Open(_))), "{address}");
        }
    });
}

#[test]
fn a_damaged_row_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metadata.sqlite");
    block_on(async {
        let db = Database::connect(&url(&path)).await.unwrap();
        let id = bucket(&db, 1).await;
        make::put(&db, id, "a", 1).await;
        let mut raw = SqliteConnection::connect(&path.display().to_string())
            .await
            .unwrap();
        let damaged = |answer: Result<(), MetadataError>| {
            assert!(
                matches!(answer, Err(MetadataError::Damaged { .. })),
                "{answer:?}"
            );
        };
        for (damage, repair) in [
            (
                "UPDATE chunks SET layout = X'07'",
                "UPDATE chunks SET layout = X'07', cid = X'00'",
            ),
            (
                "UPDATE versions SET kind = 9",
                "UPDATE versions SET kind = 0",
            ),
            (
                "UPDATE versions SET manifest = X'0102'",
                "UPDATE versions SET plain_bytes = -1",
            ),
        ] {
            for statement in [damage, repair] {
                sqlx::query(statement).execute(&mut raw).await.unwrap();
                damaged(db.current_with_small(id, &key("a")).await.map(drop));
            }
        }
        sqlx::query("UPDATE heads SET key = X'ff'")
            .execute(&mut raw)
            .await
            .unwrap();
        let query = ListQuery {
            prefix: String::new(),
            delimiter: None,
            after: None,
            limit: 10,
        };
        damaged(db.list(id, query).await.map(drop));
    });
}
