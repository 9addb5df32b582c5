//! Real servers for one test: a PostgreSQL database of its own, a Redis process of its own.
//! Where there is no server the test is skipped with a sentence, but under `make test` it fails.

use anyhow::{Context, Result};
use sqlx::postgres::PgPoolOptions;
use sqlx::{Connection, PgConnection, PgPool};
use uuid::Uuid;

pub use crate::postgres_server::TlsPostgres;
pub use crate::redis_server::{RedisDb, RedisOptions};
use crate::tls::Authority;

/// A new, empty database, dropped with the value. None where `RETAINAI_TEST_POSTGRES_URL` is not set.
pub async fn postgres() -> Option<PgDatabase> {
    let Ok(server) = std::env::var("RETAINAI_TEST_POSTGRES_URL") else {
        return absent("a private PostgreSQL");
    };
    Some(PgDatabase::create(server).await.expect("a database for this test"))
}

/// A Redis of this test alone, which may be flushed, killed and restarted. None where there is no `redis-server`.
pub async fn redis() -> Option<RedisDb> {
    if !RedisDb::is_installed() {
        return absent("a private Redis");
    }
    Some(RedisDb::start().await.expect("a Redis for this test"))
}

/// The same, set up otherwise.
pub async fn redis_with(options: &RedisOptions<'_>) -> Option<RedisDb> {
    if !RedisDb::is_installed() {
        return absent("a private Redis");
    }
    Some(RedisDb::start_with(options).await.expect("a Redis for this test"))
}

/// A PostgreSQL server of this test alone that speaks TLS with a certificate for these names. None where none is installed.
pub async fn tls_postgres(authority: &Authority, names: &[&str]) -> Option<TlsPostgres> {
    if !TlsPostgres::is_installed() {
        return absent("a PostgreSQL that can be started");
    }
    Some(TlsPostgres::start(authority, names).await.expect("a PostgreSQL for this test"))
}

fn absent<T>(what: &str) -> Option<T> {
    assert!(std::env::var_os("RETAINAI_TEST_REQUIRE_SERVERS").is_none(), "this run requires {what}, and there is none");
    println!("skipped: run make test (needs {what})");
    None
}

/// A database of one test.
pub struct PgDatabase {
    server: String,
    name: String,
    url: String,
}

impl PgDatabase {
    async fn create(server: String) -> Result<Self> {
        let name = format!("test_{}", Uuid::new_v4().simple());
        execute(&server, &format!("CREATE DATABASE {name}")).await?;
        let (base, _) = server.rsplit_once('/').context("a server URL ends with /DATABASE")?;
        let url = format!("{base}/{name}");
        Ok(Self { server, name, url })
    }

    /// The address to hand to a program.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A few connections for the test itself.
    pub async fn pool(&self) -> PgPool {
        PgPoolOptions::new().max_connections(4).connect(&self.url).await.expect("connections to the test's database")
    }
}

impl Drop for PgDatabase {
    fn drop(&mut self) {
        // A drop cannot wait for a future, and this one may run inside a runtime: hence a thread with its own.
        let server = self.server.clone();
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        let dropped = std::thread::spawn(move || {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(execute(&server, &statement))
        });
        // The server is thrown away after the run, so what could not be dropped is no reason to fail.
        if !matches!(dropped.join(), Ok(Ok(()))) {
            eprintln!("the database {} could not be dropped", self.name);
        }
    }
}

async fn execute(server: &str, statement: &str) -> Result<()> {
    let mut connection = PgConnection::connect(server).await.with_context(|| format!("connecting to {server}"))?;
    sqlx::raw_sql(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await?;
    connection.close().await?;
    Ok(())
}
