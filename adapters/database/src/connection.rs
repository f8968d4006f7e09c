//! One connection type over both databases, so that every statement and every rule is written once.
//!
//! Statements use `$1` placeholders and 64-bit integers, byte strings and text alone, which SQLite and PostgreSQL both
//! take. The few that differ (row locks) carry both texts.

use std::sync::Arc;

use domain::{Cid, ObjectKey, Principal};
use objects::layout::ChunkLayout;
use objects::metadata::{MetadataError, MetadataResult};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Postgres, Row as _, SqlSafeStr, Sqlite, Transaction};

use crate::sqlite_readers::Reader;

/// Why work inside a transaction stopped.
#[derive(Debug)]
pub(crate) enum Failure {
    /// An answer for the caller.
    Refused(MetadataError),
    /// The database failed; the transaction may be tried again when the reason is a conflict.
    Database(sqlx::Error),
}

impl From<MetadataError> for Failure {
    fn from(error: MetadataError) -> Self {
        Self::Refused(error)
    }
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(error)
    }
}

impl From<Failure> for MetadataError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(error) => error,
            Failure::Database(error) => MetadataError::Unavailable(error.to_string()),
        }
    }
}

/// Result of work inside a transaction.
pub(crate) type Work<T> = Result<T, Failure>;

/// An argument of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Int(i64),
    Bytes(Vec<u8>),
    MaybeBytes(Option<Vec<u8>>),
    Text(String),
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

macro_rules! int_value {
    ($($small:ty),*) => {$(
        impl From<$small> for Value {
            fn from(value: $small) -> Self {
                Self::Int(i64::from(value))
            }
        }
    )*};
}
int_value!(u8, u16, u32, bool);

macro_rules! saturating_value {
    ($($wide:ty),*) => {$(
        /// Beyond 2^63 (no real time, size or count) the value saturates.
        impl From<$wide> for Value {
            fn from(value: $wide) -> Self {
                Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
            }
        }
    )*};
}
saturating_value!(u64, usize);

impl From<domain::TimestampMs> for Value {
    fn from(time: domain::TimestampMs) -> Self {
        time.0.into()
    }
}

impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl From<&Vec<u8>> for Value {
    fn from(bytes: &Vec<u8>) -> Self {
        Self::Bytes(bytes.clone())
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

macro_rules! id_value {
    ($($id:ty),*) => {$(
        impl From<$id> for Value {
            fn from(id: $id) -> Self {
                Self::Bytes(id.0.to_vec())
            }
        }
        impl From<Option<$id>> for Value {
            fn from(id: Option<$id>) -> Self {
                Self::MaybeBytes(id.map(|id| id.0.to_vec()))
            }
        }
    )*};
}
id_value!(
    domain::BucketId,
    domain::BucketKeyId,
    domain::NodeId,
    domain::VersionId,
    domain::UploadId,
    Principal
);

impl From<Cid> for Value {
    fn from(cid: Cid) -> Self {
        Self::Bytes(cid.to_bytes().to_vec())
    }
}

impl From<&ObjectKey> for Value {
    fn from(key: &ObjectKey) -> Self {
        Self::Bytes(key.as_str().as_bytes().to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

/// The arguments of a statement, `$1` first.
macro_rules! args {
    ($($value:expr),* $(,)?) => {
        vec![$($crate::connection::Value::from($value)),*]
    };
}
pub(crate) use args;

/// The text of a statement.
#[derive(Clone, Debug)]
pub(crate) enum Sql {
    /// The same for both databases.
    Same(&'static str),
    /// One text each.
    Each {
        sqlite: &'static str,
        postgres: &'static str,
    },
    /// Put together from constant pieces, for a number of rows that varies.
    Built(Arc<str>),
}

impl From<&'static str> for Sql {
    fn from(text: &'static str) -> Self {
        Self::Same(text)
    }
}

impl From<Arc<str>> for Sql {
    fn from(text: Arc<str>) -> Self {
        Self::Built(text)
    }
}

/// A SELECT whose rows nobody else may change before this transaction ends. SQLite has one writer anyway.
macro_rules! locked {
    ($sql:literal) => {
        locked!($sql, "")
    };
    ($sql:literal, $of:literal) => {
        $crate::connection::Sql::Each {
            sqlite: $sql,
            postgres: concat!($sql, " FOR UPDATE", $of),
        }
    };
}
pub(crate) use locked;

/// Several statements over the same arguments: one round trip on SQLite.
macro_rules! script {
    ($($sql:literal),+ $(,)?) => {
        $crate::connection::Script { sqlite: concat!($($sql, ";"),+), each: &[$($sql),+] }
    };
}
pub(crate) use script;

/// See [`script!`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Script {
    pub sqlite: &'static str,
    pub each: &'static [&'static str],
}

/// A row of either database.
pub(crate) enum Row {
    Sqlite(SqliteRow),
    Postgres(sqlx::postgres::PgRow),
}

macro_rules! column {
    ($row:expr, $index:expr) => {
        match $row {
            Row::Sqlite(row) => row.try_get($index),
            Row::Postgres(row) => row.try_get($index),
        }
    };
}

/// A stored value that this build cannot read.
pub(crate) fn damaged(what: &'static str, reason: impl ToString) -> Failure {
    Failure::Refused(MetadataError::Damaged {
        what,
        reason: reason.to_string(),
    })
}

impl Row {
    pub(crate) fn int(&self, index: usize) -> Work<i64> {
        column!(self, index).map_err(|error: sqlx::Error| damaged("integer", error))
    }

    pub(crate) fn maybe_int(&self, index: usize) -> Work<Option<i64>> {
        column!(self, index).map_err(|error: sqlx::Error| damaged("integer", error))
    }

    /// An integer that fits the wanted type.
    pub(crate) fn number<T: TryFrom<i64>>(&self, index: usize) -> Work<T> {
        let value = self.int(index)?;
        T::try_from(value).map_err(|_| damaged("integer", format!("{value} is out of range")))
    }

    pub(crate) fn time(&self, index: usize) -> Work<domain::TimestampMs> {
        self.number(index).map(domain::TimestampMs)
    }

    pub(crate) fn bytes(&self, index: usize) -> Work<Vec<u8>> {
        column!(self, index).map_err(|error: sqlx::Error| damaged("byte string", error))
    }

    pub(crate) fn maybe_bytes(&self, index: usize) -> Work<Option<Vec<u8>>> {
        column!(self, index).map_err(|error: sqlx::Error| damaged("byte string", error))
    }

    pub(crate) fn text(&self, index: usize) -> Work<String> {
        column!(self, index).map_err(|error: sqlx::Error| damaged("text", error))
    }

    pub(crate) fn array<const N: usize>(&self, index: usize) -> Work<[u8; N]> {
        let bytes = self.bytes(index)?;
        let length = bytes.len();
        bytes
            .try_into()
            .map_err(|_| damaged("id", format!("{length} bytes instead of {N}")))
    }

    pub(crate) fn maybe_array<const N: usize>(&self, index: usize) -> Work<Option<[u8; N]>> {
        let Some(bytes) = self.maybe_bytes(index)? else {
            return Ok(None);
        };
        let length = bytes.len();
        bytes
            .try_into()
            .map(Some)
            .map_err(|_| damaged("id", format!("{length} bytes instead of {N}")))
    }

    pub(crate) fn cid(&self, index: usize) -> Work<Cid> {
        Cid::from_bytes(&self.bytes(index)?).map_err(|error| damaged("CID", error))
    }

    pub(crate) fn layout(&self, index: usize) -> Work<ChunkLayout> {
        ChunkLayout::decode(&self.bytes(index)?).map_err(|error| damaged("layout record", error))
    }

    pub(crate) fn key(&self, index: usize) -> Work<ObjectKey> {
        String::from_utf8(self.bytes(index)?)
            .map_err(|error| damaged("object key", error))?
            .parse()
            .map_err(|error| damaged("object key", error))
    }
}

/// Where statements go.
pub(crate) enum Handle {
    SqliteWriter(SqliteConnection),
    SqliteReader(Reader),
    PostgresReader(PoolConnection<Postgres>),
    PostgresWriter(Transaction<'static, Postgres>),
}

/// A connection of either database.
pub(crate) struct Connection {
    pub handle: Handle,
    /// Rows written through it: tells whether work that was refused had written something before.
    pub rows_written: u64,
}

macro_rules! bind {
    ($database:ty, $sql:expr, $args:expr) => {{
        let mut query = sqlx::query::<$database>($sql);
        for value in $args {
            query = match value {
                Value::Int(value) => query.bind(value),
                Value::Bytes(value) => query.bind(value),
                Value::MaybeBytes(value) => query.bind(value),
                Value::Text(value) => query.bind(value),
            };
        }
        query
    }};
}

/// Binds the arguments and runs one method of the query on the connection behind the handle.
macro_rules! run {
    ($self:ident, $sql:expr, $args:expr, $run:ident, |$answer:ident| ($sqlite:expr, $postgres:expr)) => {{
        let sql: Sql = $sql;
        match &mut $self.handle {
            Handle::SqliteWriter(connection) => {
                let $answer = bind!(Sqlite, sql.sqlite(), $args)
                    .$run(&mut *connection)
                    .await?;
                $sqlite
            }
            Handle::SqliteReader(reader) => {
                let $answer = bind!(Sqlite, sql.sqlite(), $args)
                    .$run(reader.connection().ok_or(sqlx::Error::PoolClosed)?)
                    .await?;
                $sqlite
            }
            Handle::PostgresReader(connection) => {
                let $answer = bind!(Postgres, sql.postgres(), $args)
                    .$run(&mut **connection)
                    .await?;
                $postgres
            }
            Handle::PostgresWriter(transaction) => {
                let $answer = bind!(Postgres, sql.postgres(), $args)
                    .$run(&mut **transaction)
                    .await?;
                $postgres
            }
        }
    }};
}

impl Sql {
    fn sqlite(self) -> sqlx::SqlStr {
        match self {
            Self::Same(text) | Self::Each { sqlite: text, .. } => text.into_sql_str(),
            // Only constant pieces are put together; values are always bound.
            Self::Built(text) => AssertSqlSafe(text).into_sql_str(),
        }
    }

    fn postgres(self) -> sqlx::SqlStr {
        match self {
            Self::Same(text) | Self::Each { postgres: text, .. } => text.into_sql_str(),
            Self::Built(text) => AssertSqlSafe(text).into_sql_str(),
        }
    }
}

impl Connection {
    pub(crate) fn new(handle: Handle) -> Self {
        Self {
            handle,
            rows_written: 0,
        }
    }

    /// Ends a read: its connection serves the next one if this one ran to its end, whatever it found.
    pub(crate) fn end<T>(self, answer: Work<T>) -> MetadataResult<T> {
        if let (Handle::SqliteReader(reader), Ok(_) | Err(Failure::Refused(_))) =
            (self.handle, &answer)
        {
            reader.give_back();
        }
        Ok(answer?)
    }

    /// Whether this is PostgreSQL, where other gateways may write at the same time.
    pub(crate) fn shared(&self) -> bool {
        matches!(
            self.handle,
            Handle::PostgresReader(_) | Handle::PostgresWriter(_)
        )
    }

    /// Runs a statement; returns the number of rows it changed.
    pub(crate) async fn execute(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Work<u64> {
        let rows = run!(self, sql.into(), args, execute, |done| (
            done.rows_affected(),
            done.rows_affected()
        ));
        self.rows_written += rows;
        Ok(rows)
    }

    /// Runs the statements in order over the same arguments; returns the number of rows they changed together.
    pub(crate) async fn script(&mut self, script: Script, args: Vec<Value>) -> Work<u64> {
        if !self.shared() {
            return self.execute(script.sqlite, args).await;
        }
        let mut rows = 0;
        for statement in script.each {
            rows += self.execute(*statement, used(statement, &args)).await?;
        }
        Ok(rows)
    }

    /// As [`Self::script`], for one whose last statement answers with an integer.
    pub(crate) async fn script_insert(&mut self, script: Script, args: Vec<Value>) -> Work<i64> {
        self.rows_written += 1;
        let rows = if self.shared() {
            let Some((last, before)) = script.each.split_last() else {
                return Err(Failure::Database(sqlx::Error::RowNotFound));
            };
            for statement in before {
                self.execute(*statement, used(statement, &args)).await?;
            }
            self.rows(*last, used(last, &args)).await?
        } else {
            // All rows are fetched, so that the last statement runs to its end.
            self.rows(script.sqlite, args).await?
        };
        rows.last()
            .ok_or_else(|| Failure::Database(sqlx::Error::RowNotFound))?
            .int(0)
    }

    /// All rows of a query.
    pub(crate) async fn rows(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Work<Vec<Row>> {
        Ok(run!(self, sql.into(), args, fetch_all, |rows| (
            rows.into_iter().map(Row::Sqlite).collect(),
            rows.into_iter().map(Row::Postgres).collect()
        )))
    }

    /// The first row of a query that has at most one.
    pub(crate) async fn row(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Work<Option<Row>> {
        Ok(run!(self, sql.into(), args, fetch_optional, |row| (
            row.map(Row::Sqlite),
            row.map(Row::Postgres)
        )))
    }

    /// The only row of a query that always has one, such as a sum or `INSERT … RETURNING`.
    pub(crate) async fn one(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Work<Row> {
        self.row(sql, args)
            .await?
            .ok_or_else(|| Failure::Database(sqlx::Error::RowNotFound))
    }

    /// A change that answers with one row.
    pub(crate) async fn insert(&mut self, sql: impl Into<Sql>, args: Vec<Value>) -> Work<i64> {
        self.rows_written += 1;
        self.one(sql, args).await?.int(0)
    }
}

/// The arguments that a statement of a script has a use for: PostgreSQL counts them, and the same text may stand
/// elsewhere with fewer.
fn used(statement: &str, args: &[Value]) -> Vec<Value> {
    args.get(..placeholders(statement)).unwrap_or(args).to_vec()
}

/// The highest `$N` of a statement.
fn placeholders(sql: &str) -> usize {
    sql.split('$')
        .skip(1)
        .filter_map(|rest| {
            let end = rest
                .find(|c: char| !c.is_ascii_digit())
                .unwrap_or(rest.len());
            rest.get(..end)?.parse().ok()
        })
        .max()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::placeholders;

    #[test]
    fn the_highest_placeholder_counts() {
        for (sql, expected) in [
            ("SELECT 1", 0),
            ("DELETE FROM a WHERE b = $1", 1),
            ("a $1 b $4, $12) AND $5", 12),
            ("a $2", 2),
        ] {
            assert_eq!(placeholders(sql), expected, "{sql}");
        }
    }
}
