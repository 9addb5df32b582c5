//! What happens to tickers, on both databases: silence suspends them, a bar brings them back, an operator's word holds, names change, universes are
//! followed.

use crate::both::{Fresh, on_both_fresh};
use crate::conformance::now;
use chrono::{Days, NaiveDate, TimeDelta};
use market::listing::SUSPENDED_AFTER;
use market::universe::Universe;
use market::{Bar, Batch, Exchange, ListingState, RawBar, Ticker};
use std::sync::Arc;
use uuid::Uuid;
use workflows::clock::FixedClock;
use workflows::ledger::{self, Ending, NewEntry, NewRun};
use workflows::listing_duties::{Noticed, Universes, look_at_listings};
use workflows::message::Message;
use workflows::plan::{Step, TICKER, priority};
use workflows::queue::MemoryQueue;
use workflows::stores::listings::{self, Order, Ordered};
use workflows::stores::market_pages::{self, PageSeen};
use workflows::stores::tickers::{self, TickerRow};
use workflows::stores::{archive, market_days};
use workflows::{Engine, EngineSettings, Outcome, Subject};

on_both_fresh!(
    one_that_leaves_the_page_is_suspended_and_a_bar_brings_it_back,
    one_that_no_source_knows_is_suspended_and_looked_at_once_a_week,
    sessions_in_which_nobody_looked_are_no_evidence,
    a_renamed_ticker_hands_on_its_history,
    an_operators_word_holds,
    the_universe_is_followed,
);

const OTHERS: [&str; 6] = ["AAA", "BBB", "CCC", "DDD", "EEE", "FFF"];

fn engine(fresh: &Fresh) -> Arc<Engine> {
    let clock = Arc::new(FixedClock::new(now()));
    Engine::new(fresh.ledger(), Arc::new(MemoryQueue::default()), clock, EngineSettings::default())
}

fn ticker(exchange: Exchange, symbol: &str) -> Ticker {
    Ticker::new(exchange, symbol).unwrap()
}

fn day(n: u64) -> NaiveDate {
    NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + Days::new(n)
}

fn bar(n: u64, close: f64) -> Bar {
    RawBar { session: Some(day(n)), close: Some(close), ..RawBar::default() }.check().unwrap()
}

async fn archived(fresh: &Fresh, ticker: &Ticker, bars: Vec<Bar>) {
    let batch = Batch {
        ticker: ticker.clone(),
        source: "yahoo".into(),
        body_sha256: format!("{bars:?}").len().to_string(),
        bars,
        factors: vec![],
        splits: vec![],
        page_session: None,
        refused: vec![],
        fetched_at: now(),
    };
    archive::import(&fresh.db, &batch, now()).await.unwrap();
}

/// The page of a session is read: the six others, and perhaps one more.
async fn page(fresh: &Fresh, n: u64, more: Option<&str>) {
    let page = PageSeen {
        exchange: Exchange::Nepse,
        source: "sharesansar",
        session: day(n),
        symbols: OTHERS.into_iter().chain(more).map(str::to_owned).collect(),
        body_sha256: n.to_string(),
        read_at: now() + TimeDelta::days(n as i64),
    };
    market_pages::judge(&fresh.db, &page).await.unwrap();
}

async fn row(fresh: &Fresh, ticker: &Ticker) -> TickerRow {
    tickers::get(&fresh.db, ticker).await.unwrap().unwrap()
}

async fn runs_of(fresh: &Fresh, ticker: &Ticker) -> usize {
    let of = format!("select cast(count(*) as text) from run where ticker = '{}'", ticker.symbol());
    fresh.texts(&of).await[0].parse().unwrap()
}

async fn one_that_leaves_the_page_is_suspended_and_a_bar_brings_it_back(fresh: &Fresh) {
    let (engine, universes, mut seen) = (engine(fresh), Universes::default(), Noticed::default());
    let (gone, stays) = (ticker(Exchange::Nepse, "GONE"), ticker(Exchange::Nepse, "AAA"));
    tickers::add(&fresh.db, std::slice::from_ref(&gone), now()).await.unwrap();
    assert_eq!(row(fresh, &gone).await.state, ListingState::New);
    for one in [&gone, &stays] {
        archived(fresh, one, vec![bar(0, 100.0)]).await;
    }
    assert_eq!(row(fresh, &gone).await.state, ListingState::Active, "it has a bar");
    page(fresh, 0, Some("GONE")).await;
    for n in 1..=u64::from(SUSPENDED_AFTER) {
        look_at_listings(&engine, &universes, false, &mut seen).await.unwrap();
        assert_eq!(row(fresh, &gone).await.state, ListingState::Active, "after {} sessions", n - 1);
        archived(fresh, &stays, vec![bar(n, 100.0)]).await;
        page(fresh, n, None).await;
    }
    look_at_listings(&engine, &universes, false, &mut seen).await.unwrap();
    let suspended = row(fresh, &gone).await;
    assert_eq!(
        (suspended.state, suspended.active, suspended.decided_by.as_str()),
        (ListingState::Suspended, false, "evidence")
    );
    assert!(suspended.why.contains("10 sessions since its bar of 2024-01-01"), "{}", suspended.why);
    assert_eq!(row(fresh, &stays).await.state, ListingState::Active);
    // A session waits for one ticker alone now.
    archived(fresh, &stays, vec![bar(11, 101.0)]).await;
    assert!(!market_days::complete(&fresh.db, Exchange::Nepse, TimeDelta::hours(1), now()).await.unwrap().is_empty());
    let looks = runs_of(fresh, &gone).await;
    page(fresh, 11, Some("GONE")).await;
    look_at_listings(&engine, &universes, false, &mut seen).await.unwrap();
    assert_eq!(runs_of(fresh, &gone).await, looks + 1, "it stands on the page: it is looked at");
    archived(fresh, &gone, vec![bar(11, 100.0)]).await;
    let back = row(fresh, &gone).await;
    assert_eq!((back.state, back.active), (ListingState::Active, true));
    let audit: Vec<(String, String)> =
        ledger::audit(&fresh.db, None, 10).await.unwrap().into_iter().map(|entry| (entry.who, entry.detail)).collect();
    assert_eq!(audit.len(), 2, "{audit:?}");
    assert!(audit.contains(&("evidence".to_owned(), "active: a bar of 2024-01-12 came".to_owned())), "{audit:?}");
}

/// A run for a session that ends as no source knew the name.
async fn unknown(engine: &Arc<Engine>, ticker: &Ticker, session: NaiveDate) {
    let run = NewRun {
        id: engine.new_run_id(),
        plan: &TICKER,
        subject: Subject::Ticker(ticker.clone()),
        session,
        schedule: None,
        backfill: None,
        priority: priority::SCHEDULED,
        offline: false,
        idempotency_key: None,
        repeats: None,
    };
    let id = run.id;
    engine.start(&[run]).await.unwrap();
    let failed = Outcome::Retry { kind: "not_found", error: "nobody knows it".into(), after: None };
    for (step, outcome) in [(Step::Scrape, failed), (Step::Cleanup, Outcome::Done("clean".into()))] {
        let message = Message { run: id, step, generation: 1, queue: step.queue(priority::SCHEDULED) };
        let (ledger, at) = (&engine.ledger, engine.ledger.now());
        let lease = at + TimeDelta::seconds(60);
        let claims = ledger.claim(&[message], engine.instance, "test", at, lease).await.unwrap();
        let claim = claims.into_iter().next().flatten().expect("a claim");
        let ending = Ending { claim, outcome, effects: vec![], dice: 0.5, sends_next: true, lapsed_before: None };
        ledger.complete(&[ending], at).await.unwrap().remove(0).unwrap();
    }
}

async fn one_that_no_source_knows_is_suspended_and_looked_at_once_a_week(fresh: &Fresh) {
    let (engine, universes) = (engine(fresh), Universes::default());
    let (lost, stays) = (ticker(Exchange::Nasdaq, "LOST"), ticker(Exchange::Nasdaq, "AAPL"));
    let look = async || look_at_listings(&engine, &universes, false, &mut Noticed::default()).await.unwrap();
    for one in [&lost, &stays] {
        archived(fresh, one, vec![bar(0, 100.0)]).await;
    }
    look().await;
    for n in 1..=3 {
        assert_eq!(row(fresh, &lost).await.state, ListingState::Active);
        archived(fresh, &stays, vec![bar(n, 100.0)]).await;
        unknown(&engine, &lost, day(n)).await;
        look().await;
    }
    let suspended = row(fresh, &lost).await;
    assert_eq!(suspended.state, ListingState::Suspended);
    assert!(suspended.why.contains("in 3 of them no source knew the name"), "{}", suspended.why);
    // 2024-01-04 was a Thursday: one look in this week, and one in the next.
    assert_eq!(runs_of(fresh, &lost).await, 4);
    archived(fresh, &stays, vec![bar(4, 100.0)]).await;
    look().await;
    assert_eq!(runs_of(fresh, &lost).await, 4);
    archived(fresh, &stays, vec![bar(7, 100.0)]).await;
    look().await;
    look().await;
    assert_eq!(runs_of(fresh, &lost).await, 5);
}

async fn sessions_in_which_nobody_looked_are_no_evidence(fresh: &Fresh) {
    let (engine, universes) = (engine(fresh), Universes::default());
    let (away, stays) = (ticker(Exchange::Nasdaq, "MSFT"), ticker(Exchange::Nasdaq, "AAPL"));
    for one in [&away, &stays] {
        archived(fresh, one, vec![bar(0, 100.0)]).await;
    }
    look_at_listings(&engine, &universes, true, &mut Noticed::default()).await.unwrap();
    // A month later the program is started again, and the first ticker brings its missed sessions at once.
    archived(fresh, &stays, (1..30).map(|n| bar(n, 100.0)).collect()).await;
    look_at_listings(&engine, &universes, true, &mut Noticed::default()).await.unwrap();
    assert_eq!(row(fresh, &away).await.state, ListingState::Active);
}

fn entry() -> NewEntry {
    let (who, subject, detail) = ("operator".to_owned(), String::new(), String::new());
    NewEntry { id: Uuid::now_v7(), at: now(), who, door: "cli", action: "ticker_state", subject, detail, request: None }
}

async fn order(fresh: &Fresh, ticker: &Ticker, order: Order) -> Ordered {
    listings::order(&fresh.db, ticker, &order, "so it is", &entry(), now()).await.unwrap()
}

async fn a_renamed_ticker_hands_on_its_history(fresh: &Fresh) {
    let (old, new) = (ticker(Exchange::Nasdaq, "FB"), ticker(Exchange::Nasdaq, "META"));
    archived(fresh, &old, (0..20).map(|n| bar(n, 100.0 + n as f64)).collect()).await;
    let other = ticker(Exchange::Nasdaq, "OTHER");
    archived(fresh, &other, (0..20).map(|n| bar(n, 300.0 - n as f64)).collect()).await;
    let refused = order(fresh, &old, Order::Rename(other)).await;
    assert!(matches!(&refused, Ordered::Refused(_, why) if why.contains("two securities")), "{refused:?}");
    let before = fresh.rows("price_raw").await;
    // The new name has begun by itself, with two common sessions.
    archived(fresh, &new, (18..22).map(|n| bar(n, 100.0 + n as f64)).collect()).await;
    assert_eq!(order(fresh, &old, Order::Rename(new.clone())).await, Ordered::Now);
    let series = archive::series(&fresh.db, &new).await.unwrap().unwrap();
    assert_eq!((series.bars().len(), series.bars()[0].close), (22, 100.0));
    let sources =
        "select source || ' ' || count(*) from price_raw where ticker = 'META' group by source order by source";
    assert_eq!(fresh.texts(sources).await, ["NASDAQ:FB 18", "yahoo 4"]);
    let kept = fresh.rows("price_raw").await;
    assert!(before.iter().all(|row| kept.contains(row)), "nothing of the old name's archive was touched");
    let (was, is) = (row(fresh, &old).await, row(fresh, &new).await);
    assert_eq!((was.state, was.active, was.successor), (ListingState::Renamed, false, Some(new.clone())));
    assert_eq!((is.state, is.active), (ListingState::Active, true));
    let counted = fresh.rows("price_raw").await.len();
    assert_eq!(order(fresh, &old, Order::Rename(new.clone())).await, Ordered::Already);
    assert_eq!(fresh.rows("price_raw").await.len(), counted);
    // Neither backwards nor elsewhere, until it is resumed.
    assert!(matches!(order(fresh, &new, Order::Rename(old.clone())).await, Ordered::Refused(..)));
    assert!(matches!(
        order(fresh, &old, Order::Merge(ticker(Exchange::Nasdaq, "X"))).await,
        Ordered::Refused(ListingState::Renamed, _)
    ));
    assert_eq!(order(fresh, &old, Order::Resume).await, Ordered::Now);
    let back = row(fresh, &old).await;
    assert_eq!((back.state, back.active, back.successor), (ListingState::Active, true, None));
    assert_eq!(order(fresh, &ticker(Exchange::Nasdaq, "NOBODY"), Order::Delist).await, Ordered::Unknown);
    // A name that nobody knew yet begins with the whole history.
    let fresh_name = ticker(Exchange::Nasdaq, "MVRS");
    assert_eq!(order(fresh, &new, Order::Rename(fresh_name.clone())).await, Ordered::Now);
    assert_eq!(archive::series(&fresh.db, &fresh_name).await.unwrap().unwrap().bars().len(), 22);
}

async fn an_operators_word_holds(fresh: &Fresh) {
    let (one, into) = (ticker(Exchange::Nepse, "NIB"), ticker(Exchange::Nepse, "NIMB"));
    archived(fresh, &one, vec![bar(0, 100.0)]).await;
    assert_eq!(order(fresh, &one, Order::Suspend).await, Ordered::Now);
    assert_eq!(order(fresh, &one, Order::Suspend).await, Ordered::Already);
    archived(fresh, &one, vec![bar(1, 100.0)]).await;
    assert_eq!(row(fresh, &one).await.state, ListingState::Suspended, "evidence does not overrule a person");
    assert_eq!(order(fresh, &one, Order::Resume).await, Ordered::Now);
    assert_eq!(order(fresh, &one, Order::Resume).await, Ordered::Already);
    assert_eq!(order(fresh, &one, Order::Delist).await, Ordered::Now);
    assert!(matches!(order(fresh, &one, Order::Suspend).await, Ordered::Refused(ListingState::Delisted, _)));
    assert_eq!(order(fresh, &one, Order::Merge(into.clone())).await, Ordered::Now);
    let merged = row(fresh, &one).await;
    assert_eq!(
        (merged.state, merged.successor.clone(), merged.why.as_str()),
        (ListingState::Merged, Some(into.clone()), "so it is")
    );
    assert!(archive::series(&fresh.db, &into).await.unwrap().is_none(), "no history is taken over");
    let resting = listings::resting(&fresh.db, None).await.unwrap();
    assert_eq!((resting.len(), &resting[0].ticker), (1, &one));
    assert!(matches!(order(fresh, &into, Order::Merge(one.clone())).await, Ordered::Unknown));
    let abroad = ticker(Exchange::Nasdaq, "NIMB");
    archived(fresh, &into, vec![bar(0, 100.0)]).await;
    assert!(matches!(order(fresh, &into, Order::Merge(abroad)).await, Ordered::Refused(..)));
    assert!(matches!(order(fresh, &into, Order::Rename(into.clone())).await, Ordered::Refused(..)));
}

fn chosen(include: &[&str], exclude: &[&str]) -> Universe {
    let read = |all: &[&str]| all.iter().map(|text| text.parse().unwrap()).collect();
    Universe { include: read(include), exclude: read(exclude) }
}

async fn active(fresh: &Fresh) -> Vec<String> {
    let rows = tickers::list(&fresh.db, None, None, 100).await.unwrap();
    rows.into_iter().filter(|row| row.active).map(|row| row.ticker.symbol().to_owned()).collect()
}

async fn the_universe_is_followed(fresh: &Fresh) {
    let engine = engine(fresh);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("nasdaq.txt");
    std::fs::write(&file, "AAPL\nno symbol\nGOOG # a comment\nZVZZT\n").unwrap();
    let universes = Universes {
        nasdaq: chosen(&[], &["ZV*"]),
        nepse: chosen(&["BBB"], &["B*", "C*"]),
        nasdaq_list: Some(file.clone()),
        nepse_page: true,
    };
    tickers::add(&fresh.db, &[ticker(Exchange::Nasdaq, "MSFT"), ticker(Exchange::Nepse, "CCC")], now()).await.unwrap();
    let look = async || look_at_listings(&engine, &universes, true, &mut Noticed::default()).await.unwrap();
    look().await;
    assert_eq!(active(fresh).await, ["AAPL", "GOOG", "MSFT"]);
    let excluded = row(fresh, &ticker(Exchange::Nepse, "CCC")).await;
    assert_eq!((excluded.state, excluded.unfollowed.as_deref()), (ListingState::New, Some("excluded by `C*`")));
    page(fresh, 0, Some("BBC")).await;
    look().await;
    assert_eq!(active(fresh).await, ["AAPL", "GOOG", "MSFT", "AAA", "BBB", "DDD", "EEE", "FFF"]);
    assert!(tickers::get(&fresh.db, &ticker(Exchange::Nepse, "BBC")).await.unwrap().is_none(), "not even known");
    // A new listing becomes known by itself, and is looked at at once; what leaves the list stays, without runs.
    page(fresh, 1, Some("NEW")).await;
    std::fs::write(&file, "AAPL\n").unwrap();
    look_at_listings(&engine, &universes, false, &mut Noticed::default()).await.unwrap();
    assert_eq!(active(fresh).await, ["AAPL", "MSFT", "AAA", "BBB", "DDD", "EEE", "FFF", "NEW"]);
    assert_eq!(runs_of(fresh, &ticker(Exchange::Nepse, "NEW")).await, 1);
    // A list that cannot be read, or is empty, ends nobody's runs and begins nobody's.
    let before = active(fresh).await;
    for text in ["", "# nothing\n"] {
        std::fs::write(&file, text).unwrap();
        look().await;
        assert_eq!(active(fresh).await, before);
    }
    std::fs::remove_file(&file).unwrap();
    look().await;
    assert_eq!(active(fresh).await, before);
    // Named by a person, it is followed whatever the list says.
    std::fs::write(&file, "AAPL\n").unwrap();
    tickers::add(&fresh.db, &[ticker(Exchange::Nasdaq, "GOOG")], now()).await.unwrap();
    look().await;
    assert!(active(fresh).await.contains(&"GOOG".to_owned()));
}
