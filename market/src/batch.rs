//! What one fetch from one source yielded for one ticker: sound bars, corporate actions, and where they came from.

use crate::{Bar, Factor, Split, Ticker};
use chrono::{DateTime, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

/// The outcome of a fetch after parsing and checking. It is staged under its run, then archived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// Whose bars; the source echoed this identity.
    pub ticker: Ticker,
    /// Id of the source: `yahoo`, `sharesansar`, `csv`, …
    pub source: String,
    /// Final bars only, ascending, each session once.
    pub bars: Vec<Bar>,
    /// Corporate actions that the source announced or that its published previous closes show.
    pub factors: Vec<Factor>,
    /// Splits that the source announced beside them. Its closes have them applied: they explain a restated history, and are no factors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<Split>,
    /// The newest session that the source itself claims to know (page date, last row), final or not.
    pub page_session: Option<NaiveDate>,
    /// Rows refused, each with its reason in words.
    pub refused: Vec<String>,
    /// When it was fetched, by the market clock.
    pub fetched_at: DateTime<Utc>,
    /// SHA-256 of the bytes read, hex; of all pages in order when there were several.
    pub body_sha256: String,
}
