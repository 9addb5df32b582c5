//! Our trainings on made-up closes: the predecessor's two sizes, and the product's recipe without what surrounds its arithmetic.

use crate::timed;
use kernel::{Adam, Head, Kernel, Shape, Workspace};

/// Sessions in a window.
pub(crate) const LOOK_BACK: usize = 15;

/// A training of the predecessor's kind: one scaled close per step, squared error, batches in order.
pub(crate) struct Univariate {
    pub hidden: usize,
    pub windows: usize,
    pub batch: usize,
    pub epochs: usize,
    pub learning_rate: f32,
}

/// As the predecessor did it for each ticker.
pub(crate) const SMALL: Univariate = Univariate { hidden: 20, windows: 110, batch: 32, epochs: 5, learning_rate: 1e-4 };
/// One epoch over 2,500 rows.
pub(crate) const LARGE: Univariate =
    Univariate { hidden: 64, windows: 2485, batch: 32, epochs: 1, learning_rate: 1e-4 };

impl Univariate {
    pub(crate) fn shape(&self) -> Shape {
        Shape { inputs: 1, hidden: self.hidden, look_back: LOOK_BACK, head: Head::Mean }
    }

    /// Windows \[windows, 15, 1\] and what came after each.
    pub(crate) fn windows(&self) -> (Vec<f32>, Vec<f32>) {
        let closes = walk(self.windows + LOOK_BACK);
        let x = closes.windows(LOOK_BACK).take(self.windows).flatten().copied().collect();
        (x, closes[LOOK_BACK..].to_vec())
    }
}

/// Seconds of one training, its workspace and optimiser included.
pub(crate) fn univariate(what: &Univariate, count: usize) -> Vec<f64> {
    let (shape, (x, y)) = (what.shape(), what.windows());
    let start = ramp(shape.weights(), 0.2);
    timed(count, 1, || {
        let (mut space, mut weights) = (Workspace::new(shape, Kernel::best()), start.clone());
        let mut adam = Adam::new(weights.len());
        for _ in 0..what.epochs {
            for (x, y) in x.chunks(what.batch * LOOK_BACK).zip(y.chunks(what.batch)) {
                space.train_step(&mut weights, &mut adam, x, y, what.learning_rate, f32::INFINITY);
            }
        }
        weights
    })
}

/// Seconds of the product's training for one ticker: three members, 250 newest windows of 2,485 and 250 older ones, twice, in another order
/// each time, 64 at a time.
pub(crate) fn product(count: usize) -> Vec<f64> {
    const WINDOWS: usize = 2485;
    const INPUTS: usize = forecast::INPUTS;
    let shape = Shape { inputs: INPUTS, hidden: 20, look_back: LOOK_BACK, head: Head::StudentT };
    let (sessions, outcomes) = (ramp((WINDOWS + LOOK_BACK) * INPUTS, 1.5), ramp(WINDOWS + LOOK_BACK, 1.5));
    let start: Vec<Vec<f32>> = (0..3).map(|_| ramp(shape.weights(), 0.2)).collect();
    let mut dice = 7u64;
    let mut shuffle = |items: &mut [usize]| {
        for last in (1..items.len()).rev() {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            items.swap(last, (dice >> 33) as usize % (last + 1));
        }
    };
    timed(count, 1, || {
        let (mut space, mut members) = (Workspace::new(shape, Kernel::best()), start.clone());
        let (mut x, mut y) = (vec![], vec![]);
        for weights in &mut members {
            let mut adam = Adam::new(weights.len());
            let mut older: Vec<usize> = (0..WINDOWS - 250).collect();
            shuffle(&mut older);
            let mut picked: Vec<usize> = (WINDOWS - 250..WINDOWS).chain(older.into_iter().take(250)).collect();
            for _ in 0..2 {
                shuffle(&mut picked);
                for some in picked.chunks(64) {
                    x.clear();
                    y.clear();
                    for first in some {
                        x.extend_from_slice(&sessions[first * INPUTS..(first + LOOK_BACK) * INPUTS]);
                        y.push(outcomes[first + LOOK_BACK]);
                    }
                    space.train_step(weights, &mut adam, &x, &y, 3e-4, 1.0);
                }
            }
        }
        members
    })
}

/// Numbers between −limit and limit without a pattern.
pub(crate) fn ramp(n: usize, limit: f32) -> Vec<f32> {
    (0..n).map(|i| limit * ((i * 7919 % 2003) as f32 / 1001.5 - 1.0)).collect()
}

/// Closes that wander, scaled to 0 to 1.
fn walk(n: usize) -> Vec<f32> {
    let closes: Vec<f32> = ramp(n, 1.0)
        .into_iter()
        .scan(0.0, |at, step| {
            *at = 0.98 * *at + step;
            Some(*at)
        })
        .collect();
    let (least, most) = closes.iter().fold((f32::MAX, f32::MIN), |(a, b), c| (a.min(*c), b.max(*c)));
    closes.iter().map(|close| (close - least) / (most - least)).collect()
}
