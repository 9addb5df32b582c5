//! The market of the fault run: a clock on which a day passes every ten seconds, and one schedule whose ticks both schedulers try to make.

use crate::{node, now_us};
use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use market::{Exchange, Ticker};
use workflows::clock::MarketClock;
use workflows::ledger::{CatchUp, Overlap, ScheduleRow};
use workflows::plan::TICKER;

/// The name of the schedule.
pub const SCHEDULE: &str = "chaos-daily";
/// How many tickers it starts runs for.
pub const TICKERS: u64 = 100;
/// What their names begin with.
pub const PLACE: &str = "tick";
/// A day of the market takes so long.
const DAY_US: i64 = 10_000_000;
/// The first day.
const FIRST: &str = "2024-01-01T12:00:00Z";

/// Shows the first day until the run begins, and the last one from its end on.
#[derive(Debug, Clone, Copy)]
pub struct Calendar {
    /// When the run begins, in microseconds since 1970.
    pub from_us: i64,
    /// When it ends.
    pub until_us: i64,
}

impl MarketClock for Calendar {
    fn now(&self) -> DateTime<Utc> {
        self.at(now_us())
    }
}

impl Calendar {
    fn at(&self, now_us: i64) -> DateTime<Utc> {
        let first: DateTime<Utc> = FIRST.parse().expect("an instant");
        let passed = now_us.min(self.until_us) - self.from_us;
        first + TimeDelta::seconds(passed.max(0) / (DAY_US / 86_400))
    }

    /// The sessions that must have had their tick in the end: every day on which the exchange may trade, from the first tick made on.
    pub fn sessions_since(&self, first: NaiveDate) -> Vec<NaiveDate> {
        let schedule = schedule();
        let due = |day: NaiveDate| {
            let fires_at = day.and_time(schedule.local_time).and_local_timezone(schedule.exchange.zone()).latest();
            fires_at.is_some_and(|at| at.with_timezone(&Utc) <= self.at(self.until_us))
        };
        let days = first.iter_days().take_while(|day| due(*day));
        days.filter(|day| schedule.exchange.may_trade_on(chrono::Datelike::weekday(day))).collect()
    }
}

/// The schedule: whoever missed a session makes up for it, in order.
pub fn schedule() -> ScheduleRow {
    ScheduleRow {
        id: SCHEDULE.to_owned(),
        exchange: Exchange::Nepse,
        plan: TICKER.name.to_owned(),
        local_time: NaiveTime::from_hms_opt(17, 30, 0).expect("a time"),
        catch_up: CatchUp::All,
        overlap: Overlap::QueueOne,
        paused: false,
    }
}

/// The tickers of its exchange.
pub fn tickers() -> Vec<Ticker> {
    (0..TICKERS).map(|nth| node::ticker(schedule().exchange, PLACE, nth)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_takes_ten_seconds_and_the_last_one_stays() {
        let calendar = Calendar { from_us: 50_000_000, until_us: 110_000_000 };
        let day = |at_s: i64| calendar.at(at_s * 1_000_000).date_naive().to_string();
        assert_eq!(
            [day(0), day(50), day(60), day(110), day(500)].map(|day| day[8..].to_owned()),
            ["01", "01", "02", "07", "07"]
        );
        // 2024-01-06 is a Saturday.
        let sessions = calendar.sessions_since("2024-01-02".parse().unwrap());
        let days: Vec<String> = sessions.iter().map(|day| day.to_string()[8..].to_owned()).collect();
        assert_eq!(days, ["02", "03", "04", "05", "07"]);
    }
}
