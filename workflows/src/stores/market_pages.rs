//! The market pages that were read: which tickers stood on them, and whether their rows may be taken. Written when a page is read, by whoever reads
//! it: the same page twice is one row, and what waits of it stands in the quarantine.

use super::quarantine;
use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, NaiveDate, Utc};
use market::Exchange;
use market::market_page::{PageState, PageVerdict, PagesBefore, ReadPage, judge_page};
use std::collections::BTreeSet;

/// A page as it was just read.
#[derive(Debug, Clone)]
pub struct PageSeen {
    /// Of which market.
    pub exchange: Exchange,
    /// Whose page.
    pub source: &'static str,
    /// The session that it names.
    pub session: NaiveDate,
    /// Its symbols.
    pub symbols: BTreeSet<String>,
    /// SHA-256 of its body.
    pub body_sha256: String,
    /// By the market clock.
    pub read_at: DateTime<Utc>,
}

/// Judges a page by those before it, and notes it.
pub async fn judge(db: &Db, page: &PageSeen) -> StoreResult<PageVerdict> {
    let mut tx = db.begin().await?;
    let (same, earlier) = around(&mut tx, page).await?;
    let whole = earlier.iter().find(|page| page.state.counts());
    let before = PagesBefore { same: same.as_ref(), whole, newest: earlier.first() };
    let verdict = judge_page(&page.symbols, &before, page.read_at);
    let known = same.as_ref().filter(|same| same.symbols == page.symbols);
    let now = db.now();
    match &verdict {
        PageVerdict::Take if known.is_some_and(|known| known.state.counts()) => {}
        PageVerdict::Take => {
            // An operator's release is about the session and outlives a reading with other tickers.
            let released = same.as_ref().is_some_and(|same| same.state == PageState::Released);
            put(&mut tx, page, if released { PageState::Released } else { PageState::Taken }, now).await?;
            quarantine::end_page(&mut tx, page, "overtaken", "a later reading has the tickers that were missing", now)
                .await?;
        }
        PageVerdict::Confirm(why) => {
            put(&mut tx, page, PageState::Confirmed, now).await?;
            confirm_earlier(&mut tx, page, whole.map(|page| page.session)).await?;
            quarantine::end_page(&mut tx, page, "confirmed", why, now).await?;
        }
        PageVerdict::SetAside(why) => {
            // What was taken of this session stays taken; the reading that lost its tickers is what waits.
            if !same.as_ref().is_some_and(|same| same.state.counts()) && known.is_none() {
                put(&mut tx, page, PageState::SetAside, now).await?;
            }
            quarantine::put_page(&mut tx, page, Some(page.session), why, now).await?;
        }
    }
    tx.commit().await?;
    Ok(verdict)
}

/// Notes that a page had no row at all, where one with rows was read before.
pub async fn empty(db: &Db, page: &PageSeen) -> StoreResult<()> {
    let mut tx = db.begin().await?;
    if !around(&mut tx, page).await?.1.is_empty() {
        let why = "the page has no row at all";
        quarantine::put_page(&mut tx, page, None, why, db.now()).await?;
    }
    tx.commit().await
}

/// An operator decided about the page of a session.
pub(super) async fn decided(
    tx: &mut Tx,
    exchange: &str,
    source: &str,
    session: NaiveDate,
    state: PageState,
) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query("update market_page set state = $4 where exchange = $1 and source = $2 and session = $3 and state = 'set_aside'")
            .bind(exchange)
            .bind(source)
            .bind(session)
            .bind(state.as_str())
            .execute(c)
            .await
            .rows()
    })
    .doing("decide about a market page")?;
    Ok(())
}

/// The newest pages of an exchange, newest first.
pub async fn newest(db: &Db, exchange: Exchange, limit: i64) -> StoreResult<Vec<ReadPage>> {
    let rows: Vec<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, symbols, state, read_at from market_page where exchange = $1 order by session desc, source limit $2",
        )
        .bind(exchange.as_str())
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("read the newest market pages")?;
    rows.into_iter().map(read).collect()
}

type Columns = (NaiveDate, String, String, Ts);

fn read((session, symbols, state, read_at): Columns) -> StoreResult<ReadPage> {
    let known = PageState::ALL.into_iter().find(|known| known.as_str() == state);
    let state =
        known.ok_or_else(|| StoreError::Unreadable { what: "market page", why: format!("its state is `{state}`") })?;
    Ok(ReadPage {
        session,
        symbols: symbols.split_whitespace().map(str::to_owned).collect(),
        state,
        read_at: read_at.0,
    })
}

/// An earlier reading of the same session, and the pages of the sessions before it, newest first, back to one that was taken.
async fn around(tx: &mut Tx, page: &PageSeen) -> StoreResult<(Option<ReadPage>, Vec<ReadPage>)> {
    const BACK: i64 = 20;
    let rows: Vec<Columns> = on_tx!(tx, |c| {
        sqlx::query_as(
            "select session, symbols, state, read_at from market_page where exchange = $1 and source = $2 and session <= $3
             order by session desc limit $4",
        )
        .bind(page.exchange.as_str())
        .bind(page.source)
        .bind(page.session)
        .bind(BACK)
        .fetch_all(c)
        .await
    })
    .doing("read the market pages before")?;
    let pages: Vec<ReadPage> = rows.into_iter().map(read).collect::<StoreResult<_>>()?;
    let (same, earlier): (Vec<ReadPage>, Vec<ReadPage>) =
        pages.into_iter().partition(|before| before.session == page.session);
    Ok((same.into_iter().next(), earlier))
}

/// Writes the page. When these symbols were first read stays.
async fn put(tx: &mut Tx, page: &PageSeen, state: PageState, now: DateTime<Utc>) -> StoreResult<()> {
    let symbols: Vec<&str> = page.symbols.iter().map(String::as_str).collect();
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into market_page (exchange, source, session, symbols, tickers, body_sha256, state, read_at, noted_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
             on conflict (exchange, source, session) do update set
                read_at = case when market_page.symbols = excluded.symbols then market_page.read_at else excluded.read_at end,
                symbols = excluded.symbols, tickers = excluded.tickers, body_sha256 = excluded.body_sha256, state = excluded.state,
                noted_at = excluded.noted_at",
        )
        .bind(page.exchange.as_str())
        .bind(page.source)
        .bind(page.session)
        .bind(symbols.join(" "))
        .bind(i64::try_from(symbols.len()).unwrap_or(i64::MAX))
        .bind(&page.body_sha256)
        .bind(state.as_str())
        .bind(Ts::from(page.read_at))
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("note a market page")?;
    Ok(())
}

/// A page bears out those before it that were set aside, back to the last that was taken.
async fn confirm_earlier(tx: &mut Tx, page: &PageSeen, taken: Option<NaiveDate>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query(
            "update market_page set state = 'confirmed' where exchange = $1 and source = $2 and session < $3 and session > $4
                and state = 'set_aside'",
        )
        .bind(page.exchange.as_str())
        .bind(page.source)
        .bind(page.session)
        .bind(taken.unwrap_or_default())
        .execute(c)
        .await
        .rows()
    })
    .doing("confirm earlier market pages")?;
    Ok(())
}
