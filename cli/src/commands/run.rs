//! `retainai run EXCHANGE:TICKER…`: starts a run per ticker and waits for its end, showing progress on a terminal.

use super::failed;
use crate::client::Client;
use crate::output::{cell, print_json, table};
use crate::settings::Settings;
use chrono::NaiveDate;
use indicatif::{ProgressBar, ProgressStyle};
use market::Ticker;
use serde_json::{Value, json};
use std::time::Duration;

/// Exit 0 when every run succeeded or had no new session, else 1.
pub async fn run(
    settings: &Settings,
    tickers: &[Ticker],
    session: Option<NaiveDate>,
    wait: bool,
    as_json: bool,
) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, wait).await?;
    let outcome = start_and_wait(&client, settings, tickers, session, wait, as_json).await;
    client.close().await?;
    outcome
}

async fn start_and_wait(
    client: &Client,
    settings: &Settings,
    tickers: &[Ticker],
    session: Option<NaiveDate>,
    wait: bool,
    as_json: bool,
) -> anyhow::Result<u8> {
    let mut ids = Vec::new();
    for ticker in tickers {
        client
            .put(&format!("/v1/tickers/{}/{}", ticker.exchange(), ticker.symbol()), "application/json", "{}".to_owned())
            .await?
            .ok()?;
        let mut body =
            json!({ "exchange": ticker.exchange().as_str(), "ticker": ticker.symbol(), "offline": settings.offline });
        if let Some(session) = session {
            body["session"] = json!(session);
        }
        let answer = client.post("/v1/runs", &body).await?;
        if !answer.is_ok() {
            return failed(&answer, as_json);
        }
        ids.push(cell(&answer.body, "id"));
    }
    let mut runs = Vec::new();
    let bar = progress(ids.len());
    for id in &ids {
        let run =
            if wait { ended(client, id, &bar).await? } else { client.get(&format!("/v1/runs/{id}")).await?.ok()? };
        bar.inc(1);
        runs.push(run);
    }
    bar.finish_and_clear();
    let failed = wait && runs.iter().any(|run| !matches!(run["state"].as_str(), Some("succeeded" | "no_new_session")));
    if as_json {
        print_json(&json!({ "items": runs }))?;
    } else {
        let rows: Vec<Vec<String>> = runs
            .iter()
            .map(|run| ["id", "exchange", "ticker", "session", "state", "reason"].map(|key| cell(run, key)).to_vec())
            .collect();
        crate::output::outln!("{}", table(&["run", "exchange", "ticker", "session", "state", "reason"], &rows));
    }
    Ok(u8::from(failed))
}

/// Waits until the run has ended, saying which step it is at.
async fn ended(client: &Client, id: &str, bar: &ProgressBar) -> anyhow::Result<Value> {
    loop {
        let run = client.get(&format!("/v1/runs/{id}")).await?.ok()?;
        if !matches!(run["state"].as_str(), Some("queued" | "running")) {
            return Ok(run);
        }
        let at = run["steps"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|s| matches!(s["state"].as_str(), Some("ready" | "running")));
        bar.set_message(format!(
            "{}:{} {}",
            cell(&run, "exchange"),
            cell(&run, "ticker"),
            at.map(|s| cell(s, "step")).unwrap_or_default()
        ));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A bar on a terminal; hidden elsewhere.
fn progress(length: usize) -> ProgressBar {
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(length as u64).with_style(style)
}
