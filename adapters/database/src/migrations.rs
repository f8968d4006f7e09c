//! The schema, as numbered steps that are applied once each and never edited after their release.

use std::borrow::Cow;

use sqlx::SqlSafeStr;
use sqlx::migrate::{Migration, MigrationType, Migrator};

fn migrator(steps: &[(i64, &'static str, &'static str)]) -> Migrator {
    Migrator::with_migrations(
        steps
            .iter()
            .map(|&(version, description, sql)| {
                Migration::new(
                    version,
                    Cow::Borrowed(description),
                    MigrationType::Simple,
                    sql.into_sql_str(),
                    false,
                )
            })
            .collect(),
    )
}

/// SQLite's schema.
pub(crate) fn sqlite() -> Migrator {
    migrator(&[
        (
            1,
            "index",
            include_str!("../migrations/sqlite/0001_index.sql"),
        ),
        (
            2,
            "sharing and releases",
            include_str!("../migrations/sqlite/0002_sharing_and_releases.sql"),
        ),
    ])
}

/// PostgreSQL's schema.
pub(crate) fn postgres() -> Migrator {
    migrator(&[
        (
            1,
            "index",
            include_str!("../migrations/postgres/0001_index.sql"),
        ),
        (
            2,
            "sharing and releases",
            include_str!("../migrations/postgres/0002_sharing_and_releases.sql"),
        ),
    ])
}
