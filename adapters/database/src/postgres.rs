//! PostgreSQL: each mutation in a transaction of its own, repeated a bounded number of times when it met another.
//!
//! Transactions are READ COMMITTED. What they read to change they lock; what they create is guarded by a unique or
//! foreign key. So two gateways at once end in a wait, a deadlock that PostgreSQL breaks, or a violated key: each of
//! these ends the transaction and it starts over, now seeing what the other did.

use std::future::Future;
use std::str::FromStr;
use std::time::Duration;

use objects::metadata::{MetadataError, MetadataResult};
use sqlx::ConnectOptions;
use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::connection::{Connection, Failure, Handle, Work};
use crate::{ConnectError, Options, migrations};

/// Times a mutation is tried. Each try follows a commit of somebody else's, so under any load somebody advances.
const TRIES: u32 = 24;
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// Serialization failure, deadlock, unique violation, foreign key violation.
const CONFLICTS: [&str; 4] = ["40001", "40P01", "23505", "23503"];

pub(crate) async fn open(url: &str, options: Options) -> Result<PgPool, ConnectError> {
    let connect = PgConnectOptions::from_str(url)
        .map_err(ConnectError::Open)?
        .application_name("strongroom-gateway")
        .statement_cache_capacity(512)
        .disable_statement_logging();
    let pool = PgPoolOptions::new()
        .max_connections(options.connections.max(1))
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_with(connect)
        .await
        .map_err(ConnectError::Open)?;
    migrations::postgres()
        .run(&pool)
        .await
        .map_err(ConnectError::Migrate)?;
    Ok(pool)
}

/// Runs `work` in a transaction until it commits, is refused, or the tries are used up.
pub(crate) async fn transact<T, F>(pool: &PgPool, work: F) -> MetadataResult<T>
where
    F: for<'a> Fn(&'a mut Connection) -> crate::sqlite::Running<'a, T>,
{
    let mut tries = 0;
    loop {
        let error = match attempt(pool, &work).await {
            Ok(answer) => return Ok(answer),
            Err(Failure::Refused(error)) => return Err(error),
            Err(Failure::Database(error)) => error,
        };
        tries += 1;
        let conflict = error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| CONFLICTS.contains(&code.as_ref()));
        if !conflict || tries >= TRIES {
            return Err(MetadataError::Unavailable(error.to_string()));
        }
        // Two that met once would meet again if both started over at once.
        let spread = u64::from(tries) * (1 + u64::from(std::process::id() % 3));
        tokio::time::sleep(Duration::from_millis(spread)).await;
    }
}

async fn attempt<T, F>(pool: &PgPool, work: &F) -> Work<T>
where
    F: for<'a> Fn(&'a mut Connection) -> crate::sqlite::Running<'a, T>,
{
    let transaction = pool.begin().await?;
    let mut connection = Connection::new(Handle::PostgresWriter(transaction));
    // Dropping the transaction on an error rolls it back.
    let answer = work(&mut connection).await?;
    if let Handle::PostgresWriter(transaction) = connection.handle {
        transaction.commit().await?;
    }
    Ok(answer)
}

/// Runs `work` to its end even when the caller stops waiting: a half-run transaction would keep its locks until
/// somebody used the connection again.
pub(crate) async fn detached<T: Send + 'static>(
    work: impl Future<Output = MetadataResult<T>> + Send + 'static,
) -> MetadataResult<T> {
    tokio::spawn(work)
        .await
        .unwrap_or_else(|error| Err(MetadataError::Unavailable(error.to_string())))
}
