//! The ledger in SQL, on PostgreSQL and SQLite: one file per operation, one text per statement wherever the dialects agree.

pub(super) mod audit;
pub(super) mod backfills;
pub(crate) mod bundles;
pub(super) mod cancel;
pub(super) mod claim;
pub(super) mod complete;
pub(super) mod dead_letters;
pub(super) mod feed;
pub(crate) mod history;
pub(crate) mod lines;
pub(crate) mod months;
pub(super) mod partitions;
pub(super) mod pause;
pub(super) mod queues;
pub(super) mod read;
pub(super) mod reclaim;
pub(super) mod release;
pub(super) mod start;
pub(super) mod statistics;
pub(super) mod steer;
pub(super) mod ticks;

use crate::db::{Doing, Rows, StoreResult, Ts, Tx, on_tx};
use crate::ledger::words::NewStep;
use crate::plan::Step;
use crate::rows::{PushRows, row};
use crate::state::StepState;
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use std::collections::HashSet;
use uuid::Uuid;

/// Rows per statement: 13 binds each stay far below SQLite's 32,766.
const CHUNK: usize = 500;

/// Inserts steps; answers which of them are new (a closing step may be there already).
async fn insert_steps(tx: &mut Tx, steps: &[NewStep]) -> StoreResult<HashSet<(Uuid, Step)>> {
    let mut born = HashSet::with_capacity(steps.len());
    for chunk in steps.chunks(CHUNK) {
        let rows: Vec<(Uuid, String)> = on_tx!(tx, |c| {
            let mut query = QueryBuilder::new(
                "insert into step (run_id, step, seq, queue, state, generation, max_attempts, first_ready_at, due_at, sent_at, wait_for, note, finished_at) ",
            );
            query.push_rows(chunk.iter().map(|step| {
                let at = Ts::from(step.at);
row![step.run, step.step.as_str(), step.seq, step.queue.clone(), step.state.as_str(), i64::from(step.state == StepState::Ready), step.max_attempts, at, if step.wait_for.is_some() { Ts::from(super::words::far_future()) } else { at }, step.sent.then_some(at), step.wait_for, step.note, (step.state == StepState::Skipped).then_some(at)] }).collect());
            query.push(" on conflict (run_id, step) do nothing returning run_id, step");
            query.build_query_as().fetch_all(c).await
        })
        .doing("write steps")?;
        born.extend(rows.into_iter().filter_map(|(run, step)| Some((run, step.parse().ok()?))));
    }
    Ok(born)
}

/// Makes the runs the active ones of their subjects, where no other is; answers which of them are.
async fn activate(tx: &mut Tx, runs: &[(Uuid, String, String)]) -> StoreResult<HashSet<Uuid>> {
    let mut active = HashSet::with_capacity(runs.len());
    for chunk in runs.chunks(CHUNK) {
        let rows: Vec<Uuid> = on_tx!(tx, |c| {
            let mut query = QueryBuilder::new("insert into active (plan, subject, run_id) ");
            query.push_rows(
                chunk.iter().map(|(run, plan, subject)| row![plan.clone(), subject.clone(), *run]).collect(),
            );
            query.push(" on conflict (plan, subject) do nothing returning run_id");
            query.build_query_scalar().fetch_all(c).await
        })
        .doing("make runs the active ones of their subjects")?;
        active.extend(rows);
    }
    Ok(active)
}

/// The step ready again under a new generation: `queue` lanes stay. For steps that waited.
async fn wake(tx: &mut Tx, steps: &[(Uuid, Step)], now: Ts) -> StoreResult<u64> {
    let mut woken = 0;
    for chunk in steps.chunks(CHUNK) {
        woken += on_tx!(tx, |c| {
            let mut query =
                QueryBuilder::new("update step set state = 'ready', generation = generation + 1, due_at = ");
            query
                .push_bind(now)
                .push(", sent_at = null, wait_for = null where state = 'waiting' and (run_id, step) in (");
            query.push_rows(chunk.iter().map(|(run, step)| row![*run, step.as_str()]).collect());
            query.push(")");
            query.build().execute(c).await.rows()
        })
        .doing("wake waiting steps")?;
    }
    Ok(woken)
}

/// Makes a waiting run the active one of its subject and wakes its first step; false when another run is active, or when this one was cancelled
/// since it was seen waiting. Then it must not stay the active one, or everything behind it would wait for ever.
async fn become_active(
    tx: &mut Tx,
    run: Uuid,
    step: Step,
    plan: &str,
    subject: &str,
    now: DateTime<Utc>,
) -> StoreResult<bool> {
    if activate(tx, &[(run, plan.to_owned(), subject.to_owned())]).await?.is_empty() {
        return Ok(false);
    }
    if wake(tx, &[(run, step)], Ts::from(now)).await? == 1 {
        return Ok(true);
    }
    on_tx!(tx, |c| sqlx::query("delete from active where run_id = $1").bind(run).execute(c).await.rows())
        .doing("free the subject of a cancelled run")?;
    Ok(false)
}

/// Locks steps on PostgreSQL in one order, whoever asks: statements that touch many of them would otherwise meet in the middle and one of them
/// would be ended as a deadlock. SQLite has one writer.
async fn lock_steps(tx: &mut Tx, steps: impl Iterator<Item = (Uuid, Step)>) -> StoreResult<()> {
    let Tx::Pg(pg) = tx else { return Ok(()) };
    let steps: Vec<_> = steps.map(|(run, step)| row![run, step.as_str()]).collect();
    if steps.is_empty() {
        return Ok(());
    }
    let mut query = QueryBuilder::new("select 1 from step where (run_id, step) in (");
    query.push_rows(steps);
    query.push(") order by run_id, step for no key update");
    query.build().execute(&mut **pg).await.doing("lock steps")?;
    Ok(())
}
