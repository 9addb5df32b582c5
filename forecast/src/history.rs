//! The part of a series that is used, checked and scaled, and the hash that names exactly that part.

use crate::{ForecastError, MarketReturns, Scale, features};
use chrono::NaiveDate;
use market::validate::idle_runs;
use market::{MIN_CLOSES, Series};
use sha2::{Digest, Sha256};

/// Training, serving and the input hash read the newest so many closes; what lies before changes no bit of the answer. About ten
/// years: enough to replay from, and far more than the volatility needs to forget where it began.
pub const HISTORY_CLOSES: usize = 2560;

/// A series made ready. With n returns used: `sessions`, `z` and `idle` hold n values, `sigma` n + 1, `inputs` n × 5.
#[derive(Debug)]
pub(crate) struct History {
    /// The session to which each return belongs.
    pub sessions: Vec<NaiveDate>,
    /// Standardised returns.
    pub z: Vec<f64>,
    /// Volatility expected for each return before it was known; the last is the next session's.
    pub sigma: Vec<f64>,
    /// Whether the session stands in a stretch without trades, where the close only repeats itself: nothing is learnt from it.
    pub idle: Vec<bool>,
    /// What a model reads of each session; see `features.rs`.
    pub inputs: Vec<f32>,
    /// The newest close.
    pub last_close: f64,
    /// Its session.
    pub last_session: NaiveDate,
}

impl History {
    /// The newest closes of `series`, standardised, with the inputs of all sessions.
    pub(crate) fn of(series: &Series, market: &MarketReturns, scale: &Scale) -> Result<Self, ForecastError> {
        Self::with_inputs_after(series, market, scale, NaiveDate::MIN, 0)
    }

    /// The same, but the inputs only of the sessions after `after` and of `look_back` before these: all that is needed to go on from a
    /// model that has seen `after`.
    pub(crate) fn with_inputs_after(
        series: &Series,
        market: &MarketReturns,
        scale: &Scale,
        after: NaiveDate,
        look_back: usize,
    ) -> Result<Self, ForecastError> {
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
        let returns = series.log_returns_from(all.len() - used.len());
        let sessions: Vec<NaiveDate> = used[1..].iter().map(|bar| bar.session).collect();
        if let Some((_, session)) = returns.iter().zip(&sessions).find(|(r, _)| r.is_nan()) {
            return Err(not_finite("the return", *session));
        }
        let scaled = scale.apply(&returns);
        let first = sessions.partition_point(|session| *session <= after).saturating_sub(look_back);
        let mut idle = vec![false; sessions.len()];
        for run in idle_runs(used) {
            // Its first bar is the last change.
            idle[run.start..run.end - 1].fill(true);
        }
        let inputs = features::inputs(used, &returns, &scaled, market, first);
        Ok(Self {
            sessions,
            z: scaled.z,
            sigma: scaled.sigma,
            idle,
            inputs,
            last_close: last.close,
            last_session: last.session,
        })
    }

    /// Index of the first return after `session` that has a full window before it.
    pub(crate) fn first_after(&self, session: NaiveDate, look_back: usize) -> usize {
        self.sessions.partition_point(|at| *at <= session).max(look_back.min(self.z.len()))
    }

    /// The volatility expected for the session after the last close (standard deviation of its log return).
    pub(crate) fn sigma_next(&self) -> f64 {
        self.sigma[self.z.len()]
    }
}

/// SHA-256, hex, of what training reads: ticker; of the newest [`HISTORY_CLOSES`] bars session, high, low, close and volume; the factors
/// whose ex-date lies after the first of these bars, up to the last; and the market's returns over the same time. Older bars, and actions
/// announced for later, change nothing.
pub fn input_hash(series: &Series, market: &MarketReturns) -> String {
    let through = series.last_session().unwrap_or(NaiveDate::MIN);
    hash_through(series, market, through)
}

/// [`input_hash`] for a forecast of `target`: covers also the factors that take effect after the last close, up to
/// `target`. The two are equal when there are none.
pub fn input_hash_for(series: &Series, market: &MarketReturns, target: NaiveDate) -> String {
    hash_through(series, market, series.last_session().map_or(target, |last| last.max(target)))
}

/// SHA-256, hex, of what a pre-training reads: [`input_hash`] of each series in the order given, and [`MarketReturns::hash`].
pub fn input_hash_of_all(series: &[&Series], market: &MarketReturns) -> String {
    let alone = MarketReturns::default();
    let mut hash = Sha256::new();
    for one in series {
        hash.update(input_hash(one, &alone));
    }
    hash.update(market.hash());
    hex::encode(hash.finalize())
}

fn hash_through(series: &Series, market: &MarketReturns, through: NaiveDate) -> String {
    let used = newest(series.bars());
    let mut hash = Sha256::new();
    // Every field has a fixed width or a length before it, so that no two inputs write the same bytes.
    let ticker = series.ticker().to_string();
    hash.update((ticker.len() as u64).to_le_bytes());
    hash.update(ticker.as_bytes());
    hash.update((used.len() as u64).to_le_bytes());
    for bar in used {
        hash.update(day(bar.session));
        for number in [Some(bar.close), bar.high, bar.low, bar.volume] {
            // Unknown is a number that no price is.
            hash.update(number.unwrap_or(-1.0).to_bits().to_le_bytes());
        }
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
    hash.update([0xff]);
    let last = used.last().map_or(NaiveDate::MIN, |bar| bar.session);
    for of in market.days().iter().filter(|of| of.session > first && of.session <= last) {
        hash.update(day(of.session));
        hash.update(of.mean_return.to_bits().to_le_bytes());
        hash.update(of.tickers.to_le_bytes());
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
                History::of(&Series::new(ticker.clone(), bars.to_vec(), vec![]).unwrap(), &MarketReturns::default(), &Scale::default()).unwrap()
            };
            let (then, now) = (of(&bars[..known]), of(&bars));
            prop_assert_eq!(&then.z, &now.z[..known - 1]);
            prop_assert_eq!(&then.sigma, &now.sigma[..known]);
        }
    }
}
