//! The scheduler: fires what is due by the market clock. Every replica may run it; a tick is a row, and one insert wins.

use crate::db::StoreResult;
use crate::engine::Engine;
use crate::ledger::{self, CatchUp, NewRun, ScheduleRow};
use crate::plan::{Plan, TICKER};
use crate::schedule::due_sessions;
use chrono::NaiveTime;
use market::Exchange;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often the market clock is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The schedules that a fresh installation has. NASDAQ: 2 h 15 min after the close; NEPSE: 2 h 30 min, when its page is surely final.
pub fn default_schedules() -> [ScheduleRow; 2] {
    let daily = |id: &str, exchange, hour, minute| ScheduleRow {
        id: id.to_owned(),
        exchange,
        plan: TICKER.name.to_owned(),
        local_time: NaiveTime::from_hms_opt(hour, minute, 0).expect("a valid time"),
        catch_up: CatchUp::Latest,
        paused: false,
    };
    [daily("nasdaq-daily", Exchange::Nasdaq, 18, 15), daily("nepse-daily", Exchange::Nepse, 17, 30)]
}

/// Fires due schedules until `stop`.
pub async fn schedule(engine: Arc<Engine>, offline: bool, stop: CancellationToken) {
    let mut failing = false;
    while !stop.is_cancelled() {
        match fire_due(&engine, offline).await {
            Ok(()) => failing = false,
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "schedules could not be looked at; trying again");
                }
                failing = true;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// Fires every schedule that is due now, once.
pub async fn fire_due(engine: &Engine, offline: bool) -> StoreResult<()> {
    let now = engine.market_clock.now();
    for row in ledger::schedules(&engine.db).await? {
        let Some(plan) = Plan::named(&row.plan) else { continue };
        let last = ledger::last_tick(&engine.db, &row.id).await?;
        for session in due_sessions(&row, last, now) {
            let make = |ticker| NewRun {
                id: engine.new_run_id(),
                plan,
                ticker,
                session,
                schedule: Some(row.id.clone()),
                priority: 0,
                offline,
                idempotency_key: None,
                repeats: None,
            };
            if let Some(started) = ledger::try_tick(&engine.db, &row, session, engine.db.now(), make).await? {
                tracing::info!(schedule = row.id, %session, runs = started.len(), "a schedule fired");
                engine.nudge();
            }
        }
    }
    Ok(())
}
