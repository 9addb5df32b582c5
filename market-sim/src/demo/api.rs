//! The few questions that the demo asks `retainai`'s API. In come JSON pages, out go runs and forecasts.

use anyhow::Context;
use serde::{Deserialize, de::DeserializeOwned};
use std::{net::SocketAddr, time::Duration};

/// A client of one `retainai`.
pub(super) struct Api {
    base_url: String,
    http: reqwest::Client,
}

/// One run, as far as the demo cares.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Run {
    #[serde(default)]
    exchange: String,
    /// Empty for a run about an exchange, such as a pre-training.
    #[serde(default)]
    ticker: String,
    /// The session for which it runs.
    pub(super) session: Option<String>,
    /// `queued`, `running`, `succeeded`, …
    pub(super) state: String,
}

/// One forecast, as far as the table shows it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Forecast {
    exchange: String,
    ticker: String,
    pub(super) as_of: String,
    pub(super) target: String,
    pub(super) last_close: Option<f64>,
    pub(super) point: f64,
    pub(super) change_pct: Option<f64>,
    #[serde(default)]
    pub(super) intervals: Vec<Interval>,
    pub(super) baseline: Option<Baseline>,
    /// Whose numbers these are: `own`, `global` or `baseline`.
    #[serde(default)]
    pub(super) made_by: String,
    pub(super) mean_weight: Option<f64>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Interval {
    pub(super) level: u32,
    pub(super) lo: f64,
    pub(super) hi: f64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Baseline {
    pub(super) point: f64,
}

#[derive(Deserialize)]
struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl Run {
    /// `NASDAQ:AAPL`.
    pub(super) fn ticker(&self) -> String {
        full_name(&self.exchange, &self.ticker)
    }
}

impl Forecast {
    /// `NASDAQ:AAPL`.
    pub(super) fn ticker(&self) -> String {
        full_name(&self.exchange, &self.ticker)
    }
}

fn full_name(exchange: &str, ticker: &str) -> String {
    if ticker.contains(':') { ticker.to_owned() } else { format!("{exchange}:{ticker}") }
}

impl Api {
    pub(super) fn new(listen: SocketAddr) -> anyhow::Result<Self> {
        // The first caller in the process decides; all of ours choose ring.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            .connect_timeout(Duration::from_secs(2))
            .timeout(Duration::from_secs(30))
            .build()
            .context("building the demo's HTTP client")?;
        // An address like 0.0.0.0 is for listening; one asks at loopback.
        let host =
            if listen.ip().is_unspecified() { SocketAddr::from(([127, 0, 0, 1], listen.port())) } else { listen };
        Ok(Self { base_url: format!("http://{host}"), http })
    }

    pub(super) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(super) async fn is_ready(&self) -> bool {
        let answer = self.http.get(format!("{}/health/ready", self.base_url)).send().await;
        answer.is_ok_and(|answer| answer.status() == reqwest::StatusCode::OK)
    }

    /// Runs that are queued or running.
    pub(super) async fn unfinished_runs(&self) -> anyhow::Result<Vec<Run>> {
        let mut runs = Vec::new();
        for state in ["queued", "running"] {
            runs.extend(self.page::<Run>(&format!("/v1/runs?state={state}&limit=200")).await?.items);
        }
        Ok(runs)
    }

    /// The newest runs of tickers, whatever became of them: more than one session has.
    pub(super) async fn recent_runs(&self) -> anyhow::Result<Vec<Run>> {
        let runs = self.page::<Run>("/v1/runs?limit=200").await?.items;
        // Those about an exchange come and go beside them.
        Ok(runs.into_iter().filter(|run| !run.ticker.is_empty()).collect())
    }

    /// All forecasts that the list gives.
    pub(super) async fn forecasts(&self) -> anyhow::Result<Vec<Forecast>> {
        let first = self.page::<Forecast>("/v1/forecasts?limit=200").await?;
        if first.next_cursor.is_some() {
            tracing::debug!("more than 200 forecasts: the table shows the first page");
        }
        Ok(first.items)
    }

    async fn page<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<Page<T>> {
        let url = format!("{}{path}", self.base_url);
        let answer = self.http.get(&url).send().await.with_context(|| format!("asking {url}"))?;
        let status = answer.status();
        let text = answer.text().await.with_context(|| format!("reading the answer of {url}"))?;
        anyhow::ensure!(status.is_success(), "{url} answered {status}: {}", text.chars().take(300).collect::<String>());
        serde_json::from_str(&text).with_context(|| format!("understanding the answer of {url}"))
    }
}
