//! What an exchange as a whole did in one session: the mean return of its tickers.

use crate::{Exchange, Series};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One ticker's return counts no more than this (log), so that a split nobody told us of does not move the market.
pub const MARKET_RETURN_CLIP: f64 = 0.2;

/// One session of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct MarketDay {
    /// Which session.
    pub session: NaiveDate,
    /// Equal-weight mean of the log returns of the tickers that traded in it, each within ± [`MARKET_RETURN_CLIP`].
    pub mean_return: f64,
    /// How many these were.
    pub tickers: u32,
}

/// Sums up the sessions of an exchange, one series after the other, so that not all need be in memory at once.
#[derive(Debug, Clone, Default)]
pub struct MarketSums(BTreeMap<NaiveDate, (f64, u32)>);

impl MarketSums {
    /// Adds a ticker's returns.
    pub fn add(&mut self, series: &Series) {
        for (session, change) in changes(series, usize::MAX) {
            let day = self.0.entry(session).or_default();
            *day = (day.0 + change, day.1 + 1);
        }
    }

    /// The sessions, oldest first.
    pub fn days(self) -> Vec<MarketDay> {
        let day = |(session, (sum, tickers))| MarketDay { session, mean_return: sum / f64::from(tickers), tickers };
        self.0.into_iter().map(day).collect()
    }

    /// The same without the newest sessions that some tickers have and most do not have yet.
    pub fn complete_days(self) -> Vec<MarketDay> {
        let mut days = self.days();
        while let [.., before, last] = days.as_slice()
            && 10 * last.tickers < 9 * before.tickers
        {
            days.pop();
        }
        days
    }
}

/// The sessions that these series of one exchange make up, oldest first.
pub fn market_days<'a>(series: impl IntoIterator<Item = &'a Series>) -> Vec<MarketDay> {
    let mut sums = MarketSums::default();
    series.into_iter().for_each(|one| sums.add(one));
    sums.days()
}

/// What a ticker adds to the market in each of its newest `most` sessions: its log return against the reference price, clipped. Sessions whose
/// return is not finite are left out.
pub fn changes(series: &Series, most: usize) -> Vec<(NaiveDate, f64)> {
    let from = series.bars().len().saturating_sub(most.saturating_add(1));
    let sessions = series.bars()[from..].iter().skip(1).map(|bar| bar.session);
    let returns = series.log_returns_from(from);
    sessions
        .zip(returns)
        .filter(|(_, change)| change.is_finite())
        .map(|(session, change)| (session, change.clamp(-MARKET_RETURN_CLIP, MARKET_RETURN_CLIP)))
        .collect()
}

/// The condition in the ledger that comes true when the market's return of a session is known.
pub fn market_condition(exchange: Exchange, session: NaiveDate) -> String {
    format!("market:{exchange}:{session}")
}
