//! Taking a step: one statement decides who holds it. In comes a message, out goes a claim, or nothing for a message that is
//! a duplicate, stale or cancelled. Also the renewal of all held leases, one statement.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, on_tx, on_write};
use crate::message::Message;
use crate::plan::{Plan, Policy, Step};
use crate::{db::StoreError, stores::ticker_of};
use chrono::{DateTime, NaiveDate, Utc};
use market::Ticker;
use sqlx::QueryBuilder;
use uuid::Uuid;

/// A step held by this process until its lease ends. Everything a step body may know of its run.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The run.
    pub run: Uuid,
    /// Its plan.
    pub plan: &'static Plan,
    /// Whose run.
    pub ticker: Ticker,
    /// The session it is for, as far as known.
    pub session: NaiveDate,
    /// Whether no request may leave this program.
    pub offline: bool,
    /// Which step.
    pub step: Step,
    /// Its policy.
    pub policy: &'static Policy,
    /// This attempt, from 1.
    pub attempt: i64,
    /// The last attempt.
    pub max_attempts: i64,
    /// Fencing number: completing needs it unchanged.
    pub epoch: i64,
}

#[derive(sqlx::FromRow)]
struct RunPart {
    plan: String,
    exchange: String,
    ticker: String,
    session: NaiveDate,
    offline: bool,
}

/// Claims the step for `owner` until `lease_until`. Other writers of the row: complete, the reconciler, cancel.
pub async fn claim(
    db: &Db,
    message: &Message,
    owner: Uuid,
    worker: &str,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
) -> StoreResult<Option<Claim>> {
    let mut tx = db.begin().await?;
    let held: Option<(i64, i64, i64)> = on_tx!(&mut tx, |c| {
        sqlx::query_as(
            "update step set state = 'running', attempt = attempt + 1, epoch = epoch + 1, lease_owner = $4, lease_until = $5, sent_at = null
             where run_id = $1 and step = $2 and generation = $3 and state = 'ready'
             returning attempt, max_attempts, epoch",
        )
        .bind(message.run)
        .bind(message.step.as_str())
        .bind(message.generation)
        .bind(owner)
        .bind(Ts::from(lease_until))
        .fetch_optional(c)
        .await
    })
    .doing("claim a step")?;
    let Some((attempt, max_attempts, epoch)) = held else {
        tx.rollback().await?;
        return Ok(None);
    };
    let run: RunPart = on_tx!(&mut tx, |c| {
        sqlx::query_as(
            "update run set state = 'running', started_at = coalesce(started_at, $2) where id = $1
             returning plan, exchange, ticker, session, offline",
        )
        .bind(message.run)
        .bind(Ts::from(now))
        .fetch_one(c)
        .await
    })
    .doing("read the run of a claimed step")?;
    on_tx!(&mut tx, |c| {
        sqlx::query("insert into attempt (run_id, step, epoch, attempt, worker, started_at, outcome) values ($1, $2, $3, $4, $5, $6, 'running')")
            .bind(message.run)
            .bind(message.step.as_str())
            .bind(epoch)
            .bind(attempt)
            .bind(worker)
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
    })
    .doing("record an attempt")?;
    let claim = build(
        message.run,
        message.step,
        &run.plan,
        &run.exchange,
        &run.ticker,
        run.session,
        run.offline,
        (attempt, max_attempts, epoch),
    )?;
    tx.commit().await?;
    Ok(Some(claim))
}

/// A claim from its columns; an unknown plan is unreadable, for a newer version wrote it.
#[allow(clippy::too_many_arguments, reason = "one column each, in one place")]
pub(super) fn build(
    run: Uuid,
    step: Step,
    plan: &str,
    exchange: &str,
    ticker: &str,
    session: NaiveDate,
    offline: bool,
    (attempt, max_attempts, epoch): (i64, i64, i64),
) -> StoreResult<Claim> {
    let unknown = || StoreError::Unreadable { what: "plan of a run", why: format!("`{plan}` with step {step}") };
    let plan = Plan::named(plan).ok_or_else(unknown)?;
    let policy = plan.policy(step).ok_or_else(unknown)?;
    let ticker = ticker_of(exchange, ticker)?;
    Ok(Claim { run, plan, ticker, session, offline, step, policy, attempt, max_attempts, epoch })
}

/// Renews the leases of `held` steps and answers which of them are still ours; the others were taken over or cancelled.
pub async fn renew(
    db: &Db,
    owner: Uuid,
    held: &[(Uuid, Step, i64)],
    lease_until: DateTime<Utc>,
) -> StoreResult<Vec<(Uuid, Step, i64)>> {
    if held.is_empty() {
        return Ok(Vec::new());
    }
    let rows: Vec<(Uuid, String, i64)> = on_write!(db, |c| {
        let mut query = QueryBuilder::new("update step set lease_until = ");
        query.push_bind(Ts::from(lease_until)).push(" where state = 'running' and lease_owner = ").push_bind(owner);
        query.push(" and (run_id, step, epoch) in (");
        // PostgreSQL and SQLite both take row values; SQLite wants them from a VALUES list.
        query.push_values(held, |mut row, (run, step, epoch)| {
            row.push_bind(*run).push_bind(step.as_str()).push_bind(*epoch);
        });
        query.push(") returning run_id, step, epoch");
        query.build_query_as().fetch_all(c).await
    })
    .doing("renew leases")?;
    Ok(rows.into_iter().filter_map(|(run, step, epoch)| Some((run, step.parse().ok()?, epoch))).collect())
}
