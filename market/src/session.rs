//! Which session is it? Pure answers from a given instant: what is final, what was the latest, what comes next.
//! Trading calendars are observed data with a hint, never code: the hint only says which weekdays are possible.

use crate::Exchange;
use chrono::{DateTime, Datelike, Days, NaiveDate, Utc, Weekday};
use serde::{Deserialize, Serialize};

/// How a day, or a target session, was found; the stronger evidence stands first. A target is an estimate until the session is observed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TargetBasis {
    /// An operator says so.
    Operator,
    /// It was seen: in bars, or because no source had any.
    Observed,
    /// A list of holidays says so, years ahead.
    CalendarHint,
    /// The weekdays on which the exchange traded in its last four weeks.
    ObservedWeek,
    /// The exchange's usual week: there is too little history to learn from.
    UsualWeek,
}

/// The instant from which a session's bar counts as final: close plus the time in which prices still change.
pub fn final_at(exchange: Exchange, session: NaiveDate) -> DateTime<Utc> {
    let local = session.and_time(exchange.closes()) + exchange.settles_after();
    // Closing times never fall into a clock change; `latest` keeps this total all the same.
    local.and_local_timezone(exchange.zone()).latest().map_or_else(|| local.and_utc(), |t| t.with_timezone(&Utc))
}

/// Whether the session's close can no longer change at `now`.
pub fn is_final(exchange: Exchange, session: NaiveDate, now: DateTime<Utc>) -> bool {
    now >= final_at(exchange, session)
}

/// The newest day on which the exchange may have traded and whose close is final at `now`.
/// A hint: a holiday looks like a session here until the page says otherwise.
pub fn latest_final_session(exchange: Exchange, now: DateTime<Utc>) -> NaiveDate {
    let mut day = now.with_timezone(&exchange.zone()).date_naive();
    while !exchange.may_trade_on(day.weekday()) || !is_final(exchange, day, now) {
        day = day - Days::new(1);
    }
    day
}

/// The newest day whose evening is over at `now`: by then the sources have published its session, if it had one.
pub fn latest_evening(exchange: Exchange, now: DateTime<Utc>) -> NaiveDate {
    let local = now.with_timezone(&exchange.zone());
    let today = local.date_naive();
    if local.time() >= exchange.evening_ends() { today } else { today - Days::new(1) }
}

/// The session after `as_of`, estimated from the weekdays of the latest `observed` sessions (ascending, up to `as_of`) of one ticker alone: for whoever has
/// no [`crate::Calendar`] of the exchange.
pub fn next_session(exchange: Exchange, as_of: NaiveDate, observed: &[NaiveDate]) -> (NaiveDate, TargetBasis) {
    let four_weeks_ago = as_of - Days::new(27);
    let recent: Vec<Weekday> =
        observed.iter().filter(|d| **d >= four_weeks_ago && **d <= as_of).map(|d| d.weekday()).collect();
    // A thin ticker shows too little of its exchange's week.
    let learnt = recent.len() >= 16;
    let basis = if learnt { TargetBasis::ObservedWeek } else { TargetBasis::UsualWeek };
    let mut day = as_of + Days::new(1);
    // A weekday seen twice in four weeks belongs to the week; once may be a make-up session.
    while !(if learnt {
        recent.iter().filter(|w| **w == day.weekday()).count() >= 2
    } else {
        exchange.may_trade_on(day.weekday())
    }) {
        day = day + Days::new(1);
    }
    (day, basis)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn date(text: &str) -> NaiveDate {
        text.parse().unwrap()
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn a_bar_is_final_half_an_hour_after_the_close() {
        assert_eq!(final_at(Exchange::Nasdaq, date("2012-12-03")), at("2012-12-03T21:30:00Z"));
        assert_eq!(final_at(Exchange::Nasdaq, date("2012-07-02")), at("2012-07-02T20:30:00Z"), "summer time");
        assert_eq!(final_at(Exchange::Nepse, date("2012-07-02")), at("2012-07-02T09:45:00Z"));
    }

    #[test]
    fn the_latest_session_skips_what_cannot_be_one() {
        assert_eq!(latest_final_session(Exchange::Nasdaq, at("2012-12-03T21:29:59Z")), date("2012-11-30"));
        assert_eq!(latest_final_session(Exchange::Nasdaq, at("2012-12-03T21:30:00Z")), date("2012-12-03"));
        assert_eq!(latest_final_session(Exchange::Nasdaq, at("2012-12-09T12:00:00Z")), date("2012-12-07"));
        assert_eq!(latest_final_session(Exchange::Nepse, at("2012-12-08T12:00:00Z")), date("2012-12-07"));
    }

    #[test]
    fn an_evening_is_over_by_the_clock_of_the_exchange() {
        assert_eq!(latest_evening(Exchange::Nasdaq, at("2012-12-04T02:59:59Z")), date("2012-12-02"));
        assert_eq!(latest_evening(Exchange::Nasdaq, at("2012-12-04T03:00:00Z")), date("2012-12-03"));
        assert_eq!(latest_evening(Exchange::Nepse, at("2012-12-03T16:45:00Z")), date("2012-12-03"));
    }

    #[test]
    fn the_week_is_learnt_from_what_was_seen() {
        let sunday_to_thursday: Vec<NaiveDate> = (0..28)
            .map(|n| date("2024-03-01") + Days::new(n))
            .filter(|d| !matches!(d.weekday(), Weekday::Fri | Weekday::Sat))
            .collect();
        let last = *sunday_to_thursday.last().unwrap();
        assert_eq!(last, date("2024-03-28"));
        assert_eq!(
            next_session(Exchange::Nepse, last, &sunday_to_thursday),
            (date("2024-03-31"), TargetBasis::ObservedWeek)
        );
        assert_eq!(next_session(Exchange::Nepse, last, &[last]), (date("2024-03-29"), TargetBasis::UsualWeek));
    }

    proptest! {
        #[test]
        fn the_next_session_always_comes_after(days in proptest::collection::btree_set(0u64..60, 0..60)) {
            let observed: Vec<NaiveDate> = days.iter().map(|n| date("2020-01-01") + Days::new(*n)).collect();
            let as_of = observed.last().copied().unwrap_or(date("2020-01-01"));
            let (next, _) = next_session(Exchange::Nasdaq, as_of, &observed);
            prop_assert!(next > as_of && next <= as_of + Days::new(28));
        }
    }
}
