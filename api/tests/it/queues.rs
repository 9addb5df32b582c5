//! Queues and pauses: what waits and runs is counted, and what is paused waits until it is resumed.

use crate::World;
use serde_json::{Value, json};
use std::time::Instant;
use workflows::message::Message;
use workflows::plan::Step;

async fn world() -> World {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    world.import("NEPSE:NABIL", 20).await;
    world
}

async fn started(world: &World, ticker: &str) -> String {
    let (exchange, symbol) = ticker.split_once(':').unwrap();
    let run = world.post("/v1/runs", json!({ "exchange": exchange, "ticker": symbol })).await.ok();
    run["id"].as_str().unwrap().to_owned()
}

async fn scrape(world: &World) -> Value {
    let queues = world.get("/v1/queues").await.ok();
    queues["items"].as_array().unwrap().iter().find(|queue| queue["step"] == "scrape").unwrap().clone()
}

async fn first_step(world: &World, run: &str) -> String {
    world.get(&format!("/v1/runs/{run}")).await.ok()["steps"][0]["state"].as_str().unwrap().to_owned()
}

/// Whether a worker would get the run's first step now.
async fn claimed(world: &World, run: &str, generation: i64) -> bool {
    let (ledger, now) = (&world.engine.ledger, world.engine.ledger.now());
    let message = Message { run: run.parse().unwrap(), step: Step::Scrape, generation, queue: Step::Scrape.queue(10) };
    let until = now + chrono::TimeDelta::seconds(60);
    let claims = ledger.claim(&[message], world.engine.instance, "test", now, until).await.unwrap();
    claims[0].is_some()
}

#[tokio::test]
async fn queues_are_counted_by_lane() {
    let world = world().await;
    let empty = scrape(&world).await;
    assert_eq!(
        (&empty["ready"], &empty["slots"], &empty["paused"], &empty["oldest_due_s"]),
        (&0.into(), &0.into(), &false.into(), &Value::Null)
    );
    let run = started(&world, "NASDAQ:AAPL").await;
    started(&world, "NASDAQ:AAPL").await;
    started(&world, "NEPSE:NABIL").await;
    let ledger = &world.engine.ledger;
    let (instance, now) = (world.engine.instance, ledger.now());
    ledger.sign_on(instance, "host-7", "1.2.3", "scrape,cache", 4, now).await.unwrap();
    assert!(claimed(&world, &run, 1).await);
    let queue = scrape(&world).await;
    assert_eq!(
        (&queue["waiting"], &queue["ready"], &queue["running"], &queue["slots"]),
        (&1.into(), &1.into(), &1.into(), &4.into())
    );
    assert!(queue["oldest_due_s"].as_f64().unwrap() >= 0.0, "{queue}");
    let lanes: Vec<_> = queue["lanes"].as_array().unwrap().iter().map(|l| (&l["lane"], &l["ready"])).collect();
    assert_eq!(lanes, [(&"now".into(), &1.into()), (&"scheduled".into(), &0.into()), (&"later".into(), &0.into())]);
    let workers = world.get("/v1/workers").await.ok();
    let worker = &workers["items"][0];
    assert_eq!((&worker["name"], &worker["steps"]), (&"host-7".into(), &json!(["scrape", "cache"])));
    assert_eq!(
        (&worker["slots"], &worker["held"], &worker["live"], &worker["version"]),
        (&4.into(), &1.into(), &true.into(), &"1.2.3".into())
    );
}

#[tokio::test]
async fn what_is_paused_waits_until_it_is_resumed() {
    let world = world().await;
    for (kind, value) in [("step", "scrape"), ("exchange", "NASDAQ"), ("ticker", "NASDAQ:AAPL")] {
        let path = format!("/v1/pauses/{kind}/{value}");
        let pause = world.put(&path, json!({ "reason": "a split" })).await.ok();
        assert_eq!(
            (&pause["kind"], &pause["value"], &pause["reason"]),
            (&kind.into(), &value.into(), &"a split".into())
        );
        let again = world.put(&path, json!({ "reason": "another" })).await.ok();
        assert_eq!(again, pause, "pausing twice is pausing once");
        assert_eq!(world.get("/v1/pauses").await.ok()["items"], json!([pause]));
        assert_eq!(scrape(&world).await["paused"], kind == "step");
        let run = started(&world, "NASDAQ:AAPL").await;
        assert!(!claimed(&world, &run, 1).await, "{kind}");
        assert_eq!(first_step(&world, &run).await, "waiting");
        let began = Instant::now();
        for _ in 0..2 {
            assert_eq!(world.delete(&path).await.status, 204);
        }
        assert_eq!(first_step(&world, &run).await, "ready");
        assert!(began.elapsed().as_millis() < 1_000, "{:?}", began.elapsed());
        assert!(claimed(&world, &run, 2).await, "{kind}");
        world.post(&format!("/v1/runs/{run}/cancel"), json!({})).await.ok();
        let cleanup =
            Message { run: run.parse().unwrap(), step: Step::Cleanup, generation: 1, queue: Step::Cleanup.queue(10) };
        world.carry_out(&cleanup, workflows::Outcome::Done("clean".into()), vec![]).await;
    }
    assert_eq!(world.get("/v1/pauses").await.ok()["items"], json!([]));
    let actions = world.actions().await;
    assert_eq!(actions.iter().filter(|a| *a == "pause").count(), 3, "{actions:?}");
    assert_eq!(actions.iter().filter(|a| *a == "resume").count(), 3, "{actions:?}");
}

#[tokio::test]
async fn sources_are_paused_and_spelling_is_forgiven_where_it_is_clear() {
    let world = world().await;
    let pause = world.put("/v1/pauses/source/yahoo", json!({})).await.ok();
    assert_eq!((&pause["value"], &pause["reason"]), (&"yahoo".into(), &"".into()));
    let ticker = world.put("/v1/pauses/ticker/nasdaq:aapl", json!(null)).await.ok();
    assert_eq!(ticker["value"], "NASDAQ:AAPL");
    assert_eq!(world.delete("/v1/pauses/ticker/NASDAQ:AAPL").await.status, 204);
    assert_eq!(world.get("/v1/pauses").await.ok()["items"], json!([pause]));
}

#[tokio::test]
async fn what_cannot_be_paused_is_told() {
    let world = world().await;
    for (path, code) in [
        ("step/dance", "unknown_step"),
        ("source/crystal-ball", "unknown_source"),
        ("exchange/LSE", "unknown_exchange"),
        ("ticker/NASDAQ:NOPE", "unknown_ticker"),
        ("ticker/AAPL", "unknown_ticker"),
        ("weather/rain", "unknown_kind"),
    ] {
        world.put(&format!("/v1/pauses/{path}"), json!({})).await.problem(404, code);
        world.delete(&format!("/v1/pauses/{path}")).await.problem(404, code);
    }
    let long = "x".repeat(501);
    world.put("/v1/pauses/step/scrape", json!({ "reason": long })).await.problem(422, "bad_body");
    world.put("/v1/pauses/step/scrape", json!({ "why": "so" })).await.problem(422, "bad_body");
    assert!(world.actions().await.is_empty());
}
