//! A company leaves NEPSE's page for ten sessions and comes back; a page of which half is missing; tickers that the page itself makes known.

use crate::installation::{Installation, LIMIT};
use product_tests::{eventually, http};
use serde_json::{Value, json};

/// The first session of the stand-in market.
const FIRST: &str = "2012-12-03";

async fn ticker(installation: &Installation, symbol: &str) -> Value {
    installation.get(&format!("/v1/tickers/NEPSE/{symbol}")).await
}

async fn until_it_is(installation: &Installation, symbol: &str, state: &str) -> Value {
    eventually(&format!("{symbol} to be {state}"), LIMIT, || async {
        let found = http::get_json(&installation.url(&format!("/v1/tickers/NEPSE/{symbol}"))).await.ok()?;
        (found["state"] == state).then_some(found)
    })
    .await
}

/// Moves the market on until NEPSE has had one session more, and waits for its runs.
async fn next_of_nepse(installation: &Installation) {
    let pages = installation.number("select count(*) from market_page").await;
    while installation.number("select count(*) from market_page").await == pages {
        let runs = installation.number("select count(*) from run where plan = 'ticker'").await;
        installation.next_session().await;
        // On a day of NASDAQ alone the schedule fires as well, and its runs find no new session.
        installation.runs_ended(usize::try_from(runs).unwrap() + 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_vanishes_from_the_page_is_suspended_and_comes_back() {
    let installation =
        Installation::embedded(&["NEPSE:DEMOBA", "NEPSE:DEMOHY"]).await.with("RETAINAI_FINETUNE_EVERY", "1000");
    let _processes = installation.start(&[]).await;
    installation.runs_ended(2).await;
    assert_eq!(ticker(&installation, "DEMOHY").await["state"], "active");
    installation.take_away("DEMOHY", "2012-12-04", None).await;
    for _ in 0..10 {
        next_of_nepse(&installation).await;
    }
    let suspended = until_it_is(&installation, "DEMOHY", "suspended").await;
    assert_eq!((&suspended["active"], &suspended["decided_by"]), (&json!(false), &json!("evidence")));
    assert!(suspended["reason"].as_str().unwrap().contains("10 sessions since its bar of 2012-12-03"), "{suspended:#}");
    assert_eq!(ticker(&installation, "DEMOBA").await["state"], "active");
    let forecast = installation.get("/v1/forecasts/NEPSE/DEMOHY").await;
    assert_eq!(forecast["resting"]["state"], "suspended", "{forecast:#}");
    let scheduled = "select count(*) from run where ticker = 'DEMOHY' and schedule_id is not null";
    let before = installation.number(scheduled).await;
    // It is traded again: the page has it, it is looked at, and what it brings makes it active.
    let today = installation.number("select cast(strftime('%s', max(session)) as integer) from market_page").await;
    let until = chrono::DateTime::from_timestamp(today + 86_400, 0).unwrap().date_naive();
    installation.take_away("DEMOHY", "2012-12-04", Some(&until.to_string())).await;
    next_of_nepse(&installation).await;
    let back = until_it_is(&installation, "DEMOHY", "active").await;
    assert_eq!(back["active"], true, "{back:#}");
    assert_eq!(installation.number(scheduled).await, before, "no schedule had a part in it");
    installation.until("no open run", "select count(*) from active", 0).await;
    eventually("the forecast to say nothing of it any more", LIMIT, || async {
        installation.get("/v1/forecasts/NEPSE/DEMOHY").await["resting"].is_null().then_some(())
    })
    .await;
    installation.check_the_books().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_with_half_of_its_rows_is_set_aside_and_the_same_again_confirms_it() {
    let installation = Installation::embedded(&["NEPSE:DEMOBA", "NEPSE:DEMOHY"]).await;
    let _processes = installation.start(&[]).await;
    installation.runs_ended(2).await;
    installation.fault(json!({ "site": "sharesansar", "kind": "half" })).await;
    installation.set_clock("2012-12-04T23:30:00Z").await;
    let runs = installation.runs_ended(4).await;
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "the other source stands in: {runs:#?}");
    let of_today =
        |source: &str| format!("select count(*) from price_raw where source = '{source}' and session > '{FIRST}'");
    assert_eq!(installation.number(&of_today("sharesansar")).await, 0, "nothing of the page was taken");
    assert_eq!(installation.number(&of_today("merolagani")).await, 2);
    let waits = installation.get("/v1/quarantine?rule=partial_page").await["items"].clone();
    assert_eq!(
        (&waits[0]["ticker"], &waits[0]["session"], &waits[0]["state"]),
        (&json!("*"), &json!("2012-12-04"), &json!("open"))
    );
    assert_eq!(waits.as_array().unwrap().len(), 1);
    // An hour later it says the same.
    installation.set_clock("2012-12-05T00:30:00Z").await;
    let id = waits[0]["id"].as_str().unwrap();
    // The program asks for the market's time now and then: the first runs may not know of it yet.
    eventually("the page to be confirmed", LIMIT, || async {
        let ran = installation.retainai(&["run", "NEPSE:DEMOBA", "--json"]).output(LIMIT).await;
        assert_eq!(ran.code, Some(0), "{ran:#?}");
        let found = installation.get("/v1/quarantine?rule=partial_page").await["items"][0].clone();
        assert_eq!(found["id"], id, "{found:#}");
        (found["state"] == "confirmed").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_page_makes_its_tickers_known_but_for_those_that_are_excluded() {
    let installation = Installation::embedded(&["NEPSE:DEMOBA"])
        .await
        .with("RETAINAI_NEPSE_UNIVERSE", "page")
        .with("RETAINAI_NEPSE_EXCLUDE", "DEMOM*")
        .with("RETAINAI_NEPSE_INCLUDE", "DEMOMF");
    let _processes = installation.start(&[]).await;
    let known = eventually("the page's tickers to have bars", LIMIT, || async {
        let listed =
            http::get_json(&installation.url("/v1/tickers?state=active")).await.ok()?["items"].as_array()?.clone();
        let symbols: Vec<String> = listed.iter().filter_map(|one| Some(one["ticker"].as_str()?.to_owned())).collect();
        (symbols.len() >= 7 && symbols.iter().any(|symbol| symbol == "DEMOBB")).then_some(symbols)
    })
    .await;
    assert!(known.contains(&"DEMOMF".to_owned()) && !known.contains(&"DEMOMI".to_owned()), "{known:?}");
    let command = |words: &'static str| {
        let words: Vec<&str> = words.split(' ').chain(["--json"]).collect();
        installation.retainai(&words).output(LIMIT)
    };
    let merged = command("tickers merge NEPSE:DEMOBB NEPSE:DEMOBA --reason one_bank").await;
    assert_eq!(merged.code, Some(0), "{merged:#?}");
    let merged: Value = serde_json::from_str(&merged.stdout).unwrap();
    assert_eq!((&merged["state"], &merged["successor"]), (&json!("merged"), &json!("NEPSE:DEMOBA")));
    let refused = command("tickers suspend NEPSE:DEMOBB").await;
    assert_eq!(refused.code, Some(1), "{refused:#?}");
    assert_eq!(command("tickers resume NEPSE:DEMOBB").await.code, Some(0));
    let suspended = command("tickers suspend NEPSE:DEMOBB").await;
    assert_eq!(suspended.code, Some(0), "{suspended:#?}");
    let listed: Value = serde_json::from_str(&command("tickers list --state suspended").await.stdout).unwrap();
    assert_eq!(listed["items"][0]["ticker"], "DEMOBB");
    assert_eq!(command("tickers list --state asleep").await.code, Some(2));
}
