//! A ledger of version 0.1.0, in the middle of its work, is brought up to date: nothing of it is lost, and its runs go on to their end.

use crate::conformance::ending;
use chrono::{DateTime, TimeDelta, Utc};
use product_tests::servers;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::collections::HashMap;
use std::path::Path;
use uuid::Uuid;
use workflows::ledger::{self, Abandoned, NewRun, RunFilter};
use workflows::plan::{Step, TICKER};
use workflows::{Db, Ledger, Outcome};

/// The snapshot: `id(n)` and `at(seconds)` are spelled by each database, `NO` is false. Run 1 is in its fine-tuning, held by a worker that is gone;
/// 2 and 3 are of one ticker and queued (0.1.0 let both go); 4 has ended; 5 failed and waits to be closed.
const SNAPSHOT: &str = "
insert into schedule (id, exchange, plan, local_time, catch_up, paused) values ('nasdaq-daily', 'NASDAQ', 'ticker', '18:15', 'latest', NO);
insert into tick (schedule_id, session, runs, created_at) values ('nasdaq-daily', '2024-03-04', 2, at(0));
insert into run (id, plan, exchange, ticker, session, aimed_session, schedule_id, priority, offline, idempotency_key, state, verdict, reason, created_at, started_at, finished_at) values
 (id(1), 'ticker', 'NASDAQ', 'AAPL', '2024-03-04', '2024-03-04', 'nasdaq-daily', 0, NO, null, 'running', null, null, at(0), at(1), null),
 (id(2), 'ticker', 'NASDAQ', 'MSFT', '2024-03-04', '2024-03-04', 'nasdaq-daily', 0, NO, null, 'queued', null, null, at(0), null, null),
 (id(3), 'ticker', 'NASDAQ', 'MSFT', '2024-03-04', '2024-03-04', null, 10, NO, 'api:tuesday', 'queued', null, null, at(2), null, null),
 (id(4), 'ticker', 'NEPSE', 'NABIL', '2024-03-03', '2024-03-03', null, 10, NO, null, 'succeeded', null, 'well', at(0), at(1), at(9)),
 (id(5), 'ticker', 'NEPSE', 'CIT', '2024-03-03', '2024-03-03', null, 0, NO, null, 'running', 'failed', 'scrape gave up', at(0), at(1), null);
insert into step (run_id, step, seq, queue, state, generation, attempt, max_attempts, epoch, due_at, sent_at, lease_owner, lease_until, note, error, finished_at) values
 (id(1), 'scrape', 0, 'scrape', 'done', 1, 1, 8, 1, at(0), null, null, null, 'ok', null, at(2)),
 (id(1), 'finetune', 1, 'finetune', 'running', 1, 1, 3, 1, at(2), null, id(99), at(20), null, null, null),
 (id(1), 'cache', 2, 'cache', 'waiting', 0, 0, 6, 0, at(0), null, null, null, null, null, null),
 (id(1), 'archive', 3, 'archive', 'waiting', 0, 0, 10, 0, at(0), null, null, null, null, null, null),
 (id(1), 'cleanup', 4, 'cleanup', 'waiting', 0, 0, 20, 0, at(0), null, null, null, null, null, null),
 (id(2), 'scrape', 0, 'scrape', 'ready', 1, 0, 8, 0, at(0), at(1), null, null, null, null, null),
 (id(2), 'finetune', 1, 'finetune', 'waiting', 0, 0, 3, 0, at(0), null, null, null, null, null, null),
 (id(3), 'scrape', 0, 'scrape_now', 'ready', 1, 0, 8, 0, at(2), null, null, null, null, null, null),
 (id(4), 'cleanup', 4, 'cleanup_now', 'done', 1, 1, 20, 1, at(8), null, null, null, 'ok', null, at(9)),
 (id(5), 'scrape', 0, 'scrape', 'failed', 1, 1, 8, 1, at(0), null, null, null, null, 'gone', at(3)),
 (id(5), 'finetune', 1, 'finetune', 'skipped', 0, 0, 3, 0, at(0), null, null, null, null, null, at(3)),
 (id(5), 'cleanup', 4, 'cleanup', 'ready', 1, 0, 20, 0, at(3), at(3), null, null, null, null, null);
insert into attempt (run_id, step, epoch, attempt, worker, started_at, finished_at, outcome, detail) values
 (id(1), 'scrape', 1, 1, 'old', at(1), at(2), 'done', 'ok'), (id(1), 'finetune', 1, 1, 'old', at(2), null, 'running', null),
 (id(4), 'cleanup', 1, 1, 'old', at(8), at(9), 'done', 'ok'), (id(5), 'scrape', 1, 1, 'old', at(1), at(3), 'failed', 'gone');
insert into effect (run_id, step, epoch, applied_at, detail) values (id(1), 'scrape', 1, at(2), 'ok')";

const BEGAN: i64 = 1_709_600_000;

fn id(n: u128) -> Uuid {
    Uuid::from_u128((0x018e_0000_0000_7000 << 64) | n)
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(BEGAN + seconds, 0).unwrap()
}

/// The snapshot in the words of one database.
fn spelled(postgres: bool) -> Vec<String> {
    let mut text = SNAPSHOT.replace(", NO", if postgres { ", false" } else { ", 0" });
    for n in [1, 2, 3, 4, 5, 99] {
        let hex = id(n).simple().to_string();
        text =
            text.replace(&format!("id({n})"), &if postgres { format!("'{hex}'::uuid") } else { format!("x'{hex}'") });
    }
    for seconds in 0..=20 {
        let instant = BEGAN + seconds;
        let said = if postgres { format!("to_timestamp({instant})") } else { format!("{instant}000000") };
        text = text.replace(&format!("at({seconds})"), &said);
    }
    text.split(";\n").map(str::to_owned).collect()
}

/// The migrations of version 0.1.0 alone.
async fn first_migrations(database: &str) -> Migrator {
    let folder = tempfile::tempdir().unwrap();
    let name = "0001_ledger_and_stores.sql";
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(database).join(name);
    std::fs::copy(from, folder.path().join(name)).unwrap();
    Migrator::new(folder.path()).await.unwrap()
}

#[tokio::test]
async fn a_sqlite_ledger_of_0_1_0_goes_on_and_is_copied_first() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("retainai.db");
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await.unwrap();
    first_migrations("sqlite").await.run(&mut connection).await.unwrap();
    for statement in spelled(false) {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    connection.close().await.unwrap();
    let db = Db::sqlite(&file).await.unwrap();
    // What is left of a copy that a power failure interrupted is no copy.
    std::fs::write(folder.path().join("retainai.db.copying"), "half").unwrap();
    db.migrate().await.unwrap();
    db.migrate().await.unwrap();
    let copy = folder.path().join("retainai.db.before-0002");
    let mut copied = SqliteConnection::connect(&format!("sqlite://{}", copy.display())).await.unwrap();
    let steps: i64 =
        sqlx::query_scalar("select count(*) from step where state = 'waiting'").fetch_one(&mut copied).await.unwrap();
    assert_eq!(steps, 4, "the copy holds what was there before");
    assert!(!folder.path().join("retainai.db.copying").exists());
    it_goes_on(&db).await;
    db.close().await;
}

#[tokio::test]
async fn a_postgresql_ledger_of_0_1_0_goes_on() {
    let Some(server) = servers::postgres().await else { return };
    let mut connection = PgConnection::connect(server.url()).await.unwrap();
    first_migrations("postgres").await.run(&mut connection).await.unwrap();
    for statement in spelled(true) {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
    }
    let db = Db::postgres(server.url(), 4).unwrap();
    db.migrate().await.unwrap();
    ledger::ensure_partitions(&db, at(0)).await.unwrap();
    it_goes_on(&db).await;
    db.close().await;
}

#[tokio::test]
async fn a_fresh_store_is_not_copied() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(&folder.path().join("retainai.db")).await.unwrap();
    db.migrate().await.unwrap();
    db.close().await;
    let files: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(files.iter().all(|name| !name.to_string_lossy().contains("before")), "{files:?}");
}

async fn it_goes_on(db: &Db) {
    let ledger = Ledger::Sql(db.clone());
    assert_eq!(
        ledger.last_tick("nasdaq-daily").await.unwrap(),
        Some("2024-03-04".parse().unwrap()),
        "it does not fire again"
    );
    assert!(ledger.open_ticks().await.unwrap().is_empty());
    let (ended, steps, _) = ledger.get_run(id(4)).await.unwrap().unwrap();
    assert_eq!(
        (ended.state.as_str(), ended.reason.as_deref(), ended.subject.as_str()),
        ("succeeded", Some("well"), "NEPSE:NABIL")
    );
    assert_eq!(steps.len(), 5);
    let keyed = NewRun {
        id: Uuid::from_u128(77),
        plan: &TICKER,
        subject: market::Ticker::parse("NASDAQ:MSFT").unwrap().into(),
        session: "2024-03-04".parse().unwrap(),
        schedule: None,
        backfill: None,
        priority: 10,
        offline: false,
        idempotency_key: Some("api:tuesday".into()),
        repeats: None,
    };
    let again = ledger.start(&[keyed], at(30)).await.unwrap()[0];
    assert_eq!((again.id, again.created), (id(3), false), "its key is remembered");

    let lost = ledger.abandoned(&Abandoned::Lapsed, at(30), 10).await.unwrap();
    assert_eq!(lost.iter().map(|claim| (claim.run, claim.step)).collect::<Vec<_>>(), [(id(1), Step::Finetune)]);
    ledger.complete(&[ending(&lost[0], Outcome::Lost, &[])], at(30)).await.unwrap().remove(0).unwrap();
    let mut done: HashMap<Uuid, Vec<Step>> = HashMap::new();
    for round in 0..10 {
        let now = at(60 + round);
        ledger.unsend(now).await.unwrap();
        ledger.release(now, 100).await.unwrap();
        let room: Vec<_> = ledger.unsent_queues().await.unwrap().into_iter().map(|queue| (queue, 10)).collect();
        let messages = ledger.take_due(&room, now).await.unwrap();
        let claims = ledger.claim(&messages, Uuid::nil(), "new", now, now + TimeDelta::seconds(20)).await.unwrap();
        let endings: Vec<_> =
            claims.iter().flatten().map(|claim| ending(claim, Outcome::Done("ok".into()), &[])).collect();
        for claim in claims.iter().flatten() {
            done.entry(claim.run).or_default().push(claim.step);
        }
        ledger.complete(&endings, now).await.unwrap();
    }
    let all: Vec<Step> = Step::of_the_chain().collect();
    assert_eq!(done[&id(1)], all[1..]);
    assert_eq!((&done[&id(2)], &done[&id(3)], done[&id(5)].as_slice()), (&all, &all, &all[4..]));
    let states: Vec<String> = ledger::list_runs(db, &RunFilter::default(), 10)
        .await
        .unwrap()
        .into_iter()
        .rev()
        .map(|run| run.state)
        .collect();
    assert_eq!(states, ["succeeded", "succeeded", "succeeded", "succeeded", "failed"]);
    let (_, _, attempts) = ledger.get_run(id(1)).await.unwrap().unwrap();
    assert_eq!(
        attempts.iter().map(|a| a.outcome.as_str()).collect::<Vec<_>>(),
        ["done", "lost", "done", "done", "done", "done"]
    );
}
