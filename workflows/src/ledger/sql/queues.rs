//! What stands in the queues and who takes from it: counts for people. Each count reads one partial index, so that a long history costs
//! nothing.

use crate::db::{Db, Doing, StoreResult, Ts, on_read};
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Open steps of one queue in one state.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct QueueCount {
    /// A step kind and its lane, as [`crate::plan::Step::queue`] spells it.
    pub queue: String,
    /// `waiting`, `ready` or `running`.
    pub state: String,
    /// How many.
    pub count: i64,
    /// Ready: when the oldest of them became or becomes due.
    pub oldest_due: Option<Ts>,
}

/// A worker process that signed on.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table worker, described there")]
pub struct WorkerRow {
    pub instance: Uuid,
    pub name: String,
    pub version: String,
    pub steps: String,
    pub slots: i64,
    pub started_at: Ts,
    pub seen_at: Ts,
    /// Steps that it holds now.
    pub held: i64,
}

/// Open steps by queue and state.
pub(in crate::ledger) async fn queue_counts(db: &Db) -> StoreResult<Vec<QueueCount>> {
    // Ready steps are looked up apart by whether a message is on its way: so the conditions are those of the indexes.
    let rows: Vec<QueueCount> = on_read!(db, |c| {
        sqlx::query_as(
            "select queue, 'ready' as state, count(*) as count, min(due_at) as oldest_due from step where state = 'ready' and sent_at is null group by queue
             union all
             select queue, 'ready', count(*), min(due_at) from step where state = 'ready' and sent_at is not null group by queue
             union all
             select queue, 'running', count(*), null from step where state = 'running' group by queue
             union all
             select queue, 'waiting', count(*), null from step where state = 'waiting' group by queue",
        )
        .fetch_all(c)
        .await
    })
    .doing("count what stands in the queues")?;
    Ok(rows)
}

/// Worker processes seen since `since`, with what they hold.
pub(in crate::ledger) async fn workers(db: &Db, since: DateTime<Utc>) -> StoreResult<Vec<WorkerRow>> {
    on_read!(db, |c| {
        sqlx::query_as(
            "select instance, name, version, steps, slots, started_at, seen_at,
                    (select count(*) from step where step.state = 'running' and step.lease_owner = worker.instance) as held
             from worker where seen_at >= $1 order by name, instance",
        )
        .bind(Ts::from(since))
        .fetch_all(c)
        .await
    })
    .doing("list the workers")
}
