//! Schedules and their ticks as the API shows them, those to come among them.

use crate::Shared;
use crate::problem::Problem;
use crate::words::{CatchUpName, ExchangeName, OverlapName, ScheduleStateName, TickStateName, word};
use chrono::{DateTime, NaiveDate, Utc};
use poem_openapi::Object;
use workflows::ledger::{self, ScheduleRow, TickRow};
use workflows::schedule::{NextTick, next_ticks};
use workflows::stores::sessions;

/// Ticks of the past shown with a schedule.
const LAST_TICKS: i64 = 5;
/// Calendar days to come shown with a schedule.
const NEXT_DAYS: usize = 10;

/// When runs of an exchange's tickers start by themselves.
#[derive(Debug, Object)]
#[oai(rename = "Schedule", skip_serializing_if_is_none)]
pub(crate) struct ScheduleView {
    /// Its name.
    id: String,
    /// Whose active tickers.
    exchange: ExchangeName,
    /// What each run goes through.
    plan: String,
    /// When, `HH:MM` in `time_zone`, on each day on which the exchange may trade.
    local_time: String,
    /// IANA zone of the exchange.
    time_zone: String,
    /// What happens to sessions missed while nothing ran: `skip`, `latest` or `all`.
    catch_up: CatchUpName,
    /// What happens to a ticker whose run of an earlier session has not ended: `skip` leaves it out, `queue_one` lets the newest run wait
    /// behind it, `cancel_old` cancels it.
    overlap: OverlapName,
    /// Whether it fires: `active` or `paused`.
    state: ScheduleStateName,
    /// Whether it is silent.
    paused: bool,
    /// The newest session for which it has fired by the clock.
    last_session: Option<NaiveDate>,
    /// Its newest ticks, newest first.
    last_ticks: Vec<TickView>,
    /// The next calendar days, those on which it does not fire among them.
    next_ticks: Vec<NextTickView>,
}

/// One firing of a schedule.
#[derive(Debug, Object)]
#[oai(rename = "Tick")]
pub(crate) struct TickView {
    /// For which session.
    session: NaiveDate,
    /// 0: by the clock; more: by hand.
    nth: i64,
    /// Where it stands.
    state: TickStateName,
    /// Why it fired or did not.
    reason: String,
    /// Runs that it started.
    runs: u64,
    /// When it was made.
    created_at: DateTime<Utc>,
}

/// Ticks of a schedule, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct TickPage {
    /// At most `limit` of them.
    pub(crate) items: Vec<TickView>,
    /// Asks for the page after this one; absent on the last.
    pub(crate) next_cursor: Option<String>,
}

/// A day to come.
#[derive(Debug, Object)]
#[oai(rename = "NextTick")]
struct NextTickView {
    /// The day, in the exchange's zone.
    session: NaiveDate,
    /// When it fires, or would, in UTC.
    at: DateTime<Utc>,
    /// The same instant in the exchange's zone, with its offset: `2024-11-29T18:15:00-05:00`.
    local: String,
    /// Whether it fires.
    fires: bool,
    /// Why, as far as known now.
    reason: String,
}

impl ScheduleView {
    /// A schedule with its ticks.
    pub(crate) async fn of(shared: &Shared, row: ScheduleRow) -> Result<Self, Problem> {
        let (engine, db) = (shared.engine(), &shared.stores().db);
        let now = engine.market_clock.now();
        let zone = row.exchange.zone();
        let today = now.with_timezone(&zone).date_naive();
        let calendar = sessions::calendar(db, row.exchange, today).await?;
        let last = ledger::ticks(db, &row.id, None, LAST_TICKS).await?;
        let next = next_ticks(&row, &calendar, now, NEXT_DAYS);
        Ok(Self {
            last_session: engine.ledger.last_tick(&row.id).await?,
            last_ticks: last.into_iter().map(TickView::of).collect::<Result<_, _>>()?,
            next_ticks: next
                .into_iter()
                .map(|NextTick { session, at, fires, reason }| NextTickView {
                    local: at.with_timezone(&zone).to_rfc3339(),
                    session,
                    at,
                    fires,
                    reason,
                })
                .collect(),
            id: row.id,
            exchange: row.exchange.into(),
            plan: row.plan,
            local_time: row.local_time.format("%H:%M").to_string(),
            time_zone: zone.name().to_owned(),
            catch_up: row.catch_up.into(),
            overlap: row.overlap.into(),
            state: if row.paused { ScheduleStateName::Paused } else { ScheduleStateName::Active },
            paused: row.paused,
        })
    }
}

impl TickView {
    pub(crate) fn of(row: TickRow) -> Result<Self, Problem> {
        Ok(Self {
            session: row.session,
            nth: row.nth,
            state: word(row.state.as_str())?,
            reason: row.reason,
            runs: row.runs.unsigned_abs(),
            created_at: row.created_at,
        })
    }
}
