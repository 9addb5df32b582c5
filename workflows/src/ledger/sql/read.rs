//! Reading the ledger: lists by keyset (never by offset), one run in full, and the counts that health and metrics show.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use crate::plan::{Plan, Plans};
use crate::state::RunState;
use chrono::NaiveDate;
use uuid::Uuid;

/// A run as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table run, described there")]
pub struct RunRow {
    pub id: Uuid,
    pub plan: String,
    pub plan_version: i64,
    pub subject: String,
    pub exchange: Option<String>,
    pub ticker: Option<String>,
    pub session: NaiveDate,
    pub schedule_id: Option<String>,
    pub backfill_id: Option<Uuid>,
    pub priority: i64,
    pub offline: bool,
    pub lineage: Option<Uuid>,
    pub state: String,
    pub verdict: Option<String>,
    pub reason: Option<String>,
    pub pinned: bool,
    pub created_at: Ts,
    pub started_at: Option<Ts>,
    pub finished_at: Option<Ts>,
}

/// A step as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table step, described there")]
pub struct StepRow {
    pub step: String,
    pub seq: i64,
    pub queue: String,
    pub state: String,
    pub generation: i64,
    pub attempt: i64,
    pub max_attempts: i64,
    pub losses: i64,
    pub epoch: i64,
    pub due_at: Option<Ts>,
    pub wait_for: Option<String>,
    pub note: Option<String>,
    pub error: Option<String>,
    pub finished_at: Option<Ts>,
}

/// An attempt as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table attempt, described there")]
pub struct AttemptRow {
    pub step: String,
    pub epoch: i64,
    pub attempt: i64,
    pub worker: String,
    pub started_at: Ts,
    pub finished_at: Option<Ts>,
    pub outcome: String,
    pub error_kind: Option<String>,
    pub detail: Option<String>,
}

/// Which runs a list shows; `None` means all.
#[derive(Debug, Clone, Default)]
#[allow(missing_docs)]
pub struct RunFilter {
    pub exchange: Option<String>,
    pub ticker: Option<String>,
    pub session: Option<NaiveDate>,
    /// Any of these words; empty means all.
    pub states: Vec<String>,
    /// Only runs older than this one (the cursor).
    pub before: Option<Uuid>,
}

const RUN_COLUMNS: &str = "id, plan, plan_version, subject, exchange, ticker, session, schedule_id, backfill_id, priority, offline, lineage, state, verdict, reason, pinned, created_at, started_at, finished_at";

/// Runs, newest first, at most `limit`.
pub(in crate::ledger) async fn list_runs(db: &Db, filter: &RunFilter, limit: i64) -> StoreResult<Vec<RunRow>> {
    // A cursor always stands, so that the row comparison can seek (a maximum for the first page).
    let before = filter.before.unwrap_or(Uuid::max());
    on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new("select ");
        query.push(RUN_COLUMNS).push(" from run where id < ").push_bind(before);
        if let Some(exchange) = &filter.exchange {
            query.push(" and exchange = ").push_bind(exchange.clone());
        }
        if let Some(ticker) = &filter.ticker {
            query.push(" and ticker = ").push_bind(ticker.clone());
        }
        if let Some(session) = filter.session {
            query.push(" and session = ").push_bind(session);
        }
        if !filter.states.is_empty() {
            query.push(" and state in (");
            let mut list = query.separated(", ");
            for state in &filter.states {
                list.push_bind(state.clone());
            }
            query.push(")");
        }
        query.push(" order by id desc limit ").push_bind(limit);
        query.build_query_as().fetch_all(c).await
    })
    .doing("list runs")
}

/// One run with its steps in order and its attempts, oldest first.
pub(in crate::ledger) async fn get_run(
    db: &Db,
    id: Uuid,
) -> StoreResult<Option<(RunRow, Vec<StepRow>, Vec<AttemptRow>)>> {
    let run: Option<RunRow> = on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new("select ");
        query.push(RUN_COLUMNS).push(" from run where id = ").push_bind(id);
        query.build_query_as().fetch_optional(c).await
    })
    .doing("read a run")?;
    let Some(run) = run else { return Ok(None) };
    let steps: Vec<StepRow> = on_read!(db, |c| {
        sqlx::query_as(
            "select step, seq, queue, state, generation, attempt, max_attempts, losses, epoch, due_at, wait_for, note, error, finished_at
             from step where run_id = $1 order by seq",
        )
        .bind(id)
        .fetch_all(c)
        .await
    })
    .doing("read the steps of a run")?;
    let attempts = on_read!(db, |c| {
        sqlx::query_as(
            "select a.step, a.epoch, a.attempt, a.worker, a.started_at, a.finished_at, a.outcome, a.error_kind, a.detail
             from attempt a join step s on s.run_id = a.run_id and s.step = a.step
             where a.run_id = $1 order by a.started_at, s.seq, a.epoch",
        )
        .bind(id)
        .fetch_all(c)
        .await
    })
    .doing("read the attempts of a run")?;
    let steps = with_those_to_come(db.plans(), &run, steps);
    Ok(Some((run, steps, attempts)))
}

/// A step has a row from the day it is ready; the others of the plan are shown as what they are: to come, or never to be.
pub(in crate::ledger) fn with_those_to_come(plans: Plans, run: &RunRow, mut steps: Vec<StepRow>) -> Vec<StepRow> {
    let Some(plan) = Plan::find(plans, &run.plan, run.plan_version) else { return steps };
    let over = run.verdict.is_some() || RunState::from_word(&run.state).is_some_and(RunState::is_final);
    let word = match run.verdict.as_deref() {
        Some("cancelled") => "cancelled",
        _ if over => "skipped",
        _ => "waiting",
    };
    for (seq, policy) in (0i64..).zip(plan.steps) {
        if steps.iter().any(|row| row.seq == seq) {
            continue;
        }
        let closing =
            plan.closing() == Some(policy.step) && !RunState::from_word(&run.state).is_some_and(RunState::is_final);
        steps.push(StepRow {
            step: policy.step.as_str().to_owned(),
            seq,
            queue: policy.step.queue(run.priority),
            state: if closing { "waiting" } else { word }.to_owned(),
            generation: 0,
            attempt: 0,
            max_attempts: policy.max_attempts,
            losses: 0,
            epoch: 0,
            due_at: None,
            wait_for: None,
            note: None,
            error: None,
            finished_at: None,
        });
    }
    steps.sort_by_key(|row| row.seq);
    steps
}

/// Keeps a run whatever its age, or no longer; false when it is so already, or there is none of that id.
pub(super) async fn pin(tx: &mut Tx, run: Uuid, pinned: bool) -> StoreResult<bool> {
    let rows = on_tx!(tx, |c| sqlx::query("update run set pinned = $2 where id = $1 and pinned <> $2")
        .bind(run)
        .bind(pinned)
        .execute(c)
        .await
        .rows())
    .doing("pin a run")?;
    Ok(rows == 1)
}

/// How many open runs are of plans that this program does not know: (plan, version, count).
pub(in crate::ledger) async fn foreign_runs(db: &Db) -> StoreResult<Vec<(String, i64, i64)>> {
    let rows: Vec<(String, i64, i64)> = on_read!(db, |c| {
        sqlx::query_as("select plan, plan_version, count(*) from run where state in ('queued', 'running') group by plan, plan_version").fetch_all(c).await
    })
    .doing("count open runs by plan")?;
    Ok(rows.into_iter().filter(|(plan, version, _)| Plan::find(db.plans(), plan, *version).is_none()).collect())
}

/// How many runs have not ended.
pub(in crate::ledger) async fn open_runs(db: &Db) -> StoreResult<i64> {
    on_read!(db, |c| {
        sqlx::query_scalar("select count(*) from run where state in ('queued', 'running')").fetch_one(c).await
    })
    .doing("count open runs")
}

/// Open steps by kind and state: (step, state, count).
pub(in crate::ledger) async fn queue_depths(db: &Db) -> StoreResult<Vec<(String, String, i64)>> {
    on_read!(db, |c| {
        sqlx::query_as("select step, state, count(*) from step where state in ('ready', 'running') group by step, state order by step, state")
            .fetch_all(c)
            .await
    })
    .doing("count open steps")
}
