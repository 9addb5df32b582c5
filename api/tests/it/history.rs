//! History: what is due, what was put away and where a run went; problems that say what to do.

use crate::World;
use api::ApiState;
use chrono::TimeDelta;
use market::Ticker;
use serde_json::json;
use uuid::Uuid;
use workflows::ledger::NewRun;
use workflows::plan::Step;
use workflows::{History, Keep};

/// A world with a history folder, and a run that was cancelled a hundred days ago.
async fn world() -> (World, tempfile::TempDir, Uuid) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_owned();
    let world = World::with(|state| {
        let (ledger, chance) = (state.engine.ledger.clone(), state.engine.settings.chance.clone());
        ApiState { history: History::new(ledger, Some(path), Keep::default(), chance), ..state }
    })
    .await;
    let engine = &world.engine;
    let then = engine.ledger.now() - TimeDelta::days(100);
    let ticker = Ticker::parse("NASDAQ:AAPL").unwrap();
    let id = engine.settings.chance.uuid_at(then.timestamp_millis().unsigned_abs());
    let run = NewRun { id, ..engine.manual_run(ticker, then.date_naive(), false, None) };
    engine.ledger.start(&[run], then).await.unwrap();
    let messages = engine.ledger.cancel(id, "enough", then).await.unwrap().unwrap();
    for message in messages {
        assert_eq!(message.step, Step::Cleanup);
        let claims = engine.ledger.claim(&[message], Uuid::nil(), "test", then, then).await.unwrap();
        let claim = claims.into_iter().next().flatten().unwrap();
        let outcome = workflows::Outcome::Done("clean".into());
        let ending = workflows::ledger::Ending {
            claim,
            outcome,
            effects: vec![],
            dice: 0.5,
            lapsed_before: None,
            sends_next: true,
        };
        engine.ledger.complete(&[ending], then).await.unwrap().remove(0).unwrap();
    }
    (world, folder, id)
}

#[tokio::test]
async fn a_run_that_went_is_found_and_brought_back() {
    let (world, folder, id) = world().await;
    let run = format!("/v1/runs/{id}");
    assert_eq!(world.get(&run).await.ok()["state"], "cancelled");
    assert_eq!(world.get("/v1/history").await.ok(), json!({ "items": [] }));
    let due = world.get("/v1/history/due").await.ok();
    assert_eq!(due, json!({ "items": [{ "outcome": "cancelled", "runs": 1 }], "months": [] }));

    let swept = world.post("/v1/history/sweep", json!({})).await.ok();
    assert_eq!((&swept["more"], &swept["bundle"]["runs"], &swept["busy"]), (&json!(true), &json!(1), &json!([])));
    let name = swept["bundle"]["name"].as_str().unwrap().to_owned();
    assert_eq!(swept["bundle"]["first_run"], json!(id));
    assert_eq!(world.post("/v1/history/sweep", json!({})).await.ok(), json!({ "busy": [], "more": false }));
    let listed = world.get("/v1/history?limit=1").await.ok();
    assert_eq!((&listed["items"][0], listed.get("next_cursor")), (&swept["bundle"], None));
    assert!(folder.path().join(&name).join("manifest.json").exists());

    for gone in [world.get(&run).await, world.post(&format!("{run}/pin"), json!({})).await] {
        let problem = gone.problem(404, "unknown_run");
        let detail = problem["detail"].as_str().unwrap();
        assert!(detail.contains(&name) && detail.contains(&format!("retainai history restore {name}")), "{detail}");
    }
    let never = world.get("/v1/runs/018cffff-0000-7000-8000-000000000000").await.problem(404, "unknown_run");
    assert!(!never["detail"].as_str().unwrap().contains("bundle"), "{never}");

    let verified = world.post(&format!("/v1/history/{name}/verify"), json!({})).await.ok();
    assert_eq!((&verified["verified"], &verified["runs"]), (&json!(true), &json!(1)));
    for (restored, there) in [(1, 0), (0, 1)] {
        let answer = world.post(&format!("/v1/history/{name}/restore"), json!({})).await.ok();
        assert_eq!(answer, json!({ "name": name, "restored": restored, "already_there": there }));
    }
    let back = world.get(&run).await.ok();
    assert_eq!((&back["pinned"], &back["attempts"][0]["outcome"]), (&json!(true), &json!("done")));
    let told = ["history_sweep", "history_restore", "history_restore"];
    assert_eq!(world.actions().await, told, "who verifies changes nothing");
}

#[tokio::test]
async fn pages_of_bundles_follow_one_another() {
    let (world, _folder, id) = world().await;
    let mut names = Vec::new();
    for _ in 0..3 {
        let swept = world.post("/v1/history/sweep", json!({})).await.ok();
        names.insert(0, swept["bundle"]["name"].clone());
        world.post(&format!("/v1/history/{}/restore", names[0].as_str().unwrap()), json!({})).await.ok();
        world.post(&format!("/v1/runs/{id}/unpin"), json!({})).await.ok();
    }
    let (mut seen, mut path) = (Vec::new(), "/v1/history?limit=2".to_owned());
    loop {
        let page = world.get(&path).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|bundle| bundle["name"].clone()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/history?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, names);
    world.get("/v1/history?cursor=zz").await.problem(400, "bad_cursor");
}

#[tokio::test]
async fn what_cannot_be_done_is_said() {
    let (world, folder, id) = world().await;
    world.post("/v1/history/never/verify", json!({})).await.problem(404, "unknown_bundle");
    world.post("/v1/history/%2E%2E/restore", json!({})).await.problem(404, "unknown_bundle");
    let swept = world.post("/v1/history/sweep", json!({})).await.ok();
    let name = swept["bundle"]["name"].as_str().unwrap();
    let file = folder.path().join(name).join("step.csv.gz");
    std::fs::write(&file, "no longer what it was").unwrap();
    for verb in ["verify", "restore"] {
        let damaged = world.post(&format!("/v1/history/{name}/{verb}"), json!({})).await.problem(409, "bundle_damaged");
        assert!(damaged["detail"].as_str().unwrap().contains("step.csv.gz"), "{damaged}");
    }
    std::fs::remove_file(&file).unwrap();
    world.post(&format!("/v1/history/{name}/restore"), json!({})).await.problem(409, "bundle_missing");
    world.get(&format!("/v1/runs/{id}")).await.problem(404, "unknown_run");

    let none = World::new().await;
    none.get("/v1/history").await.ok();
    for answer in [none.get("/v1/history/due").await, none.post("/v1/history/sweep", json!({})).await] {
        let problem = answer.problem(409, "no_history_folder");
        assert!(problem["detail"].as_str().unwrap().contains("history_dir"), "{problem}");
    }
}
