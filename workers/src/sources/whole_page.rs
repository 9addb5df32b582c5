//! Is a market page whole? Asked before any row of it is taken. In comes a page with its symbols, out goes nothing, or the error that keeps all
//! tickers from it.

use super::error::SourceErrorKind as Kind;
use chrono::{DateTime, NaiveDate, Utc};
use market::market_page::PageVerdict;
use market::{Exchange, Ticker, is_final};
use workflows::Db;
use workflows::stores::market_pages::{self, PageSeen};

/// The pages of one source. Without a database (a source that is tried out by itself) every page is whole.
pub(super) struct WholePage {
    pub(super) exchange: Exchange,
    pub(super) source: &'static str,
    pub(super) db: Option<Db>,
}

impl WholePage {
    /// Lays a page beside those before it, and notes it.
    pub(super) async fn judge<'a>(
        &self,
        session: NaiveDate,
        symbols: impl Iterator<Item = &'a String>,
        body_sha256: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Kind> {
        // While the session goes on tickers are still to come; its rows are not taken either.
        let Some(db) = self.db.as_ref().filter(|_| is_final(self.exchange, session, now)) else { return Ok(()) };
        let tickers = symbols.filter_map(|symbol| Ticker::new(self.exchange, symbol).ok());
        let page = PageSeen {
            exchange: self.exchange,
            source: self.source,
            session,
            symbols: tickers.map(|ticker| ticker.symbol().to_owned()).collect(),
            body_sha256: body_sha256.to_owned(),
            read_at: now,
        };
        match market_pages::judge(db, &page).await {
            Ok(PageVerdict::Take) => Ok(()),
            Ok(PageVerdict::Confirm(why)) => {
                tracing::info!(source = self.source, %session, why, "a market page with few tickers is confirmed");
                Ok(())
            }
            Ok(PageVerdict::SetAside(why)) => {
                tracing::warn!(source = self.source, %session, why, "a market page is set aside as a whole");
                Err(Kind::PartialPage(why))
            }
            Err(error) => Err(Kind::Unjudged(error.to_string())),
        }
    }

    /// Notes that a page had no row at all.
    pub(super) async fn empty(&self, now: DateTime<Utc>) {
        let Some(db) = &self.db else { return };
        let session = market::latest_final_session(self.exchange, now);
        let page = PageSeen {
            exchange: self.exchange,
            source: self.source,
            session,
            symbols: Default::default(),
            body_sha256: String::new(),
            read_at: now,
        };
        if let Err(error) = market_pages::empty(db, &page).await {
            tracing::warn!(source = self.source, %error, "it could not be noted that a market page had no row");
        }
    }
}
