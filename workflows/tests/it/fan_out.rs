//! A whole market is due in the same second: its runs are started and sent in slices, whatever step is the slow one, and work goes on
//! meanwhile.

use crate::both::{self, Fresh};
use crate::rig::{Process, Toy, Watched, memory_kb};
use market::{Exchange, Ticker};
use product_tests::{eventually, servers};
use std::sync::Arc;
use std::time::{Duration, Instant};
use workflows::ledger::{CatchUp, Overlap, ScheduleRow};
use workflows::plan::{Step, TICKER};
use workflows::queue::{MemoryQueue, Queue, RedisQueue};
use workflows::{ledger, scheduler};

/// Slots of each step.
const SLOTS: usize = 4;
/// A queue whose workers have few slots holds at most so many messages.
const SLICE: usize = 64;
/// What a process may need for the whole of it, far below what the runs themselves would take.
const ROOM_KB: u64 = 150_000;
/// Waiting for a sign on a loaded machine.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_thousand_runs_on_sqlite() {
    if let Some(fresh) = both::sqlite().await {
        a_market_is_due(fresh, Arc::new(MemoryQueue::default()), 100_000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_thousand_runs_on_postgresql() {
    on_postgresql(20_000).await;
}

/// The whole market on PostgreSQL takes a minute: `scripts/test.sh --run-ignored only -E 'test(a_hundred_thousand_runs_on_postgresql)'`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes a minute"]
async fn a_hundred_thousand_runs_on_postgresql() {
    on_postgresql(100_000).await;
}

async fn on_postgresql(tickers: usize) {
    let (Some(fresh), Some(redis)) = (both::postgres().await, servers::redis().await) else { return };
    a_market_is_due(fresh, Arc::new(RedisQueue::new(&redis.url(), "market").unwrap()), tickers).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_that_are_started_one_by_one_keep_to_the_slice() {
    let Some(fresh) = both::sqlite().await else { return };
    let toy = Toy::holding(&[Step::Scrape]);
    let watched = Watched::new(Arc::new(MemoryQueue::default()));
    let process = Process::start("busy", fresh.ledger(), Arc::new(watched.clone()), &toy, &[(Step::Scrape, SLOTS)]);
    for n in 0..300 {
        let ticker = Ticker::new(Exchange::Nasdaq, &format!("T{n}")).unwrap();
        let run = process.engine.manual_run(ticker, "2024-03-05".parse().unwrap(), true, None);
        process.engine.start(&[run]).await.unwrap();
    }
    eventually("what runs", LIMIT, || async { (toy.begun(Step::Scrape) == SLOTS).then_some(()) }).await;
    let most = watched.most();
    assert!(most["scrape_now"] >= SLOTS && most.values().all(|most| *most <= SLICE + SLOTS), "{most:?}");
    toy.open_the_gate(Step::Scrape);
    eventually("all of them", LIMIT, || async { (toy.begun(Step::Scrape) == 300).then_some(()) }).await;
    process.stop().await;
    fresh.db.close().await;
}

async fn a_market_is_due(fresh: Fresh, carrier: Arc<dyn Queue>, tickers: usize) {
    let db = fresh.db.clone();
    if db.is_postgres() {
        ledger::ensure_partitions(&db, db.now()).await.unwrap();
    }
    let names: Vec<Ticker> = (0..tickers).map(|n| Ticker::new(Exchange::Nasdaq, &format!("T{n}")).unwrap()).collect();
    for names in names.chunks(5_000) {
        workflows::stores::tickers::add(&db, names, db.now()).await.unwrap();
    }
    drop(names);
    let schedule = ScheduleRow {
        id: "market".to_owned(),
        exchange: Exchange::Nasdaq,
        plan: TICKER.name.to_owned(),
        local_time: "18:15:00".parse().unwrap(),
        catch_up: CatchUp::Latest,
        overlap: Overlap::QueueOne,
        paused: true,
    };
    fresh.ledger().add_schedule(&schedule).await.unwrap();
    assert!(fresh.ledger().open_tick("market", "2024-03-05".parse().unwrap(), false, "due", db.now()).await.unwrap());

    // Training is slow: it does not go on at all while the market is being fetched.
    let toy = Toy::holding(&[Step::Finetune]);
    let watched = Watched::new(carrier);
    let slots: Vec<(Step, usize)> = Step::of_the_chain().map(|step| (step, SLOTS)).collect();
    let process = Process::start("market", fresh.ledger(), Arc::new(watched.clone()), &toy, &slots);
    let before_kb = memory_kb("VmRSS");
    let began = Instant::now();
    let engine = process.engine.clone();
    let firing = tokio::spawn(async move { scheduler::look(&engine, true).await });
    eventually("steps that end while the market is started", LIMIT, || async {
        (toy.begun(Step::Scrape) >= 100).then_some(())
    })
    .await;
    firing.await.unwrap().unwrap();
    let fired_s = began.elapsed().as_secs_f64();
    let meanwhile = toy.begun(Step::Scrape);
    assert_eq!(process.engine.ledger.open_runs().await.unwrap(), i64::try_from(tickers).unwrap());

    // Twenty slices are fetched, and wait for training.
    let (from, at) = (toy.begun(Step::Scrape), Instant::now());
    let enough = from + 20 * SLICE;
    eventually("fetched tickers", LIMIT, || async { (toy.begun(Step::Scrape) >= enough).then_some(()) }).await;
    let fetched_per_s = (toy.begun(Step::Scrape) - from) as f64 / at.elapsed().as_secs_f64();
    toy.open_the_gate(Step::Finetune);
    let (from, at) = (toy.all_begun(), Instant::now());
    let trained = toy.begun(Step::Cleanup) + 500;
    eventually("whole runs", LIMIT, || async { (toy.begun(Step::Cleanup) >= trained).then_some(()) }).await;
    let steps_per_s = (toy.all_begun() - from) as f64 / at.elapsed().as_secs_f64();

    let (most, peak_kb) = (watched.most(), memory_kb("VmHWM"));
    println!(
        "{tickers} runs started in {fired_s:.1} s, {meanwhile} tickers fetched meanwhile; then {fetched_per_s:.0} per second, and {steps_per_s:.0} steps \
         per second; queues held at most {most:?}; memory {before_kb} kB before, {peak_kb} kB at most"
    );
    // What is just being completed while the reconciler counts may come on top.
    assert!(most.values().all(|most| *most <= SLICE + SLOTS), "no queue holds more than its slice: {most:?}");
    assert!(peak_kb < before_kb + ROOM_KB, "{before_kb} kB before, {peak_kb} kB at most");
    assert!(toy.calls().values().all(|calls| *calls == 1), "no step runs twice");
    process.stop().await;
    db.close().await;
}
