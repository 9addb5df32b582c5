//! The one binary: a role, or an operator's command. In come arguments, out goes an exit code: 0 done, 1 failed, 2 bad usage.

mod args;
mod assemble;
mod client;
mod commands;
mod data_folder;
mod output;
mod roles;
mod settings;
mod steering_args;
mod telemetry;

use args::{Args, Command};
use clap::Parser;
use settings::Settings;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args = Args::parse();
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        eprintln!("retainai: another TLS provider is installed already");
        return ExitCode::from(1);
    }
    // It needs no settings, so wrong ones are no reason not to read a page.
    if let Command::Source { what } = &args.command {
        return match commands::source::run(what, args.json) {
            Ok(code) => ExitCode::from(code),
            Err(error) => {
                eprintln!("retainai: {error:#}");
                ExitCode::from(1)
            }
        };
    }
    let settings = match Settings::read(&args.overrides()) {
        Ok(settings) => settings,
        Err(error) if matches!(args.command, Command::Doctor { .. }) => {
            return ExitCode::from(commands::doctor::without_settings(&error, args.json).unwrap_or(1));
        }
        Err(error) => {
            eprintln!("retainai: {error}");
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("retainai: the program could not start its threads: {error}");
            return ExitCode::from(1);
        }
    };
    let code = match runtime.block_on(dispatch(args, settings)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("retainai: {error:#}");
            1
        }
    };
    // Training that was cut off must not hold up the exit: its step is handed back, and its result would be fenced.
    runtime.shutdown_background();
    ExitCode::from(code)
}

/// Each command in the file of its name.
async fn dispatch(args: Args, settings: Settings) -> anyhow::Result<u8> {
    let json = args.json;
    match args.command {
        Command::Up => roles::up(settings).await,
        Command::Api => roles::api(settings).await,
        Command::Worker { steps } => roles::worker(settings, &steps).await,
        Command::Scheduler => roles::scheduler(settings).await,
        Command::Migrate { check, wait } => commands::migrate::run(&settings, check, wait, json).await,
        Command::Run { tickers, no_wait, session } => {
            commands::run::run(&settings, &tickers, session, !no_wait, json).await
        }
        Command::Runs { what } => commands::runs::run(&settings, what, json).await,
        Command::Backfill { start, what } => commands::backfill::run(&settings, start, what, json).await,
        Command::Schedule { what } => commands::schedule::run(&settings, what, json).await,
        Command::Sessions { what } => commands::sessions::run(&settings, what, json).await,
        Command::Quarantine { what } => commands::quarantine::run(&settings, what, json).await,
        Command::Queue { what } => commands::queue::run(&settings, what, json).await,
        Command::History { what } => commands::history::run(&settings, what, json).await,
        Command::Forecast { ticker } => commands::forecast::run(&settings, &ticker, json).await,
        Command::Accuracy { of, window, line, record } => {
            let asked = commands::accuracy::Asked { of, window, line, record };
            commands::accuracy::run(&settings, &asked, json).await
        }
        Command::Tickers { what } => commands::tickers::run(&settings, what, json).await,
        Command::Import { folder } => commands::import::run(&settings, &folder, json).await,
        Command::Doctor { online } => commands::doctor::run(&settings, online, json).await,
        Command::Source { what } => commands::source::run(&what, json),
        Command::Backtest(asked) => tokio::task::spawn_blocking(move || commands::backtest::run(&asked, json)).await?,
        Command::Config => commands::config::run(&settings, json),
        Command::Openapi => {
            crate::output::outln!("{}", ::api::openapi_document());
            Ok(0)
        }
        Command::Healthcheck => commands::healthcheck::run(&settings, json).await,
    }
}
