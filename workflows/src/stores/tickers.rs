//! The equities we know. A ticker's row is also the lock that keeps two archivings of it apart.

use super::ticker_of;
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx, on_write};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Exchange, Ticker};

/// A ticker as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct TickerRow {
    /// Which.
    pub ticker: Ticker,
    /// The company's or fund's name, where known.
    pub name: Option<String>,
    /// Whether schedules start runs for it.
    pub active: bool,
    /// Archived bars.
    pub bars: i64,
    /// Newest archived session.
    pub last_session: Option<NaiveDate>,
    /// Hash of the model that serves.
    pub champion: Option<String>,
}

/// Makes the tickers known; those that are known stay as they are.
pub async fn add(db: &Db, tickers: &[Ticker], now: DateTime<Utc>) -> StoreResult<()> {
    for chunk in tickers.chunks(1_000) {
        on_write!(db, |c| {
            let mut query = sqlx::QueryBuilder::new("insert into ticker (exchange, ticker, added_at) ");
            query.push_values(chunk, |mut row, ticker| {
                row.push_bind(ticker.exchange().as_str())
                    .push_bind(ticker.symbol().to_owned())
                    .push_bind(Ts::from(now));
            });
            query.push(" on conflict do nothing");
            query.build().execute(c).await.rows()
        })
        .doing("add tickers")?;
    }
    Ok(())
}

type Columns = (String, String, Option<String>, bool, Option<i64>, Option<NaiveDate>, Option<String>);

fn row((exchange, symbol, name, active, bars, last_session, champion): Columns) -> StoreResult<TickerRow> {
    Ok(TickerRow {
        ticker: ticker_of(&exchange, &symbol)?,
        name,
        active,
        bars: bars.unwrap_or(0),
        last_session,
        champion,
    })
}

/// Tickers in order, after `after`, at most `limit`, perhaps of one exchange.
pub async fn list(
    db: &Db,
    exchange: Option<Exchange>,
    after: Option<&Ticker>,
    limit: i64,
) -> StoreResult<Vec<TickerRow>> {
    let (after_exchange, after_symbol) = after.map_or(("", ""), |t| (t.exchange().as_str(), t.symbol()));
    let rows: Vec<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select t.exchange, t.ticker, t.name, t.active, s.bars, s.last_session, t.champion
             from ticker t left join series s on s.exchange = t.exchange and s.ticker = t.ticker
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
    .doing("list tickers")?;
    rows.into_iter().map(row).collect()
}

/// One ticker, or `None` when it is unknown.
pub async fn get(db: &Db, ticker: &Ticker) -> StoreResult<Option<TickerRow>> {
    let found: Option<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select t.exchange, t.ticker, t.name, t.active, s.bars, s.last_session, t.champion
             from ticker t left join series s on s.exchange = t.exchange and s.ticker = t.ticker
             where t.exchange = $1 and t.ticker = $2",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .fetch_optional(c)
        .await
    })
    .doing("look up a ticker")?;
    found.map(row).transpose()
}

/// Locks the ticker's row until the transaction ends, making it when absent, and raises its series version.
pub(crate) async fn lock_and_bump(tx: &mut Tx, ticker: &Ticker, now: DateTime<Utc>) -> StoreResult<i64> {
    on_tx!(tx, |c| {
        sqlx::query_scalar(
            "insert into ticker (exchange, ticker, series_version, added_at) values ($1, $2, 1, $3)
             on conflict (exchange, ticker) do update set series_version = ticker.series_version + 1
             returning series_version",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(Ts::from(now))
        .fetch_one(c)
        .await
    })
    .doing("lock a ticker")
}

/// Makes the ticker's row and with it its lock, unless there is one; whether it was made here. Waits for another writer who makes it just now.
pub(super) async fn lock_new(tx: &mut Tx, ticker: &Ticker, now: DateTime<Utc>) -> StoreResult<bool> {
    let made = on_tx!(tx, |c| {
        sqlx::query("insert into ticker (exchange, ticker, series_version, added_at) values ($1, $2, 0, $3) on conflict do nothing")
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
    })
    .doing("lock a new ticker")?;
    Ok(made == 1)
}

/// Takes back a row that this transaction has made.
pub(super) async fn forget(tx: &mut Tx, ticker: &Ticker) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query("delete from ticker where exchange = $1 and ticker = $2")
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .execute(c)
            .await
            .rows()
    })
    .doing("unlock a new ticker")?;
    Ok(())
}
