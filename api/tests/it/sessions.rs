//! The calendar by the API: listed with its evidence, overruled by an operator, taken back; targets, schedules and the audit follow.

use crate::{FRIDAY, MONDAY, World};
use serde_json::{Value, json};
use workflows::scheduler::default_schedules;

const SESSIONS: &str = "/v1/exchanges/NASDAQ/sessions";

async fn days(world: &World, asked: &str) -> Vec<Value> {
    world.get(&format!("{SESSIONS}?{asked}")).await.ok()["items"].as_array().unwrap().clone()
}

async fn target(world: &World) -> (String, String) {
    let forecast = world.get("/v1/forecasts/NASDAQ/AAPL").await.ok();
    let text = |key: &str| forecast[key].as_str().unwrap().to_owned();
    (text("target"), text("target_basis"))
}

#[tokio::test]
async fn each_day_has_its_state_basis_and_evidence() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    let listed = days(&world, "from=2024-01-26&to=2024-02-19").await;
    assert_eq!(listed.len(), 25);
    let told = |n: usize| ["session", "state", "basis", "evidence"].map(|key| listed[n][key].as_str().unwrap());
    let observed = ["2024-01-26", "open", "observed", "closes of this day are archived; the first was AAPL from csv"];
    assert_eq!(told(0), observed);
    assert!(listed[0]["noted_at"].is_string() && listed[0]["operator"].is_null(), "{}", listed[0]);
    assert_eq!(told(1), ["2024-01-27", "closed", "usual_week", "NASDAQ does not trade on Saturdays"]);
    let expected = "NASDAQ trades on Mondays, and this is no listed holiday";
    assert_eq!(told(3), ["2024-01-29", "expected", "calendar_hint", expected]);
    let holiday = "Washington's Birthday, by the list of holidays";
    assert_eq!(told(24), ["2024-02-19", "closed", "calendar_hint", holiday]);
    let around = days(&world, "limit=200").await;
    assert_eq!((around.len(), &around[14]["session"]), (29, &FRIDAY.into()), "two weeks before and after today");
    let nepse = world.get("/v1/exchanges/nepse/sessions?from=2024-01-26&to=2024-01-26").await.ok();
    assert_eq!((&nepse["items"][0]["exchange"], &nepse["items"][0]["basis"]), (&"NEPSE".into(), &"usual_week".into()));
}

#[tokio::test]
async fn the_list_comes_in_pages() {
    let world = World::new().await;
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = world.get(&format!("{SESSIONS}?from=2024-02-25&to=2024-03-05&limit=4{cursor}")).await.ok();
        seen.extend(page["items"].as_array().unwrap().iter().map(|day| day["session"].as_str().unwrap().to_owned()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    let all: Vec<String> =
        crate::date("2024-02-25").iter_days().take(10).map(|day: chrono::NaiveDate| day.to_string()).collect();
    assert_eq!(seen, all);
    for (asked, field) in [
        ("from=2024-03-02&to=2024-03-01", "to"),
        ("from=1066-10-14", "from"),
        ("to=2150-01-01", "to"),
        ("limit=0", "limit"),
    ] {
        let problem = world.get(&format!("{SESSIONS}?{asked}")).await.problem(400, "bad_parameter");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    world.get(&format!("{SESSIONS}?cursor=00")).await.problem(400, "bad_cursor");
    world.get("/v1/exchanges/LSE/sessions").await.problem(404, "unknown_exchange");
}

#[tokio::test]
async fn an_operator_closes_a_day_and_takes_it_back() {
    let world = World::new().await;
    for schedule in default_schedules() {
        world.engine.ledger.add_schedule(&schedule).await.unwrap();
    }
    world.import("NASDAQ:AAPL", 20).await;
    assert_eq!(target(&world).await, (MONDAY.to_owned(), "calendar_hint".to_owned()));
    let path = format!("{SESSIONS}/{MONDAY}");
    let body = json!({ "state": "closed", "reason": "a day of mourning" });
    let first = world.put(&path, body.clone()).await.ok();
    assert_eq!(
        (&first["state"], &first["basis"], &first["evidence"]),
        (&"closed".into(), &"operator".into(), &"closed, an operator says: a day of mourning".into())
    );
    assert_eq!(
        (&first["operator"]["state"], &first["operator"]["reason"], &first["operator"]["by"]),
        (&"closed".into(), &"a day of mourning".into(), &"operator".into())
    );
    assert_eq!(world.put(&path, body).await.ok(), first, "saying it twice is saying it once");
    assert_eq!(target(&world).await, ("2024-01-30".to_owned(), "operator".to_owned()));
    let next = world.get("/v1/schedules/nasdaq-daily").await.ok()["next_ticks"][3].clone();
    assert_eq!(
        (&next["session"], &next["fires"], &next["reason"]),
        (&MONDAY.into(), &false.into(), &"Monday: closed, an operator says: a day of mourning".into())
    );
    for _ in 0..2 {
        assert_eq!(world.delete(&path).await.status, 204);
    }
    assert_eq!(target(&world).await, (MONDAY.to_owned(), "calendar_hint".to_owned()));
    assert_eq!(world.actions().await, ["session_set", "session_clear"]);
    let entry = world.get("/v1/audit").await.ok()["items"][1].clone();
    assert_eq!(
        (&entry["subject"], &entry["detail"]),
        (&"NASDAQ 2024-01-29".into(), &"closed: a day of mourning".into())
    );
}

#[tokio::test]
async fn an_operator_opens_a_weekend_and_may_trigger_it() {
    let world = World::new().await;
    for schedule in default_schedules() {
        world.engine.ledger.add_schedule(&schedule).await.unwrap();
    }
    world.import("NASDAQ:AAPL", 20).await;
    let path = "/v1/schedules/nasdaq-daily/trigger";
    world.post(path, json!({ "session": "2024-01-20" })).await.problem(422, "bad_body");
    let said = json!({ "state": "open", "reason": "a test of the trading systems" });
    world.put(&format!("{SESSIONS}/2024-01-20"), said.clone()).await.ok();
    assert_eq!(world.post(path, json!({ "session": "2024-01-20" })).await.status, 202);
    world.put(&format!("{SESSIONS}/2024-01-27"), said).await.ok();
    assert_eq!(target(&world).await, ("2024-01-27".to_owned(), "operator".to_owned()));
}

#[tokio::test]
async fn what_cannot_be_said_is_refused() {
    let world = World::new().await;
    let path = format!("{SESSIONS}/{MONDAY}");
    for bad in [
        json!({ "state": "closed" }),
        json!({ "state": "closed", "reason": "" }),
        json!({ "state": "closed", "reason": "  " }),
        json!({ "state": "unknown", "reason": "why" }),
        json!({ "state": "closed", "reason": "why", "until": "2024-02-01" }),
    ] {
        world.put(&path, bad).await.problem(422, "bad_body");
    }
    let said = json!({ "state": "closed", "reason": "why" });
    world.put("/v1/exchanges/LSE/sessions/2024-01-29", said.clone()).await.problem(404, "unknown_exchange");
    world.put(&format!("{SESSIONS}/someday"), said.clone()).await.problem(404, "not_found");
    world.put(&format!("{SESSIONS}/2150-01-01"), said).await.problem(400, "bad_parameter");
    world.delete("/v1/exchanges/LSE/sessions/2024-01-29").await.problem(404, "unknown_exchange");
    assert_eq!(world.actions().await, [""; 0]);
}
