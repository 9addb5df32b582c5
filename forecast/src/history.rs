//! The part of a series that is used, checked and scaled, and the hash that names exactly that part.

use crate::{ForecastError, Scale};
use chrono::NaiveDate;
use market::{MIN_CLOSES, Series};
use sha2::{Digest, Sha256};

/// Training, serving and the input hash read the newest so many closes; what lies before changes no bit of the answer.
/// 750 windows, the 15 sessions before them, and more than enough for the volatility to forget where it began.
pub const HISTORY_CLOSES: usize = 1024;

/// A series made ready. With n returns used: `sessions` and `z` hold n values, `sigma` n + 1.
pub(crate) struct History {
    /// The session to which each return belongs.
    pub sessions: Vec<NaiveDate>,
    /// Standardised returns.
    pub z: Vec<f64>,
    /// Volatility expected for each return before it was known; the last is the next session's.
    pub sigma: Vec<f64>,
    /// The newest close.
    pub last_close: f64,
    /// Its session.
    pub last_session: NaiveDate,
}

impl History {
    /// The newest closes of `series`, standardised.
    pub(crate) fn of(series: &Series, scale: &Scale) -> Result<Self, ForecastError> {
        let ticker = series.ticker();
        let all = series.bars();
        let (Some(last), true) = (all.last(), all.len() >= MIN_CLOSES) else {
            return Err(ForecastError::TooFewCloses { ticker: ticker.clone(), have: all.len(), need: MIN_CLOSES });
        };
        let not_finite =
            |what, session| ForecastError::NotFinite { ticker: ticker.clone(), what, session: Some(session) };
        let used = newest(all);
        // `Bar` has public fields; a NaN that slipped past `RawBar::check` must not become a model.
        if let Some(bad) = used.iter().find(|bar| !(bar.close.is_finite() && bar.close > 0.0)) {
            return Err(not_finite("the close", bad.session));
        }
        let returns = series.log_returns();
        let returns = &returns[all.len() - used.len()..];
        let sessions: Vec<NaiveDate> = used[1..].iter().map(|bar| bar.session).collect();
        if let Some((_, session)) = returns.iter().zip(&sessions).find(|(r, _)| r.is_nan()) {
            return Err(not_finite("the return", *session));
        }
        let scaled = scale.apply(returns);
        Ok(Self { sessions, z: scaled.z, sigma: scaled.sigma, last_close: last.close, last_session: last.session })
    }

    /// The volatility expected for the session after the last close (standard deviation of its log return).
    pub(crate) fn sigma_next(&self) -> f64 {
        self.sigma[self.z.len()]
    }
}

/// SHA-256, hex, of what training reads: ticker, and of the newest [`HISTORY_CLOSES`] bars session and close, and the
/// factors whose ex-date lies after the first of these bars, up to the last. Older bars, volumes, and actions announced
/// for later change nothing.
pub fn input_hash(series: &Series) -> String {
    series.last_session().map_or_else(|| hash_through(series, NaiveDate::MIN), |last| hash_through(series, last))
}

/// [`input_hash`] for a forecast of `target`: covers also the factors that take effect after the last close, up to
/// `target`. The two are equal when there are none.
pub fn input_hash_for(series: &Series, target: NaiveDate) -> String {
    hash_through(series, series.last_session().map_or(target, |last| last.max(target)))
}

fn hash_through(series: &Series, through: NaiveDate) -> String {
    let used = newest(series.bars());
    let mut hash = Sha256::new();
    // Every field has a fixed width or a length before it, so that no two inputs write the same bytes.
    let ticker = series.ticker().to_string();
    hash.update((ticker.len() as u64).to_le_bytes());
    hash.update(ticker.as_bytes());
    hash.update((used.len() as u64).to_le_bytes());
    for bar in used {
        hash.update(day(bar.session));
        hash.update(bar.close.to_bits().to_le_bytes());
    }
    let first = used.first().map_or(NaiveDate::MIN, |bar| bar.session);
    let mut factors: Vec<([u8; 4], NaiveDate, f64)> = series
        .factors()
        .iter()
        .filter(|f| f.session > first && f.session <= through)
        .map(|f| (day(f.session), f.session, f.factor))
        .collect();
    factors.sort_by(|a, b| a.1.cmp(&b.1).then(a.2.total_cmp(&b.2)));
    for (day, _, factor) in factors {
        hash.update(day);
        hash.update(factor.to_bits().to_le_bytes());
    }
    hex::encode(hash.finalize())
}

fn newest(bars: &[market::Bar]) -> &[market::Bar] {
    &bars[bars.len().saturating_sub(HISTORY_CLOSES)..]
}

fn day(session: NaiveDate) -> [u8; 4] {
    use chrono::Datelike;
    session.num_days_from_ce().to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use market::{RawBar, Ticker};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_known_of_a_session_never_changes_afterwards(
            closes in proptest::collection::vec(0.01f64..1e4, 17..80),
            cut in 0.0f64..1.0,
        ) {
            let bar = |(n, close): (usize, &f64)| {
                let session = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + chrono::Days::new(n as u64);
                RawBar { session: Some(session), close: Some(*close), ..RawBar::default() }.check().unwrap()
            };
            let bars: Vec<_> = closes.iter().enumerate().map(bar).collect();
            let known = MIN_CLOSES + ((bars.len() - MIN_CLOSES) as f64 * cut) as usize;
            let ticker = Ticker::parse("NEPSE:NABIL").unwrap();
            let of = |bars: &[market::Bar]| {
                History::of(&Series::new(ticker.clone(), bars.to_vec(), vec![]).unwrap(), &Scale::default()).unwrap()
            };
            let (then, now) = (of(&bars[..known]), of(&bars));
            prop_assert_eq!(&then.z, &now.z[..known - 1]);
            prop_assert_eq!(&then.sigma, &now.sigma[..known]);
        }
    }
}
