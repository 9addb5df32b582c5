//! How sure the ratios of a record are: in come sums by session, out go intervals.

use crate::seed::Dice;
use market::Sums;
use serde::{Deserialize, Serialize};

/// Resamples of a bootstrap.
const RESAMPLES: usize = 500;
/// Neighbouring sessions that stay together in it.
const BLOCK: usize = 5;

/// Ends of an interval that should hold the truth in 95 of 100 records like this.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

/// How sure the ratios are.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sureness {
    /// Of [`Sums::rmse_ratio`].
    pub rmse_ratio: Range,
    /// Of [`Sums::wis_ratio`].
    pub wis_ratio: Range,
    /// Of [`Sums::direction_excess`].
    pub direction_excess: Option<Range>,
}

/// 95 % intervals by resampling sessions in blocks of five, for tickers move together and a session is one look at the market, not many.
/// `sessions`: sums of each session in order. `None` with fewer than 20 sessions. The same sums give the same answer.
pub fn sureness(sessions: &[Sums]) -> Option<Sureness> {
    const LEAST: usize = 20;
    if sessions.len() < LEAST {
        return None;
    }
    let mut dice = Dice::new(sessions.len() as u64);
    let (mut rmse, mut wis, mut excess) = (vec![], vec![], vec![]);
    for _ in 0..RESAMPLES {
        let mut sums = Sums::default();
        let mut drawn = 0;
        while drawn < sessions.len() {
            let from = dice.below(sessions.len());
            for step in 0..BLOCK.min(sessions.len() - drawn) {
                sums.plus(&sessions[(from + step) % sessions.len()]);
            }
            drawn += BLOCK;
        }
        rmse.push(sums.rmse_ratio());
        wis.push(sums.wis_ratio());
        excess.extend(sums.direction_excess());
    }
    let range = |mut values: Vec<f64>| {
        values.sort_by(f64::total_cmp);
        let at = |share: f64| values[(share * (values.len() - 1) as f64).round() as usize];
        Range { lo: at(0.025), hi: at(0.975) }
    };
    let direction_excess = (excess.len() == RESAMPLES).then(|| range(excess));
    Some(Sureness { rmse_ratio: range(rmse), wis_ratio: range(wis), direction_excess })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sureness_holds_the_ratio_and_narrows_with_more_sessions() {
        let session = |n: usize| Sums {
            n: 1,
            squares: (0.01 + 0.001 * (n * n % 7) as f64).powi(2),
            naive_squares: 0.012 * 0.012,
            wis: 0.009 + 0.0002 * (n * n % 11) as f64,
            wis_ewma: 0.01,
            ..Sums::default()
        };
        let of = |count: usize| sureness(&(0..count).map(session).collect::<Vec<_>>());
        assert_eq!(of(19), None);
        let (few, many) = (of(20).unwrap(), of(400).unwrap());
        assert!(many.wis_ratio.lo < 0.98 && many.wis_ratio.hi > 0.9799 && many.wis_ratio.lo > 0.96, "{many:?}");
        assert!(many.rmse_ratio.hi - many.rmse_ratio.lo < few.rmse_ratio.hi - few.rmse_ratio.lo);
        assert_eq!(of(400), of(400));
        assert_eq!(few.direction_excess, None);
    }
}
