//! Ending an attempt: fence, effects, what comes next and the attempt row, all in one transaction or not at all.

use super::claim::Claim;
use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_tx, on_write};
use crate::effect::Effect;
use crate::message::Message;
use crate::plan::Step;
use crate::state::{Decision, Outcome, RunState, StepState, Verdict, decide};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// What a completion made true.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Messages to push, now that the transaction has committed. Lost ones are pushed again by the reconciler.
    pub messages: Vec<Message>,
    /// The state the run ended in, if it did.
    pub run_ended: Option<RunState>,
    /// What was decided.
    pub decision: Decision,
}

/// Ends the attempt that holds `claim`. Effects are written only for an outcome that succeeded.
///
/// `lapsed_before` is given by the reconciler: then the step must also have let its lease lapse before that instant (a worker
/// that renews in the meantime keeps its step).
///
/// # Errors
/// [`StoreError::Fenced`] when the step is no longer held under this epoch: nothing is written but the attempt's outcome.
pub async fn complete(
    db: &Db,
    claim: &Claim,
    outcome: &Outcome,
    effects: &[Effect],
    now: DateTime<Utc>,
    dice: f64,
    lapsed_before: Option<DateTime<Utc>>,
) -> StoreResult<Completion> {
    let decision = decide(claim.plan, claim.policy, claim.attempt, claim.max_attempts, outcome, now, dice);
    let mut tx = db.begin().await?;
    if !leave(&mut tx, claim, outcome, &decision, now, lapsed_before).await? {
        tx.rollback().await?;
        if lapsed_before.is_none() {
            mark_fenced(db, claim, now).await?;
        }
        return Err(StoreError::Fenced);
    }
    if matches!(outcome, Outcome::Done(_) | Outcome::Skip(_) | Outcome::NoNewSession(_)) {
        apply(&mut tx, claim, outcome, effects, now).await?;
    }
    let (messages, run_ended) = follow(&mut tx, claim, &decision, now).await?;
    close_attempt(&mut tx, claim, outcome.attempt_word(&decision), outcome.text(), now).await?;
    tx.commit().await?;
    Ok(Completion { messages, run_ended, decision })
}

/// The fence: moves the step out of `running`, if it is still ours. False when it is not.
async fn leave(
    tx: &mut Tx,
    claim: &Claim,
    outcome: &Outcome,
    decision: &Decision,
    now: DateTime<Utc>,
    lapsed_before: Option<DateTime<Utc>>,
) -> StoreResult<bool> {
    let (state, due_at, again, forgive) = match decision {
        Decision::Advance { state, .. } | Decision::Close { state, .. } => (*state, now, false, false),
        Decision::Again { due_at, forgive } => (StepState::Ready, *due_at, true, *forgive),
    };
    let succeeded = matches!(state, StepState::Done | StepState::Skipped);
    // Only the reconciler looks at the lease; a worker whose lease lapsed but whom nobody replaced still holds the step.
    let lapse = Ts::from(lapsed_before.unwrap_or_else(|| FAR_FUTURE.parse().expect("a valid instant")));
    let rows = on_tx!(tx, |c| {
        sqlx::query(
            "update step set state = $4, due_at = $5, generation = generation + $6, attempt = attempt - $7, sent_at = null,
                    lease_owner = null, lease_until = null, note = $8, error = $9, finished_at = $10
             where run_id = $1 and step = $2 and epoch = $3 and state = 'running' and (lease_until is null or lease_until < $11)",
        )
        .bind(claim.run)
        .bind(claim.step.as_str())
        .bind(claim.epoch)
        .bind(state.as_str())
        .bind(Ts::from(due_at))
        .bind(i64::from(again))
        .bind(i64::from(forgive))
        .bind(succeeded.then(|| outcome.text()))
        .bind((!succeeded).then(|| outcome.text()))
        .bind((!again).then_some(Ts::from(now)))
        .bind(lapse)
        .execute(c)
        .await
        .map(|done| done.rows_affected())
    })
    .doing("complete a step")?;
    Ok(rows == 1)
}

/// Later than every lease; inside the range of both databases.
const FAR_FUTURE: &str = "9000-01-01T00:00:00Z";

async fn apply(
    tx: &mut Tx,
    claim: &Claim,
    outcome: &Outcome,
    effects: &[Effect],
    now: DateTime<Utc>,
) -> StoreResult<()> {
    for effect in effects {
        effect.apply(tx, claim, now).await?;
    }
    on_tx!(tx, |c| {
        sqlx::query("insert into effect (run_id, step, epoch, applied_at, detail) values ($1, $2, $3, $4, $5)")
            .bind(claim.run)
            .bind(claim.step.as_str())
            .bind(claim.epoch)
            .bind(Ts::from(now))
            .bind(outcome.text())
            .execute(c)
            .await
            .rows()
    })
    .doing("record that a step's effects were applied")?;
    Ok(())
}

/// Writes what follows for the other steps and the run.
async fn follow(
    tx: &mut Tx,
    claim: &Claim,
    decision: &Decision,
    now: DateTime<Utc>,
) -> StoreResult<(Vec<Message>, Option<RunState>)> {
    match decision {
        Decision::Again { .. } => Ok((Vec::new(), None)),
        Decision::Advance { next: Some(next), .. } => Ok((wake(tx, claim.run, *next, now).await?, None)),
        Decision::Advance { next: None, .. } => Ok((Vec::new(), finish(tx, claim.run, None, None, now).await?)),
        Decision::Close { verdict, reason, .. } if claim.step == claim.plan.closing() => {
            Ok((Vec::new(), finish(tx, claim.run, Some(*verdict), Some(reason), now).await?))
        }
        Decision::Close { verdict, reason, .. } => {
            let closing = claim.plan.closing();
            on_tx!(tx, |c| {
                sqlx::query("update run set verdict = $2, reason = $3 where id = $1")
                    .bind(claim.run)
                    .bind(verdict.as_str())
                    .bind(reason)
                    .execute(c)
                    .await
                    .rows()
            })
            .doing("record how a run will end")?;
            on_tx!(tx, |c| {
                sqlx::query("update step set state = 'skipped', finished_at = $3 where run_id = $1 and step <> $2 and state = 'waiting'")
                    .bind(claim.run)
                    .bind(closing.as_str())
                    .bind(Ts::from(now))
                    .execute(c)
                    .await
                    .rows()
            })
            .doing("skip the rest of a run")?;
            Ok((wake(tx, claim.run, closing, now).await?, None))
        }
    }
}

/// Makes a waiting step ready. `sent_at` is set as if its message were pushed already, because the caller pushes right after the
/// commit; if it dies in between, the reconciler finds the message overdue and pushes it.
pub(super) async fn wake(tx: &mut Tx, run: Uuid, step: Step, now: DateTime<Utc>) -> StoreResult<Vec<Message>> {
    let woken: Option<(i64, String)> = on_tx!(tx, |c| {
        sqlx::query_as(
            "update step set state = 'ready', generation = generation + 1, due_at = $3, sent_at = $3
             where run_id = $1 and step = $2 and state = 'waiting' returning generation, queue",
        )
        .bind(run)
        .bind(step.as_str())
        .bind(Ts::from(now))
        .fetch_optional(c)
        .await
    })
    .doing("make the next step ready")?;
    Ok(woken.into_iter().map(|(generation, queue)| Message { run, step, generation, queue }).collect())
}

async fn finish(
    tx: &mut Tx,
    run: Uuid,
    verdict: Option<Verdict>,
    reason: Option<&str>,
    now: DateTime<Utc>,
) -> StoreResult<Option<RunState>> {
    let state: String = on_tx!(tx, |c| {
        sqlx::query_scalar(
            "update run set verdict = coalesce(verdict, $2), reason = coalesce(reason, $3),
                    state = coalesce(verdict, $2, 'succeeded'), finished_at = $4
             where id = $1 returning state",
        )
        .bind(run)
        .bind(verdict.map(Verdict::as_str))
        .bind(reason)
        .bind(Ts::from(now))
        .fetch_one(c)
        .await
    })
    .doing("end a run")?;
    Ok(RunState::from_word(&state))
}

async fn close_attempt(tx: &mut Tx, claim: &Claim, word: &str, detail: &str, now: DateTime<Utc>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query("update attempt set outcome = $4, detail = $5, finished_at = $6 where run_id = $1 and step = $2 and epoch = $3")
            .bind(claim.run)
            .bind(claim.step.as_str())
            .bind(claim.epoch)
            .bind(word)
            .bind(detail)
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
    })
    .doing("close an attempt")?;
    Ok(())
}

async fn mark_fenced(db: &Db, claim: &Claim, now: DateTime<Utc>) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query(
            "update attempt set outcome = 'fenced', finished_at = $4
             where run_id = $1 and step = $2 and epoch = $3 and outcome in ('running', 'lost')",
        )
        .bind(claim.run)
        .bind(claim.step.as_str())
        .bind(claim.epoch)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("mark an attempt as fenced")?;
    Ok(())
}
