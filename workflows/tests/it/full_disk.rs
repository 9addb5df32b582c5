//! A disk that is full under the ledger: the program says so, loses nothing, and goes on by itself once there is room again.

use crate::rig::{Process, Toy};
use market::{Exchange, Ticker};
use product_tests::disk::Disk;
use product_tests::tls::Authority;
use product_tests::{eventually, servers};
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt, chown};
use std::sync::Arc;
use std::time::Duration;
use uuid::Uuid;
use workflows::db::StoreError;
use workflows::ledger::NewRun;
use workflows::plan::Step;
use workflows::queue::MemoryQueue;
use workflows::unreached::Unreached;
use workflows::{Db, Ledger};

/// Attempts whose completion could not be written for long are taken back when their lease ends.
const LIMIT: Duration = Duration::from_secs(90);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_the_sqlite_file() {
    let home = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mounted(home.path(), "store", 6_000) else { return };
    let file = disk.path().join("retainai.db");
    let db = Db::sqlite(&file).await.unwrap();
    db.migrate().await.unwrap();
    it_is_full(&db, &disk).await;
    db.close().await;
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let sound: String = sqlx::query_scalar("pragma integrity_check").fetch_one(&mut connection).await.unwrap();
    assert_eq!(sound, "ok");
}

/// Its log, which it cannot do without, lies elsewhere: where that cannot be written, PostgreSQL stops, and whoever starts it again starts it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_postgresql() {
    let home = tempfile::tempdir().unwrap();
    let authority = Authority::new();
    let Some(server) = servers::tls_postgres(&authority, &["localhost"]).await else { return };
    // Everybody may pass through, and only the server may look inside.
    std::fs::set_permissions(home.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let Some(disk) = Disk::mounted(home.path(), "tables", 32_000) else { return };
    let url = server.url("localhost", servers::TlsPostgres::PASSWORD, &authority.file());
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let data: String = sqlx::query_scalar("show data_directory").fetch_one(&mut connection).await.unwrap();
    let owner = std::fs::metadata(data).unwrap();
    chown(disk.path(), Some(owner.uid()), Some(owner.gid())).unwrap();
    let place = format!("create tablespace small location '{}'", disk.path().display());
    for statement in [place.as_str(), "create database small tablespace small"] {
        sqlx::query(sqlx::AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    }
    let db = Db::postgres(&url.replace("/postgres?", "/small?"), 8).unwrap();
    db.migrate().await.unwrap();
    it_is_full(&db, &disk).await;
    db.close().await;
    // The server is gone before its disk.
    drop((connection, server));
}

async fn it_is_full(db: &Db, disk: &Disk) {
    let toy = Toy::new();
    let slots: Vec<(Step, usize)> = Step::of_the_chain().map(|step| (step, 2)).collect();
    let process = Process::start("full", Ledger::Sql(db.clone()), Arc::new(MemoryQueue::default()), &toy, &slots);
    let new = |n: usize| -> NewRun {
        let ticker = Ticker::new(Exchange::Nasdaq, &format!("T{n}")).unwrap();
        NewRun { priority: 0, ..process.engine.manual_run(ticker, "2024-03-05".parse().unwrap(), true, None) }
    };
    let mut acknowledged = BTreeSet::new();
    let first: Vec<NewRun> = (0..60).map(new).collect();
    acknowledged.extend(process.engine.start(&first).await.unwrap().into_iter().map(|started| started.id));
    eventually("runs on their way", LIMIT, || async { (toy.all_begun() > 30).then_some(()) }).await;

    disk.fill().unwrap();
    let mut refused: Vec<NewRun> = Vec::new();
    for n in 1_000.. {
        // What others give back is taken too.
        disk.fill().unwrap();
        let run = new(n);
        match process.engine.start(std::slice::from_ref(&run)).await {
            Ok(started) => acknowledged.extend(started.into_iter().map(|started| started.id)),
            Err(error) => {
                assert!(error.is_transient(), "it may succeed later: {error}");
                assert!(error.to_string().contains(Unreached::Disk.advice()), "{error}");
                assert!(matches!(error, StoreError::Database { .. }), "{error}");
                refused.push(run);
            }
        }
        // Long enough for claims, completions and the reconciler to meet it.
        if refused.len() == 20 {
            break;
        }
        if !refused.is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let begun = toy.all_begun();
    assert!(process.engine.ledger.open_runs().await.unwrap() > 0, "it can be read, and there is work left");

    disk.free().unwrap();
    // Whoever was refused asks again.
    let again = process.engine.start(&refused).await.unwrap();
    acknowledged.extend(again.into_iter().map(|started| started.id));
    process.all_ended(LIMIT).await;
    assert!(toy.all_begun() > begun);
    let mut repeated = 0;
    for run in &acknowledged {
        repeated += all_done_once(&process, *run).await;
    }
    println!(
        "{} runs, {} of them refused at first; {repeated} steps were done again",
        acknowledged.len(),
        refused.len()
    );
    process.stop().await;
}

/// How many attempts were made in vain.
async fn all_done_once(process: &Process, run: Uuid) -> usize {
    let (row, steps, attempts) =
        process.engine.ledger.get_run(run).await.unwrap().expect("an acknowledged run is there");
    assert_eq!(row.state, "succeeded", "{row:?} {attempts:?}");
    assert!(steps.iter().all(|step| step.state == "done"), "{steps:?}");
    assert_eq!(attempts.iter().filter(|attempt| attempt.outcome == "done").count(), 5, "{attempts:?}");
    attempts.len() - 5
}
