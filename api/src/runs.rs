//! `/v1/runs`: what the engine does and has done, and what a person may ask of it: start, cancel, run again, keep.

use crate::Shared;
use crate::door::By;
use crate::paging::{after, cursor, page};
use crate::problem::Problem;
use crate::run_view::{RunDetail, RunPage, RunView};
use crate::words::{RunStateName, Tag, exchange_in_query, ticker_in_path, unknown_ticker};
use chrono::NaiveDate;
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use std::sync::Arc;
use uuid::Uuid;
use workflows::ledger::{self, RunFilter, RunRow, Steering};
use workflows::plan::{Plan, Step};
use workflows::stores::tickers;

/// A run that is wanted.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct StartRun {
    /// NASDAQ or NEPSE.
    exchange: String,
    /// The symbol, AAPL.
    ticker: String,
    /// The session it aims at; without it the latest one that is final by the market clock.
    session: Option<NaiveDate>,
    /// Whether it must send no request; it then takes the bars already archived.
    #[oai(default)]
    offline: bool,
}

/// How a run is to be repeated.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct RerunRun {
    /// The step to begin from: `scrape`, `finetune`, `cache`, `archive` or `cleanup`. Without it, the one that failed if the bars were archived before it; else the first.
    from: Option<String>,
}

#[derive(ApiResponse)]
enum StartAnswer {
    /// It was started under this Idempotency-Key before: the same run.
    #[oai(status = 200)]
    Known(
        Json<RunView>,
        /// Where it stands.
        #[oai(header = "Location")]
        String,
    ),
    /// Started. It waits for a worker.
    #[oai(status = 202)]
    Started(
        Json<RunView>,
        /// Where it stands.
        #[oai(header = "Location")]
        String,
    ),
}

#[derive(ApiResponse)]
enum AcceptedAnswer {
    /// Under way.
    #[oai(status = 202)]
    Accepted(
        Json<RunView>,
        /// Where it stands.
        #[oai(header = "Location")]
        String,
    ),
}

pub(crate) struct Runs;

#[OpenApi(tag = "Tag::Runs")]
impl Runs {
    /// Runs, newest first.
    #[oai(path = "/v1/runs", method = "get", operation_id = "list_runs")]
    #[allow(clippy::too_many_arguments, reason = "they are the parameters of one request")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
        /// Only this symbol.
        ticker: Query<Option<String>>,
        /// Only these states, separated by commas: `queued,running`.
        state: Query<Option<String>>,
        /// Only this session.
        session: Query<Option<NaiveDate>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<RunPage>, Problem> {
        let filter = RunFilter {
            exchange: exchange_in_query(exchange.as_deref())?.map(|exchange| exchange.as_str().to_owned()),
            ticker: ticker.as_deref().map(symbol_in_query).transpose()?,
            session: session.0,
            states: states(state.as_deref().unwrap_or_default())?,
            before: after("run", cursor.as_deref())?,
        };
        let limit = limit.0 as usize;
        let rows = ledger::list_runs(&shared.stores().db, &filter, limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("run", row.id));
        let items = rows.into_iter().map(RunView::of).collect::<Result<_, _>>()?;
        Ok(Json(RunPage { items, next_cursor }))
    }

    /// One run with its steps and attempts.
    #[oai(path = "/v1/runs/:id", method = "get", operation_id = "get_run")]
    async fn get(&self, shared: Data<&Arc<Shared>>, id: Path<Uuid>) -> Result<Json<RunDetail>, Problem> {
        let found = shared.engine().ledger.get_run(id.0).await?;
        let Some((run, steps, attempts)) = found else { return Err(unknown_run(&shared, id.0).await) };
        Ok(Json(RunDetail::of(run, steps, attempts)?))
    }

    /// Starts a run.
    #[oai(path = "/v1/runs", method = "post", operation_id = "start_run")]
    async fn start(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Asking again under the same key is asking once: the answer is the same run.
        #[oai(name = "Idempotency-Key", validator(min_length = 1, max_length = 200))]
        idempotency_key: Header<Option<String>>,
        by: By,
        body: Json<StartRun>,
    ) -> Result<StartAnswer, Problem> {
        let engine = shared.engine();
        let StartRun { exchange, ticker, session, offline } = body.0;
        let exchange: market::Exchange = exchange
            .parse()
            .map_err(|error: market::UnknownExchange| Problem::bad_field("exchange", error.to_string()))?;
        let ticker = ticker_in_path(exchange.as_str(), &ticker)?;
        tickers::get(&shared.stores().db, &ticker).await?.ok_or_else(|| unknown_ticker(&ticker))?;
        let session = session.unwrap_or_else(|| market::latest_final_session(exchange, engine.market_clock.now()));
        let key = idempotency_key.0.map(|key| by.start_key(&key));
        let wanted = engine.manual_run(ticker.clone(), session, offline, key);
        let started = engine.start(&[wanted]).await?;
        let started = started.first().ok_or_else(|| Problem::internal(&"a run was neither started nor found"))?;
        let run = read(&shared, started.id).await?;
        let location = format!("/v1/runs/{}", run.id);
        if started.created {
            by.note(&shared, "run_start", run.id, format!("{ticker} for {session}")).await;
            return Ok(StartAnswer::Started(Json(RunView::of(run)?), location));
        }
        // Not the session: a run may have moved to the one that it found.
        if (run.subject.as_str(), run.offline) != (ticker.to_string().as_str(), offline) {
            let detail = format!("Under this Idempotency-Key the run {} was started. Take another key.", run.id);
            return Err(Problem::conflict("idempotency_conflict", "The key belongs to another request", detail));
        }
        Ok(StartAnswer::Known(Json(RunView::of(run)?), location))
    }

    /// Cancels a run.
    ///
    /// Its open steps end at once; cleaning up still runs. Cancelling twice is cancelling once.
    #[oai(path = "/v1/runs/:id/cancel", method = "post", operation_id = "cancel_run")]
    async fn cancel(&self, shared: Data<&Arc<Shared>>, by: By, id: Path<Uuid>) -> Result<AcceptedAnswer, Problem> {
        let engine = shared.engine();
        let cancelled = engine.cancel(id.0, "cancelled by a person").await?;
        if cancelled {
            by.note(&shared, "run_cancel", id.0, "").await;
        }
        let run = read(&shared, id.0).await?;
        if !cancelled && run.verdict.as_deref() != Some("cancelled") {
            let detail = match run.state.as_str() {
                "queued" | "running" => format!("The run {} is ending already.", run.id),
                state => format!("The run {} has ended: {state}.", run.id),
            };
            return Err(Problem::conflict("run_ended", "There is nothing left to cancel", detail).state(run.state));
        }
        accepted(run)
    }

    /// Runs it again, as a new run of the same session.
    #[oai(path = "/v1/runs/:id/rerun", method = "post", operation_id = "rerun_run")]
    async fn rerun(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        id: Path<Uuid>,
        body: Json<Option<RerunRun>>,
    ) -> Result<AcceptedAnswer, Problem> {
        let engine = shared.engine();
        let old = read(&shared, id.0).await?;
        if matches!(old.state.as_str(), "queued" | "running") {
            let detail = format!("The run {} is {}. Cancel it first, or wait until it has ended.", old.id, old.state);
            return Err(Problem::conflict("run_open", "The run has not ended", detail).state(old.state));
        }
        let from = body.0.and_then(|body| body.from).map(|from| step_of(&old, &from)).transpose()?;
        let Some(started) = engine.rerun(id.0, from, by.rerun_key(id.0)).await? else {
            return Err(unknown_run(&shared, id.0).await);
        };
        let from = from.map_or(String::new(), |step| format!(" from {step}"));
        by.note(&shared, "run_rerun", id.0, format!("as {}{from}", started.id)).await;
        accepted(read(&shared, started.id).await?)
    }

    /// Keeps a run whatever its age.
    #[oai(path = "/v1/runs/:id/pin", method = "post", operation_id = "pin_run")]
    async fn pin(&self, shared: Data<&Arc<Shared>>, by: By, id: Path<Uuid>) -> Result<Json<RunView>, Problem> {
        pin(&shared, by, id.0, true).await
    }

    /// Lets a run go when its time comes.
    #[oai(path = "/v1/runs/:id/unpin", method = "post", operation_id = "unpin_run")]
    async fn unpin(&self, shared: Data<&Arc<Shared>>, by: By, id: Path<Uuid>) -> Result<Json<RunView>, Problem> {
        pin(&shared, by, id.0, false).await
    }
}

fn default_limit() -> u32 {
    50
}

async fn pin(shared: &Shared, by: By, run: Uuid, pinned: bool) -> Result<Json<RunView>, Problem> {
    let entry = by.entry(shared, if pinned { "run_pin" } else { "run_unpin" }, run, "");
    let (db, now) = (&shared.stores().db, shared.engine().ledger.now());
    ledger::steer(db, &Steering::Pin { run, pinned }, &entry, now).await?;
    Ok(Json(RunView::of(read(shared, run).await?)?))
}

async fn read(shared: &Shared, id: Uuid) -> Result<RunRow, Problem> {
    match shared.engine().ledger.get_run(id).await? {
        Some((run, ..)) => Ok(run),
        None => Err(unknown_run(shared, id).await),
    }
}

fn accepted(run: RunRow) -> Result<AcceptedAnswer, Problem> {
    let location = format!("/v1/runs/{}", run.id);
    Ok(AcceptedAnswer::Accepted(Json(RunView::of(run)?), location))
}

/// There is none, or it was put away: its id lies in the range of a bundle's.
pub(crate) async fn unknown_run(shared: &Shared, id: Uuid) -> Problem {
    let bundles = match ledger::bundles_around(&shared.stores().db, id).await {
        Ok(bundles) => bundles,
        Err(error) => return error.into(),
    };
    let detail = match bundles.as_slice() {
        [] => format!("There is no run {id}. GET /v1/runs lists those there are."),
        [one] => format!(
            "The run {id} is not in the ledger any more: by its id it was put away in the bundle {one}. `retainai history restore {one}` brings it back."
        ),
        several => format!(
            "The run {id} is not in the ledger any more: by its id it was put away in one of the bundles {}. `retainai history restore NAME` brings one back.",
            several.join(", ")
        ),
    };
    Problem::not_found("unknown_run", "There is no such run here", detail)
}

/// The step that a caller names, if the run's plan has it.
fn step_of(run: &RunRow, from: &str) -> Result<Step, Problem> {
    let step: Step =
        from.parse().map_err(|e: workflows::plan::UnknownStep| Problem::bad_field("from", e.to_string()))?;
    match Plan::named(&run.plan).and_then(|plan| plan.policy(step)) {
        Some(_) => Ok(step),
        None => Err(Problem::bad_field("from", format!("the plan `{}` has no step `{from}`", run.plan))),
    }
}

/// The symbol that a filter names, on whichever exchange.
fn symbol_in_query(symbol: &str) -> Result<String, Problem> {
    let ticker = market::Ticker::new(market::Exchange::Nasdaq, symbol);
    ticker.map(|t| t.symbol().to_owned()).map_err(|error| Problem::bad_parameter("ticker", error.to_string()))
}

/// A comma-separated list of states; each must be one.
fn states(list: &str) -> Result<Vec<String>, Problem> {
    let states = list.split(',').map(str::trim).filter(|state| !state.is_empty());
    states
        .map(|state| {
            let known = poem_openapi::types::ParseFromJSON::parse_from_json(Some(state.into()));
            let known: Result<RunStateName, _> = known;
            known.map(|_| state.to_owned()).map_err(|_| {
                let states = "queued, running, succeeded, failed, cancelled, no_new_session";
                Problem::bad_parameter("state", format!("`{state}` is none of {states}"))
            })
        })
        .collect()
}
