//! Cancelling a run: its open steps end at once (a worker inside one is fenced), and the closing step still cleans up.

use super::complete::end_runs;
use super::insert_steps;
use crate::db::{Db, Doing, Rows, StoreResult, Ts, on_tx};
use crate::ledger::words::NewStep;
use crate::message::Message;
use crate::plan::Plan;
use crate::state::Verdict;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Cancels the run; `None` when it has ended, is ending, or does not exist. Push the messages after.
pub(in crate::ledger) async fn cancel(
    db: &Db,
    run: Uuid,
    reason: &str,
    now: DateTime<Utc>,
) -> StoreResult<Option<Vec<Message>>> {
    let mut tx = db.begin().await?;
    let found: Option<(String, i64, i64)> = on_tx!(&mut tx, |c| {
        sqlx::query_as(
            "update run set verdict = 'cancelled', reason = $2 where id = $1 and state in ('queued', 'running') and verdict is null
             returning plan, plan_version, priority",
        )
        .bind(run)
        .bind(reason)
        .fetch_optional(c)
        .await
    })
    .doing("cancel a run")?;
    let Some((plan, version, priority)) = found else {
        tx.rollback().await?;
        return Ok(None);
    };
    // Of a plan that we do not know we cannot tell the closing step; its staging is all that it could have cleaned up.
    let closing = Plan::find(db.plans(), &plan, version).and_then(|plan| Some((plan, plan.closing()?)));
    let closing_name = closing.map_or("", |(_, step)| step.as_str());
    on_tx!(&mut tx, |c| {
        sqlx::query(
            "update attempt set outcome = 'cancelled', finished_at = $3
             where run_id = $1 and step <> $2 and outcome = 'running'",
        )
        .bind(run)
        .bind(closing_name)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("close the attempts of a cancelled run")?;
    // The epoch rises, so that a worker inside the step finds itself fenced.
    on_tx!(&mut tx, |c| {
        sqlx::query(
            "update step set state = 'cancelled', epoch = epoch + 1, sent_at = null, lease_owner = null, lease_until = null, wait_for = null, finished_at = $3
             where run_id = $1 and step <> $2 and state in ('waiting', 'ready', 'running')",
        )
        .bind(run)
        .bind(closing_name)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("cancel the steps of a run")?;
    let messages = match closing {
        Some((plan, step)) => {
            let next = NewStep::ready(plan, run, step, priority, now, false);
            let born = insert_steps(&mut tx, std::slice::from_ref(&next)).await?;
            if born.is_empty() { Vec::new() } else { vec![next.message()] }
        }
        None => {
            let (_, woken) = end_runs(&mut tx, &[(run, Some((Verdict::Cancelled, reason.to_owned())))], now).await?;
            woken.into_iter().map(|(_, message)| message).collect()
        }
    };
    tx.commit().await?;
    Ok(Some(messages))
}
