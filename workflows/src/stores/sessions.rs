//! The calendar's evidence: sessions that were seen in bars (table `session`, written by the archive), and what an operator or the sources say of days
//! (`session_evidence`). In comes what is said, out goes a [`Calendar`], or one row after the other for whoever asks why.

use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_read, on_tx};
use crate::ledger::{self, NewEntry};
use chrono::{DateTime, Days, NaiveDate, Utc};
use market::{Calendar, EVIDENCE_DAYS, Exchange, Witness, Word};

/// What stands in the tables about one day.
#[derive(Debug, Clone, PartialEq)]
pub struct Noted {
    /// The day.
    pub session: NaiveDate,
    /// Who speaks; `None`: a bar of that day was archived.
    pub by: Option<Witness>,
    /// Whether the exchange trades.
    pub open: bool,
    /// The first bar, the operator's reason, or what the sources showed.
    pub evidence: String,
    /// Who noted it; empty for a bar.
    pub noted_by: String,
    /// By the engine clock.
    pub noted_at: DateTime<Utc>,
}

/// Everything that is known of the exchange's days from half a year before `from` on: enough to tell of any day since then, and what comes next.
pub async fn calendar(db: &Db, exchange: Exchange, from: NaiveDate) -> StoreResult<Calendar> {
    let since = from - Days::new(EVIDENCE_DAYS);
    let seen = super::archive::observed_sessions(db, exchange, since).await?;
    let words = evidence(db, exchange, since, NaiveDate::MAX).await?;
    Ok(Calendar::new(exchange, seen, words.into_iter().filter_map(word).collect()))
}

/// What operators say of the days since `since`, of every exchange.
pub async fn operators_words(db: &Db, since: NaiveDate) -> StoreResult<Vec<(Exchange, Word)>> {
    let rows: Vec<(String, NaiveDate, String, String)> = on_read!(db, |c| {
        sqlx::query_as(
            "select exchange, session, state, evidence from session_evidence where basis = $1 and session >= $2 order by exchange, session",
        )
        .bind(Witness::Operator.as_str())
        .bind(since)
        .fetch_all(c)
        .await
    })
    .doing("read what operators say of days")?;
    rows.into_iter()
        .map(|(exchange, session, state, why)| {
            let unreadable = |e: market::UnknownExchange| StoreError::Unreadable {
                what: "evidence of a session",
                why: e.to_string(),
            };
            let word = Word { session, open: state == "open", by: Witness::Operator, why };
            Ok((exchange.parse().map_err(unreadable)?, word))
        })
        .collect()
}

fn word(Noted { session, by, open, evidence, .. }: Noted) -> Option<Word> {
    Some(Word { session, open, by: by?, why: evidence })
}

/// What stands in the tables about the days from `from` to `to`, oldest first.
pub async fn noted(db: &Db, exchange: Exchange, from: NaiveDate, to: NaiveDate) -> StoreResult<Vec<Noted>> {
    let seen: Vec<(NaiveDate, String, Ts)> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, evidence, observed_at from session where exchange = $1 and session >= $2 and session <= $3 order by session",
        )
        .bind(exchange.as_str())
        .bind(from)
        .bind(to)
        .fetch_all(c)
        .await
    })
    .doing("read the sessions that were seen")?;
    let seen = seen.into_iter().map(|(session, evidence, at)| Noted {
        session,
        by: None,
        open: true,
        evidence,
        noted_by: String::new(),
        noted_at: at.0,
    });
    let mut all: Vec<Noted> = evidence(db, exchange, from, to).await?.into_iter().chain(seen).collect();
    all.sort_by_key(|noted| noted.session);
    Ok(all)
}

async fn evidence(db: &Db, exchange: Exchange, from: NaiveDate, to: NaiveDate) -> StoreResult<Vec<Noted>> {
    type Columns = (NaiveDate, String, String, String, String, Ts);
    // The greatest date that both databases keep.
    let to = to.min(NaiveDate::from_ymd_opt(9999, 12, 31).unwrap_or(NaiveDate::MAX));
    let rows: Vec<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select session, basis, state, evidence, noted_by, noted_at from session_evidence
             where exchange = $1 and session >= $2 and session <= $3 order by session, basis",
        )
        .bind(exchange.as_str())
        .bind(from)
        .bind(to)
        .fetch_all(c)
        .await
    })
    .doing("read what is said of days")?;
    rows.into_iter()
        .map(|(session, basis, state, evidence, noted_by, at)| {
            let by = [Witness::Operator, Witness::Sources].into_iter().find(|by| by.as_str() == basis);
            let unreadable =
                || StoreError::Unreadable { what: "evidence of a session", why: format!("basis `{basis}`") };
            let by = Some(by.ok_or_else(unreadable)?);
            Ok(Noted { session, by, open: state == "open", evidence, noted_by, noted_at: at.0 })
        })
        .collect()
}

/// Writes what is said of a day, in place of what the same witness said before; false when that stood there already.
pub(crate) async fn put(
    tx: &mut Tx,
    exchange: Exchange,
    word: &Word,
    noted_by: &str,
    now: DateTime<Utc>,
) -> StoreResult<bool> {
    let rows = on_tx!(tx, |c| {
        sqlx::query(
            "insert into session_evidence (exchange, session, basis, state, evidence, noted_by, noted_at) values ($1, $2, $3, $4, $5, $6, $7)
             on conflict (exchange, session, basis) do update set state = excluded.state, evidence = excluded.evidence,
                noted_by = excluded.noted_by, noted_at = excluded.noted_at
             where session_evidence.state <> excluded.state or session_evidence.evidence <> excluded.evidence",
        )
        .bind(exchange.as_str())
        .bind(word.session)
        .bind(word.by.as_str())
        .bind(if word.open { "open" } else { "closed" })
        .bind(&word.why)
        .bind(noted_by)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("note what is said of a day")?;
    Ok(rows == 1)
}

/// An operator's word on a day, and its audit; false when it stood so already, and nothing was written.
pub async fn override_day(
    db: &Db,
    exchange: Exchange,
    word: &Word,
    entry: &NewEntry,
    now: DateTime<Utc>,
) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let changed = put(&mut tx, exchange, word, &entry.who, now).await?;
    ended(tx, changed, entry).await
}

/// Takes an operator's word on a day back, and writes the audit; false when there was none.
pub async fn take_back(db: &Db, exchange: Exchange, session: NaiveDate, entry: &NewEntry) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let rows = on_tx!(&mut tx, |c| {
        sqlx::query("delete from session_evidence where exchange = $1 and session = $2 and basis = $3")
            .bind(exchange.as_str())
            .bind(session)
            .bind(Witness::Operator.as_str())
            .execute(c)
            .await
            .rows()
    })
    .doing("take back what was said of a day")?;
    ended(tx, rows == 1, entry).await
}

async fn ended(mut tx: Tx, changed: bool, entry: &NewEntry) -> StoreResult<bool> {
    if changed {
        ledger::note_in(&mut tx, entry).await?;
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(changed)
}
