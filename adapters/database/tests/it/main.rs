//! One suite, instantiated for SQLite and for a real PostgreSQL server.
//!
//! PostgreSQL's address comes in STRONGROOM_TEST_POSTGRES (`testing/postgres.sh start DIR` prints one). Without it those
//! tests say that they were skipped, or fail when STRONGROOM_REQUIRE_POSTGRES=1.

#![allow(
    clippy::unwrap_used,
    reason = "a failed step of a test is a failed test"
)]

mod backend;
mod listing;
mod make;
mod model;
mod objects_suite;
mod process;
mod schema;
mod shards_suite;
mod sharing_suite;
mod tables_suite;
mod uploads_suite;

/// Makes of each `async fn(&Fixture)` a test per database.
macro_rules! both_databases {
    ($($name:ident),* $(,)?) => {
        mod sqlite {
            $(
                #[test]
                fn $name() {
                    $crate::backend::run($crate::backend::Kind::Sqlite, async |fixture| super::$name(fixture).await);
                }
            )*
        }
        mod postgres {
            $(
                #[test]
                fn $name() {
                    $crate::backend::run($crate::backend::Kind::Postgres, async |fixture| super::$name(fixture).await);
                }
            )*
        }
    };
}
pub(crate) use both_databases;
