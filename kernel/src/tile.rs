//! One tile of windows through the network and back. A tile is up to 32 windows, lying side by side in the lanes:
//! whatever is computed is computed for all of them by the same instruction.

use crate::cell;
use crate::gather::{Fold, Gather};
use crate::lanes::{Eight, Lanes};
use crate::product::{Correlate, Term, Weigh, WeighAcross};
use crate::shape::{Parts, PartsMut, Shape};
use crate::steps::{Steps, View};

/// Windows in a full tile: four registers of eight. Beside them the weights of three units fill the registers there are.
pub(crate) const WINDOWS: usize = 32;

/// All that is kept between the way forward and the way back; made once, used for every tile. C, wherever it stands, is
/// the tile's width in registers.
pub(crate) struct Tile {
    shape: Shape,
    /// \[T, I\]
    x: Steps,
    /// \[T, 4H\]: weighted sums, then open gates, on the way back the derivatives by the weighted sums.
    gates: Steps,
    /// \[T + 1, H\]: cell states, the first one zero.
    cells: Steps,
    /// \[T, H\]: tanh of the cell states.
    squashed: Steps,
    /// \[T, H\]: hidden states.
    hidden: Steps,
    /// \[1, H\]: derivatives by the hidden state and by the cell state.
    d_hidden: Steps,
    d_cell: Steps,
    /// \[1, O\]: raw outputs, and on the way back the derivatives by them.
    out: Steps,
    /// \[4H, I\] and \[4H\], one register each: gradients of the input weights and the bias before their lanes are
    /// added up, over all tiles of a batch.
    of_inputs: Vec<Eight>,
    of_bias: Vec<Eight>,
}

impl Tile {
    pub(crate) fn new(shape: Shape) -> Self {
        let Shape { inputs, hidden, look_back, .. } = shape;
        Self {
            shape,
            x: Steps::new(look_back, inputs),
            gates: Steps::new(look_back, 4 * hidden),
            cells: Steps::new(look_back + 1, hidden),
            squashed: Steps::new(look_back, hidden),
            hidden: Steps::new(look_back, hidden),
            d_hidden: Steps::new(1, hidden),
            d_cell: Steps::new(1, hidden),
            out: Steps::new(1, shape.outputs()),
            of_inputs: vec![Eight::ZERO; 4 * hidden * inputs],
            of_bias: vec![Eight::ZERO; 4 * hidden],
        }
    }

    /// Lays windows, \[n ≤ 8·C, T, I\], side by side; lanes without a window see zeros.
    pub(crate) fn fill<const C: usize>(&mut self, windows: &[f32]) {
        let Shape { inputs, look_back, .. } = self.shape;
        for t in 0..look_back {
            let x = self.x.at_mut::<C>(t);
            x.fill([Eight::ZERO; C]);
            for (window, numbers) in windows.chunks_exact(look_back * inputs).enumerate() {
                for (row, number) in x.iter_mut().zip(&numbers[t * inputs..]) {
                    row[window / 8].0[window % 8] = *number;
                }
            }
        }
    }

    /// From the windows to the raw outputs.
    pub(crate) fn forward<L: Lanes, const C: usize>(&mut self, weights: Parts) {
        let look_back = self.shape.look_back;
        self.cells.at_mut::<C>(0).fill([Eight::ZERO; C]);
        for t in 0..look_back {
            let start = weights.bias;
            let by_input = Term { weights: weights.w_ih, lanes: self.x.at::<C>(t) };
            let out = self.gates.at_mut(t);
            if t == 0 {
                // The state before the first step is zero.
                L::run(Weigh { start, terms: [by_input], out });
            } else {
                let by_state = Term { weights: weights.w_hh, lanes: self.hidden.at(t - 1) };
                L::run(Weigh { start, terms: [by_input, by_state], out });
            }
            let (before, cell) = self.cells.at_and_next::<C>(t);
            L::run(cell::Forward {
                gates: out.as_flattened_mut(),
                before: before.as_flattened(),
                cell: cell.as_flattened_mut(),
                squashed: self.squashed.at_mut::<C>(t).as_flattened_mut(),
                hidden: self.hidden.at_mut::<C>(t).as_flattened_mut(),
            });
        }
        let by_state = Term { weights: weights.head, lanes: self.hidden.at::<C>(look_back - 1) };
        L::run(Weigh { start: weights.head_bias, terms: [by_state], out: self.out.at_mut(0) });
    }

    /// The raw outputs; before the way back their place is taken by the derivatives of the loss by them.
    pub(crate) fn out<const C: usize>(&mut self) -> &mut [[Eight; C]] {
        self.out.at_mut(0)
    }

    /// Before the first tile of a batch: forgets what earlier tiles have gathered.
    pub(crate) fn start(&mut self) {
        self.of_inputs.fill(Eight::ZERO);
        self.of_bias.fill(Eight::ZERO);
    }

    /// From the derivatives by the raw outputs to the gradient, to which this tile's part is added.
    pub(crate) fn backward<L: Lanes, const C: usize>(&mut self, weights: Parts, gradient: &mut PartsMut) {
        let look_back = self.shape.look_back;
        let of_out = self.out.at::<C>(0);
        let last = self.hidden.at(look_back - 1);
        L::run(Correlate { left: View::once(of_out), right: View::once(last), out: gradient.head });
        L::run(Fold { rows: of_out, out: gradient.head_bias });

        let d_hidden = self.d_hidden.at_mut::<C>(0);
        let d_cell = self.d_cell.at_mut::<C>(0);
        L::run(WeighAcross { weights: weights.head, lanes: of_out, out: d_hidden });
        d_cell.fill([Eight::ZERO; C]);
        for t in (0..look_back).rev() {
            let gates = self.gates.at_mut::<C>(t);
            L::run(cell::Backward {
                gates: gates.as_flattened_mut(),
                before: self.cells.at::<C>(t).as_flattened(),
                squashed: self.squashed.at::<C>(t).as_flattened(),
                d_hidden: d_hidden.as_flattened(),
                d_cell: d_cell.as_flattened_mut(),
            });
            let (of_inputs, of_bias) = (&mut *self.of_inputs, &mut *self.of_bias);
            L::run(Gather { gates, x: self.x.at(t), of_inputs, of_bias });
            if t > 0 {
                L::run(WeighAcross { weights: weights.w_hh, lanes: gates, out: d_hidden });
            }
        }
        // What a step's gates saw is the hidden state of the step before.
        L::run(Correlate { left: self.gates.but_first::<C>(), right: self.hidden.but_last(), out: gradient.w_hh });
    }

    /// After the last tile of a batch: the gradients of input weights and bias, which all tiles have gathered.
    pub(crate) fn finish<L: Lanes>(&self, gradient: &mut PartsMut) {
        L::run(Fold { rows: self.of_inputs.as_chunks::<1>().0, out: gradient.w_ih });
        L::run(Fold { rows: self.of_bias.as_chunks::<1>().0, out: gradient.bias });
    }
}
