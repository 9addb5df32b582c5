//! The same trainings by candle as it comes: its LSTM step by step, a linear layer, squared error, autograd and AdamW without decay.

use crate::ours::{LOOK_BACK, Univariate, ramp};
use crate::timed;
use candle_core::{DType, Device, Result, Tensor, Var};
use candle_nn::{AdamW, Module, Optimizer, ParamsAdamW, RNN, VarBuilder, linear, loss, rnn};
use std::collections::HashMap;

/// Seconds of one training, its optimiser included.
pub(crate) fn univariate(what: &Univariate, count: usize) -> Result<Vec<f64>> {
    let ((x, y), device) = (what.windows(), Device::Cpu);
    let x = Tensor::from_vec(x, (what.windows, LOOK_BACK, 1), &device)?;
    let y = Tensor::from_vec(y, (what.windows, 1), &device)?;
    let mut failed = None;
    let mut times = vec![];
    for _ in 0..count {
        let (mut named, mut vars) = (HashMap::new(), vec![]);
        for (name, sizes) in what.shape().parts() {
            let var = Var::from_vec(ramp(sizes.iter().product(), 0.2), sizes, &device)?;
            named.insert(name.to_owned(), var.as_tensor().clone());
            vars.push(var);
        }
        let builder = VarBuilder::from_tensors(named, DType::F32, &device);
        let config = rnn::LSTMConfig { b_hh_init: None, ..rnn::LSTMConfig::default() };
        let lstm = rnn::lstm(1, what.hidden, config, builder.pp("lstm"))?;
        let head = linear(what.hidden, 1, builder.pp("head"))?;
        let train = || -> Result<()> {
            let settings =
                ParamsAdamW { lr: f64::from(what.learning_rate), weight_decay: 0.0, ..ParamsAdamW::default() };
            let mut adam = AdamW::new(vars.clone(), settings)?;
            for _ in 0..what.epochs {
                for first in (0..what.windows).step_by(what.batch) {
                    let size = what.batch.min(what.windows - first);
                    let states = lstm.seq(&x.narrow(0, first, size)?)?;
                    let Some(last) = states.last() else { continue };
                    adam.backward_step(&loss::mse(&head.forward(last.h())?, &y.narrow(0, first, size)?)?)?;
                }
            }
            Ok(())
        };
        times.extend(timed(1, 1, || failed = failed.take().or(train().err())));
    }
    failed.map_or(Ok(times), Err)
}
