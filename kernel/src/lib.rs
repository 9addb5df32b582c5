//! The arithmetic of the model: windows and weights in, outputs, losses and gradients out. No I/O, no dependency.
//! Every number is made of IEEE operations in one fixed order, so the same inputs give the same bits on every machine.

mod adam;
mod cell;
#[cfg(target_arch = "x86_64")]
mod fast;
mod gather;
mod lanes;
mod loss;
pub mod math;
mod one;
mod pass;
mod product;
mod shape;
mod steps;
mod tile;
mod workspace;

/// The version of the arithmetic: raised with every change after which the same inputs give other bits. Runs record it, and a replay names it.
pub const VERSION: u32 = 1;

pub use adam::Adam;
pub use loss::student_t;
pub use shape::{Head, Shape};
pub use workspace::{Kernel, Workspace};
