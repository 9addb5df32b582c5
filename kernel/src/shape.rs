//! What a network looks like, and where each of its weights lies in the one flat list that holds them all.

/// What the network's outputs mean, and with it the loss that trains them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Head {
    /// One output, the mean; trained by the mean squared error.
    Mean,
    /// Three raw outputs that [`student_t`](crate::student_t) turns into centre, scale and degrees of freedom; trained by
    /// the negative log likelihood.
    StudentT,
}

/// One LSTM layer and one linear layer on its last state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Numbers the network sees in each step; at least 1.
    pub inputs: usize,
    /// Units of the LSTM; at least 1.
    pub hidden: usize,
    /// Steps in a window; at least 1.
    pub look_back: usize,
    /// What comes out.
    pub head: Head,
}

impl Shape {
    /// Raw outputs for each window.
    pub fn outputs(&self) -> usize {
        match self.head {
            Head::Mean => 1,
            Head::StudentT => 3,
        }
    }

    /// How many weights there are: 4H·I + 4H·H + 4H + O·H + O.
    pub fn weights(&self) -> usize {
        self.lengths().iter().sum()
    }

    /// Names (PyTorch's) and sizes of the tensors, in the order in which they lie in the flat list, each row-major.
    /// The gates are stacked input, forget, cell, output.
    pub fn parts(&self) -> [(&'static str, Vec<usize>); 5] {
        let rows = 4 * self.hidden;
        [
            ("lstm.weight_ih_l0", vec![rows, self.inputs]),
            ("lstm.weight_hh_l0", vec![rows, self.hidden]),
            ("lstm.bias_ih_l0", vec![rows]),
            ("head.weight", vec![self.outputs(), self.hidden]),
            ("head.bias", vec![self.outputs()]),
        ]
    }

    /// Numbers in one window: its steps times the inputs of each.
    pub(crate) fn window(&self) -> usize {
        self.look_back * self.inputs
    }

    /// How long each of the five tensors is. Unlike [`Shape::parts`] it allocates nothing.
    fn lengths(&self) -> [usize; 5] {
        let rows = 4 * self.hidden;
        [rows * self.inputs, rows * self.hidden, rows, self.outputs() * self.hidden, self.outputs()]
    }
}

/// The five tensors of a flat list of weights.
#[derive(Clone, Copy)]
pub(crate) struct Parts<'a> {
    /// \[4H, I\]
    pub w_ih: &'a [f32],
    /// \[4H, H\]
    pub w_hh: &'a [f32],
    /// \[4H\]
    pub bias: &'a [f32],
    /// \[O, H\]
    pub head: &'a [f32],
    /// \[O\]
    pub head_bias: &'a [f32],
}

impl<'a> Parts<'a> {
    pub(crate) fn of(shape: &Shape, weights: &'a [f32]) -> Self {
        let [ih, hh, bias, head, _] = shape.lengths();
        let (w_ih, rest) = weights.split_at(ih);
        let (w_hh, rest) = rest.split_at(hh);
        let (bias, rest) = rest.split_at(bias);
        let (head, head_bias) = rest.split_at(head);
        Self { w_ih, w_hh, bias, head, head_bias }
    }
}

/// The same five tensors of a gradient that is being filled.
pub(crate) struct PartsMut<'a> {
    pub w_ih: &'a mut [f32],
    pub w_hh: &'a mut [f32],
    pub bias: &'a mut [f32],
    pub head: &'a mut [f32],
    pub head_bias: &'a mut [f32],
}

impl<'a> PartsMut<'a> {
    pub(crate) fn of(shape: &Shape, weights: &'a mut [f32]) -> Self {
        let [ih, hh, bias, head, _] = shape.lengths();
        let (w_ih, rest) = weights.split_at_mut(ih);
        let (w_hh, rest) = rest.split_at_mut(hh);
        let (bias, rest) = rest.split_at_mut(bias);
        let (head, head_bias) = rest.split_at_mut(head);
        Self { w_ih, w_hh, bias, head, head_bias }
    }
}
