//! What of a fetch is news? Whether it speaks of the archived security at all is decided in `market`. Pure.

use market::Bar;
pub(crate) use market::validate::{Overlap, compare};

/// Closes that differ by no more are one close: a price that is divided for a split and stored with four decimals is rounded.
const ROUNDED: f64 = 0.00015;

/// The bars that the archive does not have yet: later than its newest, or with another close for one of `known`.
pub(crate) fn news(fetched: Vec<Bar>, known: &[Bar]) -> Vec<Bar> {
    let Some(newest) = known.last() else { return fetched };
    let revised = |bar: &Bar| {
        known
            .binary_search_by_key(&bar.session, |old| old.session)
            .is_ok_and(|at| (known[at].close - bar.close).abs() > ROUNDED)
    };
    fetched.into_iter().filter(|bar| bar.session > newest.session || revised(bar)).collect()
}

/// The bars later than the archive's newest. A fallback adds to what another source said; it does not correct it.
pub(crate) fn later(mut fetched: Vec<Bar>, known: &[Bar]) -> Vec<Bar> {
    fetched.retain(|bar| known.last().is_none_or(|newest| bar.session > newest.session));
    fetched
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use chrono::NaiveDate;
    use market::RawBar;

    /// Closes of consecutive days.
    pub(crate) fn bars(closes: &[f64]) -> Vec<Bar> {
        let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let bar = |(at, close): (usize, &f64)| {
            let session = Some(first + chrono::Days::new(at as u64));
            RawBar { session, close: Some(*close), ..RawBar::default() }.check().unwrap()
        };
        closes.iter().enumerate().map(bar).collect()
    }

    #[test]
    fn only_what_is_new_or_revised_is_news() {
        let known = &bars(&[1.0, 2.0, 3.0])[1..];
        let fetched = bars(&[9.0, 2.0, 3.5, 4.0]);
        let closes: Vec<f64> = news(fetched.clone(), known).iter().map(|bar| bar.close).collect();
        assert_eq!(closes, [3.5, 4.0], "the first is older than what was shown: nobody can tell");
        assert_eq!(news(fetched.clone(), &[]), fetched);
        assert_eq!(later(fetched.clone(), known), bars(&[9.0, 2.0, 3.5, 4.0])[3..]);
    }
}
