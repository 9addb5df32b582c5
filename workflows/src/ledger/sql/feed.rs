//! What is fed into the queues: steps that are due and whose message was never sent, or is overdue. Also who does that: one leader at a time.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, on_read, on_tx, on_write};
use crate::message::Message;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Per queue: how many ready steps have a message on its way.
pub(in crate::ledger) async fn on_their_way(db: &Db) -> StoreResult<Vec<(String, i64)>> {
    on_read!(db, |c| {
        sqlx::query_as("select queue, count(*) from step where state = 'ready' and sent_at is not null group by queue")
            .fetch_all(c)
            .await
    })
    .doing("count what is on its way")
}

/// The queues in which something waits to be sent, however much: one look into the index per queue.
pub(in crate::ledger) async fn unsent_queues(db: &Db) -> StoreResult<Vec<String>> {
    on_read!(db, |c| {
        sqlx::query_scalar(
            "with recursive q (queue) as (
                 select min(queue) from step where state = 'ready' and sent_at is null
                 union all
                 select (select min(step.queue) from step where state = 'ready' and sent_at is null and step.queue > q.queue) from q where q.queue is not null)
             select queue from q where queue is not null",
        )
        .fetch_all(c)
        .await
    })
    .doing("find queues with something to send")
}

/// Forgets that messages were sent before `stale`: they will be sent again, under the same id.
pub(in crate::ledger) async fn unsend(db: &Db, stale: DateTime<Utc>) -> StoreResult<u64> {
    // A row that somebody holds is being claimed: its message has arrived. Waiting for it would meet the claims and completions, which lock
    // many rows in an order of their own, in deadlocks of a second each.
    let overdue = if db.is_postgres() {
        "update step set sent_at = null where (run_id, step) in
             (select run_id, step from step where state = 'ready' and sent_at is not null and sent_at < $1 for update skip locked)"
    } else {
        "update step set sent_at = null where state = 'ready' and sent_at is not null and sent_at < $1"
    };
    on_write!(db, |c| sqlx::query(overdue).bind(Ts::from(stale)).execute(c).await.rows()).doing("find overdue messages")
}

/// The due steps that want a message, oldest first, at most so many of each queue; they count as sent from now on. Dying before they are pushed
/// costs one overdue message each.
pub(in crate::ledger) async fn take_due(
    db: &Db,
    room: &[(String, i64)],
    now: DateTime<Utc>,
) -> StoreResult<Vec<Message>> {
    if room.is_empty() {
        return Ok(Vec::new());
    }
    let lock = if db.is_postgres() { " for update skip locked" } else { "" };
    let rows: Vec<(Uuid, String, i64, String)> = on_write!(db, |c| {
        let mut query = sqlx::QueryBuilder::new("with ");
        for (at, (queue, limit)) in room.iter().enumerate() {
            query.push(if at == 0 { "" } else { ", " });
            query.push(format!("d{at} as (select run_id as d_run, step as d_step from step where state = 'ready' and sent_at is null and queue = "));
            query.push_bind(queue.clone()).push(" and due_at <= ").push_bind(Ts::from(now));
            query.push(" order by due_at, run_id limit ").push_bind(*limit).push(lock).push(")");
        }
        query.push(", due as (");
        for at in 0..room.len() {
            query.push(format!("{}select d_run, d_step from d{at}", if at == 0 { "" } else { " union all " }));
        }
        query.push(") update step set sent_at = ").push_bind(Ts::from(now));
        query.push(" from due where run_id = d_run and step = d_step returning run_id, step, generation, queue");
        query.build_query_as().fetch_all(c).await
    })
    .doing("find what is due")?;
    let messages = rows.into_iter().filter_map(|(run, step, generation, queue)| {
        Some(Message { run, step: step.parse().ok()?, generation, queue })
    });
    Ok(messages.collect())
}

/// Takes or keeps a duty until `until`; false when another instance has it.
pub(in crate::ledger) async fn lead(
    db: &Db,
    duty: &str,
    instance: Uuid,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let won = on_tx!(&mut tx, |c| {
        sqlx::query(
            "insert into leader (duty, instance, until) values ($1, $2, $3)
             on conflict (duty) do update set instance = excluded.instance, until = excluded.until
             where leader.instance = excluded.instance or leader.until < $4",
        )
        .bind(duty)
        .bind(instance)
        .bind(Ts::from(until))
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("take a duty")?;
    tx.commit().await?;
    Ok(won == 1)
}

/// Gives a duty back, so that another process need not wait for its end.
pub(in crate::ledger) async fn step_down(db: &Db, duty: &str, instance: Uuid) -> StoreResult<()> {
    on_write!(db, |c| sqlx::query("delete from leader where duty = $1 and instance = $2")
        .bind(duty)
        .bind(instance)
        .execute(c)
        .await
        .rows())
    .doing("give a duty back")?;
    Ok(())
}

/// Live workers: their step kinds, separated by commas, and their slots.
pub(in crate::ledger) async fn workers_seen(db: &Db, since: DateTime<Utc>) -> StoreResult<Vec<(String, i64)>> {
    on_read!(db, |c| sqlx::query_as("select steps, slots from worker where seen_at >= $1")
        .bind(Ts::from(since))
        .fetch_all(c)
        .await)
    .doing("count the slots of live workers")
}

/// Says that this worker process lives, and what it does.
pub(in crate::ledger) async fn sign_on(
    db: &Db,
    instance: Uuid,
    name: &str,
    version: &str,
    steps: &str,
    slots: i64,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query(
            "insert into worker (instance, name, version, steps, slots, started_at, seen_at) values ($1, $2, $3, $4, $5, $6, $6)
             on conflict (instance) do update set seen_at = excluded.seen_at",
        )
        .bind(instance)
        .bind(name)
        .bind(version)
        .bind(steps)
        .bind(slots)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("sign on as a worker")?;
    Ok(())
}

/// Forgets a worker that has ended, and those not seen since `before`.
pub(in crate::ledger) async fn sign_off(db: &Db, instance: Option<Uuid>, before: DateTime<Utc>) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query("delete from worker where instance = $1 or seen_at < $2")
            .bind(instance.unwrap_or_default())
            .bind(Ts::from(before))
            .execute(c)
            .await
            .rows()
    })
    .doing("sign off workers")?;
    Ok(())
}
