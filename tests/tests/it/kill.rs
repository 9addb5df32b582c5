//! kill -9 in the middle of each of the five steps: the run completes, every effect is applied once. And a Redis flushed in mid-run.

use crate::installation::{Installation, LIMIT, TICKERS};

const FEW: [&str; 3] = ["NASDAQ:AAPL", "NEPSE:DEMOHY", "NEPSE:DEMOBA"];

macro_rules! killed_in {
    ($($step:ident),+) => {
        mod embedded { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $step() { super::killed(super::Installation::embedded(&super::FEW).await, stringify!($step)).await; })+ }
        mod on_servers { $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $step() {
                if let Some(installation) = super::Installation::on_servers(&super::FEW).await {
                    super::killed(installation, stringify!($step)).await;
                }
            })+ }
    };
}
killed_in!(scrape, finetune, cache, archive, cleanup);

/// The worker holds still between its work and its completion, is killed there, and another one takes over.
async fn killed(installation: Installation, step: &str) {
    let mut processes = installation.start(&[("RETAINAI_HOLD_STEP", step), ("RETAINAI_HOLD_MS", "600000")]).await;
    processes[0].wait_for_line("holding before completion", LIMIT).await;
    let held =
        installation.number(&format!("select count(*) from step where step = '{step}' and state = 'running'")).await;
    assert!(held > 0, "killed in the middle of {step}");
    processes[0].kill9().await;
    processes[0] = if installation.servers.is_some() {
        installation.retainai(&["worker"]).spawn()
    } else {
        drop(processes.remove(0));
        let mut again = installation.start(&[]).await;
        processes.insert(0, again.remove(0));
        installation_ended(&installation, step, held).await;
        return;
    };
    installation_ended(&installation, step, held).await;
}

async fn installation_ended(installation: &Installation, step: &str, held: i64) {
    let runs = installation.runs_ended(FEW.len()).await;
    assert!(runs.len() == FEW.len() && runs.iter().all(|run| run["state"] == "succeeded"), "{runs:#?}");
    installation.check_the_books().await;
    // Whatever else the worker was at when it died is lost as well, and done again.
    let lost =
        installation.number(&format!("select count(*) from attempt where step = '{step}' and outcome = 'lost'")).await;
    assert!(lost >= held, "each attempt that died is shown as lost: {lost} of {held}");
    let of_the_runs = "forecast where served and run_id in (select id from run where plan = 'ticker')";
    for rows in [of_the_runs, "series"] {
        let count = installation.number(&format!("select count(*) from {rows}")).await;
        assert_eq!(count, FEW.len() as i64, "one per ticker in {rows}");
    }
    for ticker in FEW {
        let forecast = installation.get(&format!("/v1/forecasts/{}", ticker.replace(':', "/"))).await;
        assert_eq!(forecast["as_of"], "2012-12-03", "{ticker}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_flushed_in_mid_run_loses_nothing() {
    let Some(installation) = Installation::on_servers(&TICKERS).await else { return };
    let _processes = installation
        .start(&[("RETAINAI_SLOTS", "1"), ("RETAINAI_HOLD_STEP", "cache"), ("RETAINAI_HOLD_MS", "150")])
        .await;
    let redis = &installation.servers.as_ref().unwrap().1;
    let mut flushes = 0;
    while installation.number("select count(*) from run where finished_at is not null").await < TICKERS.len() as i64 {
        redis.flush_all().await;
        flushes += 1;
        assert!(flushes < 200, "the runs make progress between flushes");
        tokio::time::sleep(std::time::Duration::from_millis(400)).await;
    }
    assert!(flushes >= 2, "flushed in mid-run");
    let runs = installation.runs_ended(TICKERS.len()).await;
    assert!(runs.len() == TICKERS.len() && runs.iter().all(|run| run["state"] == "succeeded"), "{runs:#?}");
    installation.check_the_books().await;
}
