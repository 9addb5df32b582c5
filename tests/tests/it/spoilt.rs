//! Thirty sessions in which every other request to a NASDAQ source, and every fifth to a NEPSE one, meets a fault: nothing is missing at the end, nothing is wrong, nothing is there twice, and each fault
//! that a source cannot bear stands in an attempt of a run.

use crate::installation::{Installation, LIMIT};
use chrono::{Datelike, NaiveDate, Weekday};
use product_tests::eventually;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const TICKERS: [&str; 4] = ["NASDAQ:AAPL", "NASDAQ:GOOG", "NEPSE:DEMOBA", "NEPSE:DEMOHO"];
const SITES: [&str; 4] = ["yahoo", "nasdaq", "sharesansar", "merolagani"];
/// Each of these is a failure of the source that meets it.
const HARD: [&str; 7] = ["500", "429", "truncate", "challenge", "layout_changed", "endless", "gzip_bomb"];
/// These a source may bear, or take for a day without a session.
const SOFT: [&str; 5] = ["stale", "csrf", "layout22", "layout21", "empty"];
const SESSIONS: usize = 30;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thirty_sessions_of_faults_leave_no_gap() {
    let installation = Installation::embedded(&TICKERS).await.with("RETAINAI_SOURCE_BREAKER_FAILURES", "0");
    let installation = installation.with("RETAINAI_FINETUNE_EVERY", "50");
    let _processes = installation.start(&[]).await;
    ended(&installation, 1).await;
    for session in 0..SESSIONS {
        for (n, site) in SITES.iter().enumerate() {
            // Two thirds of the sessions are hard; no two sites meet the same.
            let kinds: &[&str] = if session % 3 == 2 { &SOFT } else { &HARD };
            let kind = kinds[(session + 2 * n) % kinds.len()];
            // A NASDAQ source asks once for a ticker. A NEPSE one asks up to four times in a row and has not one answer where every other is spoilt.
            let every = if n < 2 { 2 } else { 5 };
            installation.fault(json!({ "site": site, "kind": kind, "every": every })).await;
        }
        installation.set_clock(&format!("{}T23:30:00Z", weekday(session))).await;
        ended(&installation, session + 2).await;
    }
    for site in SITES {
        installation.fault(json!({ "site": site, "kind": "none" })).await;
    }
    // One sound session more: what a run could not get is fetched by the next.
    installation.set_clock(&format!("{}T23:30:00Z", weekday(SESSIONS))).await;
    ended(&installation, SESSIONS + 2).await;
    for ticker in TICKERS {
        check_bars(&installation, ticker).await;
    }
    check_attempts(&installation).await;
}

/// The weekdays after the first session. On each of them both schedules fire, holidays among them; NEPSE's Sundays are left to the next run.
fn weekday(n: usize) -> NaiveDate {
    let first = NaiveDate::from_ymd_opt(2012, 12, 4).unwrap();
    first.iter_days().filter(|day| !matches!(day.weekday(), Weekday::Sat | Weekday::Sun)).nth(n).unwrap()
}

/// Waits until every ticker has had so many runs, and all have ended.
async fn ended(installation: &Installation, runs: usize) {
    let over = "select count(*) from run where plan = 'ticker' and state not in ('queued', 'running')";
    let open = "select count(*) from run where plan = 'ticker' and state in ('queued', 'running')";
    let wanted = i64::try_from(runs * TICKERS.len()).unwrap();
    eventually("the runs of a session to end", LIMIT, || async {
        (installation.number(over).await >= wanted && installation.number(open).await == 0).then_some(())
    })
    .await;
}

/// What is archived is what the market says: each session once, with its close.
async fn check_bars(installation: &Installation, ticker: &str) {
    let (exchange, symbol) = ticker.split_once(':').unwrap();
    let bars = installation.get(&format!("/v1/tickers/{exchange}/{symbol}/bars?limit=5000")).await;
    let ours: BTreeMap<String, f64> = bars["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bar| (bar["session"].as_str().unwrap().to_owned(), bar["close"].as_f64().unwrap()))
        .collect();
    assert_eq!(ours.len(), bars["items"].as_array().unwrap().len(), "{ticker}: no session twice");
    let theirs = installation.market(&format!("/sim/closes/{exchange}/{symbol}")).await;
    let first = ours.keys().next().unwrap().clone();
    let theirs: BTreeMap<String, f64> = theirs
        .as_object()
        .unwrap()
        .iter()
        .filter(|(session, _)| **session >= first)
        .map(|(session, close)| (session.clone(), close.as_f64().unwrap()))
        .collect();
    assert_eq!(ours, theirs, "{ticker}");
}

/// Each hard fault is a failure of its source in an attempt.
async fn check_attempts(installation: &Installation) {
    let served: Value = installation.market("/sim/faults").await;
    let told = installation.texts("select detail from attempt where step = 'scrape' and detail is not null").await;
    for site in SITES {
        let hard: u64 = HARD.iter().filter_map(|kind| served[site][kind].as_u64()).sum();
        let soft: u64 = SOFT.iter().filter_map(|kind| served[site][kind].as_u64()).sum();
        let failures = told
            .iter()
            .flat_map(|text| text.split("; "))
            .filter(|part| part.contains(&format!("{site}: ")) || part.contains(&format!("{site} had failed: ")));
        let failures = failures.count() as u64;
        println!("{site}: {hard} hard faults and {soft} soft ones, {failures} failures told");
        // More, where a source refuses for a reason of its own: a host that rests, prices that do not join the archive.
        assert!(failures >= hard, "{site}: {failures} of {hard} and {soft}; {told:#?}");
    }
    let hard: u64 = SITES.iter().flat_map(|site| HARD.iter().filter_map(|kind| served[*site][kind].as_u64())).sum();
    assert!(hard > 30, "there were faults: {served}");
}
