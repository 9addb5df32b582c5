//! How a quarantined row stops waiting: released or dismissed by an operator, confirmed by later data, overtaken by a batch that agrees. What
//! is released or confirmed enters the archive in the same transaction, with the source that gave it; a market page is taken from then on.

use super::{Confirmed, QuarantineRow};
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_tx};
use crate::ledger::{self, NewEntry};
use crate::stores::{archive, market_pages, staging, ticker_of};
use chrono::{DateTime, Utc};
use market::market_page::PageState;
use market::validate::Rule;
use market::{Bar, Batch, RawBar, Ticker};
use uuid::Uuid;

/// What came of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It was carried out.
    Now,
    /// It stood so already.
    Already,
    /// It was decided otherwise before.
    Otherwise,
    /// There are no values that could be accepted: the source kept them to itself.
    NothingKept,
    /// There is no such row.
    Unknown,
}

/// Accepts what was set aside, as it is: it enters the archive as a revision of its source.
pub async fn release(db: &Db, id: Uuid, why: &str, entry: &NewEntry, now: DateTime<Utc>) -> StoreResult<Settled> {
    let mut tx = db.begin().await?;
    let found = end(&mut tx, id, "released", &entry.who, why, now).await?;
    let Some((row, batch)) = found else {
        tx.rollback().await?;
        return otherwise(db, id, "released").await;
    };
    if row.rule == Rule::PartialPage.as_str() {
        // Its rows come with the next run of each ticker.
        let Some(session) = row.session else {
            tx.rollback().await?;
            return Ok(Settled::NothingKept);
        };
        market_pages::decided(&mut tx, &row.exchange, &row.source, session, PageState::Released).await?;
    } else {
        let Some(batch) = accepted(&row, batch)? else {
            tx.rollback().await?;
            return Ok(Settled::NothingKept);
        };
        let version = archive::put(&mut tx, &batch, now).await?.version;
        note_version(&mut tx, id, version).await?;
    }
    ledger::note_in(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(Settled::Now)
}

/// Decides that it stays out for good.
pub async fn dismiss(db: &Db, id: Uuid, why: &str, entry: &NewEntry, now: DateTime<Utc>) -> StoreResult<Settled> {
    let mut tx = db.begin().await?;
    let Some((row, _)) = end(&mut tx, id, "dismissed", &entry.who, why, now).await? else {
        tx.rollback().await?;
        return otherwise(db, id, "dismissed").await;
    };
    if let Some(session) = row.session.filter(|_| row.rule == Rule::PartialPage.as_str()) {
        market_pages::decided(&mut tx, &row.exchange, &row.source, session, PageState::Dismissed).await?;
    }
    ledger::note_in(&mut tx, entry).await?;
    tx.commit().await?;
    Ok(Settled::Now)
}

/// Later data confirms it. One that an operator settled meanwhile stays as they said.
pub(super) async fn confirm(tx: &mut Tx, what: &Confirmed, by: &str, now: DateTime<Utc>) -> StoreResult<()> {
    let Some((row, batch)) = end(tx, what.id, "confirmed", by, &what.why, now).await? else { return Ok(()) };
    if what.archives
        && let Some(batch) = accepted(&row, batch)?
    {
        let version = archive::put(tx, &batch, now).await?.version;
        note_version(tx, what.id, version).await?;
    }
    Ok(())
}

/// A batch of the source agrees with the archive again: what it had set aside as a whole is of no more use.
pub(crate) async fn overtake(tx: &mut Tx, ticker: &Ticker, source: &str, now: DateTime<Utc>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query(
            "update quarantine set state = 'overtaken', settled_at = $4, settled_by = $3, settled_why = 'a later batch agrees with the archive'
             where exchange = $1 and ticker = $2 and source = $3 and session is null and state = 'open'",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .bind(source)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("end what a later batch has overtaken")?;
    Ok(())
}

/// Ends the waiting of a row; `None` when it does not wait.
async fn end(
    tx: &mut Tx,
    id: Uuid,
    state: &'static str,
    by: &str,
    why: &str,
    now: DateTime<Utc>,
) -> StoreResult<Option<(QuarantineRow, Option<Vec<u8>>)>> {
    let row: Option<QuarantineRow> = on_tx!(tx, |c| {
        sqlx::query_as(
            "update quarantine set state = $2, settled_at = $3, settled_by = $4, settled_why = $5 where id = $1 and state = 'open'
             returning id, exchange, ticker, session, rule, why, source, run_id, open, high, low, close, ltp, prev_close, volume, body_sha256,
                fetched_at, set_aside_at, seen_at, seen, state, settled_at, settled_by, settled_why, archived_version",
        )
        .bind(id)
        .bind(state)
        .bind(Ts::from(now))
        .bind(by)
        .bind(why)
        .fetch_optional(c)
        .await
    })
    .doing("settle a quarantined row")?;
    let Some(row) = row else { return Ok(None) };
    let batch: Option<Vec<u8>> =
        on_tx!(tx, |c| sqlx::query_scalar("select batch from quarantine where id = $1").bind(id).fetch_one(c).await)
            .doing("read a quarantined batch")?;
    Ok(Some((row, batch)))
}

async fn otherwise(db: &Db, id: Uuid, wanted: &str) -> StoreResult<Settled> {
    Ok(match super::get(db, id).await? {
        None => Settled::Unknown,
        Some(row) if row.state == wanted => Settled::Already,
        Some(_) => Settled::Otherwise,
    })
}

async fn note_version(tx: &mut Tx, id: Uuid, version: i64) -> StoreResult<()> {
    on_tx!(tx, |c| sqlx::query("update quarantine set archived_version = $2 where id = $1")
        .bind(id)
        .bind(version)
        .execute(c)
        .await
        .rows())
    .doing("note as which version a row was archived")?;
    Ok(())
}

/// What enters the archive; `None` when there is nothing that could.
fn accepted(row: &QuarantineRow, batch: Option<Vec<u8>>) -> StoreResult<Option<Batch>> {
    if row.session.is_none() {
        return batch.as_deref().map(staging::unpack).transpose();
    }
    let raw = row.raw();
    // Where high and low contradict each other neither is known.
    let without_range = RawBar { high: None, low: None, ..raw };
    let Some(bar) = raw.check().or_else(|_| without_range.check()).ok() else { return Ok(None) };
    Ok(Some(one(row, ticker_of(&row.exchange, &row.ticker)?, bar)))
}

fn one(row: &QuarantineRow, ticker: Ticker, bar: Bar) -> Batch {
    Batch {
        ticker,
        source: row.source.clone(),
        bars: vec![bar],
        factors: Vec::new(),
        splits: Vec::new(),
        page_session: None,
        refused: Vec::new(),
        fetched_at: row.fetched_at.0,
        body_sha256: row.body_sha256.clone(),
    }
}
