//! The ledger's promises, one by one, on both databases.

use crate::both::on_both;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Exchange, Ticker};
use uuid::Uuid;
use workflows::db::StoreError;
use workflows::ledger::{self, Abandoned, Claim, NewRun, RunFilter};
use workflows::message::Message;
use workflows::plan::{Step, TICKER};
use workflows::scheduler::default_schedules;
use workflows::state::Decision;
use workflows::{Db, Effect, Outcome};

on_both!(
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
    lists_page_through_all_runs,
    a_repeat_begins_at_its_step,
    migrating_twice_changes_nothing,
);

fn now() -> DateTime<Utc> {
    "2024-03-05T22:00:00Z".parse().unwrap()
}

fn session() -> NaiveDate {
    "2024-03-05".parse().unwrap()
}

fn new_run(symbol: &str) -> NewRun {
    NewRun {
        id: Uuid::now_v7(),
        plan: &TICKER,
        ticker: Ticker::new(Exchange::Nasdaq, symbol).unwrap(),
        session: session(),
        schedule: None,
        priority: 0,
        offline: false,
        idempotency_key: None,
        repeats: None,
    }
}

async fn started(db: &Db, symbol: &str) -> Uuid {
    ledger::start(db, &[new_run(symbol)], now()).await.unwrap()[0].id
}

/// The messages that the reconciler would push for a queue at `at`.
async fn due(db: &Db, step: Step, at: DateTime<Utc>) -> Vec<Message> {
    ledger::due(db, &step.queue(0), at, at - TimeDelta::seconds(5), 100).await.unwrap()
}

async fn claim_at(db: &Db, message: &Message, owner: Uuid, at: DateTime<Utc>) -> Option<Claim> {
    ledger::claim(db, message, owner, "test", at, at + TimeDelta::seconds(20)).await.unwrap()
}

async fn end(db: &Db, claim: &Claim, outcome: Outcome, effects: &[Effect]) -> ledger::Completion {
    ledger::complete(db, claim, &outcome, effects, now(), 0.5, None).await.unwrap()
}

async fn states(db: &Db, run: Uuid) -> (String, Vec<String>) {
    let (row, steps, _) = ledger::get_run(db, run).await.unwrap().unwrap();
    (row.state, steps.into_iter().map(|s| s.state).collect())
}

async fn attempts(db: &Db, run: Uuid) -> Vec<String> {
    let (_, _, attempts) = ledger::get_run(db, run).await.unwrap().unwrap();
    attempts.into_iter().map(|a| a.outcome).collect()
}

async fn a_run_goes_through_its_chain(db: Db) {
    let run = started(&db, "AAPL").await;
    assert_eq!(
        states(&db, run).await,
        ("queued".into(), vec!["ready".into(), "waiting".into(), "waiting".into(), "waiting".into(), "waiting".into()])
    );
    let mut message = due(&db, Step::Scrape, now()).await.remove(0);
    for step in Step::ALL {
        assert_eq!(message.step, step);
        let claim = claim_at(&db, &message, Uuid::new_v4(), now()).await.unwrap();
        assert_eq!((claim.attempt, claim.epoch), (1, 1));
        assert_eq!(states(&db, run).await.0, "running");
        let completion = end(&db, &claim, Outcome::Done("ok".into()), &[]).await;
        match completion.messages.into_iter().next() {
            Some(next) => message = next,
            None => assert_eq!((step, completion.run_ended.map(|s| s.as_str())), (Step::Cleanup, Some("succeeded"))),
        }
    }
    assert_eq!(states(&db, run).await, ("succeeded".into(), vec!["done".to_string(); 5]));
    assert_eq!(attempts(&db, run).await, vec!["done"; 5]);
    assert!(ledger::outstanding(&db, now(), now()).await.unwrap().is_empty());
}

async fn one_message_is_claimed_once(db: Db) {
    started(&db, "AAPL").await;
    let message = due(&db, Step::Scrape, now()).await.remove(0);
    let many = (0..8).map(|_| claim_at(&db, &message, Uuid::new_v4(), now()));
    let claimed = futures::future::join_all(many).await.into_iter().flatten().count();
    assert_eq!(claimed, 1);
    let stale = Message { generation: message.generation - 1, ..message };
    assert!(claim_at(&db, &stale, Uuid::new_v4(), now()).await.is_none());
}

async fn a_start_under_one_key_is_one_run(db: Db) {
    let keyed = |symbol: &str| NewRun { idempotency_key: Some("same".into()), ..new_run(symbol) };
    let first = ledger::start(&db, &[keyed("AAPL")], now()).await.unwrap()[0];
    let second = ledger::start(&db, &[keyed("AAPL")], now()).await.unwrap()[0];
    assert!(first.created && !second.created);
    assert_eq!(first.id, second.id);
    assert_eq!(due(&db, Step::Scrape, now()).await.len(), 1);
}

async fn a_failed_attempt_comes_back_later(db: Db) {
    let run = started(&db, "AAPL").await;
    let message = due(&db, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&db, &message, Uuid::new_v4(), now()).await.unwrap();
    let completion = end(
        &db,
        &claim,
        Outcome::Retry { error: "timed out".into(), after: Some(std::time::Duration::from_secs(60)) },
        &[],
    )
    .await;
    assert_eq!(completion.decision, Decision::Again { due_at: now() + TimeDelta::seconds(60), forgive: false });
    assert!(due(&db, Step::Scrape, now() + TimeDelta::seconds(59)).await.is_empty());
    let again = due(&db, Step::Scrape, now() + TimeDelta::seconds(60)).await.remove(0);
    assert_eq!(again.generation, message.generation + 1, "a new message has a new id");
    assert!(claim_at(&db, &message, Uuid::new_v4(), now()).await.is_none(), "the old message is stale");
    let second = claim_at(&db, &again, Uuid::new_v4(), now()).await.unwrap();
    assert_eq!((second.attempt, second.epoch), (2, 2));
    assert_eq!(attempts(&db, run).await, ["retry", "running"]);
}

async fn exhausted_attempts_fail_the_run_and_still_clean_up(db: Db) {
    let run = started(&db, "AAPL").await;
    let policy = TICKER.policy(Step::Scrape).unwrap();
    for attempt in 1..=policy.max_attempts {
        let message = due(&db, Step::Scrape, now() + TimeDelta::days(1)).await.remove(0);
        let claim = claim_at(&db, &message, Uuid::new_v4(), now()).await.unwrap();
        let completion = end(&db, &claim, Outcome::Retry { error: "away".into(), after: None }, &[]).await;
        if attempt == policy.max_attempts {
            let cleanup = &completion.messages[0];
            assert_eq!(cleanup.step, Step::Cleanup);
            assert_eq!(
                states(&db, run).await,
                ("running".into(), ["failed", "skipped", "skipped", "skipped", "ready"].map(String::from).to_vec())
            );
            let claim = claim_at(&db, cleanup, Uuid::new_v4(), now()).await.unwrap();
            assert_eq!(
                end(&db, &claim, Outcome::Done("clean".into()), &[]).await.run_ended.unwrap().as_str(),
                "failed"
            );
        }
    }
    let (row, ..) = ledger::get_run(&db, run).await.unwrap().unwrap();
    assert_eq!(row.state, "failed");
    assert_eq!(row.reason.unwrap(), "scrape failed after 8 attempts: away");
}

async fn an_interruption_is_not_an_attempt(db: Db) {
    let run = started(&db, "AAPL").await;
    for _ in 0..20 {
        let message = due(&db, Step::Scrape, now() + TimeDelta::hours(1)).await.remove(0);
        let claim = claim_at(&db, &message, Uuid::new_v4(), now()).await.unwrap();
        assert_eq!(claim.attempt, 1);
        end(&db, &claim, Outcome::Interrupted, &[]).await;
    }
    assert_eq!(states(&db, run).await.1[0], "ready");
}

async fn a_closed_day_skips_the_rest(db: Db) {
    let run = started(&db, "AAPL").await;
    let message = due(&db, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&db, &message, Uuid::new_v4(), now()).await.unwrap();
    let earlier: NaiveDate = "2024-03-04".parse().unwrap();
    let completion = end(&db, &claim, Outcome::NoNewSession("closed".into()), &[Effect::RunSession(earlier)]).await;
    let claim = claim_at(&db, &completion.messages[0], Uuid::new_v4(), now()).await.unwrap();
    end(&db, &claim, Outcome::Done("clean".into()), &[Effect::DropStaging]).await;
    assert_eq!(
        states(&db, run).await,
        ("no_new_session".into(), ["done", "skipped", "skipped", "skipped", "done"].map(String::from).to_vec())
    );
    let (row, ..) = ledger::get_run(&db, run).await.unwrap().unwrap();
    assert_eq!((row.session, row.reason.as_deref()), (earlier, Some("closed")));
}

async fn a_lapsed_lease_is_taken_back_and_the_old_holder_is_fenced(db: Db) {
    let run = started(&db, "AAPL").await;
    let message = due(&db, Step::Scrape, now()).await.remove(0);
    let old = claim_at(&db, &message, Uuid::new_v4(), now()).await.unwrap();
    let later = now() + TimeDelta::seconds(21);
    assert!(ledger::abandoned(&db, Abandoned::Lapsed, now(), 10).await.unwrap().is_empty());
    let lost = ledger::abandoned(&db, Abandoned::Lapsed, later, 10).await.unwrap();
    assert_eq!(lost.len(), 1);
    ledger::complete(&db, &lost[0], &Outcome::Lost, &[], later, 0.0, Some(later)).await.unwrap();
    let again = due(&db, Step::Scrape, later).await.remove(0);
    let new = claim_at(&db, &again, Uuid::new_v4(), later).await.unwrap();
    assert_eq!((new.attempt, new.epoch), (2, 2), "a crash counts as an attempt");
    // The old worker wakes up and completes.
    let fenced = ledger::complete(&db, &old, &Outcome::Done("late".into()), &[], later, 0.0, None).await;
    assert!(matches!(fenced, Err(StoreError::Fenced)));
    assert_eq!(attempts(&db, run).await, ["fenced", "running"]);
    end(&db, &new, Outcome::Done("ok".into()), &[]).await;
    assert_eq!(states(&db, run).await.1[0], "done");
}

async fn a_renewed_lease_is_kept(db: Db) {
    started(&db, "AAPL").await;
    let owner = Uuid::new_v4();
    let message = due(&db, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&db, &message, owner, now()).await.unwrap();
    let key = (claim.run, claim.step, claim.epoch);
    let later = now() + TimeDelta::seconds(21);
    let stranger = (Uuid::new_v4(), Step::Cache, 1);
    let ours = ledger::renew(&db, owner, &[key, stranger], later + TimeDelta::seconds(20)).await.unwrap();
    assert_eq!(ours, [key]);
    assert!(ledger::abandoned(&db, Abandoned::Lapsed, later, 10).await.unwrap().is_empty());
    // A reconciler that looked before the renewal must not take it back either.
    let stale_look = ledger::complete(&db, &claim, &Outcome::Lost, &[], later, 0.0, Some(later)).await;
    assert!(matches!(stale_look, Err(StoreError::Fenced)));
    assert!(ledger::renew(&db, Uuid::new_v4(), &[key], later).await.unwrap().is_empty(), "only the owner renews");
    // Another instance of the embedded program takes back what is not its own.
    assert_eq!(ledger::abandoned(&db, Abandoned::NotOf(owner), later, 10).await.unwrap().len(), 0);
    assert_eq!(ledger::abandoned(&db, Abandoned::NotOf(Uuid::new_v4()), later, 10).await.unwrap().len(), 1);
}

async fn effects_of_a_fenced_attempt_are_not_written(db: Db) {
    let run = started(&db, "AAPL").await;
    let message = due(&db, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&db, &message, Uuid::new_v4(), now()).await.unwrap();
    let stale = Claim { epoch: claim.epoch + 1, ..claim.clone() };
    let remark = [Effect::Remark("must not be read".into())];
    assert!(matches!(
        ledger::complete(&db, &stale, &Outcome::Done("x".into()), &remark, now(), 0.0, None).await,
        Err(StoreError::Fenced)
    ));
    let (row, ..) = ledger::get_run(&db, run).await.unwrap().unwrap();
    assert_eq!(row.reason, None);
    end(&db, &claim, Outcome::Done("x".into()), &[Effect::Remark("read".into())]).await;
    let (row, ..) = ledger::get_run(&db, run).await.unwrap().unwrap();
    assert_eq!(row.reason.as_deref(), Some("read"));
}

async fn cancelling_ends_open_steps_and_cleans_up(db: Db) {
    let run = started(&db, "AAPL").await;
    let message = due(&db, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&db, &message, Uuid::new_v4(), now()).await.unwrap();
    let messages = ledger::cancel(&db, run, "asked for", now()).await.unwrap().unwrap();
    assert_eq!(messages.len(), 1);
    assert!(matches!(
        ledger::complete(&db, &claim, &Outcome::Done("x".into()), &[], now(), 0.0, None).await,
        Err(StoreError::Fenced)
    ));
    assert!(ledger::cancel(&db, run, "again", now()).await.unwrap().is_none());
    let cleanup = claim_at(&db, &messages[0], Uuid::new_v4(), now()).await.unwrap();
    end(&db, &cleanup, Outcome::Done("clean".into()), &[]).await;
    assert_eq!(
        states(&db, run).await,
        ("cancelled".into(), ["cancelled", "cancelled", "cancelled", "cancelled", "done"].map(String::from).to_vec())
    );
    assert_eq!(attempts(&db, run).await, ["cancelled", "done"]);
    assert!(ledger::cancel(&db, Uuid::new_v4(), "unknown", now()).await.unwrap().is_none());
}

async fn a_lost_message_is_due_again(db: Db) {
    started(&db, "AAPL").await;
    let messages = due(&db, Step::Scrape, now()).await;
    ledger::mark_sent(&db, &messages, now()).await.unwrap();
    assert!(due(&db, Step::Scrape, now() + TimeDelta::seconds(4)).await.is_empty());
    let counted = ledger::outstanding(&db, now(), now() - TimeDelta::seconds(5)).await.unwrap();
    assert_eq!(counted, [("scrape".to_string(), 1, 1)]);
    assert_eq!(
        due(&db, Step::Scrape, now() + TimeDelta::seconds(6)).await,
        messages,
        "the same message under the same id"
    );
}

async fn one_tick_starts_one_set_of_runs(db: Db) {
    let schedule = &default_schedules()[0];
    ledger::put_schedule(&db, schedule).await.unwrap();
    ledger::put_schedule(&db, schedule).await.unwrap();
    assert_eq!(ledger::schedules(&db).await.unwrap(), std::slice::from_ref(schedule));
    let tickers: Vec<Ticker> = (0..1000).map(|n| Ticker::new(Exchange::Nasdaq, &format!("T{n}")).unwrap()).collect();
    workflows::stores::tickers::add(&db, &tickers, now()).await.unwrap();
    workflows::stores::tickers::add(&db, &[Ticker::new(Exchange::Nepse, "NABIL").unwrap()], now()).await.unwrap();
    let make = |ticker| NewRun { ticker, schedule: Some(schedule.id.clone()), ..new_run("X") };
    let replicas = (0..4).map(|_| ledger::try_tick(&db, schedule, session(), now(), make));
    let won: Vec<usize> =
        futures::future::join_all(replicas).await.into_iter().filter_map(|r| r.unwrap()).map(|s| s.len()).collect();
    assert_eq!(won, [1000]);
    assert_eq!(ledger::last_tick(&db, &schedule.id).await.unwrap(), Some(session()));
    assert_eq!(ledger::open_runs(&db).await.unwrap(), 1000);
    assert_eq!(ledger::queue_depths(&db).await.unwrap(), [("scrape".to_string(), "ready".to_string(), 1000)]);
}

async fn lists_page_through_all_runs(db: Db) {
    let runs: Vec<NewRun> = (0..25).map(|n| new_run(&format!("T{n}"))).collect();
    ledger::start(&db, &runs, now()).await.unwrap();
    let (mut seen, mut filter) =
        (Vec::new(), RunFilter { states: vec!["queued".into(), "running".into()], ..RunFilter::default() });
    loop {
        let page = ledger::list_runs(&db, &filter, 10).await.unwrap();
        let Some(last) = page.last() else { break };
        filter.before = Some(last.id);
        seen.extend(page.into_iter().map(|r| r.id));
    }
    let mut expected: Vec<Uuid> = runs.iter().map(|r| r.id).collect();
    expected.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(seen, expected);
    let one = RunFilter {
        exchange: Some("NASDAQ".into()),
        ticker: Some("T7".into()),
        session: Some(session()),
        ..RunFilter::default()
    };
    assert_eq!(ledger::list_runs(&db, &one, 10).await.unwrap().len(), 1);
}

async fn a_repeat_begins_at_its_step(db: Db) {
    let first = started(&db, "AAPL").await;
    let again = NewRun { repeats: Some((first, Step::Cache)), ..new_run("AAPL") };
    let run = ledger::start(&db, &[again], now()).await.unwrap()[0].id;
    assert_eq!(states(&db, run).await.1, ["skipped", "skipped", "ready", "waiting", "waiting"]);
    assert_eq!(due(&db, Step::Cache, now()).await.len(), 1);
    assert_eq!(ledger::get_run(&db, run).await.unwrap().unwrap().0.lineage, Some(first));
}

async fn migrating_twice_changes_nothing(db: Db) {
    assert_eq!(db.missing_migrations().await.unwrap(), 0);
    db.migrate().await.unwrap();
    db.read_clock().await.unwrap();
    let before = db.now();
    db.read_clock().await.unwrap();
    assert!(db.now() - before < TimeDelta::seconds(30), "the clock is measured, not invented");
}
