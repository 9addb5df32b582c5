//! The stream of changes: in the order in which they happened, narrowed, and gone on with after a break.

use crate::World;
use futures::StreamExt;
use futures::stream::BoxStream;
use poem::http::{Method, StatusCode};
use poem::{Body, Endpoint, Request};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use workflows::Outcome;

/// An open stream.
struct Listener {
    bytes: BoxStream<'static, Vec<u8>>,
    text: String,
}

impl Listener {
    async fn open(world: &World, path: &str, last: Option<&str>) -> Self {
        Self::open_with(world, path, last, "").await
    }

    async fn open_with(world: &World, path: &str, last: Option<&str>, key: &str) -> Self {
        let mut request = Request::builder().method(Method::GET).uri_str(path).header("host", "localhost");
        request = request.header("x-api-key", key);
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = world.app.call(request.body(Body::empty())).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.content_type(), Some("text/event-stream"));
        let bytes = response.into_body().into_bytes_stream().map(|bytes| bytes.unwrap().to_vec());
        Self { bytes: bytes.boxed(), text: String::new() }
    }

    /// The next event: its id, kind and body. `None` at the end of the stream.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n").map(|(a, b)| (a.to_owned(), b.to_owned())) {
                self.text = rest;
                let field = |name: &str| {
                    let found = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                    found.map_or("", str::trim).to_owned()
                };
                if field("id").is_empty() {
                    continue;
                }
                return Some((field("id"), field("event"), serde_json::from_str(&field("data")).unwrap()));
            }
            let more =
                tokio::time::timeout(Duration::from_secs(20), self.bytes.next()).await.expect("an event in time");
            self.text.push_str(&String::from_utf8(more?).unwrap());
        }
    }

    async fn take(&mut self, count: usize) -> Vec<(String, String, Value)> {
        let mut taken = Vec::new();
        for _ in 0..count {
            taken.push(self.next().await.expect("the stream goes on"));
        }
        taken
    }
}

fn words(events: &[(String, String, Value)]) -> Vec<String> {
    let word = |(_, kind, body): &(String, String, Value)| {
        let text = |key: &str| body[key].as_str().unwrap_or("-").to_owned();
        format!("{kind} {} {} {}", text("ticker"), text("subject"), text("state"))
    };
    events.iter().map(word).collect()
}

#[tokio::test]
async fn changes_come_in_order_and_go_on_after_a_break() {
    let world = World::new().await;
    world.put("/v1/tickers/NASDAQ/AAPL", json!({})).await.ok();
    world.put("/v1/tickers/NASDAQ/MSFT", json!({})).await.ok();
    let mut all = Listener::open(&world, "/v1/events", None).await;
    let mut narrow = Listener::open(&world, "/v1/events?kind=run,pause&exchange=NASDAQ&ticker=msft", None).await;
    world.dead_run("NASDAQ:AAPL", Outcome::GiveUp("no".to_owned())).await;
    world.post("/v1/runs", json!({ "exchange": "NASDAQ", "ticker": "MSFT" })).await.ok();
    world.put("/v1/pauses/exchange/NEPSE", json!({})).await.ok();
    world.delete("/v1/pauses/exchange/NEPSE").await;
    let mut seen = all.take(1).await;
    while words(&seen).last().unwrap() != "pause - exchange:NEPSE resumed" {
        seen.extend(all.take(1).await);
    }
    let said = words(&seen);
    let at = |text: &str| said.iter().position(|said| said == text).unwrap_or_else(|| panic!("no {text}: {said:#?}"));
    let order = [
        "run AAPL - queued",
        "step AAPL scrape running",
        "step AAPL scrape failed",
        "step AAPL cleanup running",
        "run AAPL - failed",
        "run MSFT - queued",
        "pause - exchange:NEPSE paused",
        "pause - exchange:NEPSE resumed",
    ];
    assert!(order.map(at).is_sorted(), "{said:#?}");
    assert_eq!(words(&narrow.take(1).await), ["run MSFT - queued"]);
    // Whoever comes back goes on after what it saw, wherever that was.
    for broke_off in [0, 3, seen.len() - 2] {
        let mut back = Listener::open(&world, "/v1/events", Some(&seen[broke_off].0)).await;
        assert_eq!(back.take(seen.len() - 1 - broke_off).await, seen[broke_off + 1..], "after {broke_off}");
    }
    // Another process, which remembers nothing, says the same.
    let other = World { app: world.with_empty_cache(), ..world };
    let mut there = Listener::open(&other, "/v1/events", Some(&seen[1].0)).await;
    assert_eq!(there.take(seen.len() - 2).await, seen[2..]);
}

#[tokio::test]
async fn what_cannot_be_told_any_more_is_a_reset() {
    let world = World::new().await;
    for bad in ["x", "1-2", "1-2-3-4", &format!("1-2-{}", i64::MAX)] {
        world.get_with("/v1/events", &[("last-event-id", bad)]).await.problem(400, "bad_parameter");
    }
    world.get("/v1/events?kind=weather").await.problem(400, "bad_parameter");
    // From before anybody listened; and from a time that has not been.
    for lost in ["0-7-1000000", "0-7-99999999999999999"] {
        let mut back = Listener::open(&world, "/v1/events", Some(lost)).await;
        assert_eq!(words(&back.take(1).await), ["reset - - -"]);
    }
    let mut back = Listener::open(&world, "/v1/events", None).await;
    world.put("/v1/pauses/exchange/NEPSE", json!({})).await.ok();
    assert_eq!(words(&back.take(1).await), ["pause - exchange:NEPSE paused"]);
}

#[tokio::test]
async fn a_server_that_stops_ends_its_streams() {
    let stop = CancellationToken::new();
    let world = World::with(|state| api::ApiState { stop: stop.clone(), ..state }).await;
    let mut open = Listener::open(&world, "/v1/events", None).await;
    stop.cancel();
    assert!(open.next().await.is_none());
}

#[tokio::test]
async fn nothing_is_written_while_nobody_listens() {
    let world = World::new().await;
    world.put("/v1/pauses/exchange/NEPSE", json!({})).await.ok();
    let before = workflows::stores::events::after(&world.stores.db, Default::default(), 10).await.unwrap();
    assert!(before.is_empty(), "{before:?}");
    let _open = Listener::open(&world, "/v1/events", None).await;
    world.delete("/v1/pauses/exchange/NEPSE").await;
    let after = workflows::stores::events::after(&world.stores.db, Default::default(), 10).await.unwrap();
    assert_eq!(after.len(), 1);
}

#[tokio::test]
async fn a_key_that_is_revoked_ends_its_streams() {
    let access = api::Access { keys: true, ..api::Access::default() };
    let world = World::with(|state| api::ApiState { access, ..state }).await;
    let api::Bootstrap::Made(key) = api::bootstrap(&world.engine, &world.stores).await.unwrap() else {
        panic!("there was a key already")
    };
    let mut open = Listener::open_with(&world, "/v1/events", None, &key).await;
    let headers = [("x-api-key", key.as_str()), ("content-type", "application/json")];
    let pause = "/v1/pauses/exchange/NEPSE";
    assert!(crate::ask(&world.app, Method::PUT, pause, &headers, Body::from("{}")).await.status.is_success());
    assert_eq!(words(&open.take(1).await), ["pause - exchange:NEPSE paused"]);
    let id = workflows::stores::api_keys::BOOTSTRAP;
    let revoked = crate::ask(&world.app, Method::DELETE, &format!("/v1/keys/{id}"), &headers, Body::empty()).await;
    assert_eq!(revoked.status, StatusCode::NO_CONTENT);
    assert!(open.next().await.is_none());
}
