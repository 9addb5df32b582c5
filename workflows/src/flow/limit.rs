//! What a source bears: how fast, how many at a time, how many a day, and when to leave it alone. Also how one such limit is divided among
//! processes that cannot speak with each other. Pure.

use std::time::Duration;

/// What one key (a host) bears, by all processes together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limit {
    /// Requests per second in the long run; `None` is without limit.
    pub rate: Option<f64>,
    /// Requests that may come at once after a quiet time; at least 1. Means nothing without a rate.
    pub burst: u32,
    /// Requests under way at a time; `None` is without limit.
    pub concurrency: Option<u32>,
    /// Requests per UTC day; `None` is without limit.
    pub daily_budget: Option<u64>,
    /// When to leave a failing host alone; `None` never does.
    pub breaker: Option<Breaker>,
    /// When the permit of a process that died frees itself. Longer than the longest request, or a slow one would be overtaken.
    pub permit_life: Duration,
}

/// When a host that fails is left alone, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Breaker {
    /// It opens after so many failures in a row.
    pub failures: u32,
    /// For so long the first time; twice as long after each probe that fails.
    pub cool_down: Duration,
    /// But never longer than this.
    pub cool_down_cap: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 5, cool_down: Duration::from_secs(30), cool_down_cap: Duration::from_secs(15 * 60) }
    }
}

impl Limit {
    /// One request after the other, with `pause` from the beginning of one to the beginning of the next; no pause lifts both.
    pub fn paced(pause: Duration) -> Self {
        let rate = (!pause.is_zero()).then(|| pause.as_secs_f64().recip());
        Self {
            rate,
            burst: 1,
            concurrency: rate.map(|_| 1),
            daily_budget: None,
            breaker: Some(Breaker::default()),
            permit_life: Duration::from_secs(60),
        }
    }

    /// What of this limit is `share`'s; `None` when nothing is. What all shares of a division hold together is never more than the whole.
    ///
    /// A limit cannot be cut finer than its smallest whole number: where one request at a time is allowed, one process has it all and the
    /// others wait. `used` is how much of today's budget was spent before it was divided.
    pub fn share(&self, share: Share, used: u64) -> Option<Limit> {
        let (rank, of) = match share {
            Share::Whole => return Some(*self),
            Share::Unknown => return Some(self.quarter(used)),
            Share::Part { rank, of } => (rank, of),
        };
        let parts = of.min(self.concurrency.unwrap_or(u32::MAX)).min(if self.rate.is_some() { self.burst } else { of });
        let parts = parts.max(1);
        if rank >= parts {
            return None;
        }
        let part = |whole: u32| whole / parts + u32::from(rank < whole % parts);
        Some(Limit {
            rate: self.rate.map(|rate| rate / f64::from(parts)),
            burst: part(self.burst),
            concurrency: self.concurrency.map(part),
            daily_budget: self.daily_budget.map(|budget| {
                let left = budget.saturating_sub(used);
                let parts = u64::from(parts);
                used + left / parts + u64::from(u64::from(rank) < left % parts)
            }),
            ..*self
        })
    }

    fn quarter(&self, used: u64) -> Limit {
        Limit {
            rate: self.rate.map(|rate| rate / 4.0),
            burst: (self.burst / 4).max(1),
            concurrency: self.concurrency.map(|seats| (seats / 4).max(1)),
            daily_budget: self.daily_budget.map(|budget| used + budget.saturating_sub(used) / 4),
            ..*self
        }
    }
}

/// Which part of a limit a process has while it cannot ask the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Share {
    /// All of it: there are no others.
    Whole,
    /// The others were never counted: a quarter, for there will seldom be more than four that all lost Redis before they met.
    Unknown,
    /// One of several.
    Part {
        /// Which, from 0.
        rank: u32,
        /// Of how many.
        of: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_shares_of_a_limit_never_exceed_it(
            rate in proptest::option::of(0.001f64..1000.0),
            burst in 1u32..50,
            concurrency in proptest::option::of(1u32..50),
            daily_budget in proptest::option::of(0u64..10_000),
            used in 0u64..12_000,
            of in 1u32..80,
        ) {
            let whole = Limit { rate, burst, concurrency, daily_budget, ..Limit::paced(Duration::ZERO) };
            let shares: Vec<Limit> = (0..of).filter_map(|rank| whole.share(Share::Part { rank, of }, used)).collect();
            prop_assert!(!shares.is_empty() && shares.len() <= of as usize, "somebody goes on");
            if let Some(rate) = rate {
                let sum: f64 = shares.iter().map(|share| share.rate.unwrap()).sum();
                prop_assert!((sum / rate - 1.0).abs() < 1e-9, "{sum} of {rate}");
                prop_assert_eq!(shares.iter().map(|share| share.burst).sum::<u32>(), burst);
                prop_assert!(shares.iter().all(|share| share.burst >= 1));
            }
            if let Some(concurrency) = concurrency {
                prop_assert_eq!(shares.iter().map(|share| share.concurrency.unwrap()).sum::<u32>(), concurrency);
                prop_assert!(shares.iter().all(|share| share.concurrency.unwrap() >= 1));
            }
            if let Some(budget) = daily_budget {
                let sum: u64 = shares.iter().map(|share| share.daily_budget.unwrap() - used).sum();
                prop_assert_eq!(sum, budget.saturating_sub(used));
            }
        }
    }

    #[test]
    fn a_pause_is_a_rate_and_no_pause_is_no_limit() {
        let paced = Limit::paced(Duration::from_millis(250));
        assert_eq!((paced.rate, paced.burst, paced.concurrency), (Some(4.0), 1, Some(1)));
        let free = Limit::paced(Duration::ZERO);
        assert_eq!((free.rate, free.concurrency), (None, None));
    }
}
