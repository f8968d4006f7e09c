//! The metadata index on SQLite (embedded) and PostgreSQL (a fleet): implements [`objects::metadata::Metadata`].
//!
//! One set of statements and rules serves both databases (`connection`). What differs is how a mutation becomes
//! durable: SQLite has one writer that commits many mutations with one fsync (`sqlite`); PostgreSQL runs each in a
//! transaction of its own and repeats it when it met another (`postgres`). Neither uses triggers, session state or
//! anything else that a wire-compatible distributed database refuses.
//!
//! This crate opens no sealed record, checks no signature and decides nothing about placement.

mod buckets_table;
mod chunks;
mod connection;
mod deletions;
mod listing;
mod metadata;
mod migrations;
mod nodes;
mod nonces;
mod postgres;
mod releases;
mod shard_index;
mod small;
mod space;
mod sqlite;
mod sqlite_readers;
mod uploads;
mod version_rows;
mod versions;

use std::sync::Arc;

use sqlx::PgPool;

/// Milliseconds that replaced and deleted data stays readable by default.
pub const GRACE_MS: u64 = 30_000;

/// Why no database could be opened.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Neither `sqlite:PATH` nor `postgres://…`.
    #[error("not a database address: use sqlite:PATH or postgres://USER@HOST/DATABASE")]
    Address,
    /// The database refused the connection or a setting.
    #[error("cannot open the metadata database: {0}")]
    Open(#[source] sqlx::Error),
    /// The schema could not be brought up to date, or is newer than this build.
    #[error("cannot bring the metadata schema up to date: {0}")]
    Migrate(#[source] sqlx::migrate::MigrateError),
}

/// How to open a database.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Milliseconds between the end of a chunk's last reference and its deletion falling due.
    pub grace_ms: u64,
    /// SQLite: connections for reading, beside the one that writes. PostgreSQL: connections in all.
    pub connections: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            grace_ms: GRACE_MS,
            connections: 4,
        }
    }
}

/// The metadata index. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    backend: Arc<Backend>,
    grace_ms: u64,
}

#[derive(Debug)]
enum Backend {
    Sqlite(sqlite::Store),
    Postgres(PgPool),
}

impl Database {
    /// Opens `sqlite:PATH` (created when missing) or `postgres://…` with the default options, and brings its schema up
    /// to date.
    ///
    /// # Errors
    /// [`ConnectError`]; a schema newer than this build is refused.
    pub async fn connect(url: &str) -> Result<Self, ConnectError> {
        Self::connect_with(url, Options::default()).await
    }

    /// Opens a database with options.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub async fn connect_with(url: &str, options: Options) -> Result<Self, ConnectError> {
        let backend = if let Some(path) = url.strip_prefix("sqlite:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            Backend::Sqlite(sqlite::Store::open(path.as_ref(), options).await?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Backend::Postgres(postgres::open(url, options).await?)
        } else {
            return Err(ConnectError::Address);
        };
        Ok(Self {
            backend: Arc::new(backend),
            grace_ms: options.grace_ms,
        })
    }

    /// Ends all connections, after the mutations that were accepted. Other clones get
    /// [`objects::metadata::MetadataError::Unavailable`] from then on.
    pub async fn close(&self) {
        match &*self.backend {
            Backend::Sqlite(store) => store.close().await,
            Backend::Postgres(pool) => pool.close().await,
        }
    }
}
