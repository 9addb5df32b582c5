//! The fault run: real processes on the real engine are killed, stopped, cut off and starved while durable steps pass through them, and an
//! effect ledger that knows nothing of the engine says afterwards whether anything was lost, done twice or left lying.
//!
//! Read in this order: `faults` (what is done, a pure table drawn from a seed), `stage` (who is on it), `harm` (how it is done),
//! `books` (what the nodes tell of themselves), `triggers` (what the database says was committed), `verdict` (what is counted).
//! `node` is the other program: one worker, scheduler or API.
#![allow(
    clippy::disallowed_methods,
    reason = "the fault run stands outside: it has a wall clock of its own, and a seed"
)]

pub mod books;
pub mod calendar;
pub mod faults;
pub mod guard;
pub mod harm;
pub mod node;
pub mod people;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod recovery;
pub mod stage;
pub mod toy;
pub mod triggers;
pub mod verdict;
pub mod wire;

/// Microseconds since 1970 by the machine's clock, which every process of a fault run shares.
pub fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
