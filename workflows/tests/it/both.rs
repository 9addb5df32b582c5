//! Runs one test body against SQLite and against PostgreSQL, or against these and the ledger in memory. A body gets an empty, migrated store.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use product_tests::servers::{self, PgDatabase};
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{AssertSqlSafe, PgPool, SqlitePool};
use std::sync::Arc;
use workflows::db::StoreResult;
use workflows::ledger::{MemoryLedger, Weather};
use workflows::{Db, Ledger};

/// A database and what must live as long as it.
pub struct Fresh {
    pub db: Db,
    _folder: Option<tempfile::TempDir>,
    _server: Option<PgDatabase>,
}

impl Fresh {
    pub fn ledger(&self) -> Ledger {
        Ledger::Sql(self.db.clone())
    }

    /// Does something to the database that the program would not.
    pub async fn execute(&self, sql: &str) {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self._server {
            Some(server) => drop(sqlx::query(sql).execute(&server.pool().await).await.expect(DONE)),
            None => drop(sqlx::query(sql).execute(&self.file().await).await.expect(DONE)),
        }
    }

    /// What a query says whose rows are one text each.
    pub async fn texts(&self, sql: &str) -> Vec<String> {
        let sql = AssertSqlSafe(sql.to_owned());
        match &self._server {
            Some(server) => sqlx::query_scalar(sql).fetch_all(&server.pool().await).await,
            None => sqlx::query_scalar(sql).fetch_all(&self.file().await).await,
        }
        .expect(DONE)
    }

    /// The columns of a table, sorted.
    pub async fn columns(&self, table: &str) -> Vec<String> {
        let of = if self.db.is_postgres() {
            format!(
                "select column_name::text from information_schema.columns where table_name = '{table}' order by column_name collate \"C\""
            )
        } else {
            format!("select name from pragma_table_info('{table}') order by name")
        };
        self.texts(&of).await
    }

    /// All rows of a table as the database writes them, in some order that is always the same.
    pub async fn rows(&self, table: &str) -> Vec<String> {
        let columns = self.columns(table).await;
        let row = match self.db.is_postgres() {
            true => format!("row({})::text", columns.join(", ")),
            false => columns.iter().map(|name| format!("quote({name})")).collect::<Vec<_>>().join(" || ' ' || "),
        };
        let mut rows = self.texts(&format!("select {row} from {table}")).await;
        rows.sort();
        rows
    }

    /// Connections of somebody else to the same database, where it is PostgreSQL.
    pub async fn pool(&self) -> Option<PgPool> {
        match &self._server {
            Some(server) => Some(server.pool().await),
            None => None,
        }
    }

    async fn file(&self) -> SqlitePool {
        let folder = self._folder.as_ref().expect("a folder");
        let options = SqliteConnectOptions::new().filename(folder.path().join("ledger.db"));
        SqlitePool::connect_with(options).await.expect(DONE)
    }

    /// The address of its server; empty for the embedded store.
    pub fn url(&self) -> &str {
        self._server.as_ref().map_or("", PgDatabase::url)
    }
}

const DONE: &str = "the database does it";

pub async fn sqlite() -> Option<Fresh> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let db = Db::sqlite(&folder.path().join("ledger.db")).await.expect("an embedded store");
    db.migrate().await.expect("migrations");
    Some(Fresh { db, _folder: Some(folder), _server: None })
}

pub async fn postgres() -> Option<Fresh> {
    let server = servers::postgres().await?;
    let db = Db::postgres(server.url(), 8).expect("a URL");
    db.migrate().await.expect("migrations");
    Some(Fresh { db, _folder: None, _server: Some(server) })
}

/// No delays, no errors, a clock that stands.
#[derive(Debug)]
pub struct Calm(pub DateTime<Utc>);

#[async_trait]
impl Weather for Calm {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
    async fn before(&self, _: &'static str) -> StoreResult<()> {
        Ok(())
    }
    async fn after(&self, _: &'static str) -> StoreResult<()> {
        Ok(())
    }
}

pub fn memory(now: DateTime<Utc>) -> MemoryLedger {
    MemoryLedger::new(Arc::new(Calm(now)))
}

/// Makes a test per database from `async fn name(db: Db)`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(fresh) = $crate::both::sqlite().await { super::$name(fresh.db.clone()).await; fresh.db.close().await; }
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(fresh) = $crate::both::postgres().await { super::$name(fresh.db.clone()).await; fresh.db.close().await; }
            })+
        }
    };
}
pub(crate) use on_both;

/// The same from `async fn name(fresh: &Fresh)`, for tests that look into the tables themselves.
macro_rules! on_both_fresh {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(fresh) = $crate::both::sqlite().await { super::$name(&fresh).await; fresh.db.close().await; }
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(fresh) = $crate::both::postgres().await { super::$name(&fresh).await; fresh.db.close().await; }
            })+
        }
    };
}
pub(crate) use on_both_fresh;

/// Makes a test per kind of ledger from `async fn name(ledger: Ledger)`.
macro_rules! on_all {
    ($($name:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $name() {
                super::$name(workflows::Ledger::Memory($crate::both::memory(super::now()))).await;
            })+
        }
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(fresh) = $crate::both::sqlite().await { super::$name(fresh.ledger()).await; fresh.db.close().await; }
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(fresh) = $crate::both::postgres().await { super::$name(fresh.ledger()).await; fresh.db.close().await; }
            })+
        }
    };
}
pub(crate) use on_all;
