//! `/v1/sources`: what is set, and how the hosts stand.

use crate::World;
use api::{ApiState, ConfiguredSource, Politeness};
use market::Exchange;
use serde_json::json;
use std::time::Duration;
use workflows::flow::{Ending, Flow, Limit, Verdict};

fn source(id: &str, exchange: Exchange, host: Option<&str>) -> ConfiguredSource {
    ConfiguredSource { id: id.to_owned(), exchange, host: host.map(str::to_owned) }
}

#[tokio::test]
async fn each_source_is_listed_in_order_with_how_its_host_stands() {
    let flow = Flow::memory("2024-01-26T23:00:00Z".parse().unwrap());
    let limit = Limit { daily_budget: Some(100), ..Limit::paced(Duration::from_millis(10)) };
    let permit = flow.acquire("one.example", &limit, Duration::ZERO).await.unwrap();
    flow.report(permit, Verdict::BlockedFor(Duration::from_secs(90))).await;
    let pause = Some(Duration::from_secs(5));
    flow.note_ending("one.example", Ending { error: None, pause }).await;
    flow.note_ending("one.example", Ending { error: Some("rate_limited"), pause }).await;
    let sources = vec![
        source("yahoo", Exchange::Nasdaq, Some("one.example")),
        source("csv", Exchange::Nasdaq, None),
        source("sharesansar", Exchange::Nepse, Some("two.example:8080")),
    ];
    let politeness = Politeness { sources, limit: Some(limit), flow: Some(flow) };
    let world = World::with(|state| ApiState { politeness, ..state }).await;
    assert_eq!(world.put("/v1/pauses/source/sharesansar", json!({ "reason": "a test" })).await.status, 200);
    let body = world.get("/v1/sources").await.json();
    let [yahoo, csv, sharesansar] = &body["items"].as_array().unwrap()[..] else { panic!("{body:#}") };
    assert_eq!((&yahoo["id"], &yahoo["order"], &yahoo["exchange"]), (&json!("yahoo"), &json!(1), &json!("NASDAQ")));
    assert_eq!(
        (&yahoo["used_today"], &yahoo["left_today"], &yahoo["daily_budget"]),
        (&json!(1), &json!(99), &json!(100))
    );
    assert_eq!(
        (&yahoo["pause_ms"], &yahoo["concurrency"], &yahoo["breaker"]),
        (&json!(5000), &json!(1), &json!("closed"))
    );
    assert_eq!((&yahoo["last_error"], &yahoo["paused"]), (&json!("rate_limited"), &json!(false)));
    assert!(yahoo["blocked_until"].is_string() && yahoo["last_success_at"].is_string(), "{yahoo:#}");
    assert_eq!(*csv, json!({ "id": "csv", "exchange": "NASDAQ", "order": 2, "paused": false }), "it asks nobody");
    assert_eq!((&sharesansar["order"], &sharesansar["paused"]), (&json!(1), &json!(true)));
    assert_eq!((&sharesansar["pause_ms"], &sharesansar["used_today"]), (&json!(10), &json!(0)), "not asked yet");
    assert_eq!(World::new().await.get("/v1/sources").await.json(), json!({ "items": [] }));
}
