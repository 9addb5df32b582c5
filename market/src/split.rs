//! Splits that a source announces beside prices: which closes they move, and whether they explain a history that was restated. Pure.

use crate::{Bar, round4};
use chrono::NaiveDate;
use serde::{Deserialize, Serialize};
use std::fmt;

/// A split as a source announces it. The closes beside it have it applied already, or are put on its level before they are a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Split {
    /// The first session that trades at the new level.
    pub session: NaiveDate,
    /// So many shares stand for one before; finite and above zero, below 1 in a reverse split.
    pub shares: f64,
}

/// Ratios of rounded prices of a few dollars need some room.
const ROUNDED: f64 = 0.005;

/// Smaller splits cannot be told from a bad day.
const TOLD_APART: f64 = 1.45;

/// The change that a session may bring beside its split.
const OF_A_DAY: f64 = 1.25;

/// A source that has not restated its history after so long never will.
const LAG_DAYS: i64 = 45;

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.shares < 1.0 {
            true => write!(f, "1 for {} on {}", round4(1.0 / self.shares), self.session),
            false => write!(f, "{} for 1 on {}", round4(self.shares), self.session),
        }
    }
}

/// The bars with every split applied to what came before it.
pub fn split_adjusted(bars: &[Bar], splits: &[Split]) -> Vec<Bar> {
    let on_level = |bar: &Bar| {
        let shares: f64 = splits.iter().filter(|split| split.session > bar.session).map(|split| split.shares).product();
        if shares == 1.0 {
            return *bar;
        }
        let price = |value: f64| round4(value / shares);
        Bar {
            open: bar.open.map(price),
            high: bar.high.map(price),
            low: bar.low.map(price),
            close: price(bar.close),
            volume: bar.volume.map(|volume| (volume * shares).round()),
            ..*bar
        }
    };
    bars.iter().map(on_level).collect()
}

/// The newest of `splits` (ascending) that together make older closes `factor` times what they were; `None` when they do not.
pub fn explaining(splits: &[Split], factor: f64) -> Option<&[Split]> {
    let mut shares = 1.0;
    (0..splits.len()).rev().find_map(|at| {
        shares *= splits[at].shares;
        ((factor * shares - 1.0).abs() <= ROUNDED).then_some(&splits[at..])
    })
}

/// The announced splits that these bars (ascending) do not have applied yet: the close falls or rises on the day as the split says, and the
/// split is of the last weeks. A source may announce a split before it restates its history.
pub fn lagging(bars: &[Bar], splits: &[Split]) -> Vec<Split> {
    let Some(newest) = bars.last() else { return Vec::new() };
    let size = |ratio: f64| if ratio < 1.0 { 1.0 / ratio } else { ratio };
    let lags = |split: &&Split| {
        let at = bars.partition_point(|bar| bar.session < split.session);
        let (Some(before), Some(on)) = (at.checked_sub(1).map(|at| &bars[at]), bars.get(at)) else { return false };
        let change = on.close / before.close;
        (newest.session - split.session).num_days() <= LAG_DAYS
            && size(split.shares) >= TOLD_APART
            && size(change * split.shares) < OF_A_DAY
            && size(change) >= OF_A_DAY
    };
    splits.iter().filter(lags).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RawBar;
    use proptest::prelude::*;

    fn day(n: u64) -> NaiveDate {
        NaiveDate::from_ymd_opt(2024, 1, 1).unwrap() + chrono::Days::new(n)
    }

    fn bars(closes: &[f64]) -> Vec<Bar> {
        let bar = |(n, close): (u64, &f64)| {
            let volume = Some(1000.0);
            RawBar { session: Some(day(n)), close: Some(*close), volume, ..RawBar::default() }.check().unwrap()
        };
        (0..).zip(closes).map(bar).collect()
    }

    fn split(n: u64, shares: f64) -> Split {
        Split { session: day(n), shares }
    }

    #[test]
    fn a_split_moves_what_came_before_it() {
        let moved = split_adjusted(&bars(&[400.0, 410.0, 103.0]), &[split(2, 4.0)]);
        assert_eq!(moved.iter().map(|bar| bar.close).collect::<Vec<_>>(), [100.0, 102.5, 103.0]);
        assert_eq!((moved[0].volume, moved[2].volume), (Some(4000.0), Some(1000.0)));
        assert_eq!(split(2, 4.0).to_string(), "4 for 1 on 2024-01-03");
        assert_eq!(split(2, 0.1).to_string(), "1 for 10 on 2024-01-03");
    }

    #[test]
    fn the_newest_splits_explain_a_factor() {
        let splits = [split(1, 7.0), split(5, 4.0)];
        assert_eq!(explaining(&splits, 0.25), Some(&splits[1..]));
        assert_eq!(explaining(&splits, 1.0 / 28.0), Some(&splits[..]));
        assert_eq!((explaining(&splits, 0.5), explaining(&[], 0.25)), (None, None));
    }

    #[test]
    fn a_history_that_was_not_restated_yet_shows_the_jump() {
        let four = [split(2, 4.0)];
        assert_eq!(lagging(&bars(&[400.0, 410.0, 103.0]), &four), four);
        assert!(lagging(&bars(&[100.0, 102.5, 103.0]), &four).is_empty(), "it was");
        assert!(lagging(&bars(&[400.0, 410.0, 51.0]), &four).is_empty(), "and a fall by half that is not the split's");
        assert!(lagging(&bars(&[103.0]), &[split(0, 4.0)]).is_empty(), "nothing before it");
        let reverse = [split(1, 0.1)];
        assert_eq!(lagging(&bars(&[0.5, 5.1]), &reverse), reverse);
        let mut old = bars(&[400.0, 103.0, 104.0]);
        old[2].session = day(100);
        assert!(lagging(&old, &[split(1, 4.0)]).is_empty(), "long ago: that was a day like that");
    }

    proptest! {
        #[test]
        fn an_adjusted_return_is_the_real_one(closes in prop::collection::vec(1.0f64..1000.0, 2..12), at in 1usize..11, shares in 2u32..20) {
            let traded = bars(&closes);
            let at = at.min(closes.len() - 1);
            let adjusted = split_adjusted(&traded, &[split(at as u64, f64::from(shares))]);
            for day in 1..closes.len() {
                let real = traded[day].close / traded[day - 1].close * if day == at { f64::from(shares) } else { 1.0 };
                let seen = adjusted[day].close / adjusted[day - 1].close;
                prop_assert!((seen / real - 1.0).abs() < 0.005, "{seen} {real}");
            }
        }
    }
}
