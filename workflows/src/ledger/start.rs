//! Starting runs: the run row and its steps in one transaction. Starting twice under one key is starting once.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_tx};
use crate::plan::{Plan, Step};
use chrono::{DateTime, NaiveDate, Utc};
use market::Ticker;
use sqlx::QueryBuilder;
use uuid::Uuid;

/// A run to be started.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Time-ordered id (UUIDv7), made by the caller.
    pub id: Uuid,
    /// What it goes through.
    pub plan: &'static Plan,
    /// Whose run.
    pub ticker: Ticker,
    /// The session it aims at.
    pub session: NaiveDate,
    /// The schedule whose tick starts it.
    pub schedule: Option<String>,
    /// Greater first; above 0 for runs that a person waits for.
    pub priority: i64,
    /// Whether its steps must send no request.
    pub offline: bool,
    /// A second start under the same key is the first.
    pub idempotency_key: Option<String>,
    /// The run it repeats, and the step it begins from.
    pub repeats: Option<(Uuid, Step)>,
}

/// What came of one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The run: new, or the one that was there.
    pub id: Uuid,
    /// Whether it is new.
    pub created: bool,
}

/// Rows per statement: 14 binds each stay far below SQLite's 32,766.
const CHUNK: usize = 400;

/// Starts the runs in one transaction; their first steps become ready and wait for the reconciler to send them.
pub async fn start(db: &Db, runs: &[NewRun], now: DateTime<Utc>) -> StoreResult<Vec<Started>> {
    let mut tx = db.begin().await?;
    let started = start_in(&mut tx, runs, now).await?;
    tx.commit().await?;
    Ok(started)
}

/// The same, inside a transaction that does more.
pub(super) async fn start_in(tx: &mut Tx, runs: &[NewRun], now: DateTime<Utc>) -> StoreResult<Vec<Started>> {
    let mut created = std::collections::HashSet::new();
    for chunk in runs.chunks(CHUNK) {
        created.extend(insert_runs(tx, chunk, now).await?);
    }
    let fresh: Vec<&NewRun> = runs.iter().filter(|run| created.contains(&run.id)).collect();
    for chunk in fresh.chunks(CHUNK) {
        insert_steps(tx, chunk, now).await?;
    }
    let mut started = Vec::with_capacity(runs.len());
    for run in runs {
        let found = if created.contains(&run.id) { Some(run.id) } else { existing(tx, run).await? };
        started.extend(found.map(|id| Started { id, created: id == run.id && created.contains(&id) }));
    }
    Ok(started)
}

async fn insert_runs(tx: &mut Tx, runs: &[NewRun], now: DateTime<Utc>) -> StoreResult<Vec<Uuid>> {
    const HEAD: &str = "insert into run (id, plan, exchange, ticker, session, aimed_session, schedule_id, priority, offline, idempotency_key, lineage, state, created_at) ";
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new(HEAD);
        query.push_values(runs, |mut row, run| {
            row.push_bind(run.id)
                .push_bind(run.plan.name)
                .push_bind(run.ticker.exchange().as_str())
                .push_bind(run.ticker.symbol().to_owned())
                .push_bind(run.session)
                .push_bind(run.session)
                .push_bind(run.schedule.clone())
                .push_bind(run.priority)
                .push_bind(run.offline)
                .push_bind(run.idempotency_key.clone())
                .push_bind(run.repeats.map(|(id, _)| id))
                .push_bind("queued")
                .push_bind(Ts::from(now));
        });
        query.push(" on conflict do nothing returning id");
        query.build_query_scalar::<Uuid>().fetch_all(c).await
    })
    .doing("start runs")
}

async fn insert_steps(tx: &mut Tx, runs: &[&NewRun], now: DateTime<Utc>) -> StoreResult<()> {
    const HEAD: &str = "insert into step (run_id, step, seq, queue, state, generation, max_attempts, due_at, note) ";
    let rows: Vec<_> = runs
        .iter()
        .flat_map(|run| {
            let from =
                run.repeats.map_or(0, |(_, step)| run.plan.steps.iter().position(|p| p.step == step).unwrap_or(0));
            run.plan.steps.iter().enumerate().map(move |(seq, policy)| (*run, seq, policy, from))
        })
        .collect();
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new(HEAD);
        query.push_values(rows, |mut row, (run, seq, policy, from)| {
            let (state, generation) = match seq.cmp(&from) {
                std::cmp::Ordering::Less => ("skipped", 0i64),
                std::cmp::Ordering::Equal => ("ready", 1),
                std::cmp::Ordering::Greater => ("waiting", 0),
            };
            row.push_bind(run.id)
                .push_bind(policy.step.as_str())
                .push_bind(i64::try_from(seq).unwrap_or(0))
                .push_bind(policy.step.queue(run.priority))
                .push_bind(state)
                .push_bind(generation)
                .push_bind(policy.max_attempts)
                .push_bind(Ts::from(now))
                .push_bind((seq < from).then_some("kept from the run that this one repeats"));
        });
        query.build().execute(c).await.rows()
    })
    .doing("write the steps of new runs")?;
    Ok(())
}

async fn existing(tx: &mut Tx, run: &NewRun) -> StoreResult<Option<Uuid>> {
    on_tx!(tx, |c| {
        sqlx::query_scalar(
            "select id from run where idempotency_key = $1
             union all
             select id from run where schedule_id = $2 and aimed_session = $3 and exchange = $4 and ticker = $5",
        )
        .bind(&run.idempotency_key)
        .bind(&run.schedule)
        .bind(run.session)
        .bind(run.ticker.exchange().as_str())
        .bind(run.ticker.symbol())
        .fetch_optional(c)
        .await
    })
    .doing("find the run that was started before")
}
