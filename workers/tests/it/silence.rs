//! What must never pass for "no new session": a page without rows, a page that changed, a session that was missed.

use chrono::{DateTime, NaiveDate, Utc};
use market::{Bar, Exchange, Ticker};
use market_sim::{Fault, FaultKind, Page, Sim, SimOptions, Site};
use std::{sync::Arc, time::Duration};
use workers::sources::{Ask, PriceSource, Retry, SourceErrorKind, SourceSettings, build};
use workflows::flow::{Flow, Limit};

async fn market() -> Sim {
    let start = "2012-12-03T23:30:00Z".parse().unwrap();
    Sim::start(SimOptions { start, ..SimOptions::default() }).await.unwrap()
}

fn source(sim: &Sim, exchange: Exchange) -> Arc<dyn PriceSource> {
    let settings = SourceSettings {
        yahoo_url: sim.base_url().to_owned(),
        sharesansar_url: sim.base_url().to_owned(),
        limit: Limit::paced(Duration::ZERO),
        ..SourceSettings::default()
    };
    build(&settings, Flow::memory(sim.clock().now), None).unwrap().for_exchange(exchange)[0].clone()
}

fn ask(ticker: &Ticker, known: &[Bar], now: DateTime<Utc>) -> Ask {
    let known = known[known.len().saturating_sub(10)..].to_vec();
    Ask { ticker: ticker.clone(), known, now, history_from: "2012-01-01".parse().unwrap() }
}

#[tokio::test]
async fn a_chart_without_rows_or_timestamps_is_no_closed_day() {
    let sim = market().await;
    let source = source(&sim, Exchange::Nasdaq);
    let apple = Ticker::parse("NASDAQ:AAPL").unwrap();
    let known = source.fetch(&ask(&apple, &[], sim.clock().now)).await.unwrap().bars;
    sim.advance().unwrap();
    for known in [&known[..], &[]] {
        sim.fault(Fault::new(Site::Yahoo, FaultKind::Empty));
        let empty = source.fetch(&ask(&apple, known, sim.clock().now)).await.unwrap_err();
        assert_eq!((&empty.kind, empty.retry()), (&SourceErrorKind::Empty, Retry::Later(None)));
        sim.fault(Fault::new(Site::Yahoo, FaultKind::LayoutChanged));
        let changed = source.fetch(&ask(&apple, known, sim.clock().now)).await.unwrap_err();
        assert!(matches!(changed.kind, SourceErrorKind::LayoutChanged { .. }), "{changed}");
    }
}

#[tokio::test]
async fn a_chart_that_shares_no_session_with_the_archive_is_another_security() {
    let sim = market().await;
    let source = source(&sim, Exchange::Nasdaq);
    let apple = Ticker::parse("NASDAQ:AAPL").unwrap();
    let mut known = source.fetch(&ask(&apple, &[], sim.clock().now)).await.unwrap().bars;
    // Saturdays: nothing of NASDAQ can have these sessions.
    known.truncate(3);
    for (week, bar) in known.iter_mut().enumerate() {
        bar.session = NaiveDate::from_ymd_opt(2012, 11, 3).unwrap() + chrono::Days::new(7 * week as u64);
    }
    let refused = source.fetch(&ask(&apple, &known, sim.clock().now)).await.unwrap_err();
    assert!(matches!(refused.kind, SourceErrorKind::Identity { .. }), "{refused}");
}

#[tokio::test]
async fn one_missed_session_leaves_a_hole_in_no_ticker() {
    let sim = market().await;
    let source = source(&sim, Exchange::Nepse);
    let days: Vec<NaiveDate> = sim.world().sessions(Exchange::Nepse).iter().copied().collect();
    let (mut holes, mut asked) = (Vec::new(), 0);
    for window in days[days.len() - 30..].windows(3).step_by(3) {
        sim.set(market::final_at(Exchange::Nepse, window[2])).unwrap();
        for listing in sim.world().listings().iter().filter(|l| l.ticker.exchange() == Exchange::Nepse) {
            let known: Vec<Bar> = listing
                .rows
                .iter()
                .filter(|row| row.session <= window[0])
                .map(|row| market::RawBar { session: Some(row.session), close: Some(row.close), ..Default::default() })
                .map(|raw| raw.check().unwrap())
                .collect();
            let traded = |day: &NaiveDate| listing.rows.binary_search_by_key(day, |row| row.session).is_ok();
            if !(traded(&window[0]) && traded(&window[1]) && traded(&window[2])) {
                continue;
            }
            asked += 1;
            let batch = source.fetch(&ask(&listing.ticker, &known, sim.clock().now)).await.unwrap();
            if batch.bars.len() != 2 {
                holes.push(format!("{} {}", listing.ticker, window[1]));
            }
        }
    }
    assert!(asked > 50 && holes.is_empty(), "{} of {asked}: {holes:?}", holes.len());
}

#[tokio::test]
async fn a_page_that_fails_is_asked_for_once_and_not_once_per_ticker() {
    let sim = market().await;
    let source = source(&sim, Exchange::Nepse);
    let demo = Ticker::parse("NEPSE:DEMOBA").unwrap();
    let known = source.fetch(&ask(&demo, &[], sim.clock().now)).await.unwrap().bars;
    sim.advance().unwrap();
    let now = sim.clock().now;
    let count = || sim.requests()[&Site::Sharesansar].get(&Page::Today).copied().unwrap_or_default();
    let storm = || async {
        let before = count();
        let asks: Vec<Ask> = (0..40).map(|_| ask(&demo, &known, now)).collect();
        let answers = futures::future::join_all(asks.iter().map(|ask| source.fetch(ask))).await;
        (answers.iter().filter(|answer| answer.is_ok()).count(), count() - before)
    };
    sim.fault(Fault::new(Site::Sharesansar, FaultKind::Broken));
    assert_eq!(storm().await, (0, 1), "a failure is shared by all who waited for it");
    sim.fault(Fault::new(Site::Sharesansar, FaultKind::None));
    assert_eq!(storm().await, (40, 1), "and forgotten by whoever asks later");
}
