//! How far the close may fall from the point: quantiles of the standardised errors, leaning on a Student-t where history is short.

use crate::Recipe;

/// Quantiles of the standardised error, in units of the session's volatility: `lo95 <= lo80 <= 0 <= hi80 <= hi95`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Spread {
    /// 2.5 % lie below.
    pub lo95: f64,
    /// 10 % lie below.
    pub lo80: f64,
    /// 10 % lie above.
    pub hi80: f64,
    /// 2.5 % lie above.
    pub hi95: f64,
    /// Root mean square of the errors, averaged with 1 where history is short.
    pub scale: f64,
}

/// 90 % and 97.5 % quantiles of the standard normal distribution.
pub(crate) const NORMAL: (f64, f64) = (1.281_551_565_544_600_4, 1.959_963_984_540_054);
/// The same of Student's t with five degrees of freedom: daily returns, once standardised, have about such tails.
const STUDENT: (f64, f64) = (1.475_884_048_824_481_7, 2.570_581_835_636_314);

/// The spread that `residuals` (standardised errors of forecasts made before their outcome) suggest.
pub(crate) fn spread(residuals: &[f64], recipe: &Recipe) -> Spread {
    let n = residuals.len() as f64;
    let squares: f64 = residuals.iter().map(|e| e * e).sum();
    let scale = ((recipe.variance_prior + squares) / (recipe.variance_prior + n)).sqrt();
    let trust = n / (n + recipe.empirical_half);
    let mut sorted = residuals.to_vec();
    sorted.sort_by(f64::total_cmp);
    let blend = |share: f64, student: f64| {
        trust * empirical(&sorted, share) + (1.0 - trust) * student * to_unit_variance() * scale
    };
    // The point must lie inside, and the wide interval around the narrow one, whatever few residuals say.
    let (lo80, hi80) = (blend(0.1, -STUDENT.0).min(0.0), blend(0.9, STUDENT.0).max(0.0));
    let (lo95, hi95) = (blend(0.025, -STUDENT.1).min(lo80), blend(0.975, STUDENT.1).max(hi80));
    Spread { lo95, lo80, hi80, hi95, scale }
}

impl Spread {
    /// Probability that an outcome lies above zero when its mean is `mean`; Student-t with the spread's scale.
    pub(crate) fn p_above_zero(&self, mean: f64) -> f64 {
        student5_cdf(mean / (self.scale * to_unit_variance()))
    }
}

/// The value below which `share` of `sorted` lie, by linear interpolation at (n + 1) × share: for n realised sessions
/// this covers the next one with that share on average, where the plain quantile is a little too narrow. 0 when empty.
fn empirical(sorted: &[f64], share: f64) -> f64 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = (share * (sorted.len() + 1) as f64 - 1.0).clamp(0.0, last as f64);
    let (below, part) = (at.floor() as usize, at.fract());
    let above = (below + 1).min(last);
    sorted[below] + part * (sorted[above] - sorted[below])
}

/// A Student-t with five degrees of freedom has variance 5/3.
fn to_unit_variance() -> f64 {
    0.6f64.sqrt()
}

/// Distribution function of Student's t with five degrees of freedom, in closed form.
fn student5_cdf(t: f64) -> f64 {
    let angle = (t / 5f64.sqrt()).atan();
    let cos = angle.cos();
    0.5 + (angle + angle.sin() * (cos + cos.powi(3) * 2.0 / 3.0)) / std::f64::consts::PI
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn closed_forms_agree_with_tables() {
        for (t, p) in
            [(0.0, 0.5), (STUDENT.0, 0.9), (STUDENT.1, 0.975), (-STUDENT.1, 0.025), (4.032_142_983_557_536, 0.995)]
        {
            assert!((student5_cdf(t) - p).abs() < 1e-9, "{t}: {}", student5_cdf(t));
        }
    }

    #[test]
    fn little_history_leans_on_student_and_much_on_itself() {
        let recipe = Recipe::default();
        let none = spread(&[], &recipe);
        assert!((none.hi80 - 1.1432).abs() < 1e-4 && (none.lo95 + 1.9912).abs() < 1e-4, "{none:?}");
        let wide: Vec<f64> = (0..250).map(|i| f64::from(i) / 25.0 - 5.0).collect();
        assert!(spread(&wide, &recipe).hi80 > 3.0);
    }

    #[test]
    fn quantiles_interpolate() {
        assert_eq!(empirical(&[1.0, 2.0, 3.0], 0.5), 2.0);
        assert_eq!(empirical(&[1.0, 2.0, 3.0, 4.0], 0.5), 2.5);
        assert_eq!(empirical(&[1.0], 0.025), 1.0);
    }

    proptest! {
        #[test]
        fn the_order_holds_for_any_residuals(residuals in proptest::collection::vec(-7f64..7.0, 0..300)) {
            let s = spread(&residuals, &Recipe::default());
            prop_assert!(s.lo95 <= s.lo80 && s.lo80 <= 0.0 && 0.0 <= s.hi80 && s.hi80 <= s.hi95, "{s:?}");
            prop_assert!(s.scale.is_finite() && s.scale > 0.0);
        }
    }
}
