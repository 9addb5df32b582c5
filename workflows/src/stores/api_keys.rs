//! API keys and the logins of browsers: in come hashes, out comes whose they are. The keys themselves never get here.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, on_read, on_tx, on_write};
use crate::ledger::NewEntry;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// A key to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewKey {
    /// Time-ordered; [`BOOTSTRAP`] for the first one.
    pub id: Uuid,
    /// For people.
    pub name: String,
    /// The part by which it is found.
    pub prefix: String,
    /// SHA-256 of the whole key.
    pub hash: [u8; 32],
    /// Words separated by spaces.
    pub scopes: String,
    /// Who makes it.
    pub created_by: String,
    /// From then on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
}

/// The id of the key that is made when there is none yet.
pub const BOOTSTRAP: Uuid = Uuid::from_u128(1);

/// A key as it is kept.
#[derive(Debug, Clone, PartialEq, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table api_key, described there")]
pub struct KeyRow {
    pub id: Uuid,
    pub name: String,
    pub prefix: String,
    pub hash: Vec<u8>,
    pub scopes: String,
    pub created_at: Ts,
    pub created_by: String,
    pub expires_at: Option<Ts>,
    pub last_used_at: Option<Ts>,
    pub revoked_at: Option<Ts>,
}

impl KeyRow {
    /// Whether it opens anything at `now`.
    pub fn holds(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires| now < expires.0)
    }
}

const COLUMNS: &str = "id, name, prefix, hash, scopes, created_at, created_by, expires_at, last_used_at, revoked_at";

/// Keeps a key, in one transaction with its audit. False, and nothing changed, when its id is there already.
pub async fn create(db: &Db, key: &NewKey, entry: &NewEntry, now: DateTime<Utc>) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let made = on_tx!(&mut tx, |c| {
        sqlx::query(
            "insert into api_key (id, name, prefix, hash, scopes, created_at, created_by, expires_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8) on conflict (id) do nothing",
        )
        .bind(key.id)
        .bind(key.name.clone())
        .bind(key.prefix.clone())
        .bind(key.hash.to_vec())
        .bind(key.scopes.clone())
        .bind(Ts::from(now))
        .bind(key.created_by.clone())
        .bind(key.expires_at.map(Ts::from))
        .execute(c)
        .await
        .rows()
    })
    .doing("keep an API key")?;
    if made == 1 {
        crate::ledger::note_in(&mut tx, entry).await?;
    }
    tx.commit().await?;
    Ok(made == 1)
}

/// Whether any key was ever made.
pub async fn any(db: &Db) -> StoreResult<bool> {
    let found: Option<i64> =
        on_read!(db, |c| sqlx::query_scalar("select cast(1 as bigint) from api_key limit 1").fetch_optional(c).await)
            .doing("look for an API key")?;
    Ok(found.is_some())
}

/// The key with that prefix.
pub async fn by_prefix(db: &Db, prefix: &str) -> StoreResult<Option<KeyRow>> {
    let sql = sqlx::AssertSqlSafe(format!("select {COLUMNS} from api_key where prefix = $1"));
    on_read!(db, |c| sqlx::query_as(sql).bind(prefix).fetch_optional(c).await).doing("look up an API key")
}

/// The key with that id.
pub async fn get(db: &Db, id: Uuid) -> StoreResult<Option<KeyRow>> {
    let sql = sqlx::AssertSqlSafe(format!("select {COLUMNS} from api_key where id = $1"));
    on_read!(db, |c| sqlx::query_as(sql).bind(id).fetch_optional(c).await).doing("look up an API key")
}

/// Keys after `after`, at most `limit`, in the order in which they were made.
pub async fn list(db: &Db, after: Option<Uuid>, limit: i64) -> StoreResult<Vec<KeyRow>> {
    let sql = sqlx::AssertSqlSafe(format!("select {COLUMNS} from api_key where id > $1 order by id limit $2"));
    on_read!(db, |c| sqlx::query_as(sql).bind(after.unwrap_or(Uuid::nil())).bind(limit).fetch_all(c).await)
        .doing("list API keys")
}

/// Revokes a key for good, in one transaction with its audit. False, and nothing changed, when it was revoked before or is unknown.
pub async fn revoke(db: &Db, id: Uuid, entry: &NewEntry, now: DateTime<Utc>) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let revoked = on_tx!(&mut tx, |c| {
        sqlx::query("update api_key set revoked_at = $2 where id = $1 and revoked_at is null")
            .bind(id)
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
    })
    .doing("revoke an API key")?;
    if revoked == 1 {
        crate::ledger::note_in(&mut tx, entry).await?;
    }
    tx.commit().await?;
    Ok(revoked == 1)
}

/// Notes that a key was used.
pub async fn used(db: &Db, id: Uuid, at: DateTime<Utc>) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query(
            "update api_key set last_used_at = $2 where id = $1 and (last_used_at is null or last_used_at < $2)",
        )
        .bind(id)
        .bind(Ts::from(at))
        .execute(c)
        .await
        .rows()
    })
    .doing("note the use of an API key")?;
    Ok(())
}

/// Keeps a login, and lets go of those that have expired.
pub async fn log_in(db: &Db, hash: [u8; 32], key: Uuid, now: DateTime<Utc>, until: DateTime<Utc>) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query("delete from login where expires_at < $1").bind(Ts::from(now)).execute(c).await.rows()
    })
    .doing("forget old logins")?;
    on_write!(db, |c| {
        sqlx::query("insert into login (hash, key_id, created_at, expires_at) values ($1, $2, $3, $4)")
            .bind(hash.to_vec())
            .bind(key)
            .bind(Ts::from(now))
            .bind(Ts::from(until))
            .execute(c)
            .await
            .rows()
    })
    .doing("keep a login")?;
    Ok(())
}

/// The key behind a login that lasts at `now`, and until when it lasts.
pub async fn by_login(db: &Db, hash: [u8; 32], now: DateTime<Utc>) -> StoreResult<Option<(KeyRow, DateTime<Utc>)>> {
    let found: Option<(Uuid, Ts)> = on_read!(db, |c| {
        sqlx::query_as("select key_id, expires_at from login where hash = $1 and expires_at > $2")
            .bind(hash.to_vec())
            .bind(Ts::from(now))
            .fetch_optional(c)
            .await
    })
    .doing("look up a login")?;
    let Some((key, until)) = found else { return Ok(None) };
    Ok(get(db, key).await?.map(|key| (key, until.0)))
}

/// Ends a login. Twice is once.
pub async fn log_out(db: &Db, hash: [u8; 32]) -> StoreResult<()> {
    on_write!(db, |c| sqlx::query("delete from login where hash = $1").bind(hash.to_vec()).execute(c).await.rows())
        .doing("end a login")?;
    Ok(())
}
