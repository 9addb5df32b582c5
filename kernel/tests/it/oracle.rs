//! The textbook LSTM with its two heads, in f64 and without any cleverness: what the kernel is compared with.

use kernel::{Head, Shape, math};

/// The raw outputs for one window.
pub fn outputs(shape: &Shape, weights: &[f64], window: &[f64]) -> Vec<f64> {
    let (inputs, units) = (shape.inputs, shape.hidden);
    let (w_ih, rest) = weights.split_at(4 * units * inputs);
    let (w_hh, rest) = rest.split_at(4 * units * units);
    let (bias, rest) = rest.split_at(4 * units);
    let (head, head_bias) = rest.split_at(shape.outputs() * units);
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    let (mut h, mut c) = (vec![0.0; units], vec![0.0; units]);
    for x in window.chunks(inputs) {
        let sum = |row: usize| bias[row] + dot(&w_ih[row * inputs..], x) + dot(&w_hh[row * units..], &h);
        let gates: Vec<f64> = (0..4 * units).map(sum).collect();
        for unit in 0..units {
            let (i, f) = (sigmoid(gates[unit]), sigmoid(gates[units + unit]));
            let (g, o) = (gates[2 * units + unit].tanh(), sigmoid(gates[3 * units + unit]));
            c[unit] = f * c[unit] + i * g;
            h[unit] = o * c[unit].tanh();
        }
    }
    (0..shape.outputs()).map(|o| head_bias[o] + dot(&head[o * units..], &h)).collect()
}

fn dot(weights: &[f64], values: &[f64]) -> f64 {
    weights.iter().zip(values).map(|(w, v)| w * v).sum()
}

/// The loss of one window.
pub fn loss(shape: &Shape, weights: &[f64], window: &[f64], y: f64) -> f64 {
    let raw = outputs(shape, weights, window);
    match shape.head {
        Head::Mean => (raw[0] - y).powi(2),
        Head::StudentT => {
            let (mu, s, nu) = (0.3 * raw[0], (0.5 * raw[1]).exp(), 2.6 + (raw[2] + 1.5).exp().ln_1p());
            let z = (y - mu) / s;
            math::lgamma(nu / 2.0) - math::lgamma((nu + 1.0) / 2.0)
                + 0.5 * (nu * std::f64::consts::PI).ln()
                + s.ln()
                + (nu + 1.0) / 2.0 * (z * z / nu).ln_1p()
        }
    }
}

/// The mean loss over many windows.
pub fn mean_loss(shape: &Shape, weights: &[f64], x: &[f64], y: &[f64]) -> f64 {
    let windows = x.chunks(shape.look_back * shape.inputs);
    windows.zip(y).map(|(window, y)| loss(shape, weights, window, *y)).sum::<f64>() / y.len() as f64
}

pub fn wide(numbers: &[f32]) -> Vec<f64> {
    numbers.iter().map(|v| f64::from(*v)).collect()
}
