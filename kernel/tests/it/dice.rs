//! Numbers that look random and are the same every time, and the examples made of them.

use kernel::{Head, Shape};

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    /// Uniform between −limit and limit.
    pub fn uniform(&mut self, limit: f32) -> f32 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^= z >> 31;
        limit * ((z >> 40) as f32 / (1 << 23) as f32 - 1.0)
    }

    pub fn many(&mut self, n: usize, limit: f32) -> Vec<f32> {
        (0..n).map(|_| self.uniform(limit)).collect()
    }
}

/// Weights, windows and outcomes of one shape.
pub struct Example {
    pub shape: Shape,
    pub weights: Vec<f32>,
    pub x: Vec<f32>,
    pub y: Vec<f32>,
}

impl Example {
    pub fn new(head: Head, inputs: usize, hidden: usize, look_back: usize, n: usize) -> Self {
        let shape = Shape { inputs, hidden, look_back, head };
        let mut dice = Dice((inputs * 1_000_000 + hidden * 1000 + n) as u64);
        let limit = 1.0 / (hidden as f32).sqrt();
        let weights = dice.many(shape.weights(), limit);
        // Prices drift: each step is near the last, and the outcome near the last step.
        let mut x = vec![];
        for _ in 0..n {
            let mut state = dice.many(inputs, 1.0);
            for _ in 0..look_back {
                state.iter_mut().for_each(|v| *v = 0.9 * *v + dice.uniform(0.5));
                x.extend(&state);
            }
        }
        let y = x.chunks(look_back * inputs).map(|window| window[(look_back - 1) * inputs] + dice.uniform(0.5));
        let y = y.collect();
        Self { shape, weights, x, y }
    }
}
