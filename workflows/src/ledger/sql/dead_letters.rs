//! Dead letters: steps that failed for good, of runs that nobody has repeated since; and their repetition, thousands at a time. A run that
//! has a newer rerun is dealt with and is shown there.

use super::{audit, start::start_in};
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use crate::ledger::NewEntry;
use crate::ledger::words::NewRun;
use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

/// A step that failed for good.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of tables run, step and attempt, described there")]
pub struct DeadLetterRow {
    pub run_id: Uuid,
    pub subject: String,
    pub exchange: Option<String>,
    pub ticker: Option<String>,
    pub session: NaiveDate,
    pub plan: String,
    pub step: String,
    pub seq: i64,
    pub error_kind: Option<String>,
    pub error: Option<String>,
    pub attempt: i64,
    pub finished_at: Option<Ts>,
}

/// Dead letters of one step and one kind of failure.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct DeadLetterGroup {
    pub step: String,
    pub error_kind: Option<String>,
    pub count: i64,
    pub newest_at: Option<Ts>,
}

/// Which dead letters; `None` and empty mean all.
#[derive(Debug, Clone, Default)]
pub struct DeadLetterFilter {
    /// Of this exchange.
    pub exchange: Option<&'static str>,
    /// Of this step kind.
    pub step: Option<&'static str>,
    /// Of this kind of failure.
    pub error_kind: Option<String>,
    /// Of these runs.
    pub runs: Vec<Uuid>,
}

/// A run to be repeated.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct DeadRun {
    pub id: Uuid,
    pub plan: String,
    pub subject: String,
    pub session: NaiveDate,
    pub offline: bool,
    pub priority: i64,
    /// Its first step that failed.
    pub failed: Option<String>,
    /// Whether its bars were archived before.
    pub archived: bool,
}

/// What one slice of a repetition did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequeuedSlice {
    /// Dead runs that were found.
    pub found: usize,
    /// Of these: repeated.
    pub started: usize,
    /// The last one found: the next slice begins after it.
    pub last: Uuid,
}

const FROM: &str = " from run join step on step.run_id = run.id and step.state = 'failed'
     left join attempt on attempt.run_id = step.run_id and attempt.step = step.step and attempt.epoch = step.epoch
     where run.state = 'failed' and not exists (select 1 from run newer where newer.lineage = run.id)";

/// Serialises repetitions on PostgreSQL; the embedded store has one writer.
const REQUEUE_LOCK: i64 = 0x7265_7175_6575_6500;

/// The conditions of a filter on the tables of [`FROM`].
macro_rules! narrow {
    ($query:ident, $filter:expr) => {
        if let Some(exchange) = $filter.exchange {
            $query.push(" and run.exchange = ").push_bind(exchange);
        }
        if let Some(step) = $filter.step {
            $query.push(" and step.step = ").push_bind(step);
        }
        if let Some(kind) = &$filter.error_kind {
            $query.push(" and attempt.error_kind = ").push_bind(kind.clone());
        }
    };
}

/// Dead letters, newest run first, at most `limit`; what stands before (run, place of the step) where it is given.
pub(in crate::ledger) async fn dead_letters(
    db: &Db,
    filter: &DeadLetterFilter,
    before: Option<(Uuid, i64)>,
    limit: i64,
) -> StoreResult<Vec<DeadLetterRow>> {
    let (run, seq) = before.unwrap_or((Uuid::max(), i64::MAX));
    on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new(
            "select run.id as run_id, run.subject, run.exchange, run.ticker, run.session, run.plan, step.step, step.seq,
                    attempt.error_kind, step.error, step.attempt, step.finished_at",
        );
        query.push(FROM).push(" and run.id <= ").push_bind(run);
        query.push(" and (run.id < ").push_bind(run).push(" or step.seq < ").push_bind(seq).push(")");
        narrow!(query, filter);
        query.push(" order by run.id desc, step.seq desc limit ").push_bind(limit);
        query.build_query_as().fetch_all(c).await
    })
    .doing("list dead letters")
}

/// Dead letters by step and kind of failure, the largest group first.
pub(in crate::ledger) async fn dead_letter_groups(
    db: &Db,
    filter: &DeadLetterFilter,
) -> StoreResult<Vec<DeadLetterGroup>> {
    on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new(
            "select step.step, attempt.error_kind, count(*) as count, max(step.finished_at) as newest_at",
        );
        query.push(FROM);
        narrow!(query, filter);
        query.push(" group by step.step, attempt.error_kind order by count(*) desc, step.step, attempt.error_kind");
        query.build_query_as().fetch_all(c).await
    })
    .doing("count dead letters")
}

/// Repeats dead runs after `after`, at most `limit`, in one transaction with its audit; `make` says what repeats each, or that nothing
/// can. Two callers at once repeat each run once.
pub(in crate::ledger) async fn requeue(
    db: &Db,
    filter: &DeadLetterFilter,
    after: Uuid,
    limit: i64,
    now: DateTime<Utc>,
    make: &(dyn Fn(&DeadRun) -> Option<NewRun> + Send + Sync),
    entry: &(dyn Fn(usize) -> NewEntry + Send + Sync),
) -> StoreResult<RequeuedSlice> {
    let mut tx = db.begin().await?;
    lock(&mut tx).await?;
    let dead: Vec<DeadRun> = on_tx!(&mut tx, |c| {
        let mut query = sqlx::QueryBuilder::new(
            "select run.id, run.plan, run.subject, run.session, run.offline, run.priority,
                    (select step.step from step where step.run_id = run.id and step.state = 'failed' order by step.seq limit 1) as failed,
                    exists (select 1 from step where step.run_id = run.id and step.step = 'archive' and step.state = 'done') as archived
             from run where run.state = 'failed' and not exists (select 1 from run newer where newer.lineage = run.id) and run.id > ",
        );
        query.push_bind(after);
        if filter.step.is_some() || filter.error_kind.is_some() {
            query.push(
                " and exists (select 1 from step
                    left join attempt on attempt.run_id = step.run_id and attempt.step = step.step and attempt.epoch = step.epoch
                    where step.run_id = run.id and step.state = 'failed'",
            );
            if let Some(step) = filter.step {
                query.push(" and step.step = ").push_bind(step);
            }
            if let Some(kind) = &filter.error_kind {
                query.push(" and attempt.error_kind = ").push_bind(kind.clone());
            }
            query.push(")");
        }
        if let Some(exchange) = filter.exchange {
            query.push(" and run.exchange = ").push_bind(exchange);
        }
        if !filter.runs.is_empty() {
            query.push(" and run.id in (");
            let mut list = query.separated(", ");
            for run in &filter.runs {
                list.push_bind(*run);
            }
            query.push(")");
        }
        query.push(" order by run.id limit ").push_bind(limit);
        query.build_query_as().fetch_all(c).await
    })
    .doing("find dead runs to be repeated")?;
    let Some(last) = dead.last().map(|run| run.id) else {
        tx.rollback().await?;
        return Ok(RequeuedSlice { found: 0, started: 0, last: after });
    };
    let runs: Vec<NewRun> = dead.iter().filter_map(make).collect();
    let started = start_in(&mut tx, &runs, now).await?.len();
    if started > 0 {
        audit::write(&mut tx, &entry(started)).await?;
    }
    tx.commit().await?;
    Ok(RequeuedSlice { found: dead.len(), started, last })
}

/// Until the transaction ends. What comes after it sees what an earlier holder wrote.
async fn lock(tx: &mut Tx) -> StoreResult<()> {
    if let Tx::Pg(pg) = tx {
        sqlx::query("select pg_advisory_xact_lock($1)")
            .bind(REQUEUE_LOCK)
            .execute(&mut **pg)
            .await
            .rows()
            .doing("wait for another repetition of dead runs")?;
    }
    Ok(())
}
