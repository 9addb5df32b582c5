//! Numbers of a tile over time: for each step some rows, in each row one number for each window.

use crate::lanes::Eight;

/// Rows left free between two steps, so that the same row of all steps does not fall into the same few cache lines when
/// the number of rows is a power of two.
const GAP: usize = 4;

/// Memory for rows of up to four registers. A row of C registers stands for 8·C windows; a narrow tile leaves the end
/// of the memory unused.
pub(crate) struct Steps {
    lanes: Vec<Eight>,
    steps: usize,
    rows: usize,
}

/// The rows of several steps: \[steps, stride\], of which the first `rows` of each step count.
#[derive(Clone, Copy)]
pub(crate) struct View<'a, const C: usize> {
    pub lanes: &'a [[Eight; C]],
    pub stride: usize,
    pub rows: usize,
}

impl Steps {
    /// Zeros.
    pub(crate) fn new(steps: usize, rows: usize) -> Self {
        Self { lanes: vec![Eight::ZERO; steps * (rows + GAP) * 4], steps, rows }
    }

    /// The rows of step t.
    pub(crate) fn at<const C: usize>(&self, t: usize) -> &[[Eight; C]] {
        &self.lanes.as_chunks().0[t * (self.rows + GAP)..][..self.rows]
    }

    pub(crate) fn at_mut<const C: usize>(&mut self, t: usize) -> &mut [[Eight; C]] {
        &mut self.lanes.as_chunks_mut().0[t * (self.rows + GAP)..][..self.rows]
    }

    /// The rows of step t to be read, and those of the next one to be written.
    pub(crate) fn at_and_next<const C: usize>(&mut self, t: usize) -> (&[[Eight; C]], &mut [[Eight; C]]) {
        let (at, next) = self.lanes.as_chunks_mut().0[t * (self.rows + GAP)..].split_at_mut(self.rows + GAP);
        (&at[..self.rows], &mut next[..self.rows])
    }

    /// All steps but the last, or all but the first.
    pub(crate) fn but_last<const C: usize>(&self) -> View<'_, C> {
        self.between(0, self.steps - 1)
    }

    pub(crate) fn but_first<const C: usize>(&self) -> View<'_, C> {
        self.between(1, self.steps)
    }

    fn between<const C: usize>(&self, from: usize, to: usize) -> View<'_, C> {
        let stride = self.rows + GAP;
        View { lanes: &self.lanes.as_chunks().0[from * stride..to * stride], stride, rows: self.rows }
    }
}

impl<'a, const C: usize> View<'a, C> {
    /// A single step.
    pub(crate) fn once(lanes: &'a [[Eight; C]]) -> Self {
        Self { lanes, stride: lanes.len(), rows: lanes.len() }
    }
}
