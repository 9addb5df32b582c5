//! Does a batch speak of the security that we have archived? Compares its closes with the newest archived ones: pure.

use crate::Bar;

/// Closes that differ by more than this are two different closes.
const SAME_CLOSE: f64 = 0.005;

/// Ratios that differ by more than this are not one split's. Rounded prices of a few dollars need some room.
const SAME_FACTOR: f64 = 0.0025;

/// What the sessions that both sides have say.
#[derive(Debug, Clone, PartialEq)]
pub enum Overlap {
    /// No session is on both sides.
    Apart,
    /// The closes agree, but for at most one, which then is a revision.
    Agrees,
    /// Older closes were all multiplied by this: a split, applied to the past.
    Restated(f64),
    /// Several closes differ and no one factor explains it: another security.
    Mismatch(String),
}

/// Compares `fetched` with `known`, both ascending.
pub fn compare(fetched: &[Bar], known: &[Bar]) -> Overlap {
    let both: Vec<(&Bar, &Bar)> = known
        .iter()
        .filter_map(|old| fetched.binary_search_by_key(&old.session, |b| b.session).ok().map(|at| (old, &fetched[at])))
        .collect();
    let ratio = |(old, new): &(&Bar, &Bar)| new.close / old.close;
    let different: Vec<&(&Bar, &Bar)> = both.iter().filter(|pair| (ratio(pair) - 1.0).abs() > SAME_CLOSE).collect();
    match different.as_slice() {
        [] if both.is_empty() => Overlap::Apart,
        [] => Overlap::Agrees,
        [_] if both.len() > 1 => Overlap::Agrees,
        [first, rest @ ..] => {
            let factor = ratio(first);
            if rest.iter().all(|pair| (ratio(pair) / factor - 1.0).abs() <= SAME_FACTOR) {
                return Overlap::Restated(factor);
            }
            let (old, new) = first;
            Overlap::Mismatch(format!(
                "closes that differ from the archive's in {} of {} sessions, first {}: {} instead of {}",
                different.len(),
                both.len(),
                old.session,
                new.close,
                old.close
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RawBar;
    use chrono::NaiveDate;

    fn bars(closes: &[f64]) -> Vec<Bar> {
        let first = NaiveDate::from_ymd_opt(2024, 1, 1).unwrap();
        let bar = |(at, close): (usize, &f64)| {
            let session = Some(first + chrono::Days::new(at as u64));
            RawBar { session, close: Some(*close), ..RawBar::default() }.check().unwrap()
        };
        closes.iter().enumerate().map(bar).collect()
    }

    #[test]
    fn a_split_is_told_from_another_security() {
        let known = bars(&[88.2, 88.9, 89.0]);
        assert_eq!(compare(&bars(&[88.2, 88.9, 89.0, 44.9]), &known), Overlap::Agrees);
        assert_eq!(compare(&bars(&[88.2, 80.0, 89.0]), &known), Overlap::Agrees, "one revised close");
        assert_eq!(compare(&bars(&[44.1, 44.45, 44.5]), &known), Overlap::Restated(0.5));
        assert_eq!(compare(&bars(&[44.1, 44.45, 89.0]), &known), Overlap::Restated(0.5), "known from both sides of it");
        assert!(matches!(compare(&bars(&[9.67, 9.8, 9.6]), &known), Overlap::Mismatch(_)));
        assert_eq!(compare(&[], &known), Overlap::Apart);
        assert_eq!(compare(&known, &[]), Overlap::Apart);
        assert_eq!(
            compare(&bars(&[44.1]), &known[..1]),
            Overlap::Restated(0.5),
            "with one close it can only be a split"
        );
    }
}
