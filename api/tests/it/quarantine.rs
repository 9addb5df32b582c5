//! What breaks a rule is set aside, listed, released or dismissed, and comes in by itself when later data confirms it.

use crate::{World, csv, weekdays};
use serde_json::{Value, json};

const BARS: &str = "/v1/tickers/NASDAQ/AAPL/bars";

async fn closes(world: &World) -> Vec<f64> {
    let page = world.get(&format!("{BARS}?limit=5000")).await.ok();
    page["items"].as_array().unwrap().iter().map(|bar| bar["close"].as_f64().unwrap()).collect()
}

async fn waiting(world: &World, narrowed: &str) -> Vec<Value> {
    world.get(&format!("/v1/quarantine?{narrowed}")).await.ok()["items"].as_array().unwrap().clone()
}

/// Twenty sound rows, of which some closes are replaced.
fn with(changes: &[(usize, &str)]) -> String {
    let mut lines: Vec<String> = csv(&weekdays(20)).lines().map(str::to_owned).collect();
    for (row, cells) in changes {
        let date = lines[row + 1].split(',').next().unwrap().to_owned();
        lines[row + 1] = format!("{date},{cells}");
    }
    lines.join("\n") + "\n"
}

#[tokio::test]
async fn what_breaks_a_rule_waits_and_is_decided_once() {
    let world = World::new().await;
    // A spike, a close far outside its range, a crossed range, and an open that is none.
    let file =
        with(&[(5, "150,151,149,150,1"), (8, "100,101,99,103,1"), (11, "100,99,101,100,1"), (14, "9,101,99,100,1")]);
    let done = world.put_csv(BARS, file.clone()).await.ok();
    let rules: Vec<&str> =
        done["quarantined"].as_array().unwrap().iter().map(|q| q["rule"].as_str().unwrap()).collect();
    assert_eq!(
        (&done["new"], &done["repaired"], rules),
        (&17.into(), &1.into(), vec!["jump", "range", "crossed"]),
        "{done}"
    );
    assert_eq!(closes(&world).await.len(), 17);

    let rows = waiting(&world, "state=open&exchange=NASDAQ&ticker=aapl").await;
    assert_eq!(rows.len(), 3);
    let id = |rule: &str| rows.iter().find(|row| row["rule"] == rule).unwrap()["id"].as_str().unwrap().to_owned();
    for rule in ["jump", "crossed"] {
        let path = format!("/v1/quarantine/{}/release", id(rule));
        let released = world.post(&path, json!({ "reason": "seen in the paper" })).await.ok();
        assert_eq!((&released["state"], &released["settled_why"]), (&"released".into(), &"seen in the paper".into()));
        assert_eq!(world.post(&path, json!({})).await.ok()["state"], "released", "twice is once");
    }
    assert_eq!(closes(&world).await.len(), 19);
    let other = format!("/v1/quarantine/{}/dismiss", id("jump"));
    assert_eq!(world.post(&other, json!({})).await.problem(409, "already_settled")["state"], "released");
    world.post(&format!("/v1/quarantine/{}/dismiss", id("range")), json!({})).await.ok();
    assert_eq!(world.actions().await, ["quarantine_release", "quarantine_release", "quarantine_dismiss"]);

    // The same file again asks nothing again.
    let again = world.put_csv(BARS, file).await.ok();
    assert_eq!(again["new"], 0, "{again}");
    assert_eq!(waiting(&world, "state=open").await, Vec::<Value>::new());
    assert_eq!(closes(&world).await.len(), 19);
    let nobody = "/v1/quarantine/00000000-0000-0000-0000-000000000000/release";
    world.post(nobody, json!({})).await.problem(404, "unknown_quarantined");
    world.get("/v1/quarantine?state=lost").await.problem(400, "bad_parameter");
    world.get("/v1/quarantine?rule=lost").await.problem(400, "bad_parameter");
}

#[tokio::test]
async fn the_next_session_takes_in_what_waited() {
    let world = World::new().await;
    let days = weekdays(20);
    let whole = csv(&days);
    let lines: Vec<&str> = whole.lines().collect();
    let first = format!("{}\n{},60,61,59,60,1\n", lines[..19].join("\n"), days[18]);
    let done = world.put_csv(BARS, first).await.ok();
    assert_eq!((&done["new"], done["quarantined"].as_array().unwrap().len()), (&18.into(), 1), "{done}");
    let next = format!("date,close\n{},60.5\n", days[19]);
    let done = world.put_csv(BARS, next).await.ok();
    assert_eq!(done["new"], 1, "{done}");
    assert_eq!(closes(&world).await[18..], [60.0, 60.5]);
    let row = &waiting(&world, "rule=jump").await[0];
    assert_eq!((&row["state"], &row["settled_by"]), (&"confirmed".into(), &"csv".into()), "{row}");
}

#[tokio::test]
async fn a_batch_that_contradicts_the_archive_waits_as_a_whole() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 20).await;
    let before = closes(&world).await;
    let other: Vec<String> =
        weekdays(20).iter().enumerate().map(|(n, day)| format!("{day},{}", 9.0 + (n % 4) as f64 / 10.0)).collect();
    let file = format!("date,close\n{}\n", other.join("\n"));
    for _ in 0..2 {
        let done = world.put_csv(BARS, file.clone()).await.ok();
        assert_eq!((&done["new"], &done["revised"]), (&0.into(), &0.into()));
        assert_eq!(done["quarantined"][0]["rule"], "disagrees", "{done}");
    }
    assert_eq!(closes(&world).await, before);
    let rows = waiting(&world, "state=open").await;
    assert_eq!((rows.len(), &rows[0]["seen"]), (1, &2.into()), "one batch waits, however often it comes");
    world.post(&format!("/v1/quarantine/{}/release", rows[0]["id"].as_str().unwrap()), json!({})).await.ok();
    assert_eq!(closes(&world).await[..2], [9.0, 9.1]);
}

#[tokio::test]
async fn the_list_comes_in_pages() {
    let world = World::new().await;
    world.put_csv(BARS, with(&[(5, "9,9,9,150,1"), (8, "9,9,9,151,1"), (11, "9,9,9,152,1")])).await.ok();
    let first = world.get("/v1/quarantine?limit=2").await.ok();
    let second =
        world.get(&format!("/v1/quarantine?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await.ok();
    let ids =
        |page: &Value| page["items"].as_array().unwrap().iter().map(|row| row["id"].to_string()).collect::<Vec<_>>();
    let mut all = [ids(&first), ids(&second)].concat();
    all.sort();
    all.dedup();
    assert_eq!((all.len(), second.get("next_cursor")), (3, None));
}
