//! Old runs go by outcome and age, into bundles that are verified before anything is dropped and can be brought back, on both databases.

use crate::both::{Fresh, on_both_fresh};
use crate::conformance::{ending, of_plan};
use chrono::{DateTime, TimeDelta, Utc};
use market::{Exchange, Ticker};
use std::collections::BTreeSet;
use std::path::Path;
use tempfile::TempDir;
use uuid::Uuid;
use workflows::chance::Chance;
use workflows::history::HistoryError;
use workflows::history::sweep::Swept;
use workflows::ledger::{self, Dropped, NewEntry, NewRun, RunFilter, Steering};
use workflows::plan::{Step, TICKER};
use workflows::{Db, History, Keep, Ledger, Outcome, Subject};

on_both_fresh!(
    runs_go_by_outcome_and_age,
    what_was_put_away_comes_back_as_it_was,
    a_run_pinned_meanwhile_stays,
    what_a_crash_leaves_is_removed,
    a_second_sweep_does_nothing,
    several_sweepers_put_each_run_away_once,
    a_repetition_stays_as_long_as_the_failure,
    by_itself_a_sweep_waits_for_company,
    without_a_folder_nothing_goes,
);

pub const TABLES: [&str; 4] = ["run", "step", "attempt", "effect"];

pub fn history(fresh: &Fresh, folder: &Path) -> History {
    History::new(fresh.ledger(), Some(folder.to_owned()), Keep::default(), Chance::default())
}

/// A run of this age, not started yet.
pub fn run_at(symbol: &str, at: DateTime<Utc>) -> NewRun {
    let id = Chance::default().uuid_at(u64::try_from(at.timestamp_millis()).unwrap());
    let subject = Subject::Ticker(Ticker::new(Exchange::Nasdaq, symbol).unwrap());
    NewRun { id, ..of_plan(&TICKER, subject) }
}

pub fn days_ago(db: &Db, days: i64) -> DateTime<Utc> {
    db.now() - TimeDelta::days(days)
}

pub fn done(_: Step) -> Outcome {
    Outcome::Done(String::new())
}

pub fn fails(step: Step) -> Outcome {
    let why = "a page\nof \"another\" kind, \\ and ü\r\n".to_owned();
    if step == Step::Scrape { Outcome::GiveUp(why) } else { Outcome::Done("clean".into()) }
}

pub fn closed(step: Step) -> Outcome {
    if step == Step::Scrape { Outcome::NoNewSession("\\closed".into()) } else { Outcome::Done("clean".into()) }
}

/// Starts a run and carries it to its end, all at one instant of the past.
pub async fn ended(ledger: &Ledger, run: NewRun, at: DateTime<Utc>, outcome: fn(Step) -> Outcome) -> Uuid {
    let id = run.id;
    ledger.start(&[run], at).await.unwrap();
    go_on(ledger, at, outcome).await;
    let (row, ..) = ledger.get_run(id).await.unwrap().unwrap();
    assert!(row.finished_at.is_some(), "{row:?}");
    id
}

/// Carries out whatever is ready.
pub async fn go_on(ledger: &Ledger, at: DateTime<Utc>, outcome: fn(Step) -> Outcome) {
    loop {
        ledger.unsend(at + TimeDelta::seconds(1)).await.unwrap();
        let room: Vec<_> = ledger.unsent_queues().await.unwrap().into_iter().map(|queue| (queue, 500)).collect();
        let messages = ledger.take_due(&room, at).await.unwrap();
        if messages.is_empty() {
            return;
        }
        let until = at + TimeDelta::seconds(20);
        let claims = ledger.claim(&messages, Uuid::from_u128(1), "host, \"1\"", at, until).await.unwrap();
        let endings: Vec<_> = claims.iter().flatten().map(|claim| ending(claim, outcome(claim.step), &[])).collect();
        ledger.complete(&endings, at).await.unwrap();
    }
}

pub async fn sweep_all(history: &History) -> Vec<Swept> {
    let mut all = Vec::new();
    loop {
        let swept = history.sweep().await.unwrap();
        let more = swept.more;
        all.push(swept);
        if !more {
            return all;
        }
    }
}

pub async fn ids(db: &Db) -> BTreeSet<Uuid> {
    let runs = ledger::list_runs(db, &RunFilter::default(), 10_000).await.unwrap();
    runs.into_iter().map(|run| run.id).collect()
}

async fn tables(fresh: &Fresh) -> Vec<Vec<String>> {
    let mut all = Vec::new();
    for table in TABLES.iter().chain(&["start_key"]) {
        all.push(fresh.rows(table).await);
    }
    all
}

pub fn entry(runs: u64) -> NewEntry {
    NewEntry {
        id: Uuid::now_v7(),
        at: DateTime::UNIX_EPOCH,
        who: "operator".into(),
        door: "api",
        action: "history_restore",
        subject: "it".into(),
        detail: format!("{runs} runs"),
        request: None,
    }
}

pub async fn pin(db: &Db, run: Uuid, pinned: bool) {
    let entry = NewEntry { detail: "a pin".into(), ..entry(1) };
    let changed = ledger::steer(db, &Steering::Pin { run, pinned }, &entry, db.now()).await.unwrap();
    assert!(changed);
}

pub fn folders(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// One run of each outcome that is long due, started under a key where that is possible.
pub async fn old_runs(fresh: &Fresh) -> Vec<Uuid> {
    let (ledger, at) = (fresh.ledger(), days_ago(&fresh.db, 400));
    let keyed = NewRun { idempotency_key: Some("api:monday".into()), ..run_at("KEYED", at) };
    let mut runs = vec![ended(&ledger, keyed, at, done).await];
    for (symbol, outcome) in [("DONE", done as fn(Step) -> Outcome), ("FAILED", fails), ("CLOSED", closed)] {
        runs.push(ended(&ledger, run_at(symbol, at), at, outcome).await);
    }
    let cancelled = run_at("CANCELLED", at);
    runs.push(cancelled.id);
    ledger.start(&[cancelled], at).await.unwrap();
    ledger.cancel(runs[4], "enough", at).await.unwrap().unwrap();
    go_on(&ledger, at, done).await;
    runs
}

async fn runs_go_by_outcome_and_age(fresh: &Fresh) {
    let (db, ledger, folder) = (&fresh.db, fresh.ledger(), TempDir::new().unwrap());
    let history = history(fresh, folder.path());
    let mut stays = BTreeSet::new();
    let kinds = [("S", done as fn(Step) -> Outcome), ("F", fails), ("N", closed)];
    for (symbol, outcome) in kinds {
        for (days, goes) in [(80, false), (100, symbol != "F"), (364, symbol != "F"), (366, true)] {
            let at = days_ago(db, days);
            let id = ended(&ledger, run_at(&format!("{symbol}{days}"), at), at, outcome).await;
            if !goes {
                stays.insert(id);
            }
        }
    }
    let pinned = ended(&ledger, run_at("PIN", days_ago(db, 400)), days_ago(db, 400), done).await;
    pin(db, pinned, true).await;
    let open = run_at("OPEN", days_ago(db, 500));
    stays.extend([pinned, open.id]);
    ledger.start(&[open], days_ago(db, 500)).await.unwrap();

    let would = history.would_go().await.unwrap();
    let counts: Vec<_> = would.by_outcome.iter().map(|(outcome, count)| (outcome.as_str(), *count)).collect();
    assert_eq!(counts, [("failed", 1), ("no_new_session", 3), ("succeeded", 3)]);
    assert_eq!(ids(db).await.len(), 14, "that was a dry run");
    let swept = sweep_all(&history).await;
    let bundle = swept[0].bundle.clone().unwrap();
    assert_eq!((bundle.runs, bundle.month.as_deref(), swept.len()), (7, None, 2));
    assert_eq!(ids(db).await, stays);
    assert_eq!(ledger::bundles(db, None, 10).await.unwrap(), std::slice::from_ref(&bundle));
    assert!(ledger::bundles(db, Some((bundle.created_at.0, &bundle.name)), 10).await.unwrap().is_empty());
    assert!(bundle.first_run < bundle.last_run && bundle.oldest < bundle.newest && bundle.bytes > 0);
    for table in ["step", "attempt", "effect"] {
        let orphans = format!("select '{table}' from {table} where run_id not in (select id from run)");
        assert!(fresh.texts(&orphans).await.is_empty(), "{table}");
    }
    // A year later the failed ones, too; what is pinned or open stays.
    let later = Keep { failed_days: 30, ..Keep::default() };
    let history = History::new(ledger, Some(folder.path().to_owned()), later, Chance::default());
    assert_eq!(sweep_all(&history).await[0].bundle.as_ref().unwrap().runs, 3);
}

async fn what_was_put_away_comes_back_as_it_was(fresh: &Fresh) {
    let (db, folder) = (&fresh.db, TempDir::new().unwrap());
    let history = history(fresh, &folder.path().join("a/b"));
    let runs = old_runs(fresh).await;
    // In the ledger: no text, an empty text, a text with a backslash in front, quotes and new lines.
    let before = tables(fresh).await;
    assert!(before.iter().all(|rows| !rows.is_empty()), "{before:#?}");
    let bundle = history.sweep().await.unwrap().bundle.unwrap();
    assert_eq!((bundle.runs, bundle.first_run.min(runs[0])), (5, bundle.first_run));
    assert!(tables(fresh).await.iter().all(Vec::is_empty), "nothing is left of them");
    for run in &runs {
        assert_eq!(ledger::bundles_around(db, *run).await.unwrap(), std::slice::from_ref(&bundle.name));
    }
    assert!(ledger::bundles_around(db, Uuid::now_v7()).await.unwrap().is_empty());

    let manifest = history.verify(&bundle.name).await.unwrap();
    assert_eq!((manifest.files.len(), manifest.bytes()), (4, bundle.bytes.unsigned_abs()));
    assert_eq!(manifest.installation, db.installation().await.unwrap());
    let restored = history.restore(&bundle.name, &entry).await.unwrap();
    assert_eq!((restored.runs, restored.there), (5, 0));
    for run in &runs {
        pin(db, *run, false).await;
    }
    assert_eq!(tables(fresh).await, before);
    let again = history.restore(&bundle.name, &entry).await.unwrap();
    assert_eq!((again.runs, again.there), (0, 5));
    let audit = ledger::audit(db, None, 10).await.unwrap();
    let told = audit.iter().filter(|row| row.detail != "a pin").map(|row| row.detail.as_str()).collect::<Vec<_>>();
    assert_eq!(told, ["0 runs", "5 runs"]);
    // They are as they were: due. Once more away, and back pinned.
    sweep_all(&history).await;
    assert!(ids(db).await.is_empty());
    history.restore(&bundle.name, &entry).await.unwrap();
    assert_eq!(history.sweep().await.unwrap(), Swept::default(), "what came back is left alone");
    assert_eq!(ids(db).await, runs.into_iter().collect());
}

async fn a_run_pinned_meanwhile_stays(fresh: &Fresh) {
    let (db, folder) = (&fresh.db, TempDir::new().unwrap());
    let history = history(fresh, folder.path());
    let runs = old_runs(fresh).await;
    let before = tables(fresh).await;
    let prepared = history.prepare_next().await.unwrap().unwrap();
    pin(db, runs[2], true).await;
    assert_eq!(history.let_go(&prepared).await.unwrap(), Dropped::Changed);
    pin(db, runs[2], false).await;
    assert_eq!(tables(fresh).await, before, "nothing went");
    pin(db, runs[2], true).await;
    assert_eq!(sweep_all(&history).await[0].bundle.as_ref().unwrap().runs, 4);
    assert_eq!(ids(db).await, BTreeSet::from([runs[2]]));
    assert_eq!(folders(folder.path()).len(), 1, "the first try was removed");
    // Nor can a sweeper that slept drop anything now: its bundle was abandoned.
    assert_eq!(history.let_go(&prepared).await.unwrap(), Dropped::Changed);
}

async fn what_a_crash_leaves_is_removed(fresh: &Fresh) {
    let (db, folder) = (&fresh.db, TempDir::new().unwrap());
    let history = history(fresh, folder.path());
    old_runs(fresh).await;
    let before = tables(fresh).await;
    drop(history.prepare_next().await.unwrap().unwrap());
    let left = folders(folder.path());
    assert_eq!(left.len(), 1);
    assert_eq!(tables(fresh).await, before, "nothing went");
    assert!(ledger::bundles(db, None, 10).await.unwrap().is_empty(), "it is none");
    assert!(matches!(history.verify(&left[0]).await, Err(HistoryError::Unknown { .. })));
    // Another died while it wrote; a third is not ours to remove.
    std::fs::rename(folder.path().join(&left[0]), folder.path().join(format!("{}.making", left[0]))).unwrap();
    std::fs::create_dir(folder.path().join("somebody-elses")).unwrap();
    let bundle = sweep_all(&history).await[0].bundle.clone().unwrap();
    assert_eq!(folders(folder.path()), [bundle.name.clone(), "somebody-elses".to_owned()]);
    assert!(ids(db).await.is_empty());
    history.restore(&bundle.name, &entry).await.unwrap();
    assert_eq!(ids(db).await.len(), 5);
}

async fn a_second_sweep_does_nothing(fresh: &Fresh) {
    let folder = TempDir::new().unwrap();
    let history = history(fresh, folder.path());
    old_runs(fresh).await;
    sweep_all(&history).await;
    let (bundles, names) = (fresh.rows("bundle").await, folders(folder.path()));
    assert_eq!(history.sweep().await.unwrap(), Swept::default());
    assert_eq!(history.sweep_in_company().await.unwrap(), 0);
    assert_eq!((fresh.rows("bundle").await, folders(folder.path())), (bundles, names));
    assert!(fresh.rows("leader").await.is_empty(), "the duty was given back");
}

async fn several_sweepers_put_each_run_away_once(fresh: &Fresh) {
    let folder = TempDir::new().unwrap();
    let runs = old_runs(fresh).await;
    let sweepers: Vec<History> = (0..4).map(|_| history(fresh, folder.path())).collect();
    let swept = futures::future::join_all(sweepers.iter().map(History::sweep)).await;
    let made: Vec<_> = swept.iter().flatten().filter_map(|swept| swept.bundle.as_ref()).collect();
    assert_eq!(made.iter().map(|bundle| bundle.runs).sum::<i64>(), 5, "{swept:#?}");
    assert!(swept.iter().all(|swept| matches!(swept, Ok(_) | Err(HistoryError::Busy))), "{swept:#?}");
    assert!(ids(&fresh.db).await.is_empty());
    // Without a lead, too: of two that prepared the same runs one drops them.
    sweepers[0].restore(&made[0].name, &entry).await.unwrap();
    for run in &runs {
        pin(&fresh.db, *run, false).await;
    }
    let (a, b) =
        (sweepers[0].prepare_next().await.unwrap().unwrap(), sweepers[1].prepare_next().await.unwrap().unwrap());
    let (a, b) = tokio::join!(sweepers[0].let_go(&a), sweepers[1].let_go(&b));
    let both = [a.unwrap(), b.unwrap()];
    assert!(both.contains(&Dropped::Yes) && both.contains(&Dropped::Changed), "{both:?}");
    sweep_all(&sweepers[2]).await;
    assert_eq!(folders(folder.path()).len(), 2);
    assert_eq!(ledger::bundles(&fresh.db, None, 9).await.unwrap().iter().map(|bundle| bundle.runs).sum::<i64>(), 10);
}

async fn a_repetition_stays_as_long_as_the_failure(fresh: &Fresh) {
    let (db, ledger, folder) = (&fresh.db, fresh.ledger(), TempDir::new().unwrap());
    let (then, later) = (days_ago(db, 200), days_ago(db, 199));
    let failed = ended(&ledger, run_at("AAPL", then), then, fails).await;
    let rerun = NewRun { repeats: Some((failed, Step::Scrape)), ..run_at("AAPL", later) };
    let rerun = ended(&ledger, rerun, later, done).await;
    assert_eq!(history(fresh, folder.path()).sweep().await.unwrap(), Swept::default());
    let none = ledger::DeadLetterFilter::default();
    assert!(ledger::dead_letters(db, &none, None, 9).await.unwrap().is_empty(), "the failure was dealt with");
    let keep = Keep { failed_days: 150, ..Keep::default() };
    let history = History::new(ledger, Some(folder.path().to_owned()), keep, Chance::default());
    let bundles: Vec<_> = sweep_all(&history).await.into_iter().filter_map(|swept| swept.bundle).collect();
    assert_eq!(bundles.iter().map(|bundle| bundle.first_run).collect::<Vec<_>>(), [failed, rerun]);
}

async fn by_itself_a_sweep_waits_for_company(fresh: &Fresh) {
    let (db, folder) = (&fresh.db, TempDir::new().unwrap());
    let history = history(fresh, folder.path());
    for days in [92, 95] {
        ended(&fresh.ledger(), run_at(&format!("D{days}"), days_ago(db, days)), days_ago(db, days), done).await;
    }
    assert_eq!(history.sweep_in_company().await.unwrap(), 0);
    ended(&fresh.ledger(), run_at("D98", days_ago(db, 98)), days_ago(db, 98), done).await;
    assert_eq!(history.sweep_in_company().await.unwrap(), 3);
    assert_eq!(folders(folder.path()).len(), 1);
}

async fn without_a_folder_nothing_goes(fresh: &Fresh) {
    old_runs(fresh).await;
    let history = History::new(fresh.ledger(), None, Keep::default(), Chance::default());
    assert!(matches!(history.sweep().await, Err(HistoryError::NoFolder)));
    assert!(matches!(history.would_go().await, Err(HistoryError::NoFolder)));
    let file = TempDir::new().unwrap().path().join("file");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "not a folder").unwrap();
    let error = self::history(fresh, &file.join("history")).sweep().await.unwrap_err();
    assert!(matches!(error, HistoryError::File { .. }) && error.to_string().contains("file/history"), "{error}");
    assert_eq!(ids(&fresh.db).await.len(), 5);
    std::fs::remove_dir_all(file.parent().unwrap()).unwrap();
}
