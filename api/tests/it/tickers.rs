//! Tickers, exchanges and schedules.

use crate::{FRIDAY, World, ask};
use poem::Body;
use poem::http::Method;
use workflows::scheduler::default_schedules;

#[tokio::test]
async fn tickers_are_listed_in_order_and_paged() {
    let world = World::new().await;
    for ticker in ["NEPSE:NABIL", "NASDAQ:MSFT", "NASDAQ:AAPL"] {
        world.import(ticker, 20).await;
    }
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/v1/tickers?limit=2{cursor}")).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|item| item["ticker"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(seen, ["AAPL", "MSFT", "NABIL"]);
    let nepse = world.get("/v1/tickers?exchange=NEPSE").await.ok();
    assert_eq!(nepse["items"].as_array().unwrap().len(), 1);
    world.get("/v1/tickers?exchange=LSE").await.problem(400, "bad_parameter");
    world.get("/v1/tickers?cursor=72756e3a78").await.problem(400, "bad_cursor");
}

#[tokio::test]
async fn one_ticker_says_what_is_known() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    let mut body = world.get("/v1/tickers/NASDAQ/AAPL").await.ok();
    assert!(body["since"].take().is_string());
    let expected = serde_json::json!({
        "exchange": "NASDAQ", "ticker": "AAPL", "active": true, "bars": 20, "last_session": FRIDAY, "state": "active", "since": null,
        "reason": "it has bars, up to 2024-01-26", "decided_by": "evidence"
    });
    assert_eq!(body, expected);
    world.get("/v1/tickers/NASDAQ/NOPE").await.problem(404, "unknown_ticker");
    world.get("/v1/tickers/LSE/AAPL").await.problem(404, "unknown_exchange");
}

#[tokio::test]
async fn a_ticker_is_made_known_once() {
    let world = World::new().await;
    for _ in 0..2 {
        let answer = ask(&world.app, Method::PUT, "/v1/tickers/nepse/nabil", &[], Body::empty()).await.ok();
        assert_eq!((&answer["ticker"], &answer["bars"]), (&"NABIL".into(), &0.into()));
    }
    assert_eq!(world.get("/v1/tickers").await.ok()["items"].as_array().unwrap().len(), 1);
    let refused = ask(&world.app, Method::PUT, "/v1/tickers/NEPSE/..", &[], Body::empty()).await;
    assert!(refused.status.is_client_error());
    ask(&world.app, Method::PUT, "/v1/tickers/LSE/A", &[], Body::empty()).await.problem(404, "unknown_exchange");
}

#[tokio::test]
async fn exchanges_know_their_hours() {
    let world = World::new().await;
    let body = world.get("/v1/exchanges").await.ok();
    let nasdaq = serde_json::json!({
        "exchange": "NASDAQ", "time_zone": "America/New_York", "currency": "USD", "opens": "09:30", "closes": "16:00",
        "final_after_minutes": 30, "latest_final_session": FRIDAY
    });
    assert_eq!(body["items"][0], nasdaq);
    assert_eq!(body["items"][1]["exchange"], "NEPSE");
}

#[tokio::test]
async fn schedules_are_shown() {
    let world = World::new().await;
    assert_eq!(world.get("/v1/schedules").await.ok()["items"], serde_json::json!([]));
    for schedule in default_schedules() {
        world.engine.ledger.add_schedule(&schedule).await.unwrap();
    }
    world.import("NASDAQ:AAPL", 20).await;
    world.clock.set("2024-01-27T12:00:00Z".parse().unwrap());
    workflows::scheduler::look(&world.engine, true).await.unwrap();
    let mut daily = world.get("/v1/schedules").await.ok()["items"][0].clone();
    let ticks = daily["last_ticks"].take();
    assert_eq!(
        (&ticks[0]["session"], &ticks[0]["state"], &ticks[0]["runs"]),
        (&FRIDAY.into(), &"fired".into(), &1.into())
    );
    assert_eq!(daily["next_ticks"].take().as_array().unwrap().len(), 10);
    let expected = serde_json::json!({
        "id": "nasdaq-daily", "exchange": "NASDAQ", "plan": "ticker", "local_time": "18:15", "time_zone": "America/New_York",
        "catch_up": "latest", "overlap": "queue_one", "state": "active", "paused": false, "last_session": FRIDAY,
        "last_ticks": null, "next_ticks": null
    });
    assert_eq!(daily, expected);
    let runs = world.get("/v1/runs").await.ok();
    assert_eq!(runs["items"][0]["schedule"], "nasdaq-daily");
}
