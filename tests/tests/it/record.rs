//! The public record, from outside: forecasts are scored by themselves when their closes come, and what they add up to is told by API and command.

use crate::installation::{Installation, LIMIT, TICKERS};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_kept_by_itself_embedded() {
    is_kept(Installation::embedded(&TICKERS).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn is_kept_by_itself_on_postgres_and_redis() {
    if let Some(installation) = Installation::on_servers(&TICKERS).await {
        is_kept(installation).await;
    }
}

async fn is_kept(installation: Installation) {
    let _processes = installation.start(&[]).await;
    for session in 1..=3 {
        installation.runs_ended(session * TICKERS.len()).await;
        installation.until("no run", "select count(*) from active", 0).await;
        if session < 3 {
            installation.next_session().await;
        }
    }
    // Of three sessions two have become closes of forecasts; NEPSE may have been closed on one of them.
    installation.all_scored().await;
    assert!(installation.number("select count(*) from score where served").await >= 14);
    assert_eq!(installation.number("select count(*) from score where hindcast").await, 0);
    assert_eq!(installation.number("select count(*) from forecast where settled = 'no_close'").await, 0);
    let twice = "select count(*) from (select 1 from score where newest and served group by exchange, ticker, session having count(*) > 1) as d";
    assert_eq!(installation.number(twice).await, 0, "one served score a session");

    let record = installation.get("/v1/forecasts/NASDAQ/AAPL/record?all=true").await;
    let items = record["items"].as_array().unwrap();
    let scored: Vec<&Value> =
        items.iter().filter(|item| item["outcome"] == "scored" && item["served"] == true).collect();
    assert!(!scored.is_empty(), "{record:#}");
    assert!(items.iter().any(|item| item["outcome"] == "waiting"), "the newest has no close yet");
    let bars = installation.get("/v1/tickers/NASDAQ/AAPL/bars?limit=5000").await;
    for item in &scored {
        let (forecast, score) = (&item["forecast"], &item["score"]);
        let bar = bars["items"].as_array().unwrap().iter().find(|bar| bar["session"] == score["session"]).unwrap();
        assert_eq!(bar["close"], score["close"]);
        let (close, point) = (score["close"].as_f64().unwrap(), forecast["point"].as_f64().unwrap());
        let error = (close - point) / score["reference"].as_f64().unwrap();
        assert!((score["error"].as_f64().unwrap() - error).abs() < 1e-12, "{item:#}");
        assert!(forecast["issued_at"].as_str().unwrap() < score["session"].as_str().unwrap(), "said before it came");
    }

    let one = installation.get("/v1/accuracy/NASDAQ/AAPL").await;
    assert_eq!(
        (&one["items"][0]["line"], one["items"][0]["n"].as_u64()),
        (&Value::from("served"), Some(scored.len() as u64))
    );
    let both = installation.get("/v1/accuracy").await;
    let nasdaq = &both["items"][0];
    assert_eq!((&nasdaq["exchange"], &nasdaq["line"]), (&Value::from("NASDAQ"), &Value::from("served")));
    assert_eq!(
        nasdaq["n"].as_i64().unwrap(),
        installation.number("select count(*) from score where exchange = 'NASDAQ' and served and newest").await
    );
    let page = installation.get("/v1/accuracy/NEPSE?limit=3").await;
    assert_eq!((page["items"].as_array().unwrap().len(), page["next_cursor"].is_string()), (3, true));
    assert_eq!(installation.get("/v1/alarms?open=true").await["items"], Value::from(Vec::<Value>::new()));

    let said = installation.retainai(&["accuracy", "NASDAQ:AAPL", "--json"]).output(LIMIT).await;
    assert_eq!((said.code, said.json()["items"][0]["n"].as_u64()), (Some(0), Some(scored.len() as u64)), "{said:#?}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("record.csv");
    let written = installation.retainai(&["accuracy", "--record", file.to_str().unwrap()]).output(LIMIT).await;
    assert_eq!(written.code, Some(0), "{written:#?}");
    let rows = std::fs::read_to_string(&file).unwrap();
    assert!(rows.starts_with("exchange,ticker,as_of,target_date,point,lo80,hi80,lo95,hi95,p_up,last_close,model\n"));
    assert_eq!(
        rows.lines().count() as i64 - 1,
        installation.number("select count(*) from score where served and newest").await
    );
    assert_eq!(installation.retainai(&["accuracy", "NASDAQ:NOSUCH"]).output(LIMIT).await.code, Some(1));
}
