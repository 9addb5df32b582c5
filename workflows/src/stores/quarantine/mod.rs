//! The quarantine: rows and whole batches that broke a rule wait here. In comes what a judgement set aside, or what confirms it, inside the
//! transaction of the step or import; out come the rows that wait.

mod page;
mod read;
mod settle;

pub use page::EVERY_TICKER;
pub(crate) use page::{end_page, put_page};
pub use read::{Filter, QuarantineRow, get, list, open_counts, standing};
pub(crate) use settle::overtake;
pub use settle::{Settled, dismiss, release};

use super::{archive, staging};
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_tx};
use chrono::{DateTime, NaiveDate, Utc};
use market::validate::{Finding, Judged, Pending, Rule, Severity};
use market::{Batch, Ticker};
use uuid::Uuid;

/// What waits for a ticker, and what was dismissed: a judgement needs both.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Ids of `pending`, in the same order.
    pub ids: Vec<Uuid>,
    /// Rows that wait.
    pub pending: Vec<Pending>,
    /// Session and close of rows that an operator has dismissed.
    pub dismissed: Vec<(NaiveDate, f64)>,
}

/// What a judgement changes in the quarantine.
#[derive(Debug, Clone)]
pub struct SetAside {
    /// Whose rows.
    pub ticker: Ticker,
    /// Who gave them.
    pub source: String,
    /// SHA-256 of the page or file.
    pub body_sha256: String,
    /// By the market clock.
    pub fetched_at: DateTime<Utc>,
    /// Rows that are set aside.
    pub rows: Vec<Finding>,
    /// Why the batch as a whole is, and the batch itself where we have it.
    pub whole: Option<(Finding, Option<Batch>)>,
    /// Rows that waited and are confirmed.
    pub confirmed: Vec<Confirmed>,
    /// The factor by which the history is restated.
    pub restated: Option<f64>,
}

/// A row that waited and waits no longer.
#[derive(Debug, Clone)]
pub struct Confirmed {
    /// Its id.
    pub id: Uuid,
    /// What confirms it.
    pub why: String,
    /// Whether its own values enter the archive; otherwise the batch brings that session.
    pub archives: bool,
}

impl SetAside {
    /// What follows from a judgement on `batch`; `None` when that is nothing.
    pub fn of(batch: &Batch, judged: &Judged, standing: &Standing) -> Option<Self> {
        let brought = |at: usize| {
            let session = standing.pending[at].raw.session;
            judged.accepted.iter().any(|bar| Some(bar.session) == session)
        };
        let confirm = |(at, why): &(usize, String)| Confirmed {
            id: standing.ids[*at],
            why: why.clone(),
            archives: !brought(*at),
        };
        let set_aside = Self {
            ticker: batch.ticker.clone(),
            source: batch.source.clone(),
            body_sha256: batch.body_sha256.clone(),
            fetched_at: batch.fetched_at,
            // What was dismissed stands there already.
            rows: judged.of(Severity::Row).filter(|finding| finding.rule != Rule::Dismissed).cloned().collect(),
            whole: judged.whole().map(|finding| (finding.clone(), Some(batch.clone()))),
            confirmed: judged.confirmed.iter().map(confirm).collect(),
            restated: judged.restated,
        };
        let nothing = set_aside.rows.is_empty()
            && set_aside.whole.is_none()
            && set_aside.confirmed.is_empty()
            && set_aside.restated.is_none();
        (!nothing).then_some(set_aside)
    }
}

/// Writes it: rows that came before are counted, not written again.
pub(crate) async fn put(tx: &mut Tx, what: &SetAside, run: Option<Uuid>, now: DateTime<Utc>) -> StoreResult<()> {
    for finding in &what.rows {
        put_row(tx, what, finding, run, now).await?;
    }
    if let Some((finding, batch)) = &what.whole {
        put_whole(tx, what, finding, batch.as_ref(), run, now).await?;
    }
    for confirmed in &what.confirmed {
        settle::confirm(tx, confirmed, &what.source, now).await?;
    }
    if let Some(factor) = what.restated {
        note_restatement(tx, what, factor, run, now).await?;
    }
    Ok(())
}

/// Archives what an import may keep and sets aside the rest, in one transaction.
pub async fn import(
    db: &Db,
    keep: Option<&Batch>,
    set_aside: Option<&SetAside>,
    now: DateTime<Utc>,
) -> StoreResult<archive::Archived> {
    let mut tx = db.begin().await?;
    if let Some(set_aside) = set_aside {
        put(&mut tx, set_aside, None, now).await?;
    }
    let archived = match keep {
        Some(batch) => archive::put(&mut tx, batch, now).await?,
        None => archive::Archived::default(),
    };
    tx.commit().await?;
    Ok(archived)
}

async fn put_row(
    tx: &mut Tx,
    what: &SetAside,
    finding: &Finding,
    run: Option<Uuid>,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    let raw = finding.row.raw;
    // The same values from the same source are the same row, whenever they come.
    let name = format!(
        "{}|{}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}|{:?}",
        what.ticker, what.source, raw.session, raw.open, raw.high, raw.low, raw.close, raw.prev_close, raw.volume
    );
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into quarantine (id, exchange, ticker, session, rule, why, source, run_id, open, high, low, close, ltp, prev_close, volume,
                body_sha256, fetched_at, set_aside_at, seen_at, seen, state)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $18, 1, 'open')
             on conflict (id) do update set seen_at = excluded.seen_at, seen = quarantine.seen + 1",
        )
        .bind(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
        .bind(what.ticker.exchange().as_str())
        .bind(what.ticker.symbol())
        .bind(raw.session)
        .bind(finding.rule.as_str())
        .bind(&finding.why)
        .bind(&what.source)
        .bind(run)
        .bind(raw.open)
        .bind(raw.high)
        .bind(raw.low)
        .bind(raw.close)
        .bind(raw.ltp)
        .bind(raw.prev_close)
        .bind(raw.volume)
        .bind(&what.body_sha256)
        .bind(Ts::from(what.fetched_at))
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("set a row aside")?;
    Ok(())
}

async fn put_whole(
    tx: &mut Tx,
    what: &SetAside,
    finding: &Finding,
    batch: Option<&Batch>,
    run: Option<Uuid>,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    let packed = batch.map(staging::pack).transpose()?;
    // Unlike a row, a batch is never the same twice: what waits is the newest, and an id of its own tells it from those that were settled.
    let rule = finding.rule.as_str();
    let name = format!("{}|{}|{rule}|{}|{}", what.ticker, what.source, what.body_sha256, now.timestamp_micros());
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into quarantine (id, exchange, ticker, rule, why, source, run_id, batch, body_sha256, fetched_at, set_aside_at, seen_at, seen, state)
             values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, 1, 'open')
             on conflict (exchange, ticker, source, rule) where state = 'open' and session is null do update
                set why = excluded.why, run_id = excluded.run_id, batch = excluded.batch, body_sha256 = excluded.body_sha256,
                    fetched_at = excluded.fetched_at, seen_at = excluded.seen_at, seen = quarantine.seen + 1",
        )
        .bind(Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()))
        .bind(what.ticker.exchange().as_str())
        .bind(what.ticker.symbol())
        .bind(rule)
        .bind(&finding.why)
        .bind(&what.source)
        .bind(run)
        .bind(packed)
        .bind(&what.body_sha256)
        .bind(Ts::from(what.fetched_at))
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("set a batch aside")?;
    Ok(())
}

async fn note_restatement(
    tx: &mut Tx,
    what: &SetAside,
    factor: f64,
    run: Option<Uuid>,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into restatement (exchange, ticker, archived_version, factor, source, run_id, noted_at)
             select exchange, ticker, series_version, $3, $4, $5, $6 from ticker where exchange = $1 and ticker = $2
             on conflict (exchange, ticker, archived_version) do nothing",
        )
        .bind(what.ticker.exchange().as_str())
        .bind(what.ticker.symbol())
        .bind(factor)
        .bind(&what.source)
        .bind(run)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("note a restated history")?;
    Ok(())
}
