//! The market's own return of each session. Scraping and archiving say what they saw of each ticker, also that it did not trade; when nine of ten
//! have been seen, or the deadline has come, the session gets its row, once, and the steps that wait for it go on.

use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Exchange, MarketDay, Ticker, market_condition};
use sqlx::QueryBuilder;

/// How many of a ticker's newest sessions are reported: those that may not be complete yet.
pub const REPORTED: usize = 5;
/// Rows per statement.
const CHUNK: usize = 500;

/// Every session's market return, oldest first.
pub async fn list(db: &Db, exchange: Exchange) -> StoreResult<Vec<MarketDay>> {
    let rows: Vec<(NaiveDate, f64, i64)> = on_read!(db, |c| {
        sqlx::query_as("select session, mean_return, tickers from market_day where exchange = $1 order by session")
            .bind(exchange.as_str())
            .fetch_all(c)
            .await
    })
    .doing("read the market's returns")?;
    let day = |(session, mean_return, tickers)| MarketDay {
        session,
        mean_return,
        tickers: u32::try_from(tickers).unwrap_or(u32::MAX),
    };
    Ok(rows.into_iter().map(day).collect())
}

/// Whether the session has its row.
pub async fn is_written(db: &Db, exchange: Exchange, session: NaiveDate) -> StoreResult<bool> {
    let found: Option<i64> = on_read!(db, |c| {
        sqlx::query_scalar("select tickers from market_day where exchange = $1 and session = $2")
            .bind(exchange.as_str())
            .bind(session)
            .fetch_optional(c)
            .await
    })
    .doing("look for the market's return of a session")?;
    Ok(found.is_some())
}

/// When the first close of a session that has no row yet was seen; `None` when none was. Its row is written at the deadline at the latest.
pub async fn open_since(db: &Db, exchange: Exchange, session: NaiveDate) -> StoreResult<Option<DateTime<Utc>>> {
    let since: Option<Ts> = on_read!(db, |c| {
        sqlx::query_scalar("select min(seen_at) from close_seen where exchange = $1 and session = $2")
            .bind(exchange.as_str())
            .bind(session)
            .fetch_one(c)
            .await
    })
    .doing("look for closes of a session")?;
    Ok(since.map(|since| since.0))
}

/// What a ticker adds to a session's market return; `None`: it was asked for, and did not trade.
pub type Change = (NaiveDate, Option<f64>);

/// Notes what a ticker adds to sessions that have no row yet; a later look at the same close replaces it.
pub(crate) async fn see(tx: &mut Tx, ticker: &Ticker, changes: &[Change], now: DateTime<Utc>) -> StoreResult<()> {
    for (session, change) in changes {
        on_tx!(tx, |c| {
            sqlx::query(
                "insert into close_seen (exchange, session, ticker, change, seen_at)
                 select $1, $2, $3, $4, $5 where not exists (select 1 from market_day where exchange = $1 and session = $2)
                 on conflict (exchange, session, ticker) do update set change = excluded.change",
            )
            .bind(ticker.exchange().as_str())
            .bind(*session)
            .bind(ticker.symbol())
            .bind(*change)
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
        })
        .doing("note the close of a session")?;
    }
    Ok(())
}

/// A session that has been seen and has no row yet.
#[derive(Debug, Clone, sqlx::FromRow)]
struct Open {
    session: NaiveDate,
    asked: i64,
    traded: i64,
    sum: f64,
    since: Ts,
}

/// Gives their row to the sessions that are complete: nine of ten active tickers have been asked for, or as many have been seen to trade as
/// nine of ten of those of the session before; or the first of them was seen `deadline` ago. Any replica may call it; the first writes. The
/// sessions that got theirs.
pub async fn complete(
    db: &Db,
    exchange: Exchange,
    deadline: TimeDelta,
    now: DateTime<Utc>,
) -> StoreResult<Vec<NaiveDate>> {
    let open: Vec<Open> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, count(*) as asked, count(change) as traded, coalesce(sum(change), 0.0) as sum, min(seen_at) as since
             from close_seen where exchange = $1 group by session order by session",
        )
        .bind(exchange.as_str())
        .fetch_all(c)
        .await
    })
    .doing("look for sessions that may be complete")?;
    let mut written = vec![];
    for open in open {
        let (active, before) = expected(db, exchange, open.session).await?;
        let complete =
            10 * open.asked >= 9 * active || before.is_some_and(|before| 10 * open.traded >= 9 * before.max(1));
        if (complete || now - open.since.0 >= deadline) && write(db, exchange, &open, complete, now).await? {
            written.push(open.session);
        }
    }
    Ok(written)
}

/// How many tickers are active, and how many traded in the session before, where it has its row.
async fn expected(db: &Db, exchange: Exchange, session: NaiveDate) -> StoreResult<(i64, Option<i64>)> {
    on_read!(db, |c| {
        sqlx::query_as(
            "select (select count(*) from ticker where exchange = $1 and active),
                    (select tickers from market_day where exchange = $1 and session < $2 order by session desc limit 1)",
        )
        .bind(exchange.as_str())
        .bind(session)
        .fetch_one(c)
        .await
    })
    .doing("count the tickers of a session")
}

async fn write(db: &Db, exchange: Exchange, open: &Open, complete: bool, now: DateTime<Utc>) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let rows = on_tx!(&mut tx, |c| {
        sqlx::query(
            "insert into market_day (exchange, session, mean_return, tickers, complete, written_at) values ($1, $2, $3, $4, $5, $6)
             on conflict do nothing",
        )
        .bind(exchange.as_str())
        .bind(open.session)
        .bind(open.sum / open.traded.max(1) as f64)
        .bind(open.traded)
        .bind(complete)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("write the market's return of a session")?;
    forget(&mut tx, exchange, open.session).await?;
    on_tx!(&mut tx, |c| {
        sqlx::query("insert into condition (key, value, met_at) values ($1, $2, $3) on conflict (key) do nothing")
            .bind(market_condition(exchange, open.session))
            .bind(if complete { "complete" } else { "deadline" })
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
    })
    .doing("say that a session is complete")?;
    tx.commit().await?;
    Ok(rows == 1)
}

async fn forget(tx: &mut Tx, exchange: Exchange, session: NaiveDate) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query("delete from close_seen where exchange = $1 and session = $2")
            .bind(exchange.as_str())
            .bind(session)
            .execute(c)
            .await
            .rows()
    })
    .doing("forget the closes of a complete session")?;
    Ok(())
}

/// Fills in the sessions of the past from whole series: those without a row, and those whose row was written at its deadline from fewer
/// tickers. A complete row stays as it was: forecasts were made from it.
pub(crate) async fn fill(tx: &mut Tx, exchange: Exchange, days: &[MarketDay], now: DateTime<Utc>) -> StoreResult<u64> {
    let mut changed = 0;
    for chunk in days.chunks(CHUNK) {
        keep_replaced(tx, exchange, chunk).await?;
        changed += on_tx!(tx, |c| {
            let mut query = QueryBuilder::new(
                "insert into market_day (exchange, session, mean_return, tickers, complete, written_at) ",
            );
            query.push_values(chunk, |mut row, day| {
                row.push_bind(exchange.as_str())
                    .push_bind(day.session)
                    .push_bind(day.mean_return)
                    .push_bind(i64::from(day.tickers))
                    .push_bind(true)
                    .push_bind(Ts::from(now));
            });
            query.push(
                " on conflict (exchange, session) do update set mean_return = excluded.mean_return, tickers = excluded.tickers,
                     complete = excluded.complete, written_at = excluded.written_at
                   where not market_day.complete and market_day.tickers < excluded.tickers",
            );
            query.build().execute(c).await.rows()
        })
        .doing("fill in the market's returns")?;
    }
    Ok(changed)
}

/// Keeps the rows that [`fill`] is about to replace: forecasts were made from them.
async fn keep_replaced(tx: &mut Tx, exchange: Exchange, days: &[MarketDay]) -> StoreResult<()> {
    let (Some(first), Some(last)) = (days.first(), days.last()) else { return Ok(()) };
    let open: Vec<(NaiveDate, i64)> = on_tx!(tx, |c| {
        sqlx::query_as("select session, tickers from market_day where exchange = $1 and session >= $2 and session <= $3 and not complete")
            .bind(exchange.as_str())
            .bind(first.session)
            .bind(last.session)
            .fetch_all(c)
            .await
    })
    .doing("look for market returns that were written at their deadline")?;
    for (session, tickers) in open {
        if !days.iter().any(|day| day.session == session && i64::from(day.tickers) > tickers) {
            continue;
        }
        on_tx!(tx, |c| {
            sqlx::query(
                "insert into market_day_replaced (exchange, session, mean_return, tickers, written_at)
                 select exchange, session, mean_return, tickers, written_at from market_day where exchange = $1 and session = $2
                 on conflict do nothing",
            )
            .bind(exchange.as_str())
            .bind(session)
            .execute(c)
            .await
            .rows()
        })
        .doing("keep a market return that is replaced")?;
    }
    Ok(())
}
