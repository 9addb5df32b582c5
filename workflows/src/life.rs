//! The sign of life of a process on PostgreSQL: an advisory lock on a connection of its own. kill -9 closes the connection, the server lets
//! the lock go, and the reconciler takes back what the process held, long before its leases end.

use crate::db::{Db, Doing, Pools, StoreResult};
use crate::ledger::life_lock;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{ConnectOptions, Connection};
use std::time::Duration;
use uuid::Uuid;

/// How long the server may take to answer before the connection counts as lost.
const PATIENCE: Duration = Duration::from_secs(3);

/// The connection that holds the lock.
pub(crate) struct Life {
    options: PgConnectOptions,
    lock: i64,
    connection: Option<PgConnection>,
    shown: bool,
}

impl Db {
    /// The sign of life of `instance`, not shown yet; `None` for the embedded store, which only one process may open.
    pub(crate) fn life(&self, instance: Uuid) -> Option<Life> {
        match &self.pools {
            Pools::Pg(pool) => {
                let options = (*pool.connect_options()).clone().application_name("retainai-life");
                Some(Life { options, lock: life_lock(instance), connection: None, shown: false })
            }
            Pools::Lite { .. } => None,
        }
    }
}

impl Life {
    /// Makes sure that the lock is held; true when it had been lost meanwhile.
    pub(crate) async fn show(&mut self) -> StoreResult<bool> {
        if let Some(connection) = &mut self.connection {
            let answered = tokio::time::timeout(PATIENCE, connection.ping()).await;
            if matches!(answered, Ok(Ok(()))) {
                return Ok(false);
            }
            self.connection = None;
        }
        let taken = tokio::time::timeout(PATIENCE, self.take()).await;
        let connection = taken.unwrap_or(Err(sqlx::Error::PoolTimedOut)).doing("keep a sign of life")?;
        self.connection = Some(connection);
        Ok(std::mem::replace(&mut self.shown, true))
    }

    async fn take(&self) -> Result<PgConnection, sqlx::Error> {
        let mut connection = self.options.connect().await?;
        // Shared: the server may not have noticed yet that the former connection of this process is gone.
        sqlx::query("select pg_advisory_lock_shared($1)").bind(self.lock).execute(&mut connection).await?;
        Ok(connection)
    }
}
