//! What must happen and what has happened: plans, states and schedules (pure files), and at the edge the engine, its janitors and stores.
//!
//! Read in this order: `plan` (the chain as a table), `state` (what an outcome means), `ledger` (how it is written), `engine` (the life of
//! one delivery), `reconciler` (how everything heals). PostgreSQL or SQLite remembers; the queue only carries; the cache only copies.

pub mod body;
pub mod cache;
pub mod chance;
pub mod clock;
pub mod db;
mod delivery;
mod duty;
pub mod effect;
pub mod engine;
pub mod exchange_duties;
pub mod flow;
mod held;
pub mod history;
mod lanes;
pub mod ledger;
mod life;
pub mod listing_duties;
pub mod message;
pub mod plan;
pub mod probe;
pub mod queue;
pub mod reconciler;
pub mod replay;
mod requeue;
mod rows;
pub mod schedule;
pub mod scheduler;
pub mod session_duties;
mod stage;
pub mod state;
pub mod stores;
pub mod subject;
pub mod unreached;

pub use body::{Attempt, Report, StepBody};
pub use cache::Cache;
pub use db::Db;
pub use effect::Effect;
pub use engine::{Bodies, Engine, EngineSettings};
pub use held::{keep, keep_leases};
pub use history::{History, Keep};
pub use ledger::Ledger;
pub use queue::Queue;
pub use requeue::Requeued;
pub use state::Outcome;
pub use stores::Stores;
pub use subject::Subject;
