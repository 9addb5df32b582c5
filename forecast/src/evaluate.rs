//! How good were the forecasts? Scores against persistence and the baseline, as the project's scorer defines them.

use market::{Forecast, Interval};
use serde::{Deserialize, Serialize};

/// A forecast and the close that came; prices in the ticker's currency.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Realised {
    /// What persistence said: the reference price.
    pub reference: f64,
    /// What we said.
    pub said: Said,
    /// What the baseline said.
    pub baseline: Said,
    /// The close of the target session.
    pub close: f64,
}

/// A point with its two intervals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Said {
    /// The expected close.
    pub point: f64,
    /// Meant to hold 80 of 100 closes.
    pub interval80: Interval,
    /// Meant to hold 95 of 100 closes.
    pub interval95: Interval,
}

/// Scores over many forecasts. Errors are taken relative to each reference price, so tickers may be pooled.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Forecasts scored.
    pub n: usize,
    /// Root mean squared error ÷ that of persistence; below 1 is better.
    pub rmse_ratio: f64,
    /// Mean absolute error ÷ that of persistence.
    pub mae_ratio: f64,
    /// Share of closes inside the 80 % interval, 0 to 1.
    pub cov80: f64,
    /// Share of closes inside the 95 % interval, 0 to 1.
    pub cov95: f64,
    /// Mean weighted interval score, in per cent of the reference price; smaller is better.
    pub wis_pct: f64,
    /// The same ÷ that of the baseline; below 1 is better.
    pub wis_ratio: f64,
}

impl Realised {
    /// Lays a forecast beside the close that came.
    pub fn of(forecast: &Forecast, close: f64) -> Self {
        let ours = Said { point: forecast.point, interval80: forecast.interval80, interval95: forecast.interval95 };
        let theirs = &forecast.baseline;
        let baseline = Said { point: theirs.point, interval80: theirs.interval80, interval95: theirs.interval95 };
        Self { reference: forecast.reference_price, said: ours, baseline, close }
    }
}

/// The scores of `rows`; `None` when there are none.
pub fn score(rows: &[Realised]) -> Option<Score> {
    if rows.is_empty() {
        return None;
    }
    let n = rows.len() as f64;
    let mean = |of: &dyn Fn(&Realised) -> f64| rows.iter().map(of).sum::<f64>() / n;
    let ours = |row: &Realised| (row.close - row.said.point) / row.reference;
    let persistence = |row: &Realised| (row.close - row.reference) / row.reference;
    let wis_of_ours = mean(&|row| wis(&row.said, row.close) / row.reference);
    let wis_of_baseline = mean(&|row| wis(&row.baseline, row.close) / row.reference);
    Some(Score {
        n: rows.len(),
        rmse_ratio: ratio(mean(&|r| ours(r).powi(2)).sqrt(), mean(&|r| persistence(r).powi(2)).sqrt()),
        mae_ratio: ratio(mean(&|r| ours(r).abs()), mean(&|r| persistence(r).abs())),
        cov80: mean(&|row| f64::from(u8::from(holds(&row.said.interval80, row.close)))),
        cov95: mean(&|row| f64::from(u8::from(holds(&row.said.interval95, row.close)))),
        wis_pct: 100.0 * wis_of_ours,
        wis_ratio: ratio(wis_of_ours, wis_of_baseline),
    })
}

/// Weighted interval score of the point and the 80 % and 95 % intervals, in price units (Bracher et al. 2021).
pub fn wis(said: &Said, close: f64) -> f64 {
    let interval_score =
        |i: &Interval, alpha: f64| (i.hi - i.lo) + 2.0 / alpha * ((i.lo - close).max(0.0) + (close - i.hi).max(0.0));
    let point = 0.5 * (close - said.point).abs();
    (point + 0.1 * interval_score(&said.interval80, 0.2) + 0.025 * interval_score(&said.interval95, 0.05)) / 2.5
}

pub(crate) fn holds(interval: &Interval, close: f64) -> bool {
    interval.lo <= close && close <= interval.hi
}

/// Equal when both are zero: a price that never moves is forecast perfectly by both.
fn ratio(ours: f64, theirs: f64) -> f64 {
    if ours == theirs { 1.0 } else { ours / theirs }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(point: f64) -> Said {
        let around = |d: f64| Interval { lo: point - d, hi: point + d };
        Said { point, interval80: around(2.0), interval95: around(4.0) }
    }

    #[test]
    fn the_score_is_the_scorers() {
        // By hand: (0.5·3 + 0.1·(4 + 10·1) + 0.025·8) / 2.5
        assert!((wis(&said(100.0), 103.0) - 1.24).abs() < 1e-12);
        let row = |point, close| Realised { reference: 100.0, said: said(point), baseline: said(100.0), close };
        assert_eq!(score(&[]), None);
        let same = score(&[row(100.0, 101.0), row(100.0, 97.0)]).unwrap();
        assert_eq!((same.rmse_ratio, same.wis_ratio, same.cov80, same.cov95), (1.0, 1.0, 0.5, 1.0));
        let oracle = score(&[row(101.0, 101.0), row(97.0, 97.0)]).unwrap();
        assert_eq!((oracle.rmse_ratio, oracle.mae_ratio), (0.0, 0.0));
        assert_eq!(score(&[row(100.0, 100.0)]).unwrap().rmse_ratio, 1.0);
    }
}
