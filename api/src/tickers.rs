//! `/v1/tickers`: the equities we know.

use crate::Shared;
use crate::paging::{after, cursor, page};
use crate::problem::Problem;
use crate::words::{ExchangeName, Tag, TickerStateName, exchange_in_query, ticker_in_path, unknown_ticker};
use chrono::{DateTime, NaiveDate, Utc};
use market::{ListingState, Ticker};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;
use workflows::stores::tickers::{self, TickerRow};

/// An equity we know.
#[derive(Debug, Object)]
#[oai(rename = "Ticker", skip_serializing_if_is_none)]
pub(crate) struct TickerView {
    /// Where it trades.
    exchange: ExchangeName,
    /// The symbol, `AAPL`.
    ticker: String,
    /// The company's or fund's name, where known.
    name: Option<String>,
    /// Whether schedules start runs for it: it is followed, and new or active.
    active: bool,
    /// Where it stands.
    state: TickerStateName,
    /// Since when.
    since: DateTime<Utc>,
    /// Why: the evidence, or the operator's reason.
    reason: Option<String>,
    /// Who decided: `evidence` or `operator`.
    decided_by: String,
    /// What stands in the place of a renamed or merged one, `NASDAQ:META`.
    successor: Option<String>,
    /// Why it is not followed here: it is excluded, or no longer in the list file. Absent when it is.
    unfollowed: Option<String>,
    /// How many bars are archived.
    bars: u64,
    /// The newest archived session.
    last_session: Option<NaiveDate>,
    /// SHA-256 of the weights of the model that serves it.
    model_version: Option<String>,
}

/// Tickers in order of exchange and symbol.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct TickerPage {
    /// At most `limit` of them.
    items: Vec<TickerView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

pub(crate) struct Tickers;

#[OpenApi(tag = "Tag::Tickers")]
impl Tickers {
    /// The tickers we know.
    #[oai(path = "/v1/tickers", method = "get", operation_id = "list_tickers")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
        /// Only in this state: new, active, suspended, delisted, renamed or merged.
        state: Query<Option<String>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "1000")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<TickerPage>, Problem> {
        let exchange = exchange_in_query(exchange.as_deref())?;
        let parse = |text: &str| {
            text.parse::<ListingState>().map_err(|error| Problem::bad_parameter("state", error.to_string()))
        };
        let state = state.as_deref().map(parse).transpose()?;
        let after: Option<Ticker> = after("ticker", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let rows = tickers::list_in(&shared.stores().db, exchange, state, after.as_ref(), limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("ticker", &row.ticker));
        Ok(Json(TickerPage { items: rows.into_iter().map(TickerView::from).collect(), next_cursor }))
    }

    /// One ticker.
    #[oai(path = "/v1/tickers/:exchange/:ticker", method = "get", operation_id = "get_ticker")]
    async fn get(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, AAPL.
        ticker: Path<String>,
    ) -> Result<Json<TickerView>, Problem> {
        let ticker = ticker_in_path(&exchange, &ticker)?;
        let row = tickers::get(&shared.stores().db, &ticker).await?.ok_or_else(|| unknown_ticker(&ticker))?;
        Ok(Json(row.into()))
    }

    /// Makes a ticker known, so that schedules start runs for it. One that is known stays as it is.
    #[oai(path = "/v1/tickers/:exchange/:ticker", method = "put", operation_id = "add_ticker")]
    async fn add(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, AAPL.
        ticker: Path<String>,
    ) -> Result<Json<TickerView>, Problem> {
        let ticker = ticker_in_path(&exchange, &ticker)?;
        let db = &shared.stores().db;
        tickers::add(db, std::slice::from_ref(&ticker), db.now()).await?;
        let row = tickers::get(db, &ticker).await?.ok_or_else(|| unknown_ticker(&ticker))?;
        Ok(Json(row.into()))
    }
}

fn default_limit() -> u32 {
    200
}

impl From<TickerRow> for TickerView {
    fn from(row: TickerRow) -> Self {
        Self {
            exchange: row.ticker.exchange().into(),
            ticker: row.ticker.symbol().to_owned(),
            name: row.name,
            active: row.active,
            state: row.state.into(),
            since: row.since,
            reason: Some(row.why).filter(|why| !why.is_empty()),
            decided_by: row.decided_by,
            successor: row.successor.as_ref().map(Ticker::to_string),
            unfollowed: row.unfollowed,
            bars: row.bars.unsigned_abs(),
            last_session: row.last_session,
            model_version: row.champion,
        }
    }
}
