//! Numbers in, numbers out: a series of closes becomes a model, a model and a series become a forecast.
//!
//! Pure and synchronous: no clock, no files, no network. Randomness comes from a seed that the caller hands in, so the
//! same series, recipe and seed give the same bytes. Read in this order: [`Recipe`] (every number in one place),
//! [`finetune()`], [`predict()`], [`issue()`], [`evaluate`].
//!
//! Nothing here looks ahead: a session's volatility is taken from the sessions before it, and calibration uses only
//! predictions made before their outcome was trained on.

mod alarms;
pub mod backtest;
mod baseline;
mod bytes;
mod error;
pub mod evaluate;
mod features;
mod finetune;
mod gate;
mod global;
mod history;
mod issue;
mod market_returns;
mod math;
mod model;
mod net;
mod predecessor;
mod predict;
mod recipe;
mod record;
mod reference;
mod scale;
mod seed;
mod skill;
mod student;
mod track;

/// The version of this program as runs record it, beside [`Kernel::version`].
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

pub use alarms::{ALARM_SESSIONS, UNSCORED_AFTER, alarms_of, alarms_of_exchange};
pub use baseline::{METHOD, baseline};
pub use error::ForecastError;
pub use finetune::finetune;
pub use gate::Verdict;
pub use global::{Global, GlobalMetrics, pretrain, pretrain_by};
pub(crate) use history::History;
pub use history::{HISTORY_CLOSES, input_hash, input_hash_for, input_hash_of_all};
pub use issue::{Issued, issue, opens_at};
pub use market_returns::{MARKET_TICKERS_MIN, MarketReturns};
pub use model::{Metrics, Model};
pub use net::Kernel;
pub use predecessor::PREDECESSOR;
pub use predict::{Ask, Models, Predicted, predict};
pub use recipe::{Finetune, Gate, INPUTS, Pretrain, Recipe, Trust};
pub use record::{GIVEN_UP_AFTER, Settled, Since, scored_at, settle};
pub use scale::Scale;
pub use seed::{seed_for, seed_for_exchange};
pub use skill::{Range, Sureness, sureness};
