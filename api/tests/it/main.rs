//! The API from outside: the whole app over a real embedded store, without a socket unless the test is about one.

mod audit;
mod backfills;
mod bars;
mod champion;
mod dead_letters;
mod document;
mod forecasts;
mod health;
mod history;
mod quarantine;
mod queues;
mod real_prices;
mod real_sessions;
mod replays;
mod runs;
mod schedules;
mod sessions;
mod shell;
mod tickers;

use api::{ApiState, App};
use chrono::{Datelike, Days, NaiveDate, Weekday};
use poem::http::{HeaderMap, Method, StatusCode};
use poem::{Body, Endpoint, Request, RequestBuilder};
use serde_json::Value;
use std::sync::Arc;
use tempfile::TempDir;
use workflows::clock::FixedClock;
use workflows::ledger::{Completion, Ending};
use workflows::message::Message;
use workflows::plan::Step;
use workflows::queue::MemoryQueue;
use workflows::{Cache, Db, Effect, Engine, EngineSettings, Ledger, Outcome, Stores};

/// The Friday on which all tests begin: New York has closed, Monday has not opened.
pub(crate) const FRIDAY: &str = "2024-01-26";
pub(crate) const MONDAY: &str = "2024-01-29";

/// One engine over a fresh store, and the app before it.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
    pub(crate) stores: Stores,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) app: App,
    _folder: TempDir,
}

/// What the app answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl World {
    /// Carries out one step with this outcome.
    pub(crate) async fn carry_out(&self, message: &Message, outcome: Outcome, effects: Vec<Effect>) -> Completion {
        let (ledger, now) = (&self.engine.ledger, self.engine.ledger.now());
        let lease = now + chrono::TimeDelta::seconds(60);
        let claims =
            ledger.claim(std::slice::from_ref(message), self.engine.instance, "test", now, lease).await.unwrap();
        let claim = claims.into_iter().next().flatten().unwrap();
        let ending = Ending { claim, outcome, effects, dice: 0.5, sends_next: true, lapsed_before: None };
        ledger.complete(&[ending], now).await.unwrap().remove(0).unwrap()
    }

    pub(crate) async fn new() -> Self {
        Self::with(|state| state).await
    }

    pub(crate) async fn with(change: impl FnOnce(ApiState) -> ApiState) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("retainai.db")).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Arc::new(FixedClock::new("2024-01-26T23:00:00Z".parse().unwrap()));
        let queue = Arc::new(MemoryQueue::default());
        let stores = Stores { db: db.clone(), cache: Cache::memory() };
        let engine = Engine::new(Ledger::Sql(db), queue, clock.clone(), EngineSettings::default());
        let app = api::app(change(ApiState::new(engine.clone(), stores.clone(), "1.2.3")));
        Self { engine, stores, clock, app, _folder: folder }
    }

    /// The same stores behind a cache that knows nothing.
    pub(crate) fn with_empty_cache(&self) -> App {
        let stores = Stores { db: self.stores.db.clone(), cache: Cache::memory() };
        api::app(ApiState::new(self.engine.clone(), stores, "1.2.3"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        ask(&self.app, Method::GET, path, &[], Body::empty()).await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        ask(&self.app, Method::GET, path, headers, Body::empty()).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    pub(crate) async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: Value) -> Answer {
        let headers = [&[("content-type", "application/json")], headers].concat();
        ask(&self.app, Method::POST, path, &headers, Body::from(body.to_string())).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        ask(&self.app, Method::PUT, path, &[("content-type", "application/json")], Body::from(body.to_string())).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        ask(&self.app, Method::DELETE, path, &[], Body::empty()).await
    }

    /// Starts a run that fails at its first step; its id.
    pub(crate) async fn dead_run(&self, ticker: &str, why: Outcome) -> String {
        let (exchange, symbol) = ticker.split_once(':').unwrap();
        let run = self.post("/v1/runs", serde_json::json!({ "exchange": exchange, "ticker": symbol })).await.ok();
        let id = run["id"].as_str().unwrap().to_owned();
        for (step, outcome) in [(Step::Scrape, why), (Step::Cleanup, Outcome::Done("clean".to_owned()))] {
            let message = Message { run: id.parse().unwrap(), step, generation: 1, queue: step.queue(10) };
            self.carry_out(&message, outcome, vec![]).await;
        }
        id
    }

    /// What was asked for, oldest first.
    pub(crate) async fn actions(&self) -> Vec<String> {
        let page = self.get("/v1/audit?limit=200").await.ok();
        let mut actions: Vec<String> =
            page["items"].as_array().unwrap().iter().map(|e| e["action"].as_str().unwrap().to_owned()).collect();
        actions.reverse();
        actions
    }

    pub(crate) async fn put_csv(&self, path: &str, text: impl Into<String>) -> Answer {
        ask(&self.app, Method::PUT, path, &[("content-type", "text/csv")], Body::from(text.into())).await
    }

    /// Makes a ticker with `count` bars, the last of them on [`FRIDAY`].
    pub(crate) async fn import(&self, ticker: &str, count: usize) {
        let (exchange, symbol) = ticker.split_once(':').unwrap();
        let answer = self.put_csv(&format!("/v1/tickers/{exchange}/{symbol}/bars"), csv(&weekdays(count))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(answer.json()["new"], count);
    }
}

/// Asks as a client on this machine does.
pub(crate) async fn ask(app: &App, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
    let mut request: RequestBuilder = Request::builder().method(method).uri_str(path);
    if !headers.iter().any(|(name, _)| *name == "host") {
        request = request.header("host", "localhost:8080");
    }
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        request = request.header(*name, *value);
    }
    let response = app.call(request.body(body)).await.expect("the app never answers Err");
    let (status, headers) = (response.status(), response.headers().clone());
    Answer { status, headers, bytes: response.into_body().into_vec().await.unwrap() }
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub(crate) fn ok(&self) -> Value {
        assert!(self.status.is_success(), "{}: {}", self.status, self.text());
        self.json()
    }

    /// Asserts that it is this problem, well formed, and returns it.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status.as_u16(), status, "{}", self.text());
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["code"], code, "{body}");
        assert_eq!(body["status"], status);
        assert_eq!(body["type"], format!("urn:retainai:problem:{code}"));
        assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()), "{body}");
        assert_eq!(body["request_id"], self.header("x-request-id"));
        assert!(!self.header("x-request-id").is_empty());
        body
    }
}

pub(crate) fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

/// `count` weekdays that end on [`FRIDAY`], oldest first.
pub(crate) fn weekdays(count: usize) -> Vec<NaiveDate> {
    let friday = date(FRIDAY);
    let mut days: Vec<NaiveDate> = (0..count as u64 * 2)
        .map(|back| friday - Days::new(back))
        .filter(|day| !matches!(day.weekday(), Weekday::Sat | Weekday::Sun))
        .take(count)
        .collect();
    days.reverse();
    days
}

/// A bars file for these sessions; the closes swing a little around 100.
pub(crate) fn csv(sessions: &[NaiveDate]) -> String {
    let mut text = String::from("date,open,high,low,close,volume\n");
    for (n, session) in sessions.iter().enumerate() {
        let close = 100.0 + 5.0 * (n as f64 * 0.7).sin() + n as f64 * 0.01;
        text.push_str(&format!("{session},{close:.2},{:.2},{:.2},{close:.2},1000\n", close + 1.0, close - 1.0));
    }
    text
}
