//! Old runs from the command line: what is due, putting it away alone and beside a running `up`, where a run went, and bringing it back.

use crate::installation::{Installation, LIMIT};
use product_tests::process::{self, Finished};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;

async fn retainai(installation: &Installation, command: &str) -> Finished {
    let arguments: Vec<&str> = command.split_whitespace().collect();
    installation.retainai(&arguments).output(LIMIT).await
}

/// One command that must succeed; its JSON document.
async fn asked(installation: &Installation, command: &str) -> Value {
    let done = retainai(installation, &format!("{command} --json")).await;
    assert_eq!(done.code, Some(0), "{command}: {done:#?}");
    done.json()
}

fn text(document: &Value, key: &str) -> String {
    document[key].as_str().unwrap_or_else(|| panic!("no {key}: {document:#}")).to_owned()
}

/// Makes every run in the store a hundred days older, ids and all, as if it had been started then; nobody may use the store meanwhile.
async fn grow_old(store: &Path) {
    const AGE_MS: u64 = 100 * 86_400_000;
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(store);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let ids: Vec<Vec<u8>> = sqlx::query_scalar("select id from run").fetch_all(&pool).await.unwrap();
    for id in ids {
        let millis = u64::from_be_bytes([&[0, 0], &id[..6]].concat().try_into().unwrap()) - AGE_MS;
        let old = [&millis.to_be_bytes()[2..], &id[6..]].concat();
        for statement in [
            "update run set id = $2 where id = $1",
            "update step set run_id = $2 where run_id = $1",
            "update attempt set run_id = $2 where run_id = $1",
            "update effect set run_id = $2 where run_id = $1",
        ] {
            sqlx::query(statement).bind(&id).bind(&old).execute(&pool).await.unwrap();
        }
    }
    let older =
        "update run set created_at = created_at - $1, started_at = started_at - $1, finished_at = finished_at - $1";
    sqlx::query(older).bind(AGE_MS as i64 * 1_000).execute(&pool).await.unwrap();
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_runs_are_put_away_and_brought_back() {
    let installation = Installation::embedded(&["NASDAQ:AAPL", "NASDAQ:MSFT"]).await;
    let mut up = installation.start(&[]).await.remove(0);
    let runs = installation.runs_ended(2).await;
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "{runs:#?}");
    assert_eq!(asked(&installation, "history").await, json!({ "items": [] }));
    assert_eq!(retainai(&installation, "history sweep --dry-run").await.stdout.trim(), "nothing is due");
    up.sigterm();
    assert_eq!(up.wait(LIMIT).await.code(), Some(0));
    grow_old(&installation.data_folder().join("retainai.db")).await;

    // Alone.
    let due = asked(&installation, "history sweep --dry-run").await;
    assert_eq!(due["items"], json!([{ "outcome": "succeeded", "runs": 2 }]));
    let old: Vec<String> = asked(&installation, "runs list").await["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| text(run, "id"))
        .collect();
    asked(&installation, &format!("runs pin {}", old[0])).await;
    let swept = asked(&installation, "history sweep").await;
    assert_eq!((&swept["runs"], swept["bundles"].as_array().unwrap().len()), (&json!(1), 1), "{swept:#}");
    let first = text(&swept["bundles"][0], "name");
    assert!(installation.data_folder().join("history").join(&first).join("run.csv.gz").exists());

    // Beside a running `up`.
    let _up = installation.start(&[]).await;
    asked(&installation, &format!("runs unpin {}", old[0])).await;
    let swept = retainai(&installation, "history sweep").await;
    assert!(swept.code == Some(0) && swept.stdout.ends_with("1 runs put away in 1 bundles\n"), "{swept:#?}");
    let listed = asked(&installation, "history list").await;
    let names: Vec<String> = listed["items"].as_array().unwrap().iter().map(|bundle| text(bundle, "name")).collect();
    assert!(names.len() == 2 && names[1] == first, "newest first: {listed:#}");
    assert!(retainai(&installation, "history").await.stdout.contains(&first));
    for (run, name) in old.iter().zip(&names) {
        let gone = retainai(&installation, &format!("runs show {run}")).await;
        assert!(gone.code == Some(1) && gone.stderr.contains(&format!("retainai history restore {name}")), "{gone:#?}");
    }
    let verified = asked(&installation, "history verify --all").await;
    assert_eq!((&verified["failed"], verified["items"].as_array().unwrap().len()), (&json!(0), 2));

    let file = installation.data_folder().join("history").join(&first).join("attempt.csv.gz");
    let sound = std::fs::read(&file).unwrap();
    std::fs::write(&file, &sound[..sound.len() / 2]).unwrap();
    let damaged = retainai(&installation, &format!("history restore {first}")).await;
    assert!(damaged.code == Some(1) && damaged.stderr.contains("attempt.csv.gz"), "{damaged:#?}");
    let verified = retainai(&installation, "history verify --all").await;
    assert!(verified.code == Some(1) && verified.stderr.contains(&first), "{verified:#?}");
    std::fs::write(&file, &sound).unwrap();

    let restored = retainai(&installation, &format!("history restore {first}")).await;
    assert!(restored.code == Some(0) && restored.stdout.starts_with("1 runs came back, pinned"), "{restored:#?}");
    let back = asked(&installation, &format!("runs show {}", old[1])).await;
    assert_eq!(
        (&back["pinned"], &back["state"], back["attempts"].as_array().unwrap().len()),
        (&json!(true), &json!("succeeded"), 5)
    );
    let audit = installation.get("/v1/audit").await;
    let told: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|e| (text(e, "action"), text(e, "door"))).collect();
    for action in ["history_sweep", "history_restore"] {
        assert!(told.contains(&(action.to_owned(), "cli".to_owned())), "{told:?}");
    }
    assert_eq!(asked(&installation, "history sweep").await["runs"], 0, "what came back is pinned");

    let unknown = retainai(&installation, "history restore runs-never --json").await;
    assert_eq!((unknown.code, &unknown.json()["code"]), (Some(1), &json!("unknown_bundle")));
    for wrong in ["history verify", "history verify --all x", "history restore", "history restore ../x", "history burn"]
    {
        assert_eq!(retainai(&installation, wrong).await.code, Some(2), "{wrong}");
    }
}

/// Six thousand runs that succeeded a hundred days ago, with a step, an attempt and an effect each.
async fn fill(store: &Path) {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(store);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    let now: i64 = sqlx::query_scalar("select unixepoch()").fetch_one(&pool).await.unwrap();
    let then = now - 100 * 86_400;
    let id = format!("unhex(printf('%012x70008%015x', {then}000, i))");
    let from = "from (with recursive n(i) as (select 1 union all select i + 1 from n where i < 6000) select i from n)";
    for statement in [
        format!("insert into run (id, plan, plan_version, subject, session, aimed_session, priority, state, created_at, started_at, finished_at)
                 select {id}, 'ticker', 1, 'NASDAQ:T' || i, '2024-01-02', '2024-01-02', 0, 'succeeded', {then}000000, {then}000000, {then}000000 {from}"),
        format!("insert into step (run_id, step, seq, queue, state, max_attempts, first_ready_at, due_at) select {id}, 'scrape', 0, 'scrape', 'done', 8, {then}000000, {then}000000 {from}"),
        format!("insert into attempt (run_id, step, epoch, attempt, worker, started_at, outcome) select {id}, 'scrape', 1, 1, 'old', {then}000000, 'done' {from}"),
        format!("insert into effect (run_id, step, epoch, applied_at, detail) select {id}, 'scrape', 1, {then}000000, 'ok' {from}"),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&pool).await.unwrap();
    }
    pool.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_on_any_line_every_run_is_in_one_place() {
    let installation = Installation::embedded(&[]).await;
    assert_eq!(retainai(&installation, "migrate").await.code, Some(0));
    fill(&installation.data_folder().join("retainai.db")).await;
    let history = installation.data_folder().join("history");
    let mut kills = 0;
    // Later and later, so that each part of the work is met; until one is quicker than its killer.
    for round in 0..40 {
        let mut sweep = installation.retainai(&["history", "sweep"]).spawn();
        tokio::time::sleep(Duration::from_millis(30 + 25 * round)).await;
        if !sweep.is_running() {
            break;
        }
        sweep.kill9().await;
        kills += 1;
        let left = installation.number("select count(*) from run").await;
        let put_away = installation.number("select coalesce(sum(runs), 0) from bundle where state = 'made'").await;
        assert_eq!(left + put_away, 6_000, "after {kills} kills");
        for table in ["step", "attempt", "effect"] {
            assert_eq!(installation.number(&format!("select count(*) from {table}")).await, left, "{table}");
        }
    }
    assert!(kills > 3, "{kills}");
    asked(&installation, "history sweep").await;
    let verified = asked(&installation, "history verify --all").await;
    let names: Vec<String> = verified["items"].as_array().unwrap().iter().map(|bundle| text(bundle, "name")).collect();
    assert_eq!(verified["failed"], 0, "{verified:#}");
    assert_eq!(std::fs::read_dir(&history).unwrap().count(), names.len(), "nothing half done is left");
    assert_eq!(installation.number("select count(*) from bundle").await, names.len() as i64);
    assert_eq!(installation.number("select count(*) from run").await, 0);
    for name in names {
        asked(&installation, &format!("history restore {name}")).await;
    }
    for table in ["run", "step", "attempt", "effect"] {
        assert_eq!(installation.number(&format!("select count(*) from {table}")).await, 6_000, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_servers_nothing_goes_without_a_history_folder() {
    let Some(installation) = Installation::on_servers(&["NASDAQ:AAPL"]).await else { return };
    assert_eq!(retainai(&installation, "migrate").await.code, Some(0));
    assert_eq!(asked(&installation, "history").await, json!({ "items": [] }));
    let refused = retainai(&installation, "history sweep").await;
    assert!(refused.code == Some(1) && refused.stderr.contains("history_dir"), "{refused:#?}");
    let folder = tempfile::tempdir().unwrap();
    let swept = installation.retainai(&["history", "sweep"]).env("RETAINAI_HISTORY_DIR", folder.path());
    let swept = swept.output(LIMIT).await;
    assert_eq!((swept.code, swept.stdout.trim()), (Some(0), "0 runs put away in 0 bundles"), "{swept:#?}");
}

#[tokio::test]
async fn days_that_cannot_be_are_refused() {
    for (value, why) in
        [("0", "at least 1"), ("-3", "invalid digit"), ("soon", "invalid digit"), ("99999", "at most 36500")]
    {
        let refused =
            process::retainai(["config"]).env("RETAINAI_KEEP_FAILED_DAYS", value).output(Duration::from_secs(20)).await;
        assert!(refused.code == Some(2) && refused.stderr.contains("keep_failed_days"), "{refused:#?}");
        assert!(refused.stderr.contains(why), "{value}: {}", refused.stderr);
    }
}
