//! What can be said of queues, schedules, backfills, dead and old runs: the steering part of the command line.

use chrono::NaiveDate;
use clap::{Args, Subcommand, ValueEnum};
use market::{Exchange, Ticker};
use std::str::FromStr;
use uuid::Uuid;
use workflows::plan::Step;

/// What to do with backfills.
#[derive(Debug, Subcommand)]
pub enum Backfills {
    /// The newest backfills.
    List,
    /// One backfill.
    Show {
        /// Its id.
        id: Uuid,
    },
    /// Start no more of its runs until it is resumed.
    Pause {
        /// Its id.
        id: Uuid,
    },
    /// Go on where it was.
    Resume {
        /// Its id.
        id: Uuid,
    },
    /// Start no more of its runs, ever.
    Cancel {
        /// Its id.
        id: Uuid,
    },
}

/// A backfill that is wanted.
#[derive(Debug, Args)]
pub struct StartBackfill {
    /// An exchange, or tickers of one: NASDAQ, or NASDAQ:AAPL NASDAQ:MSFT, or NASDAQ:AAPL,MSFT.
    #[arg(required = true, value_name = "EXCHANGE[:TICKER]")]
    pub whose: Vec<Whose>,
    /// The first session.
    #[arg(long, required = true, value_name = "YYYY-MM-DD")]
    pub from: Option<NaiveDate>,
    /// The last session; the first one by default.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub to: Option<NaiveDate>,
    /// Which runs to start.
    #[arg(long, value_enum, default_value_t = Policy::Missing)]
    pub policy: Policy,
    /// At most so many of its runs are open at once, up to 1000.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub max_active: u32,
    /// Only count what it would start.
    #[arg(long)]
    pub dry_run: bool,
}

/// Which runs a backfill starts.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Policy {
    /// Where there is none.
    Missing,
    /// Also where the newest one failed.
    MissingAndFailed,
    /// All of them.
    All,
}

impl Policy {
    /// The word of the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Policy::Missing => "missing",
            Policy::MissingAndFailed => "missing_and_failed",
            Policy::All => "all",
        }
    }
}

/// An exchange, or some of its tickers.
#[derive(Debug, Clone)]
pub struct Whose {
    /// Which exchange.
    pub exchange: Exchange,
    /// Which symbols; empty means all.
    pub symbols: Vec<String>,
}

impl FromStr for Whose {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (exchange, symbols) = text.split_once(':').map_or((text, ""), |(exchange, symbols)| (exchange, symbols));
        let exchange: Exchange = exchange.parse().map_err(|e: market::UnknownExchange| e.to_string())?;
        let symbols = symbols.split(',').filter(|_| text.contains(':')).map(|symbol| {
            Ticker::new(exchange, symbol).map(|ticker| ticker.symbol().to_owned()).map_err(|e| e.to_string())
        });
        Ok(Self { exchange, symbols: symbols.collect::<Result<_, _>>()? })
    }
}

/// What to do with schedules.
#[derive(Debug, Subcommand)]
pub enum Schedules {
    /// The schedules and when they fire next.
    List,
    /// Silence a schedule; what it started goes on.
    Pause {
        /// Its name.
        #[arg(value_parser = name)]
        id: String,
    },
    /// Let it fire again.
    Resume {
        /// Its name.
        #[arg(value_parser = name)]
        id: String,
    },
    /// Fire it by hand, also while it is paused.
    Trigger {
        /// Its name.
        #[arg(value_parser = name)]
        id: String,
        /// The session; the latest final one by default.
        #[arg(long, value_name = "YYYY-MM-DD")]
        session: Option<NaiveDate>,
    },
    /// Change when it fires, and its policies.
    Change {
        /// Its name.
        #[arg(value_parser = name)]
        id: String,
        #[command(flatten)]
        change: ScheduleChange,
    },
}

/// What is to change about a schedule.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct ScheduleChange {
    /// When, in the exchange's zone.
    #[arg(long, value_name = "HH:MM")]
    pub local_time: Option<String>,
    /// Sessions missed while nothing ran.
    #[arg(long, value_parser = ["skip", "latest", "all"])]
    pub catch_up: Option<String>,
    /// For a ticker whose run of an earlier session has not ended.
    #[arg(long, value_parser = ["skip", "queue_one", "cancel_old"])]
    pub overlap: Option<String>,
}

/// What to do with queues.
#[derive(Debug, Subcommand)]
pub enum Queues {
    /// What waits, what runs, and what is paused.
    List,
    /// Hold up what would begin; what runs goes on.
    Pause {
        #[command(flatten)]
        what: Pausable,
        /// For those who find it paused.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Let it go on.
    Resume {
        #[command(flatten)]
        what: Pausable,
    },
}

/// One thing that can be paused.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Pausable {
    /// A step kind: scrape, finetune, cache, archive, cleanup.
    #[arg(long)]
    step: Option<Step>,
    /// A price source: yahoo, nasdaq, sharesansar, merolagani, csv.
    #[arg(long, value_parser = name)]
    source: Option<String>,
    /// An exchange: NASDAQ, NEPSE.
    #[arg(long)]
    exchange: Option<Exchange>,
    /// One ticker.
    #[arg(long, value_name = "EXCHANGE:TICKER")]
    ticker: Option<Ticker>,
}

impl Pausable {
    /// Its kind and value, as the API's path has them.
    pub fn named(&self) -> (&'static str, String) {
        let step = self.step.map(|step| ("step", step.to_string()));
        let source = self.source.clone().map(|source| ("source", source));
        let exchange = self.exchange.map(|exchange| ("exchange", exchange.to_string()));
        let ticker = self.ticker.as_ref().map(|ticker| ("ticker", ticker.to_string()));
        step.or(source).or(exchange).or(ticker).unwrap_or_default()
    }
}

/// What to do with old runs.
#[derive(Debug, Subcommand)]
pub enum Histories {
    /// The bundles that there are, newest first.
    List,
    /// Put away what is due now, and not only in an hour.
    Sweep {
        /// Only count what would go.
        #[arg(long)]
        dry_run: bool,
    },
    /// Compare bundles with their checksums; exit 1 when one is not as it was written.
    Verify {
        /// Its name.
        #[arg(value_parser = name, required_unless_present = "all")]
        name: Option<String>,
        /// All that there are.
        #[arg(long, conflicts_with = "name")]
        all: bool,
    },
    /// Bring the runs of a bundle back, pinned.
    Restore {
        /// Its name.
        #[arg(value_parser = name)]
        name: String,
    },
}

/// Which dead runs.
#[derive(Debug, Clone, Default, Args)]
pub struct Dead {
    /// Only those that failed at this step.
    #[arg(long)]
    pub step: Option<Step>,
    /// Only this kind of failure: layout_changed, gave_up, lost and so on.
    #[arg(long, value_parser = name)]
    pub kind: Option<String>,
    /// Only this exchange.
    #[arg(long)]
    pub exchange: Option<Exchange>,
}

/// A name that needs no escaping in a path.
pub fn name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && text.chars().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("only letters, digits, `-`, `_` and `.` are in such a name".to_owned()),
    }
}

/// What to do with what was set aside.
#[derive(Debug, Subcommand)]
pub enum Quarantined {
    /// What waits, newest first.
    List {
        /// Only this exchange.
        #[arg(long)]
        exchange: Option<Exchange>,
        /// Only this ticker.
        #[arg(long, value_name = "EXCHANGE:TICKER")]
        ticker: Option<Ticker>,
        /// In this state: open, released, dismissed, confirmed, overtaken or all.
        #[arg(long, default_value = "open")]
        state: String,
        /// Only by this rule.
        #[arg(long)]
        rule: Option<String>,
        /// The most of them, up to 200.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Accept it as it is: it enters the archive.
    Release {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<Uuid>,
        /// Why, for whoever looks later.
        #[arg(long, default_value = "")]
        reason: String,
    },
    /// Keep it out for good.
    Dismiss {
        /// Their ids.
        #[arg(required = true)]
        ids: Vec<Uuid>,
        /// Why, for whoever looks later.
        #[arg(long, default_value = "")]
        reason: String,
    },
}

/// What to do with the calendar of an exchange.
#[derive(Debug, Subcommand)]
pub enum Sessions {
    /// Its days with what is known of each, from two weeks ago to two weeks ahead.
    List {
        /// NASDAQ or NEPSE.
        exchange: Exchange,
        /// The first day.
        #[arg(long, value_name = "YYYY-MM-DD")]
        from: Option<NaiveDate>,
        /// The last day.
        #[arg(long, value_name = "YYYY-MM-DD")]
        to: Option<NaiveDate>,
    },
    /// Say that a day is a session, or none; it stands above what is observed.
    Set {
        /// NASDAQ or NEPSE.
        exchange: Exchange,
        /// The day.
        #[arg(value_name = "YYYY-MM-DD")]
        day: NaiveDate,
        /// What it is.
        #[arg(value_parser = ["open", "closed"])]
        state: String,
        /// The last day, where it is said of several.
        #[arg(long, value_name = "YYYY-MM-DD")]
        to: Option<NaiveDate>,
        /// Why, for whoever looks later.
        #[arg(long)]
        reason: String,
    },
    /// Take that back.
    Clear {
        /// NASDAQ or NEPSE.
        exchange: Exchange,
        /// The day.
        #[arg(value_name = "YYYY-MM-DD")]
        day: NaiveDate,
        /// The last day, where it is several.
        #[arg(long, value_name = "YYYY-MM-DD")]
        to: Option<NaiveDate>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_backfill_is_about_an_exchange_or_some_of_its_tickers() {
        let read = |text: &str| text.parse::<Whose>().map(|whose| (whose.exchange, whose.symbols.join(" ")));
        assert_eq!(read("nepse"), Ok((Exchange::Nepse, String::new())));
        assert_eq!(read("NASDAQ:aapl,MSFT"), Ok((Exchange::Nasdaq, "AAPL MSFT".to_owned())));
        for bad in ["LSE", "NASDAQ:", "NASDAQ:AAPL,", "NASDAQ:../x", ""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
