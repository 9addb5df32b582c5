//! The price sources: where closes come from. In comes an ask, out goes a batch of sound, final bars, or a typed error.
//! Fetching is thin, parsing is pure (`*_page.rs`), and every source passes one conformance suite.

mod csv;
mod error;
mod html;
mod http;
mod markers;
mod merolagani;
pub mod merolagani_page;
mod nasdaq;
pub mod nasdaq_page;
mod overlap;
mod robots;
pub mod saved_page;
mod sharesansar;
pub mod sharesansar_page;
mod tiingo;
pub mod tiingo_page;
mod whole_page;
mod yahoo;
pub mod yahoo_page;

pub use error::{Retry, SourceError, SourceErrorKind};
pub use http::Manners;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use http::PoliteClient;
use market::{Bar, Batch, Exchange, Ticker};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use workflows::Db;
use workflows::flow::{Flow, Limit};

/// What is asked of a source.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Whose bars.
    pub ticker: Ticker,
    /// The newest archived bars (at most ten), ascending; empty for a new ticker. A source checks that it speaks of the same security.
    pub known: Vec<Bar>,
    /// The market's time: a bar that is not final by then is left out.
    pub now: DateTime<Utc>,
    /// How far back a new ticker asks.
    pub history_from: NaiveDate,
}

/// A place that knows prices.
#[async_trait]
pub trait PriceSource: Send + Sync {
    /// Its id in settings, archive and logs.
    fn id(&self) -> &'static str;

    /// Whose prices it knows.
    fn exchanges(&self) -> &'static [Exchange];

    /// The bars that the asker does not have yet.
    async fn fetch(&self, ask: &Ask) -> Result<Batch, SourceError>;
}

/// A vendor's key. It can be sent, and is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Key(String);

impl Key {
    /// The key as the operator set it.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(***)")
    }
}

/// How the sources are reached, and in which order they are asked.
#[derive(Debug, Clone)]
pub struct SourceSettings {
    /// Base address of the Yahoo chart source.
    pub yahoo_url: String,
    /// Base address of api.nasdaq.com.
    pub nasdaq_url: String,
    /// Base address of ShareSansar.
    pub sharesansar_url: String,
    /// Base address of merolagani.
    pub merolagani_url: String,
    /// Base address of Tiingo.
    pub tiingo_url: String,
    /// The operator's key for Tiingo.
    pub tiingo_key: Option<Key>,
    /// Folder of the csv source.
    pub csv_dir: Option<PathBuf>,
    /// Said in the User-Agent.
    pub user_agent_contact: Option<String>,
    /// What each host bears, by all processes together.
    pub limit: Limit,
    /// Limit of one request.
    pub timeout: Duration,
    /// How long a page that feeds all tickers is kept, by real time.
    pub page_age: Duration,
    /// Sources for NASDAQ, in order.
    pub nasdaq: Vec<String>,
    /// Sources for NEPSE, in order.
    pub nepse: Vec<String>,
}

impl Default for SourceSettings {
    fn default() -> Self {
        Self {
            yahoo_url: "https://query1.finance.yahoo.com".to_owned(),
            nasdaq_url: "https://api.nasdaq.com".to_owned(),
            sharesansar_url: "https://www.sharesansar.com".to_owned(),
            merolagani_url: "https://merolagani.com".to_owned(),
            tiingo_url: "https://api.tiingo.com".to_owned(),
            tiingo_key: None,
            csv_dir: None,
            user_agent_contact: None,
            limit: Limit::paced(Duration::from_secs(1)),
            timeout: Duration::from_secs(20),
            page_age: Duration::from_secs(30),
            nasdaq: vec!["yahoo".to_owned(), "nasdaq".to_owned()],
            nepse: vec!["sharesansar".to_owned(), "merolagani".to_owned()],
        }
    }
}

impl SourceSettings {
    /// The sources of an exchange, in order, each with the host by which the flow control knows it; `None` for a folder.
    pub fn hosts(&self, exchange: Exchange) -> Vec<(&str, Option<String>)> {
        let named = match exchange {
            Exchange::Nasdaq => &self.nasdaq,
            Exchange::Nepse => &self.nepse,
        };
        let host = |name: &str| {
            let base = match name {
                "yahoo" => &self.yahoo_url,
                "nasdaq" => &self.nasdaq_url,
                "tiingo" => &self.tiingo_url,
                "sharesansar" => &self.sharesansar_url,
                "merolagani" => &self.merolagani_url,
                _ => return None,
            };
            Some(http::address(base, "/").ok()?.authority().to_owned())
        };
        named.iter().map(|name| (name.as_str(), host(name))).collect()
    }
}

/// Why the sources cannot be used as set.
#[derive(Debug, thiserror::Error)]
pub enum SourcesFault {
    /// The HTTP client.
    #[error("the HTTP client of the sources could not be built: {0}")]
    Client(#[from] reqwest::Error),
    /// The csv source is named without a folder.
    #[error("the csv source needs its folder: set csv_dir")]
    NoFolder,
    /// A source of a vendor is named without a key that can be sent.
    #[error("the {source_id} source needs a key: set {setting} to the one that the vendor gave you")]
    NoKey {
        /// Which.
        source_id: &'static str,
        /// Where the key belongs.
        setting: &'static str,
    },
    /// A name that is no source of that exchange.
    #[error("`{name}` is no source for {exchange}")]
    Unknown {
        /// As set.
        name: String,
        /// For whom.
        exchange: Exchange,
    },
}

/// The sources of one process, in order per exchange.
pub struct Sources {
    nasdaq: Vec<Arc<dyn PriceSource>>,
    nepse: Vec<Arc<dyn PriceSource>>,
}

impl Sources {
    /// The sources of an exchange, in the order in which they are asked.
    pub fn for_exchange(&self, exchange: Exchange) -> &[Arc<dyn PriceSource>] {
        match exchange {
            Exchange::Nasdaq => &self.nasdaq,
            Exchange::Nepse => &self.nepse,
        }
    }
}

/// Builds what the settings name. All of them share one client, which asks `flow` before each request. With a database, a page of the whole market is
/// laid beside those before it.
pub fn build(settings: &SourceSettings, flow: Flow, db: Option<Db>) -> Result<Sources, SourcesFault> {
    let manners = Manners {
        contact: settings.user_agent_contact.clone(),
        limit: settings.limit,
        timeout: settings.timeout,
        ..Manners::default()
    };
    let client = Arc::new(PoliteClient::new(manners, flow)?);
    let named = |name: &String, exchange| -> Result<Arc<dyn PriceSource>, SourcesFault> {
        let source: Arc<dyn PriceSource> = match name.as_str() {
            "yahoo" => Arc::new(yahoo::Yahoo::new(client.clone(), settings.yahoo_url.clone())),
            "sharesansar" => Arc::new(sharesansar::ShareSansar::new(
                client.clone(),
                settings.sharesansar_url.clone(),
                settings.page_age,
                db.clone(),
            )),
            "nasdaq" => Arc::new(nasdaq::Nasdaq::new(client.clone(), settings.nasdaq_url.clone())),
            "merolagani" => Arc::new(merolagani::Merolagani::new(client.clone(), settings.merolagani_url.clone())),
            "tiingo" => {
                let none = || SourcesFault::NoKey { source_id: "tiingo", setting: tiingo_page::KEY_SETTING };
                let key = settings.tiingo_key.as_ref().ok_or_else(none)?;
                Arc::new(tiingo::Tiingo::new(client.clone(), settings.tiingo_url.clone(), key).ok_or_else(none)?)
            }
            "csv" => Arc::new(csv::CsvFolder::new(settings.csv_dir.clone().ok_or(SourcesFault::NoFolder)?)),
            _ => return Err(SourcesFault::Unknown { name: name.clone(), exchange }),
        };
        if source.exchanges().contains(&exchange) {
            Ok(source)
        } else {
            Err(SourcesFault::Unknown { name: name.clone(), exchange })
        }
    };
    Ok(Sources {
        nasdaq: settings.nasdaq.iter().map(|name| named(name, Exchange::Nasdaq)).collect::<Result<_, _>>()?,
        nepse: settings.nepse.iter().map(|name| named(name, Exchange::Nepse)).collect::<Result<_, _>>()?,
    })
}
