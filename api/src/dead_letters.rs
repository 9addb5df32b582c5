//! `/v1/dead-letters`: steps that failed for good, of runs that nobody has repeated since; and repeating them, thousands at a time.

use crate::Shared;
use crate::door::By;
use crate::paging::{Pair, after, cursor, page};
use crate::problem::Problem;
use crate::words::{ExchangeName, Tag, exchange_in_query, word};
use chrono::{DateTime, NaiveDate, Utc};
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::collections::BTreeSet;
use std::sync::Arc;
use uuid::Uuid;
use workflows::ledger::{self, DeadLetterFilter, DeadLetterRow};
use workflows::plan::{Step, UnknownStep};

/// The most runs repeated by one request.
const MOST: usize = 10_000;

/// A step that failed for good, of a run that has no newer rerun.
#[derive(Debug, Object)]
#[oai(rename = "DeadLetter", skip_serializing_if_is_none)]
struct DeadLetterView {
    /// Its run.
    run: Uuid,
    /// What the run is about: `NASDAQ:AAPL`.
    subject: String,
    /// Where the ticker trades, when it is about one.
    exchange: Option<ExchangeName>,
    /// The symbol, when it is about one.
    ticker: Option<String>,
    /// The session the run is for.
    session: NaiveDate,
    /// What the run goes through.
    plan: String,
    /// Which step.
    step: String,
    /// What kind of failure: `layout_changed`, `gave_up`, `lost` and so on.
    error_kind: Option<String>,
    /// What went wrong, in words.
    error: Option<String>,
    /// How often it was tried.
    attempts: i64,
    /// When it failed for good.
    failed_at: Option<DateTime<Utc>>,
}

/// Dead letters, those of the newest runs first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct DeadLetterPage {
    /// At most `limit` of them.
    items: Vec<DeadLetterView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

/// Dead letters of one step and one kind of failure.
#[derive(Debug, Object)]
#[oai(rename = "DeadLetterGroup", skip_serializing_if_is_none)]
struct GroupView {
    /// Which step.
    step: String,
    /// What kind of failure.
    error_kind: Option<String>,
    /// How many.
    count: u64,
    /// When the newest of them failed.
    newest_at: Option<DateTime<Utc>>,
}

/// Dead letters by step and kind of failure.
#[derive(Debug, Object)]
struct GroupPage {
    /// All groups, the largest first.
    items: Vec<GroupView>,
}

/// Which dead letters are to be repeated. What is absent does not narrow; all of it absent means every one.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct RequeueDeadLetters {
    /// Only these runs, at most 10,000.
    #[oai(default, validator(max_items = 10000))]
    runs: Vec<Uuid>,
    /// Only this exchange: NASDAQ or NEPSE.
    exchange: Option<String>,
    /// Only this step.
    step: Option<String>,
    /// Only this kind of failure.
    error_kind: Option<String>,
}

/// What was repeated.
#[derive(Debug, Object)]
struct Requeued {
    /// Runs that have a new run now.
    requeued: u64,
    /// Runs that were named and are not dead (they did not fail, or have a newer rerun), and those whose plan is not known here.
    left_out: u64,
    /// Whether there may be more: one request repeats at most 10,000. Ask again.
    more: bool,
}

pub(crate) struct DeadLetters;

#[OpenApi(tag = "Tag::Steering")]
impl DeadLetters {
    /// Steps that failed for good.
    ///
    /// A run that was repeated since is not among them: its rerun tells how it went.
    #[oai(path = "/v1/dead-letters", method = "get", operation_id = "list_dead_letters")]
    #[allow(clippy::too_many_arguments, reason = "they are the parameters of one request")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
        /// Only this step.
        step: Query<Option<String>>,
        /// Only this kind of failure.
        error_kind: Query<Option<String>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<DeadLetterPage>, Problem> {
        let filter = filter(exchange.0, step.0, error_kind.0)?;
        let before: Option<Pair<Uuid, i64>> = after("dead-letter", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let before = before.map(|key| (key.0, key.1));
        let rows = ledger::dead_letters(&shared.stores().db, &filter, before, limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor =
            rows.last().filter(|_| more).map(|row| self::cursor("dead-letter", Pair(row.run_id, row.seq)));
        let items = rows.into_iter().map(DeadLetterView::of).collect::<Result<_, _>>()?;
        Ok(Json(DeadLetterPage { items, next_cursor }))
    }

    /// Dead letters counted by step and kind of failure.
    #[oai(path = "/v1/dead-letters/groups", method = "get", operation_id = "group_dead_letters")]
    async fn groups(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
    ) -> Result<Json<GroupPage>, Problem> {
        let filter = filter(exchange.0, None, None)?;
        let groups = ledger::dead_letter_groups(&shared.stores().db, &filter).await?;
        let items = groups.into_iter().map(|group| GroupView {
            step: group.step,
            error_kind: group.error_kind,
            count: group.count.unsigned_abs(),
            newest_at: group.newest_at.map(|at| at.0),
        });
        Ok(Json(GroupPage { items: items.collect() }))
    }

    /// Repeats dead runs, oldest first, at most 10,000.
    ///
    /// Each becomes a new run that names it, in the lane it had. Asking twice is asking once: what was repeated is dead no more.
    #[oai(path = "/v1/dead-letters/requeue", method = "post", operation_id = "requeue_dead_letters")]
    async fn requeue(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        body: Json<RequeueDeadLetters>,
    ) -> Result<Json<Requeued>, Problem> {
        let RequeueDeadLetters { runs, exchange, step, error_kind } = body.0;
        let in_words = said(&runs, exchange.as_deref(), step.as_deref(), error_kind.as_deref());
        let in_body = |problem: Problem| problem.in_the_body();
        let runs: BTreeSet<Uuid> = runs.into_iter().collect();
        let named = runs.len() as u64;
        let narrowed = filter(exchange, step, error_kind).map_err(in_body)?;
        let filter = DeadLetterFilter { runs: runs.into_iter().collect(), ..narrowed };
        let entry =
            |count: usize| by.entry_of_part(&shared, "requeue", "dead-letters", format!("{count} runs: {in_words}"));
        let done = shared.engine().requeue(&filter, MOST, &entry).await?;
        let requeued = done.requeued as u64;
        let (left_out, more) = match named {
            0 => (done.left_out as u64, done.more),
            _ => (named - requeued, false),
        };
        Ok(Json(Requeued { requeued, left_out, more }))
    }
}

fn default_limit() -> u32 {
    50
}

fn filter(
    exchange: Option<String>,
    step: Option<String>,
    error_kind: Option<String>,
) -> Result<DeadLetterFilter, Problem> {
    let step = step.map(|step| {
        step.parse::<Step>().map_err(|error: UnknownStep| Problem::bad_parameter("step", error.to_string()))
    });
    Ok(DeadLetterFilter {
        exchange: exchange_in_query(exchange.as_deref())?.map(market::Exchange::as_str),
        step: step.transpose()?.map(Step::as_str),
        error_kind,
        runs: Vec::new(),
    })
}

/// What was asked for, for the audit.
fn said(runs: &[Uuid], exchange: Option<&str>, step: Option<&str>, error_kind: Option<&str>) -> String {
    let named = (!runs.is_empty()).then(|| format!("of {} named ones", runs.len()));
    let words: Vec<String> = [("exchange", exchange), ("step", step), ("error_kind", error_kind)]
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name} {}", value?)))
        .chain(named)
        .collect();
    if words.is_empty() { "every dead one".to_owned() } else { words.join(", ") }
}

impl DeadLetterView {
    fn of(row: DeadLetterRow) -> Result<Self, Problem> {
        Ok(Self {
            run: row.run_id,
            subject: row.subject,
            exchange: row.exchange.as_deref().map(word).transpose()?,
            ticker: row.ticker,
            session: row.session,
            plan: row.plan,
            step: row.step,
            error_kind: row.error_kind,
            error: row.error,
            attempts: row.attempt,
            failed_at: row.finished_at.map(|at| at.0),
        })
    }
}
