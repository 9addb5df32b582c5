//! What the stand-in sites know: every session of every ticker, real ones from a file, invented ones from a seed.

use crate::nepse;
use anyhow::Context;
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use market::{Exchange, Ticker};
use std::{collections::BTreeSet, io::Read};

/// One session of one ticker as the exchange published it: not adjusted for anything that came later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Row {
    /// The trading day.
    pub session: NaiveDate,
    /// First price.
    pub open: f64,
    /// Highest price.
    pub high: f64,
    /// Lowest price.
    pub low: f64,
    /// Published close.
    pub close: f64,
    /// Last traded price; on some days not the close.
    pub ltp: f64,
    /// The previous close as published that day: after a bonus it is lower than the close before.
    pub prev_close: Option<f64>,
    /// Shares traded.
    pub volume: f64,
    /// Number of trades.
    pub trades: u32,
}

/// A stock split: from `session` on, `shares` new ones stand for one old one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    /// First session at the new price level.
    pub session: NaiveDate,
    /// New shares for one old share.
    pub shares: f64,
}

/// One ticker with all its sessions, oldest first.
#[derive(Debug, Clone, PartialEq)]
pub struct Listing {
    /// Exchange and symbol.
    pub ticker: Ticker,
    /// The company's name; an invented one at NEPSE.
    pub name: String,
    /// The number under which the web site files the company.
    pub company_id: u32,
    /// All sessions on which it traded.
    pub rows: Vec<Row>,
    /// Its splits.
    pub splits: Vec<Split>,
}

/// All tickers and all sessions.
#[derive(Debug)]
pub struct World {
    listings: Vec<Listing>,
    nasdaq_sessions: BTreeSet<NaiveDate>,
    nepse_sessions: BTreeSet<NaiveDate>,
}

/// Session and shares of a split, as written in this file.
type SplitText = (&'static str, f64);

/// Symbol, name, splits.
const NASDAQ: &[(&str, &str, &[SplitText])] = &[
    ("AAPL", "Apple Inc.", &[("2000-06-21", 2.0), ("2005-02-28", 2.0)]),
    ("FB", "Facebook, Inc.", &[]),
    ("GOOG", "Google Inc.", &[]),
    ("MSFT", "Microsoft Corporation", &[("2003-02-18", 2.0)]),
];

impl World {
    /// The bundled NASDAQ bars and the NEPSE-like series of this seed.
    pub fn new(seed: u64) -> anyhow::Result<Self> {
        let mut listings = read_nasdaq().context("reading the bundled NASDAQ bars")?;
        let nasdaq_sessions = sessions_of(&listings);
        let nepse_sessions: BTreeSet<NaiveDate> = nepse::calendar(seed).into_iter().collect();
        listings.extend(nepse::generate(seed));
        Ok(Self { listings, nasdaq_sessions, nepse_sessions })
    }

    /// One more ticker.
    pub(crate) fn add(&mut self, listing: Listing) {
        self.listings.push(listing);
    }

    /// Every ticker there is.
    pub fn listings(&self) -> &[Listing] {
        &self.listings
    }

    /// The listing of a symbol; case does not matter.
    pub fn find(&self, exchange: Exchange, symbol: &str) -> Option<&Listing> {
        self.listings.iter().find(|l| l.ticker.exchange() == exchange && l.ticker.symbol().eq_ignore_ascii_case(symbol))
    }

    /// The days on which the exchange was open.
    pub fn sessions(&self, exchange: Exchange) -> &BTreeSet<NaiveDate> {
        match exchange {
            Exchange::Nasdaq => &self.nasdaq_sessions,
            Exchange::Nepse => &self.nepse_sessions,
        }
    }

    /// The newest session whose regular hours are over at `now`.
    pub fn last_closed_session(&self, exchange: Exchange, now: DateTime<Utc>) -> Option<NaiveDate> {
        let today = now.with_timezone(&exchange.zone()).date_naive();
        self.sessions(exchange).range(..=today).rev().find(|day| closes_at(exchange, **day) <= now).copied()
    }
}

/// The instant at which the session opens.
pub fn opens_at(exchange: Exchange, session: NaiveDate) -> DateTime<Utc> {
    instant(exchange, session, exchange.opens())
}

/// The instant at which the session's regular hours end.
pub fn closes_at(exchange: Exchange, session: NaiveDate) -> DateTime<Utc> {
    instant(exchange, session, exchange.closes())
}

fn instant(exchange: Exchange, session: NaiveDate, time: NaiveTime) -> DateTime<Utc> {
    let local = session.and_time(time);
    local.and_local_timezone(exchange.zone()).latest().map_or_else(|| local.and_utc(), |t| t.with_timezone(&Utc))
}

fn sessions_of(listings: &[Listing]) -> BTreeSet<NaiveDate> {
    listings.iter().flat_map(|l| l.rows.iter().map(|row| row.session)).collect()
}

fn read_nasdaq() -> anyhow::Result<Vec<Listing>> {
    let mut text = String::new();
    flate2::read::GzDecoder::new(&include_bytes!("../data/nasdaq.csv.gz")[..]).read_to_string(&mut text)?;
    let mut listings = Vec::new();
    for (at, (symbol, name, splits)) in NASDAQ.iter().enumerate() {
        let splits = splits
            .iter()
            .map(|(session, shares)| Ok(Split { session: session.parse()?, shares: *shares }))
            .collect::<anyhow::Result<Vec<Split>>>()?;
        listings.push(Listing {
            ticker: Ticker::new(Exchange::Nasdaq, symbol)?,
            name: (*name).to_owned(),
            company_id: at as u32 + 1,
            rows: Vec::new(),
            splits,
        });
    }
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    for record in reader.records() {
        let record = record?;
        let cell = |at: usize| record.get(at).unwrap_or_default();
        let number = |at: usize| cell(at).parse::<f64>().with_context(|| format!("`{}` in {record:?}", cell(at)));
        let listing = listings
            .iter_mut()
            .find(|l| l.ticker.symbol() == cell(1))
            .with_context(|| format!("no such ticker: {}", cell(1)))?;
        listing.rows.push(Row {
            session: cell(2).parse()?,
            open: number(3)?,
            high: number(4)?,
            low: number(5)?,
            close: number(6)?,
            ltp: number(6)?,
            prev_close: None,
            volume: number(7)?,
            trades: 0,
        });
    }
    Ok(listings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bundled_bars_are_all_there() {
        let world = World::new(7).unwrap();
        let count = |symbol: &str| world.find(Exchange::Nasdaq, symbol).unwrap().rows.len();
        assert_eq!([count("AAPL"), count("fb"), count("GOOG"), count("MSFT")], [3270, 196, 2148, 3270]);
        assert!(world.find(Exchange::Nasdaq, "DEMOBA").is_none());
        assert_eq!(world.sessions(Exchange::Nasdaq).len(), 3270);
    }

    #[test]
    fn a_session_is_closed_when_its_hours_are_over() {
        let world = World::new(7).unwrap();
        let at = |text: &str| world.last_closed_session(Exchange::Nasdaq, text.parse().unwrap()).unwrap().to_string();
        assert_eq!(at("2012-12-03T20:59:59Z"), "2012-11-30");
        assert_eq!(at("2012-12-03T21:00:00Z"), "2012-12-03");
        assert_eq!(at("2012-12-09T12:00:00Z"), "2012-12-07");
    }
}
