//! Inputs as they were known at a time. In come a series version or an instant, out come the bars, corporate actions and market returns that stood
//! then, whatever was revised since.

use super::archive::RawRow;
use super::made_with::{Known, Staged};
use crate::db::{Db, Doing, StoreError, StoreResult, Ts, on_read};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Bar, Exchange, Factor, MarketDay, Series, Ticker};
use std::collections::{BTreeMap, BTreeSet};

/// The series that a step of a run knew: the archived one of that version, with the run's own batch laid over it. `archived` is the version as
/// which the run's archive step stored that batch; without it a batch is lost, and the answer is `None`.
///
/// A staged bar equal to what its source had said before was not stored again, so the batch is what the source had said up to `archived`
/// of the sessions that it covered. The caller compares the input's hash: a source that left out a session in between is found by it.
pub async fn series_of_step(
    db: &Db,
    ticker: &Ticker,
    known: &Known,
    archived: Option<i64>,
) -> StoreResult<Option<Series>> {
    let base = match known.series {
        Some(version) => series(db, ticker, version).await?,
        None => of(ticker, vec![], vec![])?,
    };
    Ok(match (&known.staged, archived) {
        (None, _) => Some(base),
        (Some(_), None) => None,
        (Some(staged), Some(archived)) => {
            let bars = staged_bars(db, ticker, staged, archived).await?;
            Some(base.with(&bars, &factors(db, ticker, archived, archived).await?))
        }
    })
}

/// The archived series as it stood at `version`: of each session the bar that was archived last until then.
pub async fn series(db: &Db, ticker: &Ticker, version: i64) -> StoreResult<Series> {
    // Of rows from before versions were recorded the chosen one stands in `price_daily`, unless it was replaced since; then the newest is it.
    let rows: Vec<RawRow> = on_read!(db, |c| {
        sqlx::query_as(
            "select p.session, p.revision, p.open, p.high, p.low, p.close, p.ltp, p.prev_close, p.volume
             from price_raw p left join price_daily d
               on d.exchange = p.exchange and d.ticker = p.ticker and d.session = p.session and d.source = p.source and d.revision = p.revision
             where p.exchange = $1 and p.ticker = $2 and coalesce(p.archived_version, 0) <= $3
             order by p.session, coalesce(p.archived_version, 0), case when d.session is null then 0 else 1 end, p.fetched_at, p.revision",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(version)
        .fetch_all(c)
        .await
    })
    .doing("read a series as it was known")?;
    of(ticker, last_of_each(rows), factors(db, ticker, 0, version).await?)
}

async fn staged_bars(db: &Db, ticker: &Ticker, staged: &Staged, archived: i64) -> StoreResult<Vec<Bar>> {
    let rows: Vec<RawRow> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, revision, open, high, low, close, ltp, prev_close, volume from price_raw
             where exchange = $1 and ticker = $2 and source = $3 and session >= $4 and session <= $5 and coalesce(archived_version, 0) <= $6
             order by session, revision",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(&staged.source)
        .bind(staged.first)
        .bind(staged.last)
        .bind(archived)
        .fetch_all(c)
        .await
    })
    .doing("read what a run had staged")?;
    Ok(last_of_each(rows))
}

/// Corporate actions that came with the versions `from` to `to`, of each session the last.
async fn factors(db: &Db, ticker: &Ticker, from: i64, to: i64) -> StoreResult<Vec<Factor>> {
    let rows: Vec<(NaiveDate, f64)> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, factor from corporate_action_raw
             where exchange = $1 and ticker = $2 and archived_version >= $3 and archived_version <= $4 order by session, archived_version",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(from)
        .bind(to)
        .fetch_all(c)
        .await
    })
    .doing("read corporate actions as they were known")?;
    let last: BTreeMap<NaiveDate, f64> = rows.into_iter().collect();
    Ok(last.into_iter().map(|(session, factor)| Factor { session, factor }).collect())
}

fn last_of_each(rows: Vec<RawRow>) -> Vec<Bar> {
    let last: BTreeMap<NaiveDate, Bar> = rows.iter().map(RawRow::bar).map(|bar| (bar.session, bar)).collect();
    last.into_values().collect()
}

fn of(ticker: &Ticker, bars: Vec<Bar>, factors: Vec<Factor>) -> StoreResult<Series> {
    Series::new(ticker.clone(), bars, factors)
        .map_err(|error| StoreError::Unreadable { what: "archived series", why: error.to_string() })
}

/// Every market return of an exchange that ever stood, with the instant at which it was written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MarketPast(Vec<(MarketDay, DateTime<Utc>)>);

/// How many of the newest writings are looked behind.
const CUTS: usize = 16;
/// How far apart the clocks of two processes may be: each follows the database's.
const CLOCKS_APART: TimeDelta = TimeDelta::seconds(10);

/// Reads it.
pub async fn market(db: &Db, exchange: Exchange) -> StoreResult<MarketPast> {
    let rows: Vec<(NaiveDate, f64, i64, Ts)> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, mean_return, tickers, written_at from market_day where exchange = $1
             union all select session, mean_return, tickers, written_at from market_day_replaced where exchange = $1
             order by session, written_at",
        )
        .bind(exchange.as_str())
        .fetch_all(c)
        .await
    })
    .doing("read the market's returns as they were known")?;
    let day = |(session, mean_return, tickers, written_at): (_, _, i64, Ts)| {
        (MarketDay { session, mean_return, tickers: u32::try_from(tickers).unwrap_or(u32::MAX) }, written_at.0)
    };
    Ok(MarketPast(rows.into_iter().map(day).collect()))
}

impl MarketPast {
    /// What may have stood for a step that was completed at `made_at`, the likeliest first. An instant is noted before its row is committed, and a
    /// step reads before it is completed; so the newest rows may have been unseen. And the clocks of two processes differ a little, so that a
    /// row may have been seen whose instant lies after the step's. The caller finds the right one by its hash.
    pub fn before(&self, made_at: DateTime<Utc>) -> impl Iterator<Item = Vec<MarketDay>> + '_ {
        let written: BTreeSet<DateTime<Utc>> = self.0.iter().map(|(_, at)| *at).collect();
        let (earlier, later): (Vec<_>, Vec<_>) = written.into_iter().partition(|at| *at <= made_at);
        let cuts = earlier.into_iter().rev().take(CUTS).chain([DateTime::<Utc>::MIN_UTC]);
        let late = later.into_iter().take_while(move |at| *at <= made_at + CLOCKS_APART);
        cuts.chain(late).map(|cut| self.at(cut))
    }

    fn at(&self, cut: DateTime<Utc>) -> Vec<MarketDay> {
        let stood = self.0.iter().filter(|(_, at)| *at <= cut).map(|(day, _)| (day.session, *day));
        let last: BTreeMap<NaiveDate, MarketDay> = stood.collect();
        last.into_values().collect()
    }
}
