//! `/v1/runs`: what the engine does and has done; start a run, cancel it, repeat it.

use crate::Shared;
use crate::paging::{after, cursor, page};
use crate::problem::Problem;
use crate::words::{
    AttemptOutcome, ExchangeName, RunStateName, StepStateName, Tag, exchange_in_query, ticker_in_path, unknown_ticker,
    word,
};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Ticker, latest_final_session};
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use std::sync::Arc;
use uuid::Uuid;
use workflows::ledger::{self, AttemptRow, RunFilter, RunRow, StepRow};
use workflows::plan::Step;
use workflows::state::RunState;
use workflows::stores::tickers;

/// Longest idempotency key.
const LONGEST_KEY: usize = 200;

/// One ticker, one pass through the chain, for one session.
#[derive(Debug, Object)]
#[oai(rename = "Run", skip_serializing_if_is_none)]
struct RunView {
    /// Its id; time-ordered.
    id: Uuid,
    /// What it goes through.
    plan: String,
    /// Where the ticker trades.
    exchange: ExchangeName,
    /// The symbol, `AAPL`.
    ticker: String,
    /// The session it is for: what it aimed at, corrected by what it found.
    session: NaiveDate,
    /// Where it stands.
    state: RunStateName,
    /// Why it failed, or what a reader should know.
    reason: Option<String>,
    /// The schedule that started it; absent when a person did.
    schedule: Option<String>,
    /// Greater first.
    priority: i64,
    /// Whether its steps send no request.
    offline: bool,
    /// The run that it repeats.
    rerun_of: Option<Uuid>,
    /// When it was started.
    created_at: DateTime<Utc>,
    /// When its first step began.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// Its steps in order. Only where one run was asked for.
    steps: Option<Vec<StepView>>,
    /// Every try of every step, oldest first. Only where one run was asked for.
    attempts: Option<Vec<AttemptView>>,
}

/// One step of a run.
#[derive(Debug, Object)]
#[oai(rename = "Step", skip_serializing_if_is_none)]
struct StepView {
    /// `scrape`, `finetune`, `cache`, `archive` or `cleanup`.
    step: String,
    /// Its place in the chain, from 0.
    seq: i64,
    /// Where it stands.
    state: StepStateName,
    /// Attempts so far.
    attempt: i64,
    /// The last attempt.
    max_attempts: i64,
    /// Rises whenever it becomes ready again.
    generation: i64,
    /// Fencing number: rises with each claim.
    epoch: i64,
    /// Not before this instant.
    due_at: DateTime<Utc>,
    /// What it says of its result.
    note: Option<String>,
    /// What went wrong last.
    error: Option<String>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
}

/// One try of a step.
#[derive(Debug, Object)]
#[oai(rename = "Attempt", skip_serializing_if_is_none)]
struct AttemptView {
    /// Which step.
    step: String,
    /// Fencing number of this try.
    epoch: i64,
    /// Which try.
    attempt: i64,
    /// Who tried.
    worker: String,
    /// When it began.
    started_at: DateTime<Utc>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// How it ended.
    outcome: AttemptOutcome,
    /// In words.
    detail: Option<String>,
}

/// Runs, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct RunPage {
    /// At most `limit` of them.
    items: Vec<RunView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

/// Asks for a run.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct StartRun {
    /// NASDAQ or NEPSE.
    exchange: String,
    /// The symbol, `AAPL`.
    #[oai(validator(max_length = 16))]
    ticker: String,
    /// The session to aim at; the latest by default.
    session: Option<NaiveDate>,
    /// Whether its steps must send no request.
    #[oai(default)]
    offline: bool,
}

/// Says where a repeated run begins.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields)]
struct Rerun {
    /// The step to begin from; by default the one that failed, or the first.
    from: Option<String>,
}

#[derive(ApiResponse)]
enum Accepted {
    /// The run; it goes on by itself.
    #[oai(status = 202)]
    Run(
        Json<Box<RunView>>,
        /// Where the run is.
        #[oai(header = "Location")]
        String,
    ),
}

pub(crate) struct Runs;

#[OpenApi(tag = "Tag::Runs")]
impl Runs {
    /// Runs, newest first.
    #[oai(path = "/v1/runs", method = "get", operation_id = "list_runs")]
    #[allow(clippy::too_many_arguments, reason = "one per query parameter")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
        /// Only this symbol.
        ticker: Query<Option<String>>,
        /// Only these states, separated by commas: queued, running, succeeded, failed, cancelled, no_new_session.
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
            exchange: exchange_in_query(exchange.as_deref())?.map(|e| e.as_str().to_owned()),
            ticker: ticker.0.map(|symbol| symbol.trim().to_ascii_uppercase()),
            session: session.0,
            states: states(state.as_deref())?,
            before: after("run", cursor.as_deref())?,
        };
        let limit = limit.0 as usize;
        let rows = ledger::list_runs(&shared.engine().db, &filter, limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("run", row.id));
        Ok(Json(RunPage { items: rows.into_iter().map(RunView::of).collect::<Result<_, _>>()?, next_cursor }))
    }

    /// One run with its steps and attempts.
    #[oai(path = "/v1/runs/:id", method = "get", operation_id = "get_run")]
    async fn get(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Its id.
        id: Path<String>,
    ) -> Result<Json<Box<RunView>>, Problem> {
        Ok(Json(in_full(&shared, run_in_path(&id)?).await?))
    }

    /// Starts a run.
    ///
    /// With an `Idempotency-Key`, the same request again answers with the same run.
    #[oai(path = "/v1/runs", method = "post", operation_id = "start_run")]
    async fn start(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Makes a repeat of this request harmless; at most 200 characters.
        #[oai(name = "Idempotency-Key")]
        idempotency_key: Header<Option<String>>,
        body: Json<StartRun>,
    ) -> Result<Accepted, Problem> {
        let engine = shared.engine();
        let ticker = ticker_of_body(&body.0)?;
        if idempotency_key.as_ref().is_some_and(|key| key.is_empty() || key.len() > LONGEST_KEY) {
            return Err(Problem::bad_parameter("Idempotency-Key", format!("1 to {LONGEST_KEY} characters")));
        }
        if tickers::get(&engine.db, &ticker).await?.is_none() {
            return Err(unknown_ticker(&ticker));
        }
        let session =
            body.session.unwrap_or_else(|| latest_final_session(ticker.exchange(), engine.market_clock.now()));
        let new = engine.manual_run(ticker.clone(), session, body.offline, idempotency_key.0.clone());
        let started = engine.start(&[new]).await?;
        let Some(started) = started.first() else {
            return Err(Problem::internal(&"a run was neither started nor found"));
        };
        let run = in_full(&shared, started.id).await?;
        if run.ticker != ticker.symbol() || run.exchange != ticker.exchange().into() {
            let detail = format!("This key has started the run {} of another ticker. Use a new key.", run.id);
            return Err(Problem::conflict("idempotency_key_reused", "The key belongs to another request", detail));
        }
        Ok(accepted(run))
    }

    /// Cancels a run. Its open steps end at once; what it has staged is still cleaned up.
    #[oai(path = "/v1/runs/:id/cancel", method = "post", operation_id = "cancel_run")]
    async fn cancel(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Its id.
        id: Path<String>,
    ) -> Result<Accepted, Problem> {
        let id = run_in_path(&id)?;
        let run = in_full(&shared, id).await?;
        if !shared.engine().cancel(id, "cancelled by an operator").await? {
            let detail = format!("It is {} or about to end; there is nothing to cancel.", text(run.state).as_str());
            return Err(Problem::conflict("run_has_ended", "The run has ended", detail));
        }
        Ok(accepted(in_full(&shared, id).await?))
    }

    /// Starts a new run that repeats this one, from the step that failed or from the one named.
    #[oai(path = "/v1/runs/:id/rerun", method = "post", operation_id = "rerun")]
    async fn rerun(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Its id.
        id: Path<String>,
        body: Json<Option<Rerun>>,
    ) -> Result<Accepted, Problem> {
        let id = run_in_path(&id)?;
        let from = body.0.and_then(|body| body.from);
        let from: Option<Step> = from
            .map(|step| {
                step.parse().map_err(|e: workflows::plan::UnknownStep| Problem::bad_field("from", e.to_string()))
            })
            .transpose()?;
        let started = shared.engine().rerun(id, from).await?.ok_or_else(|| unknown_run(&id.to_string()))?;
        Ok(accepted(in_full(&shared, started.id).await?))
    }
}

fn default_limit() -> u32 {
    50
}

fn accepted(run: Box<RunView>) -> Accepted {
    let location = format!("/v1/runs/{}", run.id);
    Accepted::Run(Json(run), location)
}

fn run_in_path(id: &str) -> Result<Uuid, Problem> {
    id.parse().map_err(|_| unknown_run(id))
}

fn unknown_run(id: &str) -> Problem {
    let shown: String = id.chars().take(40).collect();
    Problem::not_found(
        "unknown_run",
        "There is no such run here",
        format!("`{shown}` is the id of no run. GET /v1/runs lists them."),
    )
}

fn ticker_of_body(body: &StartRun) -> Result<Ticker, Problem> {
    ticker_in_path(&body.exchange, &body.ticker)
}

fn states(list: Option<&str>) -> Result<Vec<String>, Problem> {
    list.into_iter()
        .flat_map(|list| list.split(','))
        .map(str::trim)
        .filter(|word| !word.is_empty())
        .map(|word| match RunState::from_word(word) {
            Some(state) => Ok(state.as_str().to_owned()),
            None => Err(Problem::bad_parameter(
                "state",
                "use queued, running, succeeded, failed, cancelled, no_new_session",
            )),
        })
        .collect()
}

fn text(state: RunStateName) -> RunState {
    state.into()
}

async fn in_full(shared: &Shared, id: Uuid) -> Result<Box<RunView>, Problem> {
    let Some((run, steps, attempts)) = ledger::get_run(&shared.engine().db, id).await? else {
        return Err(unknown_run(&id.to_string()));
    };
    let mut view = RunView::of(run)?;
    view.steps = Some(steps.into_iter().map(StepView::of).collect::<Result<_, _>>()?);
    view.attempts = Some(attempts.into_iter().map(AttemptView::of).collect::<Result<_, _>>()?);
    Ok(Box::new(view))
}

impl RunView {
    fn of(row: RunRow) -> Result<Self, Problem> {
        Ok(Self {
            id: row.id,
            plan: row.plan,
            exchange: word(&row.exchange)?,
            ticker: row.ticker,
            session: row.session,
            state: word(&row.state)?,
            reason: row.reason,
            schedule: row.schedule_id,
            priority: row.priority,
            offline: row.offline,
            rerun_of: row.lineage,
            created_at: row.created_at.0,
            started_at: row.started_at.map(|at| at.0),
            finished_at: row.finished_at.map(|at| at.0),
            steps: None,
            attempts: None,
        })
    }
}

impl StepView {
    fn of(row: StepRow) -> Result<Self, Problem> {
        Ok(Self {
            state: word(&row.state)?,
            step: row.step,
            seq: row.seq,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            generation: row.generation,
            epoch: row.epoch,
            due_at: row.due_at.0,
            note: row.note,
            error: row.error,
            finished_at: row.finished_at.map(|at| at.0),
        })
    }
}

impl AttemptView {
    fn of(row: AttemptRow) -> Result<Self, Problem> {
        Ok(Self {
            outcome: word(&row.outcome)?,
            step: row.step,
            epoch: row.epoch,
            attempt: row.attempt,
            worker: row.worker,
            started_at: row.started_at.0,
            finished_at: row.finished_at.map(|at| at.0),
            detail: row.detail,
        })
    }
}
