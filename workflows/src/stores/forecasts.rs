//! Every forecast ever made. Append-only; `ticker.forecast_id` points to the newest.

use super::record::Line;
use super::{skill, ticker_of};
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Exchange, Forecast, Scored, Sums, Ticker};
use serde::{Deserialize, Serialize};
use sqlx::types::Json;
use uuid::Uuid;

/// A forecast as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoredForecast {
    /// Its id.
    pub id: Uuid,
    /// The forecast.
    pub forecast: Forecast,
    /// When it was stored, by the engine clock: a later one replaces an earlier one in every cache.
    pub stored_at: DateTime<Utc>,
    /// Whether its target session had opened when it was issued.
    pub hindcast: bool,
    /// How good those before it were that readers got, when it was read; only where one forecast was asked for, and any was scored.
    #[serde(default)]
    pub record: Option<Record>,
}

impl StoredForecast {
    /// One that was made at once for a reader and is not stored: its id is nil.
    pub fn unstored(forecast: Forecast, hindcast: bool, now: DateTime<Utc>) -> Self {
        Self { id: Uuid::nil(), forecast, stored_at: now, hindcast, record: None }
    }
}

/// Scores of a ticker, added up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The sums; a session has at most one score.
    pub sums: Sums,
    /// The first session.
    pub from: NaiveDate,
    /// The last.
    pub to: NaiveDate,
}

/// The newest scores that stand beside a forecast: a year of sessions.
const RECORDED: i64 = 250;

impl Record {
    /// Of scores, newest first; `None` when there are none.
    pub fn of(newest: &[Scored]) -> Option<Self> {
        let (to, from) = (newest.first()?.session, newest.last()?.session);
        let mut sums = Sums::default();
        newest.iter().for_each(|row| sums.add(row));
        Some(Self { sums, from, to })
    }
}

/// How a forecast counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct How {
    /// Its target session had opened when it was issued.
    pub hindcast: bool,
    /// Readers get it; false for what a challenger said.
    pub served: bool,
    /// When its target session opens, by the market clock.
    pub opens_at: DateTime<Utc>,
    /// When it was made, by the engine clock.
    pub made_at: DateTime<Utc>,
}

impl How {
    /// Whether the session has opened by the time it is written: what was thought of in time and said too late is hindsight too.
    fn is_hindcast(&self, issued_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        self.hindcast || issued_at + (now - self.made_at).max(TimeDelta::zero()) >= self.opens_at
    }
}

/// The id of a forecast: it follows from what makes the forecast unique, so that writing it twice needs no look-up.
pub fn id_of(forecast: &Forecast) -> Uuid {
    let name = format!(
        "{}|{}|{}|{}|{}",
        forecast.ticker, forecast.as_of, forecast.target, forecast.model_version, forecast.input_hash
    );
    Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes())
}

/// Stores a forecast. The same one again (ticker, as-of, target, model and input equal) changes nothing but which
/// run it is said to come from, when none was, and whether readers got it; the answer is then the first. What a challenger said in time does not
/// become what readers got by being served after the fact.
pub(crate) async fn put(
    tx: &mut Tx,
    forecast: &Forecast,
    how: How,
    run: Option<Uuid>,
    now: DateTime<Utc>,
) -> StoreResult<Uuid> {
    let (exchange, symbol) = (forecast.ticker.exchange().as_str(), forecast.ticker.symbol());
    let id = id_of(forecast);
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into forecast (id, exchange, ticker, as_of, target, model_version, input_hash, kind, issued_at, stored_at, body, run_id, served,
               opens_at, made_by)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)
             on conflict (id) do update set run_id = coalesce(forecast.run_id, excluded.run_id), served = forecast.served or (excluded.served and excluded.kind = forecast.kind)",
        )
        .bind(id)
        .bind(exchange)
        .bind(symbol)
        .bind(forecast.as_of)
        .bind(forecast.target)
        .bind(&forecast.model_version)
        .bind(&forecast.input_hash)
        .bind(if how.is_hindcast(forecast.issued_at, now) { "hindcast" } else { "forecast" })
        .bind(Ts::from(forecast.issued_at))
        .bind(Ts::from(now))
        .bind(Json(forecast))
        .bind(run)
        .bind(how.served)
        .bind(Ts::from(how.opens_at))
        .bind(forecast.made_by.as_str())
        .execute(c)
        .await
        .rows()
    })
    .doing("store a forecast")?;
    if !how.served {
        return Ok(id);
    }
    // Compare-and-set: a forecast from older data never becomes the newest.
    on_tx!(tx, |c| {
        sqlx::query(
            "update ticker set forecast_id = $3 where exchange = $1 and ticker = $2
               and not exists (select 1 from forecast f where f.id = ticker.forecast_id and (f.as_of, f.target) > ($4, $5))",
        )
        .bind(exchange)
        .bind(symbol)
        .bind(id)
        .bind(forecast.as_of)
        .bind(forecast.target)
        .execute(c)
        .await
        .rows()
    })
    .doing("point to the newest forecast")?;
    Ok(id)
}

/// Stores a forecast by itself (a cache miss that predicted at once), in a transaction of its own.
pub async fn store(db: &Db, forecast: &Forecast, how: How, now: DateTime<Utc>) -> StoreResult<()> {
    let mut tx = db.begin().await?;
    put(&mut tx, forecast, how, None, now).await?;
    tx.commit().await
}

type Columns = (Uuid, Json<Forecast>, Ts, String);

pub(super) fn row((id, body, stored_at, kind): Columns) -> StoredForecast {
    StoredForecast { id, forecast: body.0, stored_at: stored_at.0, hindcast: kind == "hindcast", record: None }
}

/// The forecast of that id.
pub async fn get(db: &Db, id: Uuid) -> StoreResult<Option<StoredForecast>> {
    let found: Option<Columns> = on_read!(db, |c| {
        sqlx::query_as("select id, body, stored_at, kind from forecast where id = $1").bind(id).fetch_optional(c).await
    })
    .doing("read a forecast")?;
    Ok(found.map(row))
}

/// The ticker's newest forecast, with its record.
pub async fn latest(db: &Db, ticker: &Ticker) -> StoreResult<Option<StoredForecast>> {
    let found: Option<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select f.id, f.body, f.stored_at, f.kind from ticker t join forecast f on f.id = t.forecast_id
             where t.exchange = $1 and t.ticker = $2",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .fetch_optional(c)
        .await
    })
    .doing("read the newest forecast")?;
    let Some(found) = found else { return Ok(None) };
    let record = Record::of(&skill::newest(db, ticker, Line::Served, RECORDED).await?);
    Ok(Some(StoredForecast { record, ..row(found) }))
}

/// As-of and target of the newest forecast that a run made. One that a reader's question made does not count: its session has yet to be
/// trained on.
pub async fn latest_of_a_run(db: &Db, ticker: &Ticker) -> StoreResult<Option<(NaiveDate, NaiveDate)>> {
    on_read!(db, |c| {
        sqlx::query_as(
            "select as_of, target from forecast where exchange = $1 and ticker = $2 and run_id is not null and served
             order by as_of desc, target desc limit 1",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .fetch_optional(c)
        .await
    })
    .doing("read the newest forecast of a run")
}

/// The newest forecast of each ticker in order, after `after`, at most `limit`, perhaps of one exchange.
pub async fn list_latest(
    db: &Db,
    exchange: Option<Exchange>,
    after: Option<&Ticker>,
    limit: i64,
) -> StoreResult<Vec<StoredForecast>> {
    let (after_exchange, after_symbol) = after.map_or(("", ""), |t| (t.exchange().as_str(), t.symbol()));
    let rows: Vec<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select f.id, f.body, f.stored_at, f.kind from ticker t join forecast f on f.id = t.forecast_id
             where (t.exchange, t.ticker) > ($1, $2) and ($3 is null or t.exchange = $3)
             order by t.exchange, t.ticker limit $4",
        )
        .bind(after_exchange)
        .bind(after_symbol)
        .bind(exchange.map(Exchange::as_str))
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("list the newest forecasts")?;
    Ok(rows.into_iter().map(row).collect())
}

/// How many forecasts are stored for the ticker.
pub async fn count(db: &Db, exchange: &str, symbol: &str) -> StoreResult<i64> {
    let ticker = ticker_of(exchange, symbol)?;
    on_read!(db, |c| {
        sqlx::query_scalar("select count(*) from forecast where exchange = $1 and ticker = $2")
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .fetch_one(c)
            .await
    })
    .doing("count forecasts")
}
