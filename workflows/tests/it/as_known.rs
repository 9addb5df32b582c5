//! What was known at a time is read back exactly, on both databases: whatever was revised, re-read, or said by another source since.

use crate::both::{Fresh, on_both_fresh};
use crate::stores::{bar, batch, claimed, done, now, ticker};
use chrono::TimeDelta;
use market::{Batch, Exchange, Factor, MarketDay, Series, Ticker};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use workflows::exchange_duties::MARKET_DEADLINE;
use workflows::plan::Step;
use workflows::stores::made_with::{Known, Staged};
use workflows::stores::{archive, as_known, market_days, tickers};
use workflows::{Db, Effect};

on_both_fresh!(
    every_version_and_every_batch_is_read_back,
    rows_from_before_versions_were_kept_are_the_chosen_ones,
    a_batch_that_was_never_archived_is_lost,
    a_market_return_that_was_filled_in_is_found_as_it_was,
);

/// A batch of one of two sources: sessions without a gap, closes of few kinds so that many are re-read unchanged, now and then an action.
fn batches() -> impl Strategy<Value = Batch> {
    let closes = proptest::collection::vec(0..3u8, 1..8);
    let factor = proptest::option::weighted(0.3, (0..12u64, 1..4u8));
    (0..2usize, 0..8u64, closes, factor).prop_map(|(source, first, closes, factor)| {
        let bars = closes.iter().zip(first..).map(|(close, n)| bar(n, 100.0 + f64::from(*close) / 7.0)).collect();
        let action = |(n, tenths): (u64, u8)| Factor { session: bar(n, 1.0).session, factor: f64::from(tenths) / 3.0 };
        let source = ["yahoo", "csv"][source].to_owned();
        Batch { source, factors: factor.map(action).into_iter().collect(), ..batch(bars) }
    })
}

async fn every_version_and_every_batch_is_read_back(fresh: &Fresh) {
    let (db, mut runner) = (&fresh.db, TestRunner::deterministic());
    let mut versions: Vec<(i64, Series)> = vec![];
    let mut steps: Vec<(Known, i64, Series)> = vec![];
    for _ in 0..60 {
        let batch = batches().new_tree(&mut runner).unwrap().current();
        let (series, version) = archive::series_and_version(db, &ticker()).await.unwrap().unzip();
        let known = Known { series: version, staged: Staged::of(&batch) };
        let empty = || Series::new(ticker(), vec![], vec![]).unwrap();
        // As a step sees it before its run's bars are archived.
        let seen = series.unwrap_or_else(empty).with(&batch.bars, &batch.factors);
        let archived = archive::import(db, &batch, now()).await.unwrap().version;
        steps.push((known, archived, seen));
        let (series, version) = archive::series_and_version(db, &ticker()).await.unwrap().unwrap();
        assert_eq!(version, archived);
        versions.push((version, series));
    }
    for (version, series) in &versions {
        assert_eq!(as_known::series(db, &ticker(), *version).await.unwrap(), *series, "version {version}");
    }
    for (known, archived, seen) in &steps {
        let again = as_known::series_of_step(db, &ticker(), known, Some(*archived)).await.unwrap();
        assert_eq!(again.as_ref(), Some(seen), "{known:?} archived as {archived}");
    }
    let distinct = |a: &(i64, Series), b: &(i64, Series)| a.1 != b.1;
    let changes = versions.windows(2).filter(|pair| distinct(&pair[0], &pair[1])).count();
    assert!(changes > 30 && changes < 59, "some change something and some do not: {changes}");
}

async fn rows_from_before_versions_were_kept_are_the_chosen_ones(fresh: &Fresh) {
    let db = &fresh.db;
    let of = |source: &str, close: f64| Batch { source: source.to_owned(), ..batch(vec![bar(0, close), bar(1, 9.0)]) };
    for (source, close) in [("yahoo", 1.0), ("csv", 2.0), ("yahoo", 3.0), ("csv", 4.0), ("yahoo", 5.0)] {
        archive::import(db, &of(source, close), now()).await.unwrap();
    }
    fresh.execute("update price_raw set archived_version = null").await;
    let (before, version) = archive::series_and_version(db, &ticker()).await.unwrap().unwrap();
    assert_eq!(as_known::series(db, &ticker(), version).await.unwrap(), before);
    archive::import(db, &Batch { source: "csv".into(), ..batch(vec![bar(1, 6.0)]) }, now()).await.unwrap();
    assert_eq!(as_known::series(db, &ticker(), version).await.unwrap(), before, "and still after a revision");
    // A close that was changed behind our back is read as it stands: whoever compares hashes sees it.
    fresh.execute("update price_raw set close = close + 1 where revision = 0").await;
    assert_ne!(as_known::series(db, &ticker(), version).await.unwrap(), before);
}

async fn a_batch_that_was_never_archived_is_lost(fresh: &Fresh) {
    let known = Known { series: None, staged: Staged::of(&batch(vec![bar(0, 1.5)])) };
    assert_eq!(as_known::series_of_step(&fresh.db, &ticker(), &known, None).await.unwrap(), None);
    let nothing = Known { series: None, staged: Staged::of(&batch(vec![])) };
    let series = as_known::series_of_step(&fresh.db, &ticker(), &nothing, None).await.unwrap().unwrap();
    assert!(series.bars().is_empty());
}

async fn a_market_return_that_was_filled_in_is_found_as_it_was(fresh: &Fresh) {
    let (db, exchange) = (&fresh.db, Exchange::Nepse);
    let silent = Ticker::new(exchange, "CIT").unwrap();
    tickers::add(db, &[silent], now()).await.unwrap();
    archive::import(db, &batch(vec![bar(0, 100.0), bar(1, 110.0)]), now()).await.unwrap();
    let deadline = now() + MARKET_DEADLINE;
    market_days::complete(db, exchange, MARKET_DEADLINE, deadline).await.unwrap();
    let stood = market_days::list(db, exchange).await.unwrap();
    assert_eq!((stood.len(), stood[0].tickers), (1, 1));
    let day = |n, tickers| MarketDay { session: bar(n, 1.0).session, mean_return: 0.25, tickers };
    let filled = deadline + TimeDelta::days(1);
    fill(db, vec![day(0, 7), day(1, 7), day(2, 7)], filled).await;
    fill(db, vec![day(1, 9)], filled + TimeDelta::days(1)).await;
    let list = market_days::list(db, exchange).await.unwrap();
    assert_eq!(list, [day(0, 7), day(1, 7), day(2, 7)], "a complete row stays");
    let past = as_known::market(db, exchange).await.unwrap();
    let likeliest = |at| past.before(at).next().unwrap();
    assert_eq!(likeliest(filled), list);
    assert_eq!(likeliest(filled - TimeDelta::microseconds(1)), stood);
    assert_eq!(likeliest(deadline - TimeDelta::microseconds(1)), []);
    // A step that read just before the filling was committed, and was completed after it.
    assert_eq!(past.before(filled).collect::<Vec<_>>(), [list.clone(), stood.clone(), vec![]]);
    // And one whose clock was a little behind.
    assert_eq!(past.before(filled - TimeDelta::seconds(1)).collect::<Vec<_>>(), [stood, vec![], list]);
}

async fn fill(db: &Db, days: Vec<MarketDay>, at: chrono::DateTime<chrono::Utc>) {
    let claim = claimed(db, Step::Finetune).await;
    done(db, &claim, &[Effect::MarketDays(Exchange::Nepse, days)], at).await;
}
