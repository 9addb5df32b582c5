//! Adam over one flat list of weights, with its moments in sight: a model that is continued takes them along.

use crate::lanes::{Eight, Lanes, Work};
use crate::workspace::Kernel;

const BETA_1: f32 = 0.9;
const BETA_2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

/// First and second moments of the gradients, and how many steps they have seen.
#[derive(Debug, Clone, PartialEq)]
pub struct Adam {
    /// Moving means of the gradients and of their squares; \[2, weights\], laid flat.
    pub moments: Vec<f32>,
    /// Steps taken since creation, over all continuations.
    pub steps: u64,
}

impl Adam {
    /// The state before the first step.
    pub fn new(weights: usize) -> Self {
        Self { moments: vec![0.0; 2 * weights], steps: 0 }
    }

    /// One step: `weights` move against `gradient`, whose norm is first cut to `norm_max`. No weight decay.
    /// A gradient that is not finite leaves weights that are not finite either.
    ///
    /// # Panics
    /// When weights, gradient and moments are not of one size.
    pub fn step(&mut self, weights: &mut [f32], gradient: &[f32], learning_rate: f32, norm_max: f32) {
        self.step_with(Kernel::best(), weights, gradient, learning_rate, norm_max);
    }

    pub(crate) fn step_with(
        &mut self,
        kernel: Kernel,
        weights: &mut [f32],
        gradient: &[f32],
        learning_rate: f32,
        norm_max: f32,
    ) {
        assert_eq!(weights.len(), gradient.len(), "each weight has one entry in the gradient");
        assert_eq!(2 * weights.len(), self.moments.len(), "each weight has two moments");
        self.steps += 1;
        let unbias = |beta: f32| 1.0 / (1.0 - power(f64::from(beta), self.steps));
        let pace =
            Pace { rate: (f64::from(learning_rate) * unbias(BETA_1)) as f32, unbias: unbias(BETA_2) as f32, norm_max };
        let (means, squares) = self.moments.split_at_mut(weights.len());
        kernel.run(Descent { weights, gradient, means, squares, pace });
    }
}

/// What one step needs to know besides the numbers it works on.
#[derive(Clone, Copy)]
struct Pace {
    /// The learning rate, with the first moment's bias taken out.
    rate: f32,
    /// What takes the bias out of the second moment.
    unbias: f32,
    norm_max: f32,
}

/// `base` to the power `n`, by squaring; the standard library leaves open which bits `powi` gives.
fn power(base: f64, n: u64) -> f64 {
    let (mut result, mut square, mut left) = (1.0, base, n);
    while left > 0 {
        if left & 1 == 1 {
            result *= square;
        }
        square *= square;
        left >>= 1;
    }
    result
}

/// One step of weights and moments.
struct Descent<'a> {
    weights: &'a mut [f32],
    gradient: &'a [f32],
    means: &'a mut [f32],
    squares: &'a mut [f32],
    pace: Pace,
}

impl Work for Descent<'_> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(self) {
        let Self { weights, gradient, means, squares, pace } = self;
        let norm = norm(gradient);
        let limit = f64::from(pace.norm_max);
        let shorten = L::splat(if norm > limit { (limit / norm) as f32 } else { 1.0 });
        let (weights, last_weights) = weights.as_chunks_mut::<8>();
        let (gradient, last_gradient) = gradient.as_chunks::<8>();
        let (means, last_means) = means.as_chunks_mut::<8>();
        let (squares, last_squares) = squares.as_chunks_mut::<8>();
        for (((weight, gradient), mean), square) in weights.iter_mut().zip(gradient).zip(means).zip(squares) {
            descend::<L>(weight, gradient, mean, square, shorten, pace);
        }
        // The rest, fewer than eight, in a copy.
        let n = last_weights.len();
        let [mut weight, mut gradient, mut mean, mut square] = [Eight::ZERO.0; 4];
        weight[..n].copy_from_slice(last_weights);
        gradient[..n].copy_from_slice(last_gradient);
        mean[..n].copy_from_slice(last_means);
        square[..n].copy_from_slice(last_squares);
        descend::<L>(&mut weight, &gradient, &mut mean, &mut square, shorten, pace);
        last_weights.copy_from_slice(&weight[..n]);
        last_means.copy_from_slice(&mean[..n]);
        last_squares.copy_from_slice(&square[..n]);
    }
}

#[inline(always)]
fn descend<L: Lanes>(
    weight: &mut [f32; 8],
    gradient: &[f32; 8],
    mean: &mut [f32; 8],
    square: &mut [f32; 8],
    shorten: L,
    pace: Pace,
) {
    let g = L::load(gradient) * shorten;
    let m = L::load(mean).mul_add(L::splat(BETA_1), g * L::splat(1.0 - BETA_1));
    let v = L::load(square).mul_add(L::splat(BETA_2), g * g * L::splat(1.0 - BETA_2));
    let size = (v * L::splat(pace.unbias)).sqrt() + L::splat(EPSILON);
    (L::load(weight) - L::splat(pace.rate) * m / size).store(weight);
    m.store(mean);
    v.store(square);
}

/// The length of the gradient. In f64, where no square of an f32 overflows; in eight sums, so that they need not wait
/// for each other.
#[inline(always)]
fn norm(gradient: &[f32]) -> f64 {
    let (whole, rest) = gradient.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for eight in whole {
        for (sum, g) in sums.iter_mut().zip(eight) {
            *sum += f64::from(*g) * f64::from(*g);
        }
    }
    for (sum, g) in sums.iter_mut().zip(rest) {
        *sum += f64::from(*g) * f64::from(*g);
    }
    sums.iter().sum::<f64>().sqrt()
}
