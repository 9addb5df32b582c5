//! The reference kernel: candle's own LSTM with its autograd, doing what the fused kernel does. In come weights and windows, out go raw outputs, or
//! weights one step of training further.
//!
//! It is there to be compared with and takes some fifteen times as long. Its matrix products are, for the recipes there are, smaller than what candle
//! would spread over threads, so a training stays on the thread that it was begun on.

use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{Linear, Module, RNN, VarBuilder, linear, rnn};
use kernel::{Adam, Head, Shape};
use std::collections::HashMap;

/// Networks of one shape; what `kernel::Workspace` is to the fused kernel, without anything to keep.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reference {
    pub shape: Shape,
}

/// candle's network over flat weights; the variables in the order of `Shape::parts`.
struct Network {
    lstm: rnn::LSTM,
    head: Linear,
    vars: Vec<Var>,
}

impl Reference {
    /// The raw outputs for all windows, \[n, outputs\].
    pub(crate) fn outputs(&self, weights: &[f32], x: &[f32]) -> Result<Vec<f32>> {
        let network = self.network(weights)?;
        self.forward(&network, x)?.flatten_all()?.to_vec1()
    }

    /// One step of training; the mean loss before it. The optimiser is the one of the fused kernel, because its state belongs to the model and
    /// candle's does not show its own.
    pub(crate) fn train_step(
        &self,
        weights: &mut [f32],
        adam: &mut Adam,
        (x, y): (&[f32], &[f32]),
        learning_rate: f32,
        norm_max: f32,
    ) -> Result<f64> {
        let network = self.network(weights)?;
        let raw = self.forward(&network, x)?.to_dtype(DType::F64)?;
        let wanted = Tensor::from_slice(y, (y.len(), 1), &Device::Cpu)?.to_dtype(DType::F64)?;
        let loss = match self.shape.head {
            Head::Mean => (raw - wanted)?.sqr()?.mean_all()?,
            Head::StudentT => likelihood(&raw, &wanted)?,
        };
        let found = loss.backward()?;
        let mut gradient = Vec::with_capacity(weights.len());
        for var in &network.vars {
            match found.get(var) {
                Some(part) => gradient.extend(part.flatten_all()?.to_vec1::<f32>()?),
                None => gradient.extend(std::iter::repeat_n(0.0, var.elem_count())),
            }
        }
        adam.step(weights, &gradient, learning_rate, norm_max);
        loss.to_scalar()
    }

    fn network(&self, flat: &[f32]) -> Result<Network> {
        let (mut named, mut vars, mut rest) = (HashMap::new(), vec![], flat);
        for (name, sizes) in self.shape.parts() {
            let (part, after) = rest.split_at(sizes.iter().product());
            rest = after;
            let var = Var::from_slice(part, sizes, &Device::Cpu)?;
            named.insert(name.to_owned(), var.as_tensor().clone());
            vars.push(var);
        }
        let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
        let config = rnn::LSTMConfig { b_hh_init: None, ..rnn::LSTMConfig::default() };
        let lstm = rnn::lstm(self.shape.inputs, self.shape.hidden, config, builder.pp("lstm"))?;
        Ok(Network { lstm, head: linear(self.shape.hidden, self.shape.outputs(), builder.pp("head"))?, vars })
    }

    /// [n, look_back, inputs] → [n, outputs]
    fn forward(&self, network: &Network, x: &[f32]) -> Result<Tensor> {
        let Shape { inputs, look_back, .. } = self.shape;
        let x = Tensor::from_slice(x, (x.len() / (inputs * look_back), look_back, inputs), &Device::Cpu)?;
        let mut state = network.lstm.zero_state(x.dim(0)?)?;
        for t in 0..look_back {
            state = network.lstm.step(&x.narrow(1, t, 1)?.squeeze(1)?.contiguous()?, &state)?;
        }
        network.head.forward(state.h())
    }
}

/// The mean negative log likelihood of `wanted` \[n, 1\] under the Student-t of the raw outputs \[n, 3\]; see `kernel::student_t`.
fn likelihood(raw: &Tensor, wanted: &Tensor) -> Result<Tensor> {
    let centre = (raw.narrow(1, 0, 1)? * 0.3)?;
    let log_scale = (raw.narrow(1, 1, 1)? * 0.5)?;
    let softplus = ((raw.narrow(1, 2, 1)? + 1.5)?.exp()? + 1.0)?.log()?;
    let half_nu = ((softplus + 2.6)? * 0.5)?;
    let z = ((wanted - centre)? * log_scale.neg()?.exp()?)?;
    let stretch = ((z.sqr()? / (&half_nu * 2.0)?)? + 1.0)?.log()?;
    let constants = ((lgamma(&half_nu)? - lgamma(&(&half_nu + 0.5)?)?)? + log_scale)?;
    let constants = (constants + ((&half_nu * std::f64::consts::TAU)?.log()? * 0.5)?)?;
    (constants + ((half_nu + 0.5)? * stretch)?)?.mean_all()
}

/// ln Γ of numbers above 1, which candle lacks: Stirling's series seven steps further on, where it is exact to 1e-9, and back.
fn lgamma(x: &Tensor) -> Result<Tensor> {
    let mut product = x.clone();
    for step in 1..7 {
        product = (product * (x + f64::from(step))?)?;
    }
    let far = (x + 7.0)?;
    let inverse = far.recip()?;
    let series = ((inverse.sqr()? * (-1.0 / 360.0))? + 1.0 / 12.0)?;
    let series = (series + (inverse.sqr()?.sqr()? * (1.0 / 1260.0))?)?;
    let main = (((&far - 0.5)? * far.log()?)? - &far)?;
    let main = (main + 0.5 * (2.0 * std::f64::consts::PI).ln())?;
    (main + (inverse * series)?)? - product.log()?
}
