//! The public record: which forecasts have no score yet, what is known since they were made, their scores, and what the scores add up to. Scores
//! are append-only; a revised close gives another revision.

use super::forecasts::{self, StoredForecast};
use super::{archive, skill};
use crate::db::{Db, Doing, Rows, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, Days, NaiveDate, Utc};
use market::{Exchange, Factor, Scored, Sums, Ticker};
use sqlx::QueryBuilder;
use uuid::Uuid;

/// A revised close is noticed for so many days after its session.
const LOOKED_AT_AGAIN: Days = Days::new(21);
/// Rows per statement: 24 binds each stay below SQLite's 32,766.
const CHUNK: usize = 500;

/// Which forecasts a sum is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Line {
    /// What readers got.
    Served,
    /// What the tickers' own models said, served or not.
    Own,
    /// What the exchange's global model said, served or not.
    Global,
}

impl Line {
    /// All of them.
    pub const ALL: [Line; 3] = [Line::Served, Line::Own, Line::Global];

    /// The word in tables and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Line::Served => "served",
            Line::Own => "own",
            Line::Global => "global",
        }
    }
}

/// A forecast that has no score, or one against a close that has changed.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsettled {
    /// The forecast.
    pub stored: StoredForecast,
    /// Whether readers got it.
    pub served: bool,
    /// The score that it has.
    pub scored: Option<Counted>,
}

/// How a score counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    /// Its revision.
    pub revision: i64,
    /// Whether readers got it, as the last word on its session.
    pub served: bool,
}

/// A score to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct NewScore {
    /// The forecast.
    pub forecast: Uuid,
    /// From 0.
    pub revision: i64,
    /// Whose.
    pub ticker: Ticker,
    /// `own`, `global` or `baseline`.
    pub made_by: &'static str,
    /// Whether readers got it, as the last word on its session.
    pub served: bool,
    /// Whether it was hindsight.
    pub hindcast: bool,
    /// The score.
    pub scored: Scored,
}

/// Why a forecast has no score and gets none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unscored {
    /// The ticker did not trade in its session.
    NotTraded,
    /// No close was ever seen.
    NoClose,
    /// A later one from the same line of models took its place before the session.
    Superseded,
}

impl Unscored {
    /// The word in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Unscored::NotTraded => "not_traded",
            Unscored::NoClose => "no_close",
            Unscored::Superseded => "superseded",
        }
    }
}

/// What one settlement of an exchange writes.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Whose.
    pub exchange: Exchange,
    /// New scores.
    pub scores: Vec<NewScore>,
    /// Forecasts that get none.
    pub unscored: Vec<(Uuid, Unscored)>,
    /// What changes in the alarms.
    pub alarms: super::alarms::Changes,
}

type UnsettledColumns = (Uuid, sqlx::types::Json<market::Forecast>, Ts, String, bool, Option<i64>, Option<bool>);

/// Forecasts whose target has come, in order of ticker and as-of: at most `limit` without a score, all of one ticker and target or none of them, for they
/// are judged together; and as many whose close of late is not the one they were scored against.
pub async fn unsettled(db: &Db, exchange: Exchange, newest: NaiveDate, limit: i64) -> StoreResult<Vec<Unsettled>> {
    let mut open: Vec<UnsettledColumns> = on_read!(db, |c| {
        sqlx::query_as(
            "select id, body, stored_at, kind, served, null as revision, null as counted from forecast
             where exchange = $1 and settled is null and target <= $2 order by target, ticker, as_of, stored_at, id limit $3",
        )
        .bind(exchange.as_str())
        .bind(newest)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("look for forecasts without a score")?;
    if open.len() as i64 == limit {
        let of = |row: &UnsettledColumns| (row.1.0.target, row.1.0.ticker.clone());
        let cut_off = open.last().map(of);
        open.retain(|row| Some(of(row)) != cut_off);
    }
    let revised: Vec<UnsettledColumns> = on_read!(db, |c| {
        sqlx::query_as(
            "select f.id, f.body, f.stored_at, f.kind, f.served, s.revision, s.served as counted from score s
             join price_daily p on p.exchange = s.exchange and p.ticker = s.ticker and p.session = s.session
             join forecast f on f.id = s.forecast_id
             where s.exchange = $1 and s.session >= $2 and s.newest and p.close <> s.close limit $3",
        )
        .bind(exchange.as_str())
        .bind(newest.checked_sub_days(LOOKED_AT_AGAIN).unwrap_or(newest))
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("look for closes that were revised")?;
    let row = |(id, body, stored_at, kind, served, revision, counted): UnsettledColumns| Unsettled {
        stored: forecasts::row((id, body, stored_at, kind)),
        served,
        scored: revision.map(|revision| Counted { revision, served: counted.unwrap_or(false) }),
    };
    let mut all: Vec<Unsettled> = open.into_iter().chain(revised).map(row).collect();
    all.sort_by(|a, b| {
        let key = |u: &Unsettled| (u.stored.forecast.ticker.clone(), u.stored.forecast.as_of, u.stored.stored_at);
        key(a).cmp(&key(b))
    });
    Ok(all)
}

/// Whether a forecast without a score could have one: its ticker has a close of its target's session, or of a later one.
pub async fn is_due(db: &Db, exchange: Exchange, newest: NaiveDate) -> StoreResult<bool> {
    let found: i64 = on_read!(db, |c| {
        sqlx::query_scalar(
            "select count(*) from (select 1 from forecast f where f.exchange = $1 and f.settled is null and f.target <= $2 and exists
               (select 1 from price_daily p where p.exchange = f.exchange and p.ticker = f.ticker and p.session >= f.target) limit 1) as due",
        )
        .bind(exchange.as_str())
        .bind(newest)
        .fetch_one(c)
        .await
    })
    .doing("look for forecasts that could be scored")?;
    Ok(found > 0)
}

/// The exchange's sessions after `after` that have been observed, oldest first.
pub async fn sessions(db: &Db, exchange: Exchange, after: NaiveDate) -> StoreResult<Vec<NaiveDate>> {
    on_read!(db, |c| {
        sqlx::query_scalar("select session from session where exchange = $1 and session > $2 order by session")
            .bind(exchange.as_str())
            .bind(after)
            .fetch_all(c)
            .await
    })
    .doing("list the observed sessions")
}

/// What is known of a ticker since its forecasts were made.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// Its closes, oldest first.
    pub closes: Vec<(NaiveDate, f64)>,
    /// Its corporate actions.
    pub factors: Vec<Factor>,
    /// When its history was restated as a whole, by the engine clock, and by which factor.
    pub restated: Vec<(DateTime<Utc>, f64)>,
}

impl Known {
    /// Between the level of prices at `stored_at` and today's: a history that was restated since has moved.
    pub fn level_since(&self, stored_at: DateTime<Utc>) -> f64 {
        self.restated.iter().filter(|(at, _)| *at > stored_at).map(|(_, factor)| factor).product()
    }
}

/// The ticker's closes after `after`, all its corporate actions and restatements.
pub async fn since(db: &Db, ticker: &Ticker, after: NaiveDate) -> StoreResult<Known> {
    let closes = on_read!(db, |c| {
        sqlx::query_as("select session, close from price_daily where exchange = $1 and ticker = $2 and session > $3 order by session")
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .bind(after)
            .fetch_all(c)
            .await
    })
    .doing("read the closes since a forecast")?;
    let restated: Vec<(Ts, f64)> = on_read!(db, |c| {
        sqlx::query_as("select noted_at, factor from restatement where exchange = $1 and ticker = $2 order by noted_at")
            .bind(ticker.exchange().as_str())
            .bind(ticker.symbol())
            .fetch_all(c)
            .await
    })
    .doing("read how a history was restated")?;
    let restated = restated.into_iter().map(|(at, factor)| (at.0, factor)).collect();
    Ok(Known { closes, factors: archive::factors(db, ticker).await?, restated })
}

/// Writes scores and what has none, and adds the sessions concerned up anew.
pub(crate) async fn put(tx: &mut Tx, settlement: &Settlement, run: Uuid, now: DateTime<Utc>) -> StoreResult<()> {
    for again in settlement.scores.iter().filter(|score| score.revision > 0) {
        on_tx!(tx, |c| {
            sqlx::query("update score set newest = false where forecast_id = $1")
                .bind(again.forecast)
                .execute(c)
                .await
                .rows()
        })
        .doing("put an older score aside")?;
    }
    for chunk in settlement.scores.chunks(CHUNK) {
        insert(tx, chunk, run, now).await?;
        mark(tx, chunk.iter().map(|score| score.forecast), "scored").await?;
    }
    for reason in [Unscored::NotTraded, Unscored::NoClose, Unscored::Superseded] {
        let ids: Vec<Uuid> = settlement.unscored.iter().filter(|(_, why)| *why == reason).map(|(id, _)| *id).collect();
        for chunk in ids.chunks(CHUNK) {
            mark(tx, chunk.iter().copied(), reason.as_str()).await?;
        }
    }
    let mut sessions: Vec<NaiveDate> = settlement.scores.iter().map(|score| score.scored.session).collect();
    sessions.sort_unstable();
    sessions.dedup();
    for session in sessions {
        add_up(tx, settlement.exchange, session).await?;
    }
    super::alarms::change(tx, settlement.exchange, &settlement.alarms, super::alarms::By::Run(run), now).await
}

async fn insert(tx: &mut Tx, scores: &[NewScore], run: Uuid, now: DateTime<Utc>) -> StoreResult<()> {
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new(
            "insert into score (forecast_id, revision, newest, exchange, ticker, session, made_by, served, hindcast, close, reference, scale,
               error, naive_error, wis, wis_ewma, wis_eq, in80, in95, pit, call, came, scored_at, run_id) ",
        );
        query.push_values(scores, |mut row, score| {
            let of = &score.scored;
            row.push_bind(score.forecast)
                .push_bind(score.revision)
                .push_bind(true)
                .push_bind(score.ticker.exchange().as_str())
                .push_bind(score.ticker.symbol().to_owned())
                .push_bind(of.session)
                .push_bind(score.made_by)
                .push_bind(score.served)
                .push_bind(score.hindcast)
                .push_bind(of.close)
                .push_bind(of.reference)
                .push_bind(of.scale)
                .push_bind(of.error)
                .push_bind(of.naive_error)
                .push_bind(of.wis)
                .push_bind(of.wis_ewma)
                .push_bind(of.wis_eq)
                .push_bind(of.in80)
                .push_bind(of.in95)
                .push_bind(of.pit)
                .push_bind(of.call)
                .push_bind(of.came)
                .push_bind(Ts::from(now))
                .push_bind(run);
        });
        query.push(" on conflict do nothing");
        query.build().execute(c).await.rows()
    })
    .doing("write scores")?;
    Ok(())
}

async fn mark(tx: &mut Tx, forecasts: impl Iterator<Item = Uuid>, settled: &'static str) -> StoreResult<()> {
    on_tx!(tx, |c| {
        let mut query = QueryBuilder::new("update forecast set settled = ");
        query.push_bind(settled).push(" where id in (");
        let mut ids = query.separated(", ");
        forecasts.for_each(|id| {
            ids.push_bind(id);
        });
        query.push(")");
        query.build().execute(c).await.rows()
    })
    .doing("say what became of forecasts")?;
    Ok(())
}

/// Adds a session's scores up anew, one line after the other. Any number of tickers share the session, and a close may have been revised: the sums are
/// never changed in place.
async fn add_up(tx: &mut Tx, exchange: Exchange, session: NaiveDate) -> StoreResult<()> {
    for line in Line::ALL {
        let rows: Vec<skill::ScoreRow> = on_tx!(tx, |c| {
            sqlx::query_as(
                "select session, close, reference, scale, error, naive_error, wis, wis_ewma, wis_eq, in80, in95, pit, call, came from score
                 where newest and not hindcast and exchange = $1 and session = $2
                   and case when $3 = 'served' then served else made_by = $3 end order by ticker, forecast_id",
            )
            .bind(exchange.as_str())
            .bind(session)
            .bind(line.as_str())
            .fetch_all(c)
            .await
        })
        .doing("read the scores of a session")?;
        let mut sums = Sums::default();
        rows.into_iter().for_each(|row| sums.add(&row.into()));
        skill::write_day(tx, exchange, line, session, &sums).await?;
    }
    Ok(())
}
