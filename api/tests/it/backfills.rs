//! Backfills: counted first, started a few at a time, paused, cancelled.

use crate::{World, ask};
use poem::Body;
use poem::http::Method;
use serde_json::{Value, json};
use workflows::scheduler::look;

async fn world() -> World {
    let world = World::new().await;
    for ticker in ["NASDAQ:AAPL", "NASDAQ:MSFT", "NEPSE:NABIL"] {
        world.import(ticker, 20).await;
    }
    world
}

/// Monday to Friday of the week that ends on the tests' Friday.
fn week() -> Value {
    json!({ "exchange": "NASDAQ", "from": "2024-01-20", "to": "2024-01-26", "offline": true })
}

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

#[tokio::test]
async fn a_dry_run_counts_and_starts_nothing() {
    let world = world().await;
    world.post("/v1/runs", json!({ "exchange": "NASDAQ", "ticker": "AAPL" })).await.ok();
    let counted = world.post("/v1/backfills", with(week(), "dry_run", true.into())).await;
    assert_eq!(counted.status, 200);
    let expected = json!({ "dry_run": true, "missing": 9, "failed": 0, "all": 10, "would_start": 9 });
    assert_eq!(counted.json(), expected);
    let one = with(with(week(), "dry_run", true.into()), "tickers", json!(["msft", "MSFT"]));
    assert_eq!(world.post("/v1/backfills", one).await.json()["would_start"], 5);
    assert_eq!(world.get("/v1/backfills").await.ok()["items"], json!([]));
}

#[tokio::test]
async fn a_backfill_starts_its_runs_a_few_at_a_time() {
    let world = world().await;
    let started = world.post("/v1/backfills", with(week(), "max_active", 3.into())).await;
    assert_eq!(started.status, 202, "{}", started.text());
    let backfill = started.json();
    let path = format!("/v1/backfills/{}", backfill["id"].as_str().unwrap());
    assert_eq!(started.header("location"), path);
    assert_eq!(
        (&backfill["state"], &backfill["policy"], &backfill["started"], &backfill["tickers"]),
        (&"running".into(), &"missing".into(), &0.into(), &json!([]))
    );
    for _ in 0..3 {
        look(&world.engine, true).await.unwrap();
    }
    let now = world.get(&path).await.ok();
    assert_eq!((&now["started"], &now["open"]), (&3.into(), &3.into()), "no more than it may have open");
    let runs = world.get("/v1/runs").await.ok();
    assert_eq!((&runs["items"][0]["backfill"], &runs["items"][0]["priority"]), (&backfill["id"], &(-10).into()));
    for (verb, state) in [
        ("pause", "paused"),
        ("pause", "paused"),
        ("resume", "running"),
        ("cancel", "cancelled"),
        ("cancel", "cancelled"),
    ] {
        let answer = world.post(&format!("{path}/{verb}"), json!({})).await.ok();
        assert_eq!(answer["state"], state, "{verb}");
    }
    let over = world.post(&format!("{path}/resume"), json!({})).await.problem(409, "backfill_over");
    assert_eq!(over["state"], "cancelled");
    assert_eq!(
        world.actions().await,
        ["backfill_start", "backfill_pause", "backfill_resume", "backfill_cancel"],
        "what changed nothing leaves no entry"
    );
    world
        .post("/v1/backfills/018cffff-0000-7000-8000-000000000000/pause", json!({}))
        .await
        .problem(404, "unknown_backfill");
}

#[tokio::test]
async fn backfills_are_paged() {
    let world = world().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.post("/v1/backfills", week()).await.ok()["id"].clone());
        // Ids order them by the millisecond.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    ids.reverse();
    let first = world.get("/v1/backfills?limit=2").await.ok();
    let rest =
        world.get(&format!("/v1/backfills?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await.ok();
    let seen: Vec<_> =
        [&first, &rest].iter().flat_map(|page| page["items"].as_array().unwrap()).map(|b| b["id"].clone()).collect();
    assert_eq!(seen, ids);
}

#[tokio::test]
async fn what_cannot_be_filled_is_told() {
    let world = world().await;
    let refused = async |field: &str, value: Value| {
        let problem = world.post("/v1/backfills", with(week(), field, value)).await.problem(422, "bad_body");
        problem["errors"][0]["field"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(refused("exchange", "LSE".into()).await, "exchange");
    assert_eq!(refused("from", "2024-01-27".into()).await, "from", "it is after the end");
    assert_eq!(refused("to", "2024-01-27".into()).await, "to", "it is in the future");
    assert_eq!(refused("from", "2014-01-17".into()).await, "from", "3,661 days");
    assert_eq!(refused("tickers", json!(["NOPE"])).await, "tickers");
    assert_eq!(refused("tickers", json!(["../x"])).await, "tickers");
    for (field, value) in
        [("policy", json!("some")), ("max_active", json!(0)), ("max_active", json!(1001)), ("color", json!(1))]
    {
        refused(field, value).await;
    }
    let longest = with(with(week(), "from", "2014-01-18".into()), "dry_run", true.into());
    assert!(world.post("/v1/backfills", longest).await.ok()["all"].as_i64().unwrap() > 5_000);
    let json_type = [("content-type", "application/json")];
    ask(&world.app, Method::POST, "/v1/backfills", &json_type, Body::from("{")).await.problem(400, "bad_json");
}
