//! Outputs, losses and gradients beside the textbook network in f64.

use crate::dice::{Dice, Example};
use crate::oracle::{self, wide};
use kernel::{Head, Kernel, Workspace, student_t};

const SHAPES: [(usize, usize, usize, usize); 7] =
    [(1, 20, 15, 32), (5, 20, 15, 64), (1, 64, 15, 29), (3, 33, 15, 9), (5, 7, 4, 70), (1, 1, 15, 5), (2, 4, 1, 17)];

#[test]
fn outputs_are_the_textbooks() {
    for head in [Head::Mean, Head::StudentT] {
        for (inputs, hidden, look_back, n) in SHAPES.into_iter().chain([(3, 256, 15, 3)]) {
            let Example { shape, weights, x, .. } = Example::new(head, inputs, hidden, look_back, n);
            let mut ours = vec![];
            Workspace::new(shape, Kernel::best()).outputs(&weights, &x, &mut ours);
            assert_eq!(ours.len(), n * shape.outputs());
            for (window, ours) in x.chunks(look_back * inputs).zip(ours.chunks(shape.outputs())) {
                let theirs = oracle::outputs(&shape, &wide(&weights), &wide(window));
                for (ours, theirs) in ours.iter().zip(theirs) {
                    assert!((f64::from(*ours) - theirs).abs() < 3e-6, "{shape:?}: {ours} is not {theirs}");
                }
            }
        }
    }
}

#[test]
fn gradients_agree_with_central_differences() {
    for head in [Head::Mean, Head::StudentT] {
        for (inputs, hidden, look_back, n) in SHAPES {
            let worst = gradient_error(&Example::new(head, inputs, hidden, look_back, n));
            assert!(worst <= 1e-5, "{head:?}, {inputs} inputs, {hidden} units: relative error {worst:.1e}");
        }
    }
}

/// The largest relative error over at most 40 entries of each tensor, among those above 1e-4 of the largest entry.
fn gradient_error(example: &Example) -> f64 {
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

#[test]
fn the_student_t_is_read_as_it_is_trained() {
    let (mu, s, nu) = student_t([0.5, -1.0, 0.25]);
    assert!((mu - 0.15).abs() < 1e-15, "{mu}");
    assert!((s - (-0.5f64).exp()).abs() < 1e-15, "{s}");
    assert!((nu - (2.6 + 1.75f64.exp().ln_1p())).abs() < 1e-14, "{nu}");
}
