//! What operators ask of the ledger, on both databases: steering with its audit, dead letters and their repetition, backfills, counts.

use crate::both::on_both;
use crate::conformance::{claim_at, due, end, ending, new_run, now, session, started};
use chrono::{NaiveDate, TimeDelta};
use market::{Exchange, Ticker};
use std::sync::Arc;
use std::time::Instant;
use uuid::Uuid;
use workflows::clock::FixedClock;
use workflows::ledger::{self, BackfillPolicy, DeadLetterFilter, Ending, NewBackfill, NewEntry, NewRun, Steering};
use workflows::plan::Step;
use workflows::queue::MemoryQueue;
use workflows::scheduler::default_schedules;
use workflows::{Db, Engine, EngineSettings, Ledger, Outcome, Requeued};

on_both!(
    what_is_asked_for_is_written_down,
    a_schedule_stays_as_the_operator_changed_it,
    ticks_are_made_by_hand_and_paged,
    dead_letters_are_listed_grouped_and_repeated_once,
    ten_thousand_dead_runs_are_repeated,
    a_dry_run_counts_and_starts_nothing,
    queues_and_workers_are_counted,
);

fn entry(action: &'static str) -> NewEntry {
    NewEntry {
        id: Uuid::now_v7(),
        at: now(),
        who: "operator".into(),
        door: "api",
        action,
        subject: "it".into(),
        detail: String::new(),
        request: None,
    }
}

async fn written(db: &Db) -> Vec<String> {
    ledger::audit(db, None, 100).await.unwrap().into_iter().map(|row| row.action).collect()
}

fn engine(db: &Db) -> Arc<Engine> {
    let clock = Arc::new(FixedClock::new(now()));
    Engine::new(Ledger::Sql(db.clone()), Arc::new(MemoryQueue::default()), clock, EngineSettings::default())
}

/// Runs of these symbols that failed at their first step.
async fn failed(ledger: &Ledger, symbols: impl Iterator<Item = String>, why: &Outcome) -> Vec<Uuid> {
    let runs: Vec<NewRun> = symbols.map(|symbol| new_run(&symbol)).collect();
    ledger.start(&runs, now()).await.unwrap();
    for (step, outcome) in [(Step::Scrape, why.clone()), (Step::Cleanup, Outcome::Done("clean".into()))] {
        loop {
            ledger.unsend(now() + TimeDelta::seconds(1)).await.unwrap();
            let messages = ledger.take_due(&[(step.queue(0), 500)], now()).await.unwrap();
            if messages.is_empty() {
                break;
            }
            let until = now() + TimeDelta::seconds(20);
            let claims = ledger.claim(&messages, Uuid::from_u128(1), "test", now(), until).await.unwrap();
            let endings: Vec<Ending> =
                claims.iter().flatten().map(|claim| ending(claim, outcome.clone(), &[])).collect();
            ledger.complete(&endings, now()).await.unwrap();
        }
    }
    runs.into_iter().map(|run| run.id).collect()
}

fn page_changed() -> Outcome {
    Outcome::Retry { kind: "layout_changed", error: "no table of prices".into(), after: None }
}

async fn what_is_asked_for_is_written_down(db: Db) {
    let pause = Steering::Pause { kind: "ticker", value: "NASDAQ:AAPL", reason: "a split" };
    assert!(ledger::steer(&db, &pause, &entry("pause"), now()).await.unwrap());
    assert!(!ledger::steer(&db, &pause, &entry("pause"), now()).await.unwrap(), "it is so already");
    assert_eq!(ledger::paused(&db).await.unwrap()[0].reason, "a split");
    let resume = Steering::Resume { kind: "ticker", value: "NASDAQ:AAPL" };
    assert!(ledger::steer(&db, &resume, &entry("resume"), now()).await.unwrap());
    let run = started(&Ledger::Sql(db.clone()), "AAPL").await;
    for (pinned, changes) in [(true, true), (true, false), (false, true)] {
        let pin = Steering::Pin { run, pinned };
        assert_eq!(ledger::steer(&db, &pin, &entry("run_pin"), now()).await.unwrap(), changes);
    }
    let nobody = Steering::Pin { run: Uuid::from_u128(7), pinned: true };
    assert!(!ledger::steer(&db, &nobody, &entry("run_pin"), now()).await.unwrap());
    ledger::note(&db, &entry("run_cancel")).await.unwrap();
    assert_eq!(written(&db).await, ["run_cancel", "run_pin", "run_pin", "resume", "pause"], "newest first");
    let first = ledger::audit(&db, None, 2).await.unwrap();
    let rest = ledger::audit(&db, first.last().map(|row| row.id), 10).await.unwrap();
    assert_eq!((first.len(), rest.len(), rest[2].door.as_str()), (2, 3, "api"));
}

async fn a_schedule_stays_as_the_operator_changed_it(db: Db) {
    let ledger = Ledger::Sql(db.clone());
    let [default, _] = default_schedules();
    ledger.add_schedule(&default).await.unwrap();
    let changed = ledger::ScheduleRow {
        local_time: "19:45:00".parse().unwrap(),
        catch_up: ledger::CatchUp::All,
        overlap: ledger::Overlap::Skip,
        ..default.clone()
    };
    assert!(ledger::steer(&db, &Steering::ChangeSchedule(&changed), &entry("schedule_change"), now()).await.unwrap());
    let pause = Steering::PauseSchedule { id: &default.id, paused: true };
    assert!(ledger::steer(&db, &pause, &entry("schedule_pause"), now()).await.unwrap());
    assert!(!ledger::steer(&db, &pause, &entry("schedule_pause"), now()).await.unwrap());
    // The program starts again and brings its defaults.
    ledger.add_schedule(&default).await.unwrap();
    let expected = ledger::ScheduleRow { paused: true, ..changed };
    assert_eq!(ledger.schedules().await.unwrap(), [expected]);
    assert_eq!(written(&db).await, ["schedule_pause", "schedule_change"]);
}

async fn ticks_are_made_by_hand_and_paged(db: Db) {
    let ledger = Ledger::Sql(db.clone());
    let [schedule, _] = default_schedules();
    ledger.add_schedule(&schedule).await.unwrap();
    assert!(ledger.open_tick(&schedule.id, session(), false, "due", now()).await.unwrap());
    for nth in 1..=3 {
        let made = ledger::trigger(&db, &schedule.id, session(), "by hand", &entry("schedule_trigger"), now()).await;
        assert_eq!(made.unwrap(), Some(nth));
    }
    assert!(ledger.open_tick(&schedule.id, "2024-03-04".parse().unwrap(), false, "due", now()).await.unwrap());
    let first = ledger::ticks(&db, &schedule.id, None, 2).await.unwrap();
    let last = first.last().map(|tick| (tick.session, tick.nth));
    let rest = ledger::ticks(&db, &schedule.id, last, 10).await.unwrap();
    let seen: Vec<_> = first.iter().chain(&rest).map(|tick| (tick.session.to_string(), tick.nth)).collect();
    let day = |n: i64| ("2024-03-05".to_owned(), n);
    assert_eq!(seen, [day(3), day(2), day(1), day(0), ("2024-03-04".to_owned(), 0)]);
    assert_eq!(written(&db).await.len(), 3);
}

async fn dead_letters_are_listed_grouped_and_repeated_once(db: Db) {
    let ledger = Ledger::Sql(db.clone());
    let changed = failed(&ledger, (0..5).map(|n| format!("A{n}")), &page_changed()).await;
    failed(&ledger, (0..2).map(|n| format!("B{n}")), &Outcome::GiveUp("no such page".into())).await;
    let all = DeadLetterFilter::default();
    let rows = ledger::dead_letters(&db, &all, None, 4).await.unwrap();
    assert_eq!((rows[0].error_kind.as_deref(), rows[0].error.as_deref()), (Some("gave_up"), Some("no such page")));
    assert_eq!((rows[3].step.as_str(), rows[3].attempt, rows[3].finished_at.is_some()), ("scrape", 1, true));
    let last = rows.last().map(|row| (row.run_id, row.seq));
    assert_eq!(ledger::dead_letters(&db, &all, last, 10).await.unwrap().len(), 3);
    let groups = ledger::dead_letter_groups(&db, &all).await.unwrap();
    let counts: Vec<_> = groups.iter().map(|g| (g.step.as_str(), g.error_kind.as_deref(), g.count)).collect();
    assert_eq!(counts, [("scrape", Some("layout_changed"), 5), ("scrape", Some("gave_up"), 2)]);

    let narrow = DeadLetterFilter {
        exchange: Some("NASDAQ"),
        step: Some("scrape"),
        error_kind: Some("layout_changed".into()),
        ..DeadLetterFilter::default()
    };
    let none = DeadLetterFilter { exchange: Some("NEPSE"), ..narrow.clone() };
    assert!(ledger::dead_letters(&db, &none, None, 9).await.unwrap().is_empty());
    let engine = engine(&db);
    let ask = |filter: DeadLetterFilter, most: usize| {
        let engine = engine.clone();
        async move { engine.requeue(&filter, most, &|_| entry("requeue")).await.unwrap() }
    };
    assert_eq!(ask(none, 100).await, Requeued::default());
    assert_eq!(ask(narrow.clone(), 2).await, Requeued { requeued: 2, left_out: 0, more: true });
    // The others, by several at once: each run is repeated once.
    let several = futures::future::join_all((0..4).map(|_| ask(narrow.clone(), 100))).await;
    assert_eq!(several.iter().map(|done| done.requeued).sum::<usize>(), 3);
    let ids = DeadLetterFilter { runs: changed.clone(), ..DeadLetterFilter::default() };
    assert_eq!(ask(ids, 100).await.requeued, 0, "they have newer reruns");
    assert_eq!(ledger::dead_letters(&db, &all, None, 10).await.unwrap().len(), 2);
    let reruns: Vec<_> = ledger::list_runs(&db, &ledger::RunFilter::default(), 5).await.unwrap();
    let mut repeated: Vec<Uuid> = reruns.iter().filter_map(|run| run.lineage).collect();
    repeated.sort_unstable();
    assert_eq!(repeated, changed);
    assert!(reruns.iter().all(|run| run.priority == 0 && run.schedule_id.is_none()), "they keep their lane");
}

async fn ten_thousand_dead_runs_are_repeated(db: Db) {
    let ledger = Ledger::Sql(db.clone());
    failed(&ledger, (0..10_000).map(|n| format!("T{n}")), &page_changed()).await;
    let engine = engine(&db);
    let began = Instant::now();
    let done = engine.requeue(&DeadLetterFilter::default(), 10_000, &|_| entry("requeue")).await.unwrap();
    eprintln!("10,000 dead runs were repeated in {:?}", began.elapsed());
    assert_eq!(done, Requeued { requeued: 10_000, left_out: 0, more: true });
    assert!(ledger::dead_letters(&db, &DeadLetterFilter::default(), None, 1).await.unwrap().is_empty());
    assert_eq!(ledger.open_runs().await.unwrap(), 10_000);
}

async fn a_dry_run_counts_and_starts_nothing(db: Db) {
    let ledger = Ledger::Sql(db.clone());
    let tickers: Vec<Ticker> = (0..4).map(|n| Ticker::new(Exchange::Nasdaq, &format!("T{n}")).unwrap()).collect();
    workflows::stores::tickers::add(&db, &tickers, now()).await.unwrap();
    failed(&ledger, (0..2).map(|n| format!("T{n}")), &page_changed()).await;
    started(&ledger, "T2").await;
    let day = |text: &str| text.parse::<NaiveDate>().unwrap();
    let asked = NewBackfill {
        id: Uuid::now_v7(),
        exchange: Exchange::Nasdaq,
        tickers: Vec::new(),
        // Friday to Tuesday, with a weekend between.
        from: day("2024-03-01"),
        to: day("2024-03-05"),
        policy: BackfillPolicy::MissingAndFailed,
        max_active: 50,
        offline: true,
    };
    let counts = ledger::dry_run(&db, &asked).await.unwrap();
    assert_eq!((counts.missing, counts.failed, counts.all), (9, 2, 12));
    assert_eq!(
        [BackfillPolicy::Missing, BackfillPolicy::MissingAndFailed, BackfillPolicy::All].map(|p| counts.to_start(p)),
        [9, 11, 12]
    );
    let two = NewBackfill { tickers: vec!["T0".into(), "T3".into()], ..asked.clone() };
    let counts = ledger::dry_run(&db, &two).await.unwrap();
    assert_eq!((counts.missing, counts.failed, counts.all), (5, 1, 6));
    assert!(ledger::standings(&db, None, None, 10).await.unwrap().is_empty());
    // Ten years of a market are one look.
    let ten_years = NewBackfill { from: day("2014-03-05"), ..asked.clone() };
    assert!(ledger::dry_run(&db, &ten_years).await.unwrap().all > 10_000);

    assert!(ledger::steer(&db, &Steering::StartBackfill(&asked), &entry("backfill_start"), now()).await.unwrap());
    while ledger::advance_backfill(&db, asked.id, now(), &Uuid::now_v7).await.unwrap() > 0 {}
    let standing = ledger::standings(&db, Some(asked.id), None, 1).await.unwrap().remove(0);
    assert_eq!((standing.row.state.as_str(), standing.row.runs, standing.open), ("done", 11, 11));
    let late = Steering::SteerBackfill { id: asked.id, to: "paused" };
    assert!(!ledger::steer(&db, &late, &entry("backfill_pause"), now()).await.unwrap(), "it is over");
}

async fn queues_and_workers_are_counted(db: Db) {
    let ledger = Ledger::Sql(db.clone());
    for symbol in ["AAPL", "MSFT", "GOOG"] {
        started(&ledger, symbol).await;
    }
    // The second run of a subject waits for the first.
    started(&ledger, "AAPL").await;
    let instance = Uuid::from_u128(9);
    ledger.sign_on(instance, "host-1", "1.2.3", "scrape,cache", 4, now()).await.unwrap();
    let messages = due(&ledger, Step::Scrape, now()).await;
    let claim = claim_at(&ledger, &messages[0], instance, now()).await.unwrap();
    let counts = ledger::queue_counts(&db).await.unwrap();
    let of = |state: &str| counts.iter().filter(|c| c.state == state).map(|c| c.count).sum::<i64>();
    assert_eq!((of("ready"), of("running"), of("waiting")), (2, 1, 1));
    let ready = counts.iter().find(|c| c.state == "ready").unwrap();
    assert_eq!((ready.queue.as_str(), ready.oldest_due.map(|at| at.0)), ("scrape", Some(now())));
    let workers = ledger::workers(&db, now() - TimeDelta::minutes(1)).await.unwrap();
    assert_eq!((workers[0].name.as_str(), workers[0].slots, workers[0].held), ("host-1", 4, 1));
    assert!(ledger::workers(&db, now() + TimeDelta::seconds(1)).await.unwrap().is_empty());
    end(&ledger, &claim, Outcome::Done("ok".into()), &[]).await;
}

#[tokio::test]
async fn a_ledger_that_grows_fast_is_analysed_at_once() {
    let Some(fresh) = crate::both::postgres().await else { return };
    let runs: Vec<NewRun> = (0..5_000).map(|n| new_run(&format!("T{n}"))).collect();
    fresh.ledger().start(&runs, now()).await.unwrap();
    assert!(ledger::analyse_grown(&fresh.db).await.unwrap() >= 2, "run and step");
    assert_eq!(ledger::analyse_grown(&fresh.db).await.unwrap(), 0, "until it has doubled");
    fresh.db.close().await;
}
