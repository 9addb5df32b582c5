//! What an exchange needs beside its tickers' runs: the market's return of each session as soon as it is complete, a global model that is not too
//! old, and scores for forecasts whose close has come. Looked at by every scheduler; rows and idempotency keys decide who does it.

use crate::db::{Db, Doing, StoreResult, Ts, on_read};
use crate::duty::Duty;
use crate::engine::Engine;
use crate::ledger::NewRun;
use crate::plan::{PRETRAIN, Plan, SETTLE, TICKER, priority};
use crate::session_duties;
use crate::stores::{globals, market_days, record};
use crate::subject::Subject;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Exchange, latest_evening};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// A session that is not complete is taken as it is so long after its first close was seen.
pub const MARKET_DEADLINE: TimeDelta = TimeDelta::minutes(60);
/// A global model is trained anew after so many sessions: a quarter of a year.
const PRETRAIN_EVERY: i64 = 63;
/// With fewer archived closes there is no use in trying.
const CLOSES_MIN: i64 = 1_250;

/// Forecasts are settled when the runs of the newest session are over, or so long after it was first seen.
const SETTLE_WITHOUT: TimeDelta = TimeDelta::hours(2);
/// What comes later than that is settled in rounds of this length.
const SETTLE_EVERY: TimeDelta = TimeDelta::minutes(10);

/// Looks after both exchanges until `stop`.
pub async fn look_after_exchanges(engine: Arc<Engine>, offline: bool, stop: CancellationToken) {
    let (mut duty, mut seen) = (Duty::new("the exchanges could not be looked after", stop), Seen::default());
    while duty.goes_on() {
        let came = look_after(&engine, offline, &mut seen).await;
        duty.looked(came).await;
    }
}

/// The rounds of settlement, and those of looking back on evenings, that need no other look, so that they are not looked at every second.
#[derive(Debug, Default)]
pub struct Seen {
    settled: BTreeMap<Exchange, (NaiveDate, i64)>,
    evenings: BTreeMap<Exchange, (NaiveDate, i64)>,
}

impl Seen {
    fn note(&mut self, exchange: Exchange, session: NaiveDate, now: DateTime<Utc>) {
        self.settled.insert(exchange, (session, round(now)));
    }

    fn has(&self, exchange: Exchange, session: NaiveDate, now: DateTime<Utc>) -> bool {
        self.settled.get(&exchange) == Some(&(session, round(now)))
    }
}

fn round(now: DateTime<Utc>) -> i64 {
    now.timestamp() / SETTLE_EVERY.num_seconds()
}

/// Looks after both exchanges once.
///
/// # Errors
/// The ledger's.
pub async fn look_after(engine: &Arc<Engine>, offline: bool, seen: &mut Seen) -> StoreResult<()> {
    let Some(db) = engine.ledger.db() else { return Ok(()) };
    for exchange in [Exchange::Nasdaq, Exchange::Nepse] {
        for session in market_days::complete(db, exchange, MARKET_DEADLINE, engine.ledger.now()).await? {
            tracing::info!(%exchange, %session, "the market's return of a session is known");
            engine.nudge();
        }
        if let Some((key, session)) = pretraining_due(db, exchange).await? {
            start(engine, &PRETRAIN, exchange, key, session, offline).await?;
            tracing::info!(%exchange, %session, "a new global model is due");
        }
        // What would be learnt from runs that send no request says nothing of the exchange.
        let evening = (latest_evening(exchange, engine.market_clock.now()), round(engine.ledger.now()));
        if !offline && seen.evenings.insert(exchange, evening) != Some(evening) {
            session_duties::look_back(engine, exchange).await?;
        }
        if let Some((key, session)) = settlement_due(db, exchange, engine.ledger.now(), seen).await? {
            start(engine, &SETTLE, exchange, key, session, offline).await?;
            seen.note(exchange, session, engine.ledger.now());
        }
    }
    Ok(())
}

/// The key and the session of a pre-training that is due, once for each session until one succeeds; `None` when there is none.
async fn pretraining_due(db: &Db, exchange: Exchange) -> StoreResult<Option<(String, NaiveDate)>> {
    let global = globals::newest(db, exchange).await?;
    let after = global.as_ref().map_or(NaiveDate::default(), |global| global.as_of);
    let (newer, last): (i64, Option<NaiveDate>) = on_read!(db, |c| {
        sqlx::query_as("select count(*), max(session) from session where exchange = $1 and session > $2")
            .bind(exchange.as_str())
            .bind(after)
            .fetch_one(c)
            .await
    })
    .doing("count the sessions since the last pre-training")?;
    let Some(last) = last.filter(|_| global.is_none() || newer >= PRETRAIN_EVERY) else { return Ok(None) };
    let key = format!("pretrain:{exchange}:{last}");
    let (closes, asked): (Option<i64>, i64) = on_read!(db, |c| {
        sqlx::query_as(
            "select (select cast(sum(bars) as bigint) from series where exchange = $1), (select count(*) from start_key where key = $2)",
        )
        .bind(exchange.as_str())
        .bind(&key)
        .fetch_one(c)
        .await
    })
    .doing("count the closes that a pre-training would learn from")?;
    Ok((closes.unwrap_or(0) >= CLOSES_MIN && asked == 0).then_some((key, last)))
}

/// The key and the session of a settlement that is due, once in each round; `None` when there is none.
async fn settlement_due(
    db: &Db,
    exchange: Exchange,
    now: DateTime<Utc>,
    seen: &mut Seen,
) -> StoreResult<Option<(String, NaiveDate)>> {
    let newest: Option<(NaiveDate, Ts)> = on_read!(db, |c| {
        sqlx::query_as("select session, observed_at from session where exchange = $1 order by session desc limit 1")
            .bind(exchange.as_str())
            .fetch_optional(c)
            .await
    })
    .doing("look for the newest session")?;
    let Some((session, observed_at)) = newest else { return Ok(None) };
    if seen.has(exchange, session, now) {
        return Ok(None);
    }
    if now - observed_at.0 < SETTLE_WITHOUT && runs_are_open(db, exchange, session).await? {
        return Ok(None);
    }
    if !record::is_due(db, exchange, session).await? {
        seen.note(exchange, session, now);
        return Ok(None);
    }
    Ok(Some((format!("settle:{exchange}:{session}:{}", round(now)), session)))
}

/// Whether tickers' runs of this session are under way.
async fn runs_are_open(db: &Db, exchange: Exchange, session: NaiveDate) -> StoreResult<bool> {
    let open: i64 = on_read!(db, |c| {
        sqlx::query_scalar(
            "select count(*) from (select 1 from run
               where exchange = $1 and aimed_session = $2 and plan = $3 and state in ('queued', 'running') limit 1) as open",
        )
        .bind(exchange.as_str())
        .bind(session)
        .bind(TICKER.name)
        .fetch_one(c)
        .await
    })
    .doing("look for runs of a session")?;
    Ok(open > 0)
}

async fn start(
    engine: &Arc<Engine>,
    plan: &'static Plan,
    exchange: Exchange,
    key: String,
    session: NaiveDate,
    offline: bool,
) -> StoreResult<()> {
    let run = NewRun {
        id: engine.new_run_id(),
        plan,
        subject: Subject::Exchange(exchange),
        session,
        schedule: None,
        backfill: None,
        priority: priority::SCHEDULED,
        offline,
        idempotency_key: Some(key),
        repeats: None,
    };
    engine.start(&[run]).await?;
    Ok(())
}
