//! The ledger's promises about many runs together: plans, waiting, pausing, leading, versions; on PostgreSQL, SQLite and in memory.

use crate::both::on_all;
use crate::conformance::{attempts, claim_at, due, end, ending, new_run, now, of_plan, started, states, try_end};
use chrono::{DateTime, TimeDelta, Utc};
use market::{Exchange, Ticker};
use uuid::Uuid;
use workflows::db::StoreError;
use workflows::ledger::{Ending, NewRun};
use workflows::plan::{DELIVER, DIGEST, SETTLE, Step, TICKER};
use workflows::{Effect, Ledger, Outcome, Subject};

on_all!(
    every_plan_is_carried_out,
    one_fenced_ending_does_not_spoil_the_others,
    the_runs_of_a_subject_follow_one_another,
    a_cancelled_run_lets_the_next_one_begin,
    a_step_waits_for_a_condition_or_its_deadline,
    what_is_paused_is_set_aside_and_comes_back,
    one_process_leads_at_a_time,
    a_plan_of_a_newer_version_is_left_alone,
    what_a_newer_program_left_stands_in_nobodys_way,
    a_clock_that_jumps_loses_nothing,
);

/// Carries out the next step of every run that has one, until nothing is ready.
async fn carry_out_all(ledger: &Ledger, outcome: impl Fn(Step) -> Outcome) -> Vec<(Uuid, Step)> {
    let mut seen = Vec::new();
    for round in 0..50 {
        let at = now() + TimeDelta::minutes(round * 10);
        ledger.release(at, 100).await.unwrap();
        ledger.unsend(at).await.unwrap();
        let room: Vec<_> = ledger.unsent_queues().await.unwrap().into_iter().map(|queue| (queue, 100)).collect();
        let messages = ledger.take_due(&room, at).await.unwrap();
        let claims =
            ledger.claim(&messages, Uuid::from_u128(1), "test", at, at + TimeDelta::seconds(20)).await.unwrap();
        let endings: Vec<Ending> =
            claims.iter().flatten().map(|claim| ending(claim, outcome(claim.step), &[])).collect();
        seen.extend(endings.iter().map(|ending| (ending.claim.run, ending.claim.step)));
        for completed in ledger.complete(&endings, at).await.unwrap() {
            completed.unwrap();
        }
        if ledger.open_runs().await.unwrap() == 0 {
            break;
        }
    }
    seen
}

fn done(_: Step) -> Outcome {
    Outcome::Done("ok".into())
}

async fn every_plan_is_carried_out(ledger: Ledger) {
    let runs = [
        new_run("AAPL"),
        of_plan(&SETTLE, Subject::Exchange(Exchange::Nepse)),
        of_plan(&DIGEST, Subject::Other("chat 7 of 2024-03-05".into())),
        of_plan(&DELIVER, Subject::Other("message 12".into())),
    ];
    ledger.start(&runs, now()).await.unwrap();
    let seen = carry_out_all(&ledger, done).await;
    assert_eq!(seen.len(), 5 + 1 + 2 + 1);
    for run in &runs {
        let (row, steps, _) = ledger.get_run(run.id).await.unwrap().unwrap();
        assert_eq!((row.state.as_str(), row.subject.clone()), ("succeeded", run.subject.to_string()));
        assert_eq!(steps.len(), run.plan.steps.len());
    }
    // A plan without a closing step ends at once when a step fails: what was not written is not sent.
    let digest = of_plan(&DIGEST, Subject::Other("chat 8".into()));
    ledger.start(std::slice::from_ref(&digest), now()).await.unwrap();
    let seen = carry_out_all(&ledger, |_| Outcome::GiveUp("no such chat".into())).await;
    assert_eq!(seen, [(digest.id, Step::Digest)]);
    assert_eq!(states(&ledger, digest.id).await, ("failed".into(), vec!["failed".into(), "skipped".into()]));
}

async fn one_fenced_ending_does_not_spoil_the_others(ledger: Ledger) {
    ledger.start(&[new_run("AAPL"), new_run("MSFT")], now()).await.unwrap();
    let messages = due(&ledger, Step::Scrape, now()).await;
    let claims =
        ledger.claim(&messages, Uuid::from_u128(1), "test", now(), now() + TimeDelta::seconds(20)).await.unwrap();
    let [one, other] = claims.into_iter().flatten().collect::<Vec<_>>().try_into().unwrap();
    ledger.cancel(other.run, "asked for", now()).await.unwrap().unwrap();
    let both = [
        ending(&other, done(Step::Scrape), &[Effect::Remark("no".into())]),
        ending(&one, done(Step::Scrape), &[Effect::Remark("yes".into())]),
    ];
    let answers = ledger.complete(&both, now()).await.unwrap();
    assert!(matches!(answers[0], Err(StoreError::Fenced)), "{answers:?}");
    assert_eq!(answers[1].as_ref().unwrap().messages.len(), 1);
    for (run, reason) in [(one.run, "yes"), (other.run, "asked for")] {
        assert_eq!(ledger.get_run(run).await.unwrap().unwrap().0.reason.as_deref(), Some(reason));
    }
}

async fn the_runs_of_a_subject_follow_one_another(ledger: Ledger) {
    let (first, later, urgent) = (new_run("AAPL"), new_run("AAPL"), NewRun { priority: 10, ..new_run("AAPL") });
    ledger.start(&[first.clone(), later.clone()], now()).await.unwrap();
    ledger.start(std::slice::from_ref(&urgent), now()).await.unwrap();
    assert_eq!(states(&ledger, later.id).await.1[0], "waiting");
    let order: Vec<Uuid> = carry_out_all(&ledger, done)
        .await
        .into_iter()
        .filter(|(_, step)| *step == Step::Scrape)
        .map(|(run, _)| run)
        .collect();
    assert_eq!(order, [first.id, urgent.id, later.id], "one at a time; who is waited for goes first");
}

async fn a_cancelled_run_lets_the_next_one_begin(ledger: Ledger) {
    let (first, second) = (new_run("AAPL"), new_run("AAPL"));
    ledger.start(&[first.clone(), second.clone()], now()).await.unwrap();
    ledger.cancel(first.id, "asked for", now()).await.unwrap().unwrap();
    let seen = carry_out_all(&ledger, done).await;
    assert_eq!(seen[0], (first.id, Step::Cleanup));
    assert_eq!(states(&ledger, second.id).await.0, "succeeded");
    // One that waits can be cancelled, too; then nobody waits for it.
    let [third, fourth] = [new_run("AAPL"), new_run("AAPL")];
    ledger.start(&[third.clone(), fourth.clone()], now()).await.unwrap();
    ledger.cancel(fourth.id, "asked for", now()).await.unwrap().unwrap();
    carry_out_all(&ledger, done).await;
    assert_eq!(
        (states(&ledger, third.id).await.0.as_str(), states(&ledger, fourth.id).await.0.as_str()),
        ("succeeded", "cancelled")
    );
}

async fn a_step_waits_for_a_condition_or_its_deadline(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let key = "session:NASDAQ:2024-03-05";
    let wait = || Outcome::Wait {
        reason: "the session is not complete".into(),
        condition: Some(key.into()),
        until: now() + TimeDelta::hours(1),
    };
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
    end(&ledger, &claim, wait(), &[]).await;
    assert_eq!(states(&ledger, run).await.1[0], "waiting");
    assert_eq!(attempts(&ledger, run).await, ["waited"]);
    assert_eq!(ledger.release(now() + TimeDelta::minutes(59), 10).await.unwrap(), 0);
    assert_eq!(ledger.meet(key, "0.0123", now()).await.unwrap(), "0.0123");
    assert_eq!(ledger.meet(key, "0.5", now()).await.unwrap(), "0.0123", "the first value stays");
    assert_eq!(ledger.condition(key).await.unwrap().as_deref(), Some("0.0123"));
    assert_eq!(ledger.release(now(), 10).await.unwrap(), 1);
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
    assert_eq!((claim.attempt, claim.epoch), (1, 2), "a wait is not an attempt");
    end(
        &ledger,
        &claim,
        Outcome::Wait {
            reason: "no token".into(),
            condition: Some("never".into()),
            until: now() + TimeDelta::hours(1),
        },
        &[],
    )
    .await;
    assert_eq!(ledger.release(now() + TimeDelta::minutes(59), 10).await.unwrap(), 0);
    assert_eq!(ledger.release(now() + TimeDelta::minutes(60), 10).await.unwrap(), 1, "its deadline");
}

async fn what_is_paused_is_set_aside_and_comes_back(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let other = started(&ledger, "MSFT").await;
    for (kind, value) in [("ticker", "NASDAQ:AAPL"), ("exchange", "NASDAQ"), ("step", "scrape")] {
        assert!(ledger.pause(kind, value, "maintenance", now()).await.unwrap());
        assert!(!ledger.pause(kind, value, "again", now()).await.unwrap());
        ledger.unsend(now() + TimeDelta::seconds(1)).await.unwrap();
        let messages = ledger.take_due(&[("scrape".into(), 10)], now()).await.unwrap();
        assert_eq!(messages.len(), 2);
        for message in &messages {
            let held_up = message.run == run || kind != "ticker";
            if held_up {
                assert!(claim_at(&ledger, message, Uuid::new_v4(), now()).await.is_none(), "{kind}");
                assert_eq!(states(&ledger, message.run).await.1[0], "waiting");
            }
        }
        assert_eq!(ledger.release(now() + TimeDelta::days(1), 10).await.unwrap(), 0, "{kind} is paused still");
        assert!(ledger.resume(kind, value).await.unwrap());
        assert!(!ledger.resume(kind, value).await.unwrap());
        assert!(ledger.release(now(), 10).await.unwrap() >= 1);
        assert_eq!(
            (states(&ledger, run).await.1[0].as_str(), states(&ledger, other).await.1[0].as_str()),
            ("ready", "ready")
        );
    }
    assert_eq!(carry_out_all(&ledger, done).await.len(), 10);
}

async fn one_process_leads_at_a_time(ledger: Ledger) {
    let [a, b] = [Uuid::new_v4(), Uuid::new_v4()];
    let reign = |at: DateTime<Utc>| at + TimeDelta::seconds(2);
    assert!(ledger.lead("duty", a, now(), reign(now())).await.unwrap());
    assert!(!ledger.lead("duty", b, now(), reign(now())).await.unwrap());
    let later = now() + TimeDelta::seconds(1);
    assert!(ledger.lead("duty", a, later, reign(later)).await.unwrap(), "it may go on");
    let after = now() + TimeDelta::seconds(4);
    assert!(ledger.lead("duty", b, after, reign(after)).await.unwrap(), "the former one is silent");
    ledger.step_down("duty", a).await.unwrap();
    assert!(!ledger.lead("duty", a, after, reign(after)).await.unwrap(), "only the holder steps down");
    ledger.step_down("duty", b).await.unwrap();
    assert!(ledger.lead("duty", a, after, reign(after)).await.unwrap());
}

async fn a_plan_of_a_newer_version_is_left_alone(ledger: Ledger) {
    static NEWER: workflows::plan::Plan = workflows::plan::Plan { version: 2, ..TICKER };
    let run = of_plan(&NEWER, Subject::Ticker(Ticker::parse("NASDAQ:AAPL").unwrap()));
    ledger.start(std::slice::from_ref(&run), now()).await.unwrap();
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    assert!(claim_at(&ledger, &message, Uuid::new_v4(), now()).await.is_none());
    let (row, steps, _) = ledger.get_run(run.id).await.unwrap().unwrap();
    assert_eq!((row.state.as_str(), steps[0].state.as_str(), steps[0].attempt), ("queued", "ready", 0));
    assert_eq!(
        due(&ledger, Step::Scrape, now() + TimeDelta::seconds(11)).await,
        [message],
        "it stays for a program that knows it"
    );
}

/// After a newer version was taken back, its runs are older than ours and more than a slice.
async fn what_a_newer_program_left_stands_in_nobodys_way(ledger: Ledger) {
    static NEWER: workflows::plan::Plan = workflows::plan::Plan { version: 2, ..TICKER };
    let newer = |n| of_plan(&NEWER, Subject::Ticker(Ticker::new(Exchange::Nasdaq, &format!("N{n}")).unwrap()));
    ledger.start(&(0..64).map(newer).collect::<Vec<_>>(), now()).await.unwrap();
    let later = now() + TimeDelta::seconds(1);
    let ours = new_run("OURS");
    ledger.start(std::slice::from_ref(&ours), later).await.unwrap();
    let mut held = Vec::new();
    for second in 1..5 {
        let at = now() + TimeDelta::seconds(second);
        let on_their_way: i64 = ledger.on_their_way().await.unwrap().iter().map(|(_, count)| *count).sum();
        let messages = ledger.take_due(&[(Step::Scrape.queue(0), 64 - on_their_way)], at).await.unwrap();
        let claims = ledger.claim(&messages, Uuid::from_u128(1), "old", at, at + TimeDelta::seconds(20)).await.unwrap();
        held.extend(claims.into_iter().flatten());
    }
    assert_eq!(held.iter().map(|claim| claim.run).collect::<Vec<_>>(), [ours.id]);
}

async fn a_clock_that_jumps_loses_nothing(ledger: Ledger) {
    let run = started(&ledger, "AAPL").await;
    let message = due(&ledger, Step::Scrape, now()).await.remove(0);
    // The clock jumps a day ahead between claim and completion, and back again after it.
    let claim = claim_at(&ledger, &message, Uuid::new_v4(), now()).await.unwrap();
    let ahead = now() + TimeDelta::days(1);
    let next = try_end(&ledger, ending(&claim, done(Step::Scrape), &[]), ahead).await.unwrap().messages.remove(0);
    assert!(
        claim_at(&ledger, &next, Uuid::new_v4(), now()).await.is_some(),
        "a message on its way is claimed whatever the clock says"
    );
    assert_eq!(states(&ledger, run).await.1[1], "running");
}
