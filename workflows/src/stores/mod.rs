//! What is kept: staging, archive, model registry, forecasts, tickers; one file per table or pair of tables, SQL in the file that owns it.

pub mod alarms;
pub mod archive;
pub mod as_known;
mod block;
pub mod forecasts;
pub mod globals;
pub mod made_with;
pub mod market_days;
pub mod models;
pub mod quarantine;
pub mod record;
pub mod sessions;
pub mod skill;
pub mod staging;
pub mod tickers;

use crate::cache::Cache;
use crate::db::{Db, StoreError, StoreResult};
use market::{Exchange, Ticker};

/// The database and the cache of copies beside it. Cheap to clone.
#[derive(Clone)]
pub struct Stores {
    /// What is kept for good.
    pub db: Db,
    /// What is kept a while.
    pub cache: Cache,
}

impl Stores {
    /// The weights file of a ticker's or a global model: from the cache, else from the registry, which then fills the cache. `None` when it is
    /// unknown or dropped.
    pub async fn model_bytes(&self, hash: &str) -> StoreResult<Option<Vec<u8>>> {
        match self.cache.model(hash).await {
            Ok(Some(bytes)) => return Ok(Some(bytes)),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the cache did not answer; reading the registry"),
        }
        let bytes = match models::weights(&self.db, hash).await? {
            Some(bytes) => Some(bytes),
            None => globals::weights(&self.db, hash).await?,
        };
        if let Some(bytes) = &bytes
            && let Err(error) = self.cache.put_model(hash, bytes).await
        {
            tracing::debug!(%error, "a model could not be cached");
        }
        Ok(bytes)
    }

    /// Copies the ticker's newest stored forecast into the cache. Best effort: the archive answers when the cache does not.
    pub async fn refresh_forecast(&self, ticker: &Ticker) {
        let newest = match forecasts::latest(&self.db, ticker).await {
            Ok(newest) => newest,
            Err(error) => {
                tracing::warn!(%ticker, %error, "the newest forecast could not be read for the cache");
                return;
            }
        };
        if let Some(newest) = newest
            && let Err(error) = self.cache.put_forecast(&newest).await
        {
            tracing::warn!(%ticker, %error, "the forecast could not be cached");
        }
    }
}

/// A ticker from its two columns.
pub(crate) fn ticker_of(exchange: &str, symbol: &str) -> StoreResult<Ticker> {
    let unreadable = |why: String| StoreError::Unreadable { what: "ticker", why };
    let exchange: Exchange = exchange.parse().map_err(|e: market::UnknownExchange| unreadable(e.to_string()))?;
    Ticker::new(exchange, symbol).map_err(|e| unreadable(e.to_string()))
}
