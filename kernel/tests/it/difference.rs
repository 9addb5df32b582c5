//! The kernel's gradient beside central differences of the textbook network in f64; in goes an example, out comes the worst relative error.

use super::dice::{Dice, Example};
use super::oracle::{self, wide};
use kernel::{Kernel, Workspace};

/// Inputs, units, steps and windows of the networks that are tried.
pub const SHAPES: [(usize, usize, usize, usize); 7] =
    [(1, 20, 15, 32), (5, 20, 15, 64), (1, 64, 15, 29), (3, 33, 15, 9), (5, 7, 4, 70), (1, 1, 15, 5), (2, 4, 1, 17)];

/// The largest relative error over at most 40 entries of each tensor, among those above 1e-4 of the largest entry.
pub fn gradient_error(example: &Example) -> f64 {
    let Example { shape, weights, x, y } = example;
    let mut ours = vec![0.0; weights.len()];
    let loss = Workspace::new(*shape, Kernel::best()).gradient(weights, x, y, &mut ours);
    let (mut at, x, y) = (wide(weights), wide(x), wide(y));
    let expected = oracle::mean_loss(shape, &at, &x, &y);
    assert!((loss / expected - 1.0).abs() < 2e-6, "{shape:?}: the loss {loss} is not {expected}");

    let largest = ours.iter().fold(0f32, |most, g| most.max(g.abs()));
    let mut dice = Dice(5);
    let mut worst = 0f64;
    let mut first = 0;
    for (_, sizes) in shape.parts() {
        let count: usize = sizes.iter().product();
        for _ in 0..count.min(40) {
            let entry = first + ((dice.uniform(0.5) + 0.5) * count as f32) as usize % count;
            if ours[entry].abs() < 1e-4 * largest {
                continue;
            }
            let here = at[entry];
            at[entry] = here + 1e-5;
            let above = oracle::mean_loss(shape, &at, &x, &y);
            at[entry] = here - 1e-5;
            let below = oracle::mean_loss(shape, &at, &x, &y);
            at[entry] = here;
            let expected = (above - below) / 2e-5;
            worst = worst.max((f64::from(ours[entry]) / expected - 1.0).abs());
        }
        first += count;
    }
    worst
}
