//! Alarms of the public record: what is open, what was, and the changes that a settlement makes. An alarm is raised once, told of anew while it
//! lasts, and cleared by the settlement that finds it gone.

use super::ticker_of;
use crate::db::{Db, Doing, Rows, StoreError, StoreResult, Ts, Tx, on_read, on_tx};
use chrono::{DateTime, NaiveDate, Utc};
use market::{AlarmKind, Doubts, Exchange, MadeBy, Ticker};
use uuid::Uuid;

/// What an alarm is about.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct About {
    /// Where.
    pub exchange: Exchange,
    /// Which ticker; `None`: the whole exchange.
    pub ticker: Option<Ticker>,
    /// Which line of models, `served`, `own` or `global`; empty when it is about none.
    pub line: String,
    /// What kind.
    pub kind: AlarmKind,
}

/// An alarm to be raised, or told anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewAlarm {
    /// What it is about.
    pub about: About,
    /// In words, with numbers.
    pub detail: String,
    /// The session that raised it.
    pub session: NaiveDate,
}

/// An alarm as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// Its id.
    pub id: Uuid,
    /// The alarm.
    pub alarm: NewAlarm,
    /// By the engine clock.
    pub raised_at: DateTime<Utc>,
    /// When it no longer held; `None` while it does.
    pub cleared_at: Option<DateTime<Utc>>,
}

/// What changes.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Those that hold.
    pub hold: Vec<NewAlarm>,
    /// Those that hold no longer.
    pub cleared: Vec<About>,
}

/// Who changes alarms.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    /// A run. The ids of what it raises follow from its own, so that writing it twice is writing it once.
    Run(Uuid),
    /// A look of the scheduler, with an id of its own.
    Look(Uuid),
}

/// Writes the changes.
pub(crate) async fn change(
    tx: &mut Tx,
    exchange: Exchange,
    changes: &Changes,
    by: By,
    now: DateTime<Utc>,
) -> StoreResult<()> {
    let (origin, run) = match by {
        By::Run(run) => (run, Some(run)),
        By::Look(look) => (look, None),
    };
    for NewAlarm { about, detail, session } in &changes.hold {
        let name = format!("{}|{}|{}", symbol(about), about.line, about.kind);
        on_tx!(tx, |c| {
            sqlx::query(
                "insert into alarm (id, exchange, ticker, line, kind, detail, session, raised_at, run_id)
                 values ($1, $2, $3, $4, $5, $6, $7, $8, $9)
                 on conflict (exchange, ticker, line, kind) where cleared_at is null do update set detail = excluded.detail",
            )
            .bind(Uuid::new_v5(&origin, name.as_bytes()))
            .bind(exchange.as_str())
            .bind(symbol(about))
            .bind(&about.line)
            .bind(about.kind.as_str())
            .bind(detail)
            .bind(*session)
            .bind(Ts::from(now))
            .bind(run)
            .execute(c)
            .await
            .rows()
        })
        .doing("raise an alarm")?;
    }
    for about in &changes.cleared {
        on_tx!(tx, |c| {
            sqlx::query(
                "update alarm set cleared_at = $5 where exchange = $1 and ticker = $2 and line = $3 and kind = $4 and cleared_at is null",
            )
            .bind(exchange.as_str())
            .bind(symbol(about))
            .bind(&about.line)
            .bind(about.kind.as_str())
            .bind(Ts::from(now))
            .execute(c)
            .await
            .rows()
        })
        .doing("clear an alarm")?;
    }
    Ok(())
}

fn symbol(about: &About) -> &str {
    about.ticker.as_ref().map_or("", |ticker| ticker.symbol())
}

type Columns = (Uuid, String, String, String, String, String, NaiveDate, Ts, Option<Ts>);

fn row((id, exchange, symbol, line, kind, detail, session, raised_at, cleared_at): Columns) -> StoreResult<Alarm> {
    let unreadable = |why: String| StoreError::Unreadable { what: "alarm", why };
    let ticker = if symbol.is_empty() { None } else { Some(ticker_of(&exchange, &symbol)?) };
    let exchange = exchange.parse().map_err(|e: market::UnknownExchange| unreadable(e.to_string()))?;
    let kind = kind.parse().map_err(|e: market::UnknownAlarm| unreadable(e.to_string()))?;
    let about = About { exchange, ticker, line, kind };
    Ok(Alarm {
        id,
        alarm: NewAlarm { about, detail, session },
        raised_at: raised_at.0,
        cleared_at: cleared_at.map(|at| at.0),
    })
}

/// Which alarms are asked for.
#[derive(Debug, Clone, Copy, Default)]
pub struct Filter<'a> {
    /// Only of this exchange.
    pub exchange: Option<Exchange>,
    /// Only of this ticker.
    pub ticker: Option<&'a Ticker>,
    /// Only those that hold.
    pub open: bool,
    /// Only older ones: raised before this, or at the same time with a smaller id.
    pub before: Option<(DateTime<Utc>, Uuid)>,
}

/// Alarms, newest first, at most `limit`.
pub async fn list(db: &Db, filter: Filter<'_>, limit: i64) -> StoreResult<Vec<Alarm>> {
    let before = filter.before.unwrap_or((DateTime::<Utc>::from_timestamp_nanos(i64::MAX), Uuid::max()));
    let rows: Vec<Columns> = on_read!(db, |c| {
        sqlx::query_as(
            "select id, exchange, ticker, line, kind, detail, session, raised_at, cleared_at from alarm
             where ($1 is null or exchange = $1) and ($2 is null or ticker = $2) and (cleared_at is null or not $3)
               and (raised_at, id) < ($4, $5) order by raised_at desc, id desc limit $6",
        )
        .bind(filter.ticker.map(Ticker::exchange).or(filter.exchange).map(Exchange::as_str))
        .bind(filter.ticker.map(Ticker::symbol))
        .bind(filter.open)
        .bind(Ts::from(before.0))
        .bind(before.1)
        .bind(limit)
        .fetch_all(c)
        .await
    })
    .doing("list alarms")?;
    rows.into_iter().map(row).collect()
}

/// The alarms of a ticker that hold.
pub async fn open_of(db: &Db, ticker: &Ticker) -> StoreResult<Vec<Alarm>> {
    const MOST: i64 = 100;
    list(db, Filter { ticker: Some(ticker), open: true, ..Filter::default() }, MOST).await
}

/// What these say against lines of models. Alarms about what was served name no line, and doubt none.
pub async fn doubts(db: &Db, ticker: &Ticker) -> StoreResult<Doubts> {
    let open = open_of(db, ticker).await?;
    let against = |kind: AlarmKind, line: MadeBy| {
        open.iter().any(|alarm| alarm.alarm.about.kind == kind && alarm.alarm.about.line == line.as_str())
    };
    let of = |kind| [MadeBy::Own, MadeBy::Global].into_iter().filter(|line| against(kind, *line)).collect();
    Ok(Doubts { intervals: of(AlarmKind::IntervalsWorse), points: of(AlarmKind::PointsWorse) })
}

/// How many alarms hold, by exchange and kind.
pub async fn open_counts(db: &Db) -> StoreResult<Vec<(String, String, i64)>> {
    on_read!(db, |c| {
        sqlx::query_as("select exchange, kind, count(*) from alarm where cleared_at is null group by exchange, kind")
            .fetch_all(c)
            .await
    })
    .doing("count the alarms that hold")
}

/// The alarms of an exchange and its tickers that hold.
pub async fn open_in(db: &Db, exchange: Exchange) -> StoreResult<Vec<Alarm>> {
    list(db, Filter { exchange: Some(exchange), open: true, ..Filter::default() }, i64::from(i32::MAX)).await
}
