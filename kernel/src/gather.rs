//! Sums over time and windows that are too small for a matrix product: gradients of the input weights and the biases.

use crate::lanes::{Eight, Lanes, Work};

/// One step's part of the gradients of the input weights and the bias, added lane by lane.
pub(crate) struct Gather<'a, const C: usize> {
    /// \[4H\]: derivatives by the weighted sums.
    pub gates: &'a [[Eight; C]],
    /// \[I\]
    pub x: &'a [[Eight; C]],
    /// \[4H, I\]
    pub of_inputs: &'a mut [Eight],
    /// \[4H\]
    pub of_bias: &'a mut [Eight],
}

impl<const C: usize> Work for Gather<'_, C> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(self) {
        let inputs = self.x.len();
        let rows = self.gates.iter().zip(self.of_inputs.chunks_exact_mut(inputs)).zip(self.of_bias);
        for ((gate, of_inputs), of_bias) in rows {
            let mut sum = L::load(&of_bias.0);
            for c in 0..C {
                sum = sum + L::load(&gate[c].0);
            }
            sum.store(&mut of_bias.0);
            for (x, of_input) in self.x.iter().zip(of_inputs) {
                let mut sum = L::load(&of_input.0);
                for c in 0..C {
                    sum = L::load(&gate[c].0).mul_add(L::load(&x[c].0), sum);
                }
                sum.store(&mut of_input.0);
            }
        }
    }
}

/// out\[row\] += Σ over all lanes of the row.
pub(crate) struct Fold<'a, const C: usize> {
    pub rows: &'a [[Eight; C]],
    pub out: &'a mut [f32],
}

impl<const C: usize> Work for Fold<'_, C> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(self) {
        for (row, out) in self.rows.iter().zip(self.out) {
            let mut sum = L::load(&row[0].0);
            for c in 1..C {
                sum = sum + L::load(&row[c].0);
            }
            *out += L::sums([sum; 4])[0];
        }
    }
}
