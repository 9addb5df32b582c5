//! The API from outside: the whole app over a real embedded store, without a socket unless the test is about one.

mod bars;
mod champion;
mod document;
mod forecasts;
mod health;
mod runs;
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
use workflows::{Cache, Db, Engine, EngineSettings, Queue};

/// The Friday on which all tests begin: New York has closed, Monday has not opened.
pub(crate) const FRIDAY: &str = "2024-01-26";
pub(crate) const MONDAY: &str = "2024-01-29";

/// One engine over a fresh store, and the app before it.
pub(crate) struct World {
    pub(crate) engine: Arc<Engine>,
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
    pub(crate) async fn new() -> Self {
        Self::with(|state| state).await
    }

    pub(crate) async fn with(change: impl FnOnce(ApiState) -> ApiState) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = Db::sqlite(&folder.path().join("retainai.db")).await.unwrap();
        db.migrate().await.unwrap();
        let clock = Arc::new(FixedClock::new("2024-01-26T23:00:00Z".parse().unwrap()));
        let queue = Queue::Memory(Default::default());
        let engine = Engine::new(db, queue, Cache::memory(), clock.clone(), EngineSettings::default());
        let app = api::app(change(ApiState::new(engine.clone(), "1.2.3")));
        Self { engine, clock, app, _folder: folder }
    }

    /// The same stores behind a cache that knows nothing.
    pub(crate) fn with_empty_cache(&self) -> App {
        let engine = Engine::new(
            self.engine.db.clone(),
            Queue::Memory(Default::default()),
            Cache::memory(),
            self.clock.clone(),
            EngineSettings::default(),
        );
        api::app(ApiState::new(engine, "1.2.3"))
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
