//! Schedules and their ticks. A tick is a row unique on (schedule, session): any replica may insert it, one wins. Its runs are started in
//! slices, each slice and the cursor in one transaction, so that any replica can go on where another one died.

use super::start::start_in;
use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_read, on_tx, on_write};
use crate::ledger::words::NewRun;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use market::{Exchange, Ticker};
use std::collections::HashSet;
use uuid::Uuid;

/// What happens to sessions that were missed while nothing ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CatchUp {
    Skip,
    Latest,
    All,
}

/// What happens to a ticker whose run of an earlier session has not ended when its schedule fires. Decided ticker by ticker: one that hangs, or
/// is paused, does not hold up the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Overlap {
    /// The ticker is left out this time.
    Skip,
    /// The new run waits behind the one that runs, and takes the place of one that waits there already.
    QueueOne,
    /// What is open of it is cancelled.
    CancelOld,
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
    /// What happens when the former runs have not ended.
    pub overlap: Overlap,
    /// Whether it fires at all.
    pub paused: bool,
}

/// Where a tick stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum TickState {
    Queued,
    Firing,
    Fired,
    Skipped,
}

/// One firing of a schedule.
#[derive(Debug, Clone, PartialEq)]
pub struct TickRow {
    /// Whose.
    pub schedule_id: String,
    /// For which session.
    pub session: NaiveDate,
    /// 0: by the clock; more: by hand.
    pub nth: i64,
    /// Where it stands.
    pub state: TickState,
    /// Why.
    pub reason: String,
    /// Runs started so far.
    pub runs: i64,
    /// When it was made.
    pub created_at: DateTime<Utc>,
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

impl Overlap {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Overlap::Skip => "skip",
            Overlap::QueueOne => "queue_one",
            Overlap::CancelOld => "cancel_old",
        }
    }
}

impl TickState {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            TickState::Queued => "queued",
            TickState::Firing => "firing",
            TickState::Fired => "fired",
            TickState::Skipped => "skipped",
        }
    }

    fn read(word: &str) -> StoreResult<Self> {
        [TickState::Queued, TickState::Firing, TickState::Fired, TickState::Skipped]
            .into_iter()
            .find(|state| state.as_str() == word)
            .ok_or_else(|| StoreError::Unreadable { what: "state of a tick", why: format!("`{word}`") })
    }
}

/// Adds a schedule; one that is there stays as an operator may have changed it.
pub(in crate::ledger) async fn add_schedule(db: &Db, schedule: &ScheduleRow) -> StoreResult<()> {
    on_write!(db, |c| {
        sqlx::query(
            "insert into schedule (id, exchange, plan, local_time, catch_up, overlap, paused) values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (id) do nothing",
        )
        .bind(&schedule.id)
        .bind(schedule.exchange.as_str())
        .bind(&schedule.plan)
        .bind(schedule.local_time.format("%H:%M").to_string())
        .bind(schedule.catch_up.as_str())
        .bind(schedule.overlap.as_str())
        .bind(schedule.paused)
        .execute(c)
        .await
        .rows()
    })
    .doing("write a schedule")?;
    Ok(())
}

/// Pauses or resumes a schedule; false when it is so already, or there is none of that name.
pub(super) async fn pause_schedule(tx: &mut Tx, id: &str, paused: bool) -> StoreResult<bool> {
    let rows = on_tx!(tx, |c| {
        sqlx::query("update schedule set paused = $2 where id = $1 and paused <> $2")
            .bind(id)
            .bind(paused)
            .execute(c)
            .await
            .rows()
    })
    .doing("pause or resume a schedule")?;
    Ok(rows == 1)
}

/// Changes when a schedule fires, and its policies; false when there is none of that name.
pub(super) async fn change_schedule(tx: &mut Tx, schedule: &ScheduleRow) -> StoreResult<bool> {
    let rows = on_tx!(tx, |c| {
        sqlx::query("update schedule set local_time = $2, catch_up = $3, overlap = $4 where id = $1")
            .bind(&schedule.id)
            .bind(schedule.local_time.format("%H:%M").to_string())
            .bind(schedule.catch_up.as_str())
            .bind(schedule.overlap.as_str())
            .execute(c)
            .await
            .rows()
    })
    .doing("change a schedule")?;
    Ok(rows == 1)
}

/// All schedules.
pub(in crate::ledger) async fn schedules(db: &Db) -> StoreResult<Vec<ScheduleRow>> {
    let rows: Vec<(String, String, String, String, String, String, bool)> = on_read!(db, |c| {
        sqlx::query_as("select id, exchange, plan, local_time, catch_up, overlap, paused from schedule order by id")
            .fetch_all(c)
            .await
    })
    .doing("read the schedules")?;
    rows.into_iter()
        .map(|(id, exchange, plan, time, catch_up, overlap, paused)| {
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
                overlap: match overlap.as_str() {
                    "skip" => Overlap::Skip,
                    "cancel_old" => Overlap::CancelOld,
                    _ => Overlap::QueueOne,
                },
                id,
                plan,
                paused,
            })
        })
        .collect()
}

/// The newest session for which the schedule has a tick by the clock.
pub(in crate::ledger) async fn last_tick(db: &Db, schedule: &str) -> StoreResult<Option<NaiveDate>> {
    on_read!(db, |c| {
        sqlx::query_scalar("select session from tick where schedule_id = $1 and nth = 0 order by session desc limit 1")
            .bind(schedule)
            .fetch_optional(c)
            .await
    })
    .doing("read the last tick of a schedule")
}

type TickColumns = (String, NaiveDate, i64, String, String, i64, Ts);

/// The newest ticks of a schedule; those before `before` (session, nth) where it is given.
pub(in crate::ledger) async fn ticks(
    db: &Db,
    schedule: &str,
    before: Option<(NaiveDate, i64)>,
    limit: i64,
) -> StoreResult<Vec<TickRow>> {
    let (session, nth) = before.unwrap_or((crate::ledger::words::far_future().date_naive(), 0));
    let rows: Vec<TickColumns> = on_read!(db, |c| {
        sqlx::query_as(
            "select schedule_id, session, nth, state, reason, runs, created_at from tick
             where schedule_id = $1 and (session, nth) < ($2, $3) order by session desc, nth desc limit $4",
        )
        .bind(schedule)
        .bind(session)
        .bind(nth)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("read the ticks of a schedule")?;
    ticks_of(rows)
}

/// Ticks whose runs are not all started, oldest first.
pub(in crate::ledger) async fn open_ticks(db: &Db) -> StoreResult<Vec<TickRow>> {
    let rows: Vec<TickColumns> = on_read!(db, |c| {
        sqlx::query_as(
            "select schedule_id, session, nth, state, reason, runs, created_at from tick
             where state in ('queued', 'firing') order by created_at, schedule_id, session, nth limit 100",
        )
        .fetch_all(c)
        .await
    })
    .doing("read open ticks")?;
    ticks_of(rows)
}

fn ticks_of(rows: Vec<TickColumns>) -> StoreResult<Vec<TickRow>> {
    rows.into_iter()
        .map(|(schedule_id, session, nth, state, reason, runs, created_at)| {
            Ok(TickRow {
                schedule_id,
                session,
                nth,
                state: TickState::read(&state)?,
                reason,
                runs,
                created_at: created_at.0,
            })
        })
        .collect()
}

/// Makes a tick; false when it is there. `by_hand`: one more than there are for that session.
pub(in crate::ledger) async fn open_tick(
    db: &Db,
    schedule: &str,
    session: NaiveDate,
    by_hand: bool,
    reason: &str,
    now: DateTime<Utc>,
) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let nth = open_tick_in(&mut tx, schedule, session, by_hand, reason, now).await?;
    tx.commit().await?;
    Ok(nth.is_some())
}

/// The same, inside a transaction that does more; which one of that session it is.
pub(super) async fn open_tick_in(
    tx: &mut Tx,
    schedule: &str,
    session: NaiveDate,
    by_hand: bool,
    reason: &str,
    now: DateTime<Utc>,
) -> StoreResult<Option<i64>> {
    let nth = if by_hand {
        "(select coalesce(max(nth), 0) + 1 from tick where schedule_id = $1 and session = $2)"
    } else {
        "0"
    };
    let text = format!(
        "insert into tick (schedule_id, session, nth, state, reason, created_at) values ($1, $2, {nth}, 'queued', $3, $4) on conflict do nothing returning nth"
    );
    on_tx!(tx, |c| {
        sqlx::query_scalar(sqlx::AssertSqlSafe(text.clone()))
            .bind(schedule)
            .bind(session)
            .bind(reason)
            .bind(Ts::from(now))
            .fetch_optional(c)
            .await
    })
    .doing("insert a tick")
}

/// Moves a tick on, if it is still where it was.
pub(in crate::ledger) async fn move_tick(db: &Db, tick: &TickRow, to: TickState, reason: &str) -> StoreResult<bool> {
    let rows = on_write!(db, |c| {
        sqlx::query("update tick set state = $5, reason = $6 where schedule_id = $1 and session = $2 and nth = $3 and state = $4")
            .bind(&tick.schedule_id)
            .bind(tick.session)
            .bind(tick.nth)
            .bind(tick.state.as_str())
            .bind(to.as_str())
            .bind(reason)
            .execute(c)
            .await
            .rows()
    })
    .doing("move a tick on")?;
    Ok(rows == 1)
}

/// Open runs of a schedule that aimed at an earlier session and will not end by themselves: those that have not begun, or all.
pub(in crate::ledger) async fn open_runs_before(
    db: &Db,
    schedule: &str,
    session: NaiveDate,
    begun_too: bool,
    limit: i64,
) -> StoreResult<Vec<Uuid>> {
    on_read!(db, |c| {
        sqlx::query_scalar(
            "select id from run where schedule_id = $1 and aimed_session < $2 and state in ('queued', 'running') and verdict is null
                    and ($3 or state = 'queued') order by id limit $4",
        )
        .bind(schedule)
        .bind(session)
        .bind(begun_too)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("look for open runs of a schedule")
}

/// Starts the next slice of a firing tick's runs; `make` turns an active ticker into its run. How many were started, and whether there
/// are more. Nothing when another replica has gone on with it meanwhile. Under [`Overlap::Skip`] tickers with an open run of an earlier
/// session are left out; a tick that leaves out all is `skipped`.
pub(in crate::ledger) async fn advance_tick(
    db: &Db,
    tick: &TickRow,
    exchange: Exchange,
    overlap: Overlap,
    slice: i64,
    now: DateTime<Utc>,
    make: &(dyn Fn(Ticker) -> NewRun + Send + Sync),
) -> StoreResult<(usize, bool)> {
    let mut tx = db.begin().await?;
    let Some((cursor, before)) = lock_tick(&mut tx, tick).await? else {
        tx.rollback().await?;
        return Ok((0, false));
    };
    let symbols: Vec<String> = on_tx!(&mut tx, |c| {
        sqlx::query_scalar(
            "select ticker from ticker where exchange = $1 and active and ticker > $2 order by ticker limit $3",
        )
        .bind(exchange.as_str())
        .bind(&cursor)
        .bind(slice)
        .fetch_all(c)
        .await
    })
    .doing("list the tickers of a tick")?;
    let busy = if overlap == Overlap::Skip { busy(&mut tx, tick).await? } else { HashSet::new() };
    let free = symbols.iter().filter(|symbol| !busy.contains(*symbol));
    let runs: Vec<NewRun> = free.filter_map(|symbol| Ticker::new(exchange, symbol).ok()).map(make).collect();
    let started = start_in(&mut tx, &runs, now).await?.len();
    let more = i64::try_from(symbols.len()).unwrap_or(0) == slice;
    let runs = before + i64::try_from(started).unwrap_or(0);
    let state = match (more, runs, busy.is_empty()) {
        (true, ..) => TickState::Firing,
        (false, 0, false) => TickState::Skipped,
        _ => TickState::Fired,
    };
    on_tx!(&mut tx, |c| {
        sqlx::query(
            "update tick set runs = $4, cursor = $5, state = $6 where schedule_id = $1 and session = $2 and nth = $3",
        )
        .bind(&tick.schedule_id)
        .bind(tick.session)
        .bind(tick.nth)
        .bind(runs)
        .bind(symbols.last().unwrap_or(&cursor))
        .bind(state.as_str())
        .execute(c)
        .await
        .rows()
    })
    .doing("note how far a tick has come")?;
    tx.commit().await?;
    Ok((started, more))
}

/// Tickers with an open run of this schedule for an earlier session.
async fn busy(tx: &mut Tx, tick: &TickRow) -> StoreResult<HashSet<String>> {
    let symbols: Vec<String> = on_tx!(tx, |c| {
        sqlx::query_scalar(
            "select ticker from run where schedule_id = $1 and aimed_session < $2 and state in ('queued', 'running') and ticker is not null",
        )
        .bind(&tick.schedule_id)
        .bind(tick.session)
        .fetch_all(c)
        .await
    })
    .doing("look for tickers whose former run is open")?;
    Ok(symbols.into_iter().collect())
}

/// The cursor of a firing tick and the runs it has started, locked; `None` when it is no longer firing or another replica is at it.
async fn lock_tick(tx: &mut Tx, tick: &TickRow) -> StoreResult<Option<(String, i64)>> {
    let text = if tx.is_postgres() {
        "select cursor, runs from tick where schedule_id = $1 and session = $2 and nth = $3 and state = 'firing' for update skip locked"
    } else {
        "select cursor, runs from tick where schedule_id = $1 and session = $2 and nth = $3 and state = 'firing'"
    };
    on_tx!(tx, |c| sqlx::query_as(text)
        .bind(&tick.schedule_id)
        .bind(tick.session)
        .bind(tick.nth)
        .fetch_optional(c)
        .await)
    .doing("lock a tick")
}
