//! `/v1/backfills`: runs over a range of sessions, a few at a time, behind everything else.

use crate::Shared;
use crate::door::By;
use crate::paging::{after, cursor, page};
use crate::problem::Problem;
use crate::words::{BackfillPolicyName, BackfillStateName, ExchangeName, Tag, word};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Exchange, Ticker};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;
use workflows::ledger::{self, BackfillStanding, NewBackfill, Steering};
use workflows::stores::tickers;

/// The longest range: ten years.
const MOST_DAYS: i64 = 3_660;

/// A backfill that is wanted.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct StartBackfill {
    /// NASDAQ or NEPSE.
    exchange: String,
    /// Only these symbols; without them every active ticker of the exchange.
    #[oai(default, validator(max_items = 5000))]
    tickers: Vec<String>,
    /// The first session.
    from: NaiveDate,
    /// The last session; not in the future. At most 3,660 days after `from`.
    to: NaiveDate,
    /// Which runs: `missing` where there is none, `missing_and_failed` also where the newest one failed, or `all`.
    #[oai(default)]
    policy: BackfillPolicyName,
    /// At most so many of its runs are open at once.
    #[oai(default = "default_max_active", validator(minimum(value = "1"), maximum(value = "1000")))]
    max_active: i64,
    /// Whether its runs send no request.
    #[oai(default)]
    offline: bool,
    /// Only count what it would start.
    #[oai(default)]
    dry_run: bool,
}

/// What a backfill would find now: pairs of a ticker and a day on which its exchange may trade.
#[derive(Debug, Object)]
#[oai(rename = "BackfillCounts")]
struct CountsView {
    /// Always true: nothing was started.
    dry_run: bool,
    /// Those for which there is no run.
    missing: u64,
    /// Those whose newest run failed.
    failed: u64,
    /// All of them.
    all: u64,
    /// How many runs the backfill would start by its policy.
    would_start: u64,
}

/// Runs over a range of sessions.
#[derive(Debug, Object)]
#[oai(rename = "Backfill", skip_serializing_if_is_none)]
struct BackfillView {
    /// Its id; later ones have greater ids.
    id: Uuid,
    /// Whose tickers.
    exchange: ExchangeName,
    /// Only these symbols; empty means every active ticker.
    tickers: Vec<String>,
    /// The first session.
    from: NaiveDate,
    /// The last session.
    to: NaiveDate,
    /// Which runs.
    policy: BackfillPolicyName,
    /// At most so many of its runs are open at once.
    max_active: i64,
    /// Whether its runs send no request.
    offline: bool,
    /// Where it stands: `done` when every run was started.
    state: BackfillStateName,
    /// How far it has come: the session whose runs are started next.
    at: NaiveDate,
    /// Runs started so far.
    started: u64,
    /// Of these: not ended yet.
    open: u64,
    /// When it was asked for.
    created_at: DateTime<Utc>,
    /// When every run was started, or it was cancelled.
    finished_at: Option<DateTime<Utc>>,
}

/// Backfills, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct BackfillPage {
    /// At most `limit` of them.
    items: Vec<BackfillView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

#[derive(ApiResponse)]
enum StartAnswer {
    /// Counted; nothing was started.
    #[oai(status = 200)]
    Counted(Json<CountsView>),
    /// Under way: its runs are started a few at a time.
    #[oai(status = 202)]
    Started(
        Json<BackfillView>,
        /// Where it stands.
        #[oai(header = "Location")]
        String,
    ),
}

pub(crate) struct Backfills;

#[OpenApi(tag = "Tag::Steering")]
impl Backfills {
    /// Starts a backfill, or counts what it would start.
    #[oai(path = "/v1/backfills", method = "post", operation_id = "start_backfill")]
    async fn start(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        body: Json<StartBackfill>,
    ) -> Result<StartAnswer, Problem> {
        let (engine, db) = (shared.engine(), &shared.stores().db);
        let dry_run = body.dry_run;
        let asked = checked(&shared, body.0).await?;
        if dry_run {
            let counts = ledger::dry_run(db, &asked).await?;
            return Ok(StartAnswer::Counted(Json(CountsView {
                dry_run,
                missing: counts.missing.unsigned_abs(),
                failed: counts.failed.unsigned_abs(),
                all: counts.all.unsigned_abs(),
                would_start: counts.to_start(asked.policy).unsigned_abs(),
            })));
        }
        let whose = if asked.tickers.is_empty() { "all tickers".to_owned() } else { asked.tickers.join(" ") };
        let detail = format!("{} {whose}, {} to {}, {}", asked.exchange, asked.from, asked.to, asked.policy.as_str());
        let entry = by.entry(&shared, "backfill_start", asked.id, detail);
        ledger::steer(db, &Steering::StartBackfill(&asked), &entry, engine.ledger.now()).await?;
        let location = format!("/v1/backfills/{}", asked.id);
        Ok(StartAnswer::Started(Json(read(&shared, asked.id).await?), location))
    }

    /// Backfills, newest first.
    #[oai(path = "/v1/backfills", method = "get", operation_id = "list_backfills")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<BackfillPage>, Problem> {
        let before: Option<Uuid> = after("backfill", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let rows = ledger::standings(&shared.stores().db, None, before, limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor = rows.last().filter(|_| more).map(|standing| self::cursor("backfill", standing.row.id));
        let items = rows.into_iter().map(BackfillView::of).collect::<Result<_, _>>()?;
        Ok(Json(BackfillPage { items, next_cursor }))
    }

    /// One backfill.
    #[oai(path = "/v1/backfills/:id", method = "get", operation_id = "get_backfill")]
    async fn get(&self, shared: Data<&Arc<Shared>>, id: Path<Uuid>) -> Result<Json<BackfillView>, Problem> {
        Ok(Json(read(&shared, id.0).await?))
    }

    /// Starts no more of its runs until it is resumed; those that are open go on.
    #[oai(path = "/v1/backfills/:id/pause", method = "post", operation_id = "pause_backfill")]
    async fn pause(&self, shared: Data<&Arc<Shared>>, by: By, id: Path<Uuid>) -> Result<Json<BackfillView>, Problem> {
        steer(&shared, by, id.0, "backfill_pause", "paused").await
    }

    /// Goes on where it was.
    #[oai(path = "/v1/backfills/:id/resume", method = "post", operation_id = "resume_backfill")]
    async fn resume(&self, shared: Data<&Arc<Shared>>, by: By, id: Path<Uuid>) -> Result<Json<BackfillView>, Problem> {
        steer(&shared, by, id.0, "backfill_resume", "running").await
    }

    /// Starts no more of its runs, ever; those that are open go on.
    #[oai(path = "/v1/backfills/:id/cancel", method = "post", operation_id = "cancel_backfill")]
    async fn cancel(&self, shared: Data<&Arc<Shared>>, by: By, id: Path<Uuid>) -> Result<Json<BackfillView>, Problem> {
        steer(&shared, by, id.0, "backfill_cancel", "cancelled").await
    }
}

fn default_limit() -> u32 {
    50
}

fn default_max_active() -> i64 {
    50
}

/// What was asked for, if it can be done.
async fn checked(shared: &Shared, body: StartBackfill) -> Result<NewBackfill, Problem> {
    let exchange: Exchange = body
        .exchange
        .parse()
        .map_err(|error: market::UnknownExchange| Problem::bad_field("exchange", error.to_string()))?;
    let today = shared.engine().market_clock.now().with_timezone(&exchange.zone()).date_naive();
    if body.from > body.to {
        return Err(Problem::bad_field("from", format!("it is after `to`, which is {}", body.to)));
    }
    if body.to > today {
        return Err(Problem::bad_field("to", format!("it is in the future: today is {today} at {exchange}")));
    }
    let days = (body.to - body.from).num_days();
    if days > MOST_DAYS {
        return Err(Problem::bad_field("from", format!("{days} days lie before `to`; at most {MOST_DAYS} may")));
    }
    Ok(NewBackfill {
        id: shared.engine().new_run_id(),
        tickers: known_symbols(shared, exchange, &body.tickers).await?,
        exchange,
        from: body.from,
        to: body.to,
        policy: body.policy.into(),
        max_active: body.max_active,
        offline: body.offline,
    })
}

/// The symbols as the archive spells them; each must be known.
async fn known_symbols(shared: &Shared, exchange: Exchange, named: &[String]) -> Result<Vec<String>, Problem> {
    if named.is_empty() {
        return Ok(Vec::new());
    }
    let rows = tickers::list(&shared.stores().db, Some(exchange), None, i64::MAX).await?;
    let known: BTreeSet<&str> = rows.iter().map(|row| row.ticker.symbol()).collect();
    let mut symbols = BTreeSet::new();
    for name in named {
        let ticker = Ticker::new(exchange, name).map_err(|error| Problem::bad_field("tickers", error.to_string()))?;
        if !known.contains(ticker.symbol()) {
            return Err(Problem::bad_field(
                "tickers",
                format!("{ticker} is not known here; GET /v1/tickers lists what is"),
            ));
        }
        symbols.insert(ticker.symbol().to_owned());
    }
    Ok(symbols.into_iter().collect())
}

async fn read(shared: &Shared, id: Uuid) -> Result<BackfillView, Problem> {
    let standing = ledger::standings(&shared.stores().db, Some(id), None, 1).await?.into_iter().next();
    let standing = standing.ok_or_else(|| {
        let detail = format!("There is no backfill {id}. GET /v1/backfills lists those there are.");
        Problem::not_found("unknown_backfill", "There is no such backfill here", detail)
    })?;
    BackfillView::of(standing)
}

async fn steer(
    shared: &Shared,
    by: By,
    id: Uuid,
    action: &'static str,
    to: &'static str,
) -> Result<Json<BackfillView>, Problem> {
    let entry = by.entry(shared, action, id, "");
    let what = Steering::SteerBackfill { id, to };
    let changed = ledger::steer(&shared.stores().db, &what, &entry, shared.engine().ledger.now()).await?;
    let now = read(shared, id).await?;
    let wanted: BackfillStateName = word(to)?;
    if !changed && now.state != wanted {
        let state = if now.state == BackfillStateName::Done { "done" } else { "cancelled" };
        let detail = format!("The backfill {id} is {state}. Start another one.");
        return Err(Problem::conflict("backfill_over", "The backfill is over", detail).state(state));
    }
    Ok(Json(now))
}

impl BackfillView {
    fn of(standing: BackfillStanding) -> Result<Self, Problem> {
        let BackfillStanding { row, open } = standing;
        Ok(Self {
            id: row.id,
            exchange: word(&row.exchange)?,
            tickers: row.tickers.0,
            from: row.from_session,
            to: row.to_session,
            policy: word(&row.policy)?,
            max_active: row.max_active,
            offline: row.offline,
            state: word(&row.state)?,
            at: row.cursor_session,
            started: row.runs.unsigned_abs(),
            open: open.unsigned_abs(),
            created_at: row.created_at.0,
            finished_at: row.finished_at.map(|at| at.0),
        })
    }
}
