//! What the exchange as a whole did in each session: the mean return of its tickers, which is an input of every ticker's model.

use crate::Scale;
use chrono::{Datelike, NaiveDate};
use market::{MarketDay, Series};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Fewer tickers than this say nothing about a market; its input is then 0.
pub const MARKET_TICKERS_MIN: u32 = 5;
/// The sessions of an exchange in order, with each mean return standardised by the volatility known before it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct MarketReturns {
    days: Vec<MarketDay>,
    z: Vec<f32>,
}

impl MarketReturns {
    /// Takes the days in any order; of two for one session the later one counts. Days that are not finite, or of fewer than
    /// [`MARKET_TICKERS_MIN`] tickers, count as calm.
    pub fn new(days: impl IntoIterator<Item = MarketDay>) -> Self {
        let days: BTreeMap<NaiveDate, MarketDay> = days.into_iter().map(|day| (day.session, day)).collect();
        let days: Vec<MarketDay> = days.into_values().collect();
        let speaks = |day: &MarketDay| day.tickers >= MARKET_TICKERS_MIN && day.mean_return.is_finite();
        let returns: Vec<f64> = days.iter().filter(|day| speaks(day)).map(|day| day.mean_return).collect();
        let scale = Scale { usual_sigma: 0.01, ..Scale::default() };
        let mut standardised = scale.apply(&returns).z.into_iter();
        let z =
            days.iter().map(|day| if speaks(day) { standardised.next().unwrap_or(0.0) as f32 } else { 0.0 }).collect();
        Self { days, z }
    }

    /// The market that these series make up.
    pub fn of<'a>(series: impl IntoIterator<Item = &'a Series>) -> Self {
        Self::new(market::market_days(series))
    }

    /// The days, oldest first.
    pub fn days(&self) -> &[MarketDay] {
        &self.days
    }

    /// The same market up to and including `session`.
    pub fn until(&self, session: NaiveDate) -> Self {
        let keep = self.days.partition_point(|day| day.session <= session);
        Self { days: self.days[..keep].to_vec(), z: self.z[..keep].to_vec() }
    }

    /// SHA-256, hex, of all its days. Days before the first bar of a series are not in its input hash, but the volatility that standardises later
    /// ones follows from them.
    pub fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for day in &self.days {
            hash.update(day.session.num_days_from_ce().to_le_bytes());
            hash.update(day.mean_return.to_bits().to_le_bytes());
            hash.update(day.tickers.to_le_bytes());
        }
        hex::encode(hash.finalize())
    }

    /// The standardised return of `session`; `None` where the session is not known.
    pub(crate) fn z(&self, session: NaiveDate) -> Option<f32> {
        self.days.binary_search_by_key(&session, |day| day.session).ok().map(|at| self.z[at])
    }

    /// Whether enough tickers are known to have traded in `session`.
    pub(crate) fn speaks_of(&self, session: NaiveDate) -> bool {
        let at = self.days.binary_search_by_key(&session, |day| day.session);
        at.is_ok_and(|at| self.days[at].tickers >= MARKET_TICKERS_MIN)
    }

    /// The newest standardised return up to `session`, 0 when there is none: what stands in for a session that is not complete yet.
    pub(crate) fn newest_z(&self, session: NaiveDate) -> f32 {
        let after = self.days.partition_point(|day| day.session <= session);
        after.checked_sub(1).map_or(0.0, |at| self.z[at])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{Bar, RawBar, Ticker};

    fn day(n: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + chrono::Days::new(n)
    }

    fn series(symbol: &str, closes: &[f64]) -> Series {
        let bar = |(n, close): (usize, &f64)| -> Bar {
            RawBar { session: Some(day(n as u64)), close: Some(*close), ..RawBar::default() }.check().unwrap()
        };
        Series::new(
            Ticker::parse(&format!("NEPSE:{symbol}")).unwrap(),
            closes.iter().enumerate().map(bar).collect(),
            vec![],
        )
        .unwrap()
    }

    #[test]
    fn the_market_is_the_mean_of_its_tickers() {
        let all: Vec<Series> =
            (0..5).map(|n| series(&format!("T{n}"), &[100.0, 100.0 + f64::from(n), 100.0])).collect();
        let market = MarketReturns::of(&all);
        assert_eq!(market.days().len(), 2);
        assert!(market.z(day(1)).unwrap() > 0.0 && market.z(day(2)).unwrap() < 0.0);
        assert_ne!(market.hash(), market.until(day(1)).hash());
        assert_eq!((market.z(day(0)), market.newest_z(day(0))), (None, 0.0));
        assert_eq!(market.newest_z(day(9)), market.z(day(2)).unwrap());
        assert_eq!(MarketReturns::of(&all[..4]).z(day(1)), Some(0.0), "four tickers are no market");
    }

    #[test]
    fn later_sessions_change_no_earlier_one() {
        let all: Vec<Series> =
            (0..6).map(|n| series(&format!("T{n}"), &[50.0, 51.0, 49.0, 52.0 + f64::from(n)])).collect();
        let known: Vec<Series> = all.iter().map(|one| one.until(day(2))).collect();
        assert_eq!(MarketReturns::of(&all).until(day(2)), MarketReturns::of(&known));
    }
}
