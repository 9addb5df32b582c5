//! Starting runs: the run row and its first step in one transaction. Starting twice under one key is starting once; a second run of a subject
//! waits until the first has ended.

use super::{CHUNK, activate, insert_steps};
use crate::db::{Db, Doing, StoreResult, Ts, Tx, on_tx};
use crate::ledger::words::{NewRun, NewStep, Started};
use crate::rows::{PushRows, row};
use chrono::{DateTime, Utc};
use sqlx::QueryBuilder;
use std::collections::{HashMap, HashSet};
use uuid::Uuid;

/// Runs per transaction: a fan-out of a whole market must not hold the store for seconds.
const PER_TRANSACTION: usize = 2_000;

pub(in crate::ledger) async fn start(db: &Db, runs: &[NewRun], now: DateTime<Utc>) -> StoreResult<Vec<Started>> {
    let mut started = Vec::with_capacity(runs.len());
    for chunk in runs.chunks(PER_TRANSACTION) {
        let mut tx = db.begin().await?;
        started.extend(start_in(&mut tx, chunk, now).await?);
        tx.commit().await?;
    }
    Ok(started)
}

/// The same, inside a transaction that does more.
pub(super) async fn start_in(tx: &mut Tx, runs: &[NewRun], now: DateTime<Utc>) -> StoreResult<Vec<Started>> {
    let taken = take_keys(tx, runs, now).await?;
    let fresh: Vec<&NewRun> = runs.iter().filter(|run| !taken.contains_key(&run.id)).collect();
    let mut born = HashSet::with_capacity(fresh.len());
    for chunk in fresh.chunks(CHUNK) {
        born.extend(insert_runs(tx, chunk, now).await?);
    }
    // The others were started before by a caller who got no answer and asks again.
    let fresh: Vec<&NewRun> = fresh.into_iter().filter(|run| born.contains(&run.id)).collect();
    let subjects: Vec<_> =
        fresh.iter().map(|run| (run.id, run.plan.name.to_owned(), run.subject.to_string())).collect();
    let active = activate(tx, &subjects).await?;
    let steps: Vec<NewStep> =
        fresh.iter().flat_map(|run| NewStep::of_new_run(run, active.contains(&run.id), now)).collect();
    insert_steps(tx, &steps).await?;
    Ok(runs
        .iter()
        .map(|run| {
            taken.get(&run.id).map_or(Started { id: run.id, created: born.contains(&run.id) }, |there| Started {
                id: *there,
                created: false,
            })
        })
        .collect())
}

/// Runs whose idempotency key was taken before, with the run that took it.
async fn take_keys(tx: &mut Tx, runs: &[NewRun], now: DateTime<Utc>) -> StoreResult<HashMap<Uuid, Uuid>> {
    let mut taken = HashMap::new();
    for run in runs {
        let Some(key) = &run.idempotency_key else { continue };
        // The update changes nothing; it makes the row of an earlier start come back.
        let holder: Uuid = on_tx!(tx, |c| {
            sqlx::query_scalar(
                "insert into start_key (key, run_id, created_at) values ($1, $2, $3)
                 on conflict (key) do update set key = excluded.key returning run_id",
            )
            .bind(key)
            .bind(run.id)
            .bind(Ts::from(now))
            .fetch_one(c)
            .await
        })
        .doing("take an idempotency key")?;
        if holder != run.id {
            taken.insert(run.id, holder);
        }
    }
    Ok(taken)
}

async fn insert_runs(tx: &mut Tx, runs: &[&NewRun], now: DateTime<Utc>) -> StoreResult<Vec<Uuid>> {
    const HEAD: &str = "insert into run (id, plan, plan_version, subject, exchange, ticker, session, aimed_session, schedule_id, backfill_id, priority, offline, idempotency_key, lineage, state, created_at) ";
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new(HEAD);
        query.push_rows(
            runs.iter()
                .map(|run| {
                    row![
                        run.id,
                        run.plan.name,
                        run.plan.version,
                        run.subject.to_string(),
                        run.subject.exchange().map(market::Exchange::as_str),
                        run.subject.symbol().map(str::to_owned),
                        run.session,
                        run.session,
                        run.schedule.clone(),
                        run.backfill,
                        run.priority,
                        run.offline,
                        run.idempotency_key.clone(),
                        run.repeats.map(|(id, _)| id),
                        "queued",
                        Ts::from(now)
                    ]
                })
                .collect(),
        );
        query.push(" on conflict (id) do nothing returning id");
        query.build_query_scalar().fetch_all(c).await
    })
    .doing("start runs")
}
