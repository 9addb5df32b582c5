//! People at the API: they start runs under idempotency keys, asking again until they are answered, and look at runs that were acknowledged.
//! The API may be killed at any moment; whatever it answers must be true.

use crate::books::Books;
use crate::{node, now_us};
use market::Exchange;
use product_tests::http;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use uuid::Uuid;

/// How many tickers they know.
pub const TICKERS: u64 = 200;
/// What their tickers begin with.
pub const PLACE: &str = "api";
/// Between two questions.
const PAUSE: Duration = Duration::from_millis(250);
/// How long they wait for an answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What came of it.
#[derive(Debug, Default, Clone)]
pub struct Answers {
    /// True answers.
    pub good: u64,
    /// No answer, or one that says so: 5xx.
    pub none: u64,
    /// Answers that were not true, in words, with the run.
    pub wrong: Vec<(Uuid, String)>,
}

/// Asks until then.
pub async fn ask(address: SocketAddr, books: Books, seed: u64, until_us: i64) -> Answers {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut answers = Answers::default();
    let mut nth = 0;
    while now_us() < until_us {
        tokio::time::sleep(PAUSE).await;
        if start(address, &books, nth).await {
            answers.good += 1;
            nth += 1;
        } else {
            answers.none += 1;
        }
        let acknowledged = {
            let pages = books.pages();
            let place = dice.random_range(0..pages.started.len().max(1));
            pages.started.values().nth(place).copied()
        };
        if let Some(run) = acknowledged {
            match look(address, run).await {
                Some(Ok(())) => answers.good += 1,
                Some(Err(why)) => answers.wrong.push((run, why)),
                None => answers.none += 1,
            }
        }
    }
    answers
}

/// Starts a run; true when it was acknowledged.
async fn start(address: SocketAddr, books: &Books, nth: u64) -> bool {
    let ticker = node::ticker(Exchange::Nasdaq, PLACE, nth % TICKERS);
    let session = node::session(nth / TICKERS);
    let body = json!({ "exchange": ticker.exchange().as_str(), "ticker": ticker.symbol(), "session": session });
    let key = format!("person-{nth}");
    let request = http::client()
        .post(format!("http://{address}/v1/runs"))
        .header("Idempotency-Key", &key)
        .timeout(PATIENCE)
        .json(&body);
    let Ok(response) = request.send().await else { return false };
    if !response.status().is_success() {
        return false;
    }
    let Ok(answer) = response.json::<Value>().await else { return false };
    let Some(run) = answer["id"].as_str().and_then(|id| id.parse().ok()) else { return false };
    books.pages().acknowledge(format!("api:{key}"), run);
    true
}

/// Looks at a run that was acknowledged; `None` when nobody answers.
async fn look(address: SocketAddr, run: Uuid) -> Option<Result<(), String>> {
    let response = http::client().get(format!("http://{address}/v1/runs/{run}")).timeout(PATIENCE).send().await.ok()?;
    let status = response.status();
    if status.is_server_error() {
        return None;
    }
    let text = response.text().await.ok()?;
    let answer: Value = serde_json::from_str(&text).unwrap_or_default();
    let told = answer["id"].as_str().or_else(|| answer["run"]["id"].as_str());
    Some(match told == Some(run.to_string().as_str()) {
        true => Ok(()),
        false => Err(format!("the API answered {status} for a run that was acknowledged: {text}")),
    })
}
