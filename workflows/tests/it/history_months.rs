//! On PostgreSQL old history goes by months: four partitions at a time, while what must stay moves, and while others work on other months.

use crate::both::{self, Fresh};
use crate::history::{days_ago, done, ended, entry, fails, folders, go_on, history, ids, pin, run_at, sweep_all};
use chrono::{DateTime, Datelike, Months, NaiveTime, TimeDelta, Utc};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use workflows::db::StoreResult;
use workflows::history::HistoryError;
use workflows::ledger::{self, Dropped};
use workflows::{Db, History, Keep, chance::Chance};

/// The middle of a month that ended long enough ago for succeeded runs, and not for failed ones.
fn then(db: &Db) -> DateTime<Utc> {
    let month = days_ago(db, 0).date_naive().with_day(1).unwrap() - Months::new(6);
    month.and_time(NaiveTime::MIN).and_utc() + TimeDelta::days(14)
}

fn month(at: DateTime<Utc>) -> String {
    at.format("%Y-%m").to_string()
}

fn partition(table: &str, at: DateTime<Utc>) -> String {
    format!("{table}_{}", at.format("%Y_%m"))
}

async fn exists(fresh: &Fresh, table: &str) -> bool {
    !fresh.texts(&format!("select 'yes' where to_regclass('{table}') is not null")).await.is_empty()
}

/// A store with the partitions of that month and the next two.
async fn with_months() -> Option<(Fresh, DateTime<Utc>, TempDir)> {
    let fresh = both::postgres().await?;
    let at = then(&fresh.db);
    assert_eq!(ledger::ensure_partitions(&fresh.db, at).await.unwrap(), 12);
    Some((fresh, at, TempDir::new().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_goes_and_what_must_stay_is_found() {
    let Some((fresh, at, folder)) = with_months().await else { return };
    let (db, ledger, history) = (&fresh.db, fresh.ledger(), history(&fresh, folder.path()));
    let mut goes = BTreeSet::new();
    for n in 0..20 {
        goes.insert(ended(&ledger, run_at(&format!("T{n}"), at), at, done).await);
    }
    let failed = ended(&ledger, run_at("F", at), at, fails).await;
    let pinned = ended(&ledger, run_at("P", at), at, done).await;
    pin(db, pinned, true).await;
    let open = run_at("OPEN", at);
    ledger.start(std::slice::from_ref(&open), at).await.unwrap();
    let stays = BTreeSet::from([failed, pinned, open.id]);
    let before: Vec<_> = [failed, pinned].map(|run| ledger.get_run(run)).into_iter().collect();
    let before: Vec<_> = futures::future::join_all(before).await.into_iter().map(|run| format!("{run:?}")).collect();
    let young = ended(&ledger, run_at("YOUNG", days_ago(db, 1)), days_ago(db, 1), done).await;

    let would = history.would_go().await.unwrap();
    assert_eq!((would.by_outcome["succeeded"], would.months.contains(&month(at))), (20, true));
    let swept = sweep_all(&history).await;
    let bundles: Vec<_> = swept.iter().filter_map(|swept| swept.bundle.as_ref()).collect();
    assert_eq!(bundles.len(), 1, "a month without a run needs no bundle: {swept:#?}");
    assert_eq!((bundles[0].runs, bundles[0].month.as_deref()), (20, Some(month(at).as_str())));
    assert!(bundles[0].name.starts_with(&format!("month-{}-", month(at))));
    for table in ["run", "step", "attempt", "effect"] {
        assert!(!exists(&fresh, &partition(table, at)).await, "{table}");
        let orphans = fresh
            .texts(&format!(
                "select '{table}' from {table}_default where {} not in (select id from run)",
                if table == "run" { "id" } else { "run_id" }
            ))
            .await;
        assert!(orphans.is_empty(), "{table}");
    }
    assert_eq!(ids(db).await, stays.iter().copied().chain([young]).collect());
    let after: Vec<_> = [failed, pinned].map(|run| ledger.get_run(run)).into_iter().collect();
    let after: Vec<_> = futures::future::join_all(after).await.into_iter().map(|run| format!("{run:?}")).collect();
    assert_eq!(before, after);
    // The open run goes on to its end.
    go_on(&ledger, db.now(), done).await;
    assert_eq!(ledger.get_run(open.id).await.unwrap().unwrap().0.state, "succeeded");

    // A clock that goes back makes no month again.
    ledger::ensure_partitions(db, at).await.unwrap();
    assert!(!exists(&fresh, &partition("run", at)).await);
    assert!(exists(&fresh, &partition("run", at + TimeDelta::days(62))).await, "others it does");

    let name = bundles[0].name.clone();
    assert_eq!(history.restore(&name, &entry).await.unwrap().runs, 20);
    assert!(ids(db).await.is_superset(&goes));
    for run in &goes {
        let (row, steps, attempts) = ledger.get_run(*run).await.unwrap().unwrap();
        assert!(row.pinned && steps.len() == 5 && attempts.len() == 5);
    }
    sweep_all(&history).await;
    assert!(ids(db).await.is_superset(&goes), "they are pinned");
    // A year later: row by row from the default partition.
    let keep = Keep { failed_days: 100, ..Keep::default() };
    let later = History::new(fresh.ledger(), Some(folder.path().to_owned()), keep, Chance::default());
    let last = sweep_all(&later).await.into_iter().find_map(|swept| swept.bundle).unwrap();
    assert_eq!((last.runs, last.first_run, last.month), (1, failed, None));
    assert_eq!(ledger::bundles_around(db, failed).await.unwrap()[0], last.name, "the narrower range comes first");
    fresh.db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_between_export_and_drop_keeps_the_month() {
    let Some((fresh, at, folder)) = with_months().await else { return };
    let (db, ledger, history) = (&fresh.db, fresh.ledger(), history(&fresh, folder.path()));
    let a = ended(&ledger, run_at("A", at), at, done).await;
    let b = ended(&ledger, run_at("B", at), at, done).await;
    pin(db, b, true).await;
    let prepared = history.prepare_next().await.unwrap().unwrap();
    // As many are due as before, but not the same ones.
    pin(db, a, true).await;
    pin(db, b, false).await;
    assert_eq!(history.let_go(&prepared).await.unwrap(), Dropped::Changed);
    assert_eq!(ids(db).await, BTreeSet::from([a, b]));
    assert!(exists(&fresh, &partition("run", at)).await);
    let bundle = sweep_all(&history).await.remove(0).bundle.unwrap();
    assert_eq!((bundle.first_run, bundle.runs), (b, 1));
    assert_eq!(folders(folder.path()), [bundle.name]);
    assert_eq!(ids(db).await, BTreeSet::from([a]));
    fresh.db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_in_use_waits_for_the_next_sweep() {
    let Some((fresh, at, folder)) = with_months().await else { return };
    let history = history(&fresh, folder.path());
    ended(&fresh.ledger(), run_at("A", at), at, done).await;
    let pool = fresh.pool().await.unwrap();
    let mut reader = pool.begin().await.unwrap();
    sqlx::query("select count(*) from run").execute(&mut *reader).await.unwrap();
    let swept = history.sweep().await.unwrap();
    assert!(swept.busy.contains(&month(at)) && swept.bundle.is_none(), "{swept:?}");
    assert_eq!(ids(&fresh.db).await.len(), 1);
    reader.rollback().await.unwrap();
    let swept = sweep_all(&history).await;
    assert_eq!(swept[0].bundle.as_ref().unwrap().runs, 1);
    assert_eq!(folders(folder.path()).len(), 1);
    fresh.db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn others_hardly_wait_while_a_month_goes() {
    let Some((fresh, at, folder)) = with_months().await else { return };
    let (ledger, history) = (fresh.ledger(), history(&fresh, folder.path()));
    for n in 0..10 {
        ended(&ledger, run_at(&format!("T{n}"), at), at, done).await;
    }
    let sweeping = tokio::spawn(async move { sweep_all(&history).await });
    let (mut longest, mut rounds) = (Duration::ZERO, 0);
    while !sweeping.is_finished() || rounds < 5 {
        let began = Instant::now();
        let now = fresh.db.now();
        let id = ended(&ledger, run_at(&format!("NOW{rounds}"), now), now, done).await;
        longest = longest.max(began.elapsed());
        assert!(ledger.get_run(id).await.unwrap().is_some());
        rounds += 1;
    }
    let swept = sweeping.await.unwrap();
    assert_eq!(swept[0].bundle.as_ref().unwrap().runs, 10);
    eprintln!("{rounds} whole runs beside the sweep, the slowest took {longest:?}");
    assert!(longest < Duration::from_secs(3), "{longest:?}");
    fresh.db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_with_much_to_keep_loses_single_rows_first() {
    let Some((fresh, at, folder)) = with_months().await else { return };
    let (db, ledger, history) = (&fresh.db, fresh.ledger(), history(&fresh, folder.path()));
    for n in 0..3 {
        ended(&ledger, run_at(&format!("T{n}"), at), at, done).await;
    }
    let open: Vec<_> = (0..1_001).map(|n| run_at(&format!("O{n}"), at)).collect();
    ledger.start(&open, at).await.unwrap();
    let swept = sweep_all(&history).await;
    let bundle = swept.iter().find_map(|swept| swept.bundle.as_ref()).unwrap();
    assert_eq!((bundle.runs, bundle.month.as_deref()), (3, None));
    assert!(exists(&fresh, &partition("run", at)).await);
    assert_eq!(ids(db).await.len(), 1_001);
    // One less, and it goes: there is nothing to put away, and the thousand move.
    fresh.execute(&format!("delete from step where run_id = '{}'", open[0].id)).await;
    fresh.execute(&format!("delete from run where id = '{}'", open[0].id)).await;
    let began = Instant::now();
    let swept = sweep_all(&history).await;
    eprintln!("a month with a thousand to move took {:?}", began.elapsed());
    assert!(
        swept.iter().any(|swept| swept.month.as_deref() == Some(&month(at)) && swept.bundle.is_none()),
        "{swept:?}"
    );
    assert!(!exists(&fresh, &partition("run", at)).await);
    assert_eq!(ids(db).await.len(), 1_000);
    fresh.db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_month_that_is_not_whole_goes_row_by_row() {
    let Some(fresh) = both::postgres().await else { return };
    let (at, folder) = (then(&fresh.db), TempDir::new().unwrap());
    let (db, ledger, history) = (&fresh.db, fresh.ledger(), history(&fresh, folder.path()));
    // Before its months were made: its rows are in the default partitions, but for effects, of which there are none yet.
    let open = run_at("A", at);
    ledger.start(std::slice::from_ref(&open), at).await.unwrap();
    ledger::ensure_partitions(db, at).await.unwrap();
    assert!(exists(&fresh, &partition("effect", at)).await && !exists(&fresh, &partition("run", at)).await);
    go_on(&ledger, at, done).await;
    let swept = sweep_all(&history).await;
    assert_eq!(swept.iter().find_map(|swept| swept.bundle.as_ref()).unwrap().month, None);
    assert!(ids(db).await.is_empty() && fresh.rows("effect").await.is_empty());
    fresh.db.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_belong_to_no_run_keep_a_month() {
    let Some((fresh, at, folder)) = with_months().await else { return };
    let (db, ledger, history) = (&fresh.db, fresh.ledger(), history(&fresh, folder.path()));
    let run = ended(&ledger, run_at("A", at), at, done).await;
    ended(&ledger, run_at("B", at), at, done).await;
    fresh.execute(&format!("delete from run where id = '{run}'")).await;
    let error: HistoryError = loop {
        match history.sweep().await {
            Ok(swept) => assert!(swept.more && swept.bundle.is_none(), "{swept:?}"),
            Err(error) => break error,
        }
    };
    assert!(
        matches!(error, HistoryError::Orphans { rows: 15, .. }) && error.to_string().contains(&month(at)),
        "{error}"
    );
    let left: StoreResult<_> = ledger::bundles(db, None, 1).await;
    assert!(left.unwrap().is_empty() && exists(&fresh, &partition("run", at)).await);
    assert!(!exists(&fresh, &partition("run", at + TimeDelta::days(31))).await, "the other months went before");
    // Nor does it go when no run of it is due any more.
    fresh.execute("update run set pinned = true").await;
    assert!(matches!(history.sweep().await, Err(HistoryError::Orphans { .. })));
    fresh.db.close().await;
}
