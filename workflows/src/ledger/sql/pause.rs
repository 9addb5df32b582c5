//! Pausing and resuming: a step kind, a source, an exchange or a ticker. What runs goes on; what would begin is set aside by the claim.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, Utc};

/// Something paused, as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct PauseRow {
    /// `step`, `source`, `exchange` or `ticker`.
    pub kind: String,
    /// Which.
    pub value: String,
    /// Since when.
    pub since: Ts,
    /// Why, in the words of who did it.
    pub reason: String,
}

/// Pauses; false when it was paused already.
pub(in crate::ledger) async fn pause(
    db: &Db,
    kind: &str,
    value: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let paused = pause_in(&mut tx, kind, value, reason, now).await?;
    tx.commit().await?;
    Ok(paused)
}

/// The same, inside a transaction that does more.
pub(super) async fn pause_in(
    tx: &mut Tx,
    kind: &str,
    value: &str,
    reason: &str,
    now: DateTime<Utc>,
) -> StoreResult<bool> {
    let rows = on_tx!(tx, |c| {
        sqlx::query("insert into pause (kind, value, since, reason) values ($1, $2, $3, $4) on conflict (kind, value) do nothing")
            .bind(kind)
            .bind(value)
            .bind(Ts::from(now))
            .bind(reason)
            .execute(c)
            .await
            .rows()
    })
    .doing("pause")?;
    Ok(rows == 1)
}

/// Resumes; false when it was not paused. What was set aside is released by `release`, in slices.
pub(in crate::ledger) async fn resume(db: &Db, kind: &str, value: &str) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let resumed = resume_in(&mut tx, kind, value).await?;
    tx.commit().await?;
    Ok(resumed)
}

/// The same, inside a transaction that does more.
pub(super) async fn resume_in(tx: &mut Tx, kind: &str, value: &str) -> StoreResult<bool> {
    let rows = on_tx!(tx, |c| {
        sqlx::query("delete from pause where kind = $1 and value = $2").bind(kind).bind(value).execute(c).await.rows()
    })
    .doing("resume")?;
    Ok(rows == 1)
}

/// Everything that is paused.
pub(in crate::ledger) async fn paused(db: &Db) -> StoreResult<Vec<PauseRow>> {
    on_read!(db, |c| sqlx::query_as("select kind, value, since, reason from pause order by kind, value")
        .fetch_all(c)
        .await)
    .doing("read what is paused")
}
