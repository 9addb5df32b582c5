//! Those who do it: one file per step of the chain, the price sources, the compute pool.
//!
//! A step body reads, computes and answers with effects; the engine in `workflows` claims, fences, writes and retries.

pub mod compute;
mod remote_clock;
pub mod sources;
pub mod steps;

pub use remote_clock::{ClockError, RemoteClock};
