//! What an operator says of a ticker: suspended, resumed, delisted, renamed, merged. In comes the order, out goes what it came to; the change, the
//! history that a new name takes up, and the audit are one transaction.

use super::{state_of, successor_of};
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_tx};
use crate::ledger::{self, NewEntry};
use crate::stores::{alarms, archive};
use chrono::{DateTime, NaiveDate, Utc};
use market::validate::{Overlap, compare};
use market::{Bar, Batch, Factor, ListingState, Series, Ticker, write_bars_csv};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What is to become of a ticker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// No runs until it is resumed.
    Suspend,
    /// It is traded, and evidence counts again.
    Resume,
    /// It is no longer traded.
    Delist,
    /// It goes on under this name, which takes up its history.
    Rename(Ticker),
    /// It became part of this one, which keeps its own history.
    Merge(Ticker),
}

/// What an order came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ordered {
    /// It was carried out.
    Now,
    /// It stood so already.
    Already,
    /// There is no such ticker.
    Unknown,
    /// It cannot be, for this reason, in this state.
    Refused(ListingState, String),
}

/// So many of the newest common sessions are compared, as with every source.
const COMPARED: usize = 10;
/// Without a common session: further apart than this, and they do not follow on each other.
const SAME_LEVEL: f64 = 5.0;

/// A ticker's row, locked.
struct Standing {
    state: ListingState,
    by_operator: bool,
    successor: Option<Ticker>,
}

/// Carries out an order.
pub async fn order(
    db: &Db,
    ticker: &Ticker,
    order: &Order,
    reason: &str,
    entry: &NewEntry,
    now: DateTime<Utc>,
) -> StoreResult<Ordered> {
    let mut tx = db.begin().await?;
    let ordered = carry_out(&mut tx, ticker, order, reason, now).await?;
    if ordered != Ordered::Now {
        tx.rollback().await?;
        return Ok(ordered);
    }
    ledger::note_in(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(ordered)
}

async fn carry_out(
    tx: &mut Tx,
    ticker: &Ticker,
    order: &Order,
    reason: &str,
    now: DateTime<Utc>,
) -> StoreResult<Ordered> {
    let other = match order {
        Order::Rename(other) | Order::Merge(other) => Some(other),
        _ => None,
    };
    // In one order, so that two such requests do not wait for each other.
    let mut rows = BTreeMap::new();
    for one in BTreeSet::from_iter([ticker].into_iter().chain(other)) {
        rows.insert(one, lock(tx, one).await?);
    }
    let Some(standing) = rows.remove(ticker).flatten() else { return Ok(Ordered::Unknown) };
    let last_bar = archive::series_in(tx, ticker).await?.and_then(|series| series.last_session());
    let to = match order {
        Order::Suspend => ListingState::Suspended,
        Order::Resume if last_bar.is_none() => ListingState::New,
        Order::Resume => ListingState::Active,
        Order::Delist => ListingState::Delisted,
        Order::Rename(_) => ListingState::Renamed,
        Order::Merge(_) => ListingState::Merged,
    };
    if stands(&standing, to, other) {
        return Ok(Ordered::Already);
    }
    // What evidence found, a person may say as well: then it holds.
    if standing.state != to && !standing.state.may_become(to) {
        let why = format!("{ticker} is {}: resume it first", standing.state);
        return Ok(Ordered::Refused(standing.state, why));
    }
    if let Some(other) = other {
        let there = rows.remove(other).flatten();
        if let Err(why) = may_succeed(ticker, other, there.as_ref()) {
            return Ok(Ordered::Refused(standing.state, why));
        }
        if matches!(order, Order::Rename(_)) {
            match taken_up(tx, ticker, other, now).await? {
                Ok(Some(batch)) => drop(archive::put(tx, &batch, now).await?),
                Ok(None) => {}
                Err(why) => return Ok(Ordered::Refused(standing.state, why)),
            }
        }
    }
    write(tx, ticker, to, other, reason, last_bar, now).await?;
    if !to.is_traded() {
        alarms::clear_all(tx, ticker, now).await?;
    }
    Ok(Ordered::Now)
}

/// Whether it stands so already, by an operator's word or as the usual state.
fn stands(standing: &Standing, to: ListingState, other: Option<&Ticker>) -> bool {
    let same = standing.state == to || to.is_traded() && standing.state.is_traded();
    same && standing.successor.as_ref() == other && (standing.by_operator || to.is_traded())
}

fn may_succeed(ticker: &Ticker, other: &Ticker, there: Option<&Standing>) -> Result<(), String> {
    if ticker == other {
        return Err(format!("{ticker} cannot be its own successor"));
    }
    if ticker.exchange() != other.exchange() {
        return Err(format!("{other} trades on another exchange, in another currency"));
    }
    match there {
        Some(there) if there.state.has_successor() || there.state == ListingState::Delisted => {
            Err(format!("{other} is {} itself", there.state))
        }
        _ => Ok(()),
    }
}

async fn lock(tx: &mut Tx, ticker: &Ticker) -> StoreResult<Option<Standing>> {
    let text = match tx.is_postgres() {
        true => "select state, decided_by, successor from ticker where exchange = $1 and ticker = $2 for update",
        false => "select state, decided_by, successor from ticker where exchange = $1 and ticker = $2",
    };
    let row: Option<(String, String, Option<String>)> = on_tx!(tx, |c| {
        sqlx::query_as(text).bind(ticker.exchange().as_str()).bind(ticker.symbol()).fetch_optional(c).await
    })
    .doing("lock a ticker")?;
    row.map(|(state, by, successor)| {
        let successor = successor.as_deref().map(successor_of).transpose()?;
        Ok(Standing { state: state_of(&state)?, by_operator: by == "operator", successor })
    })
    .transpose()
}

async fn write(
    tx: &mut Tx,
    ticker: &Ticker,
    to: ListingState,
    successor: Option<&Ticker>,
    reason: &str,
    last_bar: Option<NaiveDate>,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    // One that is resumed is watched from the next look on: its silence of before is known, and was overruled.
    on_tx!(tx, |c| {
        sqlx::query(
            "update ticker set state = $3, state_since = $4, state_why = $5, decided_by = 'operator', successor = $6, bar_then = $7,
                active = followed and $8, watched_from = case when $8 then null else watched_from end
             where exchange = $1 and ticker = $2",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(to.as_str())
        .bind(Ts::from(now))
        .bind(reason)
        .bind(successor.map(Ticker::to_string))
        .bind(last_bar)
        .bind(to.is_traded())
        .execute(c)
        .await
        .rows()
    })
    .doing("write the state of a ticker")?;
    Ok(())
}

/// The bars that a new name takes up: those of sessions in which it has none of its own. They are archived under it as given by the old name, so that
/// each says where it comes from; the old name keeps its own. Or why these two are not one security.
async fn taken_up(
    tx: &mut Tx,
    old: &Ticker,
    new: &Ticker,
    now: DateTime<Utc>,
) -> StoreResult<Result<Option<Batch>, String>> {
    let Some(from) = archive::series_in(tx, old).await? else { return Ok(Ok(None)) };
    let there = archive::series_in(tx, new).await?;
    let known: &[Bar] = there.as_ref().map(Series::bars).unwrap_or_default();
    if let Err(why) = are_one(old, new, from.bars(), known) {
        return Ok(Err(why));
    }
    let has = |session: NaiveDate| known.binary_search_by_key(&session, |bar| bar.session).is_ok();
    let bars: Vec<Bar> = from.bars().iter().filter(|bar| !has(bar.session)).copied().collect();
    let own: BTreeSet<NaiveDate> = there.iter().flat_map(Series::factors).map(|factor| factor.session).collect();
    let factors: Vec<Factor> = from.factors().iter().filter(|factor| !own.contains(&factor.session)).copied().collect();
    if bars.is_empty() && factors.is_empty() {
        return Ok(Ok(None));
    }
    let body_sha256 = hex::encode(Sha256::digest(write_bars_csv(&bars)));
    let source = old.to_string();
    Ok(Ok(Some(Batch {
        ticker: new.clone(),
        source,
        bars,
        factors,
        splits: Vec::new(),
        page_session: None,
        refused: vec![],
        fetched_at: now,
        body_sha256,
    })))
}

/// Whether two histories are of one security: their newest common closes agree, or one begins about where the other ends.
fn are_one(old: &Ticker, new: &Ticker, from: &[Bar], known: &[Bar]) -> Result<(), String> {
    let has = |bar: &&Bar| known.binary_search_by_key(&bar.session, |there| there.session).is_ok();
    let mut common: Vec<Bar> = from.iter().rev().filter(has).take(COMPARED).copied().collect();
    common.reverse();
    match compare(known, &common) {
        Overlap::Mismatch(how) => return Err(format!("{old} and {new} are two securities: {new} has {how}")),
        Overlap::Restated(factor) => {
            return Err(format!(
                "{old} and {new} are on two levels, {factor:.4} of each other: import one of them on the other's first"
            ));
        }
        Overlap::Apart | Overlap::Agrees => {}
    }
    match (common.is_empty(), from.last(), known.first()) {
        (true, Some(last), Some(first)) if !(1.0 / SAME_LEVEL..SAME_LEVEL).contains(&(first.close / last.close)) => {
            Err(format!(
                "{new} begins at {} on {}, and {old} ended at {} on {}",
                first.close, first.session, last.close, last.session
            ))
        }
        _ => Ok(()),
    }
}
