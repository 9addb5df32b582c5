//! The binary: `market-sim` serves the stand-in sites, `market-sim demo` plays the whole product on top of them.

use anyhow::Context;
use chrono::{DateTime, Utc};
use clap::{Args, Parser, Subcommand};
use market_sim::{DEFAULT_SEED, DEFAULT_START, Sim, SimOptions, demo};
use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

/// Stand-in exchange web sites over real and generated prices, with a virtual clock and faults.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the sites until stopped (the default).
    Serve(Serve),
    /// Start the market and `retainai up` on top of it, and play some sessions.
    Demo(Demo),
}

#[derive(Args)]
struct Serve {
    /// Loopback address to listen on; port 0 takes a free one.
    #[arg(long, default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Seed of the invented NEPSE.
    #[arg(long, default_value_t = DEFAULT_SEED)]
    seed: u64,
    /// Where the virtual clock begins (RFC 3339), unless the state file knows better.
    #[arg(long, default_value = DEFAULT_START)]
    start: DateTime<Utc>,
    /// File that keeps the virtual time over restarts.
    #[arg(long)]
    state: Option<PathBuf>,
    /// Move the clock on by one session every so many seconds.
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    advance_every: Option<u64>,
}

#[derive(Args)]
struct Demo {
    /// The `retainai` binary.
    #[arg(long)]
    retainai: PathBuf,
    /// Folder for everything the demo keeps.
    #[arg(long)]
    data_dir: PathBuf,
    /// How many sessions the first start plays before it shows the forecasts.
    #[arg(long, default_value_t = 3)]
    sessions: usize,
    /// After that, one more session every so many seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    advance_every: u64,
    /// Where `retainai` listens.
    #[arg(long, default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Stop and exit 0 once the table is printed.
    #[arg(long)]
    exit_after_table: bool,
}

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("warn,market_sim=info"))
        .with_writer(std::io::stderr)
        .init();
    let cli = Cli::parse();
    let done = tokio::runtime::Runtime::new().context("starting the async runtime").and_then(|runtime| {
        runtime.block_on(async {
            match cli.command {
                Some(Command::Demo(demo)) => play(demo).await,
                Some(Command::Serve(serve)) => run(serve).await,
                None => run(cli.serve).await,
            }
        })
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("market-sim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(serve: Serve) -> anyhow::Result<()> {
    let sim = Sim::start(SimOptions {
        listen: serve.listen,
        seed: serve.seed,
        start: serve.start,
        state: serve.state,
        advance_every: serve.advance_every.map(Duration::from_secs),
    })
    .await?;
    println!("market-sim on {} at {}; clock: {}", sim.base_url(), sim.clock().now.to_rfc3339(), sim.clock_url());
    demo::stop_signal().await?;
    sim.stop().await;
    Ok(())
}

async fn play(demo: Demo) -> anyhow::Result<()> {
    demo::play(demo::DemoOptions {
        retainai: demo.retainai,
        data_dir: demo.data_dir,
        sessions: demo.sessions,
        advance_every: Duration::from_secs(demo.advance_every),
        listen: demo.listen,
        exit_after_table: demo.exit_after_table,
    })
    .await
}
