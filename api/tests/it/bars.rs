//! Archived prices: read, imported, corporate actions.

use crate::{FRIDAY, World, ask, csv, weekdays};
use poem::Body;
use poem::http::Method;
use serde_json::{Value, json};

const BARS: &str = "/v1/tickers/NASDAQ/AAPL/bars";

fn sessions(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|bar| bar["session"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_page_holds_the_newest_and_leads_to_the_older() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 7).await;
    let all: Vec<String> = weekdays(7).iter().map(ToString::to_string).collect();
    let first = world.get(&format!("{BARS}?limit=3")).await.ok();
    assert_eq!(sessions(&first), all[4..]);
    let second = world.get(&format!("{BARS}?limit=3&cursor={}", first["next_cursor"].as_str().unwrap())).await.ok();
    assert_eq!(sessions(&second), all[1..4]);
    let third = world.get(&format!("{BARS}?limit=3&cursor={}", second["next_cursor"].as_str().unwrap())).await.ok();
    assert_eq!(sessions(&third), all[..1]);
    assert!(third.get("next_cursor").is_none());
}

#[tokio::test]
async fn a_range_is_inclusive() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 10).await;
    let page = world.get(&format!("{BARS}?from=2024-01-22&to=2024-01-24")).await.ok();
    assert_eq!(sessions(&page), ["2024-01-22", "2024-01-23", "2024-01-24"]);
    let bar = &page["items"][0];
    assert!(bar["open"].is_f64() && bar["volume"] == 1000.0 && bar.get("ltp").is_none(), "{bar}");
    assert_eq!(sessions(&world.get(&format!("{BARS}?from=2030-01-01")).await.ok()), [""; 0]);
    let bad = world.get(&format!("{BARS}?from=yesterday")).await.problem(400, "bad_parameter");
    assert_eq!(bad["errors"][0]["field"], "from");
    assert!(!bad.to_string().contains("naive"), "our words, not the framework's: {bad}");
    world.get(&format!("{BARS}?limit=5001")).await.problem(400, "bad_parameter");
    world.get("/v1/tickers/NASDAQ/NOPE/bars").await.problem(404, "unknown_ticker");
}

#[tokio::test]
async fn a_known_ticker_without_bars_has_an_empty_list() {
    let world = World::new().await;
    ask(&world.app, Method::PUT, "/v1/tickers/NASDAQ/AAPL", &[], Body::empty()).await.ok();
    assert_eq!(world.get(BARS).await.ok(), json!({ "items": [] }));
}

#[tokio::test]
async fn an_import_says_what_it_changed() {
    let world = World::new().await;
    let file = csv(&weekdays(20));
    let none: [Value; 0] = [];
    let done = world.put_csv(BARS, file.clone()).await.ok();
    assert_eq!(
        done,
        json!({ "new": 20, "revised": 0, "unchanged": 0, "repaired": 0, "quarantined": none, "noted": none, "refused": none })
    );
    let again = world.put_csv(BARS, file.clone()).await.ok();
    assert_eq!(
        again,
        json!({ "new": 0, "revised": 0, "unchanged": 20, "repaired": 0, "quarantined": none, "noted": none, "refused": none })
    );
    let revised = format!("{file}{FRIDAY},100,101,99,100.5,1\n2024-01-29,,,,nonsense,\n");
    let third = world.put_csv(BARS, revised).await.ok();
    assert_eq!((&third["new"], &third["revised"], &third["unchanged"]), (&0.into(), &1.into(), &19.into()));
    assert_eq!(third["refused"], json!([{ "line": 23, "column": "close", "reason": "`nonsense` is not a number" }]));
    let newest = world.get(&format!("{BARS}?limit=1")).await.ok();
    assert_eq!(newest["items"][0]["close"], 100.5);
}

#[tokio::test]
async fn a_file_that_is_none_is_refused_whole() {
    let world = World::new().await;
    let refused = world.put_csv(BARS, "day,price\n1,2\n").await.problem(422, "file_refused");
    assert_eq!(refused["errors"][0]["field"], "date");
    let binary =
        ask(&world.app, Method::PUT, BARS, &[("content-type", "text/csv")], Body::from(vec![0xff, 0xfe])).await;
    binary.problem(422, "bad_body");
    let json = ask(&world.app, Method::PUT, BARS, &[("content-type", "application/json")], Body::from("{}")).await;
    json.problem(415, "unsupported_media_type");
    world.put_csv("/v1/tickers/LSE/A/bars", csv(&weekdays(3))).await.problem(404, "unknown_exchange");
    // Nothing of this made the ticker known, nor does a file without one sound row.
    assert_eq!(world.put_csv(BARS, "date,close\n2024-01-26,none\n").await.ok()["refused"].as_array().unwrap().len(), 1);
    world.get("/v1/tickers/NASDAQ/AAPL").await.problem(404, "unknown_ticker");
}

#[tokio::test]
async fn an_operator_announces_an_action_and_takes_it_back() {
    const ACTIONS: &str = "/v1/tickers/NEPSE/NABIL/actions";
    let world = World::new().await;
    let announce = async |session: &str, body: Value| world.put(&format!("{ACTIONS}/{session}"), body).await;
    announce("2024-01-28", json!({ "factor": 0.8 })).await.problem(404, "unknown_ticker");
    world.get(ACTIONS).await.problem(404, "unknown_ticker");
    world.import("NEPSE:NABIL", 60).await;
    assert_eq!(world.get(ACTIONS).await.ok(), json!({ "items": [] }));
    let said = json!({ "factor": 0.8, "announced_at": "2024-01-10T06:00:00Z" });
    let action = announce("2024-01-28", said.clone()).await.ok();
    assert_eq!(
        action,
        json!({ "session": "2024-01-28", "factor": 0.8, "announced_at": "2024-01-10T06:00:00+00:00", "source": "operator" })
    );
    assert_eq!(announce("2024-01-28", said).await.ok(), action, "twice is once");
    let reference = async || {
        let body = world.get("/v1/forecasts/NEPSE/NABIL").await.ok();
        body["reference_price"].as_f64().unwrap() / body["last_close"].as_f64().unwrap()
    };
    assert!((reference().await - 0.8).abs() < 1e-4);
    announce("2024-01-28", json!({ "factor": 1.0 })).await.ok();
    assert!((reference().await - 1.0).abs() < 1e-4, "taken back");
    for bad in [json!(0.0), json!(-1), json!(51)] {
        announce("2024-01-28", json!({ "factor": bad })).await.problem(422, "bad_factor");
    }
    announce("soon", json!({ "factor": 0.5 })).await.problem(404, "not_found");
    let audit = world.get("/v1/audit").await.ok();
    assert_eq!(audit["items"][0]["action"], "action_announce");
}

#[tokio::test]
async fn corporate_actions_reach_the_forecast() {
    let world = World::new().await;
    world.import("NEPSE:NABIL", 60).await;
    let file = "ticker,date,factor\nNABIL,2024-01-28,0.8\nNABIL,2024-01-30,zero\nGHOST,2024-01-28,0.5\n";
    let done = world.put_csv("/v1/exchanges/NEPSE/factors", file).await.ok();
    assert_eq!((&done["archived"], &done["tickers"]), (&2.into(), &2.into()));
    assert_eq!(done["without_bars"], json!(["GHOST"]));
    world.get("/v1/tickers/NEPSE/GHOST").await.problem(404, "unknown_ticker");
    assert_eq!(done["refused"][0]["line"], 3);
    world.import("NEPSE:EBL", 10).await;
    let earlier = format!("ticker,date,factor\nEBL,{FRIDAY},0.8\n");
    world.put_csv("/v1/exchanges/NEPSE/factors", earlier).await.ok();
    let of = |page: Value| page["items"][0]["close"].as_f64().unwrap();
    let raw = of(world.get("/v1/tickers/NEPSE/EBL/bars").await.ok());
    let adjusted = of(world.get("/v1/tickers/NEPSE/EBL/bars?adjusted=true").await.ok());
    assert!((adjusted - raw * 0.8).abs() < 1e-4, "{adjusted} of {raw}");
    let ahead = world.get("/v1/tickers/NEPSE/NABIL/bars?adjusted=true").await.ok();
    assert_eq!(ahead, world.get("/v1/tickers/NEPSE/NABIL/bars").await.ok(), "its action lies ahead of the newest bar");
    let body = world.get("/v1/forecasts/NEPSE/NABIL").await.ok();
    assert!(body["flags"].as_array().unwrap().contains(&"corporate_action".into()), "{body}");
    let (last, reference) = (body["last_close"].as_f64().unwrap(), body["reference_price"].as_f64().unwrap());
    assert!((reference - last * 0.8).abs() < 1e-3);
    world.put_csv("/v1/exchanges/NEPSE/factors", "a,b\n1,2\n").await.problem(422, "file_refused");
    world.put_csv("/v1/exchanges/LSE/factors", file).await.problem(404, "unknown_exchange");
}
