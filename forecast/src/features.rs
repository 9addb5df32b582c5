//! What a model reads of each session: five numbers, all known at its close.

use crate::{History, MarketReturns, math::ln, recipe::INPUTS, scale::Scaled};
use chrono::NaiveDate;
use market::Bar;

/// Sessions over which the usual volatility is taken.
const USUAL: usize = 250;
/// Fewer than this say nothing about what is usual.
const USUAL_MIN: usize = 20;
/// Sessions over which volume is compared.
const VOLUMES: usize = 60;
/// Fewer known volumes than this say nothing.
const VOLUMES_MIN: f64 = 10.0;

/// The inputs of each return from `first` on, oldest first; shape [returns, 5], laid flat, zeros before `first`. Bar `i + 1` belongs to
/// return `i`.
///
/// 1. the return in units of the volatility expected for it, ± 6;
/// 2. ln(high ÷ low) in the same units, less 1.5 (about what a calm day has);
/// 3. ln(the volatility expected next ÷ that of the last 250 sessions);
/// 4. how unusual ln(volume) is among the last 60 sessions, halved;
/// 5. the market's return, standardised; for the newest session the last one known where it is not complete.
///
/// What is unknown is 0.
pub(crate) fn inputs(bars: &[Bar], returns: &[f64], scaled: &Scaled, market: &MarketReturns, first: usize) -> Vec<f32> {
    let mut inputs = vec![0.0; returns.len() * INPUTS];
    let from = (first + 1).saturating_sub(VOLUMES);
    let volumes: Vec<Option<f64>> = bars[(from + 1).min(bars.len())..].iter().map(log_volume).collect();
    let newest = bars.last().map(|bar| bar.session);
    for (i, row) in inputs.chunks_exact_mut(INPUTS).enumerate().skip(first) {
        let bar = &bars[i + 1];
        row[0] = scaled.z[i] as f32;
        row[1] = range(bar, scaled.sigma[i]);
        row[2] = against_usual(&returns[(i + 1).saturating_sub(USUAL)..=i], scaled.sigma[i + 1]);
        row[3] = unusual_volume(&volumes[(i + 1).saturating_sub(VOLUMES).max(from) - from..=i - from]);
        row[4] = market_return(bar.session, newest, market);
    }
    inputs
}

fn range(bar: &Bar, sigma: f64) -> f32 {
    match (bar.high, bar.low) {
        (Some(high), Some(low)) if low > 0.0 && high >= low && high.is_finite() => {
            (ln(high / low) / sigma - 1.5).clamp(-1.5, 6.0) as f32
        }
        _ => 0.0,
    }
}

fn against_usual(returns: &[f64], sigma_next: f64) -> f32 {
    let clipped = |change: &f64| change.clamp(-0.5, 0.5);
    let usual =
        (returns.iter().map(|change| clipped(change) * clipped(change)).sum::<f64>() / returns.len() as f64).sqrt();
    if returns.len() < USUAL_MIN || usual <= 0.0 {
        return 0.0;
    }
    ln(sigma_next / usual).clamp(-2.0, 2.0) as f32
}

fn log_volume(bar: &Bar) -> Option<f64> {
    bar.volume.filter(|volume| volume.is_finite() && *volume > 0.0).map(ln)
}

/// The last of `volumes` among all of them.
fn unusual_volume(volumes: &[Option<f64>]) -> f32 {
    let Some(Some(last)) = volumes.last() else { return 0.0 };
    let known = || volumes.iter().flatten();
    let count = known().count() as f64;
    let mean = known().sum::<f64>() / count;
    let deviation = (known().map(|volume| (volume - mean) * (volume - mean)).sum::<f64>() / count).sqrt();
    if count < VOLUMES_MIN || deviation < 1e-6 {
        return 0.0;
    }
    ((last - mean) / deviation / 2.0).clamp(-3.0, 3.0) as f32
}

fn market_return(session: NaiveDate, newest: Option<NaiveDate>, market: &MarketReturns) -> f32 {
    match market.z(session) {
        Some(z) => z,
        None if newest == Some(session) => market.newest_z(session),
        None => 0.0,
    }
}

/// One window and what came after it: return `target` of history `of`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sample {
    pub of: u32,
    pub target: u32,
}

/// Lays the windows of `samples` into `x` (shape [n, look_back, 5]) and their outcomes into `y`. The window of target `t` is the
/// `look_back` sessions before it, oldest first; `t` may be one past the last return: the future, whose outcome is written as 0.
pub(crate) fn lay(histories: &[&History], samples: &[Sample], look_back: usize, x: &mut Vec<f32>, y: &mut Vec<f32>) {
    x.clear();
    y.clear();
    for sample in samples {
        let (history, target) = (histories[sample.of as usize], sample.target as usize);
        x.extend_from_slice(&history.inputs[(target - look_back) * INPUTS..target * INPUTS]);
        y.push(history.z.get(target).map_or(0.0, |z| *z as f32));
    }
}
