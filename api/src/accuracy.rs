//! `/v1/accuracy`, `/v1/alarms` and the record of a ticker: how good the forecasts were, always beside the naive ones, and what is alarming about them.

use crate::Shared;
use crate::forecasts::ForecastView;
use crate::paging::{At, Pair, after, cursor, page};
use crate::problem::Problem;
use crate::words::{
    AlarmKindName, ExchangeName, LineName, OutcomeName, Tag, exchange_in_path, exchange_in_query, ticker_in_path,
    unknown_ticker, word,
};
use chrono::{DateTime, NaiveDate, Utc};
use forecast::{Range, Sureness, sureness};
use market::{Exchange, Scored, Sums, Ticker};
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;
use uuid::Uuid;
use workflows::stores::alarms::{self, Alarm, Filter};
use workflows::stores::forecasts::Record;
use workflows::stores::record::Line;
use workflows::stores::skill::{self, Recorded};
use workflows::stores::tickers;

/// Holds the truth in 95 of 100 records like this one; sessions are resampled in blocks of five.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Range")]
pub(crate) struct RangeView {
    /// Lower end.
    lo: f64,
    /// Upper end.
    hi: f64,
}

/// Share of closes inside the intervals of one level.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Coverage")]
pub(crate) struct CoverageView {
    /// 80 or 95.
    level: u32,
    /// The share that they held, 0 to 1; near `level` ÷ 100 when the intervals are honest.
    held: f64,
}

/// Claims of a direction, and what they were worth.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Direction", skip_serializing_if_is_none)]
pub(crate) struct DirectionView {
    /// Forecasts that claimed one, of closes that moved.
    claims: u64,
    /// How many came true.
    hits: u64,
    /// Hits above what the same mix of claims reaches by chance on the same mix of outcomes, in percentage points.
    excess_points: f64,
    /// How sure that is.
    excess_range: Option<RangeView>,
}

/// How good forecasts were that were stored before their session opened. Ratios below 1 are better than the naive forecast. Absent where nothing has been
/// scored.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Accuracy", skip_serializing_if_is_none)]
pub(crate) struct AccuracyView {
    /// Where.
    exchange: ExchangeName,
    /// The symbol; absent where all tickers of the exchange are meant.
    ticker: Option<String>,
    /// Whose forecasts.
    line: LineName,
    /// How many forecasts were scored.
    n: u64,
    /// Of how many sessions.
    sessions: u64,
    /// The first of these sessions.
    from: Option<NaiveDate>,
    /// The last of them.
    to: Option<NaiveDate>,
    /// Root mean squared error ÷ that of "tomorrow = today".
    rmse_ratio: Option<f64>,
    /// How sure that is; absent with fewer than 20 sessions, and in lists of tickers.
    rmse_ratio_range: Option<RangeView>,
    /// Weighted interval score ÷ that of the baseline P-EWMA.
    wis_ratio: Option<f64>,
    /// How sure that is.
    wis_ratio_range: Option<RangeView>,
    /// The same ÷ that of the baseline P-EQ.
    wis_ratio_empirical: Option<f64>,
    /// Of the levels 80 and 95.
    coverage: Vec<CoverageView>,
    /// Absent where no direction was claimed.
    direction: Option<DirectionView>,
}

impl AccuracyView {
    /// `sessions`: sums by session, newest first.
    fn of_sessions(exchange: Exchange, ticker: Option<&Ticker>, line: Line, sessions: &[(NaiveDate, Sums)]) -> Self {
        let mut sums = Sums::default();
        sessions.iter().for_each(|(_, of)| sums.plus(of));
        let in_order: Vec<Sums> = sessions.iter().rev().map(|(_, of)| *of).collect();
        let span = sessions.last().zip(sessions.first()).map(|(from, to)| (from.0, to.0));
        Self::of(exchange, ticker, line, &sums, (sessions.len(), span), sureness(&in_order))
    }

    /// Of a ticker's scores added up, without ranges.
    pub(crate) fn of_record(ticker: &Ticker, line: Line, record: Option<&Record>) -> Self {
        let sums = record.map(|record| record.sums).unwrap_or_default();
        let span = record.map(|record| (record.from, record.to));
        Self::of(ticker.exchange(), Some(ticker), line, &sums, (usize::try_from(sums.n).unwrap_or(0), span), None)
    }

    fn of(
        exchange: Exchange,
        ticker: Option<&Ticker>,
        line: Line,
        sums: &Sums,
        (sessions, span): (usize, Option<(NaiveDate, NaiveDate)>),
        sure: Option<Sureness>,
    ) -> Self {
        let some = |ratio: f64| (sums.n > 0).then_some(ratio);
        let range = |of: Range| RangeView { lo: of.lo, hi: of.hi };
        let coverage = [(80, sums.cov80()), (95, sums.cov95())].map(|(level, held)| CoverageView { level, held });
        Self {
            exchange: exchange.into(),
            ticker: ticker.map(|ticker| ticker.symbol().to_owned()),
            line: line.into(),
            n: sums.n.unsigned_abs(),
            sessions: sessions as u64,
            from: span.map(|span| span.0),
            to: span.map(|span| span.1),
            rmse_ratio: some(sums.rmse_ratio()),
            rmse_ratio_range: sure.map(|sure| range(sure.rmse_ratio)),
            wis_ratio: some(sums.wis_ratio()),
            wis_ratio_range: sure.map(|sure| range(sure.wis_ratio)),
            wis_ratio_empirical: sums.wis_ratio_eq(),
            coverage: if sums.n > 0 { coverage.to_vec() } else { vec![] },
            direction: sums.direction_excess().map(|excess_points| DirectionView {
                claims: sums.calls.unsigned_abs(),
                hits: sums.hits.unsigned_abs(),
                excess_points,
                excess_range: sure.and_then(|sure| sure.direction_excess).map(range),
            }),
        }
    }
}

/// Accuracy of several.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AccuracyPage {
    /// One for each.
    items: Vec<AccuracyView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

/// Something about the record that should not be so.
#[derive(Debug, Object)]
#[oai(rename = "Alarm", skip_serializing_if_is_none)]
struct AlarmView {
    /// Its id.
    id: Uuid,
    /// Where.
    exchange: ExchangeName,
    /// The symbol; absent when it is about the whole exchange.
    ticker: Option<String>,
    /// Whose forecasts it is about; absent when about none.
    line: Option<LineName>,
    /// What kind.
    kind: AlarmKindName,
    /// In words, with numbers.
    detail: String,
    /// The session that raised it.
    session: NaiveDate,
    /// When it was raised.
    raised_at: DateTime<Utc>,
    /// When it held no longer; absent while it does.
    cleared_at: Option<DateTime<Utc>>,
}

impl AlarmView {
    fn of(alarm: Alarm) -> Result<Self, Problem> {
        let about = alarm.alarm.about;
        Ok(Self {
            id: alarm.id,
            exchange: about.exchange.into(),
            ticker: about.ticker.map(|ticker| ticker.symbol().to_owned()),
            line: if about.line.is_empty() { None } else { Some(word(&about.line)?) },
            kind: about.kind.into(),
            detail: alarm.alarm.detail,
            session: alarm.alarm.session,
            raised_at: alarm.raised_at,
            cleared_at: alarm.cleared_at,
        })
    }
}

/// Alarms, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AlarmPage {
    /// At most `limit` of them.
    items: Vec<AlarmView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

/// A forecast beside the close that came. Errors and scores are shares of `reference`.
#[derive(Debug, Object)]
#[oai(rename = "Score", skip_serializing_if_is_none)]
struct ScoreView {
    /// The session that the forecast turned out to be about.
    session: NaiveDate,
    /// The close that came.
    close: f64,
    /// What it is measured against: the last close after corporate actions.
    reference: f64,
    /// Close less point.
    error: f64,
    /// Close less reference: the error of "tomorrow = today".
    naive_error: f64,
    /// Weighted interval score of the forecast.
    wis: f64,
    /// That of P-EWMA.
    wis_baseline: f64,
    /// That of P-EQ, where the forecast carries one.
    wis_empirical: Option<f64>,
    /// Levels whose interval held the close.
    held: Vec<u32>,
    /// Place of the close in the forecast's distribution, 0 to 1.
    pit: f64,
}

impl From<Scored> for ScoreView {
    fn from(of: Scored) -> Self {
        let held = [(80, of.in80), (95, of.in95)].into_iter().filter(|(_, held)| *held).map(|(level, _)| level);
        Self {
            session: of.session,
            close: of.close,
            reference: of.reference,
            error: of.error,
            naive_error: of.naive_error,
            wis: of.wis,
            wis_baseline: of.wis_ewma,
            wis_empirical: of.wis_eq,
            held: held.collect(),
            pit: of.pit,
        }
    }
}

/// A forecast in the record.
#[derive(Debug, Object)]
#[oai(rename = "RecordedForecast", skip_serializing_if_is_none)]
struct RecordedView {
    /// The forecast as it was stored.
    forecast: ForecastView,
    /// Whether readers got it.
    served: bool,
    /// What became of it.
    outcome: OutcomeName,
    /// Its score; absent unless `outcome` is `scored`.
    score: Option<ScoreView>,
}

/// Forecasts of a ticker, newest target first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct RecordPage {
    /// At most `limit` of them.
    items: Vec<RecordedView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

pub(crate) struct Accuracy;

#[OpenApi(tag = "Tag::Accuracy")]
impl Accuracy {
    /// How good the forecasts of each exchange were.
    ///
    /// Counts forecasts stored before their session opened, once the close is known; see the record of a ticker for each of them.
    #[oai(path = "/v1/accuracy", method = "get", operation_id = "list_accuracy")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// How many of the newest sessions count.
        #[oai(default = "default_window", validator(minimum(value = "1"), maximum(value = "1000")))]
        window: Query<u32>,
    ) -> Result<Json<AccuracyPage>, Problem> {
        let db = &shared.stores().db;
        let mut items = vec![];
        for exchange in [Exchange::Nasdaq, Exchange::Nepse] {
            for line in Line::ALL {
                let days = skill::days(db, exchange, line, i64::from(window.0)).await?;
                items.push(AccuracyView::of_sessions(exchange, None, line, &days));
            }
        }
        Ok(Json(AccuracyPage { items, next_cursor: None }))
    }

    /// How good the forecasts of each ticker of an exchange were.
    #[oai(path = "/v1/accuracy/:exchange", method = "get", operation_id = "list_ticker_accuracy")]
    async fn of_exchange(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// Whose forecasts.
        #[oai(default)]
        line: Query<LineName>,
        /// How many of the newest forecasts of each ticker count.
        #[oai(default = "default_window", validator(minimum(value = "1"), maximum(value = "1000")))]
        window: Query<u32>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<AccuracyPage>, Problem> {
        let (db, exchange) = (&shared.stores().db, exchange_in_path(&exchange)?);
        let after: Option<Ticker> = after("accuracy", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let (rows, more) = page(tickers::list(db, Some(exchange), after.as_ref(), limit as i64 + 1).await?, limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("accuracy", &row.ticker));
        let mut items = vec![];
        for row in rows {
            let scores = skill::newest(db, &row.ticker, line.0.into(), i64::from(window.0)).await?;
            items.push(AccuracyView::of_record(&row.ticker, line.0.into(), Record::of(&scores).as_ref()));
        }
        Ok(Json(AccuracyPage { items, next_cursor }))
    }

    /// How good the forecasts of one ticker were: those that were served, its own model's and the global one's.
    #[oai(path = "/v1/accuracy/:exchange/:ticker", method = "get", operation_id = "get_accuracy")]
    async fn of_ticker(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, AAPL.
        ticker: Path<String>,
        /// How many of the newest forecasts count.
        #[oai(default = "default_window", validator(minimum(value = "1"), maximum(value = "1000")))]
        window: Query<u32>,
    ) -> Result<Json<AccuracyPage>, Problem> {
        let (db, ticker) = (&shared.stores().db, known(&shared, &exchange, &ticker).await?);
        let mut items = vec![];
        for line in Line::ALL {
            let scores = skill::newest(db, &ticker, line, i64::from(window.0)).await?;
            let sessions: Vec<(NaiveDate, Sums)> = scores.iter().map(|row| (row.session, Sums::of(row))).collect();
            items.push(AccuracyView::of_sessions(ticker.exchange(), Some(&ticker), line, &sessions));
        }
        Ok(Json(AccuracyPage { items, next_cursor: None }))
    }

    /// Every forecast of a ticker beside what came.
    ///
    /// Append-only. Hindcasts, issued after their session had opened, stand here and count in no statistic.
    #[oai(path = "/v1/forecasts/:exchange/:ticker/record", method = "get", operation_id = "list_record")]
    async fn record(
        &self,
        shared: Data<&Arc<Shared>>,
        /// NASDAQ or NEPSE.
        exchange: Path<String>,
        /// The symbol, AAPL.
        ticker: Path<String>,
        /// Also what the models said that were not served.
        #[oai(default)]
        all: Query<bool>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<RecordPage>, Problem> {
        let (db, ticker) = (&shared.stores().db, known(&shared, &exchange, &ticker).await?);
        let before: Option<Pair<NaiveDate, Uuid>> = after("record", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let rows = skill::record(db, &ticker, all.0, before.map(|at| (at.0, at.1)), limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let place = |row: &Recorded| Pair(row.stored.forecast.target, row.stored.id);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("record", place(row)));
        let items = rows.into_iter().map(RecordedView::of).collect::<Result<_, _>>()?;
        Ok(Json(RecordPage { items, next_cursor }))
    }

    /// What is alarming about the record, newest first.
    #[oai(path = "/v1/alarms", method = "get", operation_id = "list_alarms")]
    async fn alarms(
        &self,
        shared: Data<&Arc<Shared>>,
        /// Only this exchange: NASDAQ or NEPSE.
        exchange: Query<Option<String>>,
        /// Only those that hold.
        #[oai(default)]
        open: Query<bool>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<AlarmPage>, Problem> {
        let exchange = exchange_in_query(exchange.as_deref())?;
        let before: Option<Pair<At, Uuid>> = after("alarm", cursor.as_deref())?;
        let filter = Filter { exchange, ticker: None, open: open.0, before: before.map(|at| (at.0.0, at.1)) };
        let limit = limit.0 as usize;
        let (rows, more) = page(alarms::list(&shared.stores().db, filter, limit as i64 + 1).await?, limit);
        let next_cursor =
            rows.last().filter(|_| more).map(|row| self::cursor("alarm", Pair(At(row.raised_at), row.id)));
        let items = rows.into_iter().map(AlarmView::of).collect::<Result<_, _>>()?;
        Ok(Json(AlarmPage { items, next_cursor }))
    }
}

impl RecordedView {
    fn of(row: Recorded) -> Result<Self, Problem> {
        let outcome = row.settled.as_deref().map_or(Ok(OutcomeName::Waiting), word)?;
        Ok(Self {
            forecast: ForecastView::of(row.stored, false, None),
            served: row.served,
            outcome,
            score: row.scored.map(ScoreView::from),
        })
    }
}

async fn known(shared: &Shared, exchange: &str, ticker: &str) -> Result<Ticker, Problem> {
    let ticker = ticker_in_path(exchange, ticker)?;
    match tickers::get(&shared.stores().db, &ticker).await? {
        Some(_) => Ok(ticker),
        None => Err(unknown_ticker(&ticker)),
    }
}

fn default_limit() -> u32 {
    50
}

fn default_window() -> u32 {
    250
}
