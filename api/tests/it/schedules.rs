//! Schedules: shown with what comes next, changed, silenced, triggered by hand.

use crate::{FRIDAY, World};
use serde_json::json;
use workflows::scheduler::{default_schedules, look};

async fn world() -> World {
    let world = World::new().await;
    for schedule in default_schedules() {
        world.engine.ledger.add_schedule(&schedule).await.unwrap();
    }
    world.import("NASDAQ:AAPL", 20).await;
    world.import("NASDAQ:MSFT", 20).await;
    world
}

const DAILY: &str = "/v1/schedules/nasdaq-daily";

#[tokio::test]
async fn the_next_ticks_have_their_instants_and_reasons() {
    let world = world().await;
    // Friday 18:00 in New York, a quarter of an hour before its time; the clocks change on Sunday, March the 10th.
    world.clock.set("2024-03-08T23:00:00Z".parse().unwrap());
    let next = world.get(DAILY).await.ok()["next_ticks"].clone();
    assert_eq!(next.as_array().unwrap().len(), 10);
    assert_eq!(
        next[0],
        json!({ "session": "2024-03-08", "at": "2024-03-08T23:15:00+00:00", "local": "2024-03-08T18:15:00-05:00", "fires": true,
                "reason": "Friday: NASDAQ trades on Fridays, and this is no listed holiday" })
    );
    assert_eq!(
        (&next[1]["fires"], &next[1]["reason"]),
        (&false.into(), &"Saturday: NASDAQ does not trade on Saturdays".into())
    );
    assert_eq!(
        (&next[3]["at"], &next[3]["local"]),
        (&"2024-03-11T22:15:00+00:00".into(), &"2024-03-11T18:15:00-04:00".into())
    );
    let nepse = world.get("/v1/schedules/nepse-daily").await.ok();
    assert_eq!(nepse["next_ticks"][0]["local"], "2024-03-09T17:30:00+05:45");
    world.get("/v1/schedules/monthly").await.problem(404, "unknown_schedule");
}

#[tokio::test]
async fn a_schedule_is_changed_and_stays_so() {
    let world = world().await;
    let change = json!({ "local_time": "19:05", "catch_up": "all", "overlap": "cancel_old" });
    let changed = world.put(DAILY, change).await.ok();
    assert_eq!(
        (&changed["local_time"], &changed["catch_up"], &changed["overlap"]),
        (&"19:05".into(), &"all".into(), &"cancel_old".into())
    );
    let one = world.put(DAILY, json!({ "overlap": "skip" })).await.ok();
    assert_eq!((&one["local_time"], &one["overlap"]), (&"19:05".into(), &"skip".into()), "what is absent stays");
    world.put(DAILY, json!({ "overlap": "skip" })).await.ok();
    // The program starts again.
    for schedule in default_schedules() {
        world.engine.ledger.add_schedule(&schedule).await.unwrap();
    }
    assert_eq!(world.get(DAILY).await.ok()["local_time"], "19:05");
    for bad in [json!({ "local_time": "25:00" }), json!({ "catch_up": "some" }), json!({ "paused": true })] {
        world.put(DAILY, bad).await.problem(422, "bad_body");
    }
    assert_eq!(world.actions().await, ["schedule_change", "schedule_change"], "no change leaves no entry");
    let entry = world.get("/v1/audit?limit=1").await.ok()["items"][0].clone();
    assert_eq!(entry["detail"], "19:05 all cancel_old → 19:05 all skip");
}

#[tokio::test]
async fn a_paused_schedule_does_not_fire() {
    let world = world().await;
    let paused = world.post(&format!("{DAILY}/pause"), json!({})).await.ok();
    assert_eq!((&paused["state"], &paused["paused"]), (&"paused".into(), &true.into()));
    assert_eq!(paused["next_ticks"][3]["reason"], "Monday: the schedule is paused");
    world.post(&format!("{DAILY}/pause"), json!({})).await.ok();
    world.clock.set("2024-01-27T12:00:00Z".parse().unwrap());
    look(&world.engine, true).await.unwrap();
    assert_eq!(world.get("/v1/runs?exchange=NASDAQ").await.ok()["items"], json!([]));
    let resumed = world.post(&format!("{DAILY}/resume"), json!({})).await.ok();
    assert_eq!(resumed["state"], "active");
    look(&world.engine, true).await.unwrap();
    assert_eq!(world.get("/v1/runs?exchange=NASDAQ").await.ok()["items"].as_array().unwrap().len(), 2);
    assert_eq!(world.actions().await, ["schedule_pause", "schedule_resume"]);
    world.post("/v1/schedules/monthly/pause", json!({})).await.problem(404, "unknown_schedule");
}

#[tokio::test]
async fn a_schedule_is_triggered_by_hand() {
    let world = world().await;
    world.post(&format!("{DAILY}/pause"), json!({})).await.ok();
    let tick = world.post(&format!("{DAILY}/trigger"), json!({})).await;
    assert_eq!((tick.status.as_u16(), tick.header("location")), (202, "/v1/schedules/nasdaq-daily/ticks"));
    let tick = tick.json();
    assert_eq!((&tick["session"], &tick["nth"], &tick["state"]), (&FRIDAY.into(), &1.into(), &"queued".into()));
    look(&world.engine, true).await.unwrap();
    assert_eq!(world.get("/v1/runs").await.ok()["items"].as_array().unwrap().len(), 2, "also while it is paused");
    let older = world.post(&format!("{DAILY}/trigger"), json!({ "session": "2024-01-25" })).await.json();
    assert_eq!(older["session"], "2024-01-25");
    for bad in ["2024-01-27", "2024-01-29", "2024-01-21"] {
        world.post(&format!("{DAILY}/trigger"), json!({ "session": bad })).await.problem(422, "bad_body");
    }
    world.post(&format!("{DAILY}/trigger"), json!({})).await;
    let first = world.get(&format!("{DAILY}/ticks?limit=2")).await.ok();
    let numbers = |page: &serde_json::Value| {
        page["items"].as_array().unwrap().iter().map(|t| (t["session"].clone(), t["nth"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&first), [(FRIDAY.into(), 2.into()), (FRIDAY.into(), 1.into())]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = world.get(&format!("{DAILY}/ticks?limit=2&cursor={cursor}")).await.ok();
    assert_eq!(numbers(&rest), [("2024-01-25".into(), 1.into())]);
    assert!(rest["next_cursor"].is_null());
    world.get(&format!("{DAILY}/ticks?cursor=00")).await.problem(400, "bad_cursor");
}
