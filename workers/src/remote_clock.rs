//! A market clock that another program keeps, asked over HTTP: the demo's virtual clock. In comes `{"now": "RFC 3339"}`, out goes the time.

use chrono::{DateTime, Utc};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use workflows::clock::MarketClock;

/// How often it is asked.
const ASK_EVERY: Duration = Duration::from_millis(250);

/// The last answer of a clock at a URL.
#[derive(Debug, Clone)]
pub struct RemoteClock {
    now: Arc<Mutex<DateTime<Utc>>>,
}

/// The clock did not answer.
#[derive(Debug, thiserror::Error)]
#[error("the market clock at {url} could not be read: {why}. Is the program that keeps it running?")]
pub struct ClockError {
    url: String,
    why: String,
}

#[derive(serde::Deserialize)]
struct Answer {
    now: DateTime<Utc>,
}

impl RemoteClock {
    /// Asks the clock at `url` once, then keeps asking in the background until `stop`.
    pub async fn follow(client: reqwest::Client, url: String, stop: CancellationToken) -> Result<Self, ClockError> {
        let first = ask(&client, &url).await?;
        let now = Arc::new(Mutex::new(first));
        let shown = now.clone();
        tokio::spawn(async move {
            while !stop.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(ASK_EVERY) => {}
                    () = stop.cancelled() => return,
                }
                // An answer that fails leaves the clock standing, which delays ticks and nothing else.
                if let Ok(at) = ask(&client, &url).await {
                    *shown.lock().unwrap_or_else(PoisonError::into_inner) = at;
                }
            }
        });
        Ok(Self { now })
    }
}

impl MarketClock for RemoteClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(client: &reqwest::Client, url: &str) -> Result<DateTime<Utc>, ClockError> {
    let failed = |e: reqwest::Error| ClockError { url: url.to_owned(), why: e.to_string() };
    let answer: Answer = client
        .get(url)
        .send()
        .await
        .map_err(failed)?
        .error_for_status()
        .map_err(failed)?
        .json()
        .await
        .map_err(failed)?;
    Ok(answer.now)
}
