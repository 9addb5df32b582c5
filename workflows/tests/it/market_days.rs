//! The market's own return of a session: noted ticker by ticker, written once, and waited for.

use crate::both::on_both;
use crate::conformance::now;
use chrono::{NaiveDate, TimeDelta};
use market::{Bar, Batch, Exchange, MarketDay, RawBar, Ticker};
use workflows::Db;
use workflows::exchange_duties::MARKET_DEADLINE;
use workflows::stores::{archive, market_days, tickers};

on_both!(a_session_is_complete_when_nine_of_ten_were_seen, at_the_deadline_it_is_taken_as_it_is, a_row_is_written_once,);

const EXCHANGE: Exchange = Exchange::Nepse;

fn ticker(n: usize) -> Ticker {
    Ticker::new(EXCHANGE, &format!("T{n}")).unwrap()
}

fn day(n: u32) -> NaiveDate {
    NaiveDate::from_ymd_opt(2024, 3, n).unwrap()
}

/// Archives the closes of a ticker on the first days of March.
async fn archived(db: &Db, n: usize, closes: &[f64]) {
    let bar = |(at, close): (usize, &f64)| -> Bar {
        RawBar { session: Some(day(at as u32 + 1)), close: Some(*close), ..RawBar::default() }.check().unwrap()
    };
    let batch = Batch {
        ticker: ticker(n),
        source: "test".into(),
        fetched_at: now(),
        body_sha256: format!("{n}-{}", closes.len()),
        bars: closes.iter().enumerate().map(bar).collect(),
        factors: vec![],
        splits: vec![],
        page_session: None,
        refused: vec![],
    };
    archive::import(db, &batch, now()).await.unwrap();
}

async fn of(db: &Db, session: NaiveDate) -> Option<MarketDay> {
    market_days::list(db, EXCHANGE).await.unwrap().into_iter().find(|day| day.session == session)
}

async fn market_of(db: &Db, count: usize) {
    let all: Vec<Ticker> = (0..count).map(ticker).collect();
    tickers::add(db, &all, now()).await.unwrap();
}

async fn a_session_is_complete_when_nine_of_ten_were_seen(db: Db) {
    market_of(&db, 10).await;
    for n in 0..8 {
        archived(&db, n, &[100.0, 110.0]).await;
    }
    let look = || market_days::complete(&db, EXCHANGE, MARKET_DEADLINE, now());
    assert!(look().await.unwrap().is_empty());
    assert_eq!(market_days::open_since(&db, EXCHANGE, day(2)).await.unwrap(), Some(now()));
    archived(&db, 8, &[100.0, 100.0]).await;
    assert_eq!(look().await.unwrap(), [day(2)]);
    let written = of(&db, day(2)).await.unwrap();
    assert_eq!(written.tickers, 9);
    assert!((written.mean_return - 8.0 / 9.0 * 1.1f64.ln()).abs() < 1e-12, "{written:?}");
    assert!(market_days::is_written(&db, EXCHANGE, day(2)).await.unwrap());
    assert_eq!(market_days::open_since(&db, EXCHANGE, day(2)).await.unwrap(), None);
    // On the next day as many traded as nine of ten of those.
    for n in 0..9 {
        archived(&db, n, &[100.0, 110.0, 110.0]).await;
    }
    assert_eq!(look().await.unwrap(), [day(3)]);
}

async fn at_the_deadline_it_is_taken_as_it_is(db: Db) {
    market_of(&db, 10).await;
    archived(&db, 0, &[100.0, 120.0]).await;
    let just_before = now() + MARKET_DEADLINE - TimeDelta::seconds(1);
    assert!(market_days::complete(&db, EXCHANGE, MARKET_DEADLINE, just_before).await.unwrap().is_empty());
    let due = now() + MARKET_DEADLINE;
    assert_eq!(market_days::complete(&db, EXCHANGE, MARKET_DEADLINE, due).await.unwrap(), [day(2)]);
    assert_eq!(of(&db, day(2)).await.unwrap().tickers, 1);
}

async fn a_row_is_written_once(db: Db) {
    market_of(&db, 2).await;
    for n in 0..2 {
        archived(&db, n, &[100.0, 110.0]).await;
    }
    let (a, b) = tokio::join!(
        market_days::complete(&db, EXCHANGE, MARKET_DEADLINE, now()),
        market_days::complete(&db, EXCHANGE, MARKET_DEADLINE, now())
    );
    assert_eq!(a.unwrap().len() + b.unwrap().len(), 1, "one of two replicas writes it");
    let before = of(&db, day(2)).await.unwrap();
    // A close that is corrected later changes no forecast that was made from it.
    archived(&db, 0, &[100.0, 150.0]).await;
    assert!(market_days::complete(&db, EXCHANGE, MARKET_DEADLINE, now()).await.unwrap().is_empty());
    assert_eq!(of(&db, day(2)).await.unwrap(), before);
}
