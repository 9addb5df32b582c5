//! A change of version under load: an older and a newer program on one ledger and one Redis. A run keeps the version of the plan it began with,
//! and a program leaves alone what it does not know.

use crate::both::{self, Fresh};
use crate::conformance::{claim_at, due, new_run, now, of_plan};
use crate::rig::{Process, Toy};
use chrono::TimeDelta;
use market::{Exchange, Ticker};
use product_tests::{eventually, servers};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use workflows::Ledger;
use workflows::ledger::{Abandoned, NewRun};
use workflows::plan::{Plan, Plans, Step, TICKER};
use workflows::queue::RedisQueue;

/// The daily chain of a later version: it archives before it caches, and trains no more.
static NEWER: Plan =
    Plan { version: 2, steps: &[TICKER.steps[0], TICKER.steps[3], TICKER.steps[2], TICKER.steps[4]], ..TICKER };
/// What the newer program knows.
static BOTH: Plans = &[&TICKER, &NEWER];

const LIMIT: Duration = Duration::from_secs(90);

fn program(name: &str, fresh: &Fresh, redis_url: &str, plans: Plans, toy: &Arc<Toy>) -> Process {
    let ledger = Ledger::Sql(fresh.db.clone().knowing(plans));
    let slots: Vec<(Step, usize)> = Step::of_the_chain().map(|step| (step, 4)).collect();
    Process::start(name, ledger, Arc::new(RedisQueue::new(redis_url, "versions").unwrap()), toy, &slots)
}

async fn start(process: &Process, plan: &'static Plan, symbols: impl Iterator<Item = String>) -> Vec<Uuid> {
    let new = |symbol: String| NewRun {
        id: process.engine.new_run_id(),
        ..of_plan(plan, Ticker::new(Exchange::Nasdaq, &symbol).unwrap().into())
    };
    let runs: Vec<NewRun> = symbols.map(new).collect();
    process.engine.start(&runs).await.unwrap().into_iter().map(|started| started.id).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_change_of_version_loses_nothing() {
    let (Some(fresh), Some(redis)) = (both::postgres().await, servers::redis().await) else { return };
    let (of_old, of_new) = (Toy::new(), Toy::new());
    let old = program("old", &fresh, &redis.url(), &[&TICKER], &of_old);
    let mut first = start(&old, &TICKER, (0..400).map(|n| format!("A{n}"))).await;
    eventually("runs in the middle", LIMIT, || async { (of_old.all_begun() > 200).then_some(()) }).await;
    // Both work side by side, and both start runs, some of the same tickers.
    let new = program("new", &fresh, &redis.url(), BOTH, &of_new);
    let second = start(&new, &NEWER, (200..500).map(|n| format!("A{n}"))).await;
    first.extend(start(&old, &TICKER, (450..600).map(|n| format!("A{n}"))).await);
    eventually("both versions to be done by the newer program", LIMIT, || async {
        let calls = of_new.calls();
        let of = |runs: &[Uuid]| runs.iter().any(|run| calls.keys().any(|(done, _)| done == run));
        (of(&first) && of(&second)).then_some(())
    })
    .await;
    old.stop().await;
    new.all_ended(LIMIT).await;

    let (by_old, by_new) = (of_old.calls(), of_new.calls());
    let known: HashSet<Uuid> = first.iter().copied().collect();
    assert!(by_old.keys().all(|(run, _)| known.contains(run)), "the older program leaves the newer runs alone");
    for (runs, plan) in [(&first, &TICKER), (&second, &NEWER)] {
        for run in runs {
            let (row, steps, attempts) = new.engine.ledger.get_run(*run).await.unwrap().unwrap();
            assert_eq!((row.state.as_str(), row.plan_version), ("succeeded", plan.version), "{row:?}");
            let order: Vec<&str> = attempts.iter().map(|attempt| attempt.step.as_str()).collect();
            assert_eq!(order, plan.steps.iter().map(|policy| policy.step.as_str()).collect::<Vec<_>>());
            assert!(steps.iter().all(|step| step.state == "done" && step.epoch == 1), "{steps:?}");
            for policy in plan.steps {
                let key = (*run, policy.step);
                let times = by_old.get(&key).unwrap_or(&0) + by_new.get(&key).unwrap_or(&0);
                assert_eq!(times, 1, "{} of {run}", policy.step);
            }
        }
    }
    println!("{} steps by the older program, {} by the newer one", by_old.len(), by_new.len());
    new.stop().await;
    fresh.db.close().await;
}

both::on_both!(what_a_dead_newer_program_held_stands_in_nobodys_way);

async fn what_a_dead_newer_program_held_stands_in_nobodys_way(db: workflows::Db) {
    let newer = Ledger::Sql(db.clone().knowing(BOTH));
    let older = Ledger::Sql(db.clone());
    let run = of_plan(&NEWER, Ticker::new(Exchange::Nasdaq, "NEW").unwrap().into());
    newer.start(std::slice::from_ref(&run), now()).await.unwrap();
    let message = due(&newer, Step::Scrape, now()).await.remove(0);
    assert!(claim_at(&newer, &message, Uuid::from_u128(1), now()).await.is_some());
    let later = now() + TimeDelta::seconds(1);
    older.start(&[new_run("OURS")], later).await.unwrap();
    let message = due(&older, Step::Scrape, later).await.remove(0);
    assert!(claim_at(&older, &message, Uuid::from_u128(2), later).await.is_some());
    // Both have died; the newer one's lease ended first.
    let found = older.abandoned(&Abandoned::Lapsed, now() + TimeDelta::seconds(60), 1).await.unwrap();
    assert_eq!(found.iter().map(|claim| claim.run).collect::<Vec<_>>(), [message.run]);
    let all = newer.abandoned(&Abandoned::Lapsed, now() + TimeDelta::seconds(60), 10).await.unwrap();
    assert_eq!(all.len(), 2);
}
