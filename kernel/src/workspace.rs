//! The door to this crate: everything that training and answering need, in one place for each thread.

use crate::adam::Adam;
#[cfg(target_arch = "x86_64")]
use crate::fast::{self, Avx2};
use crate::lanes::{Eight, Lanes, Work};
use crate::one::{Answer, Window};
use crate::pass::{self, Job};
use crate::shape::Shape;
use crate::tile::Tile;

/// How the arithmetic is done. Both ways give the same bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// By AVX2 and FMA instructions, where the machine has them.
    Fast,
    /// In plain Rust, on every machine.
    Portable,
}

impl Kernel {
    /// The fastest kernel this machine has.
    pub fn best() -> Self {
        if Self::Fast.is_available() { Self::Fast } else { Self::Portable }
    }

    /// Whether this machine can run it.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Fast => fast::is_available(),
            #[cfg(not(target_arch = "x86_64"))]
            Self::Fast => false,
            Self::Portable => true,
        }
    }

    /// Does the work with the lanes of this kernel.
    pub(crate) fn run<W: Work>(self, work: W) -> W::Result {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Fast => Avx2::run(work),
            _ => Eight::run(work),
        }
    }
}

/// All memory that the network needs while it computes, to be kept by a thread and used for call after call. Nothing
/// of one call shows in the next.
///
/// Windows are given as `x`, \[n, look_back, inputs\], row-major, the oldest step first; outcomes as `y`, \[n\].
pub struct Workspace {
    shape: Shape,
    kernel: Kernel,
    tile: Tile,
    window: Window,
    /// \[weights\]
    gradient: Vec<f32>,
}

impl Workspace {
    /// A workspace for networks of one shape.
    ///
    /// # Panics
    /// When the shape has no inputs, units or steps, or when this machine cannot run the kernel.
    pub fn new(shape: Shape, kernel: Kernel) -> Self {
        let Shape { inputs, hidden, look_back, .. } = shape;
        assert!(inputs > 0 && hidden > 0 && look_back > 0, "no network has this shape: {shape:?}");
        assert!(kernel.is_available(), "this machine cannot run the kernel {kernel:?}");
        Self { shape, kernel, tile: Tile::new(shape), window: Window::new(shape), gradient: vec![0.0; shape.weights()] }
    }

    /// The shape this workspace was made for.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// The kernel this workspace was made for.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// The mean loss over the windows, and in `gradient` its derivative by each weight. Without windows both are zero.
    ///
    /// # Panics
    /// When a list is not as long as the shape and the number of outcomes ask.
    pub fn gradient(&mut self, weights: &[f32], x: &[f32], y: &[f32], gradient: &mut [f32]) -> f64 {
        let job = self.job(weights, x, y.len());
        assert_eq!(gradient.len(), weights.len(), "each weight has one entry in the gradient");
        if y.is_empty() {
            gradient.fill(0.0);
            return 0.0;
        }
        gradient_with(self.kernel, &mut self.tile, job, y, gradient)
    }

    /// One step of training: the gradient, cut to a norm of at most `norm_max`, moves weights and moments in place.
    /// Returns the mean loss before the step. Without windows nothing happens, and the loss is zero.
    ///
    /// # Panics
    /// As [`Workspace::gradient`], and when the moments are not twice as many as the weights.
    pub fn train_step(
        &mut self,
        weights: &mut [f32],
        adam: &mut Adam,
        x: &[f32],
        y: &[f32],
        learning_rate: f32,
        norm_max: f32,
    ) -> f64 {
        let job = self.job(weights, x, y.len());
        if y.is_empty() {
            return 0.0;
        }
        let loss = gradient_with(self.kernel, &mut self.tile, job, y, &mut self.gradient);
        adam.step_with(self.kernel, weights, &self.gradient, learning_rate, norm_max);
        loss
    }

    /// The raw outputs for all windows, \[n, outputs\]; what was in `out` is replaced.
    ///
    /// # Panics
    /// When `weights` is not as long as the shape asks, or `x` is not made of whole windows.
    pub fn outputs(&mut self, weights: &[f32], x: &[f32], out: &mut Vec<f32>) {
        let n = x.len() / self.shape.window();
        let job = self.job(weights, x, n);
        out.clear();
        out.resize(n * self.shape.outputs(), 0.0);
        match self.kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Fast => pass::outputs::<Avx2>(&mut self.tile, job, out),
            _ => pass::outputs::<Eight>(&mut self.tile, job, out),
        }
    }

    /// The raw outputs for one window, \[outputs\], in a fraction of the time of [`Workspace::outputs`] and with the
    /// same bits.
    ///
    /// # Panics
    /// When a list is not as long as the shape asks.
    pub fn output_one(&mut self, weights: &[f32], x: &[f32], out: &mut [f32]) {
        let job = self.job(weights, x, 1);
        assert_eq!(out.len(), self.shape.outputs(), "as many places as the network has outputs");
        self.kernel.run(Answer { window: &mut self.window, job, out });
    }

    fn job<'a>(&self, weights: &'a [f32], x: &'a [f32], n: usize) -> Job<'a> {
        let shape = self.shape;
        assert_eq!(weights.len(), shape.weights(), "weights of a network of another shape than {shape:?}");
        assert_eq!(x.len(), n * shape.window(), "{n} whole windows for {shape:?}");
        Job { shape, weights, x }
    }
}

fn gradient_with(kernel: Kernel, tile: &mut Tile, job: Job, y: &[f32], gradient: &mut [f32]) -> f64 {
    match kernel {
        #[cfg(target_arch = "x86_64")]
        Kernel::Fast => pass::gradient::<Avx2>(tile, job, y, gradient),
        _ => pass::gradient::<Eight>(tile, job, y, gradient),
    }
}
