//! The stock LSTM of candle, with the same weights under the same names, says what our kernel says: forward, and backward by its autograd.

use candle_core::{DType, Device, Tensor, Var};
use candle_nn::{Module, RNN, VarBuilder, rnn};
use kernel::{Head, Kernel, Shape, Workspace};
use std::collections::HashMap;

/// Numbers in ±`limit` that follow from `seed`.
fn numbers(count: usize, seed: u64, limit: f32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    (0..count).map(|_| (2.0 * next() - 1.0) * limit).collect()
}

/// candle's network over the flat weights; the variables in the order of `Shape::parts`.
struct Stock {
    lstm: rnn::LSTM,
    head: candle_nn::Linear,
    vars: Vec<Var>,
}

impl Stock {
    fn of(shape: &Shape, flat: &[f32]) -> candle_core::Result<Self> {
        let (mut named, mut vars, mut rest) = (HashMap::new(), vec![], flat);
        for (name, sizes) in shape.parts() {
            let (part, after) = rest.split_at(sizes.iter().product());
            rest = after;
            let var = Var::from_slice(part, sizes, &Device::Cpu)?;
            named.insert(name.to_owned(), var.as_tensor().clone());
            vars.push(var);
        }
        let builder = VarBuilder::from_tensors(named, DType::F32, &Device::Cpu);
        let config = rnn::LSTMConfig { b_hh_init: None, ..rnn::LSTMConfig::default() };
        let lstm = rnn::lstm(shape.inputs, shape.hidden, config, builder.pp("lstm"))?;
        let head = candle_nn::linear(shape.hidden, shape.outputs(), builder.pp("head"))?;
        Ok(Self { lstm, head, vars })
    }

    /// [n, look_back, inputs] → [n, outputs]
    fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        let states = self.lstm.seq(x)?;
        self.head.forward(states.last().expect("a window has steps").h())
    }
}

const SHAPES: [(usize, usize); 5] = [(1, 20), (5, 20), (5, 7), (3, 33), (1, 64)];

#[test]
fn candle_says_the_same() {
    for head in [Head::Mean, Head::StudentT] {
        for (inputs, hidden) in SHAPES {
            let shape = Shape { inputs, hidden, look_back: 15, head };
            let weights = numbers(shape.weights(), 5, 0.3);
            let n = 37;
            let x = numbers(n * 15 * inputs, 6, 2.0);
            let mut ours = vec![];
            Workspace::new(shape, Kernel::best()).outputs(&weights, &x, &mut ours);
            let x = Tensor::from_slice(&x, (n, 15, inputs), &Device::Cpu).unwrap();
            let theirs = Stock::of(&shape, &weights).unwrap().forward(&x).unwrap();
            let theirs = theirs.flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(ours.len(), theirs.len());
            for (ours, theirs) in ours.iter().zip(theirs) {
                assert!((ours - theirs).abs() < 1e-5, "{shape:?}: {ours} is not {theirs}");
            }
        }
    }
}

#[test]
fn candles_gradient_is_ours() {
    for (inputs, hidden) in SHAPES {
        let shape = Shape { inputs, hidden, look_back: 15, head: Head::Mean };
        let weights = numbers(shape.weights(), 7, 0.3);
        let n = 29;
        let (x, y) = (numbers(n * 15 * inputs, 8, 2.0), numbers(n, 9, 1.0));
        let mut ours = vec![0.0; weights.len()];
        let our_loss = Workspace::new(shape, Kernel::best()).gradient(&weights, &x, &y, &mut ours);
        let stock = Stock::of(&shape, &weights).unwrap();
        let said = stock.forward(&Tensor::from_slice(&x, (n, 15, inputs), &Device::Cpu).unwrap()).unwrap();
        let wanted = Tensor::from_slice(&y, n, &Device::Cpu).unwrap();
        let loss = candle_nn::loss::mse(&said.squeeze(1).unwrap(), &wanted).unwrap();
        assert!((our_loss - f64::from(loss.to_scalar::<f32>().unwrap())).abs() < 1e-5);
        let store = loss.backward().unwrap();
        let theirs =
            stock.vars.iter().flat_map(|var| store.get(var).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap());
        let theirs: Vec<f32> = theirs.collect();
        let largest = theirs.iter().fold(0f32, |most, g| most.max(g.abs()));
        for (at, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            assert!((ours - theirs).abs() < 1e-5 * largest.max(0.1), "{shape:?} weight {at}: {ours} is not {theirs}");
        }
    }
}
