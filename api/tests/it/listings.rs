//! What an operator says of a ticker, and how the API tells of those that rest.

use crate::{World, csv, date, weekdays};
use poem::http::Method;
use serde_json::{Value, json};

const FB: &str = "/v1/tickers/NASDAQ/FB";

async fn set(world: &World, path: &str, body: Value) -> crate::Answer {
    world.put(&format!("{path}/state"), body).await
}

#[tokio::test]
async fn an_operator_says_where_a_ticker_stands() {
    let world = World::new().await;
    world.import("NASDAQ:FB", 20).await;
    let suspended = json!({ "state": "suspended", "reason": "halted" });
    for _ in 0..2 {
        let said = set(&world, FB, suspended.clone()).await.ok();
        assert_eq!(
            (&said["state"], &said["active"], &said["reason"]),
            (&json!("suspended"), &json!(false), &json!("halted"))
        );
        assert_eq!(said["decided_by"], "operator");
    }
    assert_eq!(world.actions().await, ["ticker_state"], "twice is once");
    let symbols = async |state: &str| {
        let page = world.get(&format!("/v1/tickers?state={state}")).await.ok();
        page["items"].as_array().unwrap().len()
    };
    assert_eq!((symbols("suspended").await, symbols("active").await), (1, 0));
    world.get("/v1/tickers?state=asleep").await.problem(400, "bad_parameter");
    assert_eq!(set(&world, FB, json!({ "state": "active" })).await.ok()["active"], true);
    set(&world, FB, json!({ "state": "delisted" })).await.ok();
    let refused = set(&world, FB, suspended).await.problem(409, "ticker_state");
    assert_eq!(refused["state"], "delisted");
    set(&world, "/v1/tickers/NASDAQ/NOPE", json!({ "state": "active" })).await.problem(404, "unknown_ticker");
    for body in [
        json!({ "state": "renamed" }),
        json!({ "state": "suspended", "successor": "NASDAQ:META" }),
        json!({ "state": "merged", "successor": "META" }),
    ] {
        set(&world, FB, body).await.problem(422, "bad_body");
    }
}

#[tokio::test]
async fn a_renamed_ticker_answers_with_where_it_went() {
    let world = World::new().await;
    world.import("NASDAQ:FB", 20).await;
    let before = world.get("/v1/forecasts/NASDAQ/FB").await;
    assert!(before.json()["resting"].is_null(), "{}", before.text());
    let renamed = json!({ "state": "renamed", "successor": "NASDAQ:META", "reason": "a new name" });
    assert_eq!(set(&world, FB, renamed).await.ok()["successor"], "NASDAQ:META");
    assert_eq!(world.get(FB).await.ok()["successor"], "NASDAQ:META");
    let resting = world.get("/v1/forecasts/NASDAQ/FB").await.ok()["resting"].clone();
    assert_eq!(
        (&resting["state"], &resting["successor"], &resting["reason"]),
        (&json!("renamed"), &json!("NASDAQ:META"), &json!("a new name"))
    );
    // Whoever has the answer of before is told that it has changed.
    let tag = [("if-none-match", before.header("etag"))];
    assert_eq!(world.get_with("/v1/forecasts/NASDAQ/FB", &tag).await.status, 200);
    let new = world.get("/v1/tickers/NASDAQ/META").await.ok();
    assert_eq!(
        (&new["bars"], &new["state"], &new["last_session"]),
        (&json!(20), &json!("active"), &json!(crate::FRIDAY))
    );
    assert!(world.get("/v1/forecasts/NASDAQ/META").await.ok()["resting"].is_null());
    assert_eq!(
        world.get(&format!("{FB}/bars")).await.ok()["items"].as_array().unwrap().len(),
        20,
        "the old name keeps its own"
    );
    let listed = world.get("/v1/forecasts").await.ok();
    assert!(
        listed["items"].as_array().unwrap().iter().all(|one| one["ticker"] != "FB" || one["resting"].is_object()),
        "{listed}"
    );
}

#[tokio::test]
async fn two_securities_are_not_one() {
    let world = World::new().await;
    world.import("NASDAQ:FB", 20).await;
    let days = weekdays(20);
    let file: String = csv(&days).lines().enumerate().map(|(n, line)| other(n, line)).collect();
    crate::ask(
        &world.app,
        Method::PUT,
        "/v1/tickers/NASDAQ/META/bars",
        &[("content-type", "text/csv")],
        poem::Body::from(file),
    )
    .await
    .ok();
    let renamed = json!({ "state": "renamed", "successor": "NASDAQ:META" });
    let refused = set(&world, FB, renamed).await.problem(409, "ticker_state");
    assert!(refused["detail"].as_str().unwrap().contains("two securities"), "{refused}");
    assert_eq!(date(crate::FRIDAY), *days.last().unwrap());
}

/// A row with other prices.
fn other(n: usize, line: &str) -> String {
    let date = line.split(',').next().unwrap();
    if n == 0 { format!("{line}\n") } else { format!("{date},,,,{:.2},1000\n", 300.0 - n as f64) }
}
