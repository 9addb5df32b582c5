//! The sources against market-sim, and against saved captures of the real pages where they are at hand.

mod captures;
mod fuzz;
mod hostile;
mod mutated;
mod silence;
mod sources;
