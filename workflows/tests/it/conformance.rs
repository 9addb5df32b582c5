//! The ledger's promises, one by one, on PostgreSQL, SQLite and in memory.

use crate::both::on_all;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Exchange, Ticker};
use uuid::Uuid;
use workflows::db::StoreError;
use workflows::ledger::{Abandoned, Claim, Completion, Ending, NewRun, Overlap, ScheduleRow, TickState};
use workflows::message::Message;
use workflows::plan::{Step, TICKER};
use workflows::scheduler::default_schedules;
use workflows::state::Decision;
use workflows::{Effect, Ledger, Outcome, Subject};

on_all!(
    a_run_goes_through_its_chain,
    one_message_is_claimed_once,
    a_start_under_one_key_is_one_run,
    a_failed_attempt_comes_back_later,
    exhausted_attempts_fail_the_run_and_still_clean_up,
    an_interruption_is_not_an_attempt,
    a_closed_day_skips_the_rest,
    a_lapsed_lease_is_taken_back_and_the_old_holder_is_fenced,
    a_renewed_lease_is_kept,
    effects_of_a_fenced_attempt_are_not_written,
    cancelling_ends_open_steps_and_cleans_up,
    a_lost_message_is_due_again,
    one_tick_starts_one_set_of_runs,
    a_tick_goes_on_where_it_was,
    a_repeat_begins_at_its_step,
);

pub fn now() -> DateTime<Utc> {
    "2024-03-05T22:00:00Z".parse().unwrap()
}

pub fn session() -> NaiveDate {
    "2024-03-05".parse().unwrap()
}

pub fn new_run(symbol: &str) -> NewRun {
    of_plan(&TICKER, Subject::Ticker(Ticker::new(Exchange::Nasdaq, symbol).unwrap()))
}

pub fn of_plan(plan: &'static workflows::plan::Plan, subject: Subject) -> NewRun {
    NewRun {
        id: Uuid::now_v7(),
        plan,
        subject,
        session: session(),
        schedule: None,
        backfill: None,
        priority: 0,
        offline: false,
        idempotency_key: None,
        repeats: None,
    }
}

pub async fn started(ledger: &Ledger, symbol: &str) -> Uuid {
    ledger.start(&[new_run(symbol)], now()).await.unwrap()[0].id
}

/// The messages that the reconciler would push for a queue at `at`; they count as sent.
pub async fn due(ledger: &Ledger, step: Step, at: DateTime<Utc>) -> Vec<Message> {
    ledger.unsend(at - TimeDelta::seconds(5)).await.unwrap();
    ledger.take_due(&[(step.queue(0), 100)], at).await.unwrap()
}

pub async fn claim_at(ledger: &Ledger, message: &Message, owner: Uuid, at: DateTime<Utc>) -> Option<Claim> {
    let one = std::slice::from_ref(message);
    ledger.claim(one, owner, "test", at, at + TimeDelta::seconds(20)).await.unwrap().remove(0)
}

pub fn ending(claim: &Claim, outcome: Outcome, effects: &[Effect]) -> Ending {
    Ending {
        claim: claim.clone(),
        outcome,
        effects: effects.to_vec(),
        dice: 0.5,
        sends_next: true,
        lapsed_before: None,
    }
}

pub async fn try_end(ledger: &Ledger, ending: Ending, at: DateTime<Utc>) -> Result<Completion, StoreError> {
    ledger.complete(&[ending], at).await.unwrap().remove(0)
}

pub async fn end(ledger: &Ledger, claim: &Claim, outcome: Outcome, effects: &[Effect]) -> Completion {
    try_end(ledger, ending(claim, outcome, effects), now()).await.unwrap()
}

pub async fn states(ledger: &Ledger, run: Uuid) -> (String, Vec<String>) {
    let (row, steps, _) = ledger.get_run(run).await.unwrap().unwrap();
    (row.state, steps.into_iter().map(|s| s.state).collect())
}

pub async fn attempts(ledger: &Ledger, run: Uuid) -> Vec<String> {
    let (_, _, attempts) = ledger.get_run(run).await.unwrap().unwrap();
    attempts.into_iter().map(|a| a.outcome).collect()
}

async fn a_run_goes_through_its_chain(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    assert_eq!(
        states(&ledger, run).await,
        ("queued".into(), vec!["ready".into(), "waiting".into(), "waiting".into(), "waiting".into(), "waiting".into()])
    );
    let mut message = due(&ledger, Step::Scrape, now()).await.remove(0);
    for step in Step::of_the_chain() {
        assert_eq!(message.step, step);
        let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
        assert_eq!((claim.attempt, claim.epoch), (1, 1));
        assert_eq!(states(&ledger, run).await.0, "running");
        let completion = end(&ledger, &claim, Outcome::Done("ok".into()), &[]).await;
        match completion.messages.into_iter().next() {
            Some(next) => message = next,
            None => assert_eq!((step, completion.run_ended.map(|s| s.as_str())), (Step::Cleanup, Some("succeeded"))),
        }
    }
    assert_eq!(states(&ledger, run).await, ("succeeded".into(), vec!["done".to_string(); 5]));
    assert_eq!(attempts(&ledger, run).await, vec!["done"; 5]);
    assert!(ledger.on_their_way().await.unwrap().is_empty() && ledger.unsent_queues().await.unwrap().is_empty());
}

async fn one_message_is_claimed_once(ledger: Ledger) {
    started(&ledger, "AAPL").await;
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let many = (0..8).map(|_| claim_at(&ledger, &message, Uuid::new_v4(), now()));
    let claimed = futures::future::join_all(many).await.into_iter().flatten().count();
    assert_eq!(claimed, 1);
    let stale = Message { generation: message.generation - 1, ..message };
    assert!(claim_at(&ledger, &stale, Uuid::new_v4(), now()).await.is_none());
}

async fn a_start_under_one_key_is_one_run(ledger: Ledger) {
    let keyed = |symbol: &str| NewRun { idempotency_key: Some("same".into()), ..new_run(symbol) };
    let first = ledger.start(&[keyed("AAPL")], now()).await.unwrap()[0];
    let second = ledger.start(&[keyed("AAPL")], now()).await.unwrap()[0];
    assert!(first.created && !second.created);
    let unkeyed = new_run("MSFT");
    for created in [true, false] {
        let answer = ledger.start(std::slice::from_ref(&unkeyed), now()).await.unwrap()[0];
        assert_eq!((answer.id, answer.created), (unkeyed.id, created), "a caller who got no answer asks again");
    }
    ledger.cancel(unkeyed.id, "enough", now()).await.unwrap().unwrap();
    assert_eq!(first.id, second.id);
    assert_eq!(due(&ledger, Step::Scrape, now()).await.len(), 1);
}

async fn a_failed_attempt_comes_back_later(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
    let completion = end(
        &ledger,
        &claim,
        Outcome::Retry {
            kind: "transport",
            error: "timed out".into(),
            after: Some(std::time::Duration::from_secs(60)),
        },
        &[],
    )
    .await;
    assert_eq!(
        completion.decision,
        Decision::Again { due_at: now() + TimeDelta::seconds(60), forgive: false, wait_for: None }
    );
    assert!(due(&ledger, Step::Scrape, now() + TimeDelta::seconds(59)).await.is_empty());
    let again = due(&ledger, Step::Scrape, now() + TimeDelta::seconds(60)).await.remove(0);
    assert_eq!(again.generation, message.generation + 1, "a new message has a new id");
    assert!(claim_at(&ledger, &message, Uuid::new_v4(), now()).await.is_none(), "the old message is stale");
    let second = claim_at(&ledger, &again, Uuid::new_v4(), now()).await.unwrap();
    assert_eq!((second.attempt, second.epoch), (2, 2));
    assert_eq!(attempts(&ledger, run).await, ["retry", "running"]);
}

async fn exhausted_attempts_fail_the_run_and_still_clean_up(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let policy = TICKER.policy(Step::Scrape).unwrap();
    for attempt in 1..=policy.max_attempts {
        let message = due(&ledger, Step::Scrape, now() + TimeDelta::days(1)).await.remove(0);
        let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
        let completion =
            end(&ledger, &claim, Outcome::Retry { kind: "transport", error: "away".into(), after: None }, &[]).await;
        if attempt == policy.max_attempts {
            let cleanup = &completion.messages[0];
            assert_eq!(cleanup.step, Step::Cleanup);
            assert_eq!(
                states(&ledger, run).await,
                ("running".into(), ["failed", "skipped", "skipped", "skipped", "ready"].map(String::from).to_vec())
            );
            let claim = claim_at(&ledger, cleanup, Uuid::new_v4(), now()).await.unwrap();
            assert_eq!(
                end(&ledger, &claim, Outcome::Done("clean".into()), &[]).await.run_ended.unwrap().as_str(),
                "failed"
            );
        }
    }
    let (row, ..) = ledger.get_run(run).await.unwrap().unwrap();
    assert_eq!(row.state, "failed");
    assert_eq!(row.reason.unwrap(), "scrape failed after 8 attempts: away");
}

async fn an_interruption_is_not_an_attempt(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    for _ in 0..20 {
        let message = due(&ledger, Step::Scrape, now() + TimeDelta::hours(1)).await.remove(0);
        let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
        assert_eq!(claim.attempt, 1);
        end(&ledger, &claim, Outcome::Interrupted, &[]).await;
    }
    assert_eq!(states(&ledger, run).await.1[0], "ready");
}

async fn a_closed_day_skips_the_rest(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
    let earlier: NaiveDate = "2024-03-04".parse().unwrap();
    let completion = end(&ledger, &claim, Outcome::NoNewSession("closed".into()), &[Effect::RunSession(earlier)]).await;
    let claim = claim_at(&ledger, &completion.messages[0], Uuid::new_v4(), now()).await.unwrap();
    end(&ledger, &claim, Outcome::Done("clean".into()), &[Effect::DropStaging]).await;
    assert_eq!(
        states(&ledger, run).await,
        ("no_new_session".into(), ["done", "skipped", "skipped", "skipped", "done"].map(String::from).to_vec())
    );
    let (row, ..) = ledger.get_run(run).await.unwrap().unwrap();
    assert_eq!((row.session, row.reason.as_deref()), (earlier, Some("closed")));
}

async fn a_lapsed_lease_is_taken_back_and_the_old_holder_is_fenced(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let old = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
    let later = now() + TimeDelta::seconds(21);
    assert!(ledger.abandoned(&Abandoned::Lapsed, now(), 10).await.unwrap().is_empty());
    let lost = ledger.abandoned(&Abandoned::Lapsed, later, 10).await.unwrap();
    assert_eq!(lost.len(), 1);
    try_end(&ledger, Ending { lapsed_before: Some(later), ..ending(&lost[0], Outcome::Lost, &[]) }, later)
        .await
        .unwrap();
    let again = due(&ledger, Step::Scrape, later).await.remove(0);
    let new = claim_at(&ledger, &again, Uuid::new_v4(), later).await.unwrap();
    assert_eq!((new.attempt, new.epoch), (2, 2), "a crash counts as an attempt");
    // The old worker wakes up and completes.
    let fenced = try_end(&ledger, ending(&old, Outcome::Done("late".into()), &[]), later).await;
    assert!(matches!(fenced, Err(StoreError::Fenced)));
    assert_eq!(attempts(&ledger, run).await, ["fenced", "running"]);
    end(&ledger, &new, Outcome::Done("ok".into()), &[]).await;
    assert_eq!(states(&ledger, run).await.1[0], "done");
}

async fn a_renewed_lease_is_kept(ledger: Ledger) {
    started(&ledger, "AAPL").await;
    let owner = Uuid::new_v4();
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&ledger, &message, owner, now()).await.unwrap();
    let key = (claim.run, claim.step, claim.epoch);
    let later = now() + TimeDelta::seconds(21);
    let stranger = (Uuid::new_v4(), Step::Cache, 1);
    let ours = ledger.renew(owner, &[key, stranger], later + TimeDelta::seconds(20)).await.unwrap();
    assert_eq!(ours, [key]);
    assert!(ledger.abandoned(&Abandoned::Lapsed, later, 10).await.unwrap().is_empty());
    // A reconciler that looked before the renewal must not take it back either.
    let stale_look =
        try_end(&ledger, Ending { lapsed_before: Some(later), ..ending(&claim, Outcome::Lost, &[]) }, later).await;
    assert!(matches!(stale_look, Err(StoreError::Fenced)));
    assert!(ledger.renew(Uuid::new_v4(), &[key], later).await.unwrap().is_empty(), "only the owner renews");
    // Another instance of the embedded program takes back what is not its own.
    assert_eq!(ledger.abandoned(&Abandoned::NotOf(owner), later, 10).await.unwrap().len(), 0);
    assert_eq!(ledger.abandoned(&Abandoned::NotOf(Uuid::new_v4()), later, 10).await.unwrap().len(), 1);
}

async fn effects_of_a_fenced_attempt_are_not_written(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
    let stale = Claim { epoch: claim.epoch + 1, ..claim.clone() };
    let remark = [Effect::Remark("must not be read".into())];
    assert!(matches!(
        try_end(&ledger, ending(&stale, Outcome::Done("x".into()), &remark), now()).await,
        Err(StoreError::Fenced)
    ));
    let (row, ..) = ledger.get_run(run).await.unwrap().unwrap();
    assert_eq!(row.reason, None);
    end(&ledger, &claim, Outcome::Done("x".into()), &[Effect::Remark("read".into())]).await;
    let (row, ..) = ledger.get_run(run).await.unwrap().unwrap();
    assert_eq!(row.reason.as_deref(), Some("read"));
}

async fn cancelling_ends_open_steps_and_cleans_up(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
    let messages = ledger.cancel(run, "asked for", now()).await.unwrap().unwrap();
    assert_eq!(messages.len(), 1);
    assert!(matches!(
        try_end(&ledger, ending(&claim, Outcome::Done("x".into()), &[]), now()).await,
        Err(StoreError::Fenced)
    ));
    assert!(ledger.cancel(run, "again", now()).await.unwrap().is_none());
    let cleanup = claim_at(&ledger, &messages[0], Uuid::new_v4(), now()).await.unwrap();
    end(&ledger, &cleanup, Outcome::Done("clean".into()), &[]).await;
    assert_eq!(
        states(&ledger, run).await,
        ("cancelled".into(), ["cancelled", "cancelled", "cancelled", "cancelled", "done"].map(String::from).to_vec())
    );
    assert_eq!(attempts(&ledger, run).await, ["cancelled", "done"]);
    assert!(ledger.cancel(Uuid::new_v4(), "unknown", now()).await.unwrap().is_none());
}

async fn a_lost_message_is_due_again(ledger: Ledger) {
    started(&ledger, "AAPL").await;
    let messages = due(&ledger, Step::Scrape, now()).await;
    assert_eq!(ledger.on_their_way().await.unwrap(), [("scrape".to_string(), 1)]);
    assert!(due(&ledger, Step::Scrape, now() + TimeDelta::seconds(4)).await.is_empty());
    let again = due(&ledger, Step::Scrape, now() + TimeDelta::seconds(6)).await;
    assert_eq!(again, messages, "the same message under the same id");
}

async fn one_tick_starts_one_set_of_runs(ledger: Ledger) {
    let schedule = &default_schedules()[0];
    ledger.add_schedule(schedule).await.unwrap();
    ledger.add_schedule(schedule).await.unwrap();
    assert_eq!(ledger.schedules().await.unwrap(), std::slice::from_ref(schedule));
    add_tickers(&ledger, 1000).await;
    let replicas = (0..4).map(|_| ledger.open_tick(&schedule.id, session(), false, "due", now()));
    let won = futures::future::join_all(replicas).await.into_iter().filter(|won| *won.as_ref().unwrap()).count();
    assert_eq!(won, 1);
    let tick = ledger.open_ticks().await.unwrap().remove(0);
    assert!(ledger.move_tick(&tick, TickState::Firing, "due").await.unwrap());
    assert!(!ledger.move_tick(&tick, TickState::Firing, "due").await.unwrap(), "it is no longer where it was");
    let tick = ledger.open_ticks().await.unwrap().remove(0);
    let make = |ticker: Ticker| NewRun { schedule: Some(schedule.id.clone()), ..of_plan(&TICKER, ticker.into()) };
    let replicas = (0..4).map(|_| async {
        while ledger.advance_tick(&tick, schedule.exchange, schedule.overlap, 300, now(), &make).await.unwrap().1 {}
    });
    futures::future::join_all(replicas).await;
    while ledger.advance_tick(&tick, schedule.exchange, schedule.overlap, 300, now(), &make).await.unwrap().1 {}
    assert_eq!(ledger.last_tick(&schedule.id).await.unwrap(), Some(session()));
    assert_eq!(ledger.open_runs().await.unwrap(), 1000);
    assert!(ledger.open_ticks().await.unwrap().is_empty());
    assert_eq!(ledger.take_due(&[("scrape".into(), 5000)], now()).await.unwrap().len(), 1000);
    for (session, begun_too, count) in [(session(), true, 0), ("2024-03-06".parse().unwrap(), false, 10)] {
        let old = ledger.open_runs_before(&schedule.id, session, begun_too, 10).await.unwrap();
        assert_eq!(old.len(), count);
    }
}

async fn a_tick_goes_on_where_it_was(ledger: Ledger) {
    let schedule = ScheduleRow { overlap: Overlap::Skip, ..default_schedules()[0].clone() };
    ledger.add_schedule(&schedule).await.unwrap();
    add_tickers(&ledger, 10).await;
    assert!(ledger.open_tick(&schedule.id, session(), false, "due", now()).await.unwrap());
    assert!(ledger.open_tick(&schedule.id, session(), true, "by hand", now()).await.unwrap(), "a second one, by hand");
    let [tick, second] = ledger.open_ticks().await.unwrap().try_into().unwrap();
    assert_eq!((tick.nth, second.nth), (0, 1));
    let make = |ticker: Ticker| of_plan(&TICKER, ticker.into());
    assert_eq!(
        ledger.advance_tick(&tick, schedule.exchange, schedule.overlap, 4, now(), &make).await.unwrap(),
        (0, false),
        "not firing yet"
    );
    ledger.move_tick(&tick, TickState::Firing, "due").await.unwrap();
    let slices = [(4, true), (4, true), (2, false), (0, false)];
    for slice in slices {
        assert_eq!(
            ledger.advance_tick(&tick, schedule.exchange, schedule.overlap, 4, now(), &make).await.unwrap(),
            slice
        );
    }
    ledger.move_tick(&second, TickState::Skipped, "enough").await.unwrap();
    assert!(ledger.open_ticks().await.unwrap().is_empty());
}

async fn add_tickers(ledger: &Ledger, count: usize) {
    let mut tickers: Vec<Ticker> =
        (0..count).map(|n| Ticker::new(Exchange::Nasdaq, &format!("T{n}")).unwrap()).collect();
    tickers.push(Ticker::new(Exchange::Nepse, "NABIL").unwrap());
    match ledger {
        Ledger::Sql(db) => workflows::stores::tickers::add(db, &tickers, now()).await.unwrap(),
        Ledger::Memory(memory) => memory.add_tickers(&tickers),
    }
}

async fn a_repeat_begins_at_its_step(ledger: Ledger) {
    let first = started(&ledger, "AAPL").await;
    let again = NewRun { repeats: Some((first, Step::Cache)), ..new_run("MSFT") };
    let run = ledger.start(&[again], now()).await.unwrap()[0].id;
    assert_eq!(states(&ledger, run).await.1, ["skipped", "skipped", "ready", "waiting", "waiting"]);
    assert_eq!(due(&ledger, Step::Cache, now()).await.len(), 1);
    assert_eq!(ledger.get_run(run).await.unwrap().unwrap().0.lineage, Some(first));
}
