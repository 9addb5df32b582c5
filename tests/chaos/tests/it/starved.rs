//! A worker that hardly gets a core for ten seconds keeps its steps: its connection says that it lives, and its leases are renewed by a thread
//! that needs almost nothing.

use crate::processes::waited_s;
use chaos::books::Books;
use chaos::now_us;
use product_tests::process::Program;
use product_tests::{eventually, servers};
use sqlx::PgPool;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use workflows::Db;

const STARVED: Duration = Duration::from_secs(10);
const LIMIT: Duration = Duration::from_secs(120);
/// Threads that want every core, for each core.
const HOGS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_starved_of_its_cores_for_ten_seconds_keeps_its_steps() {
    let (Some(database), Some(redis)) = (servers::postgres().await, servers::redis().await) else { return };
    let db = Db::postgres(database.url(), 2).unwrap();
    db.migrate().await.unwrap();
    db.close().await;
    let pool = database.pool().await;
    // For one lease after its start nobody is taken back, and this test would show nothing.
    eventually("a server that is up for a lease", LIMIT, || async {
        let up = "select now() - pg_postmaster_start_time() > interval '21 seconds'";
        sqlx::query_scalar::<_, bool>(up).fetch_one(&pool).await.ok()?.then_some(())
    })
    .await;

    let (_books, ledger) = Books::open().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let node = |program: Program, role: &str, name: &str| {
        let until_us = now_us() + 6_000_000;
        program
            .args(["--role", role, "--name", name, "--database-url", database.url(), "--redis-url", &redis.url()])
            .args(["--ledger", &ledger.to_string(), "--rate", "40", "--from-us", &now_us().to_string()])
            .args(["--until-us", &until_us.to_string(), "--folder", &folder.path().display().to_string()])
            .spawn()
    };
    let path = env!("CARGO_BIN_EXE_chaos-node");
    // Politer than everybody, so that the hogs leave it next to nothing.
    let mut worker = node(Program::new("nice").args(["-n", "19", path]), "worker", "w1.1");
    let mut scheduler = node(Program::new(path), "scheduler", "s1.1");
    eventually("steps that end", LIMIT, || async {
        (count(&pool, "select count(*) from attempt where outcome = 'done'").await > 20).then_some(())
    })
    .await;

    let before_s = waited_s(worker.id());
    let over = Arc::new(AtomicBool::new(false));
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    let hogs: Vec<_> = (0..HOGS * cores)
        .map(|_| {
            let over = over.clone();
            std::thread::spawn(move || while !over.load(Ordering::Relaxed) {})
        })
        .collect();
    let mut held = 0;
    for _ in 0..10 {
        tokio::time::sleep(STARVED / 10).await;
        held = held.max(count(&pool, "select count(*) from step where state = 'running'").await);
    }
    let waited = waited_s(worker.id()) - before_s;
    over.store(true, Ordering::Relaxed);
    hogs.into_iter().for_each(|hog| hog.join().unwrap());
    println!("it held {held} steps; its threads waited {waited:.1} s for a core");
    assert!(held > 0, "it held steps while it was starved");
    assert!(waited == 0.0 || waited > STARVED.as_secs_f64() / 2.0, "it was starved: {waited}");

    eventually("the end of every run", LIMIT, || async {
        (count(&pool, "select count(*) from run where state in ('queued', 'running')").await == 0).then_some(())
    })
    .await;
    assert!(worker.is_running() && scheduler.is_running());
    assert!(count(&pool, "select count(*) from run where state = 'succeeded'").await > 100);
    assert_eq!(count(&pool, "select count(*) from run where state <> 'succeeded'").await, 0);
    assert_eq!(
        count(&pool, "select count(*) from attempt where outcome <> 'done'").await,
        0,
        "none was lost or fenced"
    );
    assert_eq!(count(&pool, "select max(epoch) from step").await, 1);
    pool.close().await;
}

async fn count(pool: &PgPool, statement: &'static str) -> i64 {
    sqlx::query_scalar(statement).fetch_one(pool).await.unwrap()
}
