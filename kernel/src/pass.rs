//! A batch through the network, tile by tile: outputs, or the mean loss and its gradient.

use crate::lanes::{Eight, Lanes};
use crate::loss::Derive;
use crate::shape::{Parts, PartsMut, Shape};
use crate::tile::{Tile, WINDOWS};

/// What is to be computed on: weights as [`Shape::parts`] orders them, and windows \[n, look_back, inputs\].
#[derive(Clone, Copy)]
pub(crate) struct Job<'a> {
    pub shape: Shape,
    pub weights: &'a [f32],
    pub x: &'a [f32],
}

/// Raw outputs for all windows, \[n, outputs\].
pub(crate) fn outputs<L: Lanes>(tile: &mut Tile, job: Job, out: &mut [f32]) {
    let (width, outputs) = (job.shape.window(), job.shape.outputs());
    let weights = Parts::of(&job.shape, job.weights);
    for (x, out) in job.x.chunks(WINDOWS * width).zip(out.chunks_mut(WINDOWS * outputs)) {
        match x.len() / width {
            0..=8 => tile_outputs::<L, 1>(tile, weights, x, out),
            9..=16 => tile_outputs::<L, 2>(tile, weights, x, out),
            _ => tile_outputs::<L, 4>(tile, weights, x, out),
        }
    }
}

fn tile_outputs<L: Lanes, const C: usize>(tile: &mut Tile, weights: Parts, x: &[f32], out: &mut [f32]) {
    tile.fill::<C>(x);
    tile.forward::<L, C>(weights);
    let rows = tile.out::<C>();
    for (window, out) in out.chunks_exact_mut(rows.len()).enumerate() {
        for (row, cell) in rows.iter().zip(out) {
            *cell = row[window / 8].0[window % 8];
        }
    }
}

/// The mean loss over all windows, and its gradient by every weight.
pub(crate) fn gradient<L: Lanes>(tile: &mut Tile, job: Job, y: &[f32], gradient: &mut [f32]) -> f64 {
    let width = job.shape.window();
    let weights = Parts::of(&job.shape, job.weights);
    let share = 1.0 / y.len() as f32;
    gradient.fill(0.0);
    let mut gradient = PartsMut::of(&job.shape, gradient);
    tile.start();
    let mut total = 0.0;
    for (x, y) in job.x.chunks(WINDOWS * width).zip(y.chunks(WINDOWS)) {
        total += match y.len() {
            0..=8 => tile_gradient::<L, 1>(tile, weights, x, y, share, &mut gradient),
            9..=16 => tile_gradient::<L, 2>(tile, weights, x, y, share, &mut gradient),
            _ => tile_gradient::<L, 4>(tile, weights, x, y, share, &mut gradient),
        };
    }
    tile.finish::<L>(&mut gradient);
    total / y.len() as f64
}

/// The sum of the losses of one tile's windows; adds `share` of their gradients.
fn tile_gradient<L: Lanes, const C: usize>(
    tile: &mut Tile,
    weights: Parts,
    x: &[f32],
    y: &[f32],
    share: f32,
    gradient: &mut PartsMut,
) -> f64 {
    tile.fill::<C>(x);
    tile.forward::<L, C>(weights);
    let mut total = 0.0;
    for c in 0..C {
        // Lanes beyond the last window have no share in loss or gradient.
        let y = y.get(8 * c..).unwrap_or_default();
        let count = y.len().min(8);
        let (mut wanted, mut shares) = (Eight::ZERO, Eight::ZERO);
        wanted.0[..count].copy_from_slice(&y[..count]);
        shares.0[..count].fill(share);
        let losses = L::run(Derive { out: tile.out::<C>(), register: c, wanted: &wanted, shares: &shares });
        total = losses[..count].iter().fold(total, |sum, loss| sum + f64::from(*loss));
    }
    tile.backward::<L, C>(weights, gradient);
    total
}
