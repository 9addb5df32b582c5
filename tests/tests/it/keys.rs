//! Keys as an operator and a client meet them: an address that others can reach, the first key, narrower ones, commands from afar.

use crate::installation::{Installation, LIMIT};
use product_tests::{http, process};
use std::path::Path;

async fn asked_by(installation: &Installation, key: &str, path: &str) -> u16 {
    let request = http::client().get(installation.url(path)).bearer_auth(key);
    request.send().await.expect("an answer").status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_others_can_reach_needs_keys() {
    let installation = Installation::embedded(&["NASDAQ:AAPL"]).await.with("RETAINAI_KEYS", "always");
    keys(installation, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_others_can_reach_needs_keys_with_postgres_and_redis() {
    let Some(installation) = Installation::on_servers(&["NASDAQ:AAPL"]).await else { return };
    // Two processes that start at once make one first key.
    keys(installation.with("RETAINAI_KEYS", "always"), 2).await;
}

async fn keys(installation: Installation, apis: usize) {
    let processes = installation.start(&[]).await;
    let _second = (apis == 2).then(|| installation.retainai(&["api", "--listen", "127.0.0.1:0"]).spawn());
    let first = product_tests::eventually("the first key", LIMIT, || async {
        let logs: String = processes.iter().map(|process| process.log()).collect();
        logs.lines().find_map(|line| Some(line.trim()).filter(|line| line.starts_with("rtn_")).map(str::to_owned))
    })
    .await;
    assert_eq!(http::status(&installation.url("/v1/runs")).await, Some(401));
    assert_eq!(http::status(&installation.url("/health/ready")).await, Some(200));
    assert_eq!(asked_by(&installation, &first, "/v1/keys").await, 200);
    // Whoever may read the data folder, or knows the databases, needs no key.
    let made = installation.retainai(&["keys", "create", "a bot", "--scopes", "forecasts:read"]).output(LIMIT).await;
    assert_eq!(made.code, Some(0), "{made:#?}");
    let bot = made.stdout.trim().to_owned();
    assert_eq!(asked_by(&installation, &bot, "/v1/forecasts").await, 200);
    assert_eq!(asked_by(&installation, &bot, "/v1/runs").await, 403);
    // From afar, with nothing but an address and a key.
    let elsewhere = tempfile::tempdir().unwrap();
    let from_afar = |key: &str, arguments: &[&str]| {
        let folder: &Path = elsewhere.path();
        process::retainai(arguments.iter().copied())
            .current_dir(folder)
            .env("RETAINAI_API_URL", installation.url(""))
            .env("RETAINAI_API_KEY", key)
    };
    let run = from_afar(&first, &["run", "NASDAQ:AAPL", "--json"]).output(LIMIT).await;
    assert_eq!(run.code, Some(0), "{run:#?}");
    let refused = from_afar(&bot, &["runs", "list"]).output(LIMIT).await;
    assert!(refused.code == Some(1) && refused.stderr.contains("runs:read"), "{refused:#?}");
    let shown = from_afar(&first, &["config", "--json"]).output(LIMIT).await;
    assert!(shown.code == Some(0) && !shown.stdout.contains(&first), "a key is shown nowhere: {}", shown.stdout);
    let listed = from_afar(&first, &["keys", "list", "--json"]).output(LIMIT).await.json();
    let id = listed["items"].as_array().unwrap().iter().find(|key| key["name"] == "a bot").unwrap()["id"].clone();
    let revoked = from_afar(&first, &["keys", "revoke", id.as_str().unwrap()]).output(LIMIT).await;
    assert_eq!(revoked.code, Some(0), "{revoked:#?}");
    product_tests::eventually("the key to open nothing", LIMIT, || async {
        (asked_by(&installation, &bot, "/v1/forecasts").await == 401).then_some(())
    })
    .await;
    for process in &processes {
        assert!(!process.log().contains(&bot), "no key in the log");
        let times = process.log().matches(&first).count();
        assert!(times <= 1, "the first key is shown once");
    }
    assert!(!elsewhere.path().join("retainai-data").exists(), "a command from afar keeps nothing here");
}
