//! Waiting steps go on: their condition has come true, their time is up, what was paused is resumed, or the subject's earlier run has ended.

use super::{become_active, wake};
use crate::db::{Db, Doing, StoreResult, Ts, on_read, on_write};
use crate::ledger::words::WAITS_FOR_ACTIVE;
use crate::plan::Step;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Writes a condition once; its value is the first one's. Steps that wait for it are released by [`release`].
pub(in crate::ledger) async fn meet(db: &Db, key: &str, value: &str, now: DateTime<Utc>) -> StoreResult<String> {
    on_write!(db, |c| {
        sqlx::query_scalar(
            "insert into condition (key, value, met_at) values ($1, $2, $3) on conflict (key) do update set key = excluded.key returning value",
        )
        .bind(key)
        .bind(value)
        .bind(Ts::from(now))
        .fetch_one(c)
        .await
    })
    .doing("write a condition")
}

/// The value of a condition that has come true.
pub(in crate::ledger) async fn condition(db: &Db, key: &str) -> StoreResult<Option<String>> {
    on_read!(db, |c| sqlx::query_scalar("select value from condition where key = $1").bind(key).fetch_optional(c).await)
        .doing("read a condition")
}

/// Releases at most `limit` steps of each kind of wait; how many.
pub(in crate::ledger) async fn release(db: &Db, now: DateTime<Utc>, limit: i64) -> StoreResult<u64> {
    let mut released = 0;
    for found in [ripe(db, now, limit).await?, resumed(db, limit).await?] {
        if !found.is_empty() {
            let mut tx = db.begin().await?;
            released += wake(&mut tx, &found, Ts::from(now)).await?;
            tx.commit().await?;
        }
    }
    Ok(released)
}

fn steps(rows: Vec<(Uuid, String)>) -> Vec<(Uuid, Step)> {
    rows.into_iter().filter_map(|(run, step)| Some((run, step.parse().ok()?))).collect()
}

/// Steps whose time is up, or whose condition stands.
async fn ripe(db: &Db, now: DateTime<Utc>, limit: i64) -> StoreResult<Vec<(Uuid, Step)>> {
    let rows: Vec<(Uuid, String)> = on_read!(db, |c| {
        sqlx::query_as(
            "select run_id, step from step where state = 'waiting' and due_at <= $1
             union
             select step.run_id, step.step from condition join step on step.wait_for = condition.key where step.state = 'waiting'
             limit $2",
        )
        .bind(Ts::from(now))
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("find waiting steps that may go on")?;
    Ok(steps(rows))
}

/// Steps set aside for a pause that is over.
async fn resumed(db: &Db, limit: i64) -> StoreResult<Vec<(Uuid, Step)>> {
    let rows: Vec<(Uuid, String)> = on_read!(db, |c| {
        sqlx::query_as(
            "select run_id, step from step where state = 'waiting' and wait_for >= 'pause:' and wait_for < 'pause;'
                    and not exists (select 1 from pause where 'pause:' || kind || ':' || value = step.wait_for)
             limit $1",
        )
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("find steps that are paused no more")?;
    Ok(steps(rows))
}

/// Runs that wait for an earlier one of their subject although there is none any more: the one that ended could not see them yet.
pub(in crate::ledger) async fn rouse(db: &Db, now: DateTime<Utc>, limit: i64) -> StoreResult<u64> {
    let rows: Vec<(Uuid, String, String, String)> = on_read!(db, |c| {
        sqlx::query_as(
            "select run.id, run.plan, run.subject, step.step from step join run on run.id = step.run_id
             where step.state = 'waiting' and step.wait_for = $1
                   and not exists (select 1 from active where active.plan = run.plan and active.subject = run.subject)
             order by run.priority desc, run.id limit $2",
        )
        .bind(WAITS_FOR_ACTIVE)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("find runs that wait for nobody")?;
    if rows.is_empty() {
        return Ok(0);
    }
    let mut tx = db.begin().await?;
    let mut woken = 0;
    for (run, plan, subject, step) in rows {
        let Ok(step) = step.parse::<Step>() else { continue };
        woken += u64::from(become_active(&mut tx, run, step, &plan, &subject, now).await?);
    }
    tx.commit().await?;
    Ok(woken)
}
