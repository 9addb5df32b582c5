//! Schedules and their ticks. A tick is a row unique on (schedule, session): any replica may try to insert it, one wins and starts
//! the runs of all active tickers in the same transaction.

use super::start::{NewRun, Started, start_in};
use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, on_read, on_tx, on_write};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use market::{Exchange, Ticker};

/// What happens to sessions that were missed while nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CatchUp {
    Skip,
    Latest,
    All,
}

/// A schedule as it stands in the ledger.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleRow {
    /// Name.
    pub id: String,
    /// Whose tickers, and in whose zone `local_time` is meant.
    pub exchange: Exchange,
    /// Which plan.
    pub plan: String,
    /// When, on each day on which the exchange may trade.
    pub local_time: NaiveTime,
    /// What happens to missed sessions.
    pub catch_up: CatchUp,
    /// Whether it fires at all.
    pub paused: bool,
}

impl CatchUp {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            CatchUp::Skip => "skip",
            CatchUp::Latest => "latest",
            CatchUp::All => "all",
        }
    }
}

/// Writes a schedule; an existing one keeps whether it is paused.
pub async fn put_schedule(db: &Db, schedule: &ScheduleRow) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query(
            "insert into schedule (id, exchange, plan, local_time, catch_up, paused) values ($1, $2, $3, $4, $5, $6)
             on conflict (id) do update set exchange = excluded.exchange, plan = excluded.plan,
                    local_time = excluded.local_time, catch_up = excluded.catch_up",
        )
        .bind(&schedule.id)
        .bind(schedule.exchange.as_str())
        .bind(&schedule.plan)
        .bind(schedule.local_time.format("%H:%M").to_string())
        .bind(schedule.catch_up.as_str())
        .bind(schedule.paused)
        .execute(c)
        .await
        .rows()
    })
    .doing("write a schedule")?;
    Ok(())
}

/// All schedules.
pub async fn schedules(db: &Db) -> StoreResult<Vec<ScheduleRow>> {
    let rows: Vec<(String, String, String, String, String, bool)> = on_read!(db, |c| {
        sqlx::query_as("select id, exchange, plan, local_time, catch_up, paused from schedule order by id")
            .fetch_all(c)
            .await
    })
    .doing("read the schedules")?;
    rows.into_iter()
        .map(|(id, exchange, plan, time, catch_up, paused)| {
            let bad = |why: String| StoreError::Unreadable { what: "schedule", why };
            Ok(ScheduleRow {
                exchange: exchange.parse().map_err(|e| bad(format!("{id}: {e}")))?,
                local_time: NaiveTime::parse_from_str(&time, "%H:%M")
                    .map_err(|e| bad(format!("{id}: `{time}`: {e}")))?,
                catch_up: match catch_up.as_str() {
                    "skip" => CatchUp::Skip,
                    "all" => CatchUp::All,
                    _ => CatchUp::Latest,
                },
                id,
                plan,
                paused,
            })
        })
        .collect()
}

/// The newest session for which the schedule has fired.
pub async fn last_tick(db: &Db, schedule: &str) -> StoreResult<Option<NaiveDate>> {
    on_read!(db, |c| {
        sqlx::query_scalar("select session from tick where schedule_id = $1 order by session desc limit 1")
            .bind(schedule)
            .fetch_optional(c)
            .await
    })
    .doing("read the last tick of a schedule")
}

/// Fires the schedule for `session`, if nobody has: `None` when somebody has. `make` turns an active ticker into its run.
pub async fn try_tick(
    db: &Db,
    schedule: &ScheduleRow,
    session: NaiveDate,
    now: DateTime<Utc>,
    make: impl Fn(Ticker) -> NewRun,
) -> StoreResult<Option<Vec<Started>>> {
    let mut tx = db.begin().await?;
    let won = on_tx!(&mut tx, |c| {
        sqlx::query(
            "insert into tick (schedule_id, session, runs, created_at) values ($1, $2, 0, $3) on conflict do nothing",
        )
        .bind(&schedule.id)
        .bind(session)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .map(|done| done.rows_affected() == 1)
    })
    .doing("insert a tick")?;
    if !won {
        tx.rollback().await?;
        return Ok(None);
    }
    let symbols: Vec<String> = on_tx!(&mut tx, |c| {
        sqlx::query_scalar("select ticker from ticker where exchange = $1 and active order by ticker")
            .bind(schedule.exchange.as_str())
            .fetch_all(c)
            .await
    })
    .doing("list the tickers of a tick")?;
    let runs: Vec<NewRun> =
        symbols.iter().filter_map(|symbol| Ticker::new(schedule.exchange, symbol).ok()).map(make).collect();
    let started = start_in(&mut tx, &runs, now).await?;
    on_tx!(&mut tx, |c| {
        sqlx::query("update tick set runs = $3 where schedule_id = $1 and session = $2")
            .bind(&schedule.id)
            .bind(session)
            .bind(i64::try_from(started.len()).unwrap_or(i64::MAX))
            .execute(c)
            .await
            .rows()
    })
    .doing("count the runs of a tick")?;
    tx.commit().await?;
    Ok(Some(started))
}
