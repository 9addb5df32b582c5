//! Corporate actions: what an exchange or somebody announced. In come ex-dates with their factors, out goes what is known of a ticker. An action
//! may come before the ticker's first bar; an identical one twice changes nothing.

use super::{archive, tickers};
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, NaiveDate, Utc};
use market::{Factor, Ticker};

/// An action and when it was made known.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Announced {
    /// Ex-date and factor.
    pub factor: Factor,
    /// When it was made known, as far as anybody said; else when we were told.
    pub at: DateTime<Utc>,
}

/// An action as lists show it.
#[derive(Debug, Clone, PartialEq)]
pub struct ActionRow {
    /// Ex-date and factor, and when it was made known.
    pub announced: Announced,
    /// Who said so.
    pub source: String,
}

/// Keeps what was announced, and makes the series anew where there are bars. A ticker that nobody knows stays unknown: its actions wait for its bars.
pub async fn announce(
    db: &Db,
    ticker: &Ticker,
    source: &str,
    announced: &[Announced],
    now: DateTime<Utc>,
) -> StoreResult<()> {
    let mut tx = db.begin().await?;
    // The row keeps a first import of its bars waiting until these actions can be seen; what was made only for that goes again.
    let unknown = tickers::lock_new(&mut tx, ticker, now).await?;
    let version = if unknown { 0 } else { tickers::lock_and_bump(&mut tx, ticker, now).await?.0 };
    put(&mut tx, ticker, source, announced, version, now).await?;
    if unknown {
        tickers::forget(&mut tx, ticker).await?;
    } else if let Some(series) = archive::series_in(&mut tx, ticker).await? {
        let factors = read(&mut tx, ticker).await?;
        archive::write_series(&mut tx, &series.with(&[], &factors), version).await?;
    }
    tx.commit().await
}

/// Writes them as part of the series version that brings them. `now` is when we were told.
pub(super) async fn put(
    tx: &mut Tx,
    ticker: &Ticker,
    source: &str,
    announced: &[Announced],
    version: i64,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    for Announced { factor, at } in announced {
        on_tx!(tx, |c| {
            sqlx::query(
                "insert into corporate_action_raw (exchange, ticker, session, archived_version, factor, source, announced_at)
                 select $1, $2, $3, $4, $5, $6, $7
                 where $5 is distinct from (select factor from corporate_action_raw where exchange = $1 and ticker = $2 and session = $3
                                            order by archived_version desc limit 1)
                 on conflict (exchange, ticker, session, archived_version) do update set factor = excluded.factor",
            )
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .bind(factor.session)
            .bind(version)
            .bind(factor.factor)
            .bind(source)
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
        })
        .doing("keep a version of a corporate action")?;
        // The same action heard of again was made known when it was heard of first.
        on_tx!(tx, |c| {
            sqlx::query(
                "insert into corporate_action (exchange, ticker, session, factor, source, announced_at) values ($1, $2, $3, $4, $5, $6)
                 on conflict (exchange, ticker, session) do update set factor = excluded.factor, source = excluded.source,
                    announced_at = case when corporate_action.factor = excluded.factor and corporate_action.announced_at < excluded.announced_at
                                        then corporate_action.announced_at else excluded.announced_at end",
            )
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .bind(factor.session)
            .bind(factor.factor)
            .bind(source)
            .bind(Ts::from(*at))
            .execute(c)
            .await
            .rows()
        })
        .doing("record a corporate action")?;
    }
    Ok(())
}

/// The actions of a ticker in order of their ex-dates, with who announced them and when.
pub async fn list(db: &Db, ticker: &Ticker) -> StoreResult<Vec<ActionRow>> {
    let rows: Vec<(NaiveDate, f64, Ts, String)> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, factor, announced_at, source from corporate_action where exchange = $1 and ticker = $2 order by session",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .fetch_all(c)
        .await
    })
    .doing("list the corporate actions")?;
    let row = |(session, factor, at, source): (NaiveDate, f64, Ts, String)| ActionRow {
        announced: Announced { factor: Factor { session, factor }, at: at.0 },
        source,
    };
    Ok(rows.into_iter().map(row).collect())
}

const FACTORS: &str =
    "select session, factor from corporate_action where exchange = $1 and ticker = $2 order by session";

fn factor((session, factor): (NaiveDate, f64)) -> Factor {
    Factor { session, factor }
}

/// Every factor of the ticker: some may have come before its first bar.
pub async fn factors(db: &Db, ticker: &Ticker) -> StoreResult<Vec<Factor>> {
    let (exchange, symbol) = (ticker.exchange().as_str(), ticker.symbol());
    let rows = on_read!(db, |c| sqlx::query_as(FACTORS).bind(exchange).bind(symbol).fetch_all(c).await);
    Ok(rows.doing("read the corporate actions")?.into_iter().map(factor).collect())
}

/// The same, as this transaction sees them.
pub(super) async fn read(tx: &mut Tx, ticker: &Ticker) -> StoreResult<Vec<Factor>> {
    let (exchange, symbol) = (ticker.exchange().as_str(), ticker.symbol());
    let rows = on_tx!(tx, |c| sqlx::query_as(FACTORS).bind(exchange).bind(symbol).fetch_all(c).await);
    Ok(rows.doing("read the corporate actions")?.into_iter().map(factor).collect())
}
