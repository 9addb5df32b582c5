//! The series block: one ticker's bars and corporate actions as bytes, so that training reads one row.
//! Layout, little endian: version byte 1; u32 bars; per bar i32 day (days since 1970) and seven f64 (open, high, low, close, ltp,
//! prev_close, volume; NaN for unknown); u32 factors; per factor i32 day and f64. Exact: what goes in comes out bit for bit.

use crate::db::{StoreError, StoreResult};
use chrono::{Days, NaiveDate};
use market::{Bar, Factor, Series, Ticker};

const VERSION: u8 = 1;

/// The series as bytes.
pub(super) fn write(series: &Series) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(9 + series.bars().len() * 60 + series.factors().len() * 12);
    bytes.push(VERSION);
    bytes.extend(length(series.bars().len()));
    for bar in series.bars() {
        bytes.extend(day(bar.session));
        for value in [bar.open, bar.high, bar.low, Some(bar.close), bar.ltp, bar.prev_close, bar.volume] {
            bytes.extend(value.unwrap_or(f64::NAN).to_le_bytes());
        }
    }
    bytes.extend(length(series.factors().len()));
    for factor in series.factors() {
        bytes.extend(day(factor.session));
        bytes.extend(factor.factor.to_le_bytes());
    }
    bytes
}

/// The series from its bytes; anything unexpected is an error, never a panic.
pub(super) fn read(ticker: Ticker, bytes: &[u8]) -> StoreResult<Series> {
    let broken = |why: &str| StoreError::Unreadable { what: "series block", why: format!("{ticker}: {why}") };
    let mut cursor = Cursor(bytes);
    if cursor.take::<1>().ok_or_else(|| broken("empty"))? != [VERSION] {
        return Err(broken("of another version; run the archive step again to rebuild it"));
    }
    let short = || broken("cut off");
    let count = cursor.u32().ok_or_else(short)?;
    let mut bars = Vec::with_capacity(count.min(1 << 16) as usize);
    for _ in 0..count {
        let session = cursor.date().ok_or_else(short)?;
        let mut values = [None; 7];
        for value in &mut values {
            *value = Some(cursor.f64().ok_or_else(short)?).filter(|v| !v.is_nan());
        }
        let [open, high, low, close, ltp, prev_close, volume] = values;
        let close = close.ok_or_else(|| broken("a bar without a close"))?;
        bars.push(Bar { session, open, high, low, close, ltp, prev_close, volume });
    }
    let count = cursor.u32().ok_or_else(short)?;
    let mut factors = Vec::with_capacity(count.min(1 << 16) as usize);
    for _ in 0..count {
        let (session, factor) = (cursor.date().ok_or_else(short)?, cursor.f64().ok_or_else(short)?);
        factors.push(Factor { session, factor });
    }
    Series::new(ticker.clone(), bars, factors).map_err(|e| broken(&e.to_string()))
}

fn length(count: usize) -> [u8; 4] {
    u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes()
}

fn day(session: NaiveDate) -> [u8; 4] {
    let days = session.signed_duration_since(NaiveDate::default()).num_days();
    i32::try_from(days).unwrap_or(0).to_le_bytes()
}

struct Cursor<'a>(&'a [u8]);

impl Cursor<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }
    fn u32(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }
    fn f64(&mut self) -> Option<f64> {
        self.take().map(f64::from_le_bytes)
    }
    fn date(&mut self) -> Option<NaiveDate> {
        let days = i32::from_le_bytes(self.take()?);
        let epoch = NaiveDate::default();
        if days < 0 {
            epoch.checked_sub_days(Days::new(u64::from(days.unsigned_abs())))
        } else {
            epoch.checked_add_days(Days::new(u64::from(days.unsigned_abs())))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::RawBar;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read_back(closes in proptest::collection::vec(0.01f64..1e6, 0..40), volume in proptest::option::of(0.0f64..1e9)) {
            let ticker = Ticker::parse("NASDAQ:AAPL").unwrap();
            let bars: Vec<Bar> = closes.iter().enumerate().map(|(n, close)| {
                let session = NaiveDate::from_ymd_opt(1999, 12, 20).unwrap() + Days::new(n as u64);
                RawBar { session: Some(session), close: Some(*close), volume, ..RawBar::default() }.check().unwrap()
            }).collect();
            let factors = vec![Factor { session: NaiveDate::from_ymd_opt(2000, 1, 1).unwrap(), factor: 0.8929 }];
            let series = Series::new(ticker.clone(), bars, factors).unwrap();
            prop_assert_eq!(read(ticker, &write(&series)).unwrap(), series);
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(Ticker::parse("NASDAQ:AAPL").unwrap(), &bytes);
            let mut versioned = vec![VERSION];
            versioned.extend(bytes);
            let _ = read(Ticker::parse("NASDAQ:AAPL").unwrap(), &versioned);
        }
    }
}
