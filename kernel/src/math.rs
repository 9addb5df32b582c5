//! Exponentials, logarithms and their kin in f64, made of + − × ÷ and bit moves alone. A system's mathematics library
//! gives other last bits on other machines; these give the same everywhere. The f32 ones, by eight, are in [`f32x8`].

pub mod f32x8;

/// ln 2 in two pieces: the first has 21 trailing zero bits, so that a whole number times it is exact.
const LN_2: [f64; 2] = [f64::from_bits(0x3FE6_2E42_FEE0_0000), f64::from_bits(0x3DEA_39EF_3579_3C76)];

/// Adding and taking away 1.5 · 2^52 rounds to a whole number, ties to even.
const ROUNDER: f64 = 6_755_399_441_055_744.0;

/// eˣ, within 1 unit in the last place (2 below 2⁻¹⁰²²). Above 709.79 infinite, below −745.14 zero.
pub fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let x = x.clamp(-746.0, 710.0);
    let n = (x * std::f64::consts::LOG2_E + ROUNDER) - ROUNDER;
    let high = x - n * LN_2[0];
    let low = n * LN_2[1];
    let r = high - low; // |r| ≤ ln 2 / 2
    // What was rounded away from r, and the series from its third term on; the two first terms are added last.
    let lost = (high - r) - low;
    let rest = r * r * series(r, &FACTORIALS) + lost;
    // In two halves, because 2^n itself may be too large or too small for a number.
    let half = (n as i64) >> 1;
    (1.0 + (r + rest)) * power_of_two(half) * power_of_two(n as i64 - half)
}

/// 1/2!, 1/3!, …, 1/14!
const FACTORIALS: [f64; 13] = [
    1.0 / 2.0,
    1.0 / 6.0,
    1.0 / 24.0,
    1.0 / 120.0,
    1.0 / 720.0,
    1.0 / 5_040.0,
    1.0 / 40_320.0,
    1.0 / 362_880.0,
    1.0 / 3_628_800.0,
    1.0 / 39_916_800.0,
    1.0 / 479_001_600.0,
    1.0 / 6_227_020_800.0,
    1.0 / 87_178_291_200.0,
];

/// 2ⁿ for −1022 ≤ n ≤ 1023.
fn power_of_two(n: i64) -> f64 {
    f64::from_bits(((n + 1023) as u64) << 52)
}

/// The polynomial with these coefficients, the lowest first.
fn series(x: f64, coefficients: &[f64]) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, coefficient| sum * x + coefficient)
}

/// The natural logarithm, within 2 units in the last place. −∞ at zero, NaN below.
pub fn ln(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x <= 0.0 {
        return if x == 0.0 { f64::NEG_INFINITY } else { f64::NAN };
    }
    // Subnormal numbers are made normal first.
    let (x, shift) = if x < f64::MIN_POSITIVE { (x * 18_014_398_509_481_984.0, 54) } else { (x, 0) };
    // x = 2^exponent · m with √½ ≤ m < √2.
    let exponent = (x.to_bits() as i64 - 0x3FE6_A09E_667F_3BCD) >> 52;
    let m = f64::from_bits((x.to_bits() as i64 - (exponent << 52)) as u64);
    let n = (exponent - shift) as f64;
    // ln(1 + f) = f − s·(f − R) with s = f / (2 + f), R = 2s²/3 + 2s⁴/5 + …; f is exact, so little is lost.
    let f = m - 1.0;
    let s = f / (2.0 + f);
    let square = s * s;
    let r = square * series(square, &ODD_HALVES);
    n * LN_2[0] + (f - (s * (f - r) - n * LN_2[1]))
}

/// 2/3, 2/5, 2/7, …
const ODD_HALVES: [f64; 11] = [
    2.0 / 3.0,
    2.0 / 5.0,
    2.0 / 7.0,
    2.0 / 9.0,
    2.0 / 11.0,
    2.0 / 13.0,
    2.0 / 15.0,
    2.0 / 17.0,
    2.0 / 19.0,
    2.0 / 21.0,
    2.0 / 23.0,
];

/// ln(1 + x), relative error at most 1e-15 however small x is. −∞ at −1, NaN below.
pub fn ln_1p(x: f64) -> f64 {
    let sum = 1.0 + x;
    if sum <= 0.0 || sum == f64::INFINITY {
        return ln(sum);
    }
    // The second term gives back what the sum rounded away.
    ln(sum) + (x - (sum - 1.0)) / sum
}

/// The hyperbolic tangent, relative error at most 1e-15.
pub fn tanh(x: f64) -> f64 {
    let size = x.abs();
    let value = if size < 0.35 {
        // e^2x − 1 by its series, so that nothing cancels near zero.
        let doubled = 2.0 * size;
        let grown = doubled + doubled * doubled * series(doubled, &LONG_FACTORIALS);
        grown / (grown + 2.0)
    } else {
        1.0 - 2.0 / (exp(2.0 * size) + 1.0)
    };
    value.copysign(x)
}

/// 1/2!, 1/3!, …, 1/18!, for arguments up to 0.7.
const LONG_FACTORIALS: [f64; 17] = {
    let mut factorials = [0.0; 17];
    let (mut at, mut product) = (0, 1.0);
    while at < 17 {
        product *= (at + 2) as f64;
        factorials[at] = 1.0 / product;
        at += 1;
    }
    factorials
};

/// 1 / (1 + e⁻ˣ), relative error at most 1e-15.
pub fn sigmoid(x: f64) -> f64 {
    if x < 0.0 {
        let grown = exp(x);
        grown / (1.0 + grown)
    } else {
        1.0 / (1.0 + exp(-x))
    }
}

/// ln(1 + eˣ), relative error at most 1e-15.
pub fn softplus(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    (if x > 0.0 { x } else { 0.0 }) + ln_1p(exp(-x.abs()))
}

/// ln Γ(x) for x ≥ 0, error at most 1e-14 · max(1, |ln Γ(x)|). NaN below zero, where nothing here looks.
pub fn lgamma(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x <= 0.0 {
        return if x == 0.0 { f64::INFINITY } else { f64::NAN };
    }
    // Γ(x) = Γ(x + n) / (x·(x+1)·…): Stirling's series wants a large argument.
    let (mut z, mut product) = (x, 1.0);
    while z < 12.0 {
        product *= z;
        z += 1.0;
    }
    let inverse = 1.0 / z;
    let tail = inverse * series(inverse * inverse, &STIRLING);
    const HALF_LN_TAU: f64 = 0.918_938_533_204_672_8;
    let sum = ((z - 0.5) * (ln(z) - 1.0) - 0.5) + (HALF_LN_TAU + tail);
    if product == 1.0 { sum } else { sum - ln(product) }
}

/// B₂/(1·2), B₄/(3·4), B₆/(5·6), … with Bernoulli's numbers.
const STIRLING: [f64; 7] =
    [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0, -691.0 / 360_360.0, 1.0 / 156.0];

/// The derivative of [`lgamma`] for x > 0, error at most 1e-14 · max(1, |ψ(x)|). −∞ at zero, NaN below.
pub fn digamma(x: f64) -> f64 {
    if x.is_nan() || x == f64::INFINITY {
        return x;
    }
    if x <= 0.0 {
        return if x == 0.0 { f64::NEG_INFINITY } else { f64::NAN };
    }
    let (mut z, mut sum) = (x, 0.0);
    while z < 12.0 {
        sum += 1.0 / z;
        z += 1.0;
    }
    let inverse = 1.0 / z;
    let square = inverse * inverse;
    ln(z) - 0.5 * inverse - square * series(square, &ASYMPTOTIC) - sum
}

/// B₂/2, B₄/4, B₆/6, …
const ASYMPTOTIC: [f64; 7] =
    [1.0 / 12.0, -1.0 / 120.0, 1.0 / 252.0, -1.0 / 240.0, 1.0 / 132.0, -691.0 / 32_760.0, 1.0 / 12.0];
