//! Which sessions of a schedule are due: pure. In come its time of day, its last tick and the market clock; out come dates.

use crate::ledger::{CatchUp, ScheduleRow};
use chrono::{DateTime, Datelike, Days, NaiveDate, TimeDelta, Utc};

/// A schedule without a last tick, or one long asleep, never reaches back further.
const FURTHEST_BACK_DAYS: u64 = 30;
/// Under `skip`, a session older than this is missed.
const SKIP_AFTER: TimeDelta = TimeDelta::hours(6);

/// The sessions for which the schedule must fire now, oldest first. A session is a day on which the exchange may trade: whether it did
/// is found by the run, not guessed here.
pub fn due_sessions(schedule: &ScheduleRow, last: Option<NaiveDate>, now: DateTime<Utc>) -> Vec<NaiveDate> {
    if schedule.paused {
        return Vec::new();
    }
    let zone = schedule.exchange.zone();
    let fires_at = |day: NaiveDate| {
        let local = day.and_time(schedule.local_time);
        local.and_local_timezone(zone).latest().map_or_else(|| local.and_utc(), |t| t.with_timezone(&Utc))
    };
    let today = now.with_timezone(&zone).date_naive();
    let due: Vec<NaiveDate> = (0..=FURTHEST_BACK_DAYS)
        .rev()
        .map(|back| today - Days::new(back))
        .filter(|day| schedule.exchange.may_trade_on(day.weekday()))
        .filter(|day| fires_at(*day) <= now && last.is_none_or(|last| *day > last))
        .collect();
    match (schedule.catch_up, last) {
        (CatchUp::All, Some(_)) => due,
        (CatchUp::Skip, _) => due.into_iter().rev().take(1).filter(|day| now - fires_at(*day) <= SKIP_AFTER).collect(),
        (CatchUp::Latest | CatchUp::All, _) => due.into_iter().rev().take(1).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::Exchange;

    fn schedule(exchange: Exchange, time: &str, catch_up: CatchUp) -> ScheduleRow {
        ScheduleRow {
            id: "daily".into(),
            exchange,
            plan: "ticker".into(),
            local_time: time.parse().unwrap(),
            catch_up,
            paused: false,
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn days(texts: &[&str]) -> Vec<NaiveDate> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    #[test]
    fn fires_at_its_time_in_the_exchanges_zone() {
        let nasdaq = schedule(Exchange::Nasdaq, "18:15:00", CatchUp::Latest);
        assert_eq!(due_sessions(&nasdaq, None, at("2012-12-03T23:14:59Z")), days(&["2012-11-30"]));
        assert_eq!(due_sessions(&nasdaq, None, at("2012-12-03T23:15:00Z")), days(&["2012-12-03"]));
        assert_eq!(due_sessions(&nasdaq, days(&["2012-12-03"]).pop(), at("2012-12-04T12:00:00Z")), days(&[]));
        let nepse = schedule(Exchange::Nepse, "17:30:00", CatchUp::Latest);
        assert_eq!(due_sessions(&nepse, None, at("2012-12-03T11:45:00Z")), days(&["2012-12-03"]));
    }

    #[test]
    fn missed_sessions_follow_the_policy() {
        let last = days(&["2012-11-28"]).pop();
        let now = at("2012-12-04T12:00:00Z");
        let due = |catch_up| due_sessions(&schedule(Exchange::Nasdaq, "18:15:00", catch_up), last, now);
        assert_eq!(due(CatchUp::All), days(&["2012-11-29", "2012-11-30", "2012-12-03"]));
        assert_eq!(due(CatchUp::Latest), days(&["2012-12-03"]));
        assert_eq!(due(CatchUp::Skip), days(&[]));
    }

    #[test]
    fn a_paused_schedule_is_silent() {
        let paused = ScheduleRow { paused: true, ..schedule(Exchange::Nasdaq, "18:15:00", CatchUp::All) };
        assert!(due_sessions(&paused, None, at("2012-12-04T12:00:00Z")).is_empty());
    }
}
