//! Which sessions of a schedule are due, and which come next: pure. In come its time of day, its last tick and the market clock; out come
//! dates, and for those to come the instant and the reason.

use crate::ledger::{CatchUp, ScheduleRow};
use chrono::{DateTime, Datelike, Days, NaiveDate, NaiveTime, TimeDelta, Utc};
use market::{Calendar, DayState, Exchange, TargetBasis, name_of_day};

/// A schedule without a last tick, or one long asleep, never reaches back further.
pub(crate) const FURTHEST_BACK_DAYS: u64 = 30;
/// Under `skip`, a session older than this is missed.
const SKIP_AFTER: TimeDelta = TimeDelta::hours(6);

/// The sessions for which the schedule must fire now, oldest first. A session is a day on which the exchange may trade: whether it did
/// is found by the run, not guessed here. An operator may have made a session of a day that is usually none; one that they closed is due all the same,
/// and its tick is skipped, so that every day has its one tick.
pub fn due_sessions(
    schedule: &ScheduleRow,
    calendar: &Calendar,
    last: Option<NaiveDate>,
    now: DateTime<Utc>,
) -> Vec<NaiveDate> {
    if schedule.paused {
        return Vec::new();
    }
    let fires_at = |day: NaiveDate| fires_at(schedule.exchange, day, schedule.local_time);
    let today = now.with_timezone(&schedule.exchange.zone()).date_naive();
    let due: Vec<NaiveDate> = (0..=FURTHEST_BACK_DAYS)
        .rev()
        .map(|back| today - Days::new(back))
        .filter(|day| last.is_none_or(|last| *day > last) && calendar.may_trade_on(*day))
        .filter(|day| fires_at(*day) <= now)
        .collect();
    match (schedule.catch_up, last) {
        (CatchUp::All, Some(_)) => due,
        (CatchUp::Skip, _) => due.into_iter().rev().take(1).filter(|day| now - fires_at(*day) <= SKIP_AFTER).collect(),
        (CatchUp::Latest | CatchUp::All, _) => due.into_iter().rev().take(1).collect(),
    }
}

/// The instant of a time of day in the exchange's zone. A time that the clocks skip is the same time after the change, one that they show
/// twice is the second.
pub fn fires_at(exchange: Exchange, day: NaiveDate, local_time: NaiveTime) -> DateTime<Utc> {
    let at = |local: chrono::NaiveDateTime| local.and_local_timezone(exchange.zone()).latest();
    let local = day.and_time(local_time);
    // No zone skips more than an hour.
    at(local).or_else(|| at(local + TimeDelta::hours(1))).map_or_else(|| local.and_utc(), |at| at.with_timezone(&Utc))
}

/// A day to come, and whether the schedule fires for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextTick {
    /// The day, in the exchange's zone.
    pub session: NaiveDate,
    /// When it fires, or would.
    pub at: DateTime<Utc>,
    /// Whether it does.
    pub fires: bool,
    /// Why, in words.
    pub reason: String,
}

/// Why a schedule starts no runs for a day: an operator says that the exchange is closed. Everybody else may be wrong, and the runs find out.
pub fn called_off(calendar: &Calendar, day: NaiveDate) -> Option<String> {
    calendar.operator(day).filter(|word| !word.open).map(|_| calendar.day(day).reason)
}

/// The next `days` calendar days of a schedule, those on which it does not fire among them, with what the calendar says of each.
pub fn next_ticks(schedule: &ScheduleRow, calendar: &Calendar, now: DateTime<Utc>, days: usize) -> Vec<NextTick> {
    let today = now.with_timezone(&schedule.exchange.zone()).date_naive();
    today
        .iter_days()
        .map(|day| (day, fires_at(schedule.exchange, day, schedule.local_time)))
        .filter(|(_, at)| *at > now)
        .take(days)
        .map(|(session, at)| {
            let (fires, reason) = calendar_reason(schedule, calendar, session);
            NextTick { session, at, fires, reason }
        })
        .collect()
}

fn calendar_reason(schedule: &ScheduleRow, calendar: &Calendar, session: NaiveDate) -> (bool, String) {
    let (day, weekday) = (calendar.day(session), name_of_day(session.weekday()));
    if !calendar.may_trade_on(session) || called_off(calendar, session).is_some() {
        return (false, format!("{weekday}: {}", day.reason));
    }
    if schedule.paused {
        return (false, format!("{weekday}: the schedule is paused"));
    }
    // A hint, or the week of late, may be wrong: asking costs less than a session that was missed.
    let doubted = day.state == DayState::Closed && day.basis > TargetBasis::Operator;
    (true, format!("{weekday}: {}{}", day.reason, if doubted { "; the run will tell" } else { "" }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{Witness, Word};

    fn schedule(exchange: Exchange, time: &str, catch_up: CatchUp) -> ScheduleRow {
        ScheduleRow {
            id: "daily".into(),
            exchange,
            plan: "ticker".into(),
            local_time: time.parse().unwrap(),
            catch_up,
            overlap: crate::ledger::Overlap::QueueOne,
            paused: false,
        }
    }

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn days(texts: &[&str]) -> Vec<NaiveDate> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn nothing(exchange: Exchange) -> Calendar {
        Calendar::new(exchange, [], vec![])
    }

    #[test]
    fn fires_at_its_time_in_the_exchanges_zone() {
        let nasdaq = schedule(Exchange::Nasdaq, "18:15:00", CatchUp::Latest);
        assert_eq!(
            due_sessions(&nasdaq, &nothing(Exchange::Nasdaq), None, at("2012-12-03T23:14:59Z")),
            days(&["2012-11-30"])
        );
        assert_eq!(
            due_sessions(&nasdaq, &nothing(Exchange::Nasdaq), None, at("2012-12-03T23:15:00Z")),
            days(&["2012-12-03"])
        );
        assert_eq!(
            due_sessions(&nasdaq, &nothing(Exchange::Nasdaq), days(&["2012-12-03"]).pop(), at("2012-12-04T12:00:00Z")),
            days(&[])
        );
        let nepse = schedule(Exchange::Nepse, "17:30:00", CatchUp::Latest);
        assert_eq!(
            due_sessions(&nepse, &nothing(Exchange::Nepse), None, at("2012-12-03T11:45:00Z")),
            days(&["2012-12-03"])
        );
    }

    #[test]
    fn missed_sessions_follow_the_policy() {
        let last = days(&["2012-11-28"]).pop();
        let now = at("2012-12-04T12:00:00Z");
        let calendar = nothing(Exchange::Nasdaq);
        let due = |catch_up| due_sessions(&schedule(Exchange::Nasdaq, "18:15:00", catch_up), &calendar, last, now);
        assert_eq!(due(CatchUp::All), days(&["2012-11-29", "2012-11-30", "2012-12-03"]));
        assert_eq!(due(CatchUp::Latest), days(&["2012-12-03"]));
        assert_eq!(due(CatchUp::Skip), days(&[]));
    }

    #[test]
    fn the_next_ticks_keep_their_local_time_over_a_clock_change() {
        let nasdaq = schedule(Exchange::Nasdaq, "18:15:00", CatchUp::Latest);
        let ticks = next_ticks(&nasdaq, &nothing(Exchange::Nasdaq), at("2024-03-08T12:00:00Z"), 5);
        let fires: Vec<_> = ticks.iter().map(|tick| (tick.session.to_string(), tick.at, tick.fires)).collect();
        // New York's clocks go forward on Sunday the 10th.
        let expected = [
            ("2024-03-08", "2024-03-08T23:15:00Z", true),
            ("2024-03-09", "2024-03-09T23:15:00Z", false),
            ("2024-03-10", "2024-03-10T22:15:00Z", false),
            ("2024-03-11", "2024-03-11T22:15:00Z", true),
            ("2024-03-12", "2024-03-12T22:15:00Z", true),
        ];
        assert_eq!(fires, expected.map(|(day, utc, fires)| (day.to_owned(), at(utc), fires)));
        assert_eq!(ticks[1].reason, "Saturday: NASDAQ does not trade on Saturdays");
        assert_eq!(ticks[3].reason, "Monday: NASDAQ trades on Mondays, and this is no listed holiday");
        // And back on Sunday, November the 3rd.
        let ticks = next_ticks(&nasdaq, &nothing(Exchange::Nasdaq), at("2024-11-01T23:00:00Z"), 4);
        let utc: Vec<_> = ticks.iter().map(|tick| tick.at).collect();
        let expected = ["2024-11-02T22:15:00Z", "2024-11-03T23:15:00Z", "2024-11-04T23:15:00Z", "2024-11-05T23:15:00Z"];
        assert_eq!(utc, expected.map(at), "today's time has passed");
    }

    #[test]
    fn a_time_that_the_clocks_skip_or_repeat_is_one_instant() {
        let half_past_two = "02:30:00".parse().unwrap();
        let fires = |day: &str| fires_at(Exchange::Nasdaq, day.parse().unwrap(), half_past_two);
        assert_eq!(fires("2024-03-10"), at("2024-03-10T07:30:00Z"), "skipped: 03:30 summer time");
        let half_past_one = "01:30:00".parse().unwrap();
        let twice = fires_at(Exchange::Nasdaq, "2024-11-03".parse().unwrap(), half_past_one);
        assert_eq!(twice, at("2024-11-03T06:30:00Z"), "shown twice: the second");
    }

    #[test]
    fn kathmandu_is_three_quarters_of_an_hour_off() {
        let nepse = schedule(Exchange::Nepse, "17:30:00", CatchUp::Latest);
        let ticks = next_ticks(&nepse, &nothing(Exchange::Nepse), at("2024-03-08T11:44:59Z"), 3);
        assert_eq!(ticks[0].at, at("2024-03-08T11:45:00Z"));
        assert_eq!(ticks.iter().map(|tick| tick.fires).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(ticks[1].reason, "Saturday: NEPSE does not trade on Saturdays");
        // Shortly after midnight in Kathmandu it is still yesterday in UTC.
        let ticks = next_ticks(&nepse, &nothing(Exchange::Nepse), at("2024-03-07T18:30:00Z"), 1);
        assert_eq!(ticks[0].session.to_string(), "2024-03-08");
    }

    #[test]
    fn what_was_seen_lately_is_told() {
        let nepse = schedule(Exchange::Nepse, "17:30:00", CatchUp::Latest);
        let sunday_to_thursday: Vec<NaiveDate> = days(&["2024-03-01"])[0]
            .iter_days()
            .take(28)
            .filter(|day| !matches!(day.weekday(), chrono::Weekday::Fri | chrono::Weekday::Sat))
            .collect();
        let week = Calendar::new(Exchange::Nepse, sunday_to_thursday, vec![]);
        let ticks = next_ticks(&nepse, &week, at("2024-03-28T12:00:00Z"), 3);
        assert!(ticks[0].fires && ticks[0].reason.contains("not seen trading on a Friday"), "{ticks:?}");
        assert_eq!(ticks[2].reason, "Sunday: NEPSE trades on Sundays, holidays aside");
        let paused = ScheduleRow { paused: true, ..nepse };
        let ticks = next_ticks(&paused, &week, at("2024-03-28T12:00:00Z"), 10);
        assert!(ticks.len() == 10 && ticks.iter().all(|tick| !tick.fires), "{ticks:?}");
        assert_eq!(ticks[0].reason, "Friday: the schedule is paused");
    }

    #[test]
    fn an_operator_opens_and_closes_days_and_a_hint_only_warns() {
        let said = |day: &str, open| Word {
            session: day.parse().unwrap(),
            open,
            by: Witness::Operator,
            why: "the exchange says so".to_owned(),
        };
        let nepse = schedule(Exchange::Nepse, "17:30:00", CatchUp::All);
        // A make-up session on Saturday the 9th, and Monday the 11th off.
        let words = vec![said("2024-03-09", true), said("2024-03-11", false)];
        let calendar = Calendar::new(Exchange::Nepse, [], words);
        let ticks = next_ticks(&nepse, &calendar, at("2024-03-08T12:00:00Z"), 3);
        let told: Vec<(bool, &str)> = ticks.iter().map(|tick| (tick.fires, tick.reason.as_str())).collect();
        assert_eq!(
            told,
            [
                (true, "Saturday: open, an operator says: the exchange says so"),
                (true, "Sunday: NEPSE trades on Sundays, holidays aside"),
                (false, "Monday: closed, an operator says: the exchange says so"),
            ]
        );
        let due = due_sessions(&nepse, &calendar, days(&["2024-03-08"]).pop(), at("2024-03-11T12:00:00Z"));
        assert_eq!(
            due,
            days(&["2024-03-09", "2024-03-10", "2024-03-11"]),
            "what is closed has a tick, which is skipped"
        );
        assert!(called_off(&calendar, due[2]).is_some() && called_off(&calendar, due[0]).is_none());
        let nasdaq = schedule(Exchange::Nasdaq, "18:15:00", CatchUp::Latest);
        let holiday = &next_ticks(&nasdaq, &nothing(Exchange::Nasdaq), at("2026-11-26T12:00:00Z"), 1)[0];
        assert_eq!(
            (holiday.fires, holiday.reason.as_str()),
            (true, "Thursday: Thanksgiving Day, by the list of holidays; the run will tell")
        );
    }

    #[test]
    fn a_paused_schedule_is_silent() {
        let paused = ScheduleRow { paused: true, ..schedule(Exchange::Nasdaq, "18:15:00", CatchUp::All) };
        assert!(due_sessions(&paused, &nothing(Exchange::Nasdaq), None, at("2012-12-04T12:00:00Z")).is_empty());
    }
}
