//! What happens to tickers: their states by evidence and by an operator's word, which of them are followed, and what was seen of them. The rules
//! are `market::listing` and `market::universe`; here is what they are asked with, and how their answers are written.

mod order;
mod sightings;

pub use order::{Order, Ordered, order};
pub use sightings::{LookedFor, Watched, looked_for, watched};

use super::{alarms, ticker_of};
use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_read, on_tx, on_write};
use crate::ledger::{self, NewEntry};
use chrono::{DateTime, NaiveDate, Utc};
use market::listing::{Change, Listing, Sightings, UnknownListingState, decide};
use market::universe::{Origin, Universe};
use market::{Exchange, ListingState, Ticker};
use sha2::{Digest, Sha256};
use std::collections::BTreeSet;
use uuid::{Builder, Uuid};

/// A ticker that rests: no schedule starts runs for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resting {
    /// Which.
    pub ticker: Ticker,
    /// Where it stands.
    pub state: ListingState,
    /// Since when.
    pub since: DateTime<Utc>,
    /// Why.
    pub why: String,
    /// What stands in its place.
    pub successor: Option<Ticker>,
}

type RestingColumns = (String, String, String, Ts, String, Option<String>);

/// Every ticker that is neither new nor active.
pub async fn resting(db: &Db, exchange: Option<Exchange>) -> StoreResult<Vec<Resting>> {
    let rows: Vec<RestingColumns> = on_read!(db, |c| {
        sqlx::query_as(
            "select exchange, ticker, state, coalesce(state_since, added_at), state_why, successor from ticker
             where state not in ('new', 'active') and ($1 is null or exchange = $1) order by exchange, ticker",
        )
        .bind(exchange.map(Exchange::as_str))
        .fetch_all(c)
        .await
    })
    .doing("list the tickers that rest")?;
    rows.into_iter()
        .map(|(exchange, symbol, state, since, why, successor)| {
            Ok(Resting {
                ticker: ticker_of(&exchange, &symbol)?,
                state: state_of(&state)?,
                since: since.0,
                why,
                successor: successor.as_deref().map(successor_of).transpose()?,
            })
        })
        .collect()
}

/// The tickers of an exchange for which no schedule starts runs: nobody waits for their closes.
pub async fn idle(db: &Db, exchange: Exchange) -> StoreResult<BTreeSet<Ticker>> {
    let symbols: Vec<String> = on_read!(db, |c| {
        sqlx::query_scalar("select ticker from ticker where exchange = $1 and not active")
            .bind(exchange.as_str())
            .fetch_all(c)
            .await
    })
    .doing("list the tickers without runs")?;
    symbols.iter().map(|symbol| ticker_of(exchange.as_str(), symbol)).collect()
}

/// How many tickers are in each state, by exchange.
pub async fn counts(db: &Db) -> StoreResult<Vec<(String, String, i64)>> {
    on_read!(db, |c| sqlx::query_as("select exchange, state, count(*) from ticker group by exchange, state")
        .fetch_all(c)
        .await)
    .doing("count the tickers")
}

pub(super) fn state_of(word: &str) -> StoreResult<ListingState> {
    word.parse().map_err(|e: UnknownListingState| StoreError::Unreadable { what: "ticker", why: e.to_string() })
}

pub(super) fn successor_of(text: &str) -> StoreResult<Ticker> {
    Ticker::parse(text).map_err(|e| StoreError::Unreadable { what: "ticker", why: e.to_string() })
}

/// Bars came in: what follows for the state of their ticker, whose row is locked. Whoever archives calls it.
pub(crate) async fn bars_came(
    tx: &mut Tx,
    ticker: &Ticker,
    listing: &Listing,
    last_bar: Option<NaiveDate>,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    match decide(listing, &Sightings { last_bar, ..Sightings::default() }) {
        Some(change) => by_evidence(tx, ticker, listing, None, &change, last_bar, now).await.map(|_| ()),
        None => Ok(()),
    }
}

/// Writes what evidence decided, unless the ticker has moved on since it was looked at: another state, or a series of another `version`.
async fn by_evidence(
    tx: &mut Tx,
    ticker: &Ticker,
    listing: &Listing,
    version: Option<i64>,
    change: &Change,
    last_bar: Option<NaiveDate>,
    now: DateTime<Utc>,
) -> StoreResult<bool> {
    let rows = on_tx!(tx, |c| {
        sqlx::query(
            "update ticker set state = $3, state_since = $4, state_why = $5, decided_by = 'evidence', bar_then = $6, active = followed and $7
             where exchange = $1 and ticker = $2 and state = $8 and ($9 is null or series_version = $9)",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(change.to.as_str())
        .bind(Ts::from(now))
        .bind(&change.why)
        .bind(last_bar)
        .bind(change.to.is_traded())
        .bind(listing.state.as_str())
        .bind(version)
        .execute(c)
        .await
        .rows()
    })
    .doing("write the state of a ticker")?;
    if rows == 0 {
        return Ok(false);
    }
    if !change.to.is_traded() {
        alarms::clear_all(tx, ticker, now).await?;
    }
    // From new to active is the usual beginning and no news.
    if listing.state != ListingState::New || change.to != ListingState::Active {
        let entry = NewEntry {
            id: entry_id(ticker, &change.why, now),
            at: now,
            who: "evidence".to_owned(),
            door: "engine",
            action: "ticker_state",
            subject: ticker.to_string(),
            detail: format!("{}: {}", change.to, change.why),
            request: None,
        };
        ledger::note_in(tx, &entry).await?;
    }
    Ok(true)
}

/// An id of its own for what follows from evidence, in order of time.
fn entry_id(ticker: &Ticker, why: &str, now: DateTime<Utc>) -> Uuid {
    let hash = Sha256::digest(format!("{ticker}|{why}|{}", now.timestamp_micros()));
    let mut tail = [0; 10];
    tail.copy_from_slice(&hash[..10]);
    Builder::from_unix_timestamp_millis(u64::try_from(now.timestamp_millis()).unwrap_or(0), &tail).into_uuid()
}

/// Carries out what evidence says of a ticker, if it stands as it was looked at.
pub async fn judge(db: &Db, of: &Watched, seen: &Sightings, now: DateTime<Utc>) -> StoreResult<Option<Change>> {
    let Some(change) = decide(&of.listing, seen) else { return Ok(None) };
    let mut tx = db.begin().await?;
    let done = by_evidence(&mut tx, &of.ticker, &of.listing, Some(of.version), &change, seen.last_bar, now).await?;
    tx.commit().await?;
    Ok(done.then_some(change))
}

/// Begins to count silent sessions of those that are not watched yet: after `session`.
pub async fn watch(db: &Db, exchange: Exchange, session: NaiveDate) -> StoreResult<u64> {
    on_write!(db, |c| {
        sqlx::query("update ticker set watched_from = $2 where exchange = $1 and watched_from is null")
            .bind(exchange.as_str())
            .bind(session)
            .execute(c)
            .await
            .rows()
    })
    .doing("begin to watch tickers")
}

/// What decides whether the universe must be looked at again: how many tickers there are, and how many of them somebody named.
pub async fn census(db: &Db, exchange: Exchange) -> StoreResult<(i64, i64)> {
    on_read!(db, |c| {
        sqlx::query_as(
            "select count(*), coalesce(sum(case when origin = 'named' then 1 else 0 end), 0) from ticker where exchange = $1",
        )
        .bind(exchange.as_str())
        .fetch_one(c)
        .await
    })
    .doing("count the tickers of an exchange")
}

/// Follows what the universe has, and no longer what it has not. How many tickers that changed.
pub async fn follow(
    db: &Db,
    exchange: Exchange,
    universe: &Universe,
    list: Option<&BTreeSet<String>>,
) -> StoreResult<usize> {
    let rows: Vec<(String, String, bool, String)> = on_read!(db, |c| {
        sqlx::query_as(
            "select ticker, origin, followed, unfollowed_why from ticker where exchange = $1 order by ticker",
        )
        .bind(exchange.as_str())
        .fetch_all(c)
        .await
    })
    .doing("list what is followed")?;
    let mut changed = 0;
    for (symbol, origin, followed, why) in rows {
        let origin: Origin = origin.parse().map_err(|why| StoreError::Unreadable { what: "ticker", why })?;
        let wanted = universe.follows(&symbol, origin, list);
        let (follows, because) = (wanted.is_ok(), wanted.err().unwrap_or_default());
        if (follows, because.as_str()) == (followed, why.as_str()) {
            continue;
        }
        let ticker = ticker_of(exchange.as_str(), &symbol)?;
        let mut tx = db.begin().await?;
        on_tx!(&mut tx, |c| {
            sqlx::query(
                "update ticker set followed = $3, unfollowed_why = $4, active = $3 and state in ('new', 'active')
                 where exchange = $1 and ticker = $2",
            )
            .bind(exchange.as_str())
            .bind(&symbol)
            .bind(follows)
            .bind(&because)
            .execute(c)
            .await
            .rows()
        })
        .doing("follow a ticker, or no longer")?;
        if !follows {
            alarms::clear_all(&mut tx, &ticker, db.now()).await?;
        }
        tx.commit().await?;
        changed += 1;
    }
    Ok(changed)
}
