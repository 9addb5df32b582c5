//! What a database says of itself, for whoever wants to judge a set-up before using it. In comes a URL or a file, out go facts; nothing
//! is written and nothing is judged.

use crate::db::{Doing, POSTGRES_MIGRATIONS, SQLITE_MIGRATIONS, StoreError, StoreResult, without_password};
use chrono::{DateTime, Utc};
use sqlx::migrate::Migrator;
use sqlx::postgres::{PgConnectOptions, PgConnection, PgSslMode};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{Connection, Row};
use std::path::Path;
use std::str::FromStr;

/// How a schema compares with the migrations in this program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SchemaState {
    /// How many migrations are missing.
    pub missing: usize,
    /// Versions that this program does not know: a newer one has been here.
    pub newer: Vec<i64>,
    /// Versions whose text was another when they were applied.
    pub changed: Vec<i64>,
}

impl SchemaState {
    fn of(known: &Migrator, applied: &[(i64, Vec<u8>)]) -> Self {
        let find = |version: i64| known.iter().find(|m| m.version == version);
        Self {
            missing: known.iter().filter(|m| !applied.iter().any(|(version, _)| *version == m.version)).count(),
            newer: applied.iter().filter(|(v, _)| find(*v).is_none()).map(|(v, _)| *v).collect(),
            changed: applied
                .iter()
                .filter(|(v, sum)| find(*v).is_some_and(|m| *m.checksum != **sum))
                .map(|(v, _)| *v)
                .collect(),
        }
    }
}

/// What a PostgreSQL says of itself.
#[derive(Debug, Clone)]
pub struct PostgresFacts {
    /// Its version as a number, for example 150004.
    pub version: i32,
    /// Its version as text.
    pub version_text: String,
    /// Protocol and cipher, where the connection is encrypted.
    pub tls: Option<String>,
    /// How our schema is.
    pub schema: SchemaState,
    /// Whether this user may create tables where ours belong.
    pub may_create: bool,
    /// Tables that this user may not read and write.
    pub forbidden_tables: i64,
    /// The server's clock minus ours, microseconds.
    pub clock_ahead_us: i64,
    /// How many connections it takes from users like this one.
    pub connections: i64,
    /// How many are open.
    pub connections_used: i64,
    /// The setting `synchronous_commit`.
    pub synchronous_commit: String,
    /// The setting `fsync`.
    pub fsync: bool,
    /// Whether it refuses to be written: a standby, or set so.
    pub is_read_only: bool,
}

/// What a PostgreSQL URL says by itself.
#[derive(Debug, Clone)]
pub struct PostgresAddress {
    /// Host, port and database, for messages.
    pub at: String,
    /// Whether the connection does not leave this machine.
    pub is_local: bool,
    /// Whether the server's certificate and its name are checked.
    pub checks_identity: bool,
}

fn options(url: &str) -> StoreResult<PgConnectOptions> {
    PgConnectOptions::from_str(url)
        .map(|options| options.application_name("retainai doctor"))
        .map_err(|e| StoreError::Url { url: without_password(url), why: e.to_string() })
}

/// Reads the URL.
pub fn postgres_address(url: &str) -> StoreResult<PostgresAddress> {
    let options = options(url)?;
    let host = options.get_host();
    Ok(PostgresAddress {
        at: format!("{host}:{}/{}", options.get_port(), options.get_database().unwrap_or_default()),
        is_local: options.get_socket().is_some()
            || host.starts_with('/')
            || host == "localhost"
            || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback()),
        checks_identity: matches!(options.get_ssl_mode(), PgSslMode::VerifyFull),
    })
}

/// Asks the server, over one connection of its own.
#[allow(clippy::disallowed_methods, reason = "the machine's clock is what the server's is compared with")]
pub async fn postgres(url: &str) -> StoreResult<PostgresFacts> {
    let mut connection = PgConnection::connect_with(&options(url)?).await.doing("be reached")?;
    let before = Utc::now();
    let theirs: DateTime<Utc> =
        sqlx::query_scalar("select clock_timestamp()").fetch_one(&mut connection).await.doing("tell the time")?;
    let middle = before + (Utc::now() - before) / 2;
    let row = sqlx::query(
        "select current_setting('server_version_num')::int as version, current_setting('server_version') as version_text,
            (select version || ' ' || cipher from pg_stat_ssl where pid = pg_backend_pid() and ssl) as tls,
            coalesce(has_schema_privilege(current_schema(), 'create'), false) as may_create,
            (select count(*) from pg_class t join pg_namespace n on n.oid = t.relnamespace
             where n.nspname = current_schema() and t.relkind in ('r', 'p') and t.relname <> '_sqlx_migrations'
               and not (has_table_privilege(t.oid, 'select') and has_table_privilege(t.oid, 'insert')
                        and has_table_privilege(t.oid, 'update') and has_table_privilege(t.oid, 'delete'))) as forbidden_tables,
            current_setting('max_connections')::bigint - current_setting('superuser_reserved_connections')::bigint as connections,
            (select count(*) from pg_stat_activity where backend_type = 'client backend') as connections_used,
            current_setting('synchronous_commit') as synchronous_commit, current_setting('fsync') = 'on' as fsync,
            pg_is_in_recovery() or current_setting('default_transaction_read_only') = 'on' as is_read_only,
            to_regclass('_sqlx_migrations') is not null as has_schema",
    )
    .fetch_one(&mut connection)
    .await
    .doing("say how it is set up")?;
    let applied = match row.get("has_schema") {
        true => sqlx::query_as("select version, checksum from _sqlx_migrations where success order by version")
            .fetch_all(&mut connection)
            .await
            .doing("list its migrations")?,
        false => Vec::new(),
    };
    let facts = PostgresFacts {
        version: row.get("version"),
        version_text: row.get("version_text"),
        tls: row.get("tls"),
        schema: SchemaState::of(&POSTGRES_MIGRATIONS, &applied),
        may_create: row.get("may_create"),
        forbidden_tables: row.get("forbidden_tables"),
        clock_ahead_us: (theirs - middle).num_microseconds().unwrap_or(i64::MAX),
        connections: row.get("connections"),
        connections_used: row.get("connections_used"),
        synchronous_commit: row.get("synchronous_commit"),
        fsync: row.get("fsync"),
        is_read_only: row.get("is_read_only"),
    };
    connection.close().await.doing("end the connection")?;
    Ok(facts)
}

/// The schema of an embedded store, read beside whoever uses the file.
pub async fn sqlite(file: &Path) -> StoreResult<SchemaState> {
    let options = SqliteConnectOptions::new().filename(file).read_only(true);
    let mut connection = SqliteConnection::connect_with(&options).await.doing("open the embedded store")?;
    let there: bool = sqlx::query_scalar("select count(*) > 0 from sqlite_master where name = '_sqlx_migrations'")
        .fetch_one(&mut connection)
        .await
        .doing("be read")?;
    let applied = match there {
        true => sqlx::query_as("select version, checksum from _sqlx_migrations where success order by version")
            .fetch_all(&mut connection)
            .await
            .doing("list its migrations")?,
        false => Vec::new(),
    };
    connection.close().await.doing("end the connection")?;
    Ok(SchemaState::of(&SQLITE_MIGRATIONS, &applied))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_is_behind_ahead_or_another() {
        let all: Vec<(i64, Vec<u8>)> = SQLITE_MIGRATIONS.iter().map(|m| (m.version, m.checksum.to_vec())).collect();
        assert_eq!(SchemaState::of(&SQLITE_MIGRATIONS, &all), SchemaState::default());
        assert_eq!(SchemaState::of(&SQLITE_MIGRATIONS, &[]).missing, all.len());
        let newer = [all.clone(), vec![(9_999, vec![1])]].concat();
        assert_eq!(SchemaState::of(&SQLITE_MIGRATIONS, &newer).newer, [9_999]);
        let changed = SchemaState::of(&SQLITE_MIGRATIONS, &[(all[0].0, vec![0])]);
        assert_eq!(changed.changed, [all[0].0]);
    }

    #[test]
    fn an_address_says_where_without_a_secret() {
        let far = postgres_address("postgres://me:secret@db.example:6000/prices?sslmode=verify-full").unwrap();
        assert_eq!((far.at.as_str(), far.is_local, far.checks_identity), ("db.example:6000/prices", false, true));
        assert!(postgres_address("postgres://127.0.0.1/x").unwrap().is_local);
        let error = postgres_address("postgres://me:secret@db:notaport/x").unwrap_err().to_string();
        assert!(!error.contains("secret"), "{error}");
    }
}
