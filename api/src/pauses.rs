//! `/v1/pauses`: what is held up on purpose: a step kind, a source, an exchange or a ticker. What runs goes on; what would begin waits.

use crate::Shared;
use crate::door::By;
use crate::problem::Problem;
use crate::words::{Tag, exchange_in_path, unknown_ticker};
use chrono::{DateTime, Utc};
use market::Ticker;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use std::sync::Arc;
use workflows::Engine;
use workflows::ledger::{self, PauseRow, Steering};
use workflows::plan::{Step, UnknownStep};
use workflows::stores::tickers;

/// The ids of the price sources, as settings and archive spell them.
const SOURCES: [&str; 6] = ["yahoo", "nasdaq", "tiingo", "sharesansar", "merolagani", "csv"];
/// What can be paused.
pub(crate) const KINDS: [&str; 4] = ["step", "source", "exchange", "ticker"];
/// Steps released per transaction after a resume.
const SLICE: u64 = 500;

/// Something that is paused.
#[derive(Debug, Object)]
#[oai(rename = "Pause")]
struct PauseView {
    /// `step`, `source`, `exchange` or `ticker`.
    kind: String,
    /// Which.
    value: String,
    /// Since when.
    since: DateTime<Utc>,
    /// Why, in the words of who did it.
    reason: String,
}

/// Everything that is paused.
#[derive(Debug, Object)]
struct PausePage {
    /// All of it.
    items: Vec<PauseView>,
}

/// Why something is to be paused.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields)]
struct SetPause {
    /// For those who find it paused.
    #[oai(default, validator(max_length = 500))]
    reason: String,
}

#[derive(ApiResponse)]
enum Resumed {
    /// It is not paused, whether it was or not.
    #[oai(status = 204)]
    Resumed,
}

pub(crate) struct Pauses;

#[OpenApi(tag = "Tag::Steering")]
impl Pauses {
    /// Everything that is paused.
    #[oai(path = "/v1/pauses", method = "get", operation_id = "list_pauses")]
    async fn list(&self, shared: Data<&Arc<Shared>>) -> Result<Json<PausePage>, Problem> {
        let rows = ledger::paused(&shared.stores().db).await?;
        Ok(Json(PausePage { items: rows.into_iter().map(PauseView::from).collect() }))
    }

    /// Pauses a step kind, a source, an exchange or a ticker.
    ///
    /// What runs goes on; what would begin waits until it is resumed. Pausing twice is pausing once: the first reason stays.
    #[oai(path = "/v1/pauses/:kind/:value", method = "put", operation_id = "set_pause")]
    async fn set(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// What kind of thing: `step`, `source`, `exchange` or `ticker`.
        kind: Path<String>,
        /// Which: `scrape`, `yahoo`, `NASDAQ` or `NASDAQ:AAPL`.
        value: Path<String>,
        body: Json<Option<SetPause>>,
    ) -> Result<Json<PauseView>, Problem> {
        let (kind, value) = named(&shared, &kind, &value).await?;
        let reason = body.0.unwrap_or_default().reason;
        let what = Steering::Pause { kind, value: &value, reason: &reason };
        let entry = by.entry(&shared, "pause", format!("{kind}:{value}"), reason.clone());
        let (db, now) = (&shared.stores().db, shared.engine().ledger.now());
        ledger::steer(db, &what, &entry, now).await?;
        let there = ledger::paused(db).await?.into_iter().find(|row| row.kind == kind && row.value == value);
        // Resumed in the same instant by somebody else: what was asked for was done all the same.
        let row = there.unwrap_or(PauseRow { kind: kind.to_owned(), value, since: now.into(), reason });
        Ok(Json(row.into()))
    }

    /// Resumes what is paused.
    ///
    /// What waited goes on at once. Resuming twice is resuming once.
    #[oai(path = "/v1/pauses/:kind/:value", method = "delete", operation_id = "delete_pause")]
    async fn delete(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// What kind of thing: `step`, `source`, `exchange` or `ticker`.
        kind: Path<String>,
        /// Which: `scrape`, `yahoo`, `NASDAQ` or `NASDAQ:AAPL`.
        value: Path<String>,
    ) -> Result<Resumed, Problem> {
        let (kind, value) = named(&shared, &kind, &value).await?;
        let entry = by.entry(&shared, "resume", format!("{kind}:{value}"), "");
        let engine = shared.engine();
        let what = Steering::Resume { kind, value: &value };
        if ledger::steer(&shared.stores().db, &what, &entry, engine.ledger.now()).await? {
            go_on(engine).await;
        }
        Ok(Resumed::Resumed)
    }
}

/// Lets go on what waited, a first slice before the answer and the rest behind it. A failure is not the caller's: the reconciler, which
/// does the same twice a second, comes next.
async fn go_on(engine: &Arc<Engine>) {
    if release(engine).await {
        let behind = engine.clone();
        engine.spawn(async move { while release(&behind).await {} });
    }
}

/// One slice; true when there may be more.
async fn release(engine: &Engine) -> bool {
    let released = engine.ledger.release(engine.ledger.now(), SLICE as i64).await.unwrap_or_else(|error| {
        tracing::debug!(%error, "what was resumed is left to the reconciler");
        0
    });
    engine.nudge();
    released >= SLICE
}

/// What a path names, as the ledger spells it.
async fn named(shared: &Shared, kind: &str, value: &str) -> Result<(&'static str, String), Problem> {
    let kind = KINDS.into_iter().find(|known| *known == kind).ok_or_else(|| {
        let detail = format!("One can pause a {}.", KINDS.join(", a "));
        Problem::not_found("unknown_kind", "Nothing of this kind can be paused", detail)
    })?;
    let value = match kind {
        "step" => value.parse::<Step>().map(|step| step.as_str().to_owned()).map_err(|error: UnknownStep| {
            Problem::not_found("unknown_step", "There is no such step", format!("{error}."))
        })?,
        "source" => SOURCES.into_iter().find(|id| *id == value).map(str::to_owned).ok_or_else(|| {
            let detail = format!("The sources are {}.", SOURCES.join(", "));
            Problem::not_found("unknown_source", "There is no such source", detail)
        })?,
        "exchange" => exchange_in_path(value)?.as_str().to_owned(),
        _ => {
            let ticker = Ticker::parse(value).map_err(|error| {
                let detail = format!("{error}. Write it EXCHANGE:TICKER, for example NASDAQ:AAPL.");
                Problem::not_found("unknown_ticker", "There is no such ticker here", detail)
            })?;
            let known = tickers::get(&shared.stores().db, &ticker).await?;
            known.ok_or_else(|| unknown_ticker(&ticker))?.ticker.to_string()
        }
    };
    Ok((kind, value))
}

impl From<PauseRow> for PauseView {
    fn from(row: PauseRow) -> Self {
        Self { kind: row.kind, value: row.value, since: row.since.0, reason: row.reason }
    }
}
