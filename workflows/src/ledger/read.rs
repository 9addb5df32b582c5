//! Reading the ledger: lists by keyset (never by offset), one run in full, and the counts that health and metrics show.

use crate::db::{Db, Doing, StoreResult, Ts, on_read};
use chrono::NaiveDate;
use uuid::Uuid;

/// A run as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table run, described there")]
pub struct RunRow {
    pub id: Uuid,
    pub plan: String,
    pub exchange: String,
    pub ticker: String,
    pub session: NaiveDate,
    pub schedule_id: Option<String>,
    pub priority: i64,
    pub offline: bool,
    pub lineage: Option<Uuid>,
    pub state: String,
    pub verdict: Option<String>,
    pub reason: Option<String>,
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
    pub epoch: i64,
    pub due_at: Ts,
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

const RUN_COLUMNS: &str = "id, plan, exchange, ticker, session, schedule_id, priority, offline, lineage, state, verdict, reason, created_at, started_at, finished_at";

/// Runs, newest first, at most `limit`.
pub async fn list_runs(db: &Db, filter: &RunFilter, limit: i64) -> StoreResult<Vec<RunRow>> {
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
pub async fn get_run(db: &Db, id: Uuid) -> StoreResult<Option<(RunRow, Vec<StepRow>, Vec<AttemptRow>)>> {
    let run: Option<RunRow> = on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new("select ");
        query.push(RUN_COLUMNS).push(" from run where id = ").push_bind(id);
        query.build_query_as().fetch_optional(c).await
    })
    .doing("read a run")?;
    let Some(run) = run else { return Ok(None) };
    let steps = on_read!(db, |c| {
        sqlx::query_as(
            "select step, seq, queue, state, generation, attempt, max_attempts, epoch, due_at, note, error, finished_at
             from step where run_id = $1 order by seq",
        )
        .bind(id)
        .fetch_all(c)
        .await
    })
    .doing("read the steps of a run")?;
    let attempts = on_read!(db, |c| {
        sqlx::query_as(
            "select a.step, a.epoch, a.attempt, a.worker, a.started_at, a.finished_at, a.outcome, a.detail
             from attempt a join step s on s.run_id = a.run_id and s.step = a.step
             where a.run_id = $1 order by a.started_at, s.seq, a.epoch",
        )
        .bind(id)
        .fetch_all(c)
        .await
    })
    .doing("read the attempts of a run")?;
    Ok(Some((run, steps, attempts)))
}

/// How many runs have not ended.
pub async fn open_runs(db: &Db) -> StoreResult<i64> {
    on_read!(db, |c| {
        sqlx::query_scalar("select count(*) from run where state in ('queued', 'running')").fetch_one(c).await
    })
    .doing("count open runs")
}

/// Open steps by kind and state: (step, state, count).
pub async fn queue_depths(db: &Db) -> StoreResult<Vec<(String, String, i64)>> {
    on_read!(db, |c| {
        sqlx::query_as("select step, state, count(*) from step where state in ('ready', 'running') group by step, state order by step, state")
            .fetch_all(c)
            .await
    })
    .doing("count open steps")
}
