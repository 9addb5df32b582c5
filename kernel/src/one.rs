//! A single window, for answering at once. Here the lanes hold eight units instead of eight windows; each sum is taken
//! in the same order as in a tile, so the answer is the same to the last bit.

use crate::cell::advance;
use crate::lanes::{Eight, Lanes, Work};
use crate::math::f32x8::{sigmoid_lanes, tanh_lanes};
use crate::pass::Job;
use crate::shape::Parts;

/// Weights laid out by units in lanes, and the states of one window. U stands for the units by eights.
pub(crate) struct Window {
    /// \[U, I + H, 4\]: for eight units, what each input and each hidden state adds to their four gates.
    weights: Vec<[Eight; 4]>,
    /// \[U\]: the biases of the four gates.
    bias: Vec<[Eight; 4]>,
    /// \[U\]: cell states, and the hidden states before and after the step.
    cell: Vec<Eight>,
    hidden: Vec<Eight>,
    next: Vec<Eight>,
}

impl Window {
    pub(crate) fn new(shape: crate::Shape) -> Self {
        let groups = shape.hidden.div_ceil(8);
        let zero = [Eight::ZERO; 4];
        Self {
            weights: vec![zero; groups * (shape.inputs + shape.hidden)],
            bias: vec![zero; groups],
            cell: vec![Eight::ZERO; groups],
            hidden: vec![Eight::ZERO; groups],
            next: vec![Eight::ZERO; groups],
        }
    }

    /// Lays out the weights; lanes beyond the last unit keep the zeros they were made with.
    #[inline(always)]
    fn lay_out(&mut self, parts: Parts, inputs: usize, units: usize) {
        for gate in 0..4 {
            for unit in 0..units {
                let (row, group, lane) = (gate * units + unit, unit / 8, unit % 8);
                self.bias[group][gate].0[lane] = parts.bias[row];
                let weights = &mut self.weights[group * (inputs + units)..][..inputs + units];
                let (by_input, by_state) = weights.split_at_mut(inputs);
                for (cell, weight) in by_input.iter_mut().zip(&parts.w_ih[row * inputs..][..inputs]) {
                    cell[gate].0[lane] = *weight;
                }
                for (cell, weight) in by_state.iter_mut().zip(&parts.w_hh[row * units..][..units]) {
                    cell[gate].0[lane] = *weight;
                }
            }
        }
    }
}

/// Raw outputs for one window, \[look_back, inputs\] → \[outputs\].
pub(crate) struct Answer<'a> {
    pub window: &'a mut Window,
    pub job: Job<'a>,
    pub out: &'a mut [f32],
}

impl Work for Answer<'_> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(self) {
        let Self { window, job, out } = self;
        let (inputs, units) = (job.shape.inputs, job.shape.hidden);
        let parts = Parts::of(&job.shape, job.weights);
        window.lay_out(parts, inputs, units);
        window.cell.fill(Eight::ZERO);
        for (t, x) in job.x.chunks_exact(inputs).enumerate() {
            window.advance::<L>(t, x, units);
        }
        for (output, cell) in out.iter_mut().enumerate() {
            *cell = parts.head_bias[output];
            for (weights, hidden) in parts.head[output * units..][..units].chunks(8).zip(&window.hidden) {
                for (weight, hidden) in weights.iter().zip(hidden.0) {
                    *cell = weight.mul_add(hidden, *cell);
                }
            }
        }
    }
}

impl Window {
    /// One step.
    #[inline(always)]
    fn advance<L: Lanes>(&mut self, t: usize, x: &[f32], units: usize) {
        // The state before the first step is zero.
        let hidden = if t == 0 { &[] } else { self.hidden.as_slice() };
        for (group, weights) in self.weights.chunks_exact(x.len() + units).enumerate() {
            let (by_input, by_state) = weights.split_at(x.len());
            let [i, f, g, o] = &self.bias[group];
            let mut gates = [L::load(&i.0), L::load(&f.0), L::load(&g.0), L::load(&o.0)];
            add::<L>(&mut gates, by_input, x);
            for (weights, hidden) in by_state.chunks(8).zip(hidden) {
                add::<L>(&mut gates, weights, &hidden.0);
            }
            let [i, f, g, o] = gates;
            let (i, f, g, o) = (sigmoid_lanes(i), sigmoid_lanes(f), tanh_lanes(g), sigmoid_lanes(o));
            let (state, _, shown) = advance(i, f, g, o, L::load(&self.cell[group].0));
            state.store(&mut self.cell[group].0);
            shown.store(&mut self.next[group].0);
        }
        std::mem::swap(&mut self.hidden, &mut self.next);
    }
}

/// Adds to the four gates what these factors give.
#[inline(always)]
fn add<L: Lanes>(gates: &mut [L; 4], weights: &[[Eight; 4]], factors: &[f32]) {
    for (weights, factor) in weights.iter().zip(factors) {
        let factor = L::splat(*factor);
        for (gate, weights) in gates.iter_mut().zip(weights) {
            *gate = factor.mul_add(L::load(&weights.0), *gate);
        }
    }
}
