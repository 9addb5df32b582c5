//! Ten simulated years of both exchanges' schedules on the real scheduler: every session exactly one tick, whoever looks and whoever dies.

use crate::both::Calm;
use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};
use market::Exchange;
use std::collections::BTreeMap;
use std::sync::Arc;
use workflows::clock::FixedClock;
use workflows::ledger::{CatchUp, MemoryLedger, ScheduleRow, TickRow};
use workflows::queue::MemoryQueue;
use workflows::scheduler::{default_schedules, look};
use workflows::{Engine, EngineSettings, Ledger};

/// From a winter to a winter; both daylight changes of ten years and three leap days lie in between.
const FROM: &str = "2014-01-01T00:00:00Z";
const TO: &str = "2024-01-01T00:00:00Z";
/// The clocks of New York jump; the market clock is looked at often enough to meet each hour of the day.
const STEP: TimeDelta = TimeDelta::hours(2);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Lives from `FROM` to `TO` with three replicas; `awake` says which of them look at an instant.
async fn ticks(catch_up: CatchUp, awake: impl Fn(DateTime<Utc>, usize) -> bool) -> Vec<TickRow> {
    let memory = MemoryLedger::new(Arc::new(Calm(at(FROM))));
    let clock = Arc::new(FixedClock::new(at(FROM)));
    let replicas: Vec<_> = (0..3)
        .map(|_| {
            let ledger = Ledger::Memory(memory.clone());
            Engine::new(ledger, Arc::new(MemoryQueue::default()), clock.clone(), EngineSettings::default())
        })
        .collect();
    for row in default_schedules() {
        replicas[0].ledger.add_schedule(&ScheduleRow { catch_up, ..row }).await.unwrap();
    }
    let mut now = at(FROM);
    while now < at(TO) {
        clock.set(now);
        let looks = replicas.iter().enumerate().filter(|(n, _)| awake(now, *n)).map(|(_, engine)| look(engine, true));
        for looked in futures::future::join_all(looks).await {
            looked.unwrap();
        }
        now += STEP;
    }
    memory.all_ticks()
}

/// The sessions of `ticks`, counted per schedule.
fn counted(ticks: &[TickRow]) -> BTreeMap<(String, NaiveDate), usize> {
    let mut counts = BTreeMap::new();
    for tick in ticks {
        *counts.entry((tick.schedule_id.clone(), tick.session)).or_default() += 1;
    }
    counts
}

/// Every day on which the exchange may trade, from the first tick to the last.
fn expected(schedule: &str, exchange: Exchange, first: NaiveDate, last: NaiveDate) -> Vec<(String, NaiveDate)> {
    let days = first.iter_days().take_while(|day| *day <= last).filter(|day| exchange.may_trade_on(day.weekday()));
    days.map(|day| (schedule.to_owned(), day)).collect()
}

fn every_session_once(ticks: &[TickRow]) {
    let counts = counted(ticks);
    assert!(counts.values().all(|count| *count == 1));
    for (schedule, exchange) in [("nasdaq-daily", Exchange::Nasdaq), ("nepse-daily", Exchange::Nepse)] {
        let sessions: Vec<NaiveDate> = counts.keys().filter(|(id, _)| id == schedule).map(|(_, day)| *day).collect();
        let (first, last) = (sessions[0], sessions[sessions.len() - 1]);
        assert!(
            first <= at(FROM).date_naive() + TimeDelta::days(10) && last >= at(TO).date_naive() - TimeDelta::days(5),
            "{first} {last}"
        );
        let seen: Vec<_> = sessions.into_iter().map(|day| (schedule.to_owned(), day)).collect();
        assert_eq!(seen, expected(schedule, exchange, first, last));
    }
}

#[tokio::test]
async fn ten_years_of_both_exchanges_schedules() {
    let began = std::time::Instant::now();
    for catch_up in [CatchUp::Skip, CatchUp::Latest, CatchUp::All] {
        // The replica that leads is killed every day; at noon two of them look at once.
        every_session_once(
            &ticks(catch_up, |now, n| now.ordinal() as usize % 3 == n || now.format("%H").to_string() == "12").await,
        );
    }
    println!("schedule_10y_s={:.2}", began.elapsed().as_secs_f64());
}

#[tokio::test]
async fn what_was_missed_is_caught_up_as_the_policy_says() {
    // Everything sleeps for nine days of every month.
    let awake = |now: DateTime<Utc>, n: usize| now.day() > 9 && n == 0;
    every_session_once(&ticks(CatchUp::All, awake).await);
    let latest = counted(&ticks(CatchUp::Latest, awake).await);
    let skip = counted(&ticks(CatchUp::Skip, awake).await);
    assert!(latest.values().chain(skip.values()).all(|count| *count == 1));
    // At the midnight before the tenth the newest missed session of Kathmandu is half a day old: it is caught up, or it is not.
    let of = |counts: &BTreeMap<(String, NaiveDate), usize>, day: &str| {
        counts.contains_key(&("nepse-daily".to_owned(), day.parse().unwrap()))
    };
    assert!(of(&latest, "2019-05-09") && !of(&latest, "2019-05-08") && of(&latest, "2019-05-12"));
    assert!(!of(&skip, "2019-05-09") && of(&skip, "2019-05-12"));
}
