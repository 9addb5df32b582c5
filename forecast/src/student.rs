//! Student's t distribution with any number of degrees of freedom above 2: density, distribution function, quantile; and the normal one's function.

use crate::math::{exp, lgamma, ln};
use std::f64::consts::PI;

/// Negative log density of `z` under a Student-t at `mu` with scale `s` and `nu` degrees of freedom.
pub(crate) fn nll(z: f64, mu: f64, s: f64, nu: f64) -> f64 {
    let e = (z - mu) / s;
    lgamma(nu / 2.0) - lgamma((nu + 1.0) / 2.0) + 0.5 * ln(nu * PI) + ln(s) + (nu + 1.0) / 2.0 * ln(1.0 + e * e / nu)
}

/// P(T <= t) for the standard t.
pub(crate) fn cdf(t: f64, nu: f64) -> f64 {
    let tail = 0.5 * incomplete_beta(nu / 2.0, 0.5, nu / (nu + t * t));
    if t > 0.0 { 1.0 - tail } else { tail }
}

/// P(Z <= z) for the standard normal, within 1e-7 (Abramowitz and Stegun 26.2.17).
pub(crate) fn normal_cdf(z: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.231_641_9 * z.abs());
    let series = [1.330_274_429, -1.821_255_978, 1.781_477_937, -0.356_563_782, 0.319_381_530];
    let sum = series.iter().fold(0.0, |sum, factor| (sum + factor) * t);
    let tail = sum * exp(-0.5 * z * z) / (2.0 * PI).sqrt();
    if z > 0.0 { 1.0 - tail } else { tail }
}

/// The value below which a share `p` of the standard t lies; 0 < p < 1.
pub(crate) fn quantile(p: f64, nu: f64) -> f64 {
    if p < 0.5 {
        return -quantile(1.0 - p, nu);
    }
    let log_norm = lgamma((nu + 1.0) / 2.0) - lgamma(nu / 2.0) - 0.5 * ln(nu * PI);
    // The distribution function is concave above 0: Newton's steps from the left never overshoot and always arrive.
    let mut t = 0.0;
    for _ in 0..60 {
        let density = exp(log_norm - (nu + 1.0) / 2.0 * ln(1.0 + t * t / nu));
        let step = (p - cdf(t, nu)) / density;
        t += step;
        if step.abs() <= 1e-12 * (1.0 + t.abs()) {
            break;
        }
    }
    t
}

/// The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method; NIST DLMF 8.17.22).
fn incomplete_beta(a: f64, b: f64, x: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    let front = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * ln(x) + b * ln(1.0 - x));
    if x < (a + 1.0) / (a + b + 2.0) {
        front * fraction(a, b, x) / a
    } else {
        1.0 - front * fraction(b, a, 1.0 - x) / b
    }
}

fn fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |v: f64| if v.abs() < TINY { TINY } else { v };
    let (mut c, mut d) = (1.0, 1.0 / away(1.0 - (a + b) * x / (a + 1.0)));
    let mut value = d;
    for m in 1..300 {
        let m = f64::from(m);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        value *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        let change = d * c;
        value *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_agree_with_tables() {
        // scipy.stats.t.ppf
        for (p, nu, t) in [
            (0.9, 3.0, 1.637_744_353_696_210_1),
            (0.975, 3.0, 3.182_446_305_284_263_4),
            (0.9, 5.0, 1.475_884_048_824_481_7),
            (0.975, 5.0, 2.570_581_835_636_314),
            (0.975, 30.0, 2.042_272_456_301_238),
            (0.025, 5.0, -2.570_581_835_636_314),
            (0.5, 4.0, 0.0),
        ] {
            assert!((quantile(p, nu) - t).abs() < 1e-9, "{p} {nu}: {}", quantile(p, nu));
            assert!((cdf(t, nu) - p).abs() < 1e-10, "{t} {nu}: {}", cdf(t, nu));
        }
        // Many degrees of freedom: nearly normal.
        assert!((quantile(0.975, 1e6) - 1.959_966).abs() < 1e-5);
    }

    #[test]
    fn the_density_integrates_to_its_distribution() {
        for nu in [2.6, 4.0, 11.0] {
            let step = 1e-3;
            let mass: f64 = (-2000..2000).map(|i| exp(-nll((f64::from(i) + 0.5) * step, 0.0, 1.0, nu)) * step).sum();
            assert!((mass - (cdf(2.0, nu) - cdf(-2.0, nu))).abs() < 1e-6, "{nu}: {mass}");
        }
        assert!((nll(0.7, 0.2, 2.0, 5.0) - nll(0.25, 0.0, 1.0, 5.0) - 2f64.ln()).abs() < 1e-12);
    }
}
