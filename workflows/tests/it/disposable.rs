//! Redis is disposable, also in the middle of a big night: killed or flushed while 10,000 runs are pending and 100 running, it comes back, what ran
//! runs on, and the rest follows in slices.

use crate::both;
use crate::conformance::of_plan;
use crate::rig::{Process, Toy, Watched};
use product_tests::{eventually, servers};
use std::sync::Arc;
use std::time::{Duration, Instant};
use uuid::Uuid;
use workflows::ledger::{self, NewRun};
use workflows::plan::{DELIVER, Plan, Step, TICKER};
use workflows::queue::RedisQueue;
use workflows::subject::Subject;

/// Runs that are pending: of one step each, so that all of them can end in a test's time.
const PENDING: usize = 10_000;
/// Runs that are in their first step when Redis goes away.
const RUNNING: usize = 100;
/// Pending ones that are done before and after each fault.
const SOME: usize = 800;
/// Four messages for each slot of a worker that can carry out so many at a time.
const SLICE: usize = 4 * RUNNING;
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_killed_or_flushed_under_ten_thousand_runs_loses_nothing() {
    let (Some(fresh), Some(mut redis)) = (both::postgres().await, servers::redis().await) else { return };
    ledger::ensure_partitions(&fresh.db, fresh.db.now()).await.unwrap();
    let toy = Toy::holding(&[Step::Scrape, Step::Cache]);
    let watched = Watched::new(Arc::new(RedisQueue::new(&redis.url(), "night").unwrap()));
    let mut slots: Vec<(Step, usize)> = Step::of_the_chain().map(|step| (step, RUNNING)).collect();
    slots.push((Step::Deliver, 20));
    let process = Process::start("night", fresh.ledger(), Arc::new(watched.clone()), &toy, &slots);

    let running = start(&process, &TICKER, RUNNING, |n| Subject::read(TICKER.subject, &format!("NASDAQ:R{n}"))).await;
    eventually("what runs", LIMIT, || async { (toy.begun(Step::Scrape) == RUNNING).then_some(()) }).await;
    let pending = start(&process, &DELIVER, PENDING, |n| Subject::read(DELIVER.subject, &format!("message-{n}"))).await;
    let rate = done(&toy, SOME).await;
    println!("{RUNNING} runs are running, {PENDING} pending; {rate:.0} steps per second");

    redis.kill9();
    // What runs goes on without Redis; its next steps cannot be sent.
    toy.open_the_gate(Step::Scrape);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(toy.begun(Step::Finetune), 0);
    let away = toy.begun(Step::Deliver);
    redis.restart().await;
    comes_back("killed", &toy, away, Step::Finetune).await;

    // And once more, with everything on its way forgotten.
    eventually("what runs", LIMIT, || async { (toy.begun(Step::Cache) == RUNNING).then_some(()) }).await;
    redis.flush_all().await;
    let flushed = toy.begun(Step::Deliver);
    assert!(flushed < PENDING - SOME, "everything was over before Redis could be flushed");
    toy.open_the_gate(Step::Cache);
    comes_back("flushed", &toy, flushed, Step::Archive).await;
    process.all_ended(LIMIT).await;

    let most = watched.most();
    println!("queues held at most {most:?}");
    // What is being taken up while everything is pushed again may come on top.
    assert!(most.values().all(|most| *most <= SLICE + RUNNING), "no queue holds more than its slice: {most:?}");
    assert!(toy.calls().values().all(|calls| *calls == 1), "no step ran twice, for none lost its lease");
    let calls = toy.calls();
    assert!(running.iter().all(|run| Step::of_the_chain().all(|step| calls.contains_key(&(*run, step)))));
    assert!(pending.iter().all(|run| calls.contains_key(&(*run, Step::Deliver))));
    let pool = sqlx::PgPool::connect_lazy(fresh.url()).unwrap();
    for (statement, expected) in [
        ("select count(*) from run where state = 'succeeded'", RUNNING + PENDING),
        ("select count(*) from effect", RUNNING * 5 + PENDING),
        ("select count(*) from attempt where outcome = 'done'", RUNNING * 5 + PENDING),
        ("select count(*) from attempt", RUNNING * 5 + PENDING),
    ] {
        let count: i64 = sqlx::query_scalar(statement).fetch_one(&pool).await.unwrap();
        assert_eq!(count, i64::try_from(expected).unwrap(), "{statement}");
    }
    pool.close().await;
    process.stop().await;
    fresh.db.close().await;
}

async fn start(
    process: &Process,
    plan: &'static Plan,
    count: usize,
    subject: impl Fn(usize) -> workflows::db::StoreResult<Subject>,
) -> Vec<Uuid> {
    let runs: Vec<NewRun> =
        (0..count).map(|n| NewRun { id: process.engine.new_run_id(), ..of_plan(plan, subject(n).unwrap()) }).collect();
    process.engine.start(&runs).await.unwrap().into_iter().map(|started| started.id).collect()
}

/// Waits until so many more of the pending are done; how many per second.
async fn done(toy: &Toy, more: usize) -> f64 {
    let (from, began) = (toy.begun(Step::Deliver), Instant::now());
    eventually("pending runs", LIMIT, || async { (toy.begun(Step::Deliver) >= from + more).then_some(()) }).await;
    (toy.begun(Step::Deliver) - from) as f64 / began.elapsed().as_secs_f64()
}

/// Measures from the return of Redis on.
async fn comes_back(what: &str, toy: &Toy, before: usize, next: Step) {
    let began = Instant::now();
    eventually("pending runs again", LIMIT, || async { (toy.begun(Step::Deliver) > before).then_some(()) }).await;
    let pending_s = began.elapsed().as_secs_f64();
    eventually("the next step of what ran", LIMIT, || async { (toy.begun(next) == RUNNING).then_some(()) }).await;
    let running_s = began.elapsed().as_secs_f64();
    let rate = done(toy, SOME).await;
    println!(
        "{what}: {RUNNING} runs went on within {running_s:.1} s of its return, pending ones within {pending_s:.1} s, then {rate:.0} steps per second"
    );
}
