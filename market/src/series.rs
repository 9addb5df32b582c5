//! A ticker's history as the model reads it: bars in order, one per session, and the corporate actions between them.

use crate::{Bar, Ticker, round4};
use chrono::NaiveDate;
use kernel::math::ln;
use serde::{Deserialize, Serialize};

/// A corporate action as the exchange applied it: the previous close times `factor` is the session's reference price.
/// A bonus of 12 % gives 1/1.12 = 0.8929.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Factor {
    /// The ex-date: the first session that trades at the new price level.
    pub session: NaiveDate,
    /// Reference price ÷ previous close; finite and above zero.
    pub factor: f64,
}

/// Bars of one ticker, ascending by session, each session once.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Series {
    ticker: Ticker,
    bars: Vec<Bar>,
    factors: Vec<Factor>,
}

/// Why bars are no series.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SeriesFault {
    /// Two bars are out of order or share a session.
    #[error("{ticker}: the bar of {session} does not come after the one before it")]
    Order {
        /// Whose bars.
        ticker: Ticker,
        /// The offending session.
        session: NaiveDate,
    },
    /// A factor is zero, negative or not finite.
    #[error("{ticker}: the factor {factor} of {session} is not a positive number")]
    Factor {
        /// Whose factor.
        ticker: Ticker,
        /// Its ex-date.
        session: NaiveDate,
        /// Its value.
        factor: f64,
    },
}

impl Series {
    /// A series from bars and factors that are in order already; anything else is an error, not a repair.
    pub fn new(ticker: Ticker, bars: Vec<Bar>, factors: Vec<Factor>) -> Result<Self, SeriesFault> {
        if let Some(pair) = bars.windows(2).find(|pair| pair[0].session >= pair[1].session) {
            return Err(SeriesFault::Order { ticker, session: pair[1].session });
        }
        if let Some(bad) = factors.iter().find(|f| !(f.factor.is_finite() && f.factor > 0.0)) {
            return Err(SeriesFault::Factor { session: bad.session, factor: bad.factor, ticker });
        }
        Ok(Self { ticker, bars, factors })
    }

    /// Whose series it is.
    pub fn ticker(&self) -> &Ticker {
        &self.ticker
    }

    /// The bars, oldest first.
    pub fn bars(&self) -> &[Bar] {
        &self.bars
    }

    /// The corporate actions, in the order given.
    pub fn factors(&self) -> &[Factor] {
        &self.factors
    }

    /// The newest session, or `None` when there are no bars.
    pub fn last_session(&self) -> Option<NaiveDate> {
        self.bars.last().map(|bar| bar.session)
    }

    /// The factor that stands between the close before `session` and the session itself; 1 where there is none.
    pub fn factor_at(&self, session: NaiveDate) -> f64 {
        self.factors.iter().filter(|f| f.session == session).map(|f| f.factor).product()
    }

    /// Log returns of the closes against each session's reference price: ln(close_t / (close_{t-1} × factor_t)). The logarithm is our own, with the same
    /// bits on every machine.
    /// Shape: one value fewer than there are bars; value `i` belongs to bar `i + 1`.
    pub fn log_returns(&self) -> Vec<f64> {
        self.log_returns_from(0)
    }

    /// The same of the bars from index `first` on; empty when there are not two.
    pub fn log_returns_from(&self, first: usize) -> Vec<f64> {
        self.bars[first.min(self.bars.len())..]
            .windows(2)
            .map(|pair| ln(pair[1].close / (pair[0].close * self.factor_between(pair[0].session, pair[1].session))))
            .collect()
    }

    /// The bars on the level of the newest one: prices times, volumes divided by, every later corporate action. What is archived stays raw.
    pub fn adjusted(&self) -> Vec<Bar> {
        let Some(last) = self.last_session() else { return Vec::new() };
        let on_level = |bar: &Bar| {
            let factor = self.factor_between(bar.session, last);
            let price = |value: Option<f64>| value.map(|value| round4(value * factor));
            Bar {
                session: bar.session,
                open: price(bar.open),
                high: price(bar.high),
                low: price(bar.low),
                close: round4(bar.close * factor),
                ltp: price(bar.ltp),
                // It stands on the level of its own session: an action of that day is in it already.
                prev_close: price(bar.prev_close),
                volume: bar.volume.map(|volume| round4(volume / factor)),
            }
        };
        self.bars.iter().map(on_level).collect()
    }

    /// The same ticker's series up to and including `session`.
    pub fn until(&self, session: NaiveDate) -> Series {
        let keep = self.bars.partition_point(|bar| bar.session <= session);
        Series { ticker: self.ticker.clone(), bars: self.bars[..keep].to_vec(), factors: self.factors.clone() }
    }

    /// This series with `newer` laid over it: a session that both have takes the newer bar.
    pub fn with(&self, newer: &[Bar], factors: &[Factor]) -> Series {
        let mut by_session: std::collections::BTreeMap<NaiveDate, Bar> =
            self.bars.iter().map(|bar| (bar.session, *bar)).collect();
        by_session.extend(newer.iter().map(|bar| (bar.session, *bar)));
        let mut by_date: std::collections::BTreeMap<NaiveDate, Factor> =
            self.factors.iter().map(|f| (f.session, *f)).collect();
        by_date.extend(factors.iter().map(|f| (f.session, *f)));
        Series {
            ticker: self.ticker.clone(),
            bars: by_session.into_values().collect(),
            factors: by_date.into_values().collect(),
        }
    }

    /// The product of all factors whose ex-date lies after `from`, up to and including `to`.
    /// A halted ticker may have no bar on the ex-date itself; the next bar then carries the action.
    fn factor_between(&self, from: NaiveDate, to: NaiveDate) -> f64 {
        self.factors.iter().filter(|f| f.session > from && f.session <= to).map(|f| f.factor).product()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RawBar;

    fn bar(day: u32, close: f64) -> Bar {
        RawBar { session: NaiveDate::from_ymd_opt(2024, 1, day), close: Some(close), ..RawBar::default() }
            .check()
            .unwrap()
    }

    fn ticker() -> Ticker {
        Ticker::parse("NEPSE:NABIL").unwrap()
    }

    #[test]
    fn a_bonus_is_not_a_fall() {
        let factor = Factor { session: NaiveDate::from_ymd_opt(2024, 1, 3).unwrap(), factor: 0.8 };
        let series = Series::new(ticker(), vec![bar(1, 100.0), bar(2, 100.0), bar(4, 80.0)], vec![factor]).unwrap();
        assert!(series.log_returns().iter().all(|r| r.abs() < 1e-12), "{:?}", series.log_returns());
        let closes: Vec<f64> = series.adjusted().iter().map(|bar| bar.close).collect();
        assert_eq!((closes, series.bars()[0].close), (vec![80.0, 80.0, 80.0], 100.0), "what is archived stays raw");
    }

    #[test]
    fn order_is_required_and_overlay_keeps_it() {
        assert!(Series::new(ticker(), vec![bar(2, 1.0), bar(1, 1.0)], vec![]).is_err());
        assert!(Series::new(ticker(), vec![bar(1, 1.0), bar(1, 1.0)], vec![]).is_err());
        let series = Series::new(ticker(), vec![bar(1, 1.0), bar(3, 3.0)], vec![]).unwrap();
        let joined = series.with(&[bar(3, 3.5), bar(2, 2.0)], &[]);
        assert_eq!(joined.bars().iter().map(|b| b.close).collect::<Vec<_>>(), [1.0, 2.0, 3.5]);
        assert_eq!(joined.until(bar(2, 1.0).session).bars().len(), 2);
    }
}
