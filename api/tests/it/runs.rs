//! Runs: started once per key, listed newest first, shown in full, cancelled, run again.

use crate::{FRIDAY, World, ask};
use poem::Body;
use poem::http::Method;
use serde_json::{Value, json};
use workflows::Outcome;
use workflows::message::Message;
use workflows::plan::Step;

async fn world() -> World {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    world.import("NEPSE:NABIL", 20).await;
    world
}

fn aapl() -> Value {
    json!({ "exchange": "NASDAQ", "ticker": "AAPL" })
}

#[tokio::test]
async fn a_run_is_started_and_shown() {
    let world = world().await;
    let started = world.post("/v1/runs", aapl()).await;
    assert_eq!(started.status, 202, "{}", started.text());
    let run = started.json();
    let location = format!("/v1/runs/{}", run["id"].as_str().unwrap());
    assert_eq!(started.header("location"), location);
    assert_eq!((&run["state"], &run["session"], &run["plan"]), (&"queued".into(), &FRIDAY.into(), &"ticker".into()));
    assert_eq!((&run["offline"], &run["priority"]), (&false.into(), &10.into()));
    let shown = world.get(&location).await.ok();
    let steps: Vec<&str> = shown["steps"].as_array().unwrap().iter().map(|s| s["step"].as_str().unwrap()).collect();
    assert_eq!(steps, ["scrape", "finetune", "cache", "archive", "cleanup"]);
    assert_eq!((&shown["steps"][0]["state"], &shown["steps"][1]["state"]), (&"ready".into(), &"waiting".into()));
    assert_eq!((&shown["id"], &shown["attempts"]), (&run["id"], &json!([])));
}

#[tokio::test]
async fn a_claimed_step_shows_its_attempt() {
    let world = world().await;
    let id = world.post("/v1/runs", aapl()).await.ok()["id"].as_str().unwrap().to_owned();
    step(&world, &id, Step::Scrape, Outcome::GiveUp("the page has changed".to_owned())).await;
    let shown = world.get(&format!("/v1/runs/{id}")).await.ok();
    assert_eq!((&shown["state"], &shown["verdict"]), (&"running".into(), &"failed".into()));
    let attempt = &shown["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["step"], &attempt["worker"]),
        (&"failed".into(), &"scrape".into(), &"test".into())
    );
    assert!(attempt["detail"].as_str().unwrap().contains("the page has changed"));
}

/// Carries out one step with this outcome.
async fn step(world: &World, run: &str, step: Step, outcome: Outcome) {
    let message = Message { run: run.parse().unwrap(), step, generation: 1, queue: step.queue(10) };
    world.carry_out(&message, outcome, vec![]).await;
}

#[tokio::test]
async fn one_key_is_one_run() {
    let world = world().await;
    let key = [("idempotency-key", "tuesday-1")];
    let first = world.post_with("/v1/runs", &key, aapl()).await;
    let again = world.post_with("/v1/runs", &key, aapl()).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 200));
    assert_eq!(first.json()["id"], again.json()["id"]);
    assert_eq!(first.header("location"), again.header("location"));
    let other = json!({ "exchange": "NEPSE", "ticker": "NABIL" });
    world.post_with("/v1/runs", &key, other).await.problem(409, "idempotency_conflict");
    let without = world.post("/v1/runs", aapl()).await;
    assert_ne!(without.json()["id"], first.json()["id"]);
    let long = "k".repeat(201);
    world.post_with("/v1/runs", &[("idempotency-key", &long)], aapl()).await.problem(400, "bad_parameter");
}

#[tokio::test]
async fn many_starts_under_one_key_are_one() {
    let world = world().await;
    let key = [("idempotency-key", "storm")];
    let answers = futures::future::join_all((0..10).map(|_| world.post_with("/v1/runs", &key, aapl()))).await;
    let ids: std::collections::HashSet<String> = answers.iter().map(|a| a.ok()["id"].to_string()).collect();
    assert_eq!((ids.len(), answers.iter().filter(|a| a.status == 202).count()), (1, 1));
}

#[tokio::test]
async fn what_cannot_be_started_is_told() {
    let world = world().await;
    let start = |body: Value| world.post("/v1/runs", body);
    start(json!({ "exchange": "NASDAQ", "ticker": "NOPE" })).await.problem(404, "unknown_ticker");
    start(json!({ "exchange": "NASDAQ", "ticker": "../x" })).await.problem(404, "unknown_ticker");
    let body = start(json!({ "exchange": "LSE", "ticker": "A" })).await.problem(422, "bad_body");
    assert_eq!(body["errors"][0]["field"], "exchange");
    start(json!({ "exchange": "NASDAQ" })).await.problem(422, "bad_body");
    start(json!({ "exchange": "NASDAQ", "ticker": "AAPL", "colour": "red" })).await.problem(422, "bad_body");
    start(json!({ "exchange": "NASDAQ", "ticker": "AAPL", "session": "soon" })).await.problem(422, "bad_body");
    let json_type = [("content-type", "application/json")];
    let broken = ask(&world.app, Method::POST, "/v1/runs", &json_type, Body::from("{\"exchange\":")).await;
    assert!(broken.problem(400, "bad_json")["detail"].as_str().unwrap().contains("line 1"));
    let empty = ask(&world.app, Method::POST, "/v1/runs", &[], Body::empty()).await;
    empty.problem(422, "bad_body");
    assert_eq!(world.get("/v1/runs").await.ok()["items"], json!([]));
}

#[tokio::test]
async fn runs_are_filtered_and_paged() {
    let world = world().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(world.post("/v1/runs", aapl()).await.ok()["id"].clone());
        // Ids order runs by the millisecond.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let wanted = json!({ "exchange": "nepse", "ticker": "nabil", "session": "2024-01-25", "offline": true });
    let nabil = world.post("/v1/runs", wanted).await.ok();
    assert_eq!((&nabil["session"], &nabil["offline"]), (&"2024-01-25".into(), &true.into()));
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("/v1/runs?exchange=NASDAQ&limit=2{cursor}")).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|run| run["id"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    ids.reverse();
    assert_eq!(seen, ids, "newest first");
    let count =
        async |query: &str| world.get(&format!("/v1/runs?{query}")).await.ok()["items"].as_array().unwrap().len();
    assert_eq!(count("ticker=nabil").await, 1);
    assert_eq!(count("session=2024-01-25").await, 1);
    assert_eq!(count("state=queued,running").await, 4);
    assert_eq!(count("state=succeeded").await, 0);
    let bad = world.get("/v1/runs?state=queued,lost").await.problem(400, "bad_parameter");
    assert_eq!(bad["errors"][0]["field"], "state");
    world.get("/v1/runs?ticker=a%2Fb").await.problem(400, "bad_parameter");
    world.get("/v1/runs?limit=201").await.problem(400, "bad_parameter");
    world.get("/v1/runs?cursor=00").await.problem(400, "bad_cursor");
}

#[tokio::test]
async fn a_run_is_cancelled_once_and_cleans_up() {
    let world = world().await;
    let id = world.post("/v1/runs", aapl()).await.ok()["id"].as_str().unwrap().to_owned();
    let cancel = format!("/v1/runs/{id}/cancel");
    for _ in 0..2 {
        let answer = ask(&world.app, Method::POST, &cancel, &[], Body::empty()).await;
        assert_eq!((answer.status.as_u16(), answer.json()["verdict"].clone()), (202, "cancelled".into()));
    }
    let cleanup = &world.get(&format!("/v1/runs/{id}")).await.ok()["steps"][4];
    assert_eq!(cleanup["state"], "ready");
    step(&world, &id, Step::Cleanup, Outcome::Done("clean".to_owned())).await;
    let ended = world.get(&format!("/v1/runs/{id}")).await.ok();
    assert_eq!((&ended["state"], &ended["steps"][0]["state"]), (&"cancelled".into(), &"cancelled".into()));
    world.post("/v1/runs/018cffff-0000-7000-8000-000000000000/cancel", json!({})).await.problem(404, "unknown_run");
    world.post("/v1/runs/nonsense/cancel", json!({})).await.problem(404, "not_found");
}

#[tokio::test]
async fn an_ended_run_is_not_cancelled_but_run_again() {
    let world = world().await;
    let id = world.post("/v1/runs", aapl()).await.ok()["id"].as_str().unwrap().to_owned();
    let rerun = format!("/v1/runs/{id}/rerun");
    world.post(&rerun, json!({})).await.problem(409, "run_open");
    step(&world, &id, Step::Scrape, Outcome::GiveUp("gone".to_owned())).await;
    world.post(&format!("/v1/runs/{id}/cancel"), json!({})).await.problem(409, "run_ended");
    step(&world, &id, Step::Cleanup, Outcome::Done("clean".to_owned())).await;
    let refused = world.post(&format!("/v1/runs/{id}/cancel"), json!({})).await.problem(409, "run_ended");
    assert!(refused["detail"].as_str().unwrap().contains("failed"));
    let bad = world.post(&rerun, json!({ "from": "dance" })).await.problem(422, "bad_body");
    assert_eq!(bad["errors"][0]["field"], "from");
    let again = ask(&world.app, Method::POST, &rerun, &[], Body::empty()).await;
    assert_eq!((again.status.as_u16(), again.json()["rerun_of"].as_str()), (202, Some(id.as_str())));
    let again = again.json()["id"].as_str().unwrap().to_owned();
    step(&world, &again, Step::Scrape, Outcome::GiveUp("gone".to_owned())).await;
    step(&world, &again, Step::Cleanup, Outcome::Done("clean".to_owned())).await;
    let later = world.post(&rerun, json!({ "from": "cache" })).await.ok();
    let shown = world.get(&format!("/v1/runs/{}", later["id"].as_str().unwrap())).await.ok();
    let states: Vec<&str> = shown["steps"].as_array().unwrap().iter().map(|s| s["state"].as_str().unwrap()).collect();
    assert_eq!(states, ["skipped", "skipped", "ready", "waiting", "waiting"]);
    world.post("/v1/runs/018cffff-0000-7000-8000-000000000000/rerun", json!({})).await.problem(404, "unknown_run");
}
