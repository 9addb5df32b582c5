//! The same functions for eight f32 at once. Each exists twice: over lanes for the network, and as a plain function
//! of arrays for everybody else, with the same bits.

use crate::lanes::{Eight, Lanes, polynomial};

/// ln 2 in two pieces; the first is short, so that a whole number times it is exact.
const LN_2: [f32; 2] = [355.0 / 512.0, -2.121_944_4e-4];

/// Adding and taking away 1.5 · 2^23 rounds to a whole number, and leaves that number in the low bits of the sum.
const ROUNDER: f32 = 12_582_912.0;

/// eˣ, within 2 units in the last place. Above 88.73 infinite, below −103.98 zero.
#[inline(always)]
pub(crate) fn exp_lanes<L: Lanes>(x: L) -> L {
    // The limits stand on the left, so that a NaN comes through.
    let x = L::splat(-104.0).max(L::splat(89.0).min(x));
    let rounder = L::splat(ROUNDER);
    let rounded = x.mul_add(L::splat(std::f32::consts::LOG2_E), rounder);
    let n = rounded - rounder;
    let r = n.mul_add(L::splat(-LN_2[1]), n.mul_add(L::splat(-LN_2[0]), x)); // |r| ≤ ln 2 / 2
    let series = polynomial(r, [1.0 / 5040.0, 1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0]);
    // In two halves, because 2^n itself may be too large or too small for a number.
    let n = rounded.bits_sub(rounder);
    let half = n.bits_half();
    series * power_of_two(half) * power_of_two(n.bits_sub(half))
}

/// 2ⁿ for lanes that hold the whole number n, −126 ≤ n ≤ 127, as bits.
#[inline(always)]
fn power_of_two<L: Lanes>(n: L) -> L {
    n.bits_add(L::splat_bits(127)).bits_to_exponent()
}

/// The natural logarithm, within 2 units in the last place. −∞ at zero, NaN below.
#[inline(always)]
pub(crate) fn ln_lanes<L: Lanes>(x: L) -> L {
    // Subnormal numbers are made normal first.
    let least = L::splat(f32::MIN_POSITIVE);
    let normal = x.if_less(least, x * L::splat(8_388_608.0), x);
    let shift = x.if_less(least, L::splat(-23.0), L::splat(0.0));
    // x = 2^exponent · m with √½ ≤ m < √2.
    let exponent = normal.bits_sub(L::splat_bits(0x3F35_04F3)).bits_from_exponent();
    let f = normal.bits_sub(exponent.bits_to_exponent()) - L::splat(1.0);
    let n = exponent.bits_to_float() + shift;
    // ln(1 + f) = f − s·(f − R) with s = f / (2 + f), R = 2s²/3 + 2s⁴/5 + …; f is exact, so little is lost.
    let s = f / (f + L::splat(2.0));
    let square = s * s;
    let r = square * polynomial(square, [2.0 / 9.0, 2.0 / 7.0, 2.0 / 5.0, 2.0 / 3.0]);
    let near = f - s * (f - r);
    let value = n.mul_add(L::splat(LN_2[0]), n.mul_add(L::splat(LN_2[1]), near));
    let value = x.if_less(L::splat(f32::INFINITY), value, x);
    let value = L::splat(0.0).if_less(x, value, L::splat(f32::NEG_INFINITY));
    let value = x.if_less(L::splat(0.0), L::splat(f32::NAN), value);
    nan_as(x, value)
}

/// `value`, but NaN where `x` is.
#[inline(always)]
fn nan_as<L: Lanes>(x: L, value: L) -> L {
    // Only a NaN is neither below nor at least the lowest number.
    let low = L::splat(f32::NEG_INFINITY);
    low.if_less(x, value, x.if_less(L::splat(0.0), value, x))
}

/// ln(1 + x) for x ≥ 0, within 3 units in the last place.
#[inline(always)]
pub(crate) fn ln_1p_lanes<L: Lanes>(x: L) -> L {
    let sum = L::splat(1.0) + x;
    // What the sum rounded away; of a large x it has no weight, and of infinity it would be NaN.
    let lost = (x - (sum - L::splat(1.0))) / sum;
    ln_lanes(sum) + x.if_less(L::splat(1e9), lost, L::splat(0.0))
}

/// The hyperbolic tangent, within 4 units in the last place, and within 2 for |x| ≥ 0.3.
#[inline(always)]
pub(crate) fn tanh_lanes<L: Lanes>(x: L) -> L {
    let sign = x.bits_and(L::splat_bits(i32::MIN));
    let size = L::splat(9.1).min(x.abs()); // from where the nearest f32 is 1
    // e^2x − 1 = 2ⁿ · (2^f − 1) + (2ⁿ − 1): near zero, where n is zero, nothing cancels.
    let factor = L::splat(2.0 * std::f32::consts::LOG2_E);
    let rounder = L::splat(ROUNDER + 127.0);
    let rounded = size.mul_add(factor, rounder);
    let f = size.mul_sub(factor, rounded - rounder);
    // (2^f − 1) / f, fitted for the smallest largest relative error over |f| ≤ ½: 1.1e-8.
    let slope =
        polynomial(f, [1.540_351_2e-4, 1.339_073_6e-3, 9.618_238e-3, 5.550_357_3e-2, 2.402_264_9e-1, 6.931_472e-1]);
    let power = rounded.bits_to_exponent();
    let grown = (slope * f).mul_add(power, power - L::splat(1.0));
    (grown / (grown + L::splat(2.0))).bits_or(sign)
}

/// 1 / (1 + e⁻ˣ). Relative error at most 4e-7 for |x| ≤ 10, and 2e-6 down to −87, below which it stays at 1.2e-38.
#[inline(always)]
#[allow(clippy::approx_constant, reason = "a fitted coefficient is near ln 2, but is not ln 2")]
pub(crate) fn sigmoid_lanes<L: Lanes>(x: L) -> L {
    let x = L::splat(-87.3).max(L::splat(87.3).min(x));
    // e⁻ˣ = 2ⁿ · 2^f. Rounding to n + 127 leaves the bits of the exponent of 2ⁿ ready to be moved into place.
    let factor = L::splat(-std::f32::consts::LOG2_E);
    let rounder = L::splat(ROUNDER + 127.0);
    let rounded = x.mul_add(factor, rounder);
    let f = x.mul_sub(factor, rounded - rounder);
    // Fitted for the smallest largest relative error over |f| ≤ ½: 9e-8.
    let power = polynomial(f, [1.326_472_7e-3, 9.671_513e-3, 5.550_733_7e-2, 2.402_224_2e-1, 6.931_47e-1, 1.0]);
    let one = L::splat(1.0);
    one / power.mul_add(rounded.bits_to_exponent(), one)
}

/// ln(1 + eˣ), within 4 units in the last place.
#[inline(always)]
pub(crate) fn softplus_lanes<L: Lanes>(x: L) -> L {
    L::splat(0.0).max(x) + ln_1p_lanes(exp_lanes(x.abs().negated()))
}

/// ln Γ(x) for x ≥ 0, error at most 1e-6 · max(1, |ln Γ(x)|). NaN below zero.
#[inline(always)]
pub(crate) fn lgamma_lanes<L: Lanes>(x: L) -> L {
    let one = L::splat(1.0);
    // Below 8: moved by whole steps to r within 1.5..2.5, where ln Γ(2 + t) = Σ (−1)^k (ζ(k) − 1)/k · t^k + (1 − γ)·t.
    let (mut r, mut over, mut under) = (x, one, one);
    for _ in 0..2 {
        let low = L::splat(1.5);
        under = under * r.if_less(low, r, one);
        r = r.if_less(low, r + one, r);
    }
    for _ in 0..6 {
        let high = L::splat(2.5);
        let less = r - one;
        over = over * high.if_less(r, less, one);
        r = high.if_less(r, less, r);
    }
    let t = r - L::splat(2.0);
    let near = (t * polynomial(t, ZETA)) + ln_lanes(over / under);
    let inverse = one / x;
    let tail = inverse * polynomial(inverse * inverse, [7.936_508e-4, -2.777_777_8e-3, 8.333_333_6e-2]);
    let far = (x - L::splat(0.5)).mul_add(ln_lanes(x) - one, L::splat(0.418_938_53) + tail);
    let far = x.if_less(L::splat(f32::INFINITY), far, x);
    let value = x.if_less(L::splat(8.0), near, far);
    let value = L::splat(0.0).if_less(x, value, L::splat(f32::INFINITY));
    nan_as(x, x.if_less(L::splat(0.0), L::splat(f32::NAN), value))
}

/// (−1)^k (ζ(k) − 1)/k for k = 14 down to 2, and 1 − γ.
const ZETA: [f32; 14] = [
    4.374_867e-6,
    -9.439_488e-6,
    2.050_721_3e-5,
    -4.492_623_7e-5,
    9.945_751e-5,
    -2.231_547_6e-4,
    5.096_695e-4,
    -1.192_753_9e-3,
    2.890_510_4e-3,
    -7.385_551e-3,
    2.058_080_8e-2,
    -6.735_23e-2,
    3.224_670_3e-1,
    4.227_843_4e-1,
];

/// The derivative of ln Γ for x > 0, error at most 1e-6 · max(1, |ψ(x)|). −∞ at zero, NaN below.
#[inline(always)]
pub(crate) fn digamma_lanes<L: Lanes>(x: L) -> L {
    let one = L::splat(1.0);
    let (mut z, mut sum) = (x, L::splat(0.0));
    for _ in 0..6 {
        let low = L::splat(6.0);
        sum = sum + z.if_less(low, one / z, L::splat(0.0));
        z = z.if_less(low, z + one, z);
    }
    let inverse = one / z;
    let square = inverse * inverse;
    let tail = square * polynomial(square, [-1.0 / 240.0, 1.0 / 252.0, -1.0 / 120.0, 1.0 / 12.0]);
    let value = ln_lanes(z) - L::splat(0.5) * inverse - tail - sum;
    let value = L::splat(0.0).if_less(x, value, L::splat(f32::NEG_INFINITY));
    nan_as(x, x.if_less(L::splat(0.0), L::splat(f32::NAN), value))
}

/// ln Γ(a + ½) − ln Γ(a) and its derivative by a, for a > 0: what the Student-t density needs of Γ. Taken as one
/// function, because the difference of two logarithms loses most of its digits. Error at most 5e-7 of max(1, value).
#[inline(always)]
pub(crate) fn lgamma_half_step_lanes<L: Lanes>(a: L) -> [L; 2] {
    let (half, one) = (L::splat(0.5), L::splat(1.0));
    // Four steps up, to where the series holds; a large a stands there already.
    let (mut over, mut under, mut slope) = (one, one, L::splat(0.0));
    for step in 0..4 {
        let low = a + L::splat(step as f32);
        let high = low + half;
        over = over * low;
        under = under * high;
        slope = slope + half / (low * high);
    }
    let large = L::splat(1e4);
    let ratio = a.if_less(large, over / under, one);
    let slope = a.if_less(large, slope, L::splat(0.0));
    let z = a.if_less(large, a + L::splat(4.0), a);
    let inverse = one / z;
    let square = inverse * inverse;
    let tail = inverse * polynomial(square, [17.0 / 14336.0, -1.0 / 640.0, 1.0 / 192.0, -1.0 / 8.0]);
    let tail_slope = inverse * half + square * polynomial(square, [1.0 / 128.0, -1.0 / 64.0, 1.0 / 8.0]);
    [half.mul_add(ln_lanes(z * ratio * ratio), tail), slope + tail_slope]
}

/// Functions of plain arrays, by the portable lanes.
macro_rules! of_arrays {
    ($($name:ident = $lanes:ident: $what:literal;)*) => {$(
        #[doc = $what]
        pub fn $name(x: [f32; 8]) -> [f32; 8] {
            $lanes(Eight(x)).0
        }
    )*};
}

of_arrays! {
    exp = exp_lanes: "eˣ, within 2 units in the last place. Above 88.73 infinite, below −103.98 zero.";
    ln = ln_lanes: "The natural logarithm, within 2 units in the last place. −∞ at zero, NaN below.";
    tanh = tanh_lanes: "The hyperbolic tangent, within 4 units in the last place, and within 2 for |x| ≥ 0.3.";
    sigmoid = sigmoid_lanes: "1 / (1 + e⁻ˣ): relative error 4e-7 for |x| ≤ 10, 2e-6 down to −87; never below 1.2e-38.";
    softplus = softplus_lanes: "ln(1 + eˣ), within 4 units in the last place.";
    lgamma = lgamma_lanes: "ln Γ(x) for x ≥ 0, error at most 1e-6 · max(1, |ln Γ(x)|). NaN below zero.";
    digamma = digamma_lanes: "ψ(x) for x > 0, error at most 1e-6 · max(1, |ψ(x)|). −∞ at zero, NaN below.";
}
