//! The two losses and their derivatives by the raw outputs.

use crate::lanes::{Eight, Lanes, Work};
use crate::math;
use crate::math::f32x8::{exp_lanes, lgamma_half_step_lanes, ln_1p_lanes, ln_lanes, sigmoid_lanes, softplus_lanes};

/// The centre moves slowly, since there is little to be known about it.
const CENTRE: f64 = 0.3;
/// Degrees of freedom stay above this, so that there is a variance.
const FREEDOM_MIN: f64 = 2.6;
/// What a raw third output of zero means: 4.3 degrees of freedom, as returns have them.
const FREEDOM_START: f64 = 1.5;

/// The distribution that three raw outputs stand for: centre, scale and degrees of freedom of a Student t. Centre and
/// scale are in the units of the outcomes the network was trained on.
pub fn student_t(raw: [f32; 3]) -> (f64, f64, f64) {
    let [centre, scale, freedom] = raw.map(f64::from);
    (CENTRE * centre, math::exp(0.5 * scale), FREEDOM_MIN + math::softplus(freedom + FREEDOM_START))
}

/// Replaces one register of each row of outputs by the derivatives of the losses by it, times `shares`; the result is
/// the losses. One row of outputs is a mean, three are a Student t.
pub(crate) struct Derive<'a, const C: usize> {
    pub out: &'a mut [[Eight; C]],
    pub register: usize,
    pub wanted: &'a Eight,
    pub shares: &'a Eight,
}

impl<const C: usize> Work for Derive<'_, C> {
    type Result = [f32; 8];

    #[inline(always)]
    fn work<L: Lanes>(self) -> [f32; 8] {
        let (wanted, shares, c) = (L::load(&self.wanted.0), L::load(&self.shares.0), self.register);
        let mut losses = [0.0; 8];
        if let [centre, scale, freedom] = self.out {
            let raw = [L::load(&centre[c].0), L::load(&scale[c].0), L::load(&freedom[c].0)];
            let (loss, [by_centre, by_scale, by_freedom]) = likelihood(raw, wanted);
            (by_centre * shares).store(&mut centre[c].0);
            (by_scale * shares).store(&mut scale[c].0);
            (by_freedom * shares).store(&mut freedom[c].0);
            loss.store(&mut losses);
        } else {
            let mean = &mut self.out[0][c].0;
            let error = L::load(mean) - wanted;
            ((error + error) * shares).store(mean);
            (error * error).store(&mut losses);
        }
        losses
    }
}

/// The negative log likelihood of `wanted` under the Student t of the raw outputs, and its derivatives by them.
#[inline(always)]
fn likelihood<L: Lanes>([centre, scale, freedom]: [L; 3], wanted: L) -> (L, [L; 3]) {
    let (half, one) = (L::splat(0.5), L::splat(1.0));
    let shifted = freedom + L::splat(FREEDOM_START as f32);
    let nu = softplus_lanes(shifted) + L::splat(FREEDOM_MIN as f32);
    let half_log_scale = half * scale; // ln s
    let inverse_scale = exp_lanes(half_log_scale.negated());
    let z = (wanted - L::splat(CENTRE as f32) * centre) * inverse_scale;
    let square = z * z;
    let stretch = ln_1p_lanes(square / nu); // ln(1 + z²/ν)
    let [gamma, gamma_slope] = lgamma_half_step_lanes(half * nu);
    let half_ln_pi = L::splat(0.572_364_9);
    let constants = half.mul_add(ln_lanes(nu), half_ln_pi) - gamma + half_log_scale;
    let loss = (half * (nu + one)).mul_add(stretch, constants);

    let pull = (nu + one) / (nu + square);
    let by_centre = L::splat(-CENTRE as f32) * pull * z * inverse_scale;
    let by_scale = half * one.less_product(pull, square);
    let by_freedom = (stretch + (one - pull * square) / nu) - gamma_slope;
    (loss, [by_centre, by_scale, half * by_freedom * sigmoid_lanes(shifted)])
}
