//! What tickers need beside their runs: that the universe's are known and no others followed, that what is no longer traded is suspended and
//! delisted, and that what is suspended is looked at now and then. Looked at by every scheduler; rows and idempotency keys decide who does it.

use crate::db::{Db, Doing, StoreResult, on_read};
use crate::duty::Duty;
use crate::engine::Engine;
use crate::ledger::NewRun;
use crate::plan::{TICKER, priority};
use crate::stores::{listings, market_pages, tickers};
use crate::subject::Subject;
use chrono::{DateTime, Datelike, NaiveDate, Utc};
use market::universe::{ListFile, Origin, Universe, parse_list};
use market::{Exchange, Ticker, latest_final_session};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Evidence that comes with runs is weighed in rounds of this length, seconds.
const ROUND_S: i64 = 600;
/// Looks of this many until the list file is read again.
const READ_LIST_EVERY: u32 = 30;
/// Looks at resting tickers started at a time.
const STARTED_AT_ONCE: usize = 500;

/// What this installation follows.
#[derive(Debug, Clone, Default)]
pub struct Universes {
    /// Of NASDAQ.
    pub nasdaq: Universe,
    /// Of NEPSE.
    pub nepse: Universe,
    /// A file with NASDAQ's symbols.
    pub nasdaq_list: Option<PathBuf>,
    /// Whether every symbol on NEPSE's market page becomes known by itself.
    pub nepse_page: bool,
}

impl Universes {
    fn of(&self, exchange: Exchange) -> &Universe {
        match exchange {
            Exchange::Nasdaq => &self.nasdaq,
            Exchange::Nepse => &self.nepse,
        }
    }
}

/// Looks after the tickers of both exchanges until `stop`.
pub async fn look_after_listings(engine: Arc<Engine>, universes: Universes, offline: bool, stop: CancellationToken) {
    let (mut duty, mut seen) = (Duty::new("the tickers could not be looked after", stop), Noticed::default());
    while duty.goes_on() {
        let came = look_at_listings(&engine, &universes, offline, &mut seen).await;
        duty.looked(came).await;
    }
}

/// What was noticed before, so that what has not changed is not looked at again.
#[derive(Debug, Default)]
pub struct Noticed {
    looks: u32,
    list: Option<String>,
    list_fault: Option<String>,
    symbols: Option<BTreeSet<String>>,
    followed: BTreeMap<Exchange, (i64, i64, usize)>,
    weighed: BTreeMap<Exchange, (News, i64)>,
}

/// What brings new evidence.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct News {
    session: Option<NaiveDate>,
    page: Option<(NaiveDate, DateTime<Utc>)>,
}

/// Looks after both exchanges once.
///
/// # Errors
/// The store's.
pub async fn look_at_listings(
    engine: &Arc<Engine>,
    universes: &Universes,
    offline: bool,
    seen: &mut Noticed,
) -> StoreResult<()> {
    let Some(db) = engine.ledger.db() else { return Ok(()) };
    if seen.looks.is_multiple_of(READ_LIST_EVERY) {
        read_list(db, universes, seen).await?;
    }
    seen.looks = seen.looks.wrapping_add(1);
    for exchange in Exchange::ALL {
        let news = news(db, exchange).await?;
        let now = engine.ledger.now();
        let round = now.timestamp() / ROUND_S;
        let before = seen.weighed.get(&exchange);
        if before.is_none_or(|(before, _)| before.page != news.page)
            && exchange == Exchange::Nepse
            && universes.nepse_page
        {
            take_in_the_page(db, &universes.nepse, now).await?;
        }
        follow(db, exchange, universes, seen).await?;
        if seen.weighed.get(&exchange).is_none_or(|before| *before != (news.clone(), round)) {
            weigh(engine, db, exchange, &news).await?;
            if !offline {
                look_at_the_resting(engine, db, exchange, &news).await?;
            }
            seen.weighed.insert(exchange, (news, round));
        }
    }
    Ok(())
}

/// Reads the list file, where there is one. One that cannot be read, or names nobody, changes nothing: a slip must not end all runs.
async fn read_list(db: &Db, universes: &Universes, seen: &mut Noticed) -> StoreResult<()> {
    let Some(path) = &universes.nasdaq_list else { return Ok(()) };
    let said = |seen: &mut Noticed, fault: String| {
        if seen.list_fault.as_ref() != Some(&fault) {
            tracing::warn!(file = %path.display(), fault, "the list of NASDAQ's tickers is left as it was");
        }
        seen.list_fault = Some(fault);
    };
    let text = match tokio::fs::read_to_string(path).await {
        Ok(text) => text,
        Err(error) => {
            said(seen, error.to_string());
            return Ok(());
        }
    };
    if seen.list.as_ref() == Some(&text) {
        return Ok(());
    }
    let ListFile { symbols, faults } = parse_list(Exchange::Nasdaq, &text);
    if symbols.is_empty() {
        said(seen, "it names no ticker".to_owned());
        return Ok(());
    }
    for (line, why) in &faults {
        tracing::warn!(file = %path.display(), line, why, "a line of the list of NASDAQ's tickers is left out");
    }
    let named: Vec<Ticker> = symbols.iter().filter_map(|symbol| Ticker::new(Exchange::Nasdaq, symbol).ok()).collect();
    tickers::add_from(db, &named, Origin::List, db.now()).await?;
    tracing::info!(file = %path.display(), tickers = symbols.len(), left_out = faults.len(), "the list of NASDAQ's tickers was read");
    (seen.list, seen.list_fault, seen.symbols) = (Some(text), None, Some(symbols));
    seen.followed.remove(&Exchange::Nasdaq);
    Ok(())
}

/// Follows what the universe has, when tickers or the list have changed.
async fn follow(db: &Db, exchange: Exchange, universes: &Universes, seen: &mut Noticed) -> StoreResult<()> {
    let list = seen.symbols.as_ref().filter(|_| exchange == Exchange::Nasdaq);
    // The list could not be read since the start: what is followed stays as it was.
    if exchange == Exchange::Nasdaq && universes.nasdaq_list.is_some() && list.is_none() {
        return Ok(());
    }
    let (all, named) = listings::census(db, exchange).await?;
    let stands = (all, named, list.map_or(0, BTreeSet::len));
    if seen.followed.get(&exchange) == Some(&stands) {
        return Ok(());
    }
    let changed = listings::follow(db, exchange, universes.of(exchange), list).await?;
    if changed > 0 {
        tracing::info!(%exchange, changed, "what is followed has changed");
    }
    seen.followed.insert(exchange, stands);
    Ok(())
}

async fn news(db: &Db, exchange: Exchange) -> StoreResult<News> {
    let session: Option<NaiveDate> = on_read!(db, |c| {
        sqlx::query_scalar("select max(session) from session where exchange = $1")
            .bind(exchange.as_str())
            .fetch_one(c)
            .await
    })
    .doing("look for the newest session")?;
    let page = market_pages::newest(db, exchange, 1).await?.pop().map(|page| (page.session, page.read_at));
    Ok(News { session, page })
}

/// Makes the symbols of the newest page known, but for those that are not to be followed.
async fn take_in_the_page(db: &Db, universe: &Universe, now: DateTime<Utc>) -> StoreResult<()> {
    let Some(page) = newest_whole(db, Exchange::Nepse).await? else { return Ok(()) };
    let wanted = page.symbols.iter().filter(|symbol| universe.follows(symbol, Origin::Page, None).is_ok());
    let found: Vec<Ticker> = wanted.filter_map(|symbol| Ticker::new(Exchange::Nepse, symbol).ok()).collect();
    let fresh = tickers::add_from(db, &found, Origin::Page, now).await?;
    if fresh > 0 {
        tracing::info!(session = %page.session, fresh, "tickers became known by the market page");
    }
    Ok(())
}

/// Weighs what was seen of tickers that have had no bar for some sessions.
async fn weigh(engine: &Arc<Engine>, db: &Db, exchange: Exchange, news: &News) -> StoreResult<()> {
    let newest = news.session.unwrap_or_else(|| latest_final_session(exchange, engine.market_clock.now()));
    listings::watch(db, exchange, newest).await?;
    for (of, seen) in listings::watched(db, exchange).await? {
        if let Some(change) = listings::judge(db, &of, &seen, engine.ledger.now()).await? {
            tracing::warn!(ticker = %of.ticker, state = %change.to, why = change.why, "the state of a ticker has changed");
        }
    }
    Ok(())
}

async fn newest_whole(db: &Db, exchange: Exchange) -> StoreResult<Option<market::market_page::ReadPage>> {
    const BACK: i64 = 20;
    Ok(market_pages::newest(db, exchange, BACK).await?.into_iter().find(|page| page.state.counts()))
}

/// Starts runs for suspended tickers that stand on the market page again, for those that it shows for the first time, and once a week for every
/// suspended one.
async fn look_at_the_resting(engine: &Arc<Engine>, db: &Db, exchange: Exchange, news: &News) -> StoreResult<()> {
    let page = newest_whole(db, exchange).await?;
    let Some(session) = news.session.max(page.as_ref().map(|page| page.session)) else { return Ok(()) };
    let week = session.iso_week();
    let mut runs = Vec::new();
    for resting in listings::looked_for(db, exchange, session).await? {
        let on_page = page.as_ref().is_some_and(|page| {
            page.symbols.contains(resting.ticker.symbol()) && resting.last_bar.is_none_or(|last| last < page.session)
        });
        let key = match (on_page, resting.is_new) {
            (true, _) => format!("look:{}:{session}", resting.ticker),
            (false, false) => format!("look:{}:{}-w{:02}", resting.ticker, week.year(), week.week()),
            (false, true) => continue,
        };
        runs.push(NewRun {
            id: engine.new_run_id(),
            plan: &TICKER,
            subject: Subject::Ticker(resting.ticker),
            session,
            schedule: None,
            backfill: None,
            priority: priority::SCHEDULED,
            offline: false,
            idempotency_key: Some(key),
            repeats: None,
        });
    }
    for slice in runs.chunks(STARTED_AT_ONCE) {
        let started = engine.start(slice).await?.iter().filter(|started| started.created).count();
        if started > 0 {
            tracing::info!(%exchange, %session, started, "tickers that rest or are new are looked at");
        }
    }
    Ok(())
}
