//! What a run is about: a ticker, an exchange, or something of a plan's own (a delivery, a digest). In the ledger it is one text.

use crate::db::{StoreError, StoreResult};
use market::{Exchange, Ticker};
use std::fmt;

/// The subject of a run. At most one run of a plan and subject is active at a time.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Subject {
    /// One equity.
    Ticker(Ticker),
    /// A whole exchange.
    Exchange(Exchange),
    /// Anything else, by an id of the plan's own.
    Other(String),
}

/// Which kind of subject a plan is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum SubjectKind {
    Ticker,
    Exchange,
    Other,
}

impl Subject {
    /// Its kind.
    pub fn kind(&self) -> SubjectKind {
        match self {
            Subject::Ticker(_) => SubjectKind::Ticker,
            Subject::Exchange(_) => SubjectKind::Exchange,
            Subject::Other(_) => SubjectKind::Other,
        }
    }

    /// The exchange it belongs to, where there is one.
    pub fn exchange(&self) -> Option<Exchange> {
        match self {
            Subject::Ticker(ticker) => Some(ticker.exchange()),
            Subject::Exchange(exchange) => Some(*exchange),
            Subject::Other(_) => None,
        }
    }

    /// The symbol, when it is a ticker.
    pub fn symbol(&self) -> Option<&str> {
        match self {
            Subject::Ticker(ticker) => Some(ticker.symbol()),
            _ => None,
        }
    }

    /// From the column of a run of a plan about `kind`.
    pub fn read(kind: SubjectKind, text: &str) -> StoreResult<Self> {
        let unreadable = |why: String| StoreError::Unreadable { what: "subject of a run", why };
        match kind {
            SubjectKind::Ticker => Ticker::parse(text).map(Subject::Ticker).map_err(|e| unreadable(e.to_string())),
            SubjectKind::Exchange => {
                text.parse().map(Subject::Exchange).map_err(|e: market::UnknownExchange| unreadable(e.to_string()))
            }
            SubjectKind::Other => Ok(Subject::Other(text.to_owned())),
        }
    }
}

impl From<Ticker> for Subject {
    fn from(ticker: Ticker) -> Self {
        Subject::Ticker(ticker)
    }
}

impl From<Exchange> for Subject {
    fn from(exchange: Exchange) -> Self {
        Subject::Exchange(exchange)
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Subject::Ticker(ticker) => ticker.fmt(f),
            Subject::Exchange(exchange) => exchange.fmt(f),
            Subject::Other(id) => f.write_str(id),
        }
    }
}
