//! The whole engine with bodies that count what they do: runs end, effects are applied once, faults heal. On SQLite with the memory queue
//! and on PostgreSQL with Redis.

use crate::both::{self, Fresh};
use async_trait::async_trait;
use market::{Exchange, Ticker};
use product_tests::servers::{self, RedisDb};
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workflows::clock::FixedClock;
use workflows::engine::Bodies;
use workflows::ledger::{Abandoned, RunRow};
use workflows::plan::Step;
use workflows::queue::{MemoryQueue, Queue, RedisQueue};
use workflows::reconciler::{self, reconcile};
use workflows::{Attempt, Effect, Engine, EngineSettings, Report, StepBody};

/// A body that fails as told, and counts.
#[derive(Default)]
struct Toy {
    calls: Mutex<HashMap<(Uuid, Step), usize>>,
    /// Which call of which step of every run misbehaves, and how.
    fault: Option<(Step, usize, Fault)>,
    running: AtomicUsize,
    most: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Fault {
    Retry,
    Panic,
    GiveUp,
    NoNewSession,
}

#[async_trait]
impl StepBody for Toy {
    async fn run(&self, attempt: &Attempt) -> Report {
        let claim = &attempt.claim;
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(running, Ordering::SeqCst);
        tokio::task::yield_now().await;
        self.running.fetch_sub(1, Ordering::SeqCst);
        let call = {
            let mut calls = self.calls.lock().unwrap();
            let call = calls.entry((claim.run, claim.step)).or_default();
            *call += 1;
            *call
        };
        match self.fault {
            Some((step, nth, fault)) if step == claim.step && nth == call => match fault {
                Fault::Retry => Report::retry("transport", "told to", None),
                Fault::Panic => panic!("told to"),
                Fault::GiveUp => Report::give_up("told to"),
                Fault::NoNewSession => {
                    Report { outcome: workflows::Outcome::NoNewSession("told to".into()), effects: vec![] }
                }
            },
            _ => Report::done("ok", vec![Effect::Remark("written once".into())]),
        }
    }
}

struct Rig {
    engine: Arc<Engine>,
    toy: Arc<Toy>,
    stop: CancellationToken,
    redis: Option<RedisDb>,
    _fresh: Fresh,
}

impl Rig {
    fn start(fresh: Fresh, redis: Option<RedisDb>, fault: Option<(Step, usize, Fault)>) -> Self {
        let queue: Arc<dyn Queue> = match &redis {
            Some(server) => Arc::new(RedisQueue::new(&server.url(), "rig").unwrap()),
            None => Arc::new(MemoryQueue::default()),
        };
        let settings = EngineSettings {
            reconcile_every: Duration::from_millis(50),
            resend_after: Duration::from_millis(500),
            ..EngineSettings::default()
        };
        let engine = Engine::new(fresh.ledger(), queue, Arc::new(FixedClock::default()), settings);
        let toy = Arc::new(Toy { fault, ..Toy::default() });
        let rig = Self { engine, toy, stop: CancellationToken::new(), redis, _fresh: fresh };
        rig.run();
        rig
    }

    fn run(&self) {
        let bodies: Arc<Bodies> =
            Arc::new(Step::of_the_chain().map(|s| (s, self.toy.clone() as Arc<dyn StepBody>)).collect());
        tokio::spawn(self.engine.clone().work(bodies, |_| 4, self.stop.clone(), Duration::from_secs(5)));
        tokio::spawn(reconcile(self.engine.clone(), self.stop.clone()));
        let (keeper, stop) = (self.engine.clone(), self.stop.clone());
        tokio::spawn(async move { workflows::keep(&keeper, stop).await });
        let (queue, stop) = (self.engine.queue.clone(), self.stop.clone());
        tokio::spawn(async move { queue.listen(stop).await });
    }

    async fn start_runs(&self, count: usize) -> Vec<Uuid> {
        let runs: Vec<_> = (0..count)
            .map(|n| {
                self.engine.manual_run(
                    Ticker::new(Exchange::Nasdaq, &format!("T{n}")).unwrap(),
                    "2024-03-05".parse().unwrap(),
                    true,
                    None,
                )
            })
            .collect();
        self.engine.start(&runs).await.unwrap().into_iter().map(|s| s.id).collect()
    }

    async fn all_ended(&self) {
        let ended = async {
            while self.engine.ledger.open_runs().await.unwrap_or(1) > 0 {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), ended).await.expect("every run ends within 60 s");
    }

    async fn row(&self, run: Uuid) -> RunRow {
        self.engine.ledger.get_run(run).await.unwrap().unwrap().0
    }

    async fn end(self) {
        self.stop.cancel();
        self._fresh.db.close().await;
    }
}

async fn embedded(fault: Option<(Step, usize, Fault)>) -> Option<Rig> {
    Some(Rig::start(both::sqlite().await?, None, fault))
}

async fn production(fault: Option<(Step, usize, Fault)>) -> Option<Rig> {
    let (fresh, redis) = (both::postgres().await?, servers::redis().await?);
    Some(Rig::start(fresh, Some(redis), fault))
}

macro_rules! on_both_engines {
    ($($name:ident ($fault:expr) $body:expr;)+) => {
        mod on_sqlite_and_memory { use super::*; $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { if let Some(rig) = embedded($fault).await { $body(rig).await } })+ }
        mod on_postgres_and_redis { use super::*; $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)] async fn $name() { if let Some(rig) = production($fault).await { $body(rig).await } })+ }
    };
}

on_both_engines! {
    many_runs_end_with_each_step_done_once(None) every_step_once;
    a_retry_repeats_only_its_step(Some((Step::Cleanup, 1, Fault::Retry))) one_more_call;
    a_panic_is_a_failed_attempt(Some((Step::Cleanup, 1, Fault::Panic))) one_more_call;
    giving_up_fails_the_run(Some((Step::Finetune, 1, Fault::GiveUp))) gives_up;
    a_closed_day_ends_the_run(Some((Step::Scrape, 1, Fault::NoNewSession))) closes_early;
}

async fn every_step_once(rig: Rig) {
    let runs = rig.start_runs(60).await;
    rig.all_ended().await;
    for run in runs {
        let (row, steps, attempts) = rig.engine.ledger.get_run(run).await.unwrap().unwrap();
        assert_eq!((row.state.as_str(), row.reason.as_deref()), ("succeeded", Some("written once")));
        assert!(steps.iter().all(|s| s.state == "done" && s.attempt == 1 && s.epoch == 1), "{steps:?}");
        assert_eq!(attempts.len(), 5);
    }
    assert!(rig.toy.calls.lock().unwrap().values().all(|calls| *calls == 1));
    assert!(rig.toy.most.load(Ordering::SeqCst) <= 20, "4 slots for each of 5 steps");
    rig.end().await;
}

async fn one_more_call(rig: Rig) {
    let run = rig.start_runs(1).await[0];
    rig.all_ended().await;
    assert_eq!(rig.row(run).await.state, "succeeded");
    let calls = rig.toy.calls.lock().unwrap().clone();
    assert_eq!((calls[&(run, Step::Archive)], calls[&(run, Step::Cleanup)]), (1, 2));
    rig.end().await;
}

async fn gives_up(rig: Rig) {
    let run = rig.start_runs(1).await[0];
    rig.all_ended().await;
    let row = rig.row(run).await;
    assert_eq!(row.state, "failed");
    let (_, steps, _) = rig.engine.ledger.get_run(run).await.unwrap().unwrap();
    assert_eq!(steps[1].error.as_deref(), Some("told to"));
    assert!(!rig.toy.calls.lock().unwrap().contains_key(&(run, Step::Cache)));
    let again = rig.engine.rerun(run, None, None).await.unwrap().unwrap();
    rig.all_ended().await;
    let row = rig.row(again.id).await;
    assert_eq!((row.state.as_str(), row.lineage), ("failed", Some(run)));
    assert!(
        rig.toy.calls.lock().unwrap().contains_key(&(again.id, Step::Scrape)),
        "its bars were never archived and their staging is gone: they are fetched again"
    );
    let by_hand = rig.engine.rerun(run, Some(Step::Finetune), None).await.unwrap().unwrap();
    rig.all_ended().await;
    assert_eq!(rig.row(by_hand.id).await.lineage, Some(run));
    assert!(!rig.toy.calls.lock().unwrap().contains_key(&(by_hand.id, Step::Scrape)), "it began where it was told to");
    // Asked for again under its key, it is the same run.
    let keyed = async || rig.engine.rerun(run, None, Some("rerun:key".to_owned())).await.unwrap().unwrap();
    let (first, same) = (keyed().await, keyed().await);
    assert_eq!((first.created, same.created, same.id), (true, false, first.id));
    assert!(rig.engine.rerun(Uuid::new_v4(), None, None).await.unwrap().is_none());
    rig.end().await;
}

async fn closes_early(rig: Rig) {
    let run = rig.start_runs(1).await[0];
    rig.all_ended().await;
    assert_eq!(rig.row(run).await.state, "no_new_session");
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flushed_redis_loses_no_run_and_repeats_no_effect() {
    let Some(rig) = production(None).await else { return };
    let runs = rig.start_runs(300).await;
    // Flushed again and again, while the runs are on their way.
    let mut flushes = 0;
    while rig.engine.ledger.open_runs().await.unwrap() > 0 && flushes < 5 {
        tokio::time::sleep(Duration::from_millis(150)).await;
        rig.redis.as_ref().unwrap().flush_all().await;
        flushes += 1;
    }
    assert!(flushes > 1, "the runs were over before Redis could be flushed twice");
    rig.all_ended().await;
    for run in runs {
        let (row, steps, _) = rig.engine.ledger.get_run(run).await.unwrap().unwrap();
        assert_eq!(row.state, "succeeded");
        assert!(steps.iter().all(|s| s.state == "done"));
    }
    assert!(
        rig.toy.calls.lock().unwrap().values().all(|calls| *calls == 1),
        "no step ran twice, for none lost its lease"
    );
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_redis_is_survived() {
    let Some(mut rig) = production(None).await else { return };
    rig.start_runs(100).await;
    rig.redis.as_mut().unwrap().kill9();
    tokio::time::sleep(Duration::from_millis(500)).await;
    rig.start_runs(10).await;
    rig.redis.as_mut().unwrap().restart().await;
    rig.all_ended().await;
    assert!(rig.toy.calls.lock().unwrap().values().all(|calls| *calls == 1));
    rig.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_embedded_program_takes_back_what_its_former_self_held() {
    let Some(fresh) = both::sqlite().await else { return };
    let now = fresh.db.now();
    let engine = |queue| Engine::new(fresh.ledger(), queue, Arc::new(FixedClock::default()), EngineSettings::default());
    let former = engine(Arc::new(MemoryQueue::default()));
    let run = former.manual_run(Ticker::parse("NASDAQ:AAPL").unwrap(), "2024-03-05".parse().unwrap(), true, None);
    former.start(std::slice::from_ref(&run)).await.unwrap();
    // Its message went to a queue that nobody reads.
    former.ledger.unsend(now + chrono::TimeDelta::seconds(5)).await.unwrap();
    let messages =
        former.ledger.take_due(&[(Step::Scrape.queue(10), 1)], now + chrono::TimeDelta::seconds(5)).await.unwrap();
    let claims = former
        .ledger
        .claim(&messages, former.instance, "former", now, now + chrono::TimeDelta::hours(1))
        .await
        .unwrap();
    assert!(claims[0].is_some());
    // It is killed here, with an hour left on the lease. The next process does not wait for it.
    let next = engine(Arc::new(MemoryQueue::default()));
    let taken = reconciler::reclaim(&next, Abandoned::NotOf(next.instance)).await.unwrap();
    assert_eq!(taken, 1);
    let (_, steps, attempts) = next.ledger.get_run(run.id).await.unwrap().unwrap();
    assert_eq!((steps[0].state.as_str(), steps[0].generation), ("ready", 2));
    assert_eq!(attempts[0].outcome, "lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leases_are_renewed_while_a_body_works_and_lapse_when_nobody_does() {
    let Some(fresh) = both::sqlite().await else { return };
    struct Slow;
    #[async_trait]
    impl StepBody for Slow {
        async fn run(&self, _: &Attempt) -> Report {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            Report::done("slow", vec![])
        }
    }
    let settings = EngineSettings {
        lease: Duration::from_millis(400),
        reconcile_every: Duration::from_millis(50),
        ..EngineSettings::default()
    };
    let engine =
        Engine::new(fresh.ledger(), Arc::new(MemoryQueue::default()), Arc::new(FixedClock::default()), settings);
    let stop = CancellationToken::new();
    let thread = workflows::keep_leases(&engine, stop.clone()).unwrap();
    let bodies: Arc<Bodies> =
        Arc::new(Step::of_the_chain().map(|s| (s, Arc::new(Slow) as Arc<dyn StepBody>)).collect());
    tokio::spawn(engine.clone().work(bodies, |_| 1, stop.clone(), Duration::from_secs(5)));
    tokio::spawn(reconcile(engine.clone(), stop.clone()));
    let run = engine.manual_run(Ticker::parse("NASDAQ:AAPL").unwrap(), "2024-03-05".parse().unwrap(), true, None);
    engine.start(std::slice::from_ref(&run)).await.unwrap();
    let ended = async {
        while engine.ledger.open_runs().await.unwrap() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the run ends");
    let (row, _, attempts) = engine.ledger.get_run(run.id).await.unwrap().unwrap();
    assert_eq!(row.state, "succeeded");
    assert_eq!(attempts.len(), 5, "no step was taken from its worker: {attempts:?}");
    stop.cancel();
    tokio::task::spawn_blocking(move || thread.join().unwrap()).await.unwrap();
}
