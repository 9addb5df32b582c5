//! Cancelling a run: its open steps end at once (a worker inside one is fenced), and the closing step still cleans up.

use super::complete::wake;
use crate::db::{Db, Doing, Rows, StoreResult, Ts, on_tx};
use crate::message::Message;
use crate::plan::Plan;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Cancels the run; `None` when it has ended, is ending, or does not exist. Push the messages after.
pub async fn cancel(db: &Db, run: Uuid, reason: &str, now: DateTime<Utc>) -> StoreResult<Option<Vec<Message>>> {
    let mut tx = db.begin().await?;
    let plan: Option<String> = on_tx!(&mut tx, |c| {
        sqlx::query_scalar(
            "update run set verdict = 'cancelled', reason = $2 where id = $1 and state in ('queued', 'running') and verdict is null returning plan",
        )
        .bind(run)
        .bind(reason)
        .fetch_optional(c)
        .await
    })
    .doing("cancel a run")?;
    let Some(plan) = plan.as_deref().and_then(Plan::named) else {
        tx.rollback().await?;
        return Ok(None);
    };
    let closing = plan.closing();
    on_tx!(&mut tx, |c| {
        sqlx::query(
            "update attempt set outcome = 'cancelled', finished_at = $3
             where run_id = $1 and step <> $2 and outcome = 'running'",
        )
        .bind(run)
        .bind(closing.as_str())
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("close the attempts of a cancelled run")?;
    // The epoch rises, so that a worker inside the step finds itself fenced.
    on_tx!(&mut tx, |c| {
        sqlx::query(
            "update step set state = 'cancelled', epoch = epoch + 1, lease_owner = null, lease_until = null, finished_at = $3
             where run_id = $1 and step <> $2 and state in ('waiting', 'ready', 'running')",
        )
        .bind(run)
        .bind(closing.as_str())
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("cancel the steps of a run")?;
    let messages = wake(&mut tx, run, closing, now).await?;
    tx.commit().await?;
    Ok(Some(messages))
}
