//! The audit: who asked for what, when and through which door. An entry is written with what it tells of where both are one transaction,
//! and right after it where they are not. Entries are never changed.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx, on_write};
use crate::stores::answered::{self, Request};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Something that was asked for, to be written.
#[derive(Debug, Clone)]
pub struct NewEntry {
    /// Time-ordered id.
    pub id: Uuid,
    /// By the engine clock.
    pub at: DateTime<Utc>,
    /// Who asked.
    pub who: String,
    /// Through which door: `api`, `cli`, `dashboard`, `chat`, or `engine` for what the program decides by itself.
    pub door: &'static str,
    /// What was asked for.
    pub action: &'static str,
    /// Of what: a run, a schedule, a ticker.
    pub subject: String,
    /// How, in words; may be empty.
    pub detail: String,
    /// The Idempotency-Key under which it was asked for: what the entry tells of is done once under it.
    pub request: Option<Request>,
}

/// An entry as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table audit, described there")]
pub struct AuditRow {
    pub id: Uuid,
    pub at: Ts,
    pub who: String,
    pub door: String,
    pub action: String,
    pub subject: String,
    pub detail: String,
}

const INSERT: &str =
    "insert into audit (id, at, who, door, action, subject, detail) values ($1, $2, $3, $4, $5, $6, $7)";

/// Writes an entry in the transaction of what it tells of.
pub(crate) async fn write(tx: &mut Tx, entry: &NewEntry) -> StoreResult<()> {
    if let Some(request) = &entry.request {
        answered::carried_out(tx, request).await?;
    }
    on_tx!(tx, |c| bound(entry, sqlx::query(INSERT)).execute(c).await.rows()).doing("write the audit")?;
    Ok(())
}

/// Writes an entry about what is done already.
pub(in crate::ledger) async fn note(db: &Db, entry: &NewEntry) -> StoreResult<()> {
    on_write!(db, |c| bound(entry, sqlx::query(INSERT)).execute(c).await.rows()).doing("write the audit")?;
    Ok(())
}

fn bound<'q, D>(
    entry: &NewEntry,
    query: sqlx::query::Query<'q, D, D::Arguments>,
) -> sqlx::query::Query<'q, D, D::Arguments>
where
    D: sqlx::Database,
    Uuid: sqlx::Encode<'q, D> + sqlx::Type<D>,
    Ts: sqlx::Encode<'q, D> + sqlx::Type<D>,
    String: sqlx::Encode<'q, D> + sqlx::Type<D>,
{
    query
        .bind(entry.id)
        .bind(Ts::from(entry.at))
        .bind(entry.who.clone())
        .bind(entry.door.to_owned())
        .bind(entry.action.to_owned())
        .bind(entry.subject.clone())
        .bind(entry.detail.clone())
}

/// The audit, newest first, at most `limit`; what stands before `before` where it is given.
pub(in crate::ledger) async fn audit(db: &Db, before: Option<Uuid>, limit: i64) -> StoreResult<Vec<AuditRow>> {
    on_read!(db, |c| {
        sqlx::query_as(
            "select id, at, who, door, action, subject, detail from audit where id < $1 order by id desc limit $2",
        )
        .bind(before.unwrap_or(Uuid::max()))
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("read the audit")
}
