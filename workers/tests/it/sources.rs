//! One conformance suite for every source, against stand-in sites with faults.

use chrono::{DateTime, NaiveDate, Utc};
use market::{Bar, Batch, Exchange, Ticker, write_bars_csv};
use market_sim::{Fault, FaultKind, Sim, SimOptions, Site, TIINGO_KEY};
use std::sync::Arc;
use std::time::Duration;
use workers::sources::{Ask, Key, PriceSource, Retry, SourceError, SourceErrorKind, SourceSettings, build};
use workflows::flow::{Flow, Limit};

/// A source under test, with the market that it reads.
pub(crate) struct Bench {
    pub(crate) sim: Sim,
    source: Arc<dyn PriceSource>,
    ticker: Ticker,
    pub(crate) site: Option<Site>,
    folder: tempfile::TempDir,
    settings: SourceSettings,
}

impl Bench {
    pub(crate) async fn new(name: &str) -> Self {
        let sim = Sim::start(SimOptions { start: "2012-12-03T23:30:00Z".parse().unwrap(), ..SimOptions::default() })
            .await
            .unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (exchange, site) = match name {
            "sharesansar" => (Exchange::Nepse, Some(Site::Sharesansar)),
            "merolagani" => (Exchange::Nepse, Some(Site::Merolagani)),
            "yahoo" => (Exchange::Nasdaq, Some(Site::Yahoo)),
            "nasdaq" => (Exchange::Nasdaq, Some(Site::Nasdaq)),
            "tiingo" => (Exchange::Nasdaq, Some(Site::Tiingo)),
            _ => (Exchange::Nasdaq, None),
        };
        let settings = SourceSettings {
            yahoo_url: sim.base_url().to_owned(),
            nasdaq_url: sim.base_url().to_owned(),
            sharesansar_url: format!("{}/", sim.base_url()),
            merolagani_url: sim.base_url().to_owned(),
            tiingo_url: sim.base_url().to_owned(),
            tiingo_key: Some(Key::new(TIINGO_KEY)),
            csv_dir: Some(folder.path().to_owned()),
            limit: Limit::paced(Duration::ZERO),
            timeout: Duration::from_secs(2),
            page_age: Duration::ZERO,
            nasdaq: if exchange == Exchange::Nasdaq { vec![name.to_owned()] } else { vec![] },
            nepse: if exchange == Exchange::Nepse { vec![name.to_owned()] } else { vec![] },
            user_agent_contact: None,
        };
        let source = build(&settings, Flow::memory(sim.clock().now), None).unwrap().for_exchange(exchange)[0].clone();
        // The one that trades most, so that every session has a bar of it.
        let ticker = sim
            .world()
            .listings()
            .iter()
            .filter(|l| l.ticker.exchange() == exchange)
            .max_by_key(|l| l.rows.len())
            .unwrap()
            .ticker
            .clone();
        let bench = Self { sim, source, ticker, site, folder, settings };
        bench.write_folder();
        bench
    }

    /// From now on with this key.
    pub(crate) fn use_key(&mut self, key: Key) {
        self.settings.tiingo_key = Some(key);
        let sources = build(&self.settings, Flow::memory(self.now()), None).unwrap();
        self.source = sources.for_exchange(self.ticker.exchange())[0].clone();
    }

    /// What the csv source reads: the market's rows up to its present.
    fn write_folder(&self) {
        let bars = self.truth();
        let folder = self.folder.path().join(self.ticker.exchange().as_str());
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(format!("{}.csv", self.ticker.symbol())), write_bars_csv(&bars)).unwrap();
    }

    /// What the market knows of the ticker by now.
    pub(crate) fn truth(&self) -> Vec<Bar> {
        let listing = self.sim.world().find(self.ticker.exchange(), self.ticker.symbol()).unwrap();
        let last = self.sim.world().last_closed_session(self.ticker.exchange(), self.now()).unwrap();
        listing
            .rows
            .iter()
            .filter(|row| row.session <= last)
            .map(|row| {
                market::RawBar { session: Some(row.session), close: Some(row.close), ..Default::default() }
                    .check()
                    .unwrap()
            })
            .collect()
    }

    fn now(&self) -> DateTime<Utc> {
        self.sim.clock().now
    }

    fn ask(&self, known: &[Bar]) -> Ask {
        let known = known[known.len().saturating_sub(10)..].to_vec();
        Ask { ticker: self.ticker.clone(), known, now: self.now(), history_from: "2012-01-01".parse().unwrap() }
    }

    pub(crate) async fn fetch(&self, known: &[Bar]) -> Result<Batch, SourceError> {
        self.source.fetch(&self.ask(known)).await
    }

    /// Moves the market on until the ticker's exchange has a new session.
    pub(crate) fn next_session(&self) -> NaiveDate {
        let exchange = self.ticker.exchange();
        let before = self.sim.world().last_closed_session(exchange, self.now());
        loop {
            self.sim.advance().unwrap();
            let after = self.sim.world().last_closed_session(exchange, self.now());
            if after != before {
                self.write_folder();
                return after.unwrap();
            }
        }
    }
}

macro_rules! conformance {
    ($($test:ident),+) => {
        mod yahoo { $(#[tokio::test] async fn $test() { super::$test(super::Bench::new("yahoo").await).await })+ }
        mod nasdaq { $(#[tokio::test] async fn $test() { super::$test(super::Bench::new("nasdaq").await).await })+ }
        mod tiingo { $(#[tokio::test] async fn $test() { super::$test(super::Bench::new("tiingo").await).await })+ }
        mod merolagani { $(#[tokio::test] async fn $test() { super::$test(super::Bench::new("merolagani").await).await })+ }
        mod sharesansar { $(#[tokio::test] async fn $test() { super::$test(super::Bench::new("sharesansar").await).await })+ }
        mod csv { $(#[tokio::test] async fn $test() { super::$test(super::Bench::new("csv").await).await })+ }
    };
}

conformance!(
    a_new_ticker_gets_its_history,
    then_only_what_is_new,
    a_closed_day_brings_nothing,
    another_security_is_noticed,
    an_unknown_ticker_is_not_found,
    missed_sessions_are_filled,
    an_unfinished_day_is_left_out
);

async fn a_new_ticker_gets_its_history(bench: Bench) {
    let batch = bench.fetch(&[]).await.unwrap();
    assert_eq!(batch.ticker, bench.ticker);
    assert_eq!(batch.source, bench.source.id());
    let truth: Vec<Bar> = bench.truth();
    let last = batch.bars.last().unwrap();
    assert_eq!((last.session, last.close), (truth.last().unwrap().session, truth.last().unwrap().close));
    assert_eq!(batch.page_session, Some(last.session));
    assert!(batch.bars.len() > 150, "{}", batch.bars.len());
    assert!(batch.bars.windows(2).all(|pair| pair[0].session < pair[1].session));
    assert!(batch.refused.is_empty(), "{:?}", batch.refused);
    assert_eq!(batch.body_sha256.len(), 64);
}

async fn then_only_what_is_new(bench: Bench) {
    let known = bench.fetch(&[]).await.unwrap().bars;
    assert!(bench.fetch(&known).await.unwrap().bars.is_empty(), "nothing happened meanwhile");
    for _ in 0..3 {
        let known: Vec<Bar> = bench.fetch(&[]).await.unwrap().bars;
        let session = bench.next_session();
        let batch = bench.fetch(&known).await.unwrap();
        assert_eq!(batch.bars.iter().map(|bar| bar.session).collect::<Vec<_>>(), [session]);
    }
}

async fn a_closed_day_brings_nothing(bench: Bench) {
    let known = bench.fetch(&[]).await.unwrap().bars;
    // A Saturday, on which neither exchange trades.
    bench.sim.set("2012-12-08T12:00:00Z".parse().unwrap()).unwrap();
    bench.write_folder();
    let friday: Vec<Bar> = bench.fetch(&known).await.unwrap().bars;
    let mut known = known;
    known.extend(friday);
    let batch = bench.fetch(&known).await.unwrap();
    assert!(batch.bars.is_empty());
    assert!(batch.page_session <= known.last().map(|bar| bar.session));
}

async fn another_security_is_noticed(bench: Bench) {
    let mut known = bench.fetch(&[]).await.unwrap().bars;
    known.truncate(known.len() - 1);
    for (at, bar) in known.iter_mut().enumerate() {
        bar.close *= 1.5 + (at % 3) as f64;
    }
    let refused = bench.fetch(&known).await.unwrap_err();
    assert!(matches!(refused.kind, SourceErrorKind::Identity { .. }), "{refused}");
    assert_eq!(refused.retry(), Retry::Never);
}

async fn an_unknown_ticker_is_not_found(bench: Bench) {
    let ask = Ask { ticker: Ticker::new(bench.ticker.exchange(), "NOSUCH").unwrap(), ..bench.ask(&[]) };
    let refused = bench.source.fetch(&ask).await.unwrap_err();
    assert_eq!(refused.kind, SourceErrorKind::NotFound, "{refused}");
    assert!(refused.to_string().contains("NOSUCH"), "{refused}");
}

async fn missed_sessions_are_filled(bench: Bench) {
    let known = bench.fetch(&[]).await.unwrap().bars;
    let sessions: Vec<NaiveDate> = (0..4).map(|_| bench.next_session()).collect();
    let batch = bench.fetch(&known).await.unwrap();
    assert_eq!(batch.bars.iter().map(|bar| bar.session).collect::<Vec<_>>(), sessions);
}

async fn an_unfinished_day_is_left_out(bench: Bench) {
    let known = bench.fetch(&[]).await.unwrap().bars;
    let (exchange, last) = (bench.ticker.exchange(), known.last().unwrap().session);
    let listing = bench.sim.world().find(exchange, bench.ticker.symbol()).unwrap();
    let next = listing.rows.iter().map(|row| row.session).find(|session| *session > last).unwrap();
    // The session is over, its sites show it, and its close may still change.
    let second = chrono::TimeDelta::seconds(1);
    bench.sim.set(market::final_at(exchange, next) - second).unwrap();
    bench.write_folder();
    assert!(bench.truth().last().unwrap().session == next && bench.fetch(&known).await.unwrap().bars.is_empty());
    // Tiingo has a day in the evening only.
    let evening = chrono::TimeDelta::hours(if bench.site == Some(Site::Tiingo) { 3 } else { 0 });
    bench.sim.set(market::final_at(exchange, next) + evening).unwrap();
    let bars = bench.fetch(&known).await.unwrap().bars;
    assert_eq!(bars.iter().map(|bar| bar.session).collect::<Vec<_>>(), [next]);
}

/// Every run reads the newest ten sessions again: a close that was changed since comes as news, and the archive keeps it as a revision. Fallbacks
/// only add.
#[tokio::test]
async fn a_close_that_was_revised_is_read_again() {
    for name in ["yahoo", "sharesansar", "csv"] {
        let bench = Bench::new(name).await;
        let mut known = bench.fetch(&[]).await.unwrap().bars;
        let newest = known.last_mut().unwrap();
        let (session, close) = (newest.session, newest.close);
        newest.close = market::round4(close * 1.02);
        let again = bench.fetch(&known).await.unwrap().bars;
        assert_eq!(again.iter().map(|bar| (bar.session, bar.close)).collect::<Vec<_>>(), [(session, close)], "{name}");
        // Also when a session has gone by.
        let next = bench.next_session();
        let later = bench.fetch(&known).await.unwrap().bars;
        assert_eq!(later.iter().map(|bar| bar.session).collect::<Vec<_>>(), [session, next], "{name}");
        assert_eq!(later[0].close, close, "{name}");
    }
}

#[tokio::test]
async fn a_token_refused_once_is_got_anew() {
    for name in ["sharesansar", "merolagani"] {
        let bench = Bench::new(name).await;
        bench.sim.fault(Fault::new(bench.site.unwrap(), FaultKind::Csrf).times(1));
        assert!(bench.fetch(&[]).await.unwrap().bars.len() > 150, "{name}");
    }
}

#[tokio::test]
async fn every_layout_of_the_today_page_is_read_the_same_and_a_changed_one_refused() {
    let bench = Bench::new("sharesansar").await;
    let known = bench.fetch(&[]).await.unwrap().bars;
    bench.next_session();
    let mut closes = Vec::new();
    for layout in [FaultKind::None, FaultKind::Layout21, FaultKind::Layout22] {
        bench.sim.fault(Fault::new(Site::Sharesansar, layout));
        closes.push(bench.fetch(&known).await.unwrap().bars[0].close);
    }
    assert!(closes.windows(2).all(|pair| pair[0] == pair[1]), "{closes:?}");
    bench.sim.fault(Fault::new(Site::Sharesansar, FaultKind::LayoutChanged));
    let refused = bench.fetch(&known).await.unwrap_err();
    assert!(matches!(refused.kind, SourceErrorKind::LayoutChanged { .. }), "{refused}");
    assert_eq!(refused.retry(), Retry::Never);
}

#[tokio::test]
async fn a_bonus_shows_as_a_factor_and_not_as_a_fall() {
    // Whoever of the invented exchange has a published previous close that is not the close before it.
    let bench = Bench::new("sharesansar").await;
    let mut found = 0;
    for listing in bench.sim.world().listings().iter().filter(|l| l.ticker.exchange() == Exchange::Nepse) {
        for pair in listing.rows.windows(2) {
            let factor = pair[1].prev_close.unwrap_or(pair[0].close) / pair[0].close;
            if (factor - 1.0).abs() < 0.01 {
                continue;
            }
            found += 1;
            bench.sim.set(market::final_at(Exchange::Nepse, pair[1].session) + chrono::TimeDelta::hours(6)).unwrap();
            let ask = Ask {
                ticker: listing.ticker.clone(),
                history_from: pair[0].session - chrono::Days::new(60),
                ..bench.ask(&[])
            };
            let batch = bench.source.fetch(&ask).await.unwrap();
            let told = batch
                .factors
                .iter()
                .find(|f| f.session == pair[1].session)
                .unwrap_or_else(|| panic!("{}: {:?}", listing.ticker, batch.factors));
            assert!((told.factor - factor).abs() < 0.002, "{} {} against {factor}", listing.ticker, told.factor);
        }
    }
    assert!(found > 0, "the invented exchange has at least one bonus");
}

#[tokio::test]
async fn a_split_brings_the_whole_history_anew() {
    for name in ["yahoo", "tiingo"] {
        split_of_apple(Bench::new(name).await).await;
    }
}

async fn split_of_apple(bench: Bench) {
    let apple = Ticker::parse("NASDAQ:AAPL").unwrap();
    let ask = |known: Vec<Bar>| Ask {
        ticker: apple.clone(),
        known,
        now: bench.now(),
        history_from: "2004-06-01".parse().unwrap(),
    };
    bench.sim.set("2005-02-25T23:30:00Z".parse().unwrap()).unwrap();
    let before = bench.source.fetch(&ask(vec![])).await.unwrap().bars;
    bench.sim.set("2005-02-28T23:30:00Z".parse().unwrap()).unwrap();
    let after = bench.source.fetch(&ask(before[before.len() - 10..].to_vec())).await.unwrap().bars;
    assert!(after.len() > before.len(), "all of history, not only the new session");
    let at = after.binary_search_by_key(&before[0].session, |bar| bar.session).unwrap();
    assert!((after[at].close / before[0].close - 0.5).abs() < 0.001);
}

#[tokio::test]
async fn a_split_that_is_announced_before_history_is_restated_leaves_no_jump() {
    let bench = Bench::new("yahoo").await;
    let ask = |known: &[Bar]| Ask {
        ticker: Ticker::parse("NASDAQ:AAPL").unwrap(),
        known: known[known.len().saturating_sub(10)..].to_vec(),
        now: bench.now(),
        history_from: "2004-06-01".parse().unwrap(),
    };
    bench.sim.set("2005-02-25T23:30:00Z".parse().unwrap()).unwrap();
    let before = bench.source.fetch(&ask(&[])).await.unwrap().bars;
    bench.sim.set("2005-02-28T23:30:00Z".parse().unwrap()).unwrap();
    bench.sim.fault(Fault::new(Site::Yahoo, FaultKind::Lag));
    let late = bench.source.fetch(&ask(&before)).await.unwrap();
    let year = &late.bars[late.bars.len() - 250..];
    assert!(year.windows(2).all(|pair| (pair[1].close / pair[0].close).ln().abs() < 0.3), "one level");
    assert_eq!(
        late.splits.last().map(|split| (split.session.to_string(), split.shares)),
        Some(("2005-02-28".into(), 2.0))
    );
    // The next day it still lags, then Yahoo has made up for it: neither is news.
    bench.sim.set("2005-03-01T23:30:00Z".parse().unwrap()).unwrap();
    let next: Vec<Bar> = bench.source.fetch(&ask(&late.bars)).await.unwrap().bars;
    assert_eq!(next.len(), 1, "{next:?}");
    bench.sim.fault(Fault::new(Site::Yahoo, FaultKind::None));
    let known: Vec<Bar> = late.bars.iter().chain(&next).copied().collect();
    assert_eq!(bench.source.fetch(&ask(&known)).await.unwrap().bars, []);
}

#[tokio::test]
async fn all_of_a_history_is_read_and_a_page_that_repeats_ends_it() {
    for name in ["sharesansar", "merolagani"] {
        let bench = Bench::new(name).await;
        let ask = Ask { history_from: "1995-01-01".parse().unwrap(), ..bench.ask(&[]) };
        let read: Vec<NaiveDate> = bench.source.fetch(&ask).await.unwrap().bars.iter().map(|bar| bar.session).collect();
        let truth: Vec<NaiveDate> = bench.truth().iter().map(|bar| bar.session).collect();
        assert!(read == truth && truth.len() > 500, "{name}: {} of {}", read.len(), truth.len());
    }
}
