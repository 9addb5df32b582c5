//! Runs one test body against SQLite and against PostgreSQL, or against these and the ledger in memory. A body gets an empty, migrated store.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use product_tests::servers::{self, PgDatabase};
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
}

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
