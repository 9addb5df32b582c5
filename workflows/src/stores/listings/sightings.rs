//! What was seen of tickers that have had no bar for some sessions: on market pages that were read, and by runs that asked for them. A session in
//! which nobody looked is no evidence.

use super::super::{market_pages, ticker_of};
use super::state_of;
use crate::db::{Db, Doing, StoreResult, on_read};
use crate::plan::TICKER;
use chrono::NaiveDate;
use market::listing::{DELISTED_AFTER, Listing, Sightings, UNKNOWN_AFTER};
use market::market_page::ReadPage;
use market::{Exchange, Ticker};
use std::collections::{BTreeMap, BTreeSet};

/// Sessions that are looked back on, at most.
const LOOK_BACK: i64 = DELISTED_AFTER as i64 + 30;

/// A ticker whose silence is looked at.
#[derive(Debug, Clone)]
pub struct Watched {
    /// Which.
    pub ticker: Ticker,
    /// Where it stands.
    pub listing: Listing,
    /// Its series as it was looked at.
    pub version: i64,
    /// Sessions after this one count.
    pub since: NaiveDate,
    /// Its newest bar.
    pub last_bar: Option<NaiveDate>,
}

type Columns = (String, String, String, Option<NaiveDate>, i64, NaiveDate, Option<NaiveDate>);

/// The followed tickers that have had no bar for as many sessions as it takes to say anything, and what was seen of them.
pub async fn watched(db: &Db, exchange: Exchange) -> StoreResult<Vec<(Watched, Sightings)>> {
    let sessions = newest_sessions(db, exchange).await?;
    // Without a bar since before this one: as many sessions have passed as a verdict needs at least.
    let Some(cutoff) = sessions.get(UNKNOWN_AFTER as usize - 1).copied() else { return Ok(Vec::new()) };
    let all = silent_since(db, exchange, cutoff).await?;
    let Some(first) = all.iter().map(|one| one.since).min() else { return Ok(Vec::new()) };
    let pages = market_pages::newest(db, exchange, LOOK_BACK).await?;
    let asked = asked(db, exchange, first, cutoff).await?;
    let waiting = waiting(db, exchange).await?;
    Ok(all
        .into_iter()
        .map(|one| {
            let symbol = one.ticker.symbol();
            let mut seen = of_pages(&one, &pages);
            let empty = BTreeMap::new();
            let of_runs = asked.get(symbol).unwrap_or(&empty);
            let since = |session: &NaiveDate| *session > one.since;
            let on_a_page: BTreeSet<NaiveDate> = seen.present.clone();
            seen.absent.extend(of_runs.keys().filter(|day| since(day) && !on_a_page.contains(day)));
            let unknown = of_runs.iter().filter(|(day, unknown)| since(day) && **unknown).count();
            let sightings = Sightings {
                last_bar: one.last_bar,
                sessions: count(sessions.iter().filter(|day| since(day)).count()),
                silent: count(seen.absent.len()),
                unknown: count(unknown),
                stirs: !seen.present.is_empty()
                    || waiting.get(symbol).is_some_and(|day| day.is_none_or(|day| since(&day))),
            };
            (one, sightings)
        })
        .collect())
}

#[derive(Default)]
struct OnPages {
    present: BTreeSet<NaiveDate>,
    absent: BTreeSet<NaiveDate>,
}

fn of_pages(one: &Watched, pages: &[ReadPage]) -> OnPages {
    let mut seen = OnPages::default();
    for page in pages.iter().filter(|page| page.session > one.since && page.state.counts()) {
        let on_it = page.symbols.contains(one.ticker.symbol());
        if on_it {
            seen.present.insert(page.session)
        } else {
            seen.absent.insert(page.session)
        };
    }
    seen
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

async fn newest_sessions(db: &Db, exchange: Exchange) -> StoreResult<Vec<NaiveDate>> {
    on_read!(db, |c| {
        sqlx::query_scalar("select session from session where exchange = $1 order by session desc limit $2")
            .bind(exchange.as_str())
            .bind(LOOK_BACK)
            .fetch_all(c)
            .await
    })
    .doing("read the newest sessions")
}

/// Tickers whose newest bar, and the session from which they are watched, are both older than `cutoff`.
async fn silent_since(db: &Db, exchange: Exchange, cutoff: NaiveDate) -> StoreResult<Vec<Watched>> {
    let rows: Vec<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select t.ticker, t.state, t.decided_by, t.bar_then, t.series_version, t.watched_from, s.last_session
             from ticker t left join series s on s.exchange = t.exchange and s.ticker = t.ticker
             where t.exchange = $1 and t.followed and t.state in ('new', 'active', 'suspended') and t.watched_from < $2
               and (s.last_session is null or s.last_session < $2)
             order by t.ticker",
        )
        .bind(exchange.as_str())
        .bind(cutoff)
        .fetch_all(c)
        .await
    })
    .doing("look for tickers without a newer bar")?;
    rows.into_iter()
        .map(|(symbol, state, by, bar_then, version, watched, last_bar)| {
            Ok(Watched {
                ticker: ticker_of(exchange.as_str(), &symbol)?,
                listing: Listing { state: state_of(&state)?, by_operator: by == "operator", bar_then },
                version,
                since: last_bar.map_or(watched, |last| last.max(watched)),
                last_bar,
            })
        })
        .collect()
}

/// Sessions, by ticker, for which runs of silent tickers have asked its sources; true where none of them knew the name.
async fn asked(
    db: &Db,
    exchange: Exchange,
    first: NaiveDate,
    cutoff: NaiveDate,
) -> StoreResult<BTreeMap<String, BTreeMap<NaiveDate, bool>>> {
    let rows: Vec<(String, NaiveDate, i64)> = on_read!(db, |c| {
        sqlx::query_as(
            "select r.ticker, r.aimed_session, cast(min(case when r.state = 'failed' then 1 else 0 end) as bigint)
             from run r
             join session o on o.exchange = r.exchange and o.session = r.aimed_session
             join ticker t on t.exchange = r.exchange and t.ticker = r.ticker
             left join series s on s.exchange = t.exchange and s.ticker = t.ticker
             where r.exchange = $1 and r.plan = $2 and r.aimed_session > $3 and not r.offline
               and t.followed and t.state in ('new', 'active', 'suspended') and t.watched_from < $4
               and (s.last_session is null or s.last_session < $4)
               and (r.state in ('succeeded', 'no_new_session') or r.state = 'failed' and exists
                 (select 1 from attempt a where a.run_id = r.id and a.step = 'scrape' and a.error_kind = 'not_found'))
             group by r.ticker, r.aimed_session",
        )
        .bind(exchange.as_str())
        .bind(TICKER.name)
        .bind(first)
        .bind(cutoff)
        .fetch_all(c)
        .await
    })
    .doing("look for runs that found nothing")?;
    let mut by_ticker: BTreeMap<String, BTreeMap<NaiveDate, bool>> = BTreeMap::new();
    for (symbol, session, unknown) in rows {
        by_ticker.entry(symbol).or_default().insert(session, unknown != 0);
    }
    Ok(by_ticker)
}

/// The newest session, by ticker, of which something waits in the quarantine; none: a whole batch does.
async fn waiting(db: &Db, exchange: Exchange) -> StoreResult<BTreeMap<String, Option<NaiveDate>>> {
    let rows: Vec<(String, Option<NaiveDate>)> = on_read!(db, |c| {
        sqlx::query_as(
            "select ticker, max(session) from quarantine where exchange = $1 and state = 'open' and rule <> 'partial_page' group by ticker",
        )
        .bind(exchange.as_str())
        .fetch_all(c)
        .await
    })
    .doing("look for tickers of which something waits")?;
    Ok(rows.into_iter().collect())
}

/// A ticker without scheduled runs that is looked at all the same.
#[derive(Debug, Clone)]
pub struct LookedFor {
    /// Which.
    pub ticker: Ticker,
    /// Its newest bar.
    pub last_bar: Option<NaiveDate>,
    /// The market page brought it, and it has no bar yet; else it is suspended.
    pub is_new: bool,
}

/// Tickers that evidence has suspended, and those that the market page brought and that have had no run for this session.
pub async fn looked_for(db: &Db, exchange: Exchange, session: NaiveDate) -> StoreResult<Vec<LookedFor>> {
    let rows: Vec<(String, Option<NaiveDate>, String)> = on_read!(db, |c| {
        sqlx::query_as(
            "select t.ticker, s.last_session, t.state from ticker t
             left join series s on s.exchange = t.exchange and s.ticker = t.ticker
             where t.exchange = $1 and t.followed and
               (t.state = 'suspended' and t.decided_by = 'evidence'
                or t.state = 'new' and t.origin = 'page' and not exists
                  (select 1 from run r where r.exchange = t.exchange and r.ticker = t.ticker and r.aimed_session >= $2))
             order by t.ticker",
        )
        .bind(exchange.as_str())
        .bind(session)
        .fetch_all(c)
        .await
    })
    .doing("look for tickers that rest")?;
    rows.into_iter()
        .map(|(symbol, last_bar, state)| {
            Ok(LookedFor { ticker: ticker_of(exchange.as_str(), &symbol)?, last_bar, is_new: state == "new" })
        })
        .collect()
}
