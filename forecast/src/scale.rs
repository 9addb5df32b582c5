//! From returns to the model's numbers: z = return ÷ the volatility known before it. Shared by training, serving and baseline.

use serde::{Deserialize, Serialize};

/// The scaler's numbers. Its state is no file: it follows from the closes alone, the same way each time.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scale {
    /// Decay per session of the exponentially weighted variance.
    pub lambda: f64,
    /// Daily volatility assumed before anything is known.
    pub usual_sigma: f64,
    /// How much that assumption weighs beside observed returns, whose weights sum to at most 1.
    pub usual_weight: f64,
    /// Volatility never falls below this: a price that does not move must not divide by zero.
    pub sigma_floor: f64,
    /// Log returns beyond ± this enter the variance as this: one misread close must not blind it for months.
    pub return_clip: f64,
    /// Standardised returns beyond ± this count as this.
    pub z_clip: f64,
}

impl Default for Scale {
    fn default() -> Self {
        Self { lambda: 0.94, usual_sigma: 0.02, usual_weight: 0.05, sigma_floor: 1e-4, return_clip: 0.5, z_clip: 6.0 }
    }
}

/// Returns, standardised. With n returns: `sigma` holds n + 1 values, `z` holds n.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Scaled {
    /// `sigma[i]` is the volatility expected for return `i`, from the returns before it; the last is for the next session.
    pub sigma: Vec<f64>,
    /// `z[i]` = return `i` ÷ `sigma[i]`, clipped.
    pub z: Vec<f64>,
}

impl Scale {
    /// Standardises log returns in order of time. Infinite returns are clipped like large ones.
    pub(crate) fn apply(&self, returns: &[f64]) -> Scaled {
        // A weighted mean whose weights are tracked beside it: unbiased from the first return on, the usual EWMA later.
        let (mut sum, mut weight) = (self.usual_weight * self.usual_sigma * self.usual_sigma, self.usual_weight);
        let mut scaled = Scaled { sigma: vec![], z: vec![] };
        for r in returns {
            let sigma = (sum / weight).sqrt().max(self.sigma_floor);
            scaled.sigma.push(sigma);
            scaled.z.push((r / sigma).clamp(-self.z_clip, self.z_clip));
            let counted = r.clamp(-self.return_clip, self.return_clip);
            sum = self.lambda * sum + (1.0 - self.lambda) * counted * counted;
            weight = self.lambda * weight + (1.0 - self.lambda);
        }
        scaled.sigma.push((sum / weight).sqrt().max(self.sigma_floor));
        scaled
    }

    pub(crate) fn is_sound(&self) -> bool {
        let positive = [self.usual_sigma, self.usual_weight, self.sigma_floor, self.return_clip, self.z_clip];
        positive.iter().all(|v| v.is_finite() && *v > 0.0) && self.lambda > 0.0 && self.lambda < 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_scaled_by_what_came_before_it() {
        let scale = Scale::default();
        let calm = scale.apply(&[0.01, -0.01, 0.01]);
        let jump = scale.apply(&[0.01, -0.01, 0.3]);
        assert_eq!(calm.sigma[..3], jump.sigma[..3]);
        assert!(jump.sigma[3] > calm.sigma[3]);
        assert_eq!(jump.z[2], 6.0);
        assert_eq!(calm.z[0], 0.01 / 0.02);
    }

    #[test]
    fn long_histories_agree_with_the_textbook_recursion() {
        let returns: Vec<f64> = (0..600).map(|i| 0.02 * f64::from(i).sin()).collect();
        let ours = *Scale::default().apply(&returns).sigma.last().unwrap();
        let textbook = returns.iter().fold(4e-4, |s2, r| 0.94 * s2 + 0.06 * r * r).sqrt();
        assert!((ours / textbook - 1.0).abs() < 1e-12, "{ours} {textbook}");
    }

    #[test]
    fn stillness_and_infinity_stay_finite() {
        let still = Scale::default().apply(&[0.0; 500]);
        assert_eq!(still.sigma[500], 1e-4);
        assert!(still.z.iter().all(|z| *z == 0.0));
        let wild = Scale::default().apply(&[f64::INFINITY, f64::NEG_INFINITY, 0.0]);
        assert!(wild.sigma.iter().chain(&wild.z).all(|v| v.is_finite()));
    }
}
