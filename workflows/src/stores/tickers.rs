//! The equities we know. A ticker's row is also the lock that keeps two archivings of it apart.

use super::listings::{state_of, successor_of};
use super::ticker_of;
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx, on_write};
use chrono::{DateTime, NaiveDate, Utc};
use market::listing::Listing;
use market::universe::Origin;
use market::{Exchange, ListingState, Ticker};
use std::collections::BTreeSet;

/// A ticker as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct TickerRow {
    /// Which.
    pub ticker: Ticker,
    /// The company's or fund's name, where known.
    pub name: Option<String>,
    /// Whether schedules start runs for it: it is followed, and new or active.
    pub active: bool,
    /// Where it stands.
    pub state: ListingState,
    /// Since when, by the engine clock.
    pub since: DateTime<Utc>,
    /// Why: the evidence, or an operator's reason. May be empty.
    pub why: String,
    /// `evidence` or `operator`.
    pub decided_by: String,
    /// What stands in its place.
    pub successor: Option<Ticker>,
    /// Why the universe of this installation does not have it; `None` when it does.
    pub unfollowed: Option<String>,
    /// Archived bars.
    pub bars: i64,
    /// Newest archived session.
    pub last_session: Option<NaiveDate>,
    /// Hash of the model that serves.
    pub champion: Option<String>,
}

/// Makes the tickers known because somebody named them; those that are known stay as they are, but count as named.
pub async fn add(db: &Db, tickers: &[Ticker], now: DateTime<Utc>) -> StoreResult<()> {
    add_from(db, tickers, Origin::Named, now).await.map(|_| ())
}

/// The same with the way by which they became known; whoever was named stays so. How many rows that touched.
pub async fn add_from(db: &Db, tickers: &[Ticker], origin: Origin, now: DateTime<Utc>) -> StoreResult<u64> {
    // Each once: a statement may not touch a row twice.
    let tickers: Vec<&Ticker> = tickers.iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut touched = 0;
    for chunk in tickers.chunks(1_000) {
        touched += on_write!(db, |c| {
            let mut query = sqlx::QueryBuilder::new("insert into ticker (exchange, ticker, added_at, origin) ");
            query.push_values(chunk, |mut row, ticker| {
                row.push_bind(ticker.exchange().as_str())
                    .push_bind(ticker.symbol().to_owned())
                    .push_bind(Ts::from(now))
                    .push_bind(origin.as_str());
            });
            query.push(
                " on conflict (exchange, ticker) do update set origin = excluded.origin
                  where excluded.origin = 'named' and ticker.origin <> 'named'",
            );
            query.build().execute(c).await.rows()
        })
        .doing("add tickers")?;
    }
    Ok(touched)
}

/// A row of the lists.
#[derive(sqlx::FromRow)]
struct Columns {
    exchange: String,
    ticker: String,
    name: Option<String>,
    active: bool,
    state: String,
    since: Ts,
    state_why: String,
    decided_by: String,
    successor: Option<String>,
    followed: bool,
    unfollowed_why: String,
    bars: Option<i64>,
    last_session: Option<NaiveDate>,
    champion: Option<String>,
}

fn row(columns: Columns) -> StoreResult<TickerRow> {
    Ok(TickerRow {
        ticker: ticker_of(&columns.exchange, &columns.ticker)?,
        name: columns.name,
        active: columns.active,
        state: state_of(&columns.state)?,
        since: columns.since.0,
        why: columns.state_why,
        decided_by: columns.decided_by,
        successor: columns.successor.as_deref().map(successor_of).transpose()?,
        unfollowed: (!columns.followed).then_some(columns.unfollowed_why),
        bars: columns.bars.unwrap_or(0),
        last_session: columns.last_session,
        champion: columns.champion,
    })
}

/// Tickers in order, after `after`, at most `limit`, perhaps of one exchange.
pub async fn list(
    db: &Db,
    exchange: Option<Exchange>,
    after: Option<&Ticker>,
    limit: i64,
) -> StoreResult<Vec<TickerRow>> {
    list_in(db, exchange, None, after, limit).await
}

/// The same, perhaps only those in one state.
pub async fn list_in(
    db: &Db,
    exchange: Option<Exchange>,
    state: Option<ListingState>,
    after: Option<&Ticker>,
    limit: i64,
) -> StoreResult<Vec<TickerRow>> {
    let (after_exchange, after_symbol) = after.map_or(("", ""), |t| (t.exchange().as_str(), t.symbol()));
    let rows: Vec<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select t.exchange, t.ticker, t.name, t.active, t.state, coalesce(t.state_since, t.added_at) as since, t.state_why, t.decided_by, t.successor,
                    t.followed, t.unfollowed_why, s.bars, s.last_session, t.champion
             from ticker t left join series s on s.exchange = t.exchange and s.ticker = t.ticker
             where (t.exchange, t.ticker) > ($1, $2) and ($3 is null or t.exchange = $3)
               and ($4 is null or t.state = $4)
             order by t.exchange, t.ticker limit $5",
        )
        .bind(after_exchange)
        .bind(after_symbol)
        .bind(exchange.map(Exchange::as_str))
        .bind(state.map(ListingState::as_str))
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
            "select t.exchange, t.ticker, t.name, t.active, t.state, coalesce(t.state_since, t.added_at) as since, t.state_why, t.decided_by, t.successor,
                    t.followed, t.unfollowed_why, s.bars, s.last_session, t.champion
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

/// Locks the ticker's row until the transaction ends, making it when absent, and raises its series version; also where it stands.
pub(crate) async fn lock_and_bump(tx: &mut Tx, ticker: &Ticker, now: DateTime<Utc>) -> StoreResult<(i64, Listing)> {
    let (version, state, by, bar_then): (i64, String, String, Option<NaiveDate>) = on_tx!(tx, |c| {
        sqlx::query_as(
            "insert into ticker (exchange, ticker, series_version, added_at) values ($1, $2, 1, $3)
             on conflict (exchange, ticker) do update set series_version = ticker.series_version + 1
             returning series_version, state, decided_by, bar_then",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(Ts::from(now))
        .fetch_one(c)
        .await
    })
    .doing("lock a ticker")?;
    Ok((version, Listing { state: state_of(&state)?, by_operator: by == "operator", bar_then }))
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
