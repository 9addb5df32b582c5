//! The calendar's evidence on both databases: an operator's word, what everyone who asked was shown, sessions that do not come, and ticks of days that are
//! called off.

use crate::both::on_both;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Batch, DayState, Exchange, RawBar, TargetBasis, Ticker, Witness, Word};
use std::sync::Arc;
use uuid::Uuid;
use workflows::clock::FixedClock;
use workflows::ledger::{self, Ending, NewEntry, NewRun, TickState};
use workflows::plan::{Step, TICKER};
use workflows::queue::MemoryQueue;
use workflows::scheduler::{default_schedules, look};
use workflows::session_duties::look_back;
use workflows::stores::alarms::{self, Filter};
use workflows::stores::{archive, sessions, tickers};
use workflows::{Db, Effect, Engine, EngineSettings, Ledger, Outcome};

on_both!(
    an_operators_word_stands_above_and_is_taken_back,
    a_day_on_which_everyone_was_shown_an_earlier_session_was_none,
    that_no_session_comes_is_an_alarm_until_one_does,
    nepal_may_be_quiet_for_twelve_days,
    a_day_that_is_called_off_has_its_tick_and_no_runs,
    a_session_on_a_saturday_is_due_when_an_operator_says_so,
);

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn engine(db: &Db, now: &str) -> (Arc<Engine>, Arc<FixedClock>) {
    let clock = Arc::new(FixedClock::new(at(now)));
    let queue = Arc::new(MemoryQueue::default());
    (Engine::new(Ledger::Sql(db.clone()), queue, clock.clone(), EngineSettings::default()), clock)
}

fn entry(action: &'static str) -> NewEntry {
    NewEntry {
        id: Uuid::now_v7(),
        at: at("2024-03-05T22:00:00Z"),
        who: "operator".into(),
        door: "cli",
        action,
        subject: "a day".into(),
        detail: String::new(),
    }
}

async fn say(db: &Db, exchange: Exchange, day: &str, open: bool, why: &str) -> bool {
    let word = Word { session: date(day), open, by: Witness::Operator, why: why.to_owned() };
    sessions::override_day(db, exchange, &word, &entry("session_set"), db.now()).await.unwrap()
}

async fn seen(db: &Db, exchange: Exchange, days: &[&str]) {
    let bar =
        |day: &&str| RawBar { session: Some(date(day)), close: Some(100.0), ..RawBar::default() }.check().unwrap();
    let batch = Batch {
        ticker: Ticker::new(exchange, "SEEN").unwrap(),
        source: "csv".into(),
        bars: days.iter().map(bar).collect(),
        factors: vec![],
        page_session: None,
        refused: vec![],
        fetched_at: db.now(),
        body_sha256: "00".into(),
    };
    archive::import(db, &batch, db.now()).await.unwrap();
}

/// A run that was started for `aimed` and ended so; `shown`: the newest session that the source had.
async fn ran(db: &Db, symbol: &str, exchange: Exchange, aimed: &str, shown: &str, outcome: Outcome) {
    let (ledger, now) = (Ledger::Sql(db.clone()), db.now());
    let new = NewRun {
        id: Uuid::now_v7(),
        plan: &TICKER,
        subject: Ticker::new(exchange, symbol).unwrap().into(),
        session: date(aimed),
        schedule: None,
        backfill: None,
        priority: 0,
        offline: false,
        idempotency_key: None,
        repeats: None,
    };
    ledger.start(std::slice::from_ref(&new), now).await.unwrap();
    for (step, outcome) in [(Step::Scrape, outcome), (Step::Cleanup, Outcome::Done("clean".into()))] {
        let later = now + TimeDelta::days(1);
        ledger.unsend(later).await.unwrap();
        let messages = ledger.take_due(&[(step.queue(0), 1)], later).await.unwrap();
        let claim = ledger.claim(&messages, Uuid::new_v4(), "test", now, later).await.unwrap().remove(0).unwrap();
        assert_eq!((claim.run, claim.step), (new.id, step));
        let effects = if step == Step::Scrape { vec![Effect::RunSession(date(shown))] } else { vec![] };
        let ending = Ending { claim, outcome, effects, dice: 0.0, sends_next: true, lapsed_before: None };
        ledger.complete(&[ending], now).await.unwrap().remove(0).unwrap();
    }
}

fn nothing_new() -> Outcome {
    Outcome::NoNewSession("nothing new".into())
}

async fn day(db: &Db, exchange: Exchange, day: &str) -> (DayState, TargetBasis, String) {
    let found = sessions::calendar(db, exchange, date(day)).await.unwrap().day(date(day));
    (found.state, found.basis, found.reason)
}

async fn actions(db: &Db) -> Vec<String> {
    let mut rows = ledger::audit(db, None, 100).await.unwrap();
    rows.reverse();
    rows.into_iter().map(|row| row.action).collect()
}

async fn an_operators_word_stands_above_and_is_taken_back(db: Db) {
    let nepse = Exchange::Nepse;
    seen(&db, nepse, &["2024-03-04"]).await;
    assert_eq!(day(&db, nepse, "2024-03-04").await.1, TargetBasis::Observed);
    assert!(say(&db, nepse, "2024-03-04", false, "a test session").await);
    assert!(!say(&db, nepse, "2024-03-04", false, "a test session").await, "saying it twice is saying it once");
    let closed = (DayState::Closed, TargetBasis::Operator, "closed, an operator says: a test session".to_owned());
    assert_eq!(day(&db, nepse, "2024-03-04").await, closed);
    assert_eq!(day(&db, Exchange::Nasdaq, "2024-03-04").await.0, DayState::Expected, "the other exchange has its own");
    assert!(say(&db, nepse, "2024-03-04", true, "it was one after all").await, "it may be changed");
    let all = sessions::noted(&db, nepse, date("2024-03-01"), date("2024-03-31")).await.unwrap();
    let told: Vec<_> = all.iter().map(|noted| (noted.by, noted.open, noted.noted_by.as_str())).collect();
    assert_eq!(told.len(), 2);
    assert!(
        told.contains(&(Some(Witness::Operator), true, "operator")) && told.contains(&(None, true, "")),
        "{told:?}"
    );
    let words = sessions::operators_words(&db, date("2024-03-04")).await.unwrap();
    assert_eq!((words.len(), words[0].0, words[0].1.open), (1, nepse, true));
    assert!(sessions::take_back(&db, nepse, date("2024-03-04"), &entry("session_clear")).await.unwrap());
    assert!(!sessions::take_back(&db, nepse, date("2024-03-04"), &entry("session_clear")).await.unwrap());
    assert_eq!(day(&db, nepse, "2024-03-04").await.1, TargetBasis::Observed);
    assert_eq!(actions(&db).await, ["session_set", "session_set", "session_clear"], "no change leaves no entry");
}

async fn a_day_on_which_everyone_was_shown_an_earlier_session_was_none(db: Db) {
    let nepse = Exchange::Nepse;
    seen(&db, nepse, &["2024-03-03", "2024-03-04", "2024-03-05", "2024-03-06", "2024-03-07"]).await;
    let (engine, clock) = engine(&db, "2024-03-08T16:44:59Z");
    for symbol in ["A", "B"] {
        ran(&db, symbol, nepse, "2024-03-08", "2024-03-07", nothing_new()).await;
    }
    look_back(&engine, nepse).await.unwrap();
    assert!(day(&db, nepse, "2024-03-08").await.1 > TargetBasis::Observed, "the evening is not over");
    clock.set(at("2024-03-08T16:45:00Z"));
    for _ in 0..2 {
        look_back(&engine, nepse).await.unwrap();
        let why = "closed: 2 of 2 runs that asked for it in the evening were shown 2024-03-07 as the newest session";
        assert_eq!(day(&db, nepse, "2024-03-08").await, (DayState::Closed, TargetBasis::Observed, why.to_owned()));
    }
    // A page that came late: the bar says more than what was not there.
    seen(&db, nepse, &["2024-03-08"]).await;
    assert_eq!(day(&db, nepse, "2024-03-08").await.0, DayState::Open);
    // A day on which most runs failed, or one is open, says nothing.
    ran(&db, "C", nepse, "2024-03-10", "2024-03-10", Outcome::GiveUp("the site is away".into())).await;
    ran(&db, "D", nepse, "2024-03-10", "2024-03-08", nothing_new()).await;
    clock.set(at("2024-03-10T18:00:00Z"));
    look_back(&engine, nepse).await.unwrap();
    assert!(day(&db, nepse, "2024-03-10").await.1 > TargetBasis::Observed);
}

async fn open_alarms(db: &Db) -> Vec<String> {
    let filter = Filter { open: true, ..Filter::default() };
    let open = alarms::list(db, filter, 10).await.unwrap();
    open.into_iter().map(|alarm| format!("{} {}", alarm.alarm.about.kind, alarm.alarm.detail)).collect()
}

async fn that_no_session_comes_is_an_alarm_until_one_does(db: Db) {
    let nasdaq = Exchange::Nasdaq;
    seen(&db, nasdaq, &["2026-11-24", "2026-11-25"]).await;
    // Thursday is Thanksgiving, and nobody asks on Friday.
    let (engine, clock) = engine(&db, "2026-12-01T12:00:00Z");
    ran(&db, "AAPL", nasdaq, "2026-11-26", "2026-11-25", nothing_new()).await;
    ran(&db, "AAPL", nasdaq, "2026-11-30", "2026-11-25", nothing_new()).await;
    look_back(&engine, nasdaq).await.unwrap();
    assert_eq!(open_alarms(&db).await, [""; 0], "asked for one of the two that were expected");
    ran(&db, "AAPL", nasdaq, "2026-12-01", "2026-11-25", nothing_new()).await;
    clock.set(at("2026-12-02T03:00:00Z"));
    for _ in 0..2 {
        look_back(&engine, nasdaq).await.unwrap();
        let told = "no_session no session of NASDAQ was seen since 2026-11-25, 6 days ago: 3 were expected, and 2 of them asked for";
        assert_eq!(open_alarms(&db).await, [told], "what no source showed does not excuse it");
    }
    // An operator explains it, and takes the explanation back.
    for day in ["2026-11-30", "2026-12-01"] {
        say(&db, nasdaq, day, false, "a day of mourning").await;
    }
    look_back(&engine, nasdaq).await.unwrap();
    assert_eq!(open_alarms(&db).await, [""; 0]);
    for day in ["2026-11-30", "2026-12-01"] {
        sessions::take_back(&db, nasdaq, date(day), &entry("session_clear")).await.unwrap();
    }
    look_back(&engine, nasdaq).await.unwrap();
    assert_eq!(open_alarms(&db).await.len(), 1);
    seen(&db, nasdaq, &["2026-12-01"]).await;
    look_back(&engine, nasdaq).await.unwrap();
    assert_eq!(open_alarms(&db).await, [""; 0]);
}

async fn nepal_may_be_quiet_for_twelve_days(db: Db) {
    let nepse = Exchange::Nepse;
    seen(&db, nepse, &["2025-09-24", "2025-09-25", "2025-09-26"]).await;
    let (engine, clock) = engine(&db, "2025-10-08T18:00:00Z");
    for aimed in ["2025-09-28", "2025-10-06", "2025-10-08"] {
        ran(&db, "NABIL", nepse, aimed, "2025-09-26", nothing_new()).await;
    }
    look_back(&engine, nepse).await.unwrap();
    assert_eq!(open_alarms(&db).await, [""; 0], "Dashain");
    clock.set(at("2025-10-09T18:00:00Z"));
    look_back(&engine, nepse).await.unwrap();
    assert_eq!(open_alarms(&db).await.len(), 1);
}

/// The ticks of NEPSE's daily schedule: session, state, reason, runs.
async fn ticks(db: &Db) -> Vec<(String, TickState, String, i64)> {
    let rows = ledger::ticks(db, "nepse-daily", None, 100).await.unwrap();
    rows.into_iter().map(|tick| (tick.session.to_string(), tick.state, tick.reason, tick.runs)).collect()
}

async fn scheduled(db: &Db, now: &str) -> (Arc<Engine>, Arc<FixedClock>) {
    let (engine, clock) = engine(db, now);
    for row in default_schedules() {
        engine.ledger.add_schedule(&row).await.unwrap();
    }
    tickers::add(db, &[Ticker::parse("NEPSE:NABIL").unwrap()], db.now()).await.unwrap();
    (engine, clock)
}

async fn a_day_that_is_called_off_has_its_tick_and_no_runs(db: Db) {
    let nepse = Exchange::Nepse;
    say(&db, nepse, "2024-03-05", false, "Maha Shivaratri").await;
    let (engine, clock) = scheduled(&db, "2024-03-05T12:00:00Z").await;
    let skipped = "closed, an operator says: Maha Shivaratri".to_owned();
    let once = ("2024-03-05".to_owned(), TickState::Skipped, skipped, 0);
    for _ in 0..3 {
        look(&engine, true).await.unwrap();
        assert_eq!(ticks(&db).await, std::slice::from_ref(&once));
    }
    // Taking it back makes no second tick; who wants the runs triggers them.
    sessions::take_back(&db, nepse, date("2024-03-05"), &entry("session_clear")).await.unwrap();
    look(&engine, true).await.unwrap();
    assert_eq!(ticks(&db).await, std::slice::from_ref(&once));
    say(&db, nepse, "2024-03-05", false, "closed after all").await;
    let by_hand = entry("schedule_trigger");
    ledger::trigger(&db, "nepse-daily", date("2024-03-05"), "by hand", &by_hand, db.now()).await.unwrap().unwrap();
    look(&engine, true).await.unwrap();
    assert_eq!(ticks(&db).await[0].3, 1, "what was triggered by hand was meant");
    clock.set(at("2024-03-06T12:00:00Z"));
    look(&engine, true).await.unwrap();
    let newest = ticks(&db).await.remove(0);
    assert_eq!((newest.0.as_str(), newest.1, newest.3), ("2024-03-06", TickState::Fired, 1), "the next day goes on");
}

async fn a_session_on_a_saturday_is_due_when_an_operator_says_so(db: Db) {
    let (engine, _) = scheduled(&db, "2024-03-09T12:00:00Z").await;
    look(&engine, true).await.unwrap();
    assert_eq!(ticks(&db).await[0].0, "2024-03-08");
    say(&db, Exchange::Nepse, "2024-03-09", true, "a make-up session").await;
    look(&engine, true).await.unwrap();
    let sessions: Vec<String> = ticks(&db).await.into_iter().map(|tick| tick.0).collect();
    assert_eq!(sessions, ["2024-03-09", "2024-03-08"]);
}
