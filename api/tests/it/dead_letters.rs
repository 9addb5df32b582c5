//! Dead letters: listed, grouped, repeated once.

use crate::World;
use serde_json::{Value, json};
use workflows::Outcome;

fn page_changed() -> Outcome {
    Outcome::Retry { kind: "layout_changed", error: "no table of prices".to_owned(), after: None }
}

/// Three dead runs; their ids.
async fn world() -> (World, [String; 3]) {
    let world = World::new().await;
    let mut dead = Vec::new();
    for (ticker, why) in [
        ("NASDAQ:AAPL", page_changed()),
        ("NASDAQ:MSFT", page_changed()),
        ("NEPSE:NABIL", Outcome::GiveUp("no such page".to_owned())),
    ] {
        world.import(ticker, 20).await;
        dead.push(world.dead_run(ticker, why).await);
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    (world, dead.try_into().unwrap())
}

async fn runs_of(world: &World, query: &str) -> Vec<Value> {
    let page = world.get(&format!("/v1/dead-letters?{query}")).await.ok();
    page["items"].as_array().unwrap().iter().map(|letter| letter["run"].clone()).collect()
}

#[tokio::test]
async fn dead_letters_are_listed_and_grouped() {
    let (world, [aapl, msft, nabil]) = world().await;
    let letters = world.get("/v1/dead-letters").await.ok();
    let newest = &letters["items"][0];
    assert_eq!(
        (&newest["run"], &newest["subject"], &newest["step"], &newest["error_kind"]),
        (&json!(nabil), &"NEPSE:NABIL".into(), &"scrape".into(), &"gave_up".into())
    );
    assert_eq!((&newest["error"], &newest["attempts"]), (&"no such page".into(), &1.into()));
    assert!(newest["failed_at"].is_string());
    assert_eq!(runs_of(&world, "exchange=NASDAQ").await, [json!(msft), json!(aapl)]);
    assert_eq!(runs_of(&world, "error_kind=gave_up").await, [json!(nabil)]);
    assert_eq!(runs_of(&world, "step=cache").await, [] as [Value; 0]);
    let first = world.get("/v1/dead-letters?limit=2").await.ok();
    let cursor = first["next_cursor"].as_str().unwrap();
    assert_eq!(runs_of(&world, &format!("limit=2&cursor={cursor}")).await, [json!(aapl)]);
    world.get("/v1/dead-letters?step=dance").await.problem(400, "bad_parameter");
    world.get("/v1/dead-letters?exchange=LSE").await.problem(400, "bad_parameter");
    let groups = world.get("/v1/dead-letters/groups").await.ok()["items"].clone();
    let counts: Vec<_> =
        groups.as_array().unwrap().iter().map(|g| (&g["step"], &g["error_kind"], &g["count"])).collect();
    assert_eq!(
        counts,
        [(&"scrape".into(), &"layout_changed".into(), &2.into()), (&"scrape".into(), &"gave_up".into(), &1.into())]
    );
}

#[tokio::test]
async fn dead_runs_are_repeated_once() {
    let (world, [aapl, msft, nabil]) = world().await;
    let requeue = async |body: Value| world.post("/v1/dead-letters/requeue", body).await.ok();
    assert_eq!(
        requeue(json!({ "runs": [aapl, aapl, "018cffff-0000-7000-8000-000000000000"] })).await,
        json!({ "requeued": 1, "left_out": 1, "more": false })
    );
    assert_eq!(requeue(json!({ "runs": [aapl] })).await["left_out"], 1, "it has a newer rerun");
    let filter = json!({ "exchange": "NASDAQ", "step": "scrape", "error_kind": "layout_changed" });
    assert_eq!(requeue(filter.clone()).await["requeued"], 1);
    assert_eq!(requeue(filter).await["requeued"], 0);
    assert_eq!(runs_of(&world, "").await, [json!(nabil)]);
    let runs = world.get("/v1/runs?exchange=NASDAQ&state=queued").await.ok()["items"].clone();
    let mut repeated: Vec<&Value> = runs.as_array().unwrap().iter().map(|run| &run["rerun_of"]).collect();
    repeated.sort_by_key(|id| id.to_string());
    assert_eq!(repeated, [&json!(aapl), &json!(msft)]);
    assert_eq!(requeue(json!({})).await["requeued"], 1, "nothing narrows: every dead one");
    let wrong = world.post("/v1/dead-letters/requeue", json!({ "step": "dance" })).await.problem(422, "bad_body");
    assert_eq!(wrong["errors"][0]["field"], "step");
    let audit = world.get("/v1/audit").await.ok()["items"].clone();
    let entries: Vec<&Value> = audit.as_array().unwrap().iter().filter(|e| e["action"] == "requeue").collect();
    assert_eq!(entries.len(), 3, "{audit}");
    assert_eq!(entries[1]["detail"], "1 runs: exchange NASDAQ, step scrape, error_kind layout_changed");
}
