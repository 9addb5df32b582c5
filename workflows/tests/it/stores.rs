//! The stores' promises on both databases: the archive keeps every version, staging comes and goes, forecasts and models stay.

use crate::both::on_both;
use chrono::{DateTime, Days, NaiveDate, TimeDelta, Utc};
use market::{Bar, Baseline, Batch, Exchange, Factor, Forecast, Interval, MadeBy, RawBar, TargetBasis, Ticker};
use uuid::Uuid;
use workflows::ledger::{Claim, Ending, NewRun};
use workflows::plan::{Step, TICKER};
use workflows::stores::actions::{self, Announced};
use workflows::stores::forecasts::How;
use workflows::stores::made_with::{Known, Made, Staged};
use workflows::stores::{archive, as_known, forecasts, models, staging, tickers};
use workflows::{Cache, Db, Effect, Ledger, Outcome};

on_both!(
    an_identical_reread_appends_nothing,
    a_changed_close_is_a_revision,
    corporate_actions_may_come_before_bars,
    an_action_and_the_first_bars_do_not_miss_each_other,
    a_long_history_is_archived_whole,
    two_archivings_of_one_ticker_do_not_lose_each_other,
    staging_is_moved_and_deleted,
    forecasts_stay_and_the_newest_is_pointed_to,
    models_keep_lineage_and_the_newest_weights,
    tickers_are_listed_in_pages,
);

pub(crate) fn now() -> DateTime<Utc> {
    "2024-03-05T22:00:00Z".parse().unwrap()
}

pub(crate) fn ticker() -> Ticker {
    Ticker::parse("NEPSE:NABIL").unwrap()
}

pub(crate) fn bar(n: u64, close: f64) -> Bar {
    let session = NaiveDate::from_ymd_opt(2010, 1, 1).unwrap() + Days::new(n);
    RawBar { session: Some(session), close: Some(close), volume: Some(10.0), ..RawBar::default() }.check().unwrap()
}

pub(crate) fn batch(bars: Vec<Bar>) -> Batch {
    Batch {
        ticker: ticker(),
        source: "csv".into(),
        bars,
        factors: vec![],
        splits: vec![],
        page_session: None,
        refused: vec![],
        fetched_at: now(),
        body_sha256: "00".into(),
    }
}

async fn count(db: &Db, table: &'static str) -> usize {
    // Counted through the public face: price_raw has no reader of its own yet, so the revisions are told by import's answer.
    assert_eq!(table, "series");
    archive::series(db, &ticker()).await.unwrap().map_or(0, |s| s.bars().len())
}

async fn an_identical_reread_appends_nothing(db: Db) {
    let first = archive::import(&db, &batch(vec![bar(0, 1.5), bar(1, 2.5)]), now()).await.unwrap();
    assert_eq!((first.new, first.revised), (2, 0));
    let again = archive::import(&db, &batch(vec![bar(0, 1.5), bar(1, 2.5)]), now()).await.unwrap();
    assert_eq!((again.new, again.revised), (0, 0));
    assert_eq!(count(&db, "series").await, 2);
}

async fn a_changed_close_is_a_revision(db: Db) {
    archive::import(&db, &batch(vec![bar(0, 1.5), bar(1, 2.5)]), now()).await.unwrap();
    let mut changed = batch(vec![bar(1, 2.6), bar(2, 2.7)]);
    changed.factors = vec![Factor { session: bar(2, 1.0).session, factor: 0.9 }];
    let second = archive::import(&db, &changed, now()).await.unwrap();
    assert_eq!((second.new, second.revised), (1, 1));
    let series = archive::series(&db, &ticker()).await.unwrap().unwrap();
    assert_eq!(series.bars().iter().map(|b| b.close).collect::<Vec<_>>(), [1.5, 2.6, 2.7]);
    assert_eq!(series.factor_at(bar(2, 1.0).session), 0.9);
    let third = archive::import(&db, &batch(vec![bar(1, 2.5)]), now()).await.unwrap();
    assert_eq!((third.new, third.revised), (0, 1), "going back is a revision too");
}

async fn corporate_actions_may_come_before_bars(db: Db) {
    let announced = Announced { factor: Factor { session: bar(1, 1.0).session, factor: 0.8 }, at: now() };
    for _ in 0..2 {
        actions::announce(&db, &ticker(), "csv", &[announced], now()).await.unwrap();
        assert_eq!(tickers::get(&db, &ticker()).await.unwrap(), None, "an action makes no ticker known");
    }
    archive::import(&db, &batch(vec![bar(0, 100.0), bar(1, 80.0)]), now()).await.unwrap();
    let series = archive::series(&db, &ticker()).await.unwrap().unwrap();
    assert!(series.log_returns()[0].abs() < 1e-12, "the bonus is not a fall: {series:?}");
    assert_eq!(as_known::series(&db, &ticker(), 1).await.unwrap(), series, "it was known before the first bar");
    // Heard of again, later and from elsewhere, it was made known when it was heard of first; another factor is news.
    let later = Announced { at: now() + TimeDelta::hours(1), ..announced };
    actions::announce(&db, &ticker(), "yahoo", &[later], now()).await.unwrap();
    assert_eq!(actions::list(&db, &ticker()).await.unwrap()[0].announced, announced);
    let other = Announced { factor: Factor { factor: 0.75, ..announced.factor }, ..later };
    actions::announce(&db, &ticker(), "operator", &[other], now()).await.unwrap();
    assert_eq!(actions::list(&db, &ticker()).await.unwrap()[0].announced, other);
    let series = archive::series(&db, &ticker()).await.unwrap().unwrap();
    assert_eq!(series.factors(), [other.factor], "the series follows");
}

/// However the two meet, the series ends with the action.
async fn an_action_and_the_first_bars_do_not_miss_each_other(db: Db) {
    for n in 0..20 {
        let ticker = Ticker::new(Exchange::Nepse, &format!("T{n}")).unwrap();
        let announced = Announced { factor: Factor { session: bar(1, 1.0).session, factor: 0.8 }, at: now() };
        let first = Batch { ticker: ticker.clone(), ..batch(vec![bar(0, 100.0), bar(1, 80.0)]) };
        let (said, came) = tokio::join!(
            actions::announce(&db, &ticker, "csv", std::slice::from_ref(&announced), now()),
            archive::import(&db, &first, now())
        );
        said.unwrap();
        came.unwrap();
        let series = archive::series(&db, &ticker).await.unwrap().unwrap();
        assert_eq!(series.factors(), [announced.factor], "round {n}");
    }
}

async fn a_long_history_is_archived_whole(db: Db) {
    let bars: Vec<Bar> = (0..5_000).map(|n| bar(n, 100.0 + n as f64 / 7.0)).collect();
    let done = archive::import(&db, &batch(bars.clone()), now()).await.unwrap();
    assert_eq!(done.new, 5_000);
    assert_eq!(archive::series(&db, &ticker()).await.unwrap().unwrap().bars(), bars);
}

async fn two_archivings_of_one_ticker_do_not_lose_each_other(db: Db) {
    let imports = (0..10).map(|n| {
        let db = db.clone();
        async move { archive::import(&db, &batch(vec![bar(n, 1.0 + n as f64)]), now()).await.unwrap() }
    });
    futures::future::join_all(imports).await;
    assert_eq!(count(&db, "series").await, 10);
}

/// A claim of `step` of a new run, whatever came before it.
pub(crate) async fn claimed(db: &Db, step: Step) -> Claim {
    let id = Uuid::now_v7();
    let new = NewRun {
        id,
        plan: &TICKER,
        // A subject of its own, so that it does not wait for an earlier run.
        subject: Ticker::new(Exchange::Nepse, &id.simple().to_string()[20..]).unwrap().into(),
        session: bar(0, 1.0).session,
        schedule: None,
        backfill: None,
        priority: 0,
        offline: false,
        idempotency_key: None,
        repeats: Some((Uuid::nil(), step)),
    };
    Ledger::Sql(db.clone()).start(std::slice::from_ref(&new), now()).await.unwrap();
    next_claim(db, step).await
}

/// The oldest ready step of that kind, claimed.
async fn next_claim(db: &Db, step: Step) -> Claim {
    let ledger = Ledger::Sql(db.clone());
    ledger.unsend(now() + TimeDelta::days(100)).await.unwrap();
    let messages = ledger.take_due(&[(step.queue(0), 1)], now() + TimeDelta::days(100)).await.unwrap();
    ledger
        .claim(&messages, Uuid::new_v4(), "test", now(), now() + TimeDelta::seconds(20))
        .await
        .unwrap()
        .remove(0)
        .unwrap()
}

pub(crate) async fn done(db: &Db, claim: &Claim, effects: &[Effect], at: DateTime<Utc>) {
    let outcome = Outcome::Done("ok".into());
    let ending = Ending {
        claim: claim.clone(),
        outcome,
        effects: effects.to_vec(),
        dice: 0.0,
        sends_next: true,
        lapsed_before: None,
    };
    Ledger::Sql(db.clone()).complete(&[ending], at).await.unwrap().remove(0).unwrap();
}

async fn staging_is_moved_and_deleted(db: Db) {
    let scrape = claimed(&db, Step::Scrape).await;
    done(&db, &scrape, &[Effect::Stage(batch(vec![bar(0, 1.5)]))], now()).await;
    assert_eq!(staging::get(&db, scrape.run).await.unwrap().unwrap(), batch(vec![bar(0, 1.5)]));
    assert_eq!(staging::count(&db).await.unwrap(), 1);
    let known = Known { series: None, staged: Staged::of(&batch(vec![bar(0, 1.5)])) };
    for step in [Step::Finetune, Step::Cache, Step::Archive, Step::Cleanup] {
        let claim = next_claim(&db, step).await;
        assert_eq!((claim.run, claim.step), (scrape.run, step));
        let effects = match step {
            Step::Finetune => vec![Effect::MadeWith(Box::new(Made::Archived { series: 7 }))],
            Step::Archive => vec![Effect::ArchiveStaged],
            Step::Cleanup => vec![Effect::DropStaging],
            _ => vec![],
        };
        done(&db, &claim, &effects, now()).await;
    }
    assert_eq!(count(&db, "series").await, 1);
    assert_eq!(staging::count(&db).await.unwrap(), 0);
    // The run says as what its bars were archived, so that they are found again.
    let (_, steps, _) = Ledger::Sql(db.clone()).get_run(scrape.run).await.unwrap().unwrap();
    let past = workflows::replay::of_run(&db, scrape.run, &steps).await.unwrap();
    let made: Vec<(Step, bool)> = past.steps.iter().map(|past| (past.step, past.written.is_some())).collect();
    assert_eq!(
        made,
        [(Step::Finetune, true), (Step::Cache, false)],
        "what left no record is known to have made something"
    );
    let series = as_known::series_of_step(&db, &ticker(), &known, past.archived).await.unwrap().unwrap();
    assert_eq!(series.bars(), [bar(0, 1.5)]);
}

pub(crate) fn forecast(as_of: NaiveDate, version: &str) -> Forecast {
    let interval = Interval { lo: 90.5, hi: 110.25 };
    Forecast {
        ticker: ticker(),
        as_of,
        target: as_of + Days::new(1),
        target_basis: TargetBasis::UsualWeek,
        issued_at: now(),
        currency: "NPR".into(),
        last_close: 100.1,
        reference_price: 100.1,
        point: 100.1,
        change: 0.0,
        change_pct: 0.0,
        interval80: interval,
        interval95: interval,
        p_up: None,
        sigma: 0.012_345_678_9,
        mean_weight: 0.0,
        baseline: Baseline { method: "P-EWMA".into(), point: 100.1, interval80: interval, interval95: interval },
        empirical: None,
        made_by: MadeBy::Own,
        reason: String::new(),
        recipe: "lstm20-v1".into(),
        model_version: version.into(),
        input_hash: "aa".into(),
        n_history: 300,
        flags: vec![],
    }
}

pub(crate) fn served() -> How {
    How { hindcast: false, served: true, opens_at: now() + TimeDelta::days(2), made_at: now() }
}

async fn forecasts_stay_and_the_newest_is_pointed_to(db: Db) {
    tickers::add(&db, &[ticker()], now()).await.unwrap();
    let (old, new) = (bar(0, 1.0).session, bar(5, 1.0).session);
    assert!(forecasts::latest(&db, &ticker()).await.unwrap().is_none());
    forecasts::store(&db, &forecast(new, "m1"), served(), now()).await.unwrap();
    forecasts::store(&db, &forecast(new, "m1"), served(), now() + TimeDelta::hours(1)).await.unwrap();
    forecasts::store(&db, &forecast(old, "m0"), How { hindcast: true, ..served() }, now()).await.unwrap();
    let latest = forecasts::latest(&db, &ticker()).await.unwrap().unwrap();
    assert_eq!(latest.forecast, forecast(new, "m1"), "bit for bit, and never one from older data");
    assert_eq!(latest.stored_at, now(), "the first writing stands");
    assert_eq!(forecasts::latest_of_a_run(&db, &ticker()).await.unwrap(), None, "a reader's question made these");
    let claim = claimed(&db, Step::Cache).await;
    let effect = Effect::Forecast { forecast: Box::new(forecast(new, "m1")), how: served() };
    done(&db, &claim, &[effect], now() + TimeDelta::hours(2)).await;
    assert_eq!(forecasts::latest_of_a_run(&db, &ticker()).await.unwrap(), Some((new, new + Days::new(1))));
    assert_eq!(forecasts::latest(&db, &ticker()).await.unwrap().unwrap().stored_at, now(), "and it still stands");
    assert_eq!(forecasts::count(&db, "NEPSE", "NABIL").await.unwrap(), 2);
    forecasts::store(&db, &forecast(new, "m2"), served(), now()).await.unwrap();
    assert_eq!(forecasts::list_latest(&db, None, None, 10).await.unwrap()[0].forecast.model_version, "m2");
    assert!(forecasts::list_latest(&db, Some(Exchange::Nasdaq), None, 10).await.unwrap().is_empty());
    // The cache takes the newer of two, in whichever order they come.
    let cache = Cache::memory();
    let stale = forecasts::StoredForecast { forecast: forecast(old, "m0"), ..latest.clone() };
    cache.put_forecast(&latest).await.unwrap();
    cache.put_forecast(&stale).await.unwrap();
    assert_eq!(cache.forecast(&ticker()).await.unwrap().unwrap().forecast.as_of, new);
}

async fn models_keep_lineage_and_the_newest_weights(db: Db) {
    let mut parent = None;
    for n in 0..6u8 {
        let claim = claimed(&db, Step::Finetune).await;
        let model = models::NewModel {
            hash: format!("h{n}"),
            ticker: ticker(),
            parent: parent.clone(),
            recipe: "lstm20-v1".into(),
            seed: u64::MAX - u64::from(n),
            as_of: bar(n.into(), 1.0).session,
            input_hash: "aa".into(),
            metrics: serde_json::json!({ "loss": 1.5 }),
            weights: vec![n; 100],
        };
        tickers::add(&db, &[ticker()], now()).await.unwrap();
        done(&db, &claim, &[Effect::Model(model)], now() + TimeDelta::days(n.into())).await;
        parent = Some(format!("h{n}"));
    }
    assert_eq!(models::champion(&db, &ticker()).await.unwrap().as_deref(), Some("h5"));
    assert_eq!(models::weights(&db, "h5").await.unwrap(), Some(vec![5; 100]));
    assert_eq!(models::weights(&db, "h4").await.unwrap(), Some(vec![4; 100]), "the parent");
    assert_eq!(models::weights(&db, "h0").await.unwrap(), None, "the row stays, the weights go");
    assert_eq!(models::weights(&db, "unknown").await.unwrap(), None);
}

async fn tickers_are_listed_in_pages(db: Db) {
    let all: Vec<Ticker> =
        ["NASDAQ:AAPL", "NASDAQ:MSFT", "NEPSE:CIT", "NEPSE:NABIL"].iter().map(|t| Ticker::parse(t).unwrap()).collect();
    tickers::add(&db, &all, now()).await.unwrap();
    tickers::add(&db, &all, now()).await.unwrap();
    archive::import(&db, &batch(vec![bar(0, 1.5), bar(1, 2.5)]), now()).await.unwrap();
    let first = tickers::list(&db, None, None, 3).await.unwrap();
    let rest = tickers::list(&db, None, Some(&first[2].ticker), 3).await.unwrap();
    let listed: Vec<Ticker> = first.into_iter().chain(rest.clone()).map(|t| t.ticker).collect();
    assert_eq!(listed, all);
    assert_eq!((rest[0].bars, rest[0].last_session), (2, Some(bar(1, 1.0).session)));
    assert_eq!(tickers::list(&db, Some(Exchange::Nasdaq), None, 9).await.unwrap().len(), 2);
    assert!(tickers::get(&db, &ticker()).await.unwrap().unwrap().active);
    assert!(tickers::get(&db, &Ticker::parse("NEPSE:NOPE").unwrap()).await.unwrap().is_none());
}

#[test]
fn a_forecast_stored_by_the_first_version_is_read() {
    let interval = |lo: f64, hi: f64| serde_json::json!({ "lo": lo, "hi": hi });
    let stored = serde_json::json!({
        "ticker": "NASDAQ:AAPL", "as_of": "2024-01-26", "target": "2024-01-29", "target_basis": "observed_week",
        "issued_at": "2024-01-26T23:00:00Z", "currency": "USD", "last_close": 100.0, "reference_price": 100.0, "point": 100.0,
        "change": 0.0, "change_pct": 0.0, "interval80": interval(99.0, 101.0), "interval95": interval(98.0, 102.0), "p_up": null,
        "sigma": 0.01, "mean_weight": 0.0, "origin": "model", "recipe": "lstm20-v1", "model_version": "aa", "input_hash": "bb",
        "n_history": 300, "flags": ["short_history"],
        "baseline": { "method": "P-EWMA", "point": 100.0, "interval80": interval(99.0, 101.0), "interval95": interval(98.0, 102.0) },
    });
    let forecast: Forecast = serde_json::from_value(stored).unwrap();
    assert_eq!((forecast.made_by, forecast.reason.as_str()), (MadeBy::Own, ""));
}
