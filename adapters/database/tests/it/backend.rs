//! A fresh database for each test.

use std::sync::atomic::{AtomicU32, Ordering};

use database::{Database, Options};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, SqliteConnection};

pub const GRACE_MS: u64 = 30_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

pub struct Fixture {
    pub kind: Kind,
    pub url: String,
    pub db: Database,
}

impl Fixture {
    /// Rows of a table.
    pub async fn rows(&self, table: &str) -> i64 {
        let count = AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"));
        match self.kind {
            Kind::Sqlite => {
                let mut raw = SqliteConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(count).fetch_one(&mut raw).await.unwrap()
            }
            Kind::Postgres => {
                let mut raw = PgConnection::connect(&self.url).await.unwrap();
                sqlx::query_scalar(count).fetch_one(&mut raw).await.unwrap()
            }
        }
    }

    /// A second gateway on the same database; SQLite has one process, so there it is the same handle.
    pub async fn other_gateway(&self) -> Database {
        match self.kind {
            Kind::Sqlite => self.db.clone(),
            Kind::Postgres => Database::connect_with(&self.url, options()).await.unwrap(),
        }
    }
}

pub fn options() -> Options {
    Options {
        grace_ms: GRACE_MS,
        connections: 4,
    }
}

pub fn block_on<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(work)
}

pub fn run(kind: Kind, test: impl AsyncFnOnce(&Fixture)) {
    block_on(async {
        match kind {
            Kind::Sqlite => {
                let folder = tempfile::tempdir().unwrap();
                let url = format!("sqlite:{}", folder.path().join("metadata.sqlite").display());
                let db = Database::connect_with(&url, options()).await.unwrap();
                let fixture = Fixture { kind, url, db };
                test(&fixture).await;
                fixture.db.close().await;
            }
            Kind::Postgres => postgres(test).await,
        }
    });
}

async fn postgres(test: impl AsyncFnOnce(&Fixture)) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let Ok(server) = std::env::var("STRONGROOM_TEST_POSTGRES") else {
        assert_ne!(
            std::env::var("STRONGROOM_REQUIRE_POSTGRES").as_deref(),
            Ok("1"),
            "STRONGROOM_REQUIRE_POSTGRES=1, but STRONGROOM_TEST_POSTGRES names no server"
        );
        eprintln!("skipped: STRONGROOM_TEST_POSTGRES names no server");
        return;
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = format!("strongroom_test_{}_{number}", std::process::id());
    let mut admin = PgConnection::connect(&server).await.unwrap();
    let command = |text: String| AssertSqlSafe(text);
    sqlx::query(command(format!("CREATE DATABASE {name}")))
        .execute(&mut admin)
        .await
        .unwrap();
    let url = with_database(&server, &name);
    let db = Database::connect_with(&url, options()).await.unwrap();
    let kind = Kind::Postgres;
    let fixture = Fixture { kind, url, db };
    test(&fixture).await;
    fixture.db.close().await;
    sqlx::query(command(format!("DROP DATABASE {name} WITH (FORCE)")))
        .execute(&mut admin)
        .await
        .unwrap();
}

/// The server's URL with another database name.
fn with_database(server: &str, name: &str) -> String {
    let (base, query) = match server.split_once('?') {
        Some((base, query)) => (base, format!("?{query}")),
        None => (server, String::new()),
    };
    let (scheme, rest) = base.split_once("://").unwrap();
    let host = rest.split('/').next().unwrap_or_default();
    format!("{scheme}://{host}/{name}{query}")
}
