//! What can be said of tickers on the command line.

use clap::{Args, Subcommand};
use market::{Exchange, ListingState, Ticker};

/// What to do with tickers.
#[derive(Debug, Subcommand)]
pub enum Tickers {
    /// The tickers that are known.
    List {
        /// Only in this state: new, active, suspended, delisted, renamed or merged.
        #[arg(long)]
        state: Option<ListingState>,
        /// Only of this exchange.
        #[arg(long)]
        exchange: Option<Exchange>,
    },
    /// Make tickers known, so that schedules start runs for them.
    Add {
        /// EXCHANGE:TICKER.
        #[arg(required = true, value_name = "EXCHANGE:TICKER")]
        tickers: Vec<Ticker>,
    },
    /// Start no runs for a ticker until it is resumed.
    Suspend(One),
    /// Take it for traded again, whatever was said before.
    Resume(One),
    /// Say that it is no longer traded; its history stays.
    Delist(One),
    /// Say that it goes on under another name, which takes up its history.
    Rename(Two),
    /// Say that it became part of another one; its history stays with it.
    Merge(Two),
}

/// A ticker and why.
#[derive(Debug, Args)]
pub struct One {
    /// EXCHANGE:TICKER.
    #[arg(value_name = "EXCHANGE:TICKER")]
    pub ticker: Ticker,
    /// For whoever looks later.
    #[arg(long, default_value = "")]
    pub reason: String,
}

/// A ticker, what stands in its place, and why.
#[derive(Debug, Args)]
pub struct Two {
    /// The old name, EXCHANGE:TICKER.
    #[arg(value_name = "OLD")]
    pub old: Ticker,
    /// What stands in its place, EXCHANGE:TICKER.
    #[arg(value_name = "NEW")]
    pub new: Ticker,
    /// For whoever looks later.
    #[arg(long, default_value = "")]
    pub reason: String,
}
