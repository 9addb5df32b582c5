//! The whole chain for every ticker of the stand-in market, on both stores; then ledger, archive, cache, staging and API must agree.

use crate::installation::{Installation, TICKERS};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_every_ticker_embedded() {
    all_agree(Installation::embedded(&TICKERS).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn runs_every_ticker_on_postgres_and_redis() {
    if let Some(installation) = Installation::on_servers(&TICKERS).await {
        all_agree(installation).await;
    }
}

async fn all_agree(installation: Installation) {
    let _processes = installation.start(&[]).await;
    // The schedules fire for the market's present session by themselves, and again for the next.
    let first = installation.runs_ended(TICKERS.len()).await;
    assert_eq!(first.len(), TICKERS.len());
    assert!(first.iter().all(|run| run["state"] == "succeeded"), "{first:#?}");
    // Of the first closes the exchanges' models are made, and the forecasts that had to be the baseline's are made anew.
    installation.until("two global models", "select count(*) from global_model", 2).await;
    installation.until("no cold start", "select count(*) from active", 0).await;
    installation.next_session().await;
    let runs = installation.runs_ended(2 * TICKERS.len()).await;
    assert_eq!(runs.len(), 2 * TICKERS.len());
    assert!(runs.iter().all(|run| matches!(run["state"].as_str(), Some("succeeded" | "no_new_session"))), "{runs:#?}");
    installation.check_the_books().await;
    if installation.servers.is_some() {
        let strays = "select (select count(*) from run_default) + (select count(*) from step_default)";
        assert_eq!(installation.number(strays).await, 0, "the first month has its partitions before the first run");
    }
    assert_eq!(installation.number("select count(*) from tick").await, 4, "two schedules, two sessions");
    assert_eq!(installation.number("select count(*) from model where weights is null").await, 0);
    assert!(installation.number("select count(*) from model").await >= 10, "tickers have models of their own");
    assert!(installation.number("select count(*) from market_day where complete = true").await >= 1000);
    assert!(
        installation.number("select count(*) from forecast where not served").await >= 10,
        "challengers are on record"
    );
    assert_eq!(
        installation.number("select count(*) from forecast where kind = 'hindcast'").await,
        0,
        "every forecast was stored before its session opened"
    );

    let listed = installation.get("/v1/forecasts?limit=200").await;
    let items = listed["items"].as_array().unwrap();
    assert_eq!(items.len(), TICKERS.len());
    for forecast in items {
        let (exchange, ticker) = (forecast["exchange"].as_str().unwrap(), forecast["ticker"].as_str().unwrap());
        assert!(TICKERS.contains(&format!("{exchange}:{ticker}").as_str()));
        let price = |value: &serde_json::Value| value.as_f64().unwrap();
        let interval = |level: usize| {
            let of = &forecast["intervals"][level];
            (price(&of["lo"]), price(&of["hi"]))
        };
        let ((lo80, hi80), (lo95, hi95), point) = (interval(0), interval(1), price(&forecast["point"]));
        assert!(0.0 < lo95 && lo95 <= lo80 && lo80 <= point && point <= hi80 && hi80 <= hi95, "{forecast:#}");
        assert_eq!(forecast["made_by"], "global", "{forecast:#}");
        let one = installation.get(&format!("/v1/forecasts/{exchange}/{ticker}")).await;
        assert_eq!(one["cached"], true, "the chain filled the cache");
        assert_eq!(one["point"], forecast["point"]);
        let bars = installation.get(&format!("/v1/tickers/{exchange}/{ticker}/bars?limit=5000")).await;
        let last = bars["items"].as_array().unwrap().last().unwrap().clone();
        assert_eq!(
            (&last["close"], &last["session"]),
            (&forecast["last_close"], &forecast["as_of"]),
            "forecast from the newest archived close"
        );
    }
    let id = runs[0]["id"].as_str().unwrap();
    let run = installation.get(&format!("/v1/runs/{id}")).await;
    assert_eq!(run["steps"].as_array().unwrap().len(), 5);
}
