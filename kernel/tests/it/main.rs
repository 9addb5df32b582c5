//! What the kernel promises to those who call it.

mod bits;
mod dice;
mod difference;
mod gradients;
mod learning;
mod oracle;
mod precision;
