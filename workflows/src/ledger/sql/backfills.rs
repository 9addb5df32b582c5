//! Backfills: runs over sessions and tickers, a few at a time. What a slice started and the cursor are one transaction, so that a backfill
//! goes on where it was, whoever died.

use super::start::start_in;
use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_read, on_tx};
use crate::ledger::words::NewRun;
use crate::plan::{TICKER, priority};
use crate::subject::Subject;
use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};
use market::{Exchange, Ticker};
use sqlx::types::Json;
use std::collections::HashMap;
use uuid::Uuid;

/// Which of the runs a backfill starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BackfillPolicy {
    /// Those for which there is no run.
    Missing,
    /// Those, and the ones whose newest run failed.
    MissingAndFailed,
    /// All of them.
    All,
}

impl BackfillPolicy {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            BackfillPolicy::Missing => "missing",
            BackfillPolicy::MissingAndFailed => "missing_and_failed",
            BackfillPolicy::All => "all",
        }
    }

    /// The policy of that word.
    pub fn from_word(word: &str) -> Option<Self> {
        [BackfillPolicy::Missing, BackfillPolicy::MissingAndFailed, BackfillPolicy::All]
            .into_iter()
            .find(|policy| policy.as_str() == word)
    }
}

/// What a backfill is asked for.
#[derive(Debug, Clone)]
pub struct NewBackfill {
    /// Its id.
    pub id: Uuid,
    /// Whose tickers.
    pub exchange: Exchange,
    /// Which of them; empty means every active one.
    pub tickers: Vec<String>,
    /// First session.
    pub from: NaiveDate,
    /// Last session.
    pub to: NaiveDate,
    /// Which runs.
    pub policy: BackfillPolicy,
    /// At most so many open at once.
    pub max_active: i64,
    /// Whether they send no request.
    pub offline: bool,
}

/// A backfill as it stands.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs, reason = "the columns of table backfill, described there")]
pub struct BackfillRow {
    pub id: Uuid,
    pub exchange: String,
    pub tickers: Json<Vec<String>>,
    pub from_session: NaiveDate,
    pub to_session: NaiveDate,
    pub policy: String,
    pub max_active: i64,
    pub offline: bool,
    pub state: String,
    pub cursor_session: NaiveDate,
    pub cursor_ticker: String,
    pub runs: i64,
    pub created_at: Ts,
    pub finished_at: Option<Ts>,
}

/// A backfill and how many of its runs have not ended.
#[derive(Debug, Clone, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct BackfillStanding {
    #[sqlx(flatten)]
    pub row: BackfillRow,
    pub open: i64,
}

/// What a backfill would find now: pairs of a ticker and a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackfillCounts {
    /// Those for which there is no run.
    pub missing: i64,
    /// Those whose newest run failed.
    pub failed: i64,
    /// All of them.
    pub all: i64,
}

impl BackfillCounts {
    /// How many runs a backfill of that policy starts.
    pub fn to_start(self, policy: BackfillPolicy) -> i64 {
        match policy {
            BackfillPolicy::Missing => self.missing,
            BackfillPolicy::MissingAndFailed => self.missing + self.failed,
            BackfillPolicy::All => self.all,
        }
    }
}

const COLUMNS: &str = "id, exchange, tickers, from_session, to_session, policy, max_active, offline, state, cursor_session, cursor_ticker, runs, created_at, finished_at";

/// Days of the range on which the exchange may trade.
fn days(exchange: Exchange, from: NaiveDate, to: NaiveDate) -> impl Iterator<Item = NaiveDate> {
    from.iter_days().take_while(move |day| *day <= to).filter(move |day| exchange.may_trade_on(day.weekday()))
}

/// How many runs it would start now, without starting any. Ten years of a whole market are one look at the sessions that have runs.
pub(in crate::ledger) async fn dry_run(db: &Db, asked: &NewBackfill) -> StoreResult<BackfillCounts> {
    let tickers: i64 = if asked.tickers.is_empty() {
        on_read!(db, |c| sqlx::query_scalar("select count(*) from ticker where exchange = $1 and active")
            .bind(asked.exchange.as_str())
            .fetch_one(c)
            .await)
        .doing("count the tickers of a backfill")?
    } else {
        i64::try_from(asked.tickers.iter().collect::<std::collections::HashSet<_>>().len()).unwrap_or(i64::MAX)
    };
    let there: Vec<(NaiveDate, i64, i64)> = on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new(
            "select aimed_session, count(*), count(*) filter (where state = 'failed') from (
                 select aimed_session, state, row_number() over (partition by aimed_session, ticker order by id desc) as nth
                 from run where exchange = ",
        );
        query.push_bind(asked.exchange.as_str());
        query.push(" and aimed_session between ").push_bind(asked.from).push(" and ").push_bind(asked.to);
        if asked.tickers.is_empty() {
            query.push(" and exists (select 1 from ticker where ticker.exchange = run.exchange and ticker.ticker = run.ticker and ticker.active)");
        } else {
            query.push(" and ticker in (");
            let mut list = query.separated(", ");
            for symbol in &asked.tickers {
                list.push_bind(symbol.clone());
            }
            query.push(")");
        }
        query.push(") newest where nth = 1 group by aimed_session");
        query.build_query_as().fetch_all(c).await
    })
    .doing("count the runs that a backfill would find")?;
    let possible = i64::try_from(days(asked.exchange, asked.from, asked.to).count()).unwrap_or(i64::MAX);
    let all = tickers.saturating_mul(possible);
    let (mut known, mut failed) = (0, 0);
    for (_, runs, of_these_failed) in there.iter().filter(|(day, ..)| asked.exchange.may_trade_on(day.weekday())) {
        known += runs;
        failed += of_these_failed;
    }
    Ok(BackfillCounts { missing: all - known, failed, all })
}

/// Notes the backfill; the scheduler starts its runs.
pub(super) async fn start_backfill(tx: &mut Tx, asked: &NewBackfill, now: DateTime<Utc>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        sqlx::query(
            "insert into backfill (id, exchange, tickers, from_session, to_session, policy, max_active, offline, state, cursor_session, cursor_ticker, created_at)
             values ($1, $2, $3, $4, $5, $6, $7, $8, 'running', $4, '', $9)",
        )
        .bind(asked.id)
        .bind(asked.exchange.as_str())
        .bind(Json(&asked.tickers))
        .bind(asked.from)
        .bind(asked.to)
        .bind(asked.policy.as_str())
        .bind(asked.max_active)
        .bind(asked.offline)
        .bind(Ts::from(now))
        .execute(c)
        .await
        .rows()
    })
    .doing("write a backfill")?;
    Ok(())
}

/// The newest backfills; only running ones when asked so.
pub(in crate::ledger) async fn backfills(db: &Db, only_running: bool, limit: i64) -> StoreResult<Vec<BackfillRow>> {
    let text = format!(
        "select {COLUMNS} from backfill where state = 'running' or $1 = 0 order by created_at desc, id limit $2"
    );
    on_read!(db, |c| sqlx::query_as(sqlx::AssertSqlSafe(text.clone()))
        .bind(i64::from(only_running))
        .bind(limit)
        .fetch_all(c)
        .await)
    .doing("read the backfills")
}

/// Backfills with their open runs, newest first, those before `before` where it is given; or one of them.
pub(in crate::ledger) async fn standings(
    db: &Db,
    only: Option<Uuid>,
    before: Option<Uuid>,
    limit: i64,
) -> StoreResult<Vec<BackfillStanding>> {
    on_read!(db, |c| {
        let mut query = sqlx::QueryBuilder::new(format!(
            "select {COLUMNS}, (select count(*) from run where run.backfill_id = backfill.id and run.state in ('queued', 'running')) as open
             from backfill where id < "
        ));
        query.push_bind(before.unwrap_or(Uuid::max()));
        if let Some(id) = only {
            query.push(" and id = ").push_bind(id);
        }
        query.push(" order by id desc limit ").push_bind(limit);
        query.build_query_as().fetch_all(c).await
    })
    .doing("list backfills")
}

/// Pauses, resumes or cancels a backfill; its open runs stay. False when it is so already, over or unknown.
pub(super) async fn steer_backfill(tx: &mut Tx, id: Uuid, to: &str, now: DateTime<Utc>) -> StoreResult<bool> {
    let finished = (to == "cancelled").then_some(Ts::from(now));
    let rows = on_tx!(tx, |c| {
        sqlx::query("update backfill set state = $2, finished_at = $3 where id = $1 and state in ('running', 'paused') and state <> $2")
            .bind(id)
            .bind(to)
            .bind(finished)
            .execute(c)
            .await
            .rows()
    })
    .doing("steer a backfill")?;
    Ok(rows == 1)
}

/// Starts as many of its runs as there is room for; how many. `new_id` makes run ids.
pub(in crate::ledger) async fn advance_backfill(
    db: &Db,
    id: Uuid,
    now: DateTime<Utc>,
    new_id: &(dyn Fn() -> Uuid + Send + Sync),
) -> StoreResult<usize> {
    let mut tx = db.begin().await?;
    let Some(row) = lock(&mut tx, id).await? else {
        tx.rollback().await?;
        return Ok(0);
    };
    let exchange: Exchange = row
        .exchange
        .parse()
        .map_err(|e: market::UnknownExchange| StoreError::Unreadable { what: "backfill", why: e.to_string() })?;
    let open: i64 = on_tx!(&mut tx, |c| {
        sqlx::query_scalar("select count(*) from run where backfill_id = $1 and state in ('queued', 'running')")
            .bind(id)
            .fetch_one(c)
            .await
    })
    .doing("count the open runs of a backfill")?;
    let room = row.max_active - open;
    if room <= 0 {
        tx.rollback().await?;
        return Ok(0);
    }
    let mut at = (row.cursor_session, row.cursor_ticker.clone());
    let mut runs: Vec<NewRun> = Vec::new();
    // A bounded stretch of the range per transaction, also where nothing is to be started.
    let mut looked = 0;
    while at.0 <= row.to_session && i64::try_from(runs.len()).unwrap_or(0) < room && looked < 50 {
        looked += 1;
        if !exchange.may_trade_on(at.0.weekday()) {
            at = (at.0 + Days::new(1), String::new());
            continue;
        }
        let symbols = symbols_after(&mut tx, exchange, &row.tickers, &at.1, 500).await?;
        let states = newest_states(&mut tx, exchange, at.0).await?;
        let done = symbols.len() < 500;
        for symbol in symbols {
            if i64::try_from(runs.len()).unwrap_or(0) >= room {
                break;
            }
            let state = states.get(&symbol).map(String::as_str);
            if wanted(&row.policy, state)
                && let Ok(ticker) = Ticker::new(exchange, &symbol)
            {
                runs.push(new_run(&row, ticker, at.0, new_id()));
            }
            at.1 = symbol;
        }
        if done && i64::try_from(runs.len()).unwrap_or(0) < room {
            at = (at.0 + Days::new(1), String::new());
        }
    }
    let over = at.0 > row.to_session;
    let started = start_in(&mut tx, &runs, now).await?.len();
    on_tx!(&mut tx, |c| {
        sqlx::query("update backfill set cursor_session = $2, cursor_ticker = $3, runs = runs + $4, state = $5, finished_at = $6 where id = $1")
            .bind(id)
            .bind(at.0)
            .bind(&at.1)
            .bind(i64::try_from(started).unwrap_or(0))
            .bind(if over { "done" } else { "running" })
            .bind(over.then_some(Ts::from(now)))
            .execute(c)
            .await
            .rows()
    })
    .doing("note how far a backfill has come")?;
    tx.commit().await?;
    Ok(started)
}

fn wanted(policy: &str, newest: Option<&str>) -> bool {
    matches!((policy, newest), ("all", _) | (_, None) | ("missing_and_failed", Some("failed")))
}

fn new_run(row: &BackfillRow, ticker: Ticker, session: NaiveDate, id: Uuid) -> NewRun {
    NewRun {
        id,
        plan: &TICKER,
        subject: Subject::Ticker(ticker),
        session,
        schedule: None,
        backfill: Some(row.id),
        priority: priority::BACKFILL,
        offline: row.offline,
        idempotency_key: None,
        repeats: None,
    }
}

async fn lock(tx: &mut Tx, id: Uuid) -> StoreResult<Option<BackfillRow>> {
    let lock = if tx.is_postgres() { " for update skip locked" } else { "" };
    let text = format!("select {COLUMNS} from backfill where id = $1 and state = 'running'{lock}");
    on_tx!(tx, |c| sqlx::query_as(sqlx::AssertSqlSafe(text.clone())).bind(id).fetch_optional(c).await)
        .doing("lock a backfill")
}

/// Symbols of the backfill in order, after `after`.
async fn symbols_after(
    tx: &mut Tx,
    exchange: Exchange,
    chosen: &[String],
    after: &str,
    limit: i64,
) -> StoreResult<Vec<String>> {
    if !chosen.is_empty() {
        let mut symbols: Vec<String> = chosen.iter().filter(|symbol| symbol.as_str() > after).cloned().collect();
        symbols.sort_unstable();
        symbols.dedup();
        symbols.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
        return Ok(symbols);
    }
    on_tx!(tx, |c| {
        sqlx::query_scalar(
            "select ticker from ticker where exchange = $1 and active and ticker > $2 order by ticker limit $3",
        )
        .bind(exchange.as_str())
        .bind(after)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("list the tickers of a backfill")
}

/// The state of the newest run of each ticker for a session.
async fn newest_states(tx: &mut Tx, exchange: Exchange, session: NaiveDate) -> StoreResult<HashMap<String, String>> {
    let rows: Vec<(String, String)> = on_tx!(tx, |c| {
        sqlx::query_as("select ticker, state from run where exchange = $1 and aimed_session = $2 and ticker is not null order by id")
            .bind(exchange.as_str())
            .bind(session)
            .fetch_all(c)
            .await
    })
    .doing("look for the runs of a session")?;
    // The newest comes last and stays.
    Ok(rows.into_iter().collect())
}
