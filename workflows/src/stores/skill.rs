//! What the scores of the public record add up to: rows of one ticker, sums by session of a ticker or an exchange, and the record itself as a list.

use super::forecasts::{self, StoredForecast};
use super::record::Line;
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::NaiveDate;
use market::{Exchange, Forecast, Scored, Sums, Ticker};
use sqlx::types::Json;
use std::collections::BTreeMap;
use uuid::Uuid;

/// A score as it is stored.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(super) struct ScoreRow {
    session: NaiveDate,
    close: f64,
    reference: f64,
    scale: f64,
    error: f64,
    naive_error: f64,
    wis: f64,
    wis_ewma: f64,
    wis_eq: Option<f64>,
    in80: bool,
    in95: bool,
    pit: f64,
    call: i64,
    came: i64,
}

impl From<ScoreRow> for Scored {
    fn from(row: ScoreRow) -> Self {
        Scored {
            session: row.session,
            close: row.close,
            reference: row.reference,
            scale: row.scale,
            error: row.error,
            naive_error: row.naive_error,
            wis: row.wis,
            wis_ewma: row.wis_ewma,
            wis_eq: row.wis_eq,
            in80: row.in80,
            in95: row.in95,
            pit: row.pit,
            call: row.call,
            came: row.came,
        }
    }
}

/// The ticker's newest scores in one line, hindcasts left out, newest first.
pub async fn newest(db: &Db, ticker: &Ticker, line: Line, limit: i64) -> StoreResult<Vec<Scored>> {
    let rows: Vec<ScoreRow> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, close, reference, scale, error, naive_error, wis, wis_ewma, wis_eq, in80, in95, pit, call, came from score
             where newest and not hindcast and exchange = $1 and ticker = $2
               and case when $3 = 'served' then served else made_by = $3 end order by session desc limit $4",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(line.as_str())
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("read the newest scores of a ticker")?;
    Ok(rows.into_iter().map(Scored::from).collect())
}

#[derive(sqlx::FromRow)]
struct DayRow {
    session: NaiveDate,
    n: i64,
    squares: f64,
    naive_squares: f64,
    wis: f64,
    wis_ewma: f64,
    wis_beside_eq: f64,
    wis_eq: f64,
    in80: i64,
    in95: i64,
    pit: f64,
    calls: i64,
    hits: i64,
    said_up: i64,
    came_up: i64,
}

impl From<DayRow> for (NaiveDate, Sums) {
    fn from(row: DayRow) -> Self {
        let sums = Sums {
            n: row.n,
            squares: row.squares,
            naive_squares: row.naive_squares,
            wis: row.wis,
            wis_ewma: row.wis_ewma,
            wis_beside_eq: row.wis_beside_eq,
            wis_eq: row.wis_eq,
            in80: row.in80,
            in95: row.in95,
            pit: row.pit,
            calls: row.calls,
            hits: row.hits,
            said_up: row.said_up,
            came_up: row.came_up,
        };
        (row.session, sums)
    }
}

/// Sums of the exchange's newest sessions that have scores in this line, newest first.
pub async fn days(db: &Db, exchange: Exchange, line: Line, limit: i64) -> StoreResult<Vec<(NaiveDate, Sums)>> {
    let rows: Vec<DayRow> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, n, squares, naive_squares, wis, wis_ewma, wis_beside_eq, wis_eq, in80, in95, pit, calls, hits, said_up, came_up
             from skill_day where exchange = $1 and line = $2 and n > 0 order by session desc limit $3",
        )
        .bind(exchange.as_str())
        .bind(line.as_str())
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("read the skill of an exchange")?;
    Ok(rows.into_iter().map(Into::into).collect())
}

pub(super) async fn write_day(
    tx: &mut Tx,
    exchange: Exchange,
    line: Line,
    session: NaiveDate,
    sums: &Sums,
) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into skill_day (exchange, line, session, n, squares, naive_squares, wis, wis_ewma, wis_beside_eq, wis_eq, in80, in95, pit,
               calls, hits, said_up, came_up)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)
             on conflict (exchange, line, session) do update set n = excluded.n, squares = excluded.squares,
               naive_squares = excluded.naive_squares, wis = excluded.wis, wis_ewma = excluded.wis_ewma,
               wis_beside_eq = excluded.wis_beside_eq, wis_eq = excluded.wis_eq, in80 = excluded.in80, in95 = excluded.in95,
               pit = excluded.pit, calls = excluded.calls, hits = excluded.hits, said_up = excluded.said_up, came_up = excluded.came_up",
        )
        .bind(exchange.as_str())
        .bind(line.as_str())
        .bind(session)
        .bind(sums.n)
        .bind(sums.squares)
        .bind(sums.naive_squares)
        .bind(sums.wis)
        .bind(sums.wis_ewma)
        .bind(sums.wis_beside_eq)
        .bind(sums.wis_eq)
        .bind(sums.in80)
        .bind(sums.in95)
        .bind(sums.pit)
        .bind(sums.calls)
        .bind(sums.hits)
        .bind(sums.said_up)
        .bind(sums.came_up)
        .execute(c)
        .await
        .rows()
    })
    .doing("write the skill of a session")?;
    Ok(())
}

/// A forecast in the record.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// The forecast.
    pub stored: StoredForecast,
    /// Whether it is one that readers got; once it is scored, as the last word on its session.
    pub served: bool,
    /// What became of it: `scored`, `not_traded`, `no_close`, `superseded`; `None` while its close is not known.
    pub settled: Option<String>,
    /// Its score.
    pub scored: Option<Scored>,
}

type RecordColumns = (Uuid, Json<Forecast>, Ts, String, bool, Option<String>);

/// Forecasts of a ticker, newest target first, before `before` (target, id), at most `limit`. `all`: also those that readers did not get.
pub async fn record(
    db: &Db,
    ticker: &Ticker,
    all: bool,
    before: Option<(NaiveDate, Uuid)>,
    limit: i64,
) -> StoreResult<Vec<Recorded>> {
    let (target, id) = before.unwrap_or((NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or(NaiveDate::MAX), Uuid::max()));
    let rows: Vec<RecordColumns> = on_read!(db, |c| {
        sqlx::query_as(
            "select id, body, stored_at, kind, served, settled from forecast
             where exchange = $1 and ticker = $2 and (served or $3) and (target, id) < ($4, $5) order by target desc, id desc limit $6",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(all)
        .bind(target)
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("list the forecasts of a ticker")?;
    let scores = scores_of(db, ticker, &rows).await?;
    let recorded = |(id, body, stored_at, kind, served, settled): RecordColumns| {
        let score = scores.get(&id);
        Recorded {
            stored: forecasts::row((id, body, stored_at, kind)),
            served: score.map_or(served, |(_, served)| *served),
            settled,
            scored: score.map(|(scored, _)| *scored),
        }
    };
    Ok(rows.into_iter().map(recorded).collect())
}

/// The scores of these forecasts of a ticker.
async fn scores_of(db: &Db, ticker: &Ticker, rows: &[RecordColumns]) -> StoreResult<BTreeMap<Uuid, (Scored, bool)>> {
    #[derive(sqlx::FromRow)]
    struct Row {
        forecast_id: Uuid,
        served: bool,
        #[sqlx(flatten)]
        score: ScoreRow,
    }
    let Some(first) = rows.iter().map(|row| row.1.0.as_of).min() else { return Ok(BTreeMap::new()) };
    let scores: Vec<Row> = on_read!(db, |c| {
        sqlx::query_as(
            "select forecast_id, served, session, close, reference, scale, error, naive_error, wis, wis_ewma, wis_eq, in80, in95, pit, call, came
             from score where newest and exchange = $1 and ticker = $2 and session > $3",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(first)
        .fetch_all(c)
        .await
    })
    .doing("read the scores of a ticker")?;
    Ok(scores.into_iter().map(|row| (row.forecast_id, (row.score.into(), row.served))).collect())
}
