//! The rules on plain values, and what must hold for every batch.

use super::*;
use chrono::{Days, TimeDelta};
use proptest::prelude::*;

fn day(n: u64) -> NaiveDate {
    NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + Days::new(n)
}

fn row(n: u64, close: f64) -> Row {
    Row { line: n + 2, raw: RawBar { session: Some(day(n)), close: Some(close), ..RawBar::default() } }
}

fn rows(closes: &[f64]) -> Vec<Row> {
    (0..).zip(closes).map(|(n, close)| row(n, *close)).collect()
}

fn bars(closes: &[f64]) -> Vec<Bar> {
    rows(closes).iter().map(|row| row.raw.check().unwrap()).collect()
}

fn nepse() -> Known<'static> {
    let now = day(400).and_hms_opt(12, 0, 0).unwrap().and_utc();
    Known {
        exchange: Exchange::Nepse,
        source: "csv",
        now,
        bars: &[],
        factors: &[],
        splits: &[],
        sessions: &[],
        pending: &[],
        dismissed: &[],
        compared: false,
    }
}

fn rules(judged: &Judged) -> Vec<&'static str> {
    judged.findings.iter().map(|finding| finding.rule.as_str()).collect()
}

fn closes(judged: &Judged) -> Vec<f64> {
    judged.accepted.iter().map(|bar| bar.close).collect()
}

#[test]
fn each_row_by_itself() {
    let with = |change: fn(&mut RawBar)| {
        let mut one = row(0, 100.0);
        (one.raw.high, one.raw.low) = (Some(101.0), Some(99.0));
        change(&mut one.raw);
        let judged = judge(&nepse(), &[one]);
        (rules(&judged).join(" "), judged.accepted.len())
    };
    assert_eq!(with(|_| ()), (String::new(), 1));
    assert_eq!(with(|raw| raw.session = None), ("date".to_owned(), 0));
    assert_eq!(with(|raw| raw.session = NaiveDate::from_ymd_opt(1989, 12, 31)), ("date".to_owned(), 0));
    assert_eq!(with(|raw| raw.session = Some(day(401))), ("future".to_owned(), 0));
    assert_eq!(with(|raw| raw.close = Some(0.0)), ("price".to_owned(), 0));
    assert_eq!(with(|raw| raw.volume = Some(-1.0)), ("volume".to_owned(), 0));
    assert_eq!(with(|raw| raw.low = Some(102.0)), ("crossed".to_owned(), 0));
    assert_eq!(with(|raw| raw.close = Some(105.0)), ("range".to_owned(), 0), "4 % above the high");
    assert_eq!(
        with(|raw| raw.close = Some(103.0)),
        ("near_range".to_owned(), 1),
        "2 % above the high: a weighted close"
    );
    assert_eq!(with(|raw| raw.open = Some(98.0)), ("open".to_owned(), 1));
    let at_noon = Known { now: day(0).and_hms_opt(6, 0, 0).unwrap().and_utc(), ..nepse() };
    assert_eq!(rules(&judge(&at_noon, &[row(0, 100.0)])), ["provisional"]);
    let nasdaq = Known { exchange: Exchange::Nasdaq, ..nepse() };
    let mut one = row(0, 102.0);
    one.raw.high = Some(101.0);
    assert_eq!(rules(&judge(&nasdaq, &[one])), ["range"]);
}

#[test]
fn a_session_that_stands_twice_counts_as_it_stood_last() {
    let judged = judge(&nepse(), &[row(0, 100.0), row(1, 101.0), row(0, 102.0), row(1, 101.0)]);
    assert_eq!((closes(&judged), rules(&judged)), (vec![102.0, 101.0], vec!["duplicate"]));
}

#[test]
fn a_jump_waits_for_the_next_session() {
    let spike = judge(&nepse(), &rows(&[100.0, 101.0, 150.0, 102.0]));
    assert_eq!((closes(&spike), rules(&spike)), (vec![100.0, 101.0, 102.0], vec!["jump"]));
    let bonus = judge(&nepse(), &rows(&[100.0, 101.0, 80.0, 81.0]));
    assert_eq!((closes(&bonus).len(), rules(&bonus)), (4, vec!["unannounced"]));
    let newest = judge(&nepse(), &rows(&[100.0, 101.0, 80.0]));
    assert_eq!((closes(&newest).len(), rules(&newest)), (2, vec!["jump"]));
    let announced = [Factor { session: day(2), factor: 0.8 }];
    let told = judge(&Known { factors: &announced, ..nepse() }, &rows(&[100.0, 101.0, 80.0]));
    assert_eq!((closes(&told).len(), rules(&told)), (3, vec![]));
}

#[test]
fn what_waits_is_confirmed_by_the_next_session_or_another_source() {
    let archived = bars(&[100.0, 101.0]);
    let waiting = [Pending { rule: Rule::Jump, source: "yahoo".to_owned(), raw: row(2, 80.0).raw }];
    let known = Known { bars: &archived, pending: &waiting, ..nepse() };
    let next = judge(&known, &[row(3, 81.0)]);
    assert_eq!((closes(&next), next.confirmed.len()), (vec![81.0], 1), "{next:?}");
    let back = judge(&known, &[row(3, 101.0)]);
    assert_eq!((closes(&back), back.confirmed.len()), (vec![101.0], 0), "{back:?}");
    let second = judge(&known, &[row(2, 80.1)]);
    assert_eq!((closes(&second), second.confirmed.len()), (vec![80.1], 1), "{second:?}");
    let again = judge(&Known { source: "yahoo", ..known }, &[row(2, 80.0)]);
    assert_eq!(
        (closes(&again), rules(&again), again.confirmed.len()),
        (vec![], vec!["jump"], 0),
        "the same source twice is one word"
    );
    let dismissed = [(day(2), 80.0)];
    let never = judge(&Known { dismissed: &dismissed, pending: &[], ..known }, &[row(2, 80.0), row(3, 101.0)]);
    assert_eq!((closes(&never), rules(&never)), (vec![101.0], vec!["dismissed"]));
}

#[test]
fn another_security_under_this_name_is_caught() {
    let archived = bars(&[2114.9, 2120.0, 2100.0, 2111.0]);
    let known = Known { bars: &archived, ..nepse() };
    for other in [&[9.67, 9.8, 9.6, 9.7][..], &[9.67, 9.69, 9.6, 9.65, 9.7]] {
        let judged = judge(&known, &rows(other));
        assert_eq!((closes(&judged), rules(&judged)), (vec![], vec!["disagrees"]));
    }
    let later: Vec<Row> = (4..9).map(|n| row(n, 9.6)).collect();
    assert_eq!(rules(&judge(&known, &later)), ["level"], "also without a common session");
    let mut one = row(4, 9.7);
    one.raw.prev_close = Some(9.6);
    assert_eq!(rules(&judge(&known, &[one])), ["disagrees"], "the previous close that it names is not ours");
}

#[test]
fn a_restated_history_is_taken_whole() {
    let archived = bars(&[88.2, 88.9, 89.0]);
    let judged = judge(&Known { bars: &archived, ..nepse() }, &rows(&[44.1, 44.45, 44.5, 44.9]));
    assert_eq!((closes(&judged).len(), judged.restated, rules(&judged)), (4, Some(0.5), vec!["restated"]));
    let in_part = judge(&Known { bars: &archived, ..nepse() }, &[row(1, 44.45), row(2, 44.5), row(3, 44.9)]);
    assert_eq!((closes(&in_part), rules(&in_part)), (vec![], vec!["disagrees"]));
}

#[test]
fn an_announced_split_explains_a_restated_history_and_undoes_the_action_that_stood_for_it() {
    let archived = bars(&[88.2, 88.9, 89.0]);
    let split = |n: u64, shares: f64| Split { session: day(n), shares };
    let told = |splits: &[Split]| {
        let known = Known { bars: &archived, splits, exchange: Exchange::Nasdaq, source: "yahoo", ..nepse() };
        judge(&known, &rows(&[44.1, 44.45, 44.5, 44.9])).findings[0].why.clone()
    };
    assert!(told(&[split(3, 2.0)]).contains("as the split says that yahoo announces (2 for 1 on 2024-01-04)"));
    assert!(told(&[split(3, 3.0)]).contains("no split was announced"));
    // As traded, with an action for the old split; then a second split restates all of it.
    let raw = bars(&[&[400.0, 410.0][..], &[103.0; 11]].concat());
    let factors = [Factor { session: day(2), factor: 0.25 }, Factor { session: day(7), factor: 0.9 }];
    let known = Known { bars: &raw, factors: &factors, exchange: Exchange::Nasdaq, ..nepse() };
    let judged = judge(&known, &rows(&[&[50.0, 51.25][..], &[51.5; 11]].concat()));
    let undone = Factor { session: day(2), factor: 1.0 };
    assert_eq!((judged.restated, judged.factors), (Some(0.5), vec![undone]), "of the other it tells nothing");
}

#[test]
fn an_action_follows_from_the_published_previous_close() {
    let archived = bars(&[850.0, 854.5]);
    let mut ex = row(2, 739.0);
    ex.raw.prev_close = Some(721.12);
    let judged = judge(&Known { bars: &archived, ..nepse() }, &[ex]);
    assert_eq!(judged.factors, [Factor { session: day(2), factor: 0.8439 }]);
    assert!(judged.findings.is_empty(), "{judged:?}");
    let mut late = ex;
    late.raw.session = Some(day(4));
    let sessions = [day(0), day(1), day(2)];
    let judged = judge(&Known { bars: &archived, sessions: &sessions, ..nepse() }, &[late]);
    assert_eq!((judged.factors.len(), rules(&judged)), (0, vec!["unsure_action"]));
    ex.raw.close = Some(850.0);
    assert_eq!(rules(&judge(&Known { bars: &archived, ..nepse() }, &[ex])), ["jump"], "17 % above the reference");
}

#[test]
fn stretches_without_a_trade_are_named_once() {
    let idle = |n| Row { raw: RawBar { volume: Some(0.0), ..row(n, 100.0).raw }, ..row(n, 100.0) };
    let judged = judge(&nepse(), &(0..7).map(idle).collect::<Vec<_>>());
    assert_eq!((closes(&judged).len(), rules(&judged)), (7, vec!["no_trade"]));
    assert!(judge(&nepse(), &(0..4).map(idle).collect::<Vec<_>>()).findings.is_empty());
}

fn any_row() -> impl Strategy<Value = Row> {
    let price = || {
        proptest::option::weighted(
            0.7,
            prop_oneof![8 => 90.0..110.0f64, 1 => Just(0.0), 1 => any::<f64>(), 1 => 5.0..500.0f64],
        )
    };
    let session = proptest::option::weighted(0.95, 0..500u64);
    (session, price(), price(), price(), price(), price(), price(), 0..9u64).prop_map(
        |(session, open, high, low, close, prev_close, volume, line)| Row {
            line,
            raw: RawBar { session: session.map(day), open, high, low, close, ltp: None, prev_close, volume },
        },
    )
}

proptest! {
    #[test]
    fn nothing_is_invented_and_order_holds(
        given in proptest::collection::vec(any_row(), 0..60),
        old in proptest::collection::btree_map(0..500u64, 80.0..120.0f64, 0..40),
        waiting in proptest::collection::vec((0..500u64, 50.0..200.0f64), 0..3),
        later in 0..500i64,
    ) {
        let archived: Vec<Bar> = old.iter().map(|(n, close)| row(*n, *close).raw.check().unwrap()).collect();
        let sessions: Vec<NaiveDate> = old.keys().map(|n| day(*n)).collect();
        let pending: Vec<Pending> = waiting
            .iter()
            .map(|(n, close)| Pending { rule: Rule::Jump, source: "yahoo".to_owned(), raw: row(*n, *close).raw })
            .collect();
        let now = nepse().now - TimeDelta::days(later);
        let judged = judge(&Known { bars: &archived, sessions: &sessions, pending: &pending, now, ..nepse() }, &given);
        prop_assert!(judged.accepted.windows(2).all(|pair| pair[0].session < pair[1].session));
        let sound: Vec<Bar> = given.iter().filter_map(|row| row.raw.check().ok()).collect();
        for bar in &judged.accepted {
            prop_assert!(sound.contains(bar), "{bar:?} was never given");
            prop_assert!(crate::is_final(Exchange::Nepse, bar.session, now));
        }
        for factor in &judged.factors {
            prop_assert!(factor.factor > 0.0 && judged.accepted.iter().any(|bar| bar.session == factor.session));
        }
        prop_assert!(judged.whole().is_none() || judged.accepted.is_empty() && judged.confirmed.is_empty());
        prop_assert!(judged.confirmed.iter().all(|(at, _)| *at < pending.len()));
    }
}
