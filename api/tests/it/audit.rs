//! The audit: every steering request that changed something, by whom and through which door.

use crate::World;
use serde_json::json;
use workflows::Outcome;

#[tokio::test]
async fn runs_are_pinned_and_what_was_asked_is_written_down() {
    let world = World::new().await;
    let id = {
        world.import("NASDAQ:AAPL", 20).await;
        world.dead_run("NASDAQ:AAPL", Outcome::GiveUp("gone".to_owned())).await
    };
    let run = format!("/v1/runs/{id}");
    for (verb, pinned) in [("pin", true), ("pin", true), ("unpin", false)] {
        assert_eq!(world.post(&format!("{run}/{verb}"), json!({})).await.ok()["pinned"], pinned);
    }
    let again = world.post(&format!("{run}/rerun"), json!({})).await.ok()["id"].as_str().unwrap().to_owned();
    world.post(&format!("/v1/runs/{again}/cancel"), json!({})).await.ok();
    world.post(&format!("/v1/runs/{again}/cancel"), json!({})).await.ok();
    let open = world.post(&format!("/v1/runs/{again}/rerun"), json!({})).await.problem(409, "run_open");
    assert_eq!(open["state"], "queued");
    let ended = world.post(&format!("{run}/cancel"), json!({})).await.problem(409, "run_ended");
    assert_eq!(ended["state"], "failed");
    let nobody = "/v1/runs/018cffff-0000-7000-8000-000000000000/pin";
    world.post(nobody, json!({})).await.problem(404, "unknown_run");
    let mut actions = world.actions().await;
    actions.sort_unstable();
    assert_eq!(actions, ["run_cancel", "run_pin", "run_rerun", "run_start", "run_unpin"]);
    let audit = world.get("/v1/audit").await.ok();
    let entry = audit["items"].as_array().unwrap().iter().find(|e| e["action"] == "run_rerun").unwrap().clone();
    assert_eq!(
        (&entry["who"], &entry["door"], &entry["subject"]),
        (&"operator".into(), &"api".into(), &id.clone().into())
    );
    assert!(entry["detail"].as_str().unwrap().contains(&again), "{entry}");
}

#[tokio::test]
async fn the_door_is_one_we_know() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    let start = json!({ "exchange": "NASDAQ", "ticker": "AAPL" });
    for door in ["api", "cli", "dashboard", "chat"] {
        world.post_with("/v1/runs", &[("x-retainai-door", door)], start.clone()).await.ok();
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let refused =
        world.post_with("/v1/runs", &[("x-retainai-door", "window")], start).await.problem(400, "bad_parameter");
    assert_eq!(refused["errors"][0]["field"], "X-RetainAI-Door");
    let first = world.get("/v1/audit?limit=3").await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("/v1/audit?limit=3&cursor={cursor}")).await.ok();
    let doors: Vec<&str> = [&first, &rest]
        .iter()
        .flat_map(|page| page["items"].as_array().unwrap())
        .map(|entry| entry["door"].as_str().unwrap())
        .collect();
    assert_eq!(doors, ["chat", "dashboard", "cli", "api"]);
    world.get("/v1/audit?cursor=00").await.problem(400, "bad_cursor");
}
