//! The track record of the mean: what was predicted before the outcome was trained on, and what came. It decides how
//! much of the mean is believed.

use crate::{Recipe, history::History};
use chrono::NaiveDate;
use market::Exchange;
use std::collections::BTreeMap;

/// One session: predicted first, realised later. Both in units of the volatility known before.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    /// Whose close.
    pub session: NaiveDate,
    /// The mean predicted by a model that had not seen this session.
    pub mu: f64,
    /// The standardised return that came.
    pub z: f64,
}

/// Entries in ascending order of session, at most `track_max`.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Track(pub Vec<Entry>);

impl Track {
    /// Adds predictions `mu` for the returns from index `first` on, and forgets the oldest beyond the limit.
    pub(crate) fn extend(&mut self, history: &History, first: usize, mu: &[f64], recipe: &Recipe) {
        let realised = history.sessions[first..].iter().zip(&history.z[first..]);
        self.0.extend(realised.zip(mu).map(|((session, z), mu)| Entry { session: *session, mu: *mu, z: *z }));
        self.0.drain(..self.0.len().saturating_sub(recipe.track_max));
    }

    /// How much of the mean is believed, 0 to 1: the slope of outcome on prediction, shrunk by how little we know.
    /// On NASDAQ always 0: no skill in the mean was found there on any year, so the point is the baseline.
    pub(crate) fn mean_weight(&self, exchange: Exchange, recipe: &Recipe) -> f64 {
        let n = self.0.len();
        if exchange == Exchange::Nasdaq || n < recipe.weight_min_sessions {
            return 0.0;
        }
        let along: f64 = self.0.iter().map(|entry| entry.mu * entry.mu).sum();
        // A mean that is always about zero has no slope worth the name.
        if along < 1e-9 {
            return 0.0;
        }
        let slope = self.0.iter().map(|entry| entry.mu * entry.z).sum::<f64>() / along;
        // Standard error that allows for calm and wild days (White's), because large means come on wild days.
        let wobble: f64 = self.0.iter().map(|entry| (entry.mu * (entry.z - slope * entry.mu)).powi(2)).sum();
        if slope * along <= recipe.weight_min_t * wobble.sqrt() {
            return 0.0;
        }
        (slope * n as f64 / (n as f64 + recipe.weight_half)).clamp(0.0, 1.0)
    }

    /// Standardised errors of the newest `track_max` sessions, in ascending order of session.
    /// A session from before the track counts with the forecast it would have had: the baseline's, mean 0. Either
    /// way the forecast was fixed before its outcome.
    pub(crate) fn residuals(&self, history: &History, weight: f64, recipe: &Recipe) -> Vec<f64> {
        let mu: BTreeMap<NaiveDate, f64> = self.0.iter().map(|entry| (entry.session, entry.mu)).collect();
        // Before a full window has passed, the volatility is mostly an assumption.
        let first = history.z.len().saturating_sub(recipe.track_max).max(recipe.look_back.min(history.z.len()));
        let realised = history.sessions[first..].iter().zip(&history.z[first..]);
        realised.map(|(session, z)| z - weight * mu.get(session).copied().unwrap_or(0.0)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::Days;

    fn track(n: u64, slope: f64) -> Track {
        let start: NaiveDate = "2024-01-01".parse().unwrap();
        let mu = |i: u64| if i.is_multiple_of(2) { 0.1 } else { -0.1 };
        Track((0..n).map(|i| Entry { session: start + Days::new(i), mu: mu(i), z: slope * mu(i) }).collect())
    }

    #[test]
    fn a_mean_is_believed_only_where_it_was_right() {
        let recipe = Recipe::default();
        let weight = |n, slope, exchange| track(n, slope).mean_weight(exchange, &recipe);
        assert!((weight(250, 1.0, Exchange::Nepse) - 0.5).abs() < 1e-12);
        assert_eq!(weight(250, 9.0, Exchange::Nepse), 1.0);
        assert_eq!(weight(250, -1.0, Exchange::Nepse), 0.0);
        assert_eq!(weight(59, 1.0, Exchange::Nepse), 0.0);
        assert_eq!(weight(250, 1.0, Exchange::Nasdaq), 0.0);
        assert_eq!(track(0, 1.0).mean_weight(Exchange::Nepse, &recipe), 0.0);
    }
    #[test]
    fn luck_is_not_skill() {
        // Outcomes that hold a tenth of the mean and otherwise alternate: the slope is above zero, but not surely.
        let mut noisy = track(250, 0.1);
        noisy.0.iter_mut().enumerate().for_each(|(i, entry)| entry.z += if i % 4 < 2 { 1.0 } else { -1.0 });
        assert_eq!(noisy.mean_weight(Exchange::Nepse, &Recipe::default()), 0.0);
        let eager = Recipe { weight_min_t: 0.01, ..Recipe::default() };
        assert!(noisy.mean_weight(Exchange::Nepse, &eager) > 0.0);
    }
}
