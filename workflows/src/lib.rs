//! What must happen and what has happened: plans, states and schedules (pure files), and at the edge the engine, its janitors and stores.
//!
//! Read in this order: `plan` (the chain as a table), `state` (what an outcome means), `ledger` (how it is written), `engine` (the life of
//! one delivery), `reconciler` (how everything heals). PostgreSQL or SQLite remembers; the queue only carries; the cache only copies.

pub mod body;
pub mod cache;
pub mod clock;
pub mod db;
pub mod effect;
pub mod engine;
mod held;
pub mod ledger;
pub mod message;
pub mod plan;
pub mod queue;
pub mod reconciler;
pub mod schedule;
pub mod scheduler;
pub mod state;
pub mod stores;

pub use body::{Attempt, Report, StepBody};
pub use cache::Cache;
pub use db::Db;
pub use effect::Effect;
pub use engine::{Bodies, Engine, EngineSettings};
pub use held::keep_leases;
pub use queue::Queue;
pub use state::Outcome;
