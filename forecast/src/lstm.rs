//! The network: candle's LSTM and one linear output, over weights that we seed and store ourselves.
//!
//! Bits do not depend on the number of threads: `Recipe::check` keeps each matrix product below the size from which
//! candle's matrix library uses threads. Run with RAYON_NUM_THREADS=1 all the same: without that variable candle 0.11
//! counts the processor's cores anew for every product by reading /proc/cpuinfo, and training takes three times as long.

use crate::seed::Dice;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Linear, Module, RNN, VarBuilder, rnn};
use std::collections::HashMap;

/// Names (PyTorch's) and shapes of the weights, in the order in which they lie in [`Weights`].
/// Gates are stacked input, forget, cell, output.
pub(crate) fn parts(hidden: usize) -> [(&'static str, Vec<usize>); 5] {
    [
        ("lstm.weight_ih_l0", vec![4 * hidden, 1]),
        ("lstm.weight_hh_l0", vec![4 * hidden, hidden]),
        ("lstm.bias_ih_l0", vec![4 * hidden]),
        ("head.weight", vec![1, hidden]),
        ("head.bias", vec![1]),
    ]
}

/// All weights as one flat list: plain numbers that can be copied, stored and compared.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Weights {
    /// Units of the LSTM.
    pub hidden: usize,
    /// The tensors of [`parts`], row-major, one after the other; 4H + 4H·H + 4H + H + 1 numbers.
    pub flat: Vec<f32>,
}

impl Weights {
    /// How many numbers a network of `hidden` units has.
    pub(crate) fn count(hidden: usize) -> usize {
        parts(hidden).iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
    }

    /// Fresh weights: uniform in ±1/√H as PyTorch has them; forget gates open, and an output close to zero, because
    /// "no change" is the right first guess.
    pub(crate) fn seeded(hidden: usize, dice: &mut Dice) -> Self {
        let limit = 1.0 / (hidden as f32).sqrt();
        let mut flat = Vec::with_capacity(Self::count(hidden));
        for (name, shape) in parts(hidden) {
            let count: usize = shape.iter().product();
            match name {
                "lstm.bias_ih_l0" => flat.extend((0..count).map(|i| if i / hidden == 1 { 1.0 } else { 0.0 })),
                "head.weight" => flat.extend((0..count).map(|_| dice.uniform(0.1 * limit))),
                "head.bias" => flat.push(0.0),
                _ => flat.extend((0..count).map(|_| dice.uniform(limit))),
            }
        }
        Self { hidden, flat }
    }

    /// The numbers of each tensor of [`parts`].
    pub(crate) fn split(&self) -> Vec<(&'static str, Vec<usize>, &[f32])> {
        let mut rest = self.flat.as_slice();
        parts(self.hidden)
            .into_iter()
            .map(|(name, shape)| {
                let (part, after) = rest.split_at(shape.iter().product());
                rest = after;
                (name, shape, part)
            })
            .collect()
    }
}

/// A network ready to compute.
pub(crate) struct Net {
    lstm: rnn::LSTM,
    head: Linear,
    hidden: usize,
    /// The tensors of [`parts`], in that order; empty when frozen.
    vars: Vec<Var>,
}

impl Net {
    /// A network that records what gradients need.
    pub(crate) fn trainable(weights: &Weights) -> Result<Self> {
        Self::new(weights, true)
    }

    /// A network that only predicts.
    pub(crate) fn frozen(weights: &Weights) -> Result<Self> {
        Self::new(weights, false)
    }

    fn new(weights: &Weights, trainable: bool) -> Result<Self> {
        let mut named = HashMap::new();
        let mut vars = vec![];
        for (name, shape, numbers) in weights.split() {
            let tensor = Tensor::from_slice(numbers, shape, &Device::Cpu)?;
            if trainable {
                let var = Var::from_tensor(&tensor)?;
                named.insert(name.to_owned(), var.as_tensor().clone());
                vars.push(var);
            } else {
                named.insert(name.to_owned(), tensor);
            }
        }
        let hidden = weights.hidden;
        let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
        let config = rnn::LSTMConfig { b_hh_init: None, ..rnn::LSTMConfig::default() };
        let lstm = rnn::lstm(1, hidden, config, builder.pp("lstm"))?;
        let head = candle_nn::linear(hidden, 1, builder.pp("head"))?;
        Ok(Self { lstm, head, hidden, vars })
    }

    /// Windows in, means out: \[n, look_back\] → \[n\].
    pub(crate) fn forward(&self, windows: &Tensor) -> Result<Tensor> {
        let steps = windows.unsqueeze(2)?; // [n, look_back, 1]
        let states = self.lstm.seq(&steps)?;
        let last = states.last().ok_or_else(|| candle_core::Error::msg("a window without steps"))?;
        self.head.forward(last.h())?.squeeze(1) // [n, H] → [n, 1] → [n]
    }

    /// The mean for each of many windows; `windows` has shape [n, look_back], laid flat.
    pub(crate) fn means(&self, windows: &[f32], look_back: usize, batch: usize) -> Result<Vec<f64>> {
        let mut means = Vec::with_capacity(windows.len() / look_back);
        for some in windows.chunks(batch * look_back) {
            let input = Tensor::from_slice(some, (some.len() / look_back, look_back), &Device::Cpu)?;
            means.extend(self.forward(&input)?.to_vec1::<f32>()?.into_iter().map(f64::from));
        }
        Ok(means)
    }

    /// The weights as they are now.
    pub(crate) fn weights(&self) -> Result<Weights> {
        let mut flat = Vec::with_capacity(Weights::count(self.hidden));
        for var in &self.vars {
            flat.extend(var.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(Weights { hidden: self.hidden, flat })
    }

    /// Puts `weights` in place of the present ones.
    pub(crate) fn set(&self, weights: &Weights) -> Result<()> {
        for (var, (_, shape, numbers)) in self.vars.iter().zip(weights.split()) {
            var.set(&Tensor::from_slice(numbers, shape, &Device::Cpu)?)?;
        }
        Ok(())
    }

    /// The gradient of `loss` by every weight, flat as in [`Weights`].
    pub(crate) fn gradient(&self, loss: &Tensor) -> Result<Vec<f32>> {
        let store = loss.backward()?;
        let mut flat = Vec::with_capacity(Weights::count(self.hidden));
        for var in &self.vars {
            match store.get(var) {
                Some(gradient) => flat.extend(gradient.flatten_all()?.to_vec1::<f32>()?),
                None => flat.extend(std::iter::repeat_n(0.0, var.elem_count())),
            }
        }
        Ok(flat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The textbook LSTM and output in f64, written without any library. One window → one mean.
    fn by_hand(hidden: usize, flat: &[f64], window: &[f64]) -> f64 {
        let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
        let (w_ih, rest) = flat.split_at(4 * hidden);
        let (w_hh, rest) = rest.split_at(4 * hidden * hidden);
        let (bias, rest) = rest.split_at(4 * hidden);
        let (head, head_bias) = rest.split_at(hidden);
        let (mut h, mut c) = (vec![0.0; hidden], vec![0.0; hidden]);
        for x in window {
            let gate = |row: usize| {
                let recurrent: f64 = (0..hidden).map(|k| w_hh[row * hidden + k] * h[k]).sum();
                w_ih[row] * x + recurrent + bias[row]
            };
            let gates: Vec<f64> = (0..4 * hidden).map(gate).collect();
            for unit in 0..hidden {
                let (i, f) = (sigmoid(gates[unit]), sigmoid(gates[hidden + unit]));
                let (g, o) = (gates[2 * hidden + unit].tanh(), sigmoid(gates[3 * hidden + unit]));
                c[unit] = f * c[unit] + i * g;
                h[unit] = o * c[unit].tanh();
            }
        }
        head.iter().zip(&h).map(|(w, h)| w * h).sum::<f64>() + head_bias[0]
    }

    fn example(hidden: usize, n: usize) -> (Weights, Vec<f32>, Vec<f32>) {
        let mut dice = Dice::new(11);
        let mut weights = Weights::seeded(hidden, &mut dice);
        weights.flat.iter_mut().for_each(|w| *w += dice.uniform(0.3));
        let windows = (0..n * 15).map(|_| dice.uniform(3.0)).collect();
        (weights, windows, (0..n).map(|_| dice.uniform(2.0)).collect())
    }

    #[test]
    fn the_forward_pass_is_the_textbook_one() {
        for hidden in [1, 7, 20] {
            let (weights, windows, _) = example(hidden, 70);
            let ours = Net::frozen(&weights).unwrap().means(&windows, 15, 64).unwrap();
            let flat: Vec<f64> = weights.flat.iter().map(|w| f64::from(*w)).collect();
            for (window, ours) in windows.chunks(15).zip(ours) {
                let window: Vec<f64> = window.iter().map(|v| f64::from(*v)).collect();
                let expected = by_hand(hidden, &flat, &window);
                assert!((ours - expected).abs() < 2e-6, "{hidden} units: {ours} is not {expected}");
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (hidden, n) = (5, 6);
        let (weights, windows, targets) = example(hidden, n);
        let net = Net::trainable(&weights).unwrap();
        let input = Tensor::from_slice(&windows, (n, 15), &Device::Cpu).unwrap();
        let wanted = Tensor::from_slice(&targets, n, &Device::Cpu).unwrap();
        let loss = candle_nn::loss::mse(&net.forward(&input).unwrap(), &wanted).unwrap();
        let ours = net.gradient(&loss).unwrap();
        let flat: Vec<f64> = weights.flat.iter().map(|w| f64::from(*w)).collect();
        let loss_at = |flat: &[f64]| -> f64 {
            let errors = windows.chunks(15).zip(&targets).map(|(window, target)| {
                let window: Vec<f64> = window.iter().map(|v| f64::from(*v)).collect();
                by_hand(hidden, flat, &window) - f64::from(*target)
            });
            errors.map(|e| e * e).sum::<f64>() / n as f64
        };
        let largest = ours.iter().fold(0f32, |most, g| most.max(g.abs()));
        for (at, ours) in ours.iter().enumerate() {
            let (mut up, mut down) = (flat.clone(), flat.clone());
            up[at] += 1e-5;
            down[at] -= 1e-5;
            let expected = (loss_at(&up) - loss_at(&down)) / 2e-5;
            let off = (f64::from(*ours) - expected).abs();
            assert!(off < 1e-5 * f64::from(largest).max(1.0), "weight {at}: {ours} is not {expected}");
        }
    }
}
