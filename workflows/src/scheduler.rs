//! The scheduler: makes ticks when schedules are due by the market clock, and starts their runs in slices; also those of backfills. Every replica
//! may run it; a tick is a row and one insert wins, and whoever dies in the middle leaves the rest to the others.

use crate::db::StoreResult;
use crate::duty::Duty;
use crate::engine::Engine;
use crate::ledger::{self, CatchUp, NewRun, Overlap, ScheduleRow, TickRow, TickState};
use crate::plan::{Plan, TICKER, priority};
use crate::schedule::{FURTHEST_BACK_DAYS, called_off, due_sessions, start_delay};
use crate::stores::sessions;
use crate::subject::Subject;
use chrono::{Days, NaiveTime, TimeDelta};
use market::{Calendar, Exchange, Ticker};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Runs started per transaction of a tick.
const SLICE: i64 = 500;
/// Old runs cancelled per look, where that is the policy.
const CANCELLED_PER_LOOK: i64 = 200;

/// The schedules that a fresh installation has. NASDAQ: 2 h 15 min after the close; NEPSE: 2 h 30 min, when its page is surely final.
pub fn default_schedules() -> [ScheduleRow; 2] {
    let daily = |id: &str, exchange, hour, minute| ScheduleRow {
        id: id.to_owned(),
        exchange,
        plan: TICKER.name.to_owned(),
        local_time: NaiveTime::from_hms_opt(hour, minute, 0).expect("a valid time"),
        catch_up: CatchUp::Latest,
        overlap: Overlap::QueueOne,
        paused: false,
    };
    [daily("nasdaq-daily", Exchange::Nasdaq, 18, 15), daily("nepse-daily", Exchange::Nepse, 17, 30)]
}

/// Fires due schedules until `stop`.
pub async fn schedule(engine: Arc<Engine>, offline: bool, stop: CancellationToken) {
    let mut duty = Duty::new("schedules could not be looked at", stop);
    while duty.goes_on() {
        let came = look(&engine, offline).await;
        duty.looked(came).await;
    }
}

/// One look: makes the ticks that are due, and moves on what is open.
pub async fn look(engine: &Arc<Engine>, offline: bool) -> StoreResult<()> {
    let schedules = engine.ledger.schedules().await?;
    let now = engine.market_clock.now();
    let most = engine.settings.start_jitter;
    let installation = match engine.ledger.db().filter(|_| !most.is_zero()) {
        Some(db) => Some(db.installation().await?),
        None => None,
    };
    let calendars = operators_calendars(engine).await?;
    for row in &schedules {
        let Some(calendar) = calendars.iter().find(|calendar| calendar.exchange() == row.exchange) else { continue };
        let last = engine.ledger.last_tick(&row.id).await?;
        let today = now.with_timezone(&row.exchange.zone()).date_naive();
        let delay = installation.map_or(TimeDelta::zero(), |id| start_delay(id, &row.id, today, most));
        for session in due_sessions(row, calendar, last, now - delay) {
            if engine.ledger.open_tick(&row.id, session, false, "its time has come", engine.ledger.now()).await? {
                tracing::info!(schedule = row.id, %session, "a schedule is due");
            }
        }
    }
    move_ticks(engine, &schedules, &calendars, offline).await?;
    move_backfills(engine).await
}

/// What operators have said of days, for each exchange; nobody else keeps a schedule from asking. A simulation has no operators.
async fn operators_calendars(engine: &Arc<Engine>) -> StoreResult<Vec<Calendar>> {
    // A day before the first that may be due, wherever it is evening.
    let since = engine.market_clock.now().date_naive() - Days::new(FURTHEST_BACK_DAYS + 2);
    let words = match engine.ledger.db() {
        Some(db) => sessions::operators_words(db, since).await?,
        None => vec![],
    };
    let calendar = |exchange| {
        let of_it = words.iter().filter(|(of, _)| *of == exchange).map(|(_, word)| word.clone()).collect();
        Calendar::new(exchange, [], of_it)
    };
    Ok(Exchange::ALL.into_iter().map(calendar).collect())
}

async fn move_ticks(
    engine: &Arc<Engine>,
    schedules: &[ScheduleRow],
    calendars: &[Calendar],
    offline: bool,
) -> StoreResult<()> {
    let open = engine.ledger.open_ticks().await?;
    for (at, tick) in open.iter().enumerate() {
        let Some(row) = schedules.iter().find(|row| row.id == tick.schedule_id) else { continue };
        // A plan that we do not know stays for a program that does.
        let Some(plan) = Plan::named(&row.plan) else { continue };
        let mut tick = tick.clone();
        // What was triggered by hand was meant, whatever was said of the day.
        let calendar = calendars.iter().find(|calendar| calendar.exchange() == row.exchange && tick.nth == 0);
        if tick.state == TickState::Queued
            && let Some(why) = calendar.and_then(|calendar| called_off(calendar, tick.session))
        {
            if engine.ledger.move_tick(&tick, TickState::Skipped, &why).await? {
                tracing::info!(schedule = row.id, session = %tick.session, why, "a schedule was due and starts nothing");
            }
            continue;
        }
        if tick.state == TickState::Queued {
            let earlier = open[..at].iter().any(|other| other.schedule_id == tick.schedule_id);
            if earlier || !begin(engine, row, &tick).await? {
                continue;
            }
            tick.state = TickState::Firing;
        }
        start_runs(engine, row, plan, &tick, offline).await?;
    }
    Ok(())
}

/// Makes way for a queued tick as the schedule's overlap policy says, ticker by ticker, and lets it fire; false when there is more to be cancelled
/// than one look takes. Whoever dies in between leaves the tick queued, and the next look does the rest.
async fn begin(engine: &Arc<Engine>, row: &ScheduleRow, tick: &TickRow) -> StoreResult<bool> {
    let begun_too = row.overlap == Overlap::CancelOld;
    // Whoever wants every missed session gets every one, in order.
    let one_waits = row.overlap == Overlap::QueueOne && row.catch_up != CatchUp::All;
    if begun_too || one_waits {
        let old = engine.ledger.open_runs_before(&row.id, tick.session, begun_too, CANCELLED_PER_LOOK).await?;
        let more = i64::try_from(old.len()).unwrap_or(0) == CANCELLED_PER_LOOK;
        for run in old {
            engine.cancel(run, &format!("{} fired for {}", row.id, tick.session)).await?;
        }
        if more {
            return Ok(false);
        }
    }
    engine.ledger.move_tick(tick, TickState::Firing, &tick.reason).await
}

async fn start_runs(
    engine: &Arc<Engine>,
    row: &ScheduleRow,
    plan: &'static Plan,
    tick: &TickRow,
    offline: bool,
) -> StoreResult<()> {
    let make = |ticker: Ticker| NewRun {
        id: engine.new_run_id(),
        plan,
        subject: Subject::Ticker(ticker),
        session: tick.session,
        schedule: Some(row.id.clone()),
        backfill: None,
        priority: priority::SCHEDULED,
        offline,
        idempotency_key: None,
        repeats: None,
    };
    let mut runs = 0;
    loop {
        let now = engine.ledger.now();
        let (started, more) = engine.ledger.advance_tick(tick, row.exchange, row.overlap, SLICE, now, &make).await?;
        runs += started;
        engine.nudge();
        if !more {
            break;
        }
    }
    tracing::info!(schedule = row.id, session = %tick.session, runs, "a schedule fired");
    Ok(())
}

async fn move_backfills(engine: &Arc<Engine>) -> StoreResult<()> {
    let Some(db) = engine.ledger.db() else { return Ok(()) };
    for row in ledger::backfills(db, true, 20).await? {
        let new_id = || engine.new_run_id();
        if ledger::advance_backfill(db, row.id, engine.ledger.now(), &new_id).await? > 0 {
            engine.nudge();
        }
    }
    Ok(())
}
