//! The archive: every version of every bar (`price_raw`), the chosen one (`price_daily`), observed sessions, and the derived series block. In comes a batch, out goes what it changed. Archiving the same batch twice changes nothing.

use super::actions::{self, Announced};
use super::{block, listings, market_days, tickers};
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Bar, Batch, Series, Ticker};
use sqlx::QueryBuilder;
use std::collections::HashMap;

/// What archiving a batch changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Archived {
    /// Sessions that were not there.
    pub new: usize,
    /// Sessions whose bar changed: a new revision was appended.
    pub revised: usize,
    /// The series version that it made.
    pub version: i64,
}

/// Rows per statement: 15 binds each stay far below SQLite's 32,766.
const CHUNK: usize = 500;

/// Archives the batch. Other writers of these rows: only this function; the ticker row, locked first, keeps two apart.
pub(crate) async fn put(tx: &mut Tx, batch: &Batch, now: DateTime<Utc>) -> StoreResult<Archived> {
    let (version, listing) = tickers::lock_and_bump(tx, &batch.ticker, now).await?;
    let old = series_in(tx, &batch.ticker).await?;
    let known = known_revisions(tx, batch).await?;
    let mut archived = Archived { version, ..Archived::default() };
    let mut fresh: Vec<(Bar, i64)> = Vec::new();
    for bar in &batch.bars {
        match known.get(&bar.session) {
            Some((_, last)) if last == bar => {}
            Some((revision, _)) => {
                archived.revised += 1;
                fresh.push((*bar, revision + 1));
            }
            None => {
                archived.new += 1;
                fresh.push((*bar, 0));
            }
        }
    }
    for chunk in fresh.chunks(CHUNK) {
        append_raw(tx, batch, chunk, version).await?;
        upsert_daily(tx, batch, chunk).await?;
        observe_sessions(tx, batch, chunk, now).await?;
    }
    let announced: Vec<Announced> = batch.factors.iter().map(|factor| Announced { factor: *factor, at: now }).collect();
    actions::put(tx, &batch.ticker, &batch.source, &announced, version, now).await?;
    let factors = actions::read(tx, &batch.ticker).await?;
    // The block follows the chosen version: what this batch changed is laid over what stood there.
    let chosen: Vec<Bar> = fresh.iter().map(|(bar, _)| *bar).collect();
    let empty = || Series::new(batch.ticker.clone(), Vec::new(), Vec::new());
    let base = match old {
        Some(series) => series,
        None => empty().map_err(|e| crate::db::StoreError::Unreadable { what: "empty series", why: e.to_string() })?,
    };
    let series = base.with(&chosen, &factors);
    if !fresh.is_empty() {
        let changes = market::changes(&series, market_days::REPORTED);
        let changes: Vec<_> = changes.into_iter().map(|(session, change)| (session, Some(change))).collect();
        market_days::see(tx, &batch.ticker, &changes, now).await?;
        listings::bars_came(tx, &batch.ticker, &listing, series.last_session(), now).await?;
    }
    write_series(tx, &series, version).await?;
    Ok(archived)
}

/// Archives a batch by itself (an import), in a transaction of its own.
pub async fn import(db: &Db, batch: &Batch, now: DateTime<Utc>) -> StoreResult<Archived> {
    let mut tx = db.begin().await?;
    let archived = put(&mut tx, batch, now).await?;
    tx.commit().await?;
    Ok(archived)
}

/// The ticker's series, or `None` when nothing was ever archived.
pub async fn series(db: &Db, ticker: &Ticker) -> StoreResult<Option<Series>> {
    Ok(series_and_version(db, ticker).await?.map(|(series, _)| series))
}

/// The same with its version, by which [`super::as_known`] finds it again.
pub async fn series_and_version(db: &Db, ticker: &Ticker) -> StoreResult<Option<(Series, i64)>> {
    let found: Option<(Vec<u8>, i64)> = on_read!(db, |c| {
        sqlx::query_as("select block, version from series where exchange = $1 and ticker = $2")
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .fetch_optional(c)
            .await
    })
    .doing("read a series")?;
    found.map(|(bytes, version)| Ok((block::read(ticker.clone(), &bytes)?, version))).transpose()
}

/// A row of `price_raw`.
#[derive(sqlx::FromRow)]
pub(super) struct RawRow {
    session: NaiveDate,
    revision: i64,
    open: Option<f64>,
    high: Option<f64>,
    low: Option<f64>,
    close: f64,
    ltp: Option<f64>,
    prev_close: Option<f64>,
    volume: Option<f64>,
}

impl RawRow {
    pub(super) fn bar(&self) -> Bar {
        Bar {
            session: self.session,
            open: self.open,
            high: self.high,
            low: self.low,
            close: self.close,
            ltp: self.ltp,
            prev_close: self.prev_close,
            volume: self.volume,
        }
    }
}

/// The newest revision that this source gave for each session of the batch.
async fn known_revisions(tx: &mut Tx, batch: &Batch) -> StoreResult<HashMap<NaiveDate, (i64, Bar)>> {
    let (Some(first), Some(last)) = (batch.bars.first(), batch.bars.last()) else { return Ok(HashMap::new()) };
    let rows: Vec<RawRow> = on_tx!(tx, |c| {
        sqlx::query_as(
            "select session, revision, open, high, low, close, ltp, prev_close, volume from price_raw
             where exchange = $1 and ticker = $2 and session >= $3 and session <= $4 and source = $5
             order by session, revision",
        )
        .bind(batch.ticker.exchange().as_str())
        .bind(batch.ticker.symbol())
        .bind(first.session)
        .bind(last.session)
        .bind(&batch.source)
        .fetch_all(c)
        .await
    })
    .doing("read the archived revisions")?;
    Ok(rows.into_iter().map(|row| (row.session, (row.revision, row.bar()))).collect())
}

async fn append_raw(tx: &mut Tx, batch: &Batch, rows: &[(Bar, i64)], version: i64) -> StoreResult<()> {
    const HEAD: &str = "insert into price_raw (exchange, ticker, session, source, revision, fetched_at, open, high, low, close, ltp, prev_close, volume, body_sha256, archived_version) ";
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new(HEAD);
        query.push_values(rows, |mut row, (bar, revision)| {
            row.push_bind(batch.ticker.exchange().as_str())
                .push_bind(batch.ticker.symbol().to_owned())
                .push_bind(bar.session)
                .push_bind(batch.source.clone())
                .push_bind(*revision)
                .push_bind(Ts::from(batch.fetched_at))
                .push_bind(bar.open)
                .push_bind(bar.high)
                .push_bind(bar.low)
                .push_bind(bar.close)
                .push_bind(bar.ltp)
                .push_bind(bar.prev_close)
                .push_bind(bar.volume)
                .push_bind(batch.body_sha256.clone())
                .push_bind(version);
        });
        query.build().execute(c).await.rows()
    })
    .doing("append to the archive")?;
    Ok(())
}

async fn upsert_daily(tx: &mut Tx, batch: &Batch, rows: &[(Bar, i64)]) -> StoreResult<()> {
    const HEAD: &str = "insert into price_daily (exchange, ticker, session, source, revision, open, high, low, close, ltp, prev_close, volume) ";
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new(HEAD);
        query.push_values(rows, |mut row, (bar, revision)| {
            row.push_bind(batch.ticker.exchange().as_str())
                .push_bind(batch.ticker.symbol().to_owned())
                .push_bind(bar.session)
                .push_bind(batch.source.clone())
                .push_bind(*revision)
                .push_bind(bar.open)
                .push_bind(bar.high)
                .push_bind(bar.low)
                .push_bind(bar.close)
                .push_bind(bar.ltp)
                .push_bind(bar.prev_close)
                .push_bind(bar.volume);
        });
        query.push(
            " on conflict (exchange, ticker, session) do update set source = excluded.source, revision = excluded.revision,
                open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, ltp = excluded.ltp,
                prev_close = excluded.prev_close, volume = excluded.volume",
        );
        query.build().execute(c).await.rows()
    })
    .doing("choose the daily prices")?;
    Ok(())
}

async fn observe_sessions(tx: &mut Tx, batch: &Batch, rows: &[(Bar, i64)], now: DateTime<Utc>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("insert into session (exchange, session, evidence, observed_at) ");
        query.push_values(rows, |mut row, (bar, _)| {
            row.push_bind(batch.ticker.exchange().as_str())
                .push_bind(bar.session)
                .push_bind(format!("{} from {}", batch.ticker.symbol(), batch.source))
                .push_bind(Ts::from(now));
        });
        query.push(" on conflict do nothing");
        query.build().execute(c).await.rows()
    })
    .doing("record observed sessions")?;
    Ok(())
}

/// As this transaction sees it.
pub(super) async fn series_in(tx: &mut Tx, ticker: &Ticker) -> StoreResult<Option<Series>> {
    let bytes: Option<Vec<u8>> = on_tx!(tx, |c| {
        sqlx::query_scalar("select block from series where exchange = $1 and ticker = $2")
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .fetch_optional(c)
            .await
    })
    .doing("read a series")?;
    bytes.map(|bytes| block::read(ticker.clone(), &bytes)).transpose()
}

/// Keeps the block; a series without bars has none.
pub(super) async fn write_series(tx: &mut Tx, series: &Series, version: i64) -> StoreResult<()> {
    let (Some(first), Some(last)) = (series.bars().first(), series.bars().last()) else { return Ok(()) };
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into series (exchange, ticker, version, bars, first_session, last_session, block) values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (exchange, ticker) do update set version = excluded.version, bars = excluded.bars,
                first_session = excluded.first_session, last_session = excluded.last_session, block = excluded.block",
        )
        .bind(series.ticker().exchange().as_str())
        .bind(series.ticker().symbol())
        .bind(version)
        .bind(i64::try_from(series.bars().len()).unwrap_or(i64::MAX))
        .bind(first.session)
        .bind(last.session)
        .bind(block::write(series))
        .execute(c)
        .await
        .rows()
    })
    .doing("write a series")?;
    Ok(())
}

/// Sessions of the exchange that were seen in data since `since`, oldest first.
pub async fn observed_sessions(db: &Db, exchange: market::Exchange, since: NaiveDate) -> StoreResult<Vec<NaiveDate>> {
    on_read!(db, |c| {
        sqlx::query_scalar("select session from session where exchange = $1 and session >= $2 order by session")
            .bind(exchange.as_str())
            .bind(since)
            .fetch_all(c)
            .await
    })
    .doing("read the sessions that were seen")
}
