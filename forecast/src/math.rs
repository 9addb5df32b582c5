//! Every transcendental function of this crate, from one implementation of ours: the same bits on every machine.

pub(crate) use kernel::math::{exp, lgamma, ln};
