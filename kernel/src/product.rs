//! Matrix products over a tile of windows: rows of weights times rows of lanes, and rows of lanes times rows of lanes.
//! Both work in blocks of twelve sums, which is what sixteen vector registers hold beside the factors.

use crate::lanes::{Eight, Lanes, Work};
use crate::steps::View;

/// out\[row\] = start\[row\] + Σ over the terms, Σ over k, of weights\[row, k\] · lanes\[k\], summed in that order.
/// C registers stand for 8·C windows.
pub(crate) struct Weigh<'a, const C: usize, const N: usize> {
    pub start: &'a [f32],
    pub terms: [Term<'a, C>; N],
    pub out: &'a mut [[Eight; C]],
}

/// One factor pair of [`Weigh`]: weights \[rows, n\], row-major, and n rows of lanes.
#[derive(Clone, Copy)]
pub(crate) struct Term<'a, const C: usize> {
    pub weights: &'a [f32],
    pub lanes: &'a [[Eight; C]],
}

impl<const C: usize, const N: usize> Work for Weigh<'_, C, N> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(mut self) {
        let mut first = 0;
        while first < self.out.len() {
            let taken = block(self.out.len() - first);
            match taken {
                1 => self.rows::<L, 1>(first),
                2 => self.rows::<L, 2>(first),
                _ => self.rows::<L, 3>(first),
            }
            first += taken;
        }
    }
}

impl<const C: usize, const N: usize> Weigh<'_, C, N> {
    #[inline(always)]
    fn rows<L: Lanes, const R: usize>(&mut self, first: usize) {
        let mut sums = [[L::splat(0.0); C]; R];
        for r in 0..R {
            sums[r] = [L::splat(self.start[first + r]); C];
        }
        for term in self.terms {
            let n = term.lanes.len();
            let mut rows = [term.weights; R];
            for r in 0..R {
                rows[r] = &term.weights[(first + r) * n..][..n];
            }
            for k in 0..n {
                let mut factors = [L::splat(0.0); R];
                for r in 0..R {
                    factors[r] = L::splat(rows[r][k]);
                }
                for c in 0..C {
                    let lanes = L::load(&term.lanes[k][c].0);
                    for r in 0..R {
                        sums[r][c] = factors[r].mul_add(lanes, sums[r][c]);
                    }
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                sums[r][c].store(&mut self.out[first + r][c].0);
            }
        }
    }
}

/// out\[column\] = Σ over k of weights\[k, column\] · lanes\[k\]: the same with the weights' rows and columns exchanged.
pub(crate) struct WeighAcross<'a, const C: usize> {
    pub weights: &'a [f32],
    pub lanes: &'a [[Eight; C]],
    pub out: &'a mut [[Eight; C]],
}

impl<const C: usize> Work for WeighAcross<'_, C> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(mut self) {
        let mut first = 0;
        while first < self.out.len() {
            let taken = block(self.out.len() - first);
            match taken {
                1 => self.columns::<L, 1>(first),
                2 => self.columns::<L, 2>(first),
                _ => self.columns::<L, 3>(first),
            }
            first += taken;
        }
    }
}

impl<const C: usize> WeighAcross<'_, C> {
    #[inline(always)]
    fn columns<L: Lanes, const R: usize>(&mut self, first: usize) {
        let mut sums = [[L::splat(0.0); C]; R];
        for (weights, row) in self.weights.chunks_exact(self.out.len()).zip(self.lanes) {
            let weights = &weights[first..first + R];
            let mut factors = [L::splat(0.0); R];
            for r in 0..R {
                factors[r] = L::splat(weights[r]);
            }
            for c in 0..C {
                let lanes = L::load(&row[c].0);
                for r in 0..R {
                    sums[r][c] = factors[r].mul_add(lanes, sums[r][c]);
                }
            }
        }
        for r in 0..R {
            for c in 0..C {
                sums[r][c].store(&mut self.out[first + r][c].0);
            }
        }
    }
}

/// How many of the rows that are left are worked on together: twelve sums in a full tile. Four are two and two: a
/// single row would leave the multipliers waiting for its own sums.
#[inline(always)]
fn block(left: usize) -> usize {
    match left {
        0 | 1 => left,
        2 | 4 => 2,
        _ => 3,
    }
}

/// out\[row, k\] += Σ over steps and windows of left\[step, row\] · right\[step, k\]; out is row-major.
pub(crate) struct Correlate<'a, const C: usize> {
    pub left: View<'a, C>,
    pub right: View<'a, C>,
    pub out: &'a mut [f32],
}

impl<const C: usize> Work for Correlate<'_, C> {
    type Result = ();

    #[inline(always)]
    fn work<L: Lanes>(mut self) {
        let mut row = 0;
        while row < self.left.rows {
            let taken = block(self.left.rows - row);
            let mut k = 0;
            while k < self.right.rows {
                let width = (self.right.rows - k).min(4);
                match taken {
                    1 => self.rows::<L, 1>(row, k, width),
                    2 => self.rows::<L, 2>(row, k, width),
                    _ => self.rows::<L, 3>(row, k, width),
                }
                k += width;
            }
            row += taken;
        }
    }
}

impl<const C: usize> Correlate<'_, C> {
    #[inline(always)]
    fn rows<L: Lanes, const R: usize>(&mut self, row: usize, k: usize, width: usize) {
        match width {
            1 => self.block::<L, R, 1>(row, k),
            2 => self.block::<L, R, 2>(row, k),
            3 => self.block::<L, R, 3>(row, k),
            _ => self.block::<L, R, 4>(row, k),
        }
    }

    #[inline(always)]
    fn block<L: Lanes, const R: usize, const K: usize>(&mut self, row: usize, k: usize) {
        let mut sums = [[L::splat(0.0); 4]; R];
        let (left, right) = (self.left, self.right);
        for (left, right) in left.lanes.chunks(left.stride).zip(right.lanes.chunks(right.stride)) {
            let (left, right) = (&left[row..row + R], &right[k..k + K]);
            for c in 0..C {
                let mut factors = [L::splat(0.0); R];
                for r in 0..R {
                    factors[r] = L::load(&left[r][c].0);
                }
                for i in 0..K {
                    let lanes = L::load(&right[i][c].0);
                    for r in 0..R {
                        sums[r][i] = factors[r].mul_add(lanes, sums[r][i]);
                    }
                }
            }
        }
        for r in 0..R {
            let sums = L::sums(sums[r]);
            let out = &mut self.out[(row + r) * right.rows + k..][..K];
            for i in 0..K {
                out[i] += sums[i];
            }
        }
    }
}
