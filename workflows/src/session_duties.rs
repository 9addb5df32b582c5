//! What is learnt of an exchange when its evenings are over: that a day was none of its sessions, because everyone who asked was shown an earlier one, and
//! that sessions which were expected do not come. In come runs, the calendar and the market clock; out go evidence and an alarm.

use crate::db::{Db, Doing, StoreResult, on_read};
use crate::engine::Engine;
use crate::plan::TICKER;
use crate::stores::alarms::{self, About, Changes, Filter, NewAlarm};
use crate::stores::sessions;
use chrono::{Days, NaiveDate};
use market::{AlarmKind, Calendar, Exchange, TargetBasis, Witness, Word, latest_evening};

/// Evenings that are looked back on: those during which nothing ran are made up for.
const EVENINGS: u64 = 7;
/// So many days without a session are a holiday in Nepal; more are an alarm. New York never closes for two expected sessions in a row.
const NEPSE_QUIET_DAYS: usize = 12;
const NASDAQ_MISSED: usize = 2;

/// Looks back on the exchange's evenings.
///
/// # Errors
/// The ledger's.
pub async fn look_back(engine: &Engine, exchange: Exchange) -> StoreResult<()> {
    let Some(db) = engine.ledger.db() else { return Ok(()) };
    let evening = latest_evening(exchange, engine.market_clock.now());
    let calendar = sessions::calendar(db, exchange, evening - Days::new(EVENINGS)).await?;
    let Some(newest) = calendar.newest() else { return Ok(()) };
    for day in evening.iter_days().rev().take(EVENINGS as usize).filter(|day| *day > newest) {
        if calendar.day(day).basis <= TargetBasis::Observed {
            continue;
        }
        if let Some(why) = shown_none(db, exchange, day).await? {
            let word = Word { session: day, open: false, by: Witness::Sources, why };
            let mut tx = db.begin().await?;
            sessions::put(&mut tx, exchange, &word, "the evening's runs", engine.ledger.now()).await?;
            tx.commit().await?;
            tracing::info!(%exchange, session = %day, why = word.why, "a day was no session");
        }
    }
    alarm(engine, db, &calendar, newest, evening).await
}

/// What the runs of one day came back with.
#[derive(sqlx::FromRow)]
struct Asked {
    open: i64,
    idle: i64,
    others: i64,
    shown: Option<NaiveDate>,
}

/// Why the day was no session: nine of ten runs that asked for it were shown an earlier one, and none is open. `None` when that cannot be said.
async fn shown_none(db: &Db, exchange: Exchange, day: NaiveDate) -> StoreResult<Option<String>> {
    let asked: Asked = on_read!(db, |c| {
        sqlx::query_as(
            "select count(case when state in ('queued', 'running') then 1 end) as open,
                    count(case when state = 'no_new_session' and session < aimed_session then 1 end) as idle,
                    count(case when state in ('succeeded', 'failed') then 1 end) as others,
                    max(case when state = 'no_new_session' then session end) as shown
             from run where exchange = $1 and aimed_session = $2 and plan = $3 and not offline",
        )
        .bind(exchange.as_str())
        .bind(day)
        .bind(TICKER.name)
        .fetch_one(c)
        .await
    })
    .doing("look at what the runs of an evening were shown")?;
    let (Asked { open: 0, idle: 1.., others, shown: Some(shown) }, true) = (&asked, asked.idle >= 9 * asked.others)
    else {
        return Ok(None);
    };
    let runs = asked.idle + others;
    Ok(Some(format!(
        "{} of {runs} runs that asked for it in the evening were shown {shown} as the newest session",
        asked.idle
    )))
}

/// Raises or clears the alarm that no session comes. What the sources showed does not excuse it: a site that stands still shows the same.
async fn alarm(
    engine: &Engine,
    db: &Db,
    calendar: &Calendar,
    newest: NaiveDate,
    evening: NaiveDate,
) -> StoreResult<()> {
    let exchange = calendar.exchange();
    let about = About { exchange, ticker: None, line: String::new(), kind: AlarmKind::NoSession };
    let open = alarms::list(db, Filter { exchange: Some(exchange), open: true, ..Filter::default() }, i64::MAX).await?;
    let open = open.into_iter().map(|alarm| alarm.alarm).find(|alarm| alarm.about == about);
    let mut changes = Changes::default();
    match missed(db, &calendar.without_sources(), newest, evening).await? {
        Some(detail) if open.as_ref().is_none_or(|open| open.detail != detail) => {
            if open.is_none() {
                tracing::warn!(%exchange, detail, "no session comes");
            }
            changes.hold.push(NewAlarm { about, detail, session: newest });
        }
        None if open.is_some() => changes.cleared.push(about),
        _ => return Ok(()),
    }
    let mut tx = db.begin().await?;
    alarms::change(&mut tx, exchange, &changes, alarms::By::Look(engine.new_run_id()), engine.ledger.now()).await?;
    tx.commit().await
}

/// In words, that too many sessions in a row did not come although they were asked for; `None` when all is well, or nobody asked.
async fn missed(db: &Db, calendar: &Calendar, newest: NaiveDate, evening: NaiveDate) -> StoreResult<Option<String>> {
    let exchange = calendar.exchange();
    let expected = calendar.sessions(newest, evening);
    let off = |day: &NaiveDate| calendar.operator(*day).is_some_and(|word| !word.open);
    let quiet = newest.iter_days().skip(1).take_while(|day| *day <= evening).filter(|day| !off(day)).count();
    let too_many = match exchange {
        Exchange::Nasdaq => expected.len() >= NASDAQ_MISSED,
        Exchange::Nepse => quiet > NEPSE_QUIET_DAYS && !expected.is_empty(),
    };
    if !too_many {
        return Ok(None);
    }
    let asked = asked_for(db, exchange, newest, evening).await?;
    let asked = expected.iter().filter(|day| asked.contains(day)).count();
    Ok((asked >= NASDAQ_MISSED).then(|| {
        format!(
            "no session of {exchange} was seen since {newest}, {quiet} days ago: {} were expected, and {asked} of them asked for",
            expected.len()
        )
    }))
}

/// The days after `newest` for which runs have asked the sources.
async fn asked_for(db: &Db, exchange: Exchange, newest: NaiveDate, evening: NaiveDate) -> StoreResult<Vec<NaiveDate>> {
    on_read!(db, |c| {
        sqlx::query_scalar(
            "select distinct aimed_session from run where exchange = $1 and aimed_session > $2 and aimed_session <= $3 and plan = $4
               and not offline and state in ('succeeded', 'failed', 'no_new_session')",
        )
        .bind(exchange.as_str())
        .bind(newest)
        .bind(evening)
        .bind(TICKER.name)
        .fetch_all(c)
        .await
    })
    .doing("look for sessions that were asked for")
}
