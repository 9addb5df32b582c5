//! The LSTM cell, element by element: gates and state forward, their derivatives backward.

use crate::lanes::{Eight, Lanes, Work};
use crate::math::f32x8::{sigmoid_lanes, tanh_lanes};

/// One step forward: c = f·c' + i·g, h = o·tanh(c). All but `gates` have one entry for each unit and register.
pub(crate) struct Forward<'a> {
    /// \[4, units\]: the weighted sums come in, the open gates i, f, g, o go out.
    pub gates: &'a mut [Eight],
    /// The cell state before the step.
    pub before: &'a [Eight],
    /// The cell state after it.
    pub cell: &'a mut [Eight],
    /// tanh of the cell state after it.
    pub squashed: &'a mut [Eight],
    /// The hidden state after it.
    pub hidden: &'a mut [Eight],
}

/// The four gates' parts of one list.
#[inline(always)]
fn quarters(gates: &mut [Eight], units: usize) -> [&mut [Eight]; 4] {
    let (i, rest) = gates.split_at_mut(units);
    let (f, rest) = rest.split_at_mut(units);
    let (g, rest) = rest.split_at_mut(units);
    [i, f, g, &mut rest[..units]]
}

impl Work for Forward<'_> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(self) {
        let units = self.hidden.len();
        let [i, f, g, o] = quarters(self.gates, units);
        let (before, cell, squashed) = (&self.before[..units], &mut self.cell[..units], &mut self.squashed[..units]);
        // One kind of gate after the other, and then the states: a short chain of operations finds more of its like to
        // overlap with than a long one, and its constants stay in registers.
        for gate in [&mut *i, &mut *f, &mut *o] {
            for lanes in gate {
                sigmoid_lanes(L::load(&lanes.0)).store(&mut lanes.0);
            }
        }
        for lanes in g.iter_mut() {
            tanh_lanes(L::load(&lanes.0)).store(&mut lanes.0);
        }
        for u in 0..units {
            let (input, forget) = (L::load(&i[u].0), L::load(&f[u].0));
            let (fresh, output) = (L::load(&g[u].0), L::load(&o[u].0));
            let (state, tanh, hidden) = advance(input, forget, fresh, output, L::load(&before[u].0));
            state.store(&mut cell[u].0);
            tanh.store(&mut squashed[u].0);
            hidden.store(&mut self.hidden[u].0);
        }
    }
}

/// From open gates and the old state: the new state, its tanh, and what is shown of it.
#[inline(always)]
pub(crate) fn advance<L: Lanes>(input: L, forget: L, fresh: L, output: L, before: L) -> (L, L, L) {
    let state = forget.mul_add(before, input * fresh);
    let tanh = tanh_lanes(state);
    (state, tanh, output * tanh)
}

/// The same step back: its derivatives.
pub(crate) struct Backward<'a> {
    /// \[4, units\]: the open gates come in, the derivatives by the weighted sums go out.
    pub gates: &'a mut [Eight],
    pub before: &'a [Eight],
    pub squashed: &'a [Eight],
    /// The derivative by the hidden state after the step.
    pub d_hidden: &'a [Eight],
    /// The derivative by the cell state: after the step comes in, before it goes out.
    pub d_cell: &'a mut [Eight],
}

impl Work for Backward<'_> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(self) {
        let units = self.d_cell.len();
        let [i, f, g, o] = quarters(self.gates, units);
        let (before, squashed, d_hidden) = (&self.before[..units], &self.squashed[..units], &self.d_hidden[..units]);
        let one = L::splat(1.0);
        for u in 0..units {
            let (input, forget) = (L::load(&i[u].0), L::load(&f[u].0));
            let (fresh, output) = (L::load(&g[u].0), L::load(&o[u].0));
            let (tanh, d_hidden) = (L::load(&squashed[u].0), L::load(&d_hidden[u].0));
            let through = d_hidden * output;
            // The slope of a sigmoid s is s − s², that of a tanh t is 1 − t².
            let d_state = through.mul_add(one.less_product(tanh, tanh), L::load(&self.d_cell[u].0));
            let d_output = (d_hidden * tanh) * output.less_product(output, output);
            let d_input = (d_state * fresh) * input.less_product(input, input);
            let d_fresh = (d_state * input) * one.less_product(fresh, fresh);
            let d_forget = (d_state * L::load(&before[u].0)) * forget.less_product(forget, forget);
            d_input.store(&mut i[u].0);
            d_forget.store(&mut f[u].0);
            d_fresh.store(&mut g[u].0);
            d_output.store(&mut o[u].0);
            (d_state * forget).store(&mut self.d_cell[u].0);
        }
    }
}
