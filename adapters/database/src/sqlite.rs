//! SQLite: one connection writes, a few read.
//!
//! Mutations wait in a bounded queue. The writer drains it into one transaction, commits (one fsync for all of them)
//! and answers only then. Work checks before it writes, so work that is refused has written nothing and the others go
//! on; should it fail after having written, or the database fail, the whole transaction is rolled back and each piece
//! of work is tried in a transaction of its own, so that it harms nobody else.

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use objects::metadata::{MetadataError, MetadataResult};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection as _};
use tokio::sync::{mpsc, oneshot};

use crate::connection::{Connection, Failure, Handle, Work};
use crate::sqlite_readers::{Reader, Readers};
use crate::{ConnectError, Options, migrations};

/// A piece of work at its work.
pub(crate) type Running<'a, T> = Pin<Box<dyn Future<Output = Work<T>> + Send + 'a>>;

/// Mutations that wait, at most; beyond that callers wait.
const QUEUE: usize = 1_024;
/// Mutations that share a commit, at most.
const BATCH: usize = 256;
const BUSY_TIMEOUT: Duration = Duration::from_secs(10);
/// SQLite's extended codes for a failed fsync of a file and of its folder.
const FSYNC_FAILED: [&str; 2] = ["1034", "1290"];

/// The database file, open.
#[derive(Debug)]
pub(crate) struct Store {
    reads: Arc<Readers>,
    queue: mpsc::Sender<Box<dyn Job>>,
}

impl Store {
    pub(crate) async fn open(path: &Path, options: Options) -> Result<Self, ConnectError> {
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(512)
            .pragma("temp_store", "memory")
            .pragma("cache_size", "-16000")
            .disable_statement_logging();
        let mut writer = connect.connect().await.map_err(ConnectError::Open)?;
        migrations::sqlite()
            .run(&mut writer)
            .await
            .map_err(ConnectError::Migrate)?;
        let reads = Readers::open(
            connect.clone().pragma("query_only", "on"),
            options.connections.max(1),
        )
        .await
        .map_err(ConnectError::Open)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let writer = Writer {
            connect,
            connection: Some(Connection::new(Handle::SqliteWriter(writer))),
            poisoned: None,
        };
        tokio::spawn(writer.run(jobs));
        Ok(Self { reads, queue })
    }

    pub(crate) async fn reader(&self) -> Result<Reader, sqlx::Error> {
        self.reads.take(BUSY_TIMEOUT).await
    }

    /// Runs `work` in the next transaction and answers after its commit.
    pub(crate) async fn transact<T, F>(&self, work: F) -> MetadataResult<T>
    where
        T: Send + 'static,
        F: for<'a> Fn(&'a mut Connection) -> Running<'a, T> + Send + Sync + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job = Waiting {
            work,
            answer,
            outcome: None,
        };
        let stopped = || MetadataError::Unavailable("the metadata writer has stopped".to_owned());
        self.queue
            .send(Box::new(job))
            .await
            .map_err(|_| stopped())?;
        answered.await.unwrap_or_else(|_| Err(stopped()))
    }

    pub(crate) async fn close(&self) {
        // Accepted mutations are before this one in the queue.
        let (done, closed) = oneshot::channel();
        if self.queue.send(Box::new(Close { done })).await.is_ok() {
            // An error means that the writer has ended, which is what is waited for.
            let _ = closed.await;
        }
        self.reads.close(BUSY_TIMEOUT).await;
    }
}

/// Work in the queue.
trait Job: Send {
    /// Does the work and keeps its answer for [`Job::settle`].
    fn run<'a>(
        &'a mut self,
        connection: &'a mut Connection,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>>;
    /// Answers: the kept answer when the transaction has committed, otherwise the error (a refusal in a transaction that
    /// was rolled back may rest on what others did in it).
    fn settle(self: Box<Self>, committed: Result<(), MetadataError>);
    /// Whether the writer ends after this job.
    fn ends(&self) -> bool {
        false
    }
}

/// What became of a job.
enum Outcome {
    /// It has an answer.
    Done,
    /// It was refused.
    Refused,
    /// The database failed.
    Failed(sqlx::Error),
}

struct Waiting<T, F> {
    work: F,
    answer: oneshot::Sender<MetadataResult<T>>,
    outcome: Option<MetadataResult<T>>,
}

impl<T, F> Job for Waiting<T, F>
where
    T: Send + 'static,
    F: for<'a> Fn(&'a mut Connection) -> Running<'a, T> + Send + Sync + 'static,
{
    fn run<'a>(
        &'a mut self,
        connection: &'a mut Connection,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(async move {
            self.outcome = None;
            match (self.work)(connection).await {
                Ok(answer) => {
                    self.outcome = Some(Ok(answer));
                    Outcome::Done
                }
                Err(Failure::Refused(error)) => {
                    self.outcome = Some(Err(error));
                    Outcome::Refused
                }
                Err(Failure::Database(error)) => Outcome::Failed(error),
            }
        })
    }

    fn settle(self: Box<Self>, committed: Result<(), MetadataError>) {
        let never = || Err(MetadataError::Unavailable("not carried out".to_owned()));
        let Self {
            answer, outcome, ..
        } = *self;
        // The caller may have stopped waiting.
        let _ = answer.send(committed.and_then(|()| outcome.unwrap_or_else(never)));
    }
}

struct Close {
    done: oneshot::Sender<()>,
}

impl Job for Close {
    fn run<'a>(
        &'a mut self,
        _connection: &'a mut Connection,
    ) -> Pin<Box<dyn Future<Output = Outcome> + Send + 'a>> {
        Box::pin(std::future::ready(Outcome::Done))
    }

    fn settle(self: Box<Self>, _committed: Result<(), MetadataError>) {
        let _ = self.done.send(());
    }

    fn ends(&self) -> bool {
        true
    }
}

struct Writer {
    connect: SqliteConnectOptions,
    /// `None` after a failure, until it is opened again.
    connection: Option<Connection>,
    /// Why nothing is written any more.
    poisoned: Option<String>,
}

/// How a transaction over several jobs ended.
enum Ended {
    /// The jobs' answers hold.
    Settled,
    /// Nothing was written; each job should be tried alone.
    Spoiled(sqlx::Error),
}

/// Why a transaction has to be rolled back.
enum Undo {
    /// Its only job was refused after it had written something: its answer holds.
    Refused,
    Failed(sqlx::Error),
}

impl Writer {
    async fn run(mut self, mut jobs: mpsc::Receiver<Box<dyn Job>>) {
        while let Some(first) = jobs.recv().await {
            let mut ends = first.ends();
            let mut batch = vec![first];
            while batch.len() < BATCH && !ends {
                match jobs.try_recv() {
                    Ok(job) => {
                        ends = job.ends();
                        batch.push(job);
                    }
                    Err(_) => break,
                }
            }
            self.work_off(batch).await;
            if ends {
                break;
            }
        }
        jobs.close();
        if let Some(Connection {
            handle: Handle::SqliteWriter(connection),
            ..
        }) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::warn!(%error, "the metadata database did not close cleanly");
        }
    }

    async fn work_off(&mut self, mut batch: Vec<Box<dyn Job>>) {
        match self.transaction(&mut batch).await {
            Ok(Ended::Settled) => {
                for job in batch {
                    job.settle(Ok(()));
                }
            }
            Ok(Ended::Spoiled(error)) if batch.len() == 1 => settle_all(batch, &error.to_string()),
            Ok(Ended::Spoiled(_)) => {
                for job in batch {
                    let mut alone = vec![job];
                    match self.transaction(&mut alone).await {
                        Ok(Ended::Settled) => {
                            for job in alone {
                                job.settle(Ok(()));
                            }
                        }
                        Ok(Ended::Spoiled(error)) => settle_all(alone, &error.to_string()),
                        Err(reason) => settle_all(alone, &reason),
                    }
                }
            }
            Err(reason) => settle_all(batch, &reason),
        }
    }

    /// Runs the jobs in one transaction. An `Err` says why there can be none now.
    async fn transaction(&mut self, batch: &mut [Box<dyn Job>]) -> Result<Ended, String> {
        if let Some(reason) = &self.poisoned {
            return Err(reason.clone());
        }
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => match self.connect.connect().await {
                Ok(connection) => Connection::new(Handle::SqliteWriter(connection)),
                Err(error) => return Err(error.to_string()),
            },
        };
        let ended = attempt(&mut connection, batch).await;
        let error = match ended {
            Ok(()) => {
                self.connection = Some(connection);
                return Ok(Ended::Settled);
            }
            Err(Undo::Refused) => {
                self.roll_back(connection).await;
                return Ok(Ended::Settled);
            }
            Err(Undo::Failed(error)) => error,
        };
        let fsync_failed = error
            .as_database_error()
            .and_then(|error| error.code())
            .is_some_and(|code| FSYNC_FAILED.contains(&code.as_ref()));
        if fsync_failed {
            // What the operating system still has of the log is unknown from here on.
            tracing::error!(%error, "fsync of the metadata database failed: no more writes until restart");
            let reason = "an fsync of the metadata database failed; check the disk, then restart the gateway";
            self.poisoned = Some(reason.to_owned());
            return Err(reason.to_owned());
        }
        self.roll_back(connection).await;
        Ok(Ended::Spoiled(error))
    }

    /// Gives the connection up when it cannot roll back: after some errors (disk full, for one) SQLite has done so by
    /// itself.
    async fn roll_back(&mut self, mut connection: Connection) {
        if connection.execute("ROLLBACK", Vec::new()).await.is_ok() {
            self.connection = Some(connection);
        }
    }
}

fn settle_all(batch: Vec<Box<dyn Job>>, reason: &str) {
    for job in batch {
        job.settle(Err(MetadataError::Unavailable(reason.to_owned())));
    }
}

async fn attempt(connection: &mut Connection, batch: &mut [Box<dyn Job>]) -> Result<(), Undo> {
    let failed = |failure| match failure {
        Failure::Database(error) => Undo::Failed(error),
        Failure::Refused(error) => Undo::Failed(sqlx::Error::Protocol(error.to_string())),
    };
    connection
        .execute("BEGIN IMMEDIATE", Vec::new())
        .await
        .map_err(failed)?;
    let alone = batch.len() == 1;
    for job in batch.iter_mut() {
        let before = connection.rows_written;
        match job.run(connection).await {
            Outcome::Done => {}
            Outcome::Refused if connection.rows_written == before => {}
            Outcome::Refused if alone => return Err(Undo::Refused),
            Outcome::Refused => {
                let reason = "refused after writing".to_owned();
                return Err(Undo::Failed(sqlx::Error::Protocol(reason)));
            }
            Outcome::Failed(error) => return Err(Undo::Failed(error)),
        }
    }
    connection
        .execute("COMMIT", Vec::new())
        .await
        .map_err(failed)?;
    Ok(())
}
