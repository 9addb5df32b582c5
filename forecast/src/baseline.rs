//! The baselines: tomorrow's close is the reference price, its spread the recent volatility (P-EWMA) or the returns of the last year (P-EQ). They cost
//! nothing and stand beside every forecast; P-EWMA is the forecast where no model may speak.

use crate::{ForecastError, MarketReturns, Scale, history::History, math::exp, track::NORMAL};
use chrono::NaiveDate;
use market::{Baseline, Interval, Series, round4};

/// The baseline's name: persistence with exponentially weighted volatility.
pub const METHOD: &str = "P-EWMA";

/// The second baseline's name: persistence with the empirical quantiles of recent returns.
const EMPIRICAL: &str = "P-EQ";
/// How many returns these are, and with how few it says nothing.
const RETURNS: (usize, usize) = (60, 250);

/// The baseline forecast of `target`, from the closes of `series`.
pub fn baseline(series: &Series, target: NaiveDate) -> Result<Baseline, ForecastError> {
    let history = History::with_inputs_after(series, &MarketReturns::default(), &Scale::default(), NaiveDate::MAX, 0)?;
    let reference = Reference::of(series, &history, target)?;
    Ok(around(reference.price, history.sigma_next()))
}

/// The baseline around a reference price.
pub(crate) fn around(reference: f64, sigma: f64) -> Baseline {
    let interval = |z: f64| Interval {
        lo: price(reference, -z * sigma).min(reference),
        hi: price(reference, z * sigma).max(reference),
    };
    Baseline {
        method: METHOD.to_owned(),
        point: reference,
        interval80: interval(NORMAL.0),
        interval95: interval(NORMAL.1),
    }
}

/// The second baseline around a reference price: quantiles of the newest 250 returns, straight between neighbours at (n − 1) × share.
pub(crate) fn empirical(series: &Series, reference: f64) -> Option<Baseline> {
    let mut returns = series.log_returns_from(series.bars().len().saturating_sub(RETURNS.1 + 1));
    if returns.len() < RETURNS.0 {
        return None;
    }
    returns.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (returns.len() - 1) as f64;
        let (below, part) = (place.floor() as usize, place.fract());
        let above = (below + 1).min(returns.len() - 1);
        price(reference, returns[below] + part * (returns[above] - returns[below]))
    };
    // A ticker that only ever rose has its reference price below all of them; the point stays inside.
    let interval = |lo: f64, hi: f64| Interval { lo: at(lo).min(reference), hi: at(hi).max(reference) };
    Some(Baseline {
        method: EMPIRICAL.to_owned(),
        point: reference,
        interval80: interval(0.1, 0.9),
        interval95: interval(0.025, 0.975),
    })
}

/// The price that is `log_change` away from `reference`: four decimals, finite, above zero.
pub(crate) fn price(reference: f64, log_change: f64) -> f64 {
    round4(reference * exp(log_change)).clamp(1e-4, f64::MAX)
}

/// What the exchange will measure the target's change against.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Reference {
    /// The last close, after the corporate actions between it and the target.
    pub price: f64,
    /// Whether there are such actions.
    pub adjusted: bool,
}

impl Reference {
    /// Uses every action after the last close up to the target: an ex-date on which the ticker does not trade still
    /// lowers the next price, and [`Series::log_returns`] counts it in the same way.
    pub(crate) fn of(series: &Series, history: &History, target: NaiveDate) -> Result<Self, ForecastError> {
        let (ticker, last) = (series.ticker(), history.last_session);
        if target <= last {
            return Err(ForecastError::TargetPassed { ticker: ticker.clone(), target, last });
        }
        let due: Vec<f64> =
            series.factors().iter().filter(|f| f.session > last && f.session <= target).map(|f| f.factor).collect();
        if due.is_empty() {
            return Ok(Self { price: history.last_close, adjusted: false });
        }
        let adjusted = history.last_close * due.iter().product::<f64>();
        if !adjusted.is_finite() {
            let what = "the reference price";
            return Err(ForecastError::NotFinite { ticker: ticker.clone(), what, session: Some(target) });
        }
        Ok(Self { price: price(adjusted, 0.0), adjusted: true })
    }
}
