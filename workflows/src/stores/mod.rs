//! What is kept: staging, archive, model registry, forecasts, tickers; one file per table or pair of tables, SQL in the file that owns it.

pub mod archive;
mod block;
pub mod forecasts;
pub mod models;
pub mod staging;
pub mod tickers;

use crate::db::{StoreError, StoreResult};
use market::{Exchange, Ticker};

/// A ticker from its two columns.
pub(crate) fn ticker_of(exchange: &str, symbol: &str) -> StoreResult<Ticker> {
    let unreadable = |why: String| StoreError::Unreadable { what: "ticker", why };
    let exchange: Exchange = exchange.parse().map_err(|e: market::UnknownExchange| unreadable(e.to_string()))?;
    Ticker::new(exchange, symbol).map_err(|e| unreadable(e.to_string()))
}
