//! What the reconciler feeds into the queues: steps that are due and whose message was never sent, or is overdue.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, on_read, on_write};
use crate::message::Message;
use chrono::{DateTime, Utc};
use uuid::Uuid;

/// Per queue: how many due steps wait, and how many of them have a message on its way (sent at or after `fresh_since`).
pub async fn outstanding(
    db: &Db,
    now: DateTime<Utc>,
    fresh_since: DateTime<Utc>,
) -> StoreResult<Vec<(String, i64, i64)>> {
    on_read!(db, |c| {
        sqlx::query_as(
            "select queue, count(*), count(case when sent_at >= $2 then 1 end) from step
             where state = 'ready' and due_at <= $1 group by queue order by queue",
        )
        .bind(Ts::from(now))
        .bind(Ts::from(fresh_since))
        .fetch_all(c)
        .await
    })
    .doing("count what is due")
}

/// The due steps of one queue that want a message, oldest first.
pub async fn due(
    db: &Db,
    queue: &str,
    now: DateTime<Utc>,
    fresh_since: DateTime<Utc>,
    limit: i64,
) -> StoreResult<Vec<Message>> {
    let rows: Vec<(Uuid, String, i64)> = on_read!(db, |c| {
        sqlx::query_as(
            "select run_id, step, generation from step
             where state = 'ready' and queue = $1 and due_at <= $2 and (sent_at is null or sent_at < $3)
             order by due_at, run_id limit $4",
        )
        .bind(queue)
        .bind(Ts::from(now))
        .bind(Ts::from(fresh_since))
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("find what is due")?;
    Ok(rows
        .into_iter()
        .filter_map(|(run, step, generation)| {
            Some(Message { run, step: step.parse().ok()?, generation, queue: queue.to_owned() })
        })
        .collect())
}

/// Notes that the messages were pushed. Dying before this pushes them again, which the queue takes as one.
pub async fn mark_sent(db: &Db, messages: &[Message], now: DateTime<Utc>) -> StoreResult<()> {
    for chunk in messages.chunks(1_000) {
        on_write!(db, |c| {
            let mut query = sqlx::QueryBuilder::new("update step set sent_at = ");
            query.push_bind(Ts::from(now)).push(" where state = 'ready' and (run_id, step, generation) in (");
            query.push_values(chunk, |mut row, m| {
                row.push_bind(m.run).push_bind(m.step.as_str()).push_bind(m.generation);
            });
            query.push(")");
            query.build().execute(c).await.rows()
        })
        .doing("note which messages were sent")?;
    }
    Ok(())
}
