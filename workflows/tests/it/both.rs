//! Runs one test body against SQLite and against PostgreSQL. A body gets a migrated, empty database.

use product_tests::servers::{self, PgDatabase};
use workflows::Db;

/// A database and what must live as long as it.
pub struct Fresh {
    pub db: Db,
    _folder: Option<tempfile::TempDir>,
    _server: Option<PgDatabase>,
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
