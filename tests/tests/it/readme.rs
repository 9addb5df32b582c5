//! The README: every command in it is run as it is written there. A command that this test does not know fails it.

use product_tests::process::{self, Program, Running};
use product_tests::servers;
use product_tests::{eventually, http};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(280);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the repository").to_owned()
}

/// The lines after `$ ` in console blocks, in order.
fn commands() -> Vec<String> {
    let text = std::fs::read_to_string(root().join("README.md")).expect("README.md");
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        } else if inside {
            found.push(
                line.strip_prefix("$ ").unwrap_or_else(|| panic!("a console line without `$ `: {line}")).to_owned(),
            );
        }
    }
    found
}

/// A shell in `folder` that finds our binary, and runs the command as written.
fn shell(command: &str, folder: &Path) -> Program {
    let binary = process::path_of("retainai");
    let path =
        format!("{}:{}", binary.parent().expect("its folder").display(), std::env::var("PATH").unwrap_or_default());
    Program::new("bash").args(["-c", &format!("exec {command}")]).env("PATH", path).current_dir(folder)
}

#[test]
fn has_the_commands_that_these_tests_run() {
    let known = [
        "make demo",
        "curl -s http://127.0.0.1:8080/v1/forecasts/NASDAQ/AAPL",
        "curl -s 'http://127.0.0.1:8080/v1/runs?limit=5'",
        "curl -s http://127.0.0.1:8080/health/ready",
        "retainai import prices",
        "retainai run --offline NASDAQ:AAPL",
        "retainai forecast NASDAQ:AAPL",
        "retainai runs list",
        "retainai tickers --json",
        "retainai backtest --data prices --sessions 250 --csv forecasts.csv",
        "retainai up",
        "export RETAINAI_DATABASE_URL=postgres://retainai@127.0.0.1/retainai",
        "export RETAINAI_REDIS_URL=redis://127.0.0.1",
        "retainai migrate --wait",
        "retainai scheduler",
        "retainai worker --steps scrape,finetune,cache,archive,cleanup,pretrain,settle",
        "retainai api",
    ];
    assert_eq!(commands(), known, "a command that is changed or added must be run here too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_demo_and_what_is_asked_of_it() {
    let all = commands();
    let data = tempfile::tempdir().unwrap();
    // cargo, which the demo calls, lives in the home folder; its data goes elsewhere than a developer's own demo.
    let environment =
        ["CARGO_HOME", "RUSTUP_HOME", "CARGO_TARGET_DIR", "HOME"].map(|name| (name, std::env::var(name).ok()));
    let demo = environment.into_iter().fold(shell(&all[0], &root()), |p, (name, value)| match value {
        Some(value) => p.env(name, value),
        None => p,
    });
    let mut demo: Running = demo.env("DEMO_DATA", data.path().join("demo")).spawn();
    let table = demo.wait_for_line("NASDAQ:AAPL", LIMIT).await;
    assert!(table.contains("global"), "{table}");
    demo.wait_for_line("http://127.0.0.1:8080", LIMIT).await;
    for command in &all[1..4] {
        let answer = shell(command, data.path()).output(LIMIT).await;
        assert_eq!(answer.code, Some(0), "{answer:#?}");
        let document = answer.json();
        assert!(
            document["point"].is_number() || document["items"].is_array() || document["status"] == "ready",
            "{command}: {document:#}"
        );
    }
    demo.sigterm();
    eventually("the demo to end", LIMIT, || async {
        (http::status("http://127.0.0.1:8080/health/live").await.is_none()).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn your_own_prices_and_every_day() {
    let all = commands();
    let home = tempfile::tempdir().unwrap();
    let day = |n: u64| chrono::NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + chrono::Days::new(n / 5 * 7 + n % 5);
    let rows: String = (0..80).map(|n| format!("{},,,,{:.2},1000\n", day(n), 100.0 + (n as f64).sin())).collect();
    std::fs::create_dir_all(home.path().join("prices/NASDAQ")).unwrap();
    std::fs::write(home.path().join("prices/NASDAQ/AAPL.csv"), format!("date,open,high,low,close,volume\n{rows}"))
        .unwrap();
    for command in &all[4..10] {
        let done = shell(command, home.path()).output(LIMIT).await;
        assert_eq!(done.code, Some(0), "{command}: {done:#?}");
        let about = if command.contains("backtest") { "NASDAQ" } else { "AAPL" };
        assert!(done.stdout.contains(about), "{command}: {}", done.stdout);
    }
    let csv = std::fs::read_to_string(home.path().join("forecasts.csv")).unwrap();
    assert_eq!(csv.lines().count(), 1 + 80 - 16, "a line for each session that has 16 closes before it and one after");
    // As written but for the network, which a test must not use, and the port, which may be taken.
    let address = format!("127.0.0.1:{}", product_tests::free_port());
    let mut up = shell(&all[10], home.path()).env("RETAINAI_OFFLINE", "true").env("RETAINAI_LISTEN", &address).spawn();
    eventually("up to be ready", LIMIT, || async {
        (http::status(&format!("http://{address}/health/ready")).await? == 200).then_some(())
    })
    .await;
    up.sigterm();
    assert_eq!(up.wait(LIMIT).await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roles_on_postgres_and_redis() {
    let all = commands();
    let (Some(postgres), Some(redis)) = (servers::postgres().await, servers::redis().await) else { return };
    let home = tempfile::tempdir().unwrap();
    let address = format!("127.0.0.1:{}", product_tests::free_port());
    // The two exports, with the addresses of this test's servers.
    let role = |command: &str| {
        shell(command, home.path())
            .env("RETAINAI_DATABASE_URL", postgres.url())
            .env("RETAINAI_REDIS_URL", redis.url())
            .env("RETAINAI_OFFLINE", "true")
            .env("RETAINAI_LISTEN", &address)
    };
    let migrated = role(&all[13]).output(LIMIT).await;
    assert_eq!(migrated.code, Some(0), "{migrated:#?}");
    let mut roles: Vec<Running> = all[14..17].iter().map(|command| role(command).spawn()).collect();
    eventually("the API to be ready", LIMIT, || async {
        (http::status(&format!("http://{address}/health/ready")).await? == 200).then_some(())
    })
    .await;
    // The scheduler has fired: every default ticker has a run, which offline and without prices fails with a word.
    eventually("ten runs that have ended", LIMIT, || async {
        let runs = http::get_json(&format!("http://{address}/v1/runs?state=failed&limit=50")).await.ok()?;
        (runs["items"].as_array()?.len() == 10).then_some(())
    })
    .await;
    for role in &mut roles {
        role.sigterm();
        assert_eq!(role.wait(LIMIT).await.code(), Some(0), "SIGTERM ends every role well");
    }
}
