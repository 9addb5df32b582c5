//! What a forecast of a ticker is made from beside its closes: the exchange's global model, the ticker's own, the market's returns, and the calendar.

use super::Workshop;
use chrono::{Days, NaiveDate};
use forecast::{Global, MarketReturns, Model};
use market::{Bar, Calendar, Doubts, EVIDENCE_DAYS, Exchange, Outlook, Ticker};
use std::sync::{Arc, Mutex, PoisonError};
use workflows::db::StoreResult;
use workflows::stores::{alarms, globals, market_days, models, sessions};

/// Global models that were read last, one per exchange: they change every few months and every run reads them.
#[derive(Default)]
pub struct Globals(Mutex<Vec<Arc<Global>>>);

impl Workshop {
    /// The global model that serves the exchange; `None` where there is none yet, or none that this program can read.
    pub(super) async fn global(&self, exchange: Exchange) -> StoreResult<Option<Arc<Global>>> {
        let Some(row) = globals::newest(&self.stores.db, exchange).await? else { return Ok(None) };
        let held = self
            .globals
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .find(|g| g.hash() == row.hash)
            .cloned();
        if held.is_some() {
            return Ok(held);
        }
        let Some(bytes) = self.stores.model_bytes(&row.hash).await? else {
            tracing::warn!(%exchange, hash = row.hash, "the global model's weights are gone; the baseline is served until the next pre-training");
            return Ok(None);
        };
        match Global::from_bytes(&bytes) {
            Ok(global) => {
                let global = Arc::new(global.with_kernel(self.kernel));
                let mut held = self.globals.0.lock().unwrap_or_else(PoisonError::into_inner);
                held.retain(|other| other.exchange() != exchange);
                held.push(global.clone());
                Ok(Some(global))
            }
            Err(error) => {
                tracing::warn!(%exchange, hash = row.hash, %error, "the global model cannot be read; the baseline is served");
                Ok(None)
            }
        }
    }

    /// The ticker's own model. One that cannot be read any more is left behind, and said so.
    pub(super) async fn own(&self, ticker: &Ticker) -> StoreResult<Option<Model>> {
        let Some(hash) = models::champion(&self.stores.db, ticker).await? else { return Ok(None) };
        let Some(bytes) = self.stores.model_bytes(&hash).await? else {
            tracing::warn!(%ticker, hash, "the ticker's weights are gone; its model begins again from the global one");
            return Ok(None);
        };
        match Model::from_bytes(&bytes) {
            Ok(model) => Ok(Some(model)),
            Err(error) => {
                tracing::warn!(%ticker, hash, %error, "the ticker's model cannot be read; it begins again from the global one");
                Ok(None)
            }
        }
    }

    /// What the public record has against the ticker's models.
    pub(super) async fn doubts(&self, ticker: &Ticker) -> StoreResult<Doubts> {
        alarms::doubts(&self.stores.db, ticker).await
    }

    /// What the calendar says of the days after `newest`. That one, and those of `own`, may be staged and not archived yet: of an exchange's first ticker
    /// nothing is.
    pub(super) async fn outlook(&self, exchange: Exchange, newest: NaiveDate, own: &[Bar]) -> StoreResult<Outlook> {
        let calendar = sessions::calendar(&self.stores.db, exchange, newest).await?;
        let since = newest - Days::new(EVIDENCE_DAYS);
        let own = own.iter().rev().map(|bar| bar.session).take_while(|session| *session >= since);
        Ok(own.chain([newest]).fold(calendar, Calendar::saw).outlook(newest))
    }

    /// The market's returns that are known.
    pub(super) async fn market(&self, exchange: Exchange) -> StoreResult<MarketReturns> {
        Ok(MarketReturns::new(market_days::list(&self.stores.db, exchange).await?))
    }
}
