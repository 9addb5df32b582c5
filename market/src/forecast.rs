//! What we say about the next session, in full: point, intervals, baseline, and everything needed to judge and repeat it.

use crate::{TargetBasis, Ticker};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// Said beside every forecast.
pub const DISCLAIMER: &str = "A statistical estimate, not financial advice.";

/// A price range; `lo <= hi`, both in the ticker's currency.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// Lower end.
    pub lo: f64,
    /// Upper end.
    pub hi: f64,
}

/// A forecast that costs nothing: tomorrow's close is the reference price. Its spread is the recent volatility (P-EWMA), or that of the last 250
/// returns as they were (P-EQ).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// Name of the method, `P-EWMA` or `P-EQ`.
    pub method: String,
    /// The reference price itself.
    pub point: f64,
    /// Holds the close in 80 of 100 sessions.
    pub interval80: Interval,
    /// Holds the close in 95 of 100 sessions.
    pub interval95: Interval,
}

/// Whose numbers a forecast carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MadeBy {
    /// The ticker's own model.
    #[serde(alias = "model")]
    Own,
    /// The model that all tickers of its exchange share.
    Global,
    /// The naive forecast: no model yet, or none fit to serve.
    Baseline,
}

impl MadeBy {
    /// The word in tables, API and chat.
    pub fn as_str(self) -> &'static str {
        match self {
            MadeBy::Own => "own",
            MadeBy::Global => "global",
            MadeBy::Baseline => "baseline",
        }
    }
}

/// What a reader should know before trusting the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flag {
    /// No model of this ticker exists yet.
    ColdStart,
    /// Issued after its target session opened, or from data older than it should be.
    StaleData,
    /// Many sessions without trades in the window.
    ThinTrading,
    /// A corporate action lies between the last close and the target.
    CorporateAction,
    /// Fewer than 250 sessions of history.
    ShortHistory,
    /// The market's own return of the newest session was not known: the last known one, or none, stood in for it.
    MarketUnknown,
    /// The models' intervals have been worse than the baseline's of late: the baseline is served.
    ModelSetAside,
}

/// A forecast of one ticker's close for one session. `point` and intervals are prices in `currency`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Whose close.
    pub ticker: Ticker,
    /// The newest session whose close was known.
    pub as_of: NaiveDate,
    /// The session forecast.
    pub target: NaiveDate,
    /// How `target` was found.
    pub target_basis: TargetBasis,
    /// When it was made, by the market clock.
    pub issued_at: DateTime<Utc>,
    /// ISO 4217 code.
    pub currency: String,
    /// The close of `as_of`.
    pub last_close: f64,
    /// The last close after corporate actions that take effect at `target`.
    pub reference_price: f64,
    /// Our estimate of the close.
    pub point: f64,
    /// `point - reference_price`.
    pub change: f64,
    /// The same in per cent of the reference price.
    pub change_pct: f64,
    /// Meant to hold the close in 80 of 100 sessions.
    pub interval80: Interval,
    /// Meant to hold the close in 95 of 100 sessions.
    pub interval95: Interval,
    /// Probability that the close is above the reference price; `None` where no skill is proven.
    pub p_up: Option<f64>,
    /// Daily volatility used for scaling (standard deviation of log returns).
    pub sigma: f64,
    /// How much of the model's mean is believed, 0 (the point is the baseline) to 1.
    pub mean_weight: f64,
    /// The naive forecast for the same session.
    pub baseline: Baseline,
    /// The second naive forecast, P-EQ; `None` with fewer than 60 returns, and in forecasts of older programs.
    #[serde(default)]
    pub empirical: Option<Baseline>,
    /// Whose numbers these are.
    #[serde(alias = "origin")]
    pub made_by: MadeBy,
    /// Why it is theirs that are served, in words; empty where it was not asked.
    #[serde(default)]
    pub reason: String,
    /// Name and version of the recipe.
    pub recipe: String,
    /// SHA-256 of the model's weights file, hex; of the empty input for a baseline forecast.
    pub model_version: String,
    /// SHA-256 of the closes the forecast was made from, hex.
    pub input_hash: String,
    /// How many closes were known.
    pub n_history: usize,
    /// Caveats.
    pub flags: Vec<Flag>,
}
