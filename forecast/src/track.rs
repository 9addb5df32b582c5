//! The track record of one line of models for one ticker: what was said of each session before its close was known, and what came. It
//! decides how far the mean is believed and how wide the intervals are.

use crate::{
    Recipe,
    history::History,
    math::{exp, ln},
    student,
};
use chrono::NaiveDate;

/// What a model believes of the next standardised return: a Student-t with this location, scale and degrees of freedom.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Belief {
    pub mu: f64,
    pub s: f64,
    pub nu: f64,
}

/// What was said, in units of the session's volatility around the reference price: `lo95 <= lo80 <= point <= hi80 <= hi95`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Said {
    pub lo95: f64,
    pub lo80: f64,
    pub point: f64,
    pub hi80: f64,
    pub hi95: f64,
}

/// One session: said first, realised later.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Entry {
    /// Whose close.
    pub session: NaiveDate,
    /// The standardised return that came.
    pub z: f64,
    /// What the model believed.
    pub belief: Belief,
    /// What was made of it.
    pub said: Said,
    /// The session's volatility, which turns these units into returns.
    pub sigma: f64,
}

/// Entries in ascending order of session, at most `track_max`, and how far the widths have been corrected by now (log).
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Track {
    pub entries: Vec<Entry>,
    pub width80: f64,
    pub width95: f64,
}

/// 90 % and 97.5 % quantiles of the standard normal distribution: the baseline's, in the same units.
pub(crate) const NORMAL: (f64, f64) = (1.281_551_565_544_600_4, 1.959_963_984_540_054);

impl Belief {
    /// The negative log density that it gave to what came.
    pub(crate) fn nll(&self, z: f64) -> f64 {
        student::nll(z, self.mu, self.s, self.nu)
    }

    /// Several opinions as one: means of location and of degrees of freedom, geometric mean of the scales.
    pub(crate) fn mean(opinions: &[Belief]) -> Belief {
        let n = opinions.len() as f64;
        let mean = |of: &dyn Fn(&Belief) -> f64| opinions.iter().map(of).sum::<f64>() / n;
        Belief { mu: mean(&|b| b.mu), s: exp(mean(&|b| ln(b.s))), nu: mean(&|b| b.nu) }
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.mu.is_finite() && self.s.is_finite() && self.s > 0.0 && self.nu.is_finite() && self.nu > 2.0
    }
}

impl Said {
    /// Weighted interval score against what came, in the same units (Bracher et al. 2021).
    pub(crate) fn wis(&self, z: f64) -> f64 {
        let miss = |lo: f64, hi: f64| (lo - z).max(0.0) + (z - hi).max(0.0);
        let of = |lo: f64, hi: f64, alpha: f64| (hi - lo) + 2.0 / alpha * miss(lo, hi);
        (0.5 * (z - self.point).abs() + 0.1 * of(self.lo80, self.hi80, 0.2) + 0.025 * of(self.lo95, self.hi95, 0.05))
            / 2.5
    }

    pub(crate) fn holds80(&self, z: f64) -> bool {
        self.lo80 <= z && z <= self.hi80
    }

    pub(crate) fn holds95(&self, z: f64) -> bool {
        self.lo95 <= z && z <= self.hi95
    }

    /// The same around 0: what is left when the mean is not believed.
    pub(crate) fn centred(&self) -> Self {
        let shift = |bound: f64| bound - self.point;
        Self {
            lo95: shift(self.lo95),
            lo80: shift(self.lo80),
            point: 0.0,
            hi80: shift(self.hi80),
            hi95: shift(self.hi95),
        }
    }

    /// What the baseline says of any session.
    pub(crate) fn baseline() -> Self {
        Self { lo95: -NORMAL.1, lo80: -NORMAL.0, point: 0.0, hi80: NORMAL.0, hi95: NORMAL.1 }
    }

    pub(crate) fn is_ordered(&self) -> bool {
        [self.lo95, self.lo80, self.point, self.hi80, self.hi95].is_sorted() && (self.hi95 - self.lo95).is_finite()
    }
}

impl Track {
    /// Goes through the returns from index `first` on, in order: says of each what would have been said before it, then sees what came.
    pub(crate) fn extend(&mut self, history: &History, first: usize, beliefs: &[Belief], slope: f64, recipe: &Recipe) {
        for (i, belief) in (first..history.z.len()).zip(beliefs) {
            let said = self.say(belief, slope, recipe);
            let z = history.z[i];
            let trust = &recipe.trust;
            let (least, most) = trust.tracking_range;
            let corrected = |width: f64, held: bool, share: f64| {
                (width + trust.tracking * (f64::from(u8::from(!held)) - share)).clamp(least, most)
            };
            self.width80 = corrected(self.width80, said.holds80(z), 0.2);
            self.width95 = corrected(self.width95, said.holds95(z), 0.05);
            self.entries.push(Entry {
                session: history.sessions[i],
                z,
                belief: *belief,
                said,
                sigma: history.sigma[i],
            });
        }
        self.entries.drain(..self.entries.len().saturating_sub(recipe.trust.track_max));
    }

    /// What is to be said of the next session.
    pub(crate) fn say(&self, belief: &Belief, slope: f64, recipe: &Recipe) -> Said {
        let n = self.entries.len() as f64;
        let mut errors: Vec<f64> = self.entries.iter().map(|e| (e.z - e.said.point) / e.belief.s).collect();
        errors.sort_unstable_by(f64::total_cmp);
        let own = recipe.trust.empirical * n / (n + recipe.trust.empirical_half);
        let point = self.mean_weight(slope, recipe) * belief.mu;
        let (t80, t95) = (student::quantile(0.9, belief.nu), student::quantile(0.975, belief.nu));
        let at = |share: f64, student: f64, width: f64| {
            point + belief.s * ((1.0 - own) * student + own * empirical(&errors, share)) * exp(width)
        };
        // The point must lie inside, and the wide interval around the narrow one, whatever few errors say.
        let (lo80, hi80) = (at(0.1, -t80, self.width80).min(point), at(0.9, t80, self.width80).max(point));
        let (lo95, hi95) = (at(0.025, -t95, self.width95).min(lo80), at(0.975, t95, self.width95).max(hi80));
        Said { lo95, lo80, point, hi80, hi95 }
    }

    /// How much of the mean is believed, 0 to 1: the ticker's own slope of outcome on mean, drawn towards a share of the exchange's
    /// `slope`; nothing while the points of the last 60 sessions were clearly worse than none.
    pub(crate) fn mean_weight(&self, slope: f64, recipe: &Recipe) -> f64 {
        let trust = &recipe.trust;
        if !trust.mean {
            return 0.0;
        }
        let newest = &self.entries[self.entries.len().saturating_sub(recipe.gate.sessions)..];
        let squares =
            |point: &dyn Fn(&Entry) -> f64| newest.iter().map(|e| (e.z - point(e)) * (e.z - point(e))).sum::<f64>();
        if newest.len() == recipe.gate.sessions && squares(&|e| e.said.point) > 1.02 * 1.02 * squares(&|_| 0.0) {
            return 0.0;
        }
        let along: f64 = self.entries.iter().map(|e| e.belief.mu * e.belief.mu).sum();
        let known = self.entries.len() as f64 / trust.track_max as f64;
        let own = if along < 1e-9 { 0.0 } else { self.entries.iter().map(|e| e.belief.mu * e.z).sum::<f64>() / along };
        let weight = (known * own + trust.slope_prior * trust.slope_share * slope) / (known + trust.slope_prior);
        weight.clamp(0.0, 1.0)
    }

    /// The newest `most` entries after `since`.
    pub(crate) fn newest(&self, most: usize, since: NaiveDate) -> &[Entry] {
        let after = self.entries.partition_point(|entry| entry.session <= since);
        &self.entries[after.max(self.entries.len().saturating_sub(most))..]
    }

    /// The entry of a session.
    pub(crate) fn at(&self, session: NaiveDate) -> Option<&Entry> {
        self.entries.binary_search_by_key(&session, |entry| entry.session).ok().map(|at| &self.entries[at])
    }
}

/// The value below which `share` of `sorted` lie, by linear interpolation at (n + 1) × share: for n realised sessions this covers the
/// next one with that share on average, where the plain quantile is a little too narrow. 0 when empty.
pub(crate) fn empirical(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = (share * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, last as f64);
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(last);
    sorted[below] + part * (sorted[above] - sorted[below])
}
