//! How close our functions come to the true values, and what they do at the ends.

use kernel::math::{self, f32x8};

/// n numbers from `from` to `to`, both included.
fn grid(from: f64, to: f64, n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |i| from + (to - from) * i as f64 / (n - 1) as f64)
}

/// The same in steps of equal ratio.
fn ratios(from: f64, to: f64, n: usize) -> impl Iterator<Item = f64> {
    grid(from.log2(), to.log2(), n).map(f64::exp2)
}

/// The largest error over `xs` in units of `allowed(true value)`.
fn worst(
    xs: impl Iterator<Item = f64>,
    ours: impl Fn(f64) -> f64,
    truth: impl Fn(f64) -> f64,
    allowed: impl Fn(f64) -> f64,
) -> f64 {
    xs.map(|x| (ours(x) - truth(x)).abs() / allowed(truth(x))).fold(0.0, |most: f64, error| {
        assert!(!error.is_nan());
        most.max(error)
    })
}

/// Half a unit to one in the last place of an f64; one unit of an f32.
fn ulp(value: f64) -> f64 {
    value.abs().max(1e-290) * f64::EPSILON / 2.0
}

fn ulp32(value: f64) -> f64 {
    let exponent = value.abs().max(f64::from(f32::MIN_POSITIVE)).log2().floor();
    (exponent - 23.0).exp2()
}

/// The first lane; the others are checked to agree.
fn lane(of: fn([f32; 8]) -> [f32; 8]) -> impl Fn(f64) -> f64 {
    move |x| {
        let x = x as f32;
        let mut lanes = [1.5; 8];
        (lanes[0], lanes[5]) = (x, x);
        let out = of(lanes);
        assert_eq!(out[0].to_bits(), out[5].to_bits());
        f64::from(out[0])
    }
}

/// A truth for f32: taken at the number the f32 really is.
fn at_f32(truth: impl Fn(f64) -> f64) -> impl Fn(f64) -> f64 {
    move |x| truth(f64::from(x as f32))
}

fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    if x < 0.0 { x.exp() / (1.0 + x.exp()) } else { 1.0 / (1.0 + (-x).exp()) }
}

#[test]
fn doubles_are_close() {
    // Ours may be one or two units off, and so may the library's that they are compared with.
    let n = 200_001;
    assert!(worst(grid(-708.0, 709.7, n), math::exp, f64::exp, ulp) <= 3.0);
    assert!(worst(grid(-1.0, 1.0, n), math::exp, f64::exp, ulp) <= 3.0);
    assert!(worst(ratios(1e-307, 1e307, n), math::ln, f64::ln, ulp) <= 4.0);
    assert!(worst(grid(0.5, 2.0, n), math::ln, f64::ln, ulp) <= 4.0);
    let relative = |value: f64| 1e-15 * value.abs() + f64::MIN_POSITIVE;
    assert!(worst(ratios(1e-300, 1e300, n), math::ln_1p, f64::ln_1p, relative) <= 1.0);
    assert!(worst(grid(-0.999, 0.0, n), math::ln_1p, f64::ln_1p, relative) <= 1.0);
    assert!(worst(grid(-20.0, 20.0, n), math::tanh, f64::tanh, relative) <= 1.0);
    assert!(worst(ratios(1e-300, 1.0, n), math::tanh, f64::tanh, relative) <= 1.0);
    assert!(worst(grid(-700.0, 50.0, n), math::sigmoid, sigmoid, relative) <= 1.0);
    assert!(worst(grid(-700.0, 50.0, n), math::softplus, softplus, relative) <= 1.0);
}

#[test]
fn floats_are_close() {
    let n = 200_001;
    assert!(worst(grid(-87.0, 88.7, n), lane(f32x8::exp), at_f32(f64::exp), ulp32) <= 2.0);
    assert!(worst(grid(-1.0, 1.0, n), lane(f32x8::exp), at_f32(f64::exp), ulp32) <= 2.0);
    assert!(worst(grid(-104.0, -87.0, n), lane(f32x8::exp), at_f32(f64::exp), ulp32) <= 2.0);
    assert!(worst(ratios(1e-45, 3e38, n), lane(f32x8::ln), at_f32(f64::ln), ulp32) <= 2.0);
    assert!(worst(grid(0.5, 2.0, n), lane(f32x8::ln), at_f32(f64::ln), ulp32) <= 2.0);
    assert!(worst(grid(-12.0, 12.0, n), lane(f32x8::tanh), at_f32(f64::tanh), ulp32) <= 4.0);
    assert!(worst(grid(0.3, 12.0, n), lane(f32x8::tanh), at_f32(f64::tanh), ulp32) <= 2.0);
    assert!(worst(ratios(1e-30, 1.0, n), lane(f32x8::tanh), at_f32(f64::tanh), ulp32) <= 4.0);
    assert!(worst(grid(-10.0, 10.0, n), lane(f32x8::sigmoid), at_f32(sigmoid), |v| 4e-7 * v) <= 1.0);
    assert!(worst(grid(-87.0, 87.0, n), lane(f32x8::sigmoid), at_f32(sigmoid), |v| 2e-6 * v) <= 1.0);
    assert!(worst(grid(-87.0, 87.0, n), lane(f32x8::softplus), at_f32(softplus), ulp32) <= 4.0);
    let allowed = |value: f64| 1e-6 * value.abs().max(1.0);
    assert!(worst(ratios(1e-30, 1e30, n), lane(f32x8::lgamma), at_f32(math::lgamma), allowed) <= 1.0);
    assert!(worst(grid(0.01, 12.0, n), lane(f32x8::lgamma), at_f32(math::lgamma), allowed) <= 1.0);
    assert!(worst(ratios(1e-30, 1e30, n), lane(f32x8::digamma), at_f32(math::digamma), allowed) <= 1.0);
    assert!(worst(grid(0.01, 12.0, n), lane(f32x8::digamma), at_f32(math::digamma), allowed) <= 1.0);
}

/// x, ln Γ(x) and ψ(x), by mpmath with 40 digits.
#[rustfmt::skip]
const GAMMA: [(f64, f64, f64); 22] = [
    (1e-300, 690.7755278982137, -9.999999999999999e299),
    (1e-10, 23.025850929882736, -10000000000.577215),
    (0.1, 2.252712651734206, -10.423754940411076),
    (0.5, 0.5723649429247001, -1.9635100260214235),
    (0.9999, 5.7729791561193866e-05, -0.5773801703298691),
    (1.0, 0.0, -0.5772156649015329),
    (1.0001, -5.771334222047127e-05, -0.5770511835143348),
    (1.25, -0.09827183642181316, -0.22745353337626542),
    (1.5, -0.12078223763524522, 0.03648997397857652),
    (1.9999, -4.227520877215346e-05, 0.42271983967113097),
    (2.0, 0.0, 0.42278433509846713),
    (2.0001, 4.2281658112919945e-05, 0.4228488264846654),
    (2.5, 0.2846828704729192, 0.7031566406452432),
    (3.0, std::f64::consts::LN_2, 0.9227843350984671),
    (4.75, 2.8085714185757364, 1.4492040552784629),
    (7.9999, 8.524959797583307, 2.015628164165642),
    (8.0, 8.525161361065415, 2.01564147795561),
    (11.5, 16.292000476567242, 2.3982391295357814),
    (30.0, 71.25703896716801, 3.384438132685525),
    (1000.0, 5905.220423209181, 6.907255195648812),
    (10000000000.0, 220258509288.81058, 23.025850929890456),
    (1e30, 6.807755278982137e31, 69.07755278982137),
];

#[test]
fn gamma_functions_are_close() {
    for (x, lgamma, digamma) in GAMMA {
        assert!((math::lgamma(x) - lgamma).abs() <= 1e-14 * lgamma.abs().max(1.0), "{x}: {}", math::lgamma(x));
        assert!((math::digamma(x) - digamma).abs() <= 1e-14 * digamma.abs().max(1.0), "{x}: {}", math::digamma(x));
    }
}

/// Arguments at the ends, and what must come out; NaN stands for NaN, and the sign of a zero counts.
#[test]
fn the_ends_are_right() {
    type Case = (&'static str, fn(f64) -> f64, fn([f32; 8]) -> [f32; 8], &'static [(f64, f64)]);
    const INF: f64 = f64::INFINITY;
    const NAN: f64 = f64::NAN;
    const CASES: [Case; 7] = [
        (
            "exp",
            math::exp,
            f32x8::exp,
            &[(0.0, 1.0), (-0.0, 1.0), (INF, INF), (-INF, 0.0), (800.0, INF), (-800.0, 0.0)],
        ),
        ("ln", math::ln, f32x8::ln, &[(0.0, -INF), (-0.0, -INF), (1.0, 0.0), (-1.0, NAN), (-INF, NAN), (INF, INF)]),
        ("tanh", math::tanh, f32x8::tanh, &[(0.0, 0.0), (-0.0, -0.0), (INF, 1.0), (-INF, -1.0), (30.0, 1.0)]),
        ("sigmoid", math::sigmoid, f32x8::sigmoid, &[(0.0, 0.5), (-0.0, 0.5), (INF, 1.0)]),
        ("softplus", math::softplus, f32x8::softplus, &[(INF, INF), (-INF, 0.0), (100.0, 100.0), (-800.0, 0.0)]),
        (
            "lgamma",
            math::lgamma,
            f32x8::lgamma,
            &[(0.0, INF), (1.0, 0.0), (2.0, 0.0), (INF, INF), (-1.5, NAN), (-INF, NAN)],
        ),
        ("digamma", math::digamma, f32x8::digamma, &[(0.0, -INF), (INF, INF), (-1.5, NAN), (-INF, NAN)]),
    ];
    for (name, double, single, expected) in CASES {
        for (x, value) in expected.iter().chain(&[(NAN, NAN)]) {
            let ours = [double(*x), f64::from(single([*x as f32; 8])[3])];
            for ours in ours {
                let near = (ours - value).abs() < 1e-14 && ours.is_sign_negative() == value.is_sign_negative();
                let right = near || ours == *value && *value != 0.0 || ours.is_nan() && value.is_nan();
                assert!(right, "{name}({x}) is {ours}, not {value}");
            }
        }
    }
}

#[test]
fn numbers_below_the_normal_ones_count() {
    let least = f64::from_bits(1);
    assert_eq!(math::exp(-745.0), least);
    assert!((math::ln(least) + 744.440_071_921_381_3).abs() < 1e-12);
    assert_eq!(math::tanh(least), least);
    assert_eq!(f32x8::exp([-103.5; 8])[0], f32::from_bits(1));
    assert!((f32x8::ln([f32::from_bits(1); 8])[0] + 103.278_93).abs() < 1e-5);
    assert_eq!(f32x8::tanh([f32::from_bits(1); 8])[0], f32::from_bits(1));
}

#[test]
fn what_has_bounds_keeps_them() {
    for x in grid(-15.0, 15.0, 100_001) {
        assert!(lane(f32x8::tanh)(x).abs() <= 1.0 && math::tanh(x).abs() <= 1.0);
        assert!((0.0..=1.0).contains(&lane(f32x8::sigmoid)(x)) && (0.0..=1.0).contains(&math::sigmoid(x)));
    }
    assert!(f32x8::sigmoid([f32::NEG_INFINITY; 8])[0] <= 1.3e-38);
    assert_eq!(math::sigmoid(f64::NEG_INFINITY), 0.0);
    assert_eq!(math::ln_1p(-1.0), f64::NEG_INFINITY);
    assert_eq!(math::ln_1p(f64::INFINITY), f64::INFINITY);
    assert!(math::ln_1p(-2.0).is_nan() && math::ln_1p(f64::NAN).is_nan());
}
