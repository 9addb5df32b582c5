//! Forecasts of tickers without a model, lists and validators.

use crate::{FRIDAY, MONDAY, World, ask};
use poem::Body;
use poem::http::Method;

const AAPL: &str = "/v1/forecasts/NASDAQ/AAPL";

#[tokio::test]
async fn a_ticker_without_a_model_gets_the_baseline() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 60).await;
    let body = world.get(AAPL).await.ok();
    for (field, value) in [("exchange", "NASDAQ"), ("ticker", "AAPL"), ("as_of", FRIDAY), ("target", MONDAY)] {
        assert_eq!(body[field], value, "{field}");
    }
    assert_eq!(
        (&body["made_by"], &body["kind"], &body["currency"]),
        (&"baseline".into(), &"forecast".into(), &"USD".into())
    );
    assert_eq!(body["flags"], serde_json::json!(["cold_start", "short_history"]));
    assert_eq!(body["cached"], false);
    assert_eq!(body["point"], body["baseline"]["point"]);
    assert_eq!(body["n_history"], 60);
    assert!(body.get("p_up").is_none(), "no skill is claimed");
    let (of80, of95) = (&body["intervals"][0], &body["intervals"][1]);
    assert_eq!((&of80["level"], &of95["level"]), (&80.into(), &95.into()));
    assert!(of95["lo"].as_f64() < of80["lo"].as_f64());
    assert!(body["disclaimer"].as_str().unwrap().contains("not financial advice"));
    // It is not stored: a run must still find its session without a forecast, and train.
    assert_eq!(world.get("/v1/forecasts").await.ok()["items"], serde_json::json!([]));
}

#[tokio::test]
async fn case_and_the_predecessors_names_are_understood() {
    let world = World::new().await;
    world.import("NASDAQ:BRK.B", 20).await;
    for path in ["/v1/forecasts/nasdaq/brk.b", "/v1/forecasts/NAS/BRK.B"] {
        assert_eq!(world.get(path).await.ok()["ticker"], "BRK.B");
    }
}

#[tokio::test]
async fn after_the_target_has_opened_it_is_flagged() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 60).await;
    world.clock.set("2024-01-29T14:29:59Z".parse().unwrap());
    assert!(!world.get(AAPL).await.text().contains("stale_data"));
    world.clock.set("2024-01-29T14:30:00Z".parse().unwrap());
    let body = world.get(AAPL).await.ok();
    assert!(body["flags"].as_array().unwrap().contains(&"stale_data".into()), "{body}");
    assert_eq!(body["kind"], "hindcast");
}

#[tokio::test]
async fn what_is_not_there_is_named() {
    let world = World::new().await;
    world.import("NASDAQ:NEW", 15).await;
    world.get("/v1/forecasts/NYSE/IBM").await.problem(404, "unknown_exchange");
    world.get("/v1/forecasts/NASDAQ/MSFT").await.problem(404, "unknown_ticker");
    world.get("/v1/forecasts/NEPSE/NEW").await.problem(404, "unknown_ticker");
    world.get("/v1/forecasts/NASDAQ/A%2FB").await.problem(404, "unknown_ticker");
    let short = world.get("/v1/forecasts/NASDAQ/NEW").await.problem(404, "not_enough_history");
    let detail = short["detail"].as_str().unwrap();
    assert!(detail.contains("15 archived closes") && detail.contains("needs 16"), "{detail}");
}

#[tokio::test]
async fn an_etag_saves_the_second_answer() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 60).await;
    let first = world.get(AAPL).await;
    let etag = first.header("etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "a strong validator: {etag}");
    assert_eq!(first.header("cache-control"), "no-cache");
    for sent in [etag.clone(), format!("\"other\", {etag}"), format!("W/{etag}"), "*".to_owned()] {
        let again = world.get_with(AAPL, &[("if-none-match", &sent)]).await;
        assert_eq!((again.status.as_u16(), again.bytes.len()), (304, 0), "{sent}");
        assert_eq!(again.header("etag"), etag);
    }
    assert_eq!(world.get_with(AAPL, &[("if-none-match", "\"other\"")]).await.status, 200);
    // Once the target has opened the answer is another one.
    world.clock.set("2024-01-29T14:30:00Z".parse().unwrap());
    assert_eq!(world.get_with(AAPL, &[("if-none-match", &etag)]).await.status, 200);
}

#[tokio::test]
async fn bytes_under_an_etag_are_never_recoded() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 60).await;
    let answer = world.get_with(AAPL, &[("accept-encoding", "gzip, br")]).await;
    assert_eq!(answer.header("content-encoding"), "");
    answer.ok();
}

#[tokio::test]
async fn many_at_once_get_one_answer() {
    let world = World::new().await;
    world.import("NASDAQ:AAPL", 200).await;
    let asking = (0..40).map(|_| ask(&world.app, Method::GET, AAPL, &[], Body::empty()));
    let answers = futures::future::join_all(asking).await;
    assert!(answers.iter().all(|answer| answer.status == 200 && answer.bytes == answers[0].bytes));
}

#[tokio::test]
async fn filters_are_checked() {
    let world = World::new().await;
    let body = world.get("/v1/forecasts?exchange=NYSE").await.problem(400, "bad_parameter");
    assert_eq!(body["errors"][0]["field"], "exchange");
    for limit in ["0", "201", "x", "-1"] {
        let body = world.get(&format!("/v1/forecasts?limit={limit}")).await.problem(400, "bad_parameter");
        assert_eq!(body["errors"][0]["field"], "limit", "{limit}");
    }
    world.get("/v1/forecasts?cursor=zz").await.problem(400, "bad_cursor");
}
