//! The command line: what can be said, and what each word means.

use crate::steering_args::{Backfills, Dead, Histories, Quarantined, Queues, Schedules, Sessions, StartBackfill};
use clap::{Parser, Subcommand};
use std::collections::BTreeMap;
use std::path::PathBuf;
use workflows::plan::Step;

/// Durable next-session forecasts for NASDAQ and NEPSE.
#[derive(Debug, Parser)]
#[command(name = "retainai", version, about, max_term_width = 110)]
pub struct Args {
    /// Answer with one JSON document on stdout; messages go to stderr.
    #[arg(long, global = true)]
    pub json: bool,
    /// Send no request: scraping takes what is archived already.
    #[arg(long, global = true)]
    offline: bool,
    /// Folder of the embedded store.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Address to listen on.
    #[arg(long, global = true, value_name = "ADDRESS")]
    listen: Option<String>,
    /// Settings file; ./retainai.toml when it exists.
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// A role or a command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run every role in one process; needs no service at all.
    Up,
    /// Serve the API.
    Api,
    /// Carry out steps.
    Worker {
        /// Only these: scrape, finetune, cache, archive, cleanup, pretrain, settle.
        #[arg(long, value_delimiter = ',', value_name = "STEPS")]
        steps: Vec<Step>,
    },
    /// Start runs when they are due.
    Scheduler,
    /// Bring the database schema up to date.
    Migrate {
        /// Only say whether it is; exit 1 when it is not.
        #[arg(long)]
        check: bool,
        /// Wait until the database answers (with --check: until it is up to date).
        #[arg(long)]
        wait: bool,
    },
    /// Start a run for each ticker and wait for its end.
    Run {
        /// EXCHANGE:TICKER, for example NASDAQ:AAPL.
        #[arg(required = true, value_name = "EXCHANGE:TICKER")]
        tickers: Vec<market::Ticker>,
        /// Do not wait.
        #[arg(long)]
        no_wait: bool,
        /// The session to aim at; the latest by default.
        #[arg(long, value_name = "YYYY-MM-DD")]
        session: Option<chrono::NaiveDate>,
    },
    /// Look at runs, cancel, repeat or keep them.
    Runs {
        #[command(subcommand)]
        what: Runs,
    },
    /// Start runs for past sessions, a few at a time.
    #[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
    Backfill {
        #[command(flatten)]
        start: Option<StartBackfill>,
        #[command(subcommand)]
        what: Option<Backfills>,
    },
    /// Look at schedules, silence, change or trigger them.
    Schedule {
        #[command(subcommand)]
        what: Schedules,
    },
    /// The calendar of an exchange: list its days with the evidence, say that one is a session or none, take that back.
    Sessions {
        #[command(subcommand)]
        what: Sessions,
    },
    /// Prices that were set aside: list them, accept them, keep them out.
    Quarantine {
        #[command(subcommand)]
        what: Quarantined,
    },
    /// Look at what waits and runs; hold it up, and let it go on.
    Queue {
        #[command(subcommand)]
        what: Queues,
    },
    /// Look at old runs that were put away, put more away, check them, bring them back.
    History {
        #[command(subcommand)]
        what: Option<Histories>,
    },
    /// Show the forecast of a ticker.
    Forecast {
        /// EXCHANGE:TICKER, for example NEPSE:NABIL.
        #[arg(value_name = "EXCHANGE:TICKER")]
        ticker: market::Ticker,
    },
    /// Show how good the forecasts were, beside the naive ones, and what is alarming about them.
    Accuracy {
        /// An exchange, one ticker, or nothing for both exchanges.
        #[arg(value_name = "EXCHANGE[:TICKER]")]
        of: Option<crate::commands::accuracy::Of>,
        /// How many of the newest sessions count, at most 1000.
        #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=1000))]
        window: u32,
        /// Whose forecasts, where tickers are listed: served, own or global.
        #[arg(long, default_value = "served", value_parser = ["served", "own", "global"])]
        line: String,
        /// Also write every scored forecast that was served to this CSV file, in the columns of `backtest`.
        #[arg(long, value_name = "FILE")]
        record: Option<PathBuf>,
    },
    /// List the tickers, or add some.
    Tickers {
        #[command(subcommand)]
        what: Option<Tickers>,
    },
    /// Load daily bars from DIR/EXCHANGE/TICKER.csv.
    Import {
        /// The folder.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
    /// Look at what a price source's pages say.
    Source {
        #[command(subcommand)]
        what: crate::commands::source::Sources,
    },
    /// Go through the past day by day, as the product would have, and score it; needs no installation.
    Backtest(crate::commands::backtest::Asked),
    /// Look at every way in which this set-up can be wrong; exit 1 when there is a problem.
    Doctor {
        /// Also ask the price sources whether they answer.
        #[arg(long)]
        online: bool,
    },
    /// Show the settings in force, where each comes from and what it means.
    Config,
    /// Print the OpenAPI document.
    Openapi,
    /// Ask the API whether it is ready; exit 1 when it is not.
    Healthcheck,
}

/// What to do with runs.
#[derive(Debug, Subcommand)]
pub enum Runs {
    /// The newest runs.
    List {
        /// Only this ticker.
        #[arg(long, value_name = "EXCHANGE:TICKER")]
        ticker: Option<market::Ticker>,
        /// Only these states: queued, running, succeeded, failed, cancelled, no_new_session.
        #[arg(long, value_name = "STATES")]
        state: Option<String>,
        /// How many, at most 200.
        #[arg(long, default_value_t = 20)]
        limit: u32,
        /// Only those that failed for good and were not repeated since, with the step and what went wrong.
        #[arg(long, conflicts_with_all = ["ticker", "state"])]
        dead: bool,
        /// Of the dead ones: only those that failed at this step.
        #[arg(long, requires = "dead")]
        step: Option<Step>,
        /// Of the dead ones: only this kind of failure.
        #[arg(long, requires = "dead", value_parser = crate::steering_args::name)]
        kind: Option<String>,
        /// Of the dead ones: only this exchange.
        #[arg(long, requires = "dead")]
        exchange: Option<market::Exchange>,
    },
    /// One run with its steps and attempts.
    Show {
        /// Its id.
        id: uuid::Uuid,
    },
    /// End a run that has not ended.
    Cancel {
        /// Its id.
        id: uuid::Uuid,
    },
    /// Start a run that repeats another one: from --from, from the step that failed after archiving, or whole.
    Rerun {
        /// Its id.
        id: uuid::Uuid,
        /// The step to begin from.
        #[arg(long)]
        from: Option<Step>,
    },
    /// Make again what a run made, and say whether the bits are the same; exit 1 when they are not, or nothing could be made again.
    Replay {
        /// Its id.
        id: uuid::Uuid,
    },
    /// Repeat dead runs, at most 10,000: those named, or those that the flags describe, or all.
    Requeue {
        /// Their ids.
        #[arg(value_name = "ID")]
        ids: Vec<uuid::Uuid>,
        #[command(flatten)]
        which: Dead,
    },
    /// Keep a run whatever its age.
    Pin {
        /// Its id.
        id: uuid::Uuid,
    },
    /// Let a run go when its time comes.
    Unpin {
        /// Its id.
        id: uuid::Uuid,
    },
}

/// What to do with tickers.
#[derive(Debug, Subcommand)]
pub enum Tickers {
    /// Make tickers known, so that schedules start runs for them.
    Add {
        /// EXCHANGE:TICKER.
        #[arg(required = true, value_name = "EXCHANGE:TICKER")]
        tickers: Vec<market::Ticker>,
    },
}

impl Args {
    /// The flags that are settings too: they win over file and environment.
    pub fn overrides(&self) -> Overrides {
        let mut values = BTreeMap::new();
        if let Some(folder) = &self.data_dir {
            values.insert("data_dir", folder.display().to_string());
        }
        if let Some(listen) = &self.listen {
            values.insert("listen", listen.clone());
        }
        if self.offline {
            values.insert("offline", "true".to_owned());
        }
        Overrides { values, file: self.config.clone() }
    }
}

/// What the command line hands to the settings.
#[derive(Debug, Default)]
pub struct Overrides {
    /// Values by key.
    pub values: BTreeMap<&'static str, String>,
    /// `--config`.
    pub file: Option<PathBuf>,
}
