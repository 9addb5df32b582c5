//! `/v1/forecasts`: what we say about the next session. The single one is served from the cache and carries a strong ETag.

use crate::Shared;
use crate::accuracy::AccuracyView;
use crate::listings::RestingView;
use crate::paging::{after, cursor, page};
use crate::problem::Problem;
use crate::serving::{Served, is_stale, serve};
use crate::words::{
    ExchangeName, FlagName, ForecastKind, MadeByName, Tag, TargetBasisName, exchange_in_query, ticker_in_path,
};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Baseline, DISCLAIMER, Flag, Interval, Ticker};
use poem::web::Data;
use poem_openapi::param::{Header, Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::types::ToJSON;
use poem_openapi::{ApiResponse, Object, OpenApi};
use sha2::{Digest, Sha256};
use std::sync::Arc;
use uuid::Uuid;
use workflows::stores::forecasts::StoredForecast;
use workflows::stores::record::Line;

/// A price range meant to hold the close in `level` of 100 sessions; both ends in `currency`.
#[derive(Debug, Object)]
#[oai(rename = "Interval")]
pub(crate) struct IntervalView {
    /// 80 or 95.
    level: u32,
    /// Lower end.
    lo: f64,
    /// Upper end.
    hi: f64,
}

/// A naive forecast of the same session: tomorrow's close is the reference price, its spread the recent volatility (`P-EWMA`) or that of the
/// last 250 returns (`P-EQ`).
#[derive(Debug, Object)]
#[oai(rename = "Baseline")]
pub(crate) struct BaselineView {
    /// Name of the method, `P-EWMA` or `P-EQ`.
    method: String,
    /// The reference price itself.
    point: f64,
    /// Of the levels 80 and 95, the narrower first.
    intervals: Vec<IntervalView>,
}

/// A forecast of one ticker's close for one session. Prices are in `currency`. A statistical estimate, not financial advice.
#[derive(Debug, Object)]
#[oai(rename = "Forecast", skip_serializing_if_is_none)]
pub(crate) struct ForecastView {
    /// Its id in the record; absent while it is not stored.
    id: Option<Uuid>,
    /// Where it trades.
    exchange: ExchangeName,
    /// The symbol, `AAPL`.
    ticker: String,
    /// The newest session whose close was known.
    as_of: NaiveDate,
    /// When that close was final: nothing later has been used.
    data_cutoff: DateTime<Utc>,
    /// The session forecast; an estimate until it is observed.
    target: NaiveDate,
    /// How `target` was found.
    target_basis: TargetBasisName,
    /// When it was made, by the market clock.
    issued_at: DateTime<Utc>,
    /// ISO 4217 code.
    currency: String,
    /// The close of `as_of`.
    last_close: f64,
    /// The last close after corporate actions that take effect at `target`.
    reference_price: f64,
    /// Our estimate of the close.
    point: f64,
    /// `point` − `reference_price`.
    change: f64,
    /// The same in per cent of the reference price.
    change_pct: f64,
    /// Of the levels 80 and 95, the narrower first.
    intervals: Vec<IntervalView>,
    /// Probability that the close is above the reference price; absent where no skill is proven.
    p_up: Option<f64>,
    /// Daily volatility used for scaling (standard deviation of log returns).
    sigma: f64,
    /// How much of the model's mean is believed, 0 (the point is the baseline) to 1.
    mean_weight: f64,
    /// The naive forecast of the same session, for comparison.
    baseline: BaselineView,
    /// The second naive forecast, with the empirical quantiles of the last 250 returns; absent with fewer than 60.
    empirical_baseline: Option<BaselineView>,
    /// How good the ticker's forecasts of the last 250 sessions were. Only where one forecast was asked for, and any was scored.
    accuracy: Option<AccuracyView>,
    /// Whose numbers these are.
    made_by: MadeByName,
    /// Why it is theirs that are served, in words.
    reason: String,
    /// Name and version of the recipe.
    recipe: String,
    /// SHA-256 of the model's weights file.
    model_version: String,
    /// SHA-256 of the closes that the forecast was made from.
    input_hash: String,
    /// How many closes were known.
    n_history: u64,
    /// Caveats.
    flags: Vec<FlagName>,
    /// That its ticker is no longer traded, or not for the time being: then this is its last forecast. Absent while it is.
    resting: Option<RestingView>,
    /// Whether it was issued in time.
    kind: ForecastKind,
    /// Show it beside the numbers.
    disclaimer: String,
    /// Whether the cache had it. Only where one forecast was asked for.
    cached: Option<bool>,
}

/// Forecasts in order of exchange and ticker.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct ForecastPage {
    /// At most `limit` of them.
    items: Vec<ForecastView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

#[derive(ApiResponse)]
enum ForecastAnswer {
    /// The newest forecast.
    #[oai(status = 200)]
    Fresh(
        Json<Box<ForecastView>>,
        /// Names exactly this answer.
        #[oai(header = "ETag")]
        String,
        /// Ask again before using it again.
        #[oai(header = "Cache-Control")]
        String,
    ),
    /// Nothing has changed since the ETag that was sent along.
    #[oai(status = 304)]
    NotModified(
        /// Names the current answer.
        #[oai(header = "ETag")]
        String,
        /// Ask again before using it again.
        #[oai(header = "Cache-Control")]
        String,
    ),
}

pub(crate) struct Forecasts;

#[OpenApi(tag = "Tag::Forecasts")]
impl Forecasts {
    /// The newest forecast of every ticker.
    #[oai(path = "/v1/forecasts", method = "get", operation_id = "list_forecasts")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<ForecastPage>, Problem> {
        let exchange = exchange_in_query(exchange.as_deref())?;
        let after: Option<Ticker> = after("ticker", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let db = &shared.stores().db;
        let rows = workflows::stores::forecasts::list_latest(db, exchange, after.as_ref(), limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("ticker", &row.forecast.ticker));
        let now = shared.engine().market_clock.now();
        let resting = shared.resting.all(&shared).await;
        let view = |row: StoredForecast| {
            let stale = is_stale(&row.forecast, now);
            let rests = resting.get(&row.forecast.ticker).map(RestingView::from);
            ForecastView { resting: rests, ..ForecastView::of(row, stale, None) }
        };
        Ok(Json(ForecastPage { items: rows.into_iter().map(view).collect(), next_cursor }))
    }

    /// The newest forecast of one ticker.
    ///
    /// Answered from the cache; where it has none, from the archive; where the archive has newer prices than forecasts, made at once.
    /// A ticker without a model is answered with the baseline, flagged `cold_start`; with fewer than 16 closes with 404
    /// `not_enough_history`.
    #[oai(path = "/v1/forecasts/:exchange/:ticker", method = "get", operation_id = "get_forecast")]
    async fn get(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, AAPL.
        ticker: Path<String>,
        /// The ETag of an answer that is already here.
        #[oai(name = "If-None-Match")]
        if_none_match: Header<Option<String>>,
    ) -> Result<ForecastAnswer, Problem> {
        let ticker = ticker_in_path(&exchange, &ticker)?;
        let served = serve(&shared.state, &shared.flights, &ticker).await?;
        let stale = is_stale(&served.stored.forecast, shared.engine().market_clock.now());
        let rests = shared.resting.all(&shared).await.get(&ticker).map(RestingView::from);
        let tag = Validator::of(&served, stale, rests.as_ref(), shared.state.version);
        let unchanged = if_none_match.as_deref().is_some_and(|sent| tag.is_among(sent));
        let (etag, cache_control) = (tag.text(served.cached), "no-cache".to_owned());
        if unchanged {
            return Ok(ForecastAnswer::NotModified(etag, cache_control));
        }
        let view = ForecastView { resting: rests, ..ForecastView::of(served.stored, stale, Some(served.cached)) };
        Ok(ForecastAnswer::Fresh(Json(Box::new(view)), etag, cache_control))
    }
}

fn default_limit() -> u32 {
    50
}

/// What makes two answers the same. Where it was found is part of the bytes and so of the tag, but a reader who has the one
/// needs not be sent the other.
struct Validator(String);

impl Validator {
    fn of(served: &Served, stale: bool, resting: Option<&RestingView>, version: &str) -> Self {
        let f = &served.stored.forecast;
        let text = format!(
            "{version}|{}|{}|{}|{}|{}|{}|{}|{stale}|{:?}|{}",
            f.ticker,
            f.as_of,
            f.target,
            f.model_version,
            f.input_hash,
            f.issued_at,
            served.stored.hindcast,
            served.stored.record.map(|record| (record.to, record.sums.n)),
            resting.map(RestingView::to_json_string).unwrap_or_default()
        );
        Self(hex::encode(&Sha256::digest(text)[..12]))
    }

    fn text(&self, cached: bool) -> String {
        format!("\"{}-{}\"", self.0, if cached { "c" } else { "a" })
    }

    /// Whether an If-None-Match header names this answer, wherever it was found. Weak comparison, as the header asks for.
    fn is_among(&self, sent: &str) -> bool {
        sent.split(',').map(str::trim).any(|tag| {
            let tag = tag.strip_prefix("W/").unwrap_or(tag);
            tag == "*" || tag == self.text(true) || tag == self.text(false)
        })
    }
}

impl ForecastView {
    pub(crate) fn of(stored: StoredForecast, stale: bool, cached: Option<bool>) -> Self {
        let StoredForecast { id, forecast, hindcast, record, .. } = stored;
        let accuracy = record.map(|record| AccuracyView::of_record(&forecast.ticker, Line::Served, Some(&record)));
        let mut flags = forecast.flags;
        if stale && !flags.contains(&Flag::StaleData) {
            flags.push(Flag::StaleData);
            flags.sort_unstable();
        }
        Self {
            id: Some(id).filter(|id| !id.is_nil()),
            exchange: forecast.ticker.exchange().into(),
            ticker: forecast.ticker.symbol().to_owned(),
            as_of: forecast.as_of,
            data_cutoff: market::final_at(forecast.ticker.exchange(), forecast.as_of),
            target: forecast.target,
            target_basis: forecast.target_basis.into(),
            issued_at: forecast.issued_at,
            currency: forecast.currency,
            last_close: forecast.last_close,
            reference_price: forecast.reference_price,
            point: forecast.point,
            change: forecast.change,
            change_pct: forecast.change_pct,
            intervals: intervals(forecast.interval80, forecast.interval95),
            p_up: forecast.p_up,
            sigma: forecast.sigma,
            mean_weight: forecast.mean_weight,
            baseline: forecast.baseline.into(),
            empirical_baseline: forecast.empirical.map(BaselineView::from),
            accuracy,
            made_by: forecast.made_by.into(),
            reason: forecast.reason,
            recipe: forecast.recipe,
            model_version: forecast.model_version,
            input_hash: forecast.input_hash,
            n_history: forecast.n_history as u64,
            flags: flags.into_iter().map(FlagName::from).collect(),
            resting: None,
            kind: if hindcast { ForecastKind::Hindcast } else { ForecastKind::Forecast },
            disclaimer: DISCLAIMER.to_owned(),
            cached,
        }
    }
}

fn intervals(of80: Interval, of95: Interval) -> Vec<IntervalView> {
    let view = |level, of: Interval| IntervalView { level, lo: of.lo, hi: of.hi };
    vec![view(80, of80), view(95, of95)]
}

impl From<Baseline> for BaselineView {
    fn from(baseline: Baseline) -> Self {
        Self {
            method: baseline.method,
            point: baseline.point,
            intervals: intervals(baseline.interval80, baseline.interval95),
        }
    }
}
