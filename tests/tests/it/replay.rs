//! Runs are made again, bit for bit, after the market went on, a close was revised and a corporate action came: beside a running `up`, and alone
//! on the store. A number changed behind the program's back is found.

use crate::installation::{Installation, LIMIT};
use product_tests::http;
use product_tests::process::Finished;
use serde_json::Value;

/// Enough of them that the exchange has a market of its own.
const TICKERS: [&str; 6] =
    ["NEPSE:DEMOBA", "NEPSE:DEMOBB", "NEPSE:DEMOFI", "NEPSE:DEMOHO", "NEPSE:DEMOHY", "NEPSE:DEMOIN"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_runs_come_out_the_same_embedded() {
    the_same(Installation::embedded(&TICKERS).await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn past_runs_come_out_the_same_on_postgres_and_redis() {
    if let Some(installation) = Installation::on_servers(&TICKERS).await {
        the_same(installation).await;
    }
}

async fn replay(installation: &Installation, id: &str) -> Finished {
    installation.retainai(&["runs", "replay", id, "--json"]).output(LIMIT).await
}

fn items<'a>(replay: &'a Value, what: &str) -> Vec<&'a Value> {
    replay["items"].as_array().unwrap().iter().filter(|item| item["what"] == what).collect()
}

async fn put_csv(installation: &Installation, path: &str, text: String) {
    let request = http::client().put(installation.url(path)).header("content-type", "text/csv").body(text);
    request.send().await.expect("an answer").error_for_status().expect("an import");
}

/// Everything that a replay must leave as it is.
async fn rows(installation: &Installation) -> i64 {
    let tables = "run step attempt effect staging price_raw price_daily corporate_action_raw market_day model global_model forecast made_with audit";
    let counts: Vec<String> = tables.split(' ').map(|table| format!("(select count(*) from {table})")).collect();
    installation.number(&format!("select {}", counts.join(" + "))).await
}

async fn the_same(installation: Installation) {
    let mut processes = installation.start(&[]).await;
    installation.runs_ended(TICKERS.len()).await;
    installation.until("a global model", "select count(*) from global_model", 1).await;
    installation.until("no open run", "select count(*) from active", 0).await;
    for sessions in 2..=4 {
        installation.next_session().await;
        let runs = installation.runs_ended(sessions * TICKERS.len()).await;
        assert!(
            runs.iter().all(|run| matches!(run["state"].as_str(), Some("succeeded" | "no_new_session"))),
            "{runs:#?}"
        );
    }
    installation.all_scored().await;
    // What was known then changes: a close that all have learnt, one that only the newest run saw, and a bonus.
    let bars = installation.get("/v1/tickers/NEPSE/DEMOBA/bars?limit=5000").await["items"].clone();
    let bars = bars.as_array().unwrap();
    let session = |back: usize| bars[bars.len() - back]["session"].as_str().unwrap().to_owned();
    let revised = format!("date,close\n{},77.7\n{},78.8\n", session(100), session(1));
    put_csv(&installation, "/v1/tickers/NEPSE/DEMOBA/bars", revised).await;
    let bonus = format!("ticker,date,factor\nDEMOBA,{},0.8\n", session(50));
    put_csv(&installation, "/v1/exchanges/NEPSE/factors", bonus).await;
    // And what is said of days that were targets: the calendar of then was another.
    let (first, last) = (session(3), session(1));
    let said = ["sessions", "set", "NEPSE", &first, "closed", "--to", &last, "--reason", "said afterwards", "--json"];
    let said = installation.retainai(&said).output(LIMIT).await;
    assert_eq!((said.code, &said.json()["items"][0]["basis"]), (Some(0), &"operator".into()), "{said:#?}");

    let all = installation.get("/v1/runs?limit=200").await["items"].as_array().unwrap().clone();
    let of = |what: &str, state: &str| -> Vec<String> {
        let those = all.iter().filter(|run| run["subject"] == what && run["state"] == state && run["plan"] != "settle");
        those.map(|run| run["id"].as_str().unwrap().to_owned()).collect()
    };
    let (runs, trainings) = (of("NEPSE:DEMOBA", "succeeded"), of("NEPSE", "succeeded"));
    assert!(runs.len() >= 3 && trainings.len() == 1, "{all:#?}");
    for idle in of("NEPSE:DEMOBA", "no_new_session") {
        let refused = replay(&installation, &idle).await;
        assert_eq!(
            (refused.code, refused.json()["code"].clone()),
            (Some(1), "nothing_to_replay".into()),
            "{refused:#?}"
        );
    }
    let before = rows(&installation).await;
    let (mut models, mut forecasts) = (0, 0);
    for id in &runs {
        let again = replay(&installation, id).await;
        assert_eq!(again.code, Some(0), "{again:#?}");
        let again = again.json();
        assert_eq!(again["verdict"], "same", "{again:#}");
        assert!(again["items"].as_array().unwrap().iter().all(|item| item["verdict"] == "same"), "{again:#}");
        models += items(&again, "model").len();
        forecasts += items(&again, "forecast").len();
    }
    assert!(models >= 2, "one was made from the global model, one went on from that: {models}");
    assert!(forecasts >= 5, "with the models' shadows: {forecasts}");
    let trained = replay(&installation, &trainings[0]).await;
    assert_eq!(trained.code, Some(0), "{trained:#?}");
    assert_eq!(items(&trained.json(), "global_model")[0]["verdict"], "same");
    assert_eq!(rows(&installation).await, before, "nothing was written");
    for process in &mut processes {
        process.sigterm();
        process.wait(LIMIT).await;
    }
    let alone = replay(&installation, &runs[1]).await;
    assert_eq!((alone.code, alone.json()["verdict"].clone()), (Some(0), "same".into()), "{alone:#?}");
    tampered(&installation, &runs[1], &session(200)).await;
}

/// A close of long ago is changed in the archive itself.
async fn tampered(installation: &Installation, id: &str, session: &str) {
    let change = format!("update price_raw set close = close * 1.01 where ticker = 'DEMOBA' and session = '{session}'");
    installation.change(&change).await;
    let found = replay(installation, id).await;
    assert_eq!(found.code, Some(1), "{found:#?}");
    let found = found.json();
    assert_eq!(found["verdict"], "different");
    let inputs = items(&found, "inputs");
    assert!(inputs.iter().all(|item| item["differences"][0]["field"] == "input_hash"), "{found:#}");
    assert!(items(&found, "model").iter().all(|item| item["verdict"] == "not_replayable"), "{found:#}");
    let told = installation.retainai(&["runs", "replay", id]).output(LIMIT).await;
    assert!(told.code == Some(1) && told.stdout.trim_end().ends_with("different"), "{told:#?}");
    assert!(told.stdout.contains("cache inputs: input_hash was "), "{}", told.stdout);
}
