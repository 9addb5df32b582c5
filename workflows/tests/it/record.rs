//! The public record on both databases: what is stored too late is hindsight, scores are append-only, sums follow them, alarms are raised once.

use crate::both::on_both;
use crate::stores::{bar, batch, claimed, done, forecast, now, served, ticker};
use chrono::{NaiveDate, TimeDelta};
use market::{AlarmKind, Exchange, MadeBy, Scored, Ticker};
use uuid::Uuid;
use workflows::plan::Step;
use workflows::stores::alarms::{self, About, Changes, Filter, NewAlarm};
use workflows::stores::forecasts::How;
use workflows::stores::record::{Line, NewScore, Settlement, Unscored};
use workflows::stores::{archive, forecasts, record, skill, tickers};
use workflows::{Db, Effect};

on_both!(
    what_is_stored_after_the_open_is_hindsight,
    what_was_not_served_in_time_was_not_served,
    forecasts_of_one_session_are_settled_together,
    a_forecast_is_scored_once_and_again_when_the_close_is_revised,
    what_gets_no_score_is_told_and_not_asked_again,
    an_alarm_is_raised_once_and_cleared,
);

fn scored(session: NaiveDate, close: f64) -> Scored {
    Scored {
        session,
        close,
        reference: 100.0,
        scale: 1.0,
        error: (close - 100.0) / 100.0,
        naive_error: (close - 100.0) / 100.0,
        wis: 0.01,
        wis_ewma: 0.02,
        wis_eq: Some(0.04),
        in80: true,
        in95: true,
        pit: 0.5,
        call: 1,
        came: 1,
    }
}

fn new(forecast: Uuid, revision: i64, scored: Scored) -> NewScore {
    NewScore { forecast, revision, ticker: ticker(), made_by: "own", served: true, hindcast: false, scored }
}

fn settlement(scores: Vec<NewScore>) -> Settlement {
    Settlement { exchange: Exchange::Nepse, scores, unscored: vec![], alarms: Changes::default() }
}

async fn settle(db: &Db, settlement: Settlement) {
    let claim = claimed(db, Step::Cleanup).await;
    done(db, &claim, &[Effect::Settled(Box::new(settlement))], now()).await;
}

/// A stored forecast of the session of bar 6, and the archive up to that session.
async fn a_stored_forecast(db: &Db) -> Uuid {
    tickers::add(db, &[ticker()], now()).await.unwrap();
    forecasts::store(db, &forecast(bar(5, 1.0).session, "m1"), served(), now()).await.unwrap();
    archive::import(db, &batch(vec![bar(5, 100.0), bar(6, 101.0), bar(7, 102.0)]), now()).await.unwrap();
    forecasts::latest(db, &ticker()).await.unwrap().unwrap().id
}

async fn what_is_stored_after_the_open_is_hindsight(db: Db) {
    tickers::add(&db, &[ticker()], now()).await.unwrap();
    let soon = How { opens_at: now() + TimeDelta::minutes(1), ..served() };
    // Thought of a minute before the open, written when it was over.
    forecasts::store(&db, &forecast(bar(5, 1.0).session, "late"), soon, now() + TimeDelta::minutes(2)).await.unwrap();
    assert!(forecasts::latest(&db, &ticker()).await.unwrap().unwrap().hindcast);
    forecasts::store(&db, &forecast(bar(6, 1.0).session, "early"), soon, now() + TimeDelta::seconds(59)).await.unwrap();
    assert!(!forecasts::latest(&db, &ticker()).await.unwrap().unwrap().hindcast);
}

async fn what_was_not_served_in_time_was_not_served(db: Db) {
    tickers::add(&db, &[ticker()], now()).await.unwrap();
    let said = forecast(bar(5, 1.0).session, "challenger");
    forecasts::store(&db, &said, How { served: false, ..served() }, now()).await.unwrap();
    // The same is served once its session has opened: the reader gets it, the record knows better.
    forecasts::store(&db, &said, How { hindcast: true, ..served() }, now()).await.unwrap();
    let listed = skill::record(&db, &ticker(), true, None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].served, listed[0].stored.hindcast), (1, false, false));
    assert!(forecasts::latest(&db, &ticker()).await.unwrap().is_some());
    forecasts::store(&db, &said, served(), now()).await.unwrap();
    assert!(skill::record(&db, &ticker(), true, None, 10).await.unwrap()[0].served, "in time it is");
}

async fn forecasts_of_one_session_are_settled_together(db: Db) {
    let others = Ticker::parse("NEPSE:CIT").unwrap();
    tickers::add(&db, &[ticker(), others.clone()], now()).await.unwrap();
    let as_of = bar(5, 1.0).session;
    for version in ["m1", "m2"] {
        forecasts::store(&db, &forecast(as_of, version), served(), now()).await.unwrap();
    }
    let other = market::Forecast { ticker: others.clone(), ..forecast(as_of, "m1") };
    forecasts::store(&db, &other, served(), now()).await.unwrap();
    let newest = bar(7, 1.0).session;
    let whose = |limit| {
        let db = db.clone();
        async move {
            let found = record::unsettled(&db, Exchange::Nepse, newest, limit).await.unwrap();
            found.into_iter().map(|one| one.stored.forecast.ticker.symbol().to_owned()).collect::<Vec<_>>()
        }
    };
    assert_eq!(whose(2).await, ["CIT"], "one of two would be judged without the other");
    assert_eq!(whose(4).await, ["CIT", "NABIL", "NABIL"]);
}

async fn a_forecast_is_scored_once_and_again_when_the_close_is_revised(db: Db) {
    let (newest, target) = (bar(7, 1.0).session, bar(6, 1.0).session);
    let id = a_stored_forecast(&db).await;
    assert!(!record::is_due(&db, Exchange::Nepse, bar(5, 1.0).session).await.unwrap(), "its target has not come");
    assert!(record::is_due(&db, Exchange::Nepse, newest).await.unwrap());
    let open = record::unsettled(&db, Exchange::Nepse, newest, 10).await.unwrap();
    assert_eq!((open.len(), open[0].stored.id, open[0].served, open[0].scored), (1, id, true, None));
    let closes = record::since(&db, &ticker(), bar(5, 1.0).session).await.unwrap().closes;
    assert_eq!(closes, [(target, 101.0), (newest, 102.0)]);
    let sessions = record::sessions(&db, Exchange::Nepse, bar(5, 1.0).session).await.unwrap();
    assert_eq!(sessions, [target, newest]);

    settle(&db, settlement(vec![new(id, 0, scored(target, 101.0))])).await;
    assert!(!record::is_due(&db, Exchange::Nepse, newest).await.unwrap());
    assert!(record::unsettled(&db, Exchange::Nepse, newest, 10).await.unwrap().is_empty());
    let nabil = ticker();
    let of = |line| skill::newest(&db, &nabil, line, 10);
    let rows = of(Line::Served).await.unwrap();
    assert_eq!(rows, [scored(target, 101.0)], "bit for bit");
    assert_eq!((of(Line::Own).await.unwrap().len(), of(Line::Global).await.unwrap().len()), (1, 0));

    // The exchange revises the close.
    archive::import(&db, &batch(vec![bar(6, 103.0)]), now()).await.unwrap();
    let again = record::unsettled(&db, Exchange::Nepse, newest, 10).await.unwrap();
    let counted = again[0].scored.unwrap();
    assert_eq!((again.len(), counted.revision, counted.served), (1, 0, true));
    settle(&db, settlement(vec![new(id, counted.revision + 1, scored(target, 103.0))])).await;
    assert_eq!(of(Line::Served).await.unwrap(), [scored(target, 103.0)], "only the newest counts");
    let days = skill::days(&db, Exchange::Nepse, Line::Served, 10).await.unwrap();
    assert_eq!((days.len(), days[0].0, days[0].1.n, days[0].1.hits), (1, target, 1, 1));
    assert!((days[0].1.squares - 0.03 * 0.03).abs() < 1e-12, "added up anew");
    let listed = skill::record(&db, &ticker(), false, None, 10).await.unwrap();
    assert_eq!((listed.len(), listed[0].settled.as_deref()), (1, Some("scored")));
    assert_eq!(listed[0].scored.unwrap().close, 103.0);
    let beside = forecasts::latest(&db, &ticker()).await.unwrap().unwrap().record.unwrap();
    assert_eq!((beside.sums.n, beside.from, beside.to), (1, target, target));
}

async fn what_gets_no_score_is_told_and_not_asked_again(db: Db) {
    let id = a_stored_forecast(&db).await;
    settle(&db, Settlement { unscored: vec![(id, Unscored::NotTraded)], ..settlement(vec![]) }).await;
    assert!(record::unsettled(&db, Exchange::Nepse, bar(7, 1.0).session, 10).await.unwrap().is_empty());
    let listed = skill::record(&db, &ticker(), true, None, 10).await.unwrap();
    assert_eq!((listed[0].settled.as_deref(), listed[0].scored), (Some("not_traded"), None));
    // Hindsight is kept, and in no sum.
    let target = bar(6, 1.0).session;
    forecasts::store(&db, &forecast(bar(5, 1.0).session, "m2"), How { hindcast: true, ..served() }, now())
        .await
        .unwrap();
    let late = forecasts::latest(&db, &ticker()).await.unwrap().unwrap().id;
    settle(&db, settlement(vec![NewScore { hindcast: true, ..new(late, 0, scored(target, 101.0)) }])).await;
    assert!(skill::newest(&db, &ticker(), Line::Served, 10).await.unwrap().is_empty());
    assert!(skill::days(&db, Exchange::Nepse, Line::Served, 10).await.unwrap().is_empty());
}

async fn an_alarm_is_raised_once_and_cleared(db: Db) {
    tickers::add(&db, &[ticker()], now()).await.unwrap();
    let about =
        |line: &str, kind| About { exchange: Exchange::Nepse, ticker: Some(ticker()), line: line.to_owned(), kind };
    let raise = |about: &About, detail: &str| NewAlarm {
        about: about.clone(),
        detail: detail.to_owned(),
        session: bar(6, 1.0).session,
    };
    let change = |hold, cleared| Settlement { alarms: Changes { hold, cleared }, ..settlement(vec![]) };
    let (worse, misses) = (about("own", AlarmKind::IntervalsWorse), about("served", AlarmKind::Misses));
    settle(&db, change(vec![raise(&worse, "6 %"), raise(&misses, "3 of 5")], vec![])).await;
    settle(&db, change(vec![raise(&worse, "7 %")], vec![])).await;
    let open = alarms::open_in(&db, Exchange::Nepse).await.unwrap();
    assert_eq!(open.len(), 2);
    assert!(open.iter().any(|alarm| alarm.alarm.detail == "7 %"), "told anew, not raised again");
    let doubts = alarms::doubts(&db, &ticker()).await.unwrap();
    assert_eq!((doubts.intervals, doubts.points), (vec![MadeBy::Own], vec![]), "misses doubt nothing");
    settle(&db, change(vec![], vec![worse.clone()])).await;
    assert_eq!(alarms::doubts(&db, &ticker()).await.unwrap().intervals, []);
    settle(&db, change(vec![raise(&worse, "again")], vec![])).await;
    let all = alarms::list(&db, Filter::default(), 10).await.unwrap();
    assert_eq!(all.len(), 3, "what was cleared stays, and it may come back");
    let older =
        alarms::list(&db, Filter { before: Some((all[0].raised_at, all[0].id)), ..Filter::default() }, 10).await;
    assert_eq!(older.unwrap().len(), 2);
    assert!(alarms::open_in(&db, Exchange::Nasdaq).await.unwrap().is_empty());
}
