//! A ledger of every release, in the middle of its work, is brought up to date: nothing of it is lost, and its runs go on to their end.

use crate::conformance::ending;
use chrono::{DateTime, TimeDelta, Utc};
use product_tests::servers;
use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, SqliteConnection};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use uuid::Uuid;
use workflows::ledger::{self, Abandoned, NewRun, RunFilter};
use workflows::plan::{Step, TICKER};
use workflows::{Db, Ledger, Outcome, replay};

const BEGAN: i64 = 1_709_600_000;

fn id(n: u128) -> Uuid {
    Uuid::from_u128((0x018e_0000_0000_7000 << 64) | n)
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(BEGAN + seconds, 0).unwrap()
}

/// A ledger of one release, as the repository keeps it: docs/releasing.md says how it comes about.
struct Snapshot {
    name: String,
    /// The newest migration of that release.
    migrations: i64,
    text: String,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/ledgers")
}

/// Of every release that there was.
fn snapshots() -> Vec<Snapshot> {
    let files = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| {
        let text = std::fs::read_to_string(&path).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("-- migrations: "));
        let migrations = line.unwrap_or_else(|| panic!("{} names no migrations", path.display())).parse().unwrap();
        Snapshot { name: path.file_name().unwrap().to_string_lossy().into_owned(), migrations, text }
    };
    let all: Vec<Snapshot> = files.map(read).collect();
    assert!(all.iter().any(|snapshot| snapshot.name == "0.1.0.sql"), "the first release is among them");
    all
}

impl Snapshot {
    /// Its statements in the words of one database.
    fn spelled(&self, postgres: bool) -> Vec<String> {
        let (no, yes) = if postgres { (", false", ", true") } else { (", 0", ", 1") };
        let lines: Vec<&str> = self.text.lines().filter(|line| !line.starts_with("--")).collect();
        let text = lines.join("\n").replace(", NO", no).replace(", YES", yes);
        let text = each_number(&text, "id(", |n| {
            let hex = id(u128::from(n)).simple().to_string();
            if postgres { format!("'{hex}'::uuid") } else { format!("x'{hex}'") }
        });
        let text = each_number(&text, "at(", |seconds| {
            let instant = at(i64::try_from(seconds).unwrap());
            if postgres {
                format!("'{}'::timestamptz", instant.to_rfc3339())
            } else {
                instant.timestamp_micros().to_string()
            }
        });
        text.split(";\n").filter(|statement| !statement.trim().is_empty()).map(str::to_owned).collect()
    }

    /// The migrations of its release alone.
    async fn migrator(&self, database: &str) -> Migrator {
        let alone = tempfile::tempdir().unwrap();
        let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../migrations").join(database);
        for entry in std::fs::read_dir(all).unwrap().map(Result::unwrap) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.split('_').next().unwrap().parse::<i64>().unwrap() <= self.migrations {
                std::fs::copy(entry.path(), alone.path().join(name)).unwrap();
            }
        }
        Migrator::new(alone.path()).await.unwrap()
    }

    /// The file of a SQLite ledger of its release, in this folder.
    async fn sqlite_file(&self, folder: &Path) -> PathBuf {
        let file = folder.join("retainai.db");
        let mut connection = SqliteConnection::connect(&format!("sqlite://{}?mode=rwc", file.display())).await.unwrap();
        self.migrator("sqlite").await.run(&mut connection).await.unwrap();
        for statement in self.spelled(false) {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
        connection.close().await.unwrap();
        file
    }
}

/// Writes every `word123)` otherwise.
fn each_number(text: &str, word: &str, spell: impl Fn(u64) -> String) -> String {
    let mut parts = text.split(word);
    let mut all = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')').and_then(|(number, rest)| Some((number.parse().ok()?, rest))) {
            Some((number, rest)) => all += &(spell(number) + rest),
            None => all += &format!("{word}{part}"),
        }
    }
    all
}

#[tokio::test]
async fn a_sqlite_ledger_of_every_release_goes_on_and_is_copied_first() {
    for snapshot in snapshots() {
        println!("{}", snapshot.name);
        let folder = tempfile::tempdir().unwrap();
        let file = snapshot.sqlite_file(folder.path()).await;
        let db = Db::sqlite(&file).await.unwrap();
        let missing = db.missing_migrations().await.unwrap();
        // What is left of a copy that a power failure interrupted is no copy.
        std::fs::write(folder.path().join("retainai.db.copying"), "half").unwrap();
        db.migrate().await.unwrap();
        db.migrate().await.unwrap();
        let copy = folder.path().join(format!("retainai.db.before-{:04}", snapshot.migrations + 1));
        assert_eq!(copy.exists(), missing > 0);
        if missing > 0 {
            let mut copied = SqliteConnection::connect(&format!("sqlite://{}", copy.display())).await.unwrap();
            let runs: i64 = sqlx::query_scalar("select count(*) from run").fetch_one(&mut copied).await.unwrap();
            let newest: i64 =
                sqlx::query_scalar("select max(version) from _sqlx_migrations").fetch_one(&mut copied).await.unwrap();
            assert_eq!((runs, newest), (5, snapshot.migrations), "the copy holds what was there before");
            assert!(!folder.path().join("retainai.db.copying").exists());
        }
        it_goes_on(&db).await;
        db.close().await;
    }
}

#[tokio::test]
async fn a_postgresql_ledger_of_every_release_goes_on() {
    for snapshot in snapshots() {
        println!("{}", snapshot.name);
        let Some(server) = servers::postgres().await else { return };
        let mut connection = PgConnection::connect(server.url()).await.unwrap();
        snapshot.migrator("postgres").await.run(&mut connection).await.unwrap();
        for statement in snapshot.spelled(true) {
            sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut connection).await.unwrap();
        }
        let db = Db::postgres(server.url(), 4).unwrap();
        db.migrate().await.unwrap();
        ledger::ensure_partitions(&db, at(0)).await.unwrap();
        it_goes_on(&db).await;
        db.close().await;
    }
}

/// Writes the snapshot of the release that is being made: the story of the first one, as it stands after all migrations.
/// `scripts/test.sh --run-ignored only -E 'test(write_the_snapshot_of_this_release)'`
#[tokio::test]
#[ignore = "for whoever makes a release"]
async fn write_the_snapshot_of_this_release() {
    let version = env!("CARGO_PKG_VERSION");
    let written = folder().join(format!("{version}.sql"));
    assert!(!written.exists(), "{version} has its snapshot: set the version of the release first");
    let first = snapshots().into_iter().find(|snapshot| snapshot.name == "0.1.0.sql").unwrap();
    let temporary = tempfile::tempdir().unwrap();
    let file = first.sqlite_file(temporary.path()).await;
    let db = Db::sqlite(&file).await.unwrap();
    db.migrate().await.unwrap();
    db.close().await;
    let mut connection = SqliteConnection::connect(&format!("sqlite://{}", file.display())).await.unwrap();
    let migrations: i64 =
        sqlx::query_scalar("select max(version) from _sqlx_migrations").fetch_one(&mut connection).await.unwrap();
    let mut text = format!("-- A ledger of {version}: the story of 0.1.0.sql.\n-- migrations: {migrations}\n");
    for table in ["schedule", "tick", "run", "step", "attempt", "effect", "active", "start_key"] {
        let columns: Vec<(String, String)> =
            sqlx::query_as("select name, type from pragma_table_info($1) order by cid")
                .bind(table)
                .fetch_all(&mut connection)
                .await
                .unwrap();
        let spelled: Vec<String> = columns.iter().map(|(name, kind)| cell(name, kind)).collect();
        let rows = format!("select {} from {table} order by 1", spelled.join(" || ', ' || "));
        let rows: Vec<String> = sqlx::query_scalar(sqlx::AssertSqlSafe(rows)).fetch_all(&mut connection).await.unwrap();
        let names: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        text += &format!("insert into {table} ({}) values\n ({});\n", names.join(", "), rows.join("),\n ("));
    }
    std::fs::write(written, text).unwrap();
}

/// A SQL expression that spells a column as a snapshot does. Ids and instants are all those of the story.
fn cell(name: &str, kind: &str) -> String {
    let instant = name.ends_with("_at") || name.ends_with("_until");
    let spelled = match kind {
        "BLOB" => {
            // The number is the last byte: two digits, each found by its place.
            let digit = |nth: i8| format!("(instr('0123456789ABCDEF', substr(hex({name}), {nth}, 1)) - 1)");
            format!("'id(' || (16 * {} + {}) || ')'", digit(-2), digit(-1))
        }
        "INTEGER" if instant => format!("'at(' || (({name} / 1000000) - {BEGAN}) || ')'"),
        "INTEGER" if ["offline", "pinned", "paused"].contains(&name) => {
            format!("case {name} when 0 then 'NO' else 'YES' end")
        }
        _ => format!("quote({name})"),
    };
    format!("case when {name} is null then 'null' else {spelled} end")
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
    // Its fine-tuning and its forecast left no record that they could be replayed by, and a replay will say so; run 4 had neither.
    for (run, made) in [(1, vec![Step::Finetune, Step::Cache]), (4, vec![])] {
        let (_, steps, _) = ledger.get_run(id(run)).await.unwrap().unwrap();
        let past = replay::of_run(db, id(run), &steps).await.unwrap();
        assert!(past.steps.iter().all(|past| past.written.is_none()) && past.archived.is_none(), "{past:?}");
        assert_eq!(past.steps.iter().map(|past| past.step).collect::<Vec<_>>(), made);
    }
}
