//! What must hold of every gate, whoever comes in whatever order. Tests of the pure decisions; no clock, no Redis.

use super::gate::{Answer, Ask, DAY, Gate, LINE, Micros, SECOND, SOON, micros};
use super::limit::{Breaker, Limit};
use super::{NotNowReason, Verdict};
use proptest::prelude::*;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

/// Some moment, well inside a day.
const NOON: Micros = 20_000 * DAY + DAY / 2;

fn limit(rate: f64, burst: u32, seats: u32) -> Limit {
    Limit { rate: Some(rate), burst, concurrency: Some(seats), ..Limit::paced(Duration::from_secs(1)) }
}

fn ask<'a>(id: &'a str, limit: &'a Limit) -> Ask<'a> {
    Ask { id, limit, patience: 2 * SECOND, polls: false }
}

proptest! {
    /// Whatever comes in whatever order: the starts keep to the rate in every window, the seats are never overfilled, the budget holds.
    #[test]
    fn no_window_ever_holds_more_than_the_limit(
        rate in 0.2f64..200.0,
        burst in 1u32..6,
        seats in 1u32..6,
        budget in 1u64..60,
        steps in prop::collection::vec((0i64..3 * SECOND, 0usize..8, any::<bool>(), any::<bool>()), 1..150),
    ) {
        let limit = Limit { daily_budget: Some(budget), ..limit(rate, burst, seats) };
        let (mut gate, mut now) = (Gate::default(), NOON);
        let (mut starts, mut held): (Vec<Micros>, BTreeMap<String, Micros>) = Default::default();
        for (number, (pause, visitor, reports, fast)) in steps.into_iter().enumerate() {
            now += if fast { pause / 1000 } else { pause };
            if reports && let Some(id) = held.keys().nth(visitor).cloned() {
                held.remove(&id);
                gate.report(&id, Some(Verdict::Success), false, limit.breaker, now);
                continue;
            }
            let id = number.to_string();
            if let Answer::Start(at) = gate.ask(ask(&id, &limit), now) {
                prop_assert!((now..=now + 2 * SECOND).contains(&at));
                starts.push(at);
                held.insert(id, at + micros(limit.permit_life));
            }
            held.retain(|_, ends| *ends > now);
            prop_assert!(held.len() <= seats as usize);
        }
        prop_assert!(starts.len() as u64 <= budget);
        starts.sort_unstable();
        for (first, from) in starts.iter().enumerate() {
            for (more, to) in starts[first..].iter().enumerate() {
                let bound = f64::from(burst) + rate * (to - from) as f64 / 1e6;
                // A start is rounded up to the next microsecond, so two may be one microsecond too near.
                prop_assert!((more + 1) as f64 <= bound + 2e-6 * rate + 1e-9, "{} starts within {} µs", more + 1, to - from);
            }
        }
    }

    #[test]
    fn those_who_are_sent_away_get_places_apart_and_within_the_line(rate in 0.5f64..50.0, crowd in 2usize..400) {
        let limit = limit(rate, 1, 1);
        let mut gate = Gate::default();
        gate.ask(ask("first", &limit), NOON);
        let waits: Vec<Micros> = (0..crowd)
            .map(|number| match gate.ask(ask(&number.to_string(), &limit), NOON) {
                Answer::NotNow(wait, _) => wait,
                Answer::Start(_) => panic!("the seat is taken"),
            })
            .collect();
        prop_assert!(waits.iter().all(|wait| *wait > 0 && *wait <= LINE + SOON.max((1e6 / rate) as Micros + 1)));
        prop_assert!(waits.windows(2).all(|pair| pair[0] != pair[1]));
    }
}

#[test]
fn the_breaker_opens_probes_once_closes_and_doubles_up_to_its_cap() {
    let breaker = Breaker { failures: 2, cool_down: Duration::from_secs(10), cool_down_cap: Duration::from_secs(25) };
    let limit = Limit { rate: None, concurrency: None, breaker: Some(breaker), ..Limit::paced(Duration::ZERO) };
    let mut gate = Gate::default();
    let mut now = NOON;
    let fails = |gate: &mut Gate, id: &str, now| {
        assert_eq!(gate.ask(ask(id, &limit), now), Answer::Start(now));
        gate.report(id, Some(Verdict::Failure), false, limit.breaker, now);
    };
    fails(&mut gate, "a", now);
    assert_eq!(gate.ask(ask("late", &limit), now), Answer::Start(now));
    fails(&mut gate, "b", now);
    for cool_down in [10, 20, 25, 25] {
        assert_eq!(gate.ask(ask("x", &limit), now), Answer::NotNow(cool_down * SECOND, NotNowReason::BreakerOpen));
        // Whoever started before it opened says nothing about how the host is now.
        gate.report("late", Some(Verdict::Success), false, limit.breaker, now);
        now += cool_down * SECOND;
        assert_eq!(gate.ask(ask("probe", &limit), now), Answer::Start(now));
        assert!(matches!(gate.ask(ask("y", &limit), now), Answer::NotNow(_, NotNowReason::BreakerOpen)));
        gate.line = 0;
        gate.report("probe", Some(Verdict::Failure), false, limit.breaker, now);
    }
    now += 25 * SECOND;
    assert_eq!(gate.ask(ask("lost", &limit), now), Answer::Start(now));
    // A probe that vanished frees the way for the next when its permit ends.
    now += micros(limit.permit_life);
    assert_eq!(gate.ask(ask("found", &limit), now), Answer::Start(now));
    gate.report("found", Some(Verdict::Success), false, limit.breaker, now);
    fails(&mut gate, "c", now);
    assert_eq!(gate.ask(ask("z", &limit), now), Answer::Start(now), "closed again, and counting from one");
}

/// Hundreds of tickers of whom each needs one request and comes again when told, a little late as the reconciler makes it. That they are
/// sent away at random times must leave neither the pace unused nor anybody out.
#[test]
fn a_crowd_that_comes_again_when_told_uses_the_whole_pace() {
    for (rate, seats, request_ms) in [(1.0, 1, 300), (1.0, 4, 900), (10.0, 2, 100), (50.0, 8, 30)] {
        let limit = limit(rate, 1, seats);
        let (mut gate, mut dice) = (Gate::default(), StdRng::seed_from_u64(1));
        // When each acts next, and whether it then reports. One waits at the door as `Flow::acquire` lets it, for up to two seconds.
        let mut tickers: BTreeMap<usize, (Micros, bool)> =
            (0..500).map(|number| (number, (NOON + number as Micros * 10_000, false))).collect();
        let mut at_the_door: Option<(usize, Micros)> = None;
        let mut starts = Vec::new();
        while let Some((number, (now, reports))) =
            tickers.iter().map(|(n, next)| (*n, *next)).min_by_key(|(_, next)| next.0)
        {
            assert!(now < NOON + 3_600 * SECOND, "{} are left out", tickers.len());
            let id = number.to_string();
            if reports {
                gate.report(&id, Some(Verdict::Success), false, limit.breaker, now);
                tickers.remove(&number);
                continue;
            }
            let since = at_the_door.filter(|(who, _)| *who == number).map_or(now, |(_, since)| since);
            let may_wait = at_the_door.is_none_or(|(who, _)| who == number) && now - since < 2 * SECOND;
            let answer = gate.ask(Ask { polls: may_wait, ..ask(&id, &limit) }, now);
            at_the_door = at_the_door.filter(|(who, _)| *who != number);
            let next = match answer {
                Answer::Start(at) => {
                    starts.push(at);
                    (at + request_ms * 1000, true)
                }
                Answer::NotNow(_, NotNowReason::Busy) if may_wait => {
                    at_the_door = Some((number, since));
                    (now + 100_000, false)
                }
                Answer::NotNow(wait, _) => (now + wait + dice.random_range(0..SECOND / 2), false),
            };
            tickers.insert(number, next);
        }
        // Of the last tenth only few are left to come at a time.
        let took_s = (starts[449] - starts[0]) as f64 / 1e6;
        let used = 449.0 / rate / took_s;
        println!("{used:.3} of the pace at {rate} a second with {seats} seats");
        assert!((0.9..1.01).contains(&used), "{used} of the pace at {rate} a second with {seats} seats");
    }
}
