//! One session's prices. `RawBar` is what a page or file said; `RawBar::check` is the only way to a `Bar`.

use chrono::{Datelike, NaiveDate};
use serde::{Deserialize, Serialize};

/// One finished session of one ticker. Prices are in the exchange's currency, rounded to four decimals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bar {
    /// The trading day, in the exchange's calendar.
    pub session: NaiveDate,
    /// First price; `None` where the source has none, or one outside [low, high].
    pub open: Option<f64>,
    /// Highest price.
    pub high: Option<f64>,
    /// Lowest price.
    pub low: Option<f64>,
    /// The published close: finite and above zero, always.
    pub close: f64,
    /// Last traded price, where the exchange publishes it beside the close.
    pub ltp: Option<f64>,
    /// The previous close as the exchange published it that day: differs from the stored one after a corporate action.
    pub prev_close: Option<f64>,
    /// Shares traded; 0 on a day without trades.
    pub volume: Option<f64>,
}

/// A row as its source gave it, before any check.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct RawBar {
    /// See [`Bar`] for the meaning of each field.
    pub session: Option<NaiveDate>,
    #[allow(missing_docs)]
    pub open: Option<f64>,
    #[allow(missing_docs)]
    pub high: Option<f64>,
    #[allow(missing_docs)]
    pub low: Option<f64>,
    #[allow(missing_docs)]
    pub close: Option<f64>,
    #[allow(missing_docs)]
    pub ltp: Option<f64>,
    #[allow(missing_docs)]
    pub prev_close: Option<f64>,
    #[allow(missing_docs)]
    pub volume: Option<f64>,
}

/// Why a row is refused.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum BarFault {
    /// No date could be read.
    #[error("the date is missing")]
    NoSession,
    /// A date before exchanges kept electronic records: surely misread.
    #[error("the date {0} is before 1990")]
    TooOld(NaiveDate),
    /// No close.
    #[error("the close is missing")]
    NoClose,
    /// NaN, infinite, zero, negative, or too large for its decimals.
    #[error("the {field} {value} is not a price")]
    NotAPrice {
        /// Which column.
        field: &'static str,
        /// What stood there.
        value: f64,
    },
    /// High below low.
    #[error("the high {high} is below the low {low}")]
    Crossed {
        /// The high as given.
        high: f64,
        /// The low as given.
        low: f64,
    },
    /// Negative, not finite, or more than there can be.
    #[error("the volume {0} is not a number of shares")]
    Volume(f64),
}

/// Beyond this an f64 does not hold four decimals any more. Adjusted prices of securities that were merged again and again come near it.
const LARGEST_PRICE: f64 = 1e11;
/// No session has seen a millionth of this.
const LARGEST_VOLUME: f64 = 1e15;

/// Rounds to the four decimals in which prices are kept. Sources carry float32 noise (268.80999755859375).
pub fn round4(value: f64) -> f64 {
    let scaled = (value * 1e4).round();
    if scaled.is_finite() { scaled / 1e4 } else { value }
}

impl RawBar {
    /// The row as a [`Bar`], or the first reason why it is none.
    /// An open outside [low, high] is not a fault: before 2018 NEPSE's "open" was the previous close. It becomes unknown.
    pub fn check(self) -> Result<Bar, BarFault> {
        let session = self.session.ok_or(BarFault::NoSession)?;
        if session.year() < 1990 {
            return Err(BarFault::TooOld(session));
        }
        let close = price("close", self.close)?.ok_or(BarFault::NoClose)?;
        let (high, low) = (price("high", self.high)?, price("low", self.low)?);
        if let (Some(high), Some(low)) = (high, low)
            && high < low
        {
            return Err(BarFault::Crossed { high, low });
        }
        // An open of zero means "none" on several pages; it never stops a row with a good close.
        let open = price("open", self.open).ok().flatten().filter(|open| {
            let above = low.is_none_or(|low| *open >= low);
            let below = high.is_none_or(|high| *open <= high);
            above && below
        });
        let volume = match self.volume {
            Some(v) if !(0.0..=LARGEST_VOLUME).contains(&v) => return Err(BarFault::Volume(v)),
            other => other.map(round4),
        };
        let ltp = price("ltp", self.ltp).ok().flatten();
        let prev_close = price("prev_close", self.prev_close).ok().flatten();
        Ok(Bar { session, open, high, low, close, ltp, prev_close, volume })
    }
}

fn price(field: &'static str, value: Option<f64>) -> Result<Option<f64>, BarFault> {
    match value {
        None => Ok(None),
        Some(v) if v <= LARGEST_PRICE && round4(v) > 0.0 => Ok(Some(round4(v))),
        Some(value) => Err(BarFault::NotAPrice { field, value }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn raw(close: f64) -> RawBar {
        RawBar { session: NaiveDate::from_ymd_opt(2024, 1, 2), close: Some(close), ..RawBar::default() }
    }

    #[test]
    fn refuses_what_is_no_price() {
        for bad in [f64::NAN, f64::INFINITY, 0.0, -1.0, 1e-9, 1.1e11, 1e33] {
            assert!(matches!(raw(bad).check(), Err(BarFault::NotAPrice { field: "close", .. })), "{bad}");
        }
        assert_eq!(RawBar { close: None, ..raw(1.0) }.check(), Err(BarFault::NoClose));
        assert_eq!(RawBar { session: None, ..raw(1.0) }.check(), Err(BarFault::NoSession));
        assert_eq!(RawBar { volume: Some(-1.0), ..raw(1.0) }.check(), Err(BarFault::Volume(-1.0)));
        assert_eq!(RawBar { volume: Some(1e16), ..raw(1.0) }.check(), Err(BarFault::Volume(1e16)));
        let crossed = RawBar { high: Some(1.0), low: Some(2.0), ..raw(1.5) };
        assert!(matches!(crossed.check(), Err(BarFault::Crossed { .. })));
    }

    #[test]
    fn an_open_outside_the_range_is_unknown() {
        let bar = RawBar { open: Some(9.0), high: Some(5.0), low: Some(4.0), ..raw(4.5) }.check().unwrap();
        assert_eq!(bar.open, None);
    }

    proptest! {
        #[test]
        fn a_checked_bar_is_always_sound(close in any::<f64>(), high in any::<f64>(), low in any::<f64>(), volume in any::<f64>()) {
            let row = RawBar { high: Some(high), low: Some(low), volume: Some(volume), ..raw(close) };
            if let Ok(bar) = row.check() {
                prop_assert!(bar.close.is_finite() && bar.close > 0.0);
                prop_assert!(bar.high.unwrap() >= bar.low.unwrap());
                prop_assert!(bar.volume.unwrap() >= 0.0);
            }
        }
    }
}
