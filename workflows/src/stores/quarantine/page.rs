//! Market pages that wait as a whole. Such a row has `*` for its ticker, and no values: what is released is the page, whose rows come with the next
//! run of each ticker.

use crate::db::{Doing, Rows, StoreResult, Ts, Tx, on_tx};
use crate::stores::market_pages::PageSeen;
use chrono::{DateTime, NaiveDate, Utc};
use market::validate::Rule;
use uuid::Uuid;

/// Stands for every ticker of the page.
pub const EVERY_TICKER: &str = "*";

/// Sets a page aside; the same session again is counted. `session` is `None` where the page names none.
pub(crate) async fn put_page(
    tx: &mut Tx,
    page: &PageSeen,
    session: Option<NaiveDate>,
    why: &str,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    // One that was ended and comes back waits anew; an operator's word stays.
    let name = format!("{}|{}|page|{session:?}", page.exchange, page.source);
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into quarantine (id, exchange, ticker, session, rule, why, source, body_sha256, fetched_at, set_aside_at, seen_at, seen, state)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, 1, 'open')
             on conflict (id) do update set why = excluded.why, body_sha256 = excluded.body_sha256, fetched_at = excluded.fetched_at,
                seen_at = excluded.seen_at, seen = quarantine.seen + 1,
                state = case when quarantine.state in ('confirmed', 'overtaken') then 'open' else quarantine.state end,
                settled_at = case when quarantine.state in ('confirmed', 'overtaken') then null else quarantine.settled_at end",
        )
        .bind(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
        .bind(page.exchange.as_str())
        .bind(EVERY_TICKER)
        .bind(session)
        .bind(Rule::PartialPage.as_str())
        .bind(why)
        .bind(page.source)
        .bind(&page.body_sha256)
        .bind(Ts::from(page.read_at))
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("set a market page aside")?;
    Ok(())
}

/// A page was taken or confirmed: what waits of it, or of pages before it that it bears out, waits no longer.
pub(crate) async fn end_page(
    tx: &mut Tx,
    page: &PageSeen,
    state: &str,
    why: &str,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    // A full page says nothing about an earlier session's; one that confirms does.
    let earlier = state == "confirmed";
    on_tx!(tx, |c| {
        sqlx::query(
            "update quarantine set state = $5, settled_at = $6, settled_by = $2, settled_why = $7
             where exchange = $1 and source = $2 and ticker = $3 and rule = $8 and state = 'open'
               and (session is null or session = $4 or $9 and session < $4)",
        )
        .bind(page.exchange.as_str())
        .bind(page.source)
        .bind(EVERY_TICKER)
        .bind(page.session)
        .bind(state)
        .bind(Ts::from(now))
        .bind(why)
        .bind(Rule::PartialPage.as_str())
        .bind(earlier)
        .execute(c)
        .await
        .rows()
    })
    .doing("end the waiting of a market page")?;
    Ok(())
}
