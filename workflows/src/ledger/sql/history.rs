//! Which runs are due to go, and how they go row by row: all that belongs to them in one transaction with the note of their bundle, or
//! nothing.

use super::{CHUNK, audit, bundles, lines};
use crate::db::{Db, Doing, Rows, StoreResult, Tx, on_read, on_tx, on_write};
use crate::ledger::{BundleRow, NewEntry};
use crate::rows::{PushRows, row};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use uuid::Uuid;

/// What is due: runs that ended so before these instants. Open runs and pinned ones never are, nor is the repetition of a failed run as long as
/// that one is here: it is what says that the failure was dealt with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) succeeded: DateTime<Utc>,
    pub(crate) no_new_session: DateTime<Utc>,
    pub(crate) cancelled: DateTime<Utc>,
    pub(crate) failed: DateTime<Utc>,
}

impl Due {
    /// A run's id begins with the time at which it was started: what is due has a smaller id than this.
    pub(super) fn bound(&self) -> Uuid {
        let latest = self.succeeded.max(self.no_new_session).max(self.cancelled).max(self.failed);
        Uuid::from_u128(u128::try_from(latest.timestamp_millis() + 1).unwrap_or(0) << 80)
    }
}

/// The condition on a table that is called `run` in the statement.
macro_rules! push_due {
    ($query:expr, $due:expr) => {{
        let query = $query.push("(run.id < ").push_bind($due.bound()).push(" and not run.pinned and (");
        let outcomes = [
            ("succeeded", $due.succeeded),
            ("no_new_session", $due.no_new_session),
            ("cancelled", $due.cancelled),
            ("failed", $due.failed),
        ];
        for (at, (state, before)) in outcomes.into_iter().enumerate() {
            query.push(if at == 0 { "" } else { " or " });
            query.push("run.state = '").push(state).push("' and run.finished_at < ").push_bind($crate::db::Ts::from(before));
        }
        query.push(
            ") and (run.lineage is null or not exists (select 1 from run original where original.id = run.lineage and original.state = 'failed')))",
        )
    }};
}
pub(super) use push_due;

/// How many rows of each table a bundle holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counts {
    pub(crate) runs: u64,
    pub(crate) steps: u64,
    pub(crate) attempts: u64,
    pub(crate) effects: u64,
}

/// The due runs of a table (`run`, or a partition of it) after `after`, in order, at most `limit`.
pub(crate) async fn due_runs(db: &Db, table: &str, due: &Due, after: Uuid, limit: i64) -> StoreResult<Vec<Uuid>> {
    on_read!(db, |c| {
        // The name is one of ours: `run`, or a partition's that the catalogue told.
        let mut query = QueryBuilder::new(format!("select run.id from {table} as run where run.id > "));
        query.push_bind(after).push(" and ");
        push_due!(query, due);
        query.push(" order by run.id limit ").push_bind(limit);
        query.build_query_scalar().fetch_all(c).await
    })
    .doing("look for runs that are due to go")
}

/// How many runs of a table are due, by outcome.
pub(crate) async fn count_due(db: &Db, table: &str, due: &Due) -> StoreResult<BTreeMap<String, i64>> {
    let counts: Vec<(String, i64)> = on_read!(db, |c| {
        let mut query = QueryBuilder::new(format!("select run.state, count(*) from {table} as run where "));
        push_due!(query, due);
        query.push(" group by run.state");
        query.build_query_as().fetch_all(c).await
    })
    .doing("count the runs that are due to go")?;
    Ok(counts.into_iter().collect())
}

/// Drops these runs and notes their bundle, in one transaction; false, and nothing is changed, when one of them is not due any more, when
/// they have other rows than were put away, or when the bundle was abandoned.
pub(crate) async fn drop_runs(
    db: &Db,
    made: &BundleRow,
    runs: &[Uuid],
    counts: &Counts,
    due: &Due,
) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let whole = bundles::keep(&mut tx, made).await? && delete(&mut tx, runs, due).await? == *counts;
    if whole {
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(whole)
}

async fn delete(tx: &mut Tx, runs: &[Uuid], due: &Due) -> StoreResult<Counts> {
    let mut gone = Counts::default();
    for chunk in runs.chunks(CHUNK) {
        let mut tables = [0; 6];
        // Keys before the runs that name them. `staging` holds nothing of a run that was cleaned up; what is left of another is of no use.
        let statements = [
            "delete from start_key where (key, run_id) in (select idempotency_key, id from run where idempotency_key is not null and id in (",
            "delete from staging where run_id in (",
            "delete from run where id in (",
            "delete from step where run_id in (",
            "delete from attempt where run_id in (",
            "delete from effect where run_id in (",
        ];
        for (at, (statement, rows)) in statements.into_iter().zip(&mut tables).enumerate() {
            *rows = on_tx!(&mut *tx, |c| {
                let mut query = QueryBuilder::new(statement);
                query.push_rows(chunk.iter().map(|run| row![*run]).collect());
                query.push(if at == 0 { "))" } else { ")" });
                if at == 2 {
                    query.push(" and ");
                    push_due!(query, due);
                }
                query.build().execute(c).await.rows()
            })
            .doing("drop runs that were put away")?;
        }
        gone.runs += tables[2];
        gone.steps += tables[3];
        gone.attempts += tables[4];
        gone.effects += tables[5];
    }
    Ok(gone)
}

/// A duty of a process that is gone, where only one process may open the store: nobody need wait until it lapses.
pub(crate) async fn free_duty(db: &Db, duty: &str) -> StoreResult<()> {
    on_write!(db, |c| sqlx::query("delete from leader where duty = $1").bind(duty).execute(c).await.rows())
        .doing("free a duty of a process that is gone")?;
    Ok(())
}

/// Writes what comes out of a bundle where it is missing, pinned, in one transaction with the audit; how many runs came back. A sender that goes
/// away without a last `None` has failed, and nothing is written.
pub(crate) async fn restore(
    db: &Db,
    from: &mut mpsc::Receiver<Option<lines::Lines>>,
    entry: &(dyn Fn(u64) -> NewEntry + Send + Sync),
) -> StoreResult<Option<u64>> {
    let mut tx = db.begin().await?;
    let mut runs = 0;
    loop {
        match from.recv().await {
            Some(Some(some)) => {
                let are_runs = matches!(some, lines::Lines::Runs(_));
                let written = lines::write(&mut tx, some).await?;
                runs += if are_runs { written } else { 0 };
            }
            Some(None) => break,
            None => {
                tx.rollback().await?;
                return Ok(None);
            }
        }
    }
    audit::write(&mut tx, &entry(runs)).await?;
    tx.commit().await?;
    Ok(Some(runs))
}
