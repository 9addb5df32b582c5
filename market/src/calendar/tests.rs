//! The calendar's promises: which evidence wins, what bends the learnt week and what does not, and that there always is a next session.

use super::*;
use chrono::Weekday;
use proptest::prelude::*;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

const SUN_THU: [Weekday; 5] = [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Sun];
const SUN_FRI: [Weekday; 6] = [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri, Weekday::Sun];
const MON_FRI: [Weekday; 5] = [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri];

/// The sessions of `days` days from `from`, by the week.
fn sessions(from: NaiveDate, days: u64, week: &[Weekday]) -> BTreeSet<NaiveDate> {
    (0..days).map(|n| from + Days::new(n)).filter(|day| week.contains(&day.weekday())).collect()
}

fn word(day: &str, open: bool, by: Witness) -> Word {
    Word { session: date(day), open, by, why: "the paper says so".to_owned() }
}

fn next(exchange: Exchange, seen: &BTreeSet<NaiveDate>, words: Vec<Word>) -> (NaiveDate, TargetBasis) {
    let newest = *seen.last().unwrap();
    Calendar::new(exchange, seen.iter().copied(), words).outlook(newest).next_after(newest)
}

#[test]
fn the_stronger_evidence_decides() {
    // Thanksgiving 2026 is a Thursday.
    let seen = sessions(date("2026-09-01"), 86, &MON_FRI);
    assert_eq!(seen.last(), Some(&date("2026-11-25")));
    let day = |words: Vec<Word>, day: &str| {
        let day = Calendar::new(Exchange::Nasdaq, seen.iter().copied(), words).day(date(day));
        (day.state, day.basis, day.reason)
    };
    use DayState::{Closed, Expected, Open, Unknown};
    let hint = "Thanksgiving Day, by the list of holidays".to_owned();
    assert_eq!(day(vec![], "2026-11-26"), (Closed, TargetBasis::CalendarHint, hint));
    let sources = word("2026-11-26", false, Witness::Sources);
    assert_eq!(day(vec![sources.clone()], "2026-11-26").1, TargetBasis::Observed);
    let operator = word("2026-11-26", true, Witness::Operator);
    assert_eq!(
        day(vec![sources, operator], "2026-11-26"),
        (Open, TargetBasis::Operator, "open, an operator says: the paper says so".to_owned())
    );
    // What was seen is above what the sources did not have, and below an operator.
    assert_eq!(day(vec![word("2026-11-25", false, Witness::Sources)], "2026-11-25").0, Open);
    assert_eq!(day(vec![word("2026-11-25", false, Witness::Operator)], "2026-11-25").0, Closed);
    let friday = "NASDAQ trades on Fridays, and this is no listed holiday".to_owned();
    assert_eq!(day(vec![], "2026-11-27"), (Expected, TargetBasis::CalendarHint, friday));
    let saturday = "NASDAQ does not trade on Saturdays".to_owned();
    assert_eq!(day(vec![], "2026-11-28"), (Closed, TargetBasis::UsualWeek, saturday));
    let far = day(vec![], "2029-01-02");
    assert_eq!((far.0, far.1), (Expected, TargetBasis::ObservedWeek), "no list reaches there");
    let mut gap = seen.clone();
    gap.remove(&date("2026-11-18"));
    let calendar = Calendar::new(Exchange::Nasdaq, gap, vec![]);
    assert_eq!(calendar.day(date("2026-11-18")).state, Unknown);
    assert_eq!(
        calendar.sessions(date("2026-11-24"), date("2026-11-30")),
        ["2026-11-25", "2026-11-27", "2026-11-30"].map(date)
    );
}

#[test]
fn the_target_names_the_strongest_evidence_that_had_a_say() {
    let seen = sessions(date("2026-09-01"), 86, &MON_FRI);
    assert_eq!(next(Exchange::Nasdaq, &seen, vec![]), (date("2026-11-27"), TargetBasis::CalendarHint));
    let closed = word("2026-11-27", false, Witness::Operator);
    assert_eq!(next(Exchange::Nasdaq, &seen, vec![closed]), (date("2026-11-30"), TargetBasis::Operator));
    let weekend = word("2026-11-28", false, Witness::Operator);
    let said_too_much = next(Exchange::Nasdaq, &seen, vec![weekend]);
    assert_eq!(said_too_much, (date("2026-11-27"), TargetBasis::CalendarHint));
    let nepse = sessions(date("2026-07-01"), 52, &MON_FRI);
    assert_eq!(next(Exchange::Nepse, &nepse, vec![]), (date("2026-08-24"), TargetBasis::ObservedWeek));
    let make_up = word("2026-08-22", true, Witness::Operator);
    assert_eq!(next(Exchange::Nepse, &nepse, vec![make_up]), (date("2026-08-22"), TargetBasis::Operator), "a Saturday");
    let closed = word("2026-08-24", false, Witness::Sources);
    assert_eq!(next(Exchange::Nepse, &nepse, vec![closed]), (date("2026-08-25"), TargetBasis::Observed));
}

#[test]
fn with_too_little_to_learn_from_the_usual_week_stands() {
    let one = BTreeSet::from([date("2026-08-21")]);
    assert_eq!(next(Exchange::Nepse, &one, vec![]), (date("2026-08-23"), TargetBasis::UsualWeek));
    let empty = Calendar::new(Exchange::Nepse, [], vec![]);
    assert_eq!(empty.day(date("2026-08-22")).state, DayState::Closed);
    assert_eq!(empty.day(date("2026-08-23")).state, DayState::Expected);
    assert!(!empty.may_trade_on(date("2026-08-22")) && empty.may_trade_on(date("2026-08-23")));
}

#[test]
fn each_change_of_the_week_in_nepses_history_is_learnt_in_two_weeks() {
    let changes = [
        (&SUN_THU[..], &MON_FRI[..]),
        (&MON_FRI, &SUN_FRI),
        (&SUN_FRI, &SUN_THU),
        (&SUN_THU, &SUN_FRI),
        (&MON_FRI, &SUN_THU),
    ];
    for (before, after) in changes {
        let mut seen = sessions(date("2025-01-05"), 7 * 10, before);
        // A day that left the week is missed twice before the session after it is seen.
        seen.extend(sessions(date("2025-03-16"), 7 * 2 + 2, after));
        let calendar = Calendar::new(Exchange::Nepse, seen, vec![]);
        assert_eq!(
            calendar.week(date("2025-03-31")),
            Week { days: after.to_vec(), learnt: true },
            "{before:?} to {after:?}"
        );
    }
}

#[test]
fn days_off_that_are_explained_say_nothing_of_the_week() {
    // The last three Mondays were off; without an explanation they would be gone from the week.
    let mondays = ["2025-03-03", "2025-03-10", "2025-03-17"];
    let mut seen = sessions(date("2025-01-01"), 80, &SUN_FRI);
    mondays.iter().for_each(|day| assert!(seen.remove(&date(day))));
    let words: Vec<Word> = mondays.iter().map(|day| word(day, false, Witness::Operator)).collect();
    let week = |words| Calendar::new(Exchange::Nepse, seen.iter().copied(), words).week(date("2025-03-21"));
    assert!(!week(vec![]).has(Weekday::Mon) && week(words).has(Weekday::Mon));
}

fn a_week() -> impl Strategy<Value = Vec<Weekday>> {
    prop_oneof![Just(SUN_THU.to_vec()), Just(SUN_FRI.to_vec()), Just(MON_FRI.to_vec())]
}

fn some_words() -> impl Strategy<Value = Vec<Word>> {
    let word = (0u64..90, any::<bool>(), any::<bool>()).prop_map(|(n, open, operator)| Word {
        session: date("2024-03-01") + Days::new(n),
        open,
        by: if operator { Witness::Operator } else { Witness::Sources },
        why: String::new(),
    });
    proptest::collection::vec(word, 0..12)
}

proptest! {
    #[test]
    fn there_always_is_a_next_session_and_an_operator_is_heard(
        nepse in any::<bool>(),
        days in proptest::collection::btree_set(0u64..120, 0..90),
        words in some_words(),
    ) {
        let exchange = if nepse { Exchange::Nepse } else { Exchange::Nasdaq };
        let from = date("2024-01-01");
        let calendar = Calendar::new(exchange, days.iter().map(|n| from + Days::new(*n)), words);
        for back in 0..30 {
            let newest = from + Days::new(100 + back);
            let outlook = calendar.outlook(newest);
            let (target, basis) = outlook.next_after(newest);
            prop_assert!(target > newest && target <= newest + Days::new(90));
            prop_assert!(outlook.week.days.len() >= 5);
            prop_assert!(calendar.operator(target).is_none_or(|word| word.open && basis == TargetBasis::Operator));
            // No day in between was said to be open, and each is explained.
            for day in newest.iter_days().skip(1).take_while(|day| *day < target) {
                prop_assert!(calendar.operator(day).is_none_or(|word| !word.open), "{day}");
            }
            let stored = serde_json::to_string(&outlook).unwrap();
            prop_assert_eq!(serde_json::from_str::<Outlook>(&stored).unwrap(), outlook, "it is read back as it was");
        }
    }

    #[test]
    fn one_make_up_session_and_one_day_off_of_each_weekday_do_not_bend_the_week(
        week in a_week(),
        make_up in 0u64..4,
        off in 0u64..4,
        newest in 0u64..7,
    ) {
        let (from, weeks) = (date("2024-01-07") + Days::new(newest), 10);
        let mut seen = sessions(from, 7 * weeks, &week);
        let newest = *seen.last().unwrap();
        let back = |day: Weekday, weeks: u64| newest.iter_days().rev().skip(1).filter(|d| d.weekday() == day).nth(weeks as usize);
        let extra: Vec<NaiveDate> =
            [Weekday::Fri, Weekday::Sun].into_iter().filter(|day| !week.contains(day)).filter_map(|day| back(day, make_up)).collect();
        let missing: Vec<NaiveDate> = week.iter().filter_map(|day| back(*day, off)).collect();
        // A whole week off is a closure, and tells nothing.
        seen.retain(|day| !missing.contains(day));
        seen.extend(extra);
        let learnt = Calendar::new(Exchange::Nepse, seen, vec![]).week(newest);
        prop_assert_eq!(learnt, Week { days: week, learnt: true });
    }

    #[test]
    fn a_closure_of_weeks_leaves_the_week_as_it_was(week in a_week(), closed in 7u64..120, after in 1u64..3, single in 0u64..3) {
        let from = date("2020-01-05");
        let mut seen = sessions(from, 7 * 8, &week);
        let opens = from + Days::new(7 * 8 + closed);
        // As in May 2020: one or two days open amid a closure of weeks.
        let single = if closed < 28 { 0 } else { single };
        seen.extend((0..single).map(|n| from + Days::new(7 * 8 + closed / 2 + n)).filter(|day| week.contains(&day.weekday())));
        seen.extend(sessions(opens, after, &week));
        let calendar = Calendar::new(Exchange::Nepse, seen, vec![]);
        prop_assert_eq!(calendar.week(opens + Days::new(after)), Week { days: week, learnt: true });
    }
}
