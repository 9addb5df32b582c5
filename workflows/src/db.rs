//! The two databases behind one face: PostgreSQL in production, SQLite in the embedded default.
//! One Rust body and one SQL text (`$1`, RETURNING, ON CONFLICT) per operation, expanded per database by `on_write!`, `on_read!`
//! and `on_tx!`; where the dialects differ, `Db::is_postgres` chooses between two texts. Every statement is run on both by the conformance suite.

use crate::plan::{PLANS, Plans};
pub use crate::unreached::without_password;
use crate::unreached::{Advice, Unreached};
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::encode::IsNull;
use sqlx::error::BoxDynError;
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqliteError, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Decode, Encode, PgPool, Postgres, Sqlite, SqlitePool, Transaction, Type};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;
use uuid::Uuid;

/// The migrations of PostgreSQL.
pub static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("../migrations/postgres");
/// The migrations of SQLite; same version numbers.
pub static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("../migrations/sqlite");

/// What can go wrong between us and a store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or refused.
    #[error("the database could not {doing}: {source}{}", Advice(Unreached::of_postgres(source)))]
    Database {
        /// What was attempted.
        doing: &'static str,
        /// What the driver said.
        source: sqlx::Error,
    },
    /// The migrations could not be applied or compared.
    #[error("the database schema could not be brought up to date: {0}")]
    Migrate(#[from] sqlx::migrate::MigrateError),
    /// A row holds what this version cannot read.
    #[error("the {what} in the database cannot be read by this version: {why}")]
    Unreadable {
        /// Which column or block.
        what: &'static str,
        /// What stood there.
        why: String,
    },
    /// The caller no longer holds the step: someone else took it over.
    #[error("the step is no longer held by this worker; nothing of this attempt was written")]
    Fenced,
    /// A request under an Idempotency-Key has had its effect already; nothing was written.
    #[error("the request under the key `{key}` was carried out before; nothing of it was done again")]
    CarriedOut {
        /// The Idempotency-Key.
        key: String,
    },
    /// The settings name no database that can be opened.
    #[error(
        "`{url}` is no database URL that can be opened: {why}. Use postgres://user@host/name, or leave it empty for the embedded store"
    )]
    Url {
        /// The URL without its password.
        url: String,
        /// Why.
        why: String,
    },
}

impl StoreError {
    /// Whether the same call may succeed later: the server is away, restarting, or the row was contended.
    pub fn is_transient(&self) -> bool {
        match self {
            StoreError::Database { source, .. } => match source {
                // A server that goes away while a connection is made breaks the protocol.
                sqlx::Error::Io(_)
                | sqlx::Error::Protocol(_)
                | sqlx::Error::PoolTimedOut
                | sqlx::Error::PoolClosed
                | sqlx::Error::WorkerCrashed => true,
                sqlx::Error::Database(db) => db.code().is_some_and(|code| match db.try_downcast_ref::<SqliteError>() {
                    // 5 and 6 contention, 10 a disk that did not do what it was told, 13 a full one.
                    Some(_) => code.parse::<i32>().is_ok_and(|n| matches!(n & 0xff, 5 | 6 | 10 | 13)),
                    // 08 connection, 40001/40P01/55P03 contention, 53 resources, 57 server shutting down or starting.
                    None => {
                        ["08", "53", "57"].iter().any(|class| code.starts_with(class))
                            || matches!(code.as_ref(), "40001" | "40P01" | "55P03")
                    }
                }),
                _ => false,
            },
            _ => false,
        }
    }
}

/// Result of a store operation.
pub type StoreResult<T> = Result<T, StoreError>;

/// Names what was attempted when a statement fails.
pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> StoreResult<T>;
}

impl<T> Doing<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> StoreResult<T> {
        self.map_err(|source| StoreError::Database { doing, source })
    }
}

/// How many rows a statement touched, whichever database it ran on.
pub(crate) trait Rows {
    fn rows(self) -> Result<u64, sqlx::Error>;
}

impl Rows for Result<sqlx::postgres::PgQueryResult, sqlx::Error> {
    fn rows(self) -> Result<u64, sqlx::Error> {
        self.map(|done| done.rows_affected())
    }
}

impl Rows for Result<sqlx::sqlite::SqliteQueryResult, sqlx::Error> {
    fn rows(self) -> Result<u64, sqlx::Error> {
        self.map(|done| done.rows_affected())
    }
}

/// An instant in the database: `timestamptz` on PostgreSQL, INTEGER microseconds on SQLite. Never finer than a microsecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Ts(pub DateTime<Utc>);

impl From<DateTime<Utc>> for Ts {
    fn from(at: DateTime<Utc>) -> Self {
        Ts(DateTime::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at))
    }
}

impl Type<Postgres> for Ts {
    fn type_info() -> sqlx::postgres::PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}
impl sqlx::postgres::PgHasArrayType for Ts {
    fn array_type_info() -> sqlx::postgres::PgTypeInfo {
        <DateTime<Utc> as sqlx::postgres::PgHasArrayType>::array_type_info()
    }
}
impl Encode<'_, Postgres> for Ts {
    fn encode_by_ref(&self, buffer: &mut sqlx::postgres::PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Postgres>::encode_by_ref(&self.0, buffer)
    }
}
impl Decode<'_, Postgres> for Ts {
    fn decode(value: sqlx::postgres::PgValueRef<'_>) -> Result<Self, BoxDynError> {
        <DateTime<Utc> as Decode<Postgres>>::decode(value).map(Ts)
    }
}
impl Type<Sqlite> for Ts {
    fn type_info() -> sqlx::sqlite::SqliteTypeInfo {
        <i64 as Type<Sqlite>>::type_info()
    }
    fn compatible(info: &sqlx::sqlite::SqliteTypeInfo) -> bool {
        <i64 as Type<Sqlite>>::compatible(info)
    }
}
impl Encode<'_, Sqlite> for Ts {
    fn encode_by_ref(&self, buffer: &mut sqlx::sqlite::SqliteArgumentsBuffer) -> Result<IsNull, BoxDynError> {
        Encode::<Sqlite>::encode_by_ref(&self.0.timestamp_micros(), buffer)
    }
}
impl Decode<'_, Sqlite> for Ts {
    fn decode(value: sqlx::sqlite::SqliteValueRef<'_>) -> Result<Self, BoxDynError> {
        let micros = <i64 as Decode<Sqlite>>::decode(value)?;
        DateTime::from_timestamp_micros(micros).map(Ts).ok_or_else(|| format!("{micros} is no instant").into())
    }
}

/// The pools of one database.
#[derive(Debug, Clone)]
pub(crate) enum Pools {
    Pg(PgPool),
    /// One writer, for SQLite has one; readers beside it see the last commit (WAL).
    Lite {
        write: SqlitePool,
        read: SqlitePool,
    },
}

/// A database, open. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Db {
    pub(crate) pools: Pools,
    /// Database clock minus ours, microseconds.
    skew_us: Arc<AtomicI64>,
    /// What this program can carry out.
    plans: Plans,
}

/// A transaction on either database. On SQLite it holds the only writer from its start (BEGIN IMMEDIATE).
pub enum Tx {
    #[allow(missing_docs)]
    Pg(Transaction<'static, Postgres>),
    #[allow(missing_docs)]
    Lite(Transaction<'static, Sqlite>),
}

macro_rules! on_write {
    ($db:expr, |$c:ident| $e:expr) => {
        match &$db.pools {
            $crate::db::Pools::Pg($c) => $e,
            $crate::db::Pools::Lite { write: $c, .. } => $e,
        }
    };
}
macro_rules! on_read {
    ($db:expr, |$c:ident| $e:expr) => {
        match &$db.pools {
            $crate::db::Pools::Pg($c) => $e,
            $crate::db::Pools::Lite { read: $c, .. } => $e,
        }
    };
}
macro_rules! on_tx {
    ($tx:expr, |$c:ident| $e:expr) => {
        match $tx {
            $crate::db::Tx::Pg(t) => {
                let $c = &mut **t;
                $e
            }
            $crate::db::Tx::Lite(t) => {
                let $c = &mut **t;
                $e
            }
        }
    };
}
pub(crate) use {on_read, on_tx, on_write};

impl Db {
    /// PostgreSQL behind a URL; connections are made on first use, so that a server that is down is no error yet.
    pub fn postgres(url: &str, max_connections: u32) -> StoreResult<Db> {
        let options = PgConnectOptions::from_str(url)
            .map_err(|e| StoreError::Url { url: without_password(url), why: e.to_string() })?
            .application_name("retainai");
        let pool = PgPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(Duration::from_secs(5))
            .connect_lazy_with(options);
        Ok(Db { pools: Pools::Pg(pool), skew_us: Arc::default(), plans: PLANS })
    }

    /// The embedded store: one SQLite file, made when absent. An acknowledged commit survives power loss (`synchronous=FULL`).
    pub async fn sqlite(file: &Path) -> StoreResult<Db> {
        let options = SqliteConnectOptions::new()
            .filename(file)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5));
        let write = SqlitePoolOptions::new()
            .max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            // When its disk is full SQLite ends a transaction by itself. The driver believes it to be open for good and begins no other: then
            // another connection is made.
            .before_acquire(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .doing("open the embedded store")?;
        let read = SqlitePoolOptions::new()
            .max_connections(4)
            .connect_lazy_with(options.read_only(true).create_if_missing(false));
        Ok(Db { pools: Pools::Lite { write, read }, skew_us: Arc::default(), plans: PLANS })
    }

    /// The same database as a program sees it that knows these plans and no others.
    pub fn knowing(self, plans: Plans) -> Db {
        Db { plans, ..self }
    }

    pub(crate) fn plans(&self) -> Plans {
        self.plans
    }

    /// Whether this is PostgreSQL: chooses between two SQL texts where the dialects differ.
    pub fn is_postgres(&self) -> bool {
        matches!(self.pools, Pools::Pg(_))
    }

    /// Applies the migrations that are missing. PostgreSQL takes a lock; the embedded store is only opened by one process.
    pub async fn migrate(&self) -> StoreResult<()> {
        match &self.pools {
            Pools::Pg(pool) => POSTGRES_MIGRATIONS.run(pool).await?,
            Pools::Lite { write, .. } => {
                self.copy_before_migrating(write).await?;
                SQLITE_MIGRATIONS.run(write).await?;
            }
        }
        let here = Uuid::new_v4();
        on_write!(self, |c| sqlx::query(
            "insert into installation (id, created_at) select $1, $2 where not exists (select 1 from installation)"
        )
        .bind(here)
        .bind(Ts::from(self.now()))
        .execute(c)
        .await
        .rows())
        .doing("note which installation this is")?;
        Ok(())
    }

    /// A store with data in it is copied beside itself before its tables change: `FILE.before-0002` for what leads to version 2. The copy gets
    /// its name when it is whole, so dying in the middle leaves nothing that looks like one.
    async fn copy_before_migrating(&self, write: &SqlitePool) -> StoreResult<()> {
        let applied = self.applied_migrations().await?;
        let next = SQLITE_MIGRATIONS.iter().map(|m| m.version).find(|version| !applied.contains(version));
        let Some(next) = next.filter(|_| !applied.is_empty()) else { return Ok(()) };
        let file = write.connect_options().get_filename().to_owned();
        let named = |ending: String| std::path::PathBuf::from(format!("{}.{ending}", file.display()));
        let (part, copy) = (named("copying".to_owned()), named(format!("before-{next:04}")));
        if copy.exists() {
            return Ok(());
        }
        let failed = |source: std::io::Error| StoreError::Database {
            doing: "be copied before its tables change (is the disk full?)",
            source: sqlx::Error::Io(source),
        };
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        sqlx::query("vacuum into $1")
            .bind(part.display().to_string())
            .execute(write)
            .await
            .doing("be copied before its tables change (is the disk full?)")?;
        std::fs::File::open(&part).and_then(|copied| copied.sync_all()).map_err(failed)?;
        std::fs::rename(&part, &copy).map_err(failed)?;
        tracing::info!(copy = %copy.display(), "the store was copied before its tables change");
        Ok(())
    }

    /// Which installation this ledger is. Two processes that migrated at once may both have noted an id; the older one counts.
    pub async fn installation(&self) -> StoreResult<Uuid> {
        on_read!(self, |c| sqlx::query_scalar("select id from installation order by created_at, id limit 1")
            .fetch_one(c)
            .await)
        .doing("say which installation it is")
    }

    /// How many migrations are missing: 0 when the schema is this version's.
    pub async fn missing_migrations(&self) -> StoreResult<usize> {
        let applied = self.applied_migrations().await?;
        let known = if self.is_postgres() { &POSTGRES_MIGRATIONS } else { &SQLITE_MIGRATIONS };
        Ok(known.iter().filter(|m| !applied.contains(&m.version)).count())
    }

    async fn applied_migrations(&self) -> StoreResult<Vec<i64>> {
        let there: bool = match &self.pools {
            Pools::Pg(pool) => {
                sqlx::query_scalar("select to_regclass('_sqlx_migrations') is not null").fetch_one(pool).await
            }
            Pools::Lite { write, .. } => {
                sqlx::query_scalar("select count(*) > 0 from sqlite_master where name = '_sqlx_migrations'")
                    .fetch_one(write)
                    .await
            }
        }
        .doing("be reached")?;
        if !there {
            return Ok(Vec::new());
        }
        on_write!(self, |c| sqlx::query_scalar("select version from _sqlx_migrations where success").fetch_all(c).await)
            .doing("list its migrations")
    }

    /// Begins a transaction that may write.
    pub async fn begin(&self) -> StoreResult<Tx> {
        match &self.pools {
            Pools::Pg(pool) => pool.begin().await.map(Tx::Pg),
            Pools::Lite { write, .. } => write.begin_with("BEGIN IMMEDIATE").await.map(Tx::Lite),
        }
        .doing("begin a transaction")
    }

    /// The engine clock: the database's, so that leases mean the same on every machine. Between two calls of
    /// [`Db::read_clock`] it is our clock corrected by the measured difference.
    #[allow(clippy::disallowed_methods, reason = "this is the engine clock itself")]
    pub fn now(&self) -> DateTime<Utc> {
        Utc::now() + TimeDelta::microseconds(self.skew_us.load(Ordering::Relaxed))
    }

    /// Measures the difference to the database's clock; also the cheapest sign that it answers.
    #[allow(clippy::disallowed_methods, reason = "this is the engine clock itself")]
    pub async fn read_clock(&self) -> StoreResult<()> {
        match &self.pools {
            Pools::Pg(pool) => {
                let before = Utc::now();
                let theirs: DateTime<Utc> =
                    sqlx::query_scalar("select clock_timestamp()").fetch_one(pool).await.doing("tell the time")?;
                let after = Utc::now();
                let middle = before + (after - before) / 2;
                let skew = (theirs - middle).num_microseconds().unwrap_or(0);
                self.skew_us.store(skew, Ordering::Relaxed);
            }
            Pools::Lite { read, .. } => {
                sqlx::query("select 1").execute(read).await.doing("be read")?;
            }
        }
        Ok(())
    }

    /// A second handle on the same database with connections of its own, for the thread that renews leases:
    /// a pool drained by busy steps must not cost them their leases.
    pub fn apart(&self) -> Db {
        match &self.pools {
            Pools::Pg(pool) => {
                let options = (*pool.connect_options()).clone();
                let pool = PgPoolOptions::new()
                    .max_connections(2)
                    .acquire_timeout(Duration::from_secs(5))
                    .connect_lazy_with(options);
                Db { pools: Pools::Pg(pool), skew_us: self.skew_us.clone(), plans: self.plans }
            }
            Pools::Lite { .. } => self.clone(),
        }
    }

    /// Closes every connection; the embedded store folds its log into the file.
    pub async fn close(&self) {
        match &self.pools {
            Pools::Pg(pool) => pool.close().await,
            Pools::Lite { write, read } => {
                read.close().await;
                if let Ok(connection) = write.acquire().await {
                    let _ = connection.detach().close().await;
                }
                write.close().await;
            }
        }
    }
}

impl Tx {
    /// Whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        matches!(self, Tx::Pg(_))
    }

    /// Makes everything in it true at once.
    pub async fn commit(self) -> StoreResult<()> {
        match self {
            Tx::Pg(tx) => tx.commit().await,
            Tx::Lite(tx) => tx.commit().await,
        }
        .doing("commit")
    }

    /// Drops everything in it.
    pub async fn rollback(self) -> StoreResult<()> {
        match self {
            Tx::Pg(tx) => tx.rollback().await,
            Tx::Lite(tx) => tx.rollback().await,
        }
        .doing("roll back")
    }
}
