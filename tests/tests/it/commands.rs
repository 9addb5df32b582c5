//! The operator's commands on the embedded store: by themselves, and beside a running `up`.

use product_tests::process::{self, Program};
use product_tests::{eventually, free_port, http};
use std::path::Path;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(60);

/// A folder in the import shape: one sound file, one with bad rows, one that is no price file, and others.
fn prices(folder: &Path) {
    let write = |name: &str, text: String| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let day = |n: u64| chrono::NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + chrono::Days::new(n / 5 * 7 + n % 5);
    let rows = |count: u64| {
        (0..count)
            .map(|n| format!("{},,,,{:.2},{}\n", day(n), 100.0 + (n as f64 * 0.7).sin() * 3.0, 1000 + n))
            .collect::<String>()
    };
    write("NASDAQ/AAPL.csv", format!("date,open,high,low,close,volume\n{}", rows(120)));
    write("NASDAQ/SHORT.csv", format!("date,open,high,low,close,volume\n{}", rows(15)));
    write(
        "NEPSE/NABIL.csv",
        format!("date,open,high,low,close,volume\n{}2024-09-01,,,,NaN,1\nnever,,,,5,1\n2024-09-02,,,,-3,1\n", rows(60)),
    );
    write("NEPSE/BROKEN.csv", "day,price\n2024-01-01,5\n".to_owned());
    write("NEPSE_reference_price_factors.csv", "ticker,date,factor\nNABIL,2024-02-01,0.9\n".to_owned());
    write("README.md", "about".to_owned());
}

fn retainai(folder: &Path, arguments: &[&str]) -> Program {
    process::retainai(arguments.iter().copied()).current_dir(folder).env("RETAINAI_TICKERS", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn import_run_and_forecast_without_a_server() {
    let home = tempfile::tempdir().unwrap();
    prices(&home.path().join("prices"));
    let imported = retainai(home.path(), &["import", "prices", "--json"]).output(LIMIT).await;
    assert_eq!(imported.code, Some(1), "one file is refused whole: {imported:#?}");
    let document = imported.json();
    let file = |name: &str| {
        document["files"]
            .as_array()
            .unwrap()
            .iter()
            .find(|f| f["file"].as_str().unwrap().ends_with(name))
            .unwrap()
            .clone()
    };
    assert_eq!(file("AAPL.csv")["new"], 120);
    assert_eq!(file("NABIL.csv")["new"], 60, "sound rows count beside bad ones");
    let refused = file("NABIL.csv")["refused"].as_array().unwrap().clone();
    assert_eq!((refused.len(), &refused[0]["line"], &refused[0]["column"]), (3, &62.into(), &"close".into()));
    assert!(file("BROKEN.csv")["refused_whole"].as_str().unwrap().len() > 5, "{document:#}");
    assert_eq!(document["ignored"].as_array().unwrap().len(), 1);

    let ran = retainai(home.path(), &["run", "--offline", "NASDAQ:AAPL", "NEPSE:NABIL", "NASDAQ:SHORT", "--json"])
        .output(LIMIT)
        .await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let runs = ran.json()["items"].as_array().unwrap().clone();
    assert!(runs.iter().all(|run| run["state"] == "succeeded"), "{runs:#?}");
    assert!(runs[2]["reason"].as_str().unwrap().contains("15 closes are known and 16 are needed"), "{:#}", runs[2]);
    let forecast = retainai(home.path(), &["forecast", "NASDAQ:AAPL", "--json"]).output(LIMIT).await.json();
    assert_eq!(
        (&forecast["made_by"], &forecast["kind"]),
        (&"baseline".into(), &"hindcast".into()),
        "its session is long past"
    );
    assert!(forecast["flags"].as_array().unwrap().contains(&"stale_data".into()));
    let short = retainai(home.path(), &["forecast", "NASDAQ:SHORT"]).output(LIMIT).await;
    assert!(short.code == Some(1) && short.stderr.contains("16"), "{short:#?}");
    let unknown = retainai(home.path(), &["forecast", "NASDAQ:NOSUCH", "--json"]).output(LIMIT).await;
    assert_eq!((unknown.code, unknown.json()["code"].clone()), (Some(1), "unknown_ticker".into()));
    let again = retainai(home.path(), &["run", "--offline", "NASDAQ:AAPL", "--json"]).output(LIMIT).await;
    assert_eq!(again.json()["items"][0]["state"], "no_new_session");
    let nothing = retainai(home.path(), &["run", "--offline", "NASDAQ:EMPTY", "--json"]).output(LIMIT).await;
    assert!(nothing.code == Some(1) && nothing.stdout.contains("import prices"), "{nothing:#?}");

    let id = runs[0]["id"].as_str().unwrap();
    let shown = retainai(home.path(), &["runs", "show", id]).output(LIMIT).await;
    assert!(shown.stdout.contains("finetune") && shown.stdout.contains("succeeded"), "{}", shown.stdout);
    let rerun = retainai(home.path(), &["runs", "rerun", id, "--from", "cache", "--json"]).output(LIMIT).await;
    assert_eq!(rerun.json()["rerun_of"], id);
    let waiting = rerun.json()["id"].as_str().unwrap().to_owned();
    let cancelled = retainai(home.path(), &["runs", "cancel", &waiting]).output(LIMIT).await;
    assert_eq!(cancelled.code, Some(0), "{cancelled:#?}");
    let listed = retainai(home.path(), &["tickers", "--json"]).output(LIMIT).await.json();
    assert_eq!(listed["items"].as_array().unwrap().len(), 4, "{listed:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_beside_up_go_through_its_api() {
    let home = tempfile::tempdir().unwrap();
    prices(&home.path().join("prices"));
    let address = format!("127.0.0.1:{}", free_port());
    let mut up = retainai(home.path(), &["up", "--offline", "--listen", &address]).spawn();
    eventually("up to be ready", LIMIT, || async {
        (http::status(&format!("http://{address}/health/ready")).await? == 200).then_some(())
    })
    .await;
    let second = retainai(home.path(), &["up", "--listen", "127.0.0.1:0"]).output(LIMIT).await;
    assert!(
        second.code == Some(1) && second.stderr.contains(&address),
        "a second one on the same folder is refused: {second:#?}"
    );
    let imported = retainai(home.path(), &["import", "prices"]).output(LIMIT).await;
    assert!(imported.stderr.contains("line 62, column `close`"), "{imported:#?}");
    let ran = retainai(home.path(), &["run", "NEPSE:NABIL", "--json"]).output(LIMIT).await;
    assert_eq!((ran.code, ran.json()["items"][0]["state"].clone()), (Some(0), "succeeded".into()), "{ran:#?}");
    let healthy = retainai(home.path(), &["healthcheck", "--listen", &address]).output(LIMIT).await;
    assert_eq!(healthy.code, Some(0));
    up.sigterm();
    assert_eq!(up.wait(LIMIT).await.code(), Some(0), "SIGTERM ends it well");
    let after = retainai(home.path(), &["forecast", "NEPSE:NABIL", "--json"]).output(LIMIT).await;
    assert_eq!(after.json()["ticker"], "NABIL", "and what it did is there without it");
}

#[tokio::test]
async fn the_document_needs_no_store() {
    let printed = process::retainai(["openapi"]).output(LIMIT).await;
    let document = printed.json();
    assert!(document["paths"]["/v1/forecasts/{exchange}/{ticker}"].is_object());
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_nobody_here_carries_out_is_refused_and_not_waited_for() {
    let home = tempfile::tempdir().unwrap();
    let refused = retainai(home.path(), &["worker", "--steps", "scrape,digest"]).output(LIMIT).await;
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(
        refused.stderr.contains("does not carry out `digest`") && refused.stderr.contains("cleanup"),
        "{refused:#?}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_who_has_seen_enough_ends_a_command_quietly() {
    let program = process::path_of("retainai");
    let piped = format!("set -o pipefail; '{}' openapi | head -c 1", program.display());
    let cut = Program::new("bash").args(["-c", piped.as_str()]).output(LIMIT).await;
    assert_eq!((cut.code, cut.stderr.as_str()), (Some(0), ""), "{cut:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_without_any_server_trains_the_model_it_is_forecast_with() {
    let home = tempfile::tempdir().unwrap();
    let day = |n: u64| chrono::NaiveDate::from_ymd_opt(2018, 1, 1).unwrap() + chrono::Days::new(n / 5 * 7 + n % 5);
    let rows: String =
        (0..1_700).map(|n| format!("{},,,,{:.2},1000\n", day(n), 100.0 + 9.0 * (n as f64).sin())).collect();
    std::fs::create_dir_all(home.path().join("prices/NASDAQ")).unwrap();
    let file = home.path().join("prices/NASDAQ/AAPL.csv");
    std::fs::write(file, format!("date,open,high,low,close,volume\n{rows}")).unwrap();
    assert_eq!(retainai(home.path(), &["import", "prices"]).output(LIMIT).await.code, Some(0));
    let ran = retainai(home.path(), &["run", "--offline", "NASDAQ:AAPL", "--json"]).output(LIMIT).await;
    assert_eq!(ran.code, Some(0), "{ran:#?}");
    let forecast = retainai(home.path(), &["forecast", "NASDAQ:AAPL", "--json"]).output(LIMIT).await.json();
    assert_eq!(forecast["made_by"], "global", "{forecast:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backtest_goes_through_the_predecessors_recipe_by_the_kernel_asked_for() {
    let home = tempfile::tempdir().unwrap();
    prices(&home.path().join("prices"));
    let go = |kernel: &'static str| {
        let backtest = ["backtest", "--data", "prices", "--sessions", "30", "--recipe", "predecessor", "--json"];
        retainai(home.path(), &[&backtest[..], &["--kernel", kernel]].concat()).output(LIMIT)
    };
    let (fast, reference, quick) = (go("fast").await, go("reference").await, go("quick").await);
    assert_eq!((fast.code, reference.code, quick.code), (Some(0), Some(0), Some(2)), "{fast:#?} {reference:#?}");
    assert!(quick.stderr.contains("use fast, portable or reference"), "{quick:#?}");
    let rmse_of = |document: serde_json::Value, model: &str| {
        let of = |score: &&serde_json::Value| score["exchange"] == "NASDAQ" && score["model"] == model;
        document["scores"].as_array().unwrap().iter().find(of).unwrap()["rmse_ratio"].as_f64().unwrap()
    };
    let [fast, reference] = [fast.json(), reference.json()].map(|said| rmse_of(said, "predecessor"));
    assert!((fast / reference - 1.0).abs() < 1e-4 && fast != 1.0, "{fast} {reference}");
    let unknown = retainai(home.path(), &["config"]).env("RETAINAI_KERNEL", "quick").output(LIMIT).await;
    assert!(unknown.code == Some(2) && unknown.stderr.contains("RETAINAI_KERNEL"), "{unknown:#?}");
}
