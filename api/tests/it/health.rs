//! Health, and what is said when the database is away.

use crate::World;
use serde_json::json;
use workflows::clock::FixedClock;
use workflows::queue::MemoryQueue;
use workflows::{Cache, Db, Engine, EngineSettings, Ledger, Stores};

#[tokio::test]
async fn a_well_server_is_ready() {
    let world = World::new().await;
    assert_eq!(world.get("/health/live").await.ok(), json!({ "status": "live", "version": "1.2.3" }));
    let well = json!({ "ok": true });
    let ready = json!({ "status": "ready", "checks": { "database": well, "queue": well, "cache": well } });
    assert_eq!(world.get("/health/ready").await.ok(), ready);
}

#[tokio::test]
async fn a_closed_database_is_named_and_nothing_leaks() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    world.stores.db.close().await;
    let answer = world.get("/health/ready").await;
    assert_eq!(answer.status, 503);
    let body = answer.json();
    assert_eq!((&body["status"], &body["checks"]["database"]["ok"]), (&"unready".into(), &false.into()));
    assert_eq!(body["checks"]["queue"], json!({ "ok": true }));
    assert_eq!(world.get("/health/live").await.status, 200, "alive all the same");
    for path in ["/v1/tickers", "/v1/forecasts", "/v1/forecasts/NASDAQ/AAPL", "/v1/runs", "/v1/schedules"] {
        let answer = world.get(path).await;
        let text = answer.problem(503, "database_unavailable").to_string();
        assert_eq!(answer.header("retry-after"), "2");
        assert!(!text.contains("pool") && !text.contains("sql"), "{text}");
    }
    let start = world.post("/v1/runs", json!({ "exchange": "NASDAQ", "ticker": "AAPL" })).await;
    start.problem(503, "database_unavailable");
}

#[tokio::test]
async fn a_schema_that_is_behind_is_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let db = Db::sqlite(&folder.path().join("empty.db")).await.unwrap();
    let clock = std::sync::Arc::new(FixedClock::default());
    let queue = std::sync::Arc::new(MemoryQueue::default());
    let engine = Engine::new(Ledger::Sql(db.clone()), queue, clock, EngineSettings::default());
    let app = api::app(api::ApiState::new(engine, Stores { db, cache: Cache::memory() }, "1"));
    let ask = |path| crate::ask(&app, poem::http::Method::GET, path, &[], poem::Body::empty());
    let answer = ask("/health/ready").await;
    assert_eq!(answer.status, 503);
    assert!(answer.json()["checks"]["database"]["reason"].as_str().unwrap().contains("retainai migrate"));
    // A fault of ours, said without a word of SQL.
    let text = ask("/v1/tickers").await.problem(500, "internal").to_string();
    assert!(!text.contains("table") && !text.contains("select"), "{text}");
}
