//! Bad input and servers that are away: a clear word, nothing lost, nothing stuck.

use crate::installation::{Installation, LIMIT};
use product_tests::{eventually, free_port, http, process};
use serde_json::json;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_changed_page_fails_the_run_with_a_word_and_the_next_session_heals() {
    let installation = Installation::embedded(&["NASDAQ:AAPL"]).await;
    installation.fault(json!({ "site": "yahoo", "kind": "layout_changed" })).await;
    installation.fault(json!({ "site": "nasdaq", "kind": "layout_changed" })).await;
    let _processes = installation.start(&[]).await;
    let runs = installation.runs_ended(1).await;
    assert_eq!(runs[0]["state"], "failed");
    let reason = runs[0]["reason"].as_str().unwrap();
    assert!(reason.contains("does not heal (layout_changed)") && reason.contains("the page has changed"), "{reason}");
    installation.check_the_books().await;
    installation.fault(json!({ "site": "yahoo", "kind": "none" })).await;
    installation.fault(json!({ "site": "nasdaq", "kind": "none" })).await;
    installation.next_session().await;
    let healed = eventually("a run that succeeds", LIMIT, || async {
        let runs = installation.get("/v1/runs?state=succeeded").await;
        (!runs["items"].as_array()?.is_empty()).then_some(())
    });
    healed.await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_is_away_is_asked_again() {
    let installation = Installation::embedded(&["NASDAQ:AAPL"]).await;
    installation.fault(json!({ "site": "yahoo", "kind": "500", "times": 1 })).await;
    installation.fault(json!({ "site": "nasdaq", "kind": "500", "times": 1 })).await;
    let _processes = installation.start(&[]).await;
    let runs = installation.runs_ended(1).await;
    assert_eq!(runs[0]["state"], "succeeded");
    assert_eq!(
        installation.number("select count(*) from attempt where step = 'scrape' and outcome = 'retry'").await,
        1
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_source_stands_in_for_the_first() {
    let installation = Installation::embedded(&["NASDAQ:AAPL", "NEPSE:DEMOBA"]).await;
    let _processes = installation.start(&[]).await;
    installation.runs_ended(2).await;
    let archived = |source: &str| format!("select count(*) from price_raw where source = '{source}'");
    assert_eq!(installation.number(&archived("nasdaq")).await + installation.number(&archived("merolagani")).await, 0);
    // Each first source fails in a way that does not heal by itself.
    installation.fault(json!({ "site": "yahoo", "kind": "challenge" })).await;
    installation.fault(json!({ "site": "sharesansar", "kind": "layout_changed" })).await;
    installation.next_session().await;
    installation.runs_ended(4).await;
    for source in ["nasdaq", "merolagani"] {
        assert_eq!(
            installation.number(&archived(source)).await,
            1,
            "the new session, and nothing that was known: {source}"
        );
    }
    assert_eq!(installation.number("select count(*) from run where state = 'failed'").await, 0);
    let listed = installation.retainai(&["source", "list", "--json"]).output(LIMIT).await;
    let listed = listed.json();
    let yahoo = listed["items"].as_array().unwrap().iter().find(|item| item["id"] == "yahoo").unwrap();
    assert_eq!((&yahoo["last_error"], &yahoo["order"]), (&json!("blocked"), &json!(1)), "{listed:#}");
    assert!(yahoo["last_success_at"].is_string() && yahoo["used_today"].as_u64() > Some(0), "{yahoo:#}");
    // And back again.
    installation.fault(json!({ "site": "yahoo", "kind": "none" })).await;
    installation.fault(json!({ "site": "sharesansar", "kind": "none" })).await;
    installation.next_session().await;
    installation.runs_ended(6).await;
    for source in ["nasdaq", "merolagani"] {
        assert_eq!(installation.number(&archived(source)).await, 1, "{source}");
    }
    installation.check_the_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_are_away_are_named_and_waited_for() {
    let Some(installation) = Installation::on_servers(&["NASDAQ:AAPL"]).await else { return };
    // A database that nobody answers for, and the real Redis.
    let nobody = format!("postgres://retainai:secret@127.0.0.1:{}/none", free_port());
    let api = installation.retainai(&["api"]).env("RETAINAI_DATABASE_URL", &nobody).spawn();
    let ready = eventually("an answer", LIMIT, || async {
        let answer = http::client().get(installation.url("/health/ready")).send().await.ok()?;
        (answer.status() == 503).then_some(answer.json::<serde_json::Value>().await.ok()?)
    })
    .await;
    let check = |store: &str| ready["checks"][store]["ok"].as_bool().unwrap();
    assert_eq!((check("queue"), check("cache"), check("database")), (true, true, false), "{ready:#}");
    assert_eq!(http::status(&installation.url("/health/live")).await, Some(200));
    let answer = http::client().get(installation.url("/v1/forecasts")).send().await.unwrap();
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.json::<serde_json::Value>().await.unwrap()["code"], "database_unavailable");
    assert!(!api.log().contains("secret"), "no password in the log");
    drop(api);
    // The real database, and a Redis that nobody answers for.
    let nobody = format!("redis://:secret@127.0.0.1:{}", free_port());
    let api = installation.retainai(&["api"]).env("RETAINAI_REDIS_URL", &nobody).spawn();
    eventually("queue and cache to be named", LIMIT, || async {
        let answer = http::client().get(installation.url("/health/ready")).send().await.ok()?;
        let checks = answer.json::<serde_json::Value>().await.ok()?["checks"].clone();
        (checks["queue"]["ok"] == false && checks["cache"]["ok"] == false).then_some(())
    })
    .await;
    assert!(!api.log().contains("secret"), "no password in the log");
    drop(api);
    // Started before the schema exists: it waits, says why, and goes on once `migrate` has run.
    let mut worker = installation.retainai(&["worker"]).spawn();
    worker.wait_for_line("migrations", LIMIT).await;
    let _rest = installation.start(&[]).await;
    let runs = installation.runs_ended(1).await;
    assert_eq!(runs[0]["state"], "succeeded");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_day_is_no_error() {
    let installation = Installation::embedded(&["NEPSE:DEMOHY"]).await;
    let _processes = installation.start(&[]).await;
    installation.runs_ended(1).await;
    installation.set_clock("2012-12-05T23:30:00Z").await;
    installation.runs_ended(2).await;
    // A Thursday, but a holiday of the invented exchange: the schedule fires, the page stands still.
    installation.set_clock("2012-12-06T23:30:00Z").await;
    let runs = installation.runs_ended(3).await;
    assert_eq!(
        (&runs[0]["state"], &runs[0]["session"]),
        (&json!("no_new_session"), &json!("2012-12-05")),
        "{:#}",
        runs[0]
    );
    assert!(runs[0]["reason"].as_str().unwrap().contains("no session since 2012-12-05"), "{:#}", runs[0]);
    installation.check_the_books().await;
}

#[tokio::test]
async fn bad_usage_exits_2_and_says_why() {
    for (arguments, says) in [
        (vec!["up", "--listen", "everywhere"], "listen"),
        (vec!["run", "NYSE:IBM"], "unknown exchange"),
        (vec!["run", "NASDAQ:../etc"], "not a symbol"),
        (vec!["forecast"], "EXCHANGE:TICKER"),
        (vec!["nonsense"], "nonsense"),
    ] {
        let ended = process::retainai(&arguments).output(Duration::from_secs(20)).await;
        assert_eq!(ended.code, Some(2), "{arguments:?}: {ended:#?}");
        assert!(ended.stderr.contains(says), "{arguments:?}: {}", ended.stderr);
    }
    let unknown = process::retainai(["config"]).env("RETAINAI_TYPO", "1").output(Duration::from_secs(20)).await;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("RETAINAI_TYPO"), "{unknown:#?}");
    let half = process::retainai(["config"])
        .env("RETAINAI_REDIS_URL", "redis://127.0.0.1")
        .output(Duration::from_secs(20))
        .await;
    assert!(half.code == Some(2) && half.stderr.contains("database_url"), "{half:#?}");
    let masked = process::retainai(["config", "--json"])
        .env("RETAINAI_DATABASE_URL", "postgres://me:hunter2@db/x")
        .env("RETAINAI_REDIS_URL", "redis://:hunter2@cache")
        .env("RETAINAI_TIINGO_KEY", "hunter2")
        .output(Duration::from_secs(20))
        .await;
    assert!(masked.code == Some(0) && !masked.stdout.contains("hunter2"), "{masked:#?}");
}
