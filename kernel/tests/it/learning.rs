//! Training as its callers see it: the optimiser's rule, the cut gradient, and patterns that are found.

use crate::dice::{Dice, Example};
use kernel::{Adam, Head, Kernel, Shape, Workspace};

#[test]
fn a_step_is_adams() {
    let (mut weights, mut dice) = (Dice(1).many(21, 1.0), Dice(2));
    let mut ours = Adam::new(21);
    let mut expected: Vec<f64> = weights.iter().map(|w| f64::from(*w)).collect();
    let (mut m, mut v) = (vec![0.0; 21], vec![0.0; 21]);
    for step in 1..=50 {
        let gradient = dice.many(21, 1.0);
        ours.step(&mut weights, &gradient, 0.01, 1e9);
        for i in 0..21 {
            let g = f64::from(gradient[i]);
            m[i] = 0.9 * m[i] + 0.1 * g;
            v[i] = 0.999 * v[i] + 0.001 * g * g;
            let size = (v[i] / (1.0 - 0.999f64.powi(step))).sqrt() + 1e-8;
            expected[i] -= 0.01 * (m[i] / (1.0 - 0.9f64.powi(step))) / size;
        }
    }
    for (ours, expected) in weights.iter().zip(expected) {
        assert!((f64::from(*ours) - expected).abs() < 3e-6, "{ours} is not {expected}");
    }
    assert_eq!(ours.steps, 50);
}

#[test]
fn long_gradients_are_cut() {
    let (mut a, mut b) = (Adam::new(2), Adam::new(2));
    a.step(&mut [0.0; 2], &[30.0, 40.0], 0.1, 1.0);
    b.step(&mut [0.0; 2], &[0.6, 0.8], 0.1, 1.0);
    assert!(a.moments.iter().zip(&b.moments).all(|(a, b)| (a - b).abs() < 1e-7), "{a:?} {b:?}");
}

#[test]
fn a_training_step_is_the_gradient_and_adam() {
    let Example { shape, weights, x, y } = Example::new(Head::StudentT, 5, 20, 15, 64);
    let mut workspace = Workspace::new(shape, Kernel::best());
    let (mut together, mut apart) = (weights.clone(), weights);
    let [mut adam, mut other] = [Adam::new(together.len()), Adam::new(together.len())];
    let mut gradient = vec![0.0; apart.len()];
    for _ in 0..3 {
        let loss = workspace.train_step(&mut together, &mut adam, &x, &y, 1e-3, 1.0);
        assert_eq!(loss, workspace.gradient(&apart, &x, &y, &mut gradient));
        other.step(&mut apart, &gradient, 1e-3, 1.0);
        assert_eq!((&together, &adam), (&apart, &other));
    }
}

#[test]
fn a_pattern_that_is_there_is_learnt() {
    // The outcome is the last step's first input: any network worth its units finds that.
    let shape = Shape { inputs: 2, hidden: 8, look_back: 15, head: Head::Mean };
    let mut dice = Dice(3);
    let x = dice.many(320 * 30, 1.5);
    let y: Vec<f32> = x.chunks(30).map(|window| window[28]).collect();
    let mut weights = dice.many(shape.weights(), 0.35);
    let (first, last) = epochs(shape, &mut weights, &x, &y, 40);
    assert!(last < 0.1 * first, "from {first} to {last}");
}

#[test]
fn a_changing_width_is_learnt() {
    // Outcomes are wide where the last step is positive, else narrow; knowing that is worth more than half a nat.
    let shape = Shape { inputs: 1, hidden: 8, look_back: 5, head: Head::StudentT };
    let mut dice = Dice(4);
    let x = dice.many(640 * 5, 1.0);
    let y: Vec<f32> = x.chunks(5).map(|window| dice.uniform(if window[4] > 0.0 { 4.0 } else { 0.2 })).collect();
    let mut weights = dice.many(shape.weights(), 0.35);
    let (first, last) = epochs(shape, &mut weights, &x, &y, 40);
    assert!(last < first - 0.5, "from {first} to {last}");
}

/// Mean losses over the first and the last epoch.
fn epochs(shape: Shape, weights: &mut [f32], x: &[f32], y: &[f32], epochs: usize) -> (f64, f64) {
    let mut workspace = Workspace::new(shape, Kernel::best());
    let mut adam = Adam::new(weights.len());
    let width = shape.look_back * shape.inputs;
    let mut epoch = || {
        let batches = x.chunks(32 * width).zip(y.chunks(32));
        batches.map(|(x, y)| workspace.train_step(weights, &mut adam, x, y, 1e-2, 1.0)).sum::<f64>() / 10.0
    };
    let first = epoch();
    (first, (1..epochs).map(|_| epoch()).last().unwrap_or(first))
}
