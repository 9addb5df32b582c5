//! Numbers in, numbers out: a series of closes becomes a model, a model and a series become a forecast.
//!
//! Pure and synchronous: no clock, no files, no network. Randomness comes from a seed that the caller hands in, so the
//! same series, recipe and seed give the same bytes. Read in this order: [`Recipe`] (every number in one place),
//! [`finetune()`], [`predict()`], [`issue()`], [`evaluate`].
//!
//! Nothing here looks ahead: a session's volatility is taken from the sessions before it, and calibration uses only
//! predictions made before their outcome was trained on.

mod adam;
mod baseline;
mod bytes;
mod error;
pub mod evaluate;
mod finetune;
mod history;
mod interval;
mod issue;
mod lstm;
mod model;
mod predict;
mod recipe;
mod scale;
mod seed;
mod track;
mod train;
mod windows;

pub use baseline::{METHOD, baseline};
pub use error::ForecastError;
pub use finetune::finetune;
pub use history::{HISTORY_CLOSES, input_hash, input_hash_for};
pub use issue::{Issued, issue, issue_after, opens_at};
pub use model::{Metrics, Model};
pub use predict::{Ask, predict};
pub use recipe::{Pass, Recipe};
pub use scale::Scale;
pub use seed::seed_for;
