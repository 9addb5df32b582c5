//! `/v1/quarantine`: rows and whole batches that broke a rule, and deciding about them.

use crate::Shared;
use crate::door::By;
use crate::paging::{At, Pair, after, cursor, page};
use crate::problem::Problem;
use crate::words::{ExchangeName, Tag, exchange_in_query, word};
use chrono::{DateTime, NaiveDate, Utc};
use market::Exchange;
use market::validate::{Rule, UnknownRule};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;
use uuid::Uuid;
use workflows::stores::quarantine::{self, Filter, QuarantineRow, Settled};

/// The states there are.
pub(crate) const STATES: [&str; 5] = ["open", "released", "dismissed", "confirmed", "overtaken"];

/// A row, a whole batch of a ticker, or a whole page of a market, that broke a rule.
#[derive(Debug, Object)]
#[oai(rename = "Quarantined", skip_serializing_if_is_none)]
struct QuarantinedView {
    /// Its id.
    id: Uuid,
    /// Where it trades.
    exchange: ExchangeName,
    /// The symbol; `*` for the page of a whole market.
    ticker: String,
    /// The trading day; absent when it is a whole batch.
    session: Option<NaiveDate>,
    /// The rule that it broke, in one word.
    rule: String,
    /// What was found.
    why: String,
    /// Who gave it.
    source: String,
    /// The run that scraped it; absent for an import.
    run: Option<Uuid>,
    /// As given.
    open: Option<f64>,
    /// As given.
    high: Option<f64>,
    /// As given.
    low: Option<f64>,
    /// As given.
    close: Option<f64>,
    /// As given.
    prev_close: Option<f64>,
    /// As given.
    volume: Option<f64>,
    /// When it was set aside.
    set_aside_at: DateTime<Utc>,
    /// When it came last.
    seen_at: DateTime<Utc>,
    /// How often it came.
    seen: i64,
    /// `open` while it waits; `released` or `dismissed` by an operator; `confirmed` by later data; `overtaken` by a batch that agrees.
    state: String,
    /// When it stopped waiting.
    settled_at: Option<DateTime<Utc>>,
    /// Who or what ended it.
    settled_by: Option<String>,
    /// Why.
    settled_why: Option<String>,
}

/// What was set aside, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct QuarantinePage {
    /// At most `limit` of them.
    items: Vec<QuarantinedView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

/// Why it is decided so.
#[derive(Debug, Default, Object)]
#[oai(deny_unknown_fields)]
struct SettleQuarantined {
    /// In words, for whoever looks later.
    #[oai(default, validator(max_length = 500))]
    reason: String,
}

pub(crate) struct Quarantine;

#[OpenApi(tag = "Tag::Steering")]
impl Quarantine {
    /// What was set aside.
    #[oai(path = "/v1/quarantine", method = "get", operation_id = "list_quarantine")]
    #[allow(clippy::too_many_arguments, reason = "they are the parameters of one request")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
        /// Only this symbol.
        ticker: Query<Option<String>>,
        /// Only in this state: open, released, dismissed, confirmed or overtaken.
        state: Query<Option<String>>,
        /// Only by this rule.
        rule: Query<Option<String>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<QuarantinePage>, Problem> {
        let filter = Filter {
            exchange: exchange_in_query(exchange.as_deref())?.map(Exchange::as_str),
            ticker: ticker.0.map(|ticker| ticker.to_ascii_uppercase()),
            state: state.as_deref().map(named_state).transpose()?,
            rule: rule.as_deref().map(named_rule).transpose()?,
        };
        let before: Option<Pair<At, Uuid>> = after("quarantine", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let before = before.map(|key| (key.0.0, key.1));
        let rows = quarantine::list(&shared.stores().db, &filter, before, limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let key = |row: &QuarantineRow| self::cursor("quarantine", Pair(At(row.set_aside_at.0), row.id));
        let next_cursor = rows.last().filter(|_| more).map(key);
        let items = rows.into_iter().map(QuarantinedView::of).collect::<Result<_, _>>()?;
        Ok(Json(QuarantinePage { items, next_cursor }))
    }

    /// Accepts what was set aside, as it is.
    ///
    /// It enters the archive as a revision of the source that gave it; the rows of a page come with the next run of each ticker. Releasing twice is
    /// releasing once.
    #[oai(path = "/v1/quarantine/:id/release", method = "post", operation_id = "release_quarantined")]
    async fn release(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// Its id.
        id: Path<Uuid>,
        body: Json<SettleQuarantined>,
    ) -> Result<Json<QuarantinedView>, Problem> {
        let db = &shared.stores().db;
        let entry = by.entry(&shared, "quarantine_release", id.0, body.reason.clone());
        let settled = quarantine::release(db, id.0, &body.reason, &entry, db.now()).await?;
        answer(&shared, id.0, settled).await
    }

    /// Keeps out for good what was set aside.
    ///
    /// The same row is not asked about again. Dismissing twice is dismissing once.
    #[oai(path = "/v1/quarantine/:id/dismiss", method = "post", operation_id = "dismiss_quarantined")]
    async fn dismiss(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        /// Its id.
        id: Path<Uuid>,
        body: Json<SettleQuarantined>,
    ) -> Result<Json<QuarantinedView>, Problem> {
        let db = &shared.stores().db;
        let entry = by.entry(&shared, "quarantine_dismiss", id.0, body.reason.clone());
        let settled = quarantine::dismiss(db, id.0, &body.reason, &entry, db.now()).await?;
        answer(&shared, id.0, settled).await
    }
}

async fn answer(shared: &Shared, id: Uuid, settled: Settled) -> Result<Json<QuarantinedView>, Problem> {
    let row = quarantine::get(&shared.stores().db, id).await?.ok_or_else(|| {
        let detail = format!("Nothing was set aside under {id}. `GET /v1/quarantine` lists what was.");
        Problem::not_found("unknown_quarantined", "There is no such row in the quarantine", detail)
    })?;
    match settled {
        Settled::Now | Settled::Already | Settled::Unknown => Ok(Json(QuarantinedView::of(row)?)),
        Settled::Otherwise => {
            let detail = format!("It is {} already. Import the bar to have it otherwise.", row.state);
            Err(Problem::conflict("already_settled", "This was decided before", detail).state(row.state))
        }
        Settled::NothingKept => {
            let detail = "Its source kept the values to itself, so that there is nothing to accept: dismiss it.";
            Err(Problem::conflict("nothing_kept", "There is nothing to release", detail).state(row.state))
        }
    }
}

fn default_limit() -> u32 {
    50
}

fn named_state(state: &str) -> Result<&'static str, Problem> {
    let known = STATES.into_iter().find(|known| *known == state);
    known.ok_or_else(|| Problem::bad_parameter("state", format!("use one of {}", STATES.join(", "))))
}

fn named_rule(rule: &str) -> Result<&'static str, Problem> {
    let parsed = rule.parse::<Rule>().map(Rule::as_str);
    parsed.map_err(|error: UnknownRule| Problem::bad_parameter("rule", error.to_string()))
}

impl QuarantinedView {
    fn of(row: QuarantineRow) -> Result<Self, Problem> {
        Ok(Self {
            id: row.id,
            exchange: word(&row.exchange)?,
            ticker: row.ticker,
            session: row.session,
            rule: row.rule,
            why: row.why,
            source: row.source,
            run: row.run_id,
            open: row.open,
            high: row.high,
            low: row.low,
            close: row.close,
            prev_close: row.prev_close,
            volume: row.volume,
            set_aside_at: row.set_aside_at.0,
            seen_at: row.seen_at.0,
            seen: row.seen,
            state: row.state,
            settled_at: row.settled_at.map(|at| at.0),
            settled_by: row.settled_by,
            settled_why: row.settled_why,
        })
    }
}
