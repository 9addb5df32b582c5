//! Finding steps whose worker vanished. The reconciler then ends each as `Outcome::Lost` through `complete`.

use super::claim::{Claim, build};
use crate::db::{Db, Doing, StoreResult, Ts, on_read};
use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

/// Which running steps count as abandoned.
#[derive(Debug, Clone, Copy)]
pub enum Abandoned {
    /// Those whose lease ended before now.
    Lapsed,
    /// Those of any other process instance: true of the embedded store at start, which only one process may open.
    NotOf(Uuid),
}

#[derive(sqlx::FromRow)]
struct Row {
    run_id: Uuid,
    step: String,
    attempt: i64,
    max_attempts: i64,
    epoch: i64,
    plan: String,
    exchange: String,
    ticker: String,
    session: NaiveDate,
    offline: bool,
}

/// The abandoned steps, at most `limit`, as claims that can be completed as lost.
pub async fn abandoned(db: &Db, which: Abandoned, now: DateTime<Utc>, limit: i64) -> StoreResult<Vec<Claim>> {
    // A lapsed lease is searched by time; "not of" looks at all running steps, of which there are few.
    let (before, not_of) = match which {
        Abandoned::Lapsed => (Ts::from(now), Uuid::nil()),
        Abandoned::NotOf(instance) => {
            (Ts::from("9000-01-01T00:00:00Z".parse::<DateTime<Utc>>().expect("a valid instant")), instance)
        }
    };
    let rows: Vec<Row> = on_read!(db, |c| {
        sqlx::query_as(
            "select step.run_id, step.step, step.attempt, step.max_attempts, step.epoch,
                    run.plan, run.exchange, run.ticker, run.session, run.offline
             from step join run on run.id = step.run_id
             where step.state = 'running' and step.lease_until < $1 and step.lease_owner <> $2
             order by step.lease_until limit $3",
        )
        .bind(before)
        .bind(not_of)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("look for abandoned steps")?;
    rows.into_iter()
        .filter_map(|r| Some((r.step.parse().ok()?, r)))
        .map(|(step, r)| {
            build(
                r.run_id,
                step,
                &r.plan,
                &r.exchange,
                &r.ticker,
                r.session,
                r.offline,
                (r.attempt, r.max_attempts, r.epoch),
            )
        })
        .collect()
}
