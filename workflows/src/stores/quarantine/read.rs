//! Reading the quarantine. In comes a filter or a ticker, out come rows, newest first, or what waits for the ticker.

use super::Standing;
use crate::db::{Db, Doing, StoreError, StoreResult, Ts, on_read};
use chrono::{DateTime, NaiveDate, Utc};
use market::validate::{Pending, UnknownRule};
use market::{RawBar, Ticker};
use uuid::Uuid;

/// A row of the quarantine as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table quarantine, described there")]
pub struct QuarantineRow {
    pub id: Uuid,
    pub exchange: String,
    pub ticker: String,
    pub session: Option<NaiveDate>,
    pub rule: String,
    pub why: String,
    pub source: String,
    pub run_id: Option<Uuid>,
    pub open: Option<f64>,
    pub high: Option<f64>,
    pub low: Option<f64>,
    pub close: Option<f64>,
    pub ltp: Option<f64>,
    pub prev_close: Option<f64>,
    pub volume: Option<f64>,
    pub body_sha256: String,
    pub fetched_at: Ts,
    pub set_aside_at: Ts,
    pub seen_at: Ts,
    pub seen: i64,
    pub state: String,
    pub settled_at: Option<Ts>,
    pub settled_by: Option<String>,
    pub settled_why: Option<String>,
    pub archived_version: Option<i64>,
}

impl QuarantineRow {
    /// The values as they were given.
    pub fn raw(&self) -> RawBar {
        RawBar {
            session: self.session,
            open: self.open,
            high: self.high,
            low: self.low,
            close: self.close,
            ltp: self.ltp,
            prev_close: self.prev_close,
            volume: self.volume,
        }
    }
}

/// Which rows; what is `None` does not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only of this exchange.
    pub exchange: Option<&'static str>,
    /// Only of this symbol.
    pub ticker: Option<String>,
    /// Only in this state.
    pub state: Option<&'static str>,
    /// Only of this rule.
    pub rule: Option<&'static str>,
}

/// Rows, newest first, at most `limit`; those after `before` where it is given.
pub async fn list(
    db: &Db,
    filter: &Filter,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> StoreResult<Vec<QuarantineRow>> {
    let (at, id) = before.unzip();
    on_read!(db, |c| {
        sqlx::query_as(
            "select id, exchange, ticker, session, rule, why, source, run_id, open, high, low, close, ltp, prev_close, volume, body_sha256,
                    fetched_at, set_aside_at, seen_at, seen, state, settled_at, settled_by, settled_why, archived_version
             from quarantine
             where ($1 is null or exchange = $1) and ($2 is null or ticker = $2) and ($3 is null or state = $3) and ($4 is null or rule = $4)
                and ($5 is null or set_aside_at < $5 or set_aside_at = $5 and id < $6)
             order by set_aside_at desc, id desc limit $7",
        )
        .bind(filter.exchange)
        .bind(filter.ticker.as_deref())
        .bind(filter.state)
        .bind(filter.rule)
        .bind(at.map(Ts::from))
        .bind(id)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("list the quarantine")
}

/// One row.
pub async fn get(db: &Db, id: Uuid) -> StoreResult<Option<QuarantineRow>> {
    on_read!(db, |c| {
        sqlx::query_as(
            "select id, exchange, ticker, session, rule, why, source, run_id, open, high, low, close, ltp, prev_close, volume, body_sha256,
                    fetched_at, set_aside_at, seen_at, seen, state, settled_at, settled_by, settled_why, archived_version
             from quarantine where id = $1",
        )
        .bind(id)
        .fetch_optional(c)
        .await
    })
    .doing("read the quarantine")
}

/// How much waits, by exchange and rule.
pub async fn open_counts(db: &Db) -> StoreResult<Vec<(String, String, i64)>> {
    on_read!(db, |c| {
        sqlx::query_as(
            "select exchange, rule, count(*) from quarantine where state = 'open' group by exchange, rule order by exchange, rule",
        )
        .fetch_all(c)
        .await
    })
    .doing("count the quarantine")
}

/// What waits for a ticker, and what was dismissed.
pub async fn standing(db: &Db, ticker: &Ticker) -> StoreResult<Standing> {
    let rows: Vec<QuarantineRow> = on_read!(db, |c| {
        sqlx::query_as(
            "select id, exchange, ticker, session, rule, why, source, run_id, open, high, low, close, ltp, prev_close, volume, body_sha256,
                    fetched_at, set_aside_at, seen_at, seen, state, settled_at, settled_by, settled_why, archived_version
             from quarantine where exchange = $1 and ticker = $2 and session is not null and state in ('open', 'dismissed')
             order by session, id",
        )
        .bind(ticker.exchange().as_str())
        .bind(ticker.symbol())
        .fetch_all(c)
        .await
    })
    .doing("read what waits of a ticker")?;
    let mut standing = Standing::default();
    for row in rows {
        let raw = row.raw();
        match (row.state.as_str(), raw.session, raw.close) {
            ("dismissed", Some(session), Some(close)) => standing.dismissed.push((session, close)),
            ("open", ..) => {
                let rule = row.rule.parse().map_err(|error: UnknownRule| StoreError::Unreadable {
                    what: "quarantined row",
                    why: error.to_string(),
                })?;
                standing.ids.push(row.id);
                standing.pending.push(Pending { rule, source: row.source, raw });
            }
            _ => {}
        }
    }
    Ok(standing)
}
