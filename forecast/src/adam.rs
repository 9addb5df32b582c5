//! Adam over one flat list of weights. Our own, because candle's keeps its moments to itself, and a model that is
//! continued must take them along.

/// First and second moments of the gradients, and how many steps they have seen.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Adam {
    /// Moving means of the gradients and of their squares; [2, weights], laid flat.
    pub moments: Vec<f32>,
    /// Steps taken since creation, over all continuations.
    pub steps: u64,
}

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

impl Adam {
    /// The state before the first step.
    pub(crate) fn new(weights: usize) -> Self {
        Self { moments: vec![0.0; 2 * weights], steps: 0 }
    }

    /// One step: `weights` move against `gradient`, whose norm is first cut to `norm_max`. No weight decay.
    pub(crate) fn step(&mut self, weights: &mut [f32], gradient: &[f32], learning_rate: f64, norm_max: f64) {
        self.steps += 1;
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        let shorten = if norm > norm_max { norm_max / norm } else { 1.0 };
        let steps = i32::try_from(self.steps).unwrap_or(i32::MAX);
        let (unbias1, unbias2) = (1.0 - BETA1.powi(steps), 1.0 - BETA2.powi(steps));
        let (means, squares) = self.moments.split_at_mut(weights.len());
        for (((weight, gradient), mean), square) in weights.iter_mut().zip(gradient).zip(means).zip(squares) {
            let g = f64::from(*gradient) * shorten;
            let m = BETA1 * f64::from(*mean) + (1.0 - BETA1) * g;
            let v = BETA2 * f64::from(*square) + (1.0 - BETA2) * g * g;
            (*mean, *square) = (m as f32, v as f32);
            let change = learning_rate * (m / unbias1) / ((v / unbias2).sqrt() + EPSILON);
            *weight = (f64::from(*weight) - change) as f32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Tensor, Var};
    use candle_nn::{AdamW, Optimizer, ParamsAdamW};

    #[test]
    fn agrees_with_candles_adam_without_decay() {
        let start = [0.5f32, -1.5, 3.0, 0.01];
        let var = Var::new(&start, &Device::Cpu).unwrap();
        let settings = ParamsAdamW { lr: 0.01, weight_decay: 0.0, ..ParamsAdamW::default() };
        let mut theirs = AdamW::new(vec![var.clone()], settings).unwrap();
        let (mut ours, mut weights) = (Adam::new(4), start);
        let slope = Tensor::new(&[0.1f32, 2.0, -0.3, 1e-3], &Device::Cpu).unwrap();
        for _ in 0..50 {
            let gradient: Vec<f32> = weights.iter().zip([0.1f32, 2.0, -0.3, 1e-3]).map(|(w, s)| 2.0 * w * s).collect();
            ours.step(&mut weights, &gradient, 0.01, 1e9);
            let loss = (var.sqr().unwrap() * &slope).unwrap().sum_all().unwrap();
            theirs.backward_step(&loss).unwrap();
        }
        for (ours, theirs) in weights.iter().zip(var.to_vec1::<f32>().unwrap()) {
            assert!((ours - theirs).abs() < 2e-6, "{ours} is not {theirs}");
        }
    }

    #[test]
    fn long_gradients_are_cut() {
        let (mut a, mut b) = (Adam::new(2), Adam::new(2));
        let (mut wa, mut wb) = ([0.0f32; 2], [0.0f32; 2]);
        a.step(&mut wa, &[30.0, 40.0], 0.1, 1.0);
        b.step(&mut wb, &[0.6, 0.8], 0.1, 1.0);
        assert!(a.moments.iter().zip(&b.moments).all(|(a, b)| (a - b).abs() < 1e-7), "{a:?} {b:?}");
    }
}
