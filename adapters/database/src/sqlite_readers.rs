//! SQLite's reading connections.
//!
//! A pool of its own, because sqlx's asks the connection's thread for a sign of life at each return: a second trip through
//! that thread for every read. Here a connection comes back only from a read that ran to its end; one whose read was given up
//! or failed is closed, and another opened in its place.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Connection as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The connections, at most a fixed number of them.
#[derive(Debug)]
pub(crate) struct Readers {
    connect: SqliteConnectOptions,
    idle: Mutex<Vec<SqliteConnection>>,
    permits: Arc<Semaphore>,
    connections_max: u32,
}

/// A connection that reads. One that is dropped before its read has ended keeps its place until its thread has ended too.
pub(crate) struct Reader {
    home: Arc<Readers>,
    /// Taken when it is given back or dropped, and never before.
    parts: Option<(SqliteConnection, OwnedSemaphorePermit)>,
}

impl Readers {
    /// Opens the first connection; the others when they are needed.
    pub(crate) async fn open(
        connect: SqliteConnectOptions,
        connections_max: u32,
    ) -> Result<Arc<Self>, sqlx::Error> {
        let first = connect.connect().await?;
        let permits = usize::try_from(connections_max).unwrap_or(Semaphore::MAX_PERMITS);
        Ok(Arc::new(Self {
            connect,
            idle: Mutex::new(vec![first]),
            permits: Arc::new(Semaphore::new(permits)),
            connections_max,
        }))
    }

    /// Takes a connection, or waits for one.
    pub(crate) async fn take(self: &Arc<Self>, patience: Duration) -> Result<Reader, sqlx::Error> {
        let permit = Arc::clone(&self.permits).acquire_owned();
        let permit = match tokio::time::timeout(patience, permit).await {
            Ok(Ok(permit)) => permit,
            Ok(Err(_)) => return Err(sqlx::Error::PoolClosed),
            Err(_) => return Err(sqlx::Error::PoolTimedOut),
        };
        let idle = self.idle().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => self.connect.connect().await?,
        };
        Ok(Reader {
            home: Arc::clone(self),
            parts: Some((connection, permit)),
        })
    }

    /// Gives out no others and closes all, those in use when their reads have ended; a read that takes longer than
    /// `patience` closes its own.
    pub(crate) async fn close(&self, patience: Duration) {
        let all = self.permits.acquire_many(self.connections_max);
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("a read goes on while the database closes");
        }
        self.permits.close();
        let idle = std::mem::take(&mut *self.idle());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::debug!(%error, "closing a reading connection");
            }
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<SqliteConnection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reader {
    /// The connection; `None` never happens before the reader is given back.
    pub(crate) fn connection(&mut self) -> Option<&mut SqliteConnection> {
        self.parts.as_mut().map(|(connection, _)| connection)
    }

    /// For the next read: this one ran to its end.
    pub(crate) fn give_back(mut self) {
        let Some((connection, permit)) = self.parts.take() else {
            return;
        };
        if !self.home.permits.is_closed() {
            self.home.idle().push(connection);
        }
        drop(permit);
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let Some((connection, permit)) = self.parts.take() else {
            return;
        };
        // Closing waits for what the connection's thread still does. Without a runtime the process is ending.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = connection.close().await {
                    tracing::debug!(%error, "closing a reading connection");
                }
                drop(permit);
            });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(50);

    async fn readers(folder: &tempfile::TempDir) -> Arc<Readers> {
        let connect = SqliteConnectOptions::new()
            .filename(folder.path().join("x.sqlite"))
            .create_if_missing(true);
        Readers::open(connect, 2).await.unwrap()
    }

    async fn works(reader: &mut Reader) -> bool {
        let one: i64 = sqlx::query_scalar("SELECT 1")
            .fetch_one(reader.connection().unwrap())
            .await
            .unwrap();
        one == 1
    }

    #[tokio::test]
    async fn connections_are_bounded_and_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(&folder).await;
        for _ in 0..10 {
            let mut first = readers.take(SOON).await.unwrap();
            let mut second = readers.take(SOON).await.unwrap();
            assert!(works(&mut first).await && works(&mut second).await);
            assert!(matches!(
                readers.take(SOON).await,
                Err(sqlx::Error::PoolTimedOut)
            ));
            first.give_back();
            // Given up: closed, and its place is free.
            drop(second);
        }
        assert_eq!(readers.idle().len(), 1);
    }

    #[tokio::test]
    async fn a_read_that_was_given_up_leaves_a_working_place() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(&folder).await;
        for _ in 0..20 {
            let home = Arc::clone(&readers);
            let read = tokio::spawn(async move {
                let mut reader = home.take(SOON * 20).await.unwrap();
                let count: i64 = sqlx::query_scalar(
                    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000000) SELECT count(*) FROM n",
                )
                .fetch_one(reader.connection().unwrap())
                .await
                .unwrap();
                reader.give_back();
                count
            });
            tokio::time::sleep(Duration::from_millis(2)).await;
            read.abort();
            let mut reader = readers.take(SOON * 20).await.unwrap();
            assert!(works(&mut reader).await);
            reader.give_back();
        }
    }

    #[tokio::test]
    async fn nothing_is_given_out_after_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let readers = readers(&folder).await;
        let busy = readers.take(SOON).await.unwrap();
        readers.close(SOON).await;
        busy.give_back();
        assert!(readers.idle().is_empty(), "kept open after the end");
        assert!(matches!(
            readers.take(SOON).await,
            Err(sqlx::Error::PoolClosed)
        ));
    }
}
