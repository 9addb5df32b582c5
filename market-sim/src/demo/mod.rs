//! The demo's driver: starts the market and `retainai up` on top of it, plays some sessions, shows the forecasts,
//! then goes on one session at a time until it is stopped.

mod api;
mod child;
mod table;

use crate::{ClockView, Sim, SimOptions, clock::evening};
use anyhow::{Context, bail, ensure};
use api::{Api, Run};
use child::Child;
use chrono::NaiveDate;
use market::{Exchange, Ticker};
use std::{net::SocketAddr, path::PathBuf, time::Duration};
use tokio::time::{Instant, sleep};

/// How long one session may take before the demo says that it hangs.
const SESSION_LIMIT: Duration = Duration::from_secs(900);

/// How long `retainai up` may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(120);

/// How often the API is asked.
const POLL_EVERY: Duration = Duration::from_millis(200);

/// What the demo is to do.
#[derive(Debug, Clone)]
pub struct DemoOptions {
    /// The `retainai` binary.
    pub retainai: PathBuf,
    /// Folder for the product's data, its log and the market's clock.
    pub data_dir: PathBuf,
    /// How many sessions the first start plays before the table.
    pub sessions: usize,
    /// Pause between the sessions after that.
    pub advance_every: Duration,
    /// Where `retainai` listens.
    pub listen: SocketAddr,
    /// Whether to stop once the table is printed.
    pub exit_after_table: bool,
}

/// Plays the demo until SIGINT or SIGTERM, or until the table when so asked. An error means that something broke.
pub async fn play(options: DemoOptions) -> anyhow::Result<()> {
    ensure!(
        options.retainai.is_file(),
        "there is no program at {}: build it first (`make demo` does)",
        options.retainai.display()
    );
    std::fs::create_dir_all(&options.data_dir)
        .with_context(|| format!("making the data folder {}", options.data_dir.display()))?;
    let state = Some(options.data_dir.join("market-sim.json"));
    let sim = Sim::start(SimOptions { state, ..SimOptions::default() }).await?;
    println!("market    {} (invented NEPSE, real NASDAQ bars of 2000-2013)", sim.base_url());
    let mut child = Child::start(&options, &sim)?;
    let api = Api::new(options.listen)?;
    let played = tokio::select! {
        played = session_by_session(&options, &sim, &api) => played,
        status = child.ended() => Err(child.death(status)),
        signal = stop_signal() => signal,
    };
    // Whatever happened, the child goes first: it still talks to the market.
    let stopped = child.stop().await;
    sim.stop().await;
    played.and(stopped)
}

/// Resolves when the program is asked to stop (SIGINT or SIGTERM).
pub async fn stop_signal() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("listening for SIGINT")?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn session_by_session(options: &DemoOptions, sim: &Sim, api: &Api) -> anyhow::Result<()> {
    wait_until_ready(api).await?;
    let played = sessions_since_start(sim);
    for _ in played..options.sessions {
        if sim.clock().ended {
            break;
        }
        println!("{}", play_one(sim, api).await?);
    }
    // A start that continues shows what there is; work left over from before goes on behind the table.
    println!("\n{}", table::of_forecasts(&api.forecasts().await?));
    println!("open      {}   (no key needed on this machine)", api.base_url());
    println!("data      {}", options.data_dir.display());
    println!("stop      Ctrl-C; the same command goes on from here, a removed data folder starts afresh\n");
    if options.exit_after_table {
        return Ok(());
    }
    let mut said_so = false;
    loop {
        sleep(options.advance_every).await;
        if !sim.clock().ended {
            println!("{}", play_one(sim, api).await?);
        } else if !said_so {
            said_so = true;
            println!("the market's data ends here; everything keeps running until you stop it");
        }
    }
}

async fn wait_until_ready(api: &Api) -> anyhow::Result<()> {
    let started = Instant::now();
    while !api.is_ready().await {
        ensure!(
            started.elapsed() < READY_LIMIT,
            "`retainai up` was not ready at {} after {} s: see retainai.log in the data folder",
            api.base_url(),
            READY_LIMIT.as_secs()
        );
        sleep(POLL_EVERY).await;
    }
    Ok(())
}

/// How many session days lie between the first start and now.
fn sessions_since_start(sim: &Sim) -> usize {
    let view = sim.clock();
    let mut days: Vec<NaiveDate> =
        Exchange::ALL.iter().flat_map(|exchange| sim.world().sessions(*exchange)).copied().collect();
    days.sort_unstable();
    days.dedup();
    days.iter().filter(|day| evening(**day) > view.started_at && evening(**day) <= view.now).count()
}

/// Moves the clock by one session day, waits until every ticker of the day has been through its chain, and says how it went.
async fn play_one(sim: &Sim, api: &Api) -> anyhow::Result<String> {
    let before = Instant::now();
    let view = sim.advance()?;
    let expected = expected_runs(sim, &view);
    let mut said = Instant::now();
    loop {
        let unfinished = api.unfinished_runs().await?;
        if unfinished.is_empty() {
            let runs = api.recent_runs().await?;
            let missing = missing(&expected, &runs);
            if missing.is_empty() {
                return Ok(sentence(&view, &expected, &runs, before.elapsed()));
            }
            hint(&mut said, &format!("waiting for the runs of {}", first_few(&missing)));
        } else {
            let names: Vec<String> = unfinished.iter().map(Run::ticker).collect();
            hint(&mut said, &format!("{} runs under way: {}", names.len(), first_few(&names)));
        }
        if before.elapsed() > SESSION_LIMIT {
            bail!(
                "the session of {} was not done after {} s: see {}/v1/runs and retainai.log",
                view.now.date_naive(),
                SESSION_LIMIT.as_secs(),
                api.base_url()
            );
        }
        sleep(POLL_EVERY).await;
    }
}

/// The tickers of the exchanges that were open on the clock's day.
fn expected_runs(sim: &Sim, view: &ClockView) -> Vec<(Ticker, NaiveDate)> {
    let day = view.now.date_naive();
    let open = |ticker: &Ticker| sim.world().sessions(ticker.exchange()).contains(&day);
    sim.tickers().into_iter().filter(open).map(|ticker| (ticker, day)).collect()
}

fn missing(expected: &[(Ticker, NaiveDate)], runs: &[Run]) -> Vec<String> {
    let has_run = |ticker: &Ticker, day: &NaiveDate| {
        let day = day.to_string();
        runs.iter().any(|run| run.ticker() == ticker.to_string() && run.session.as_deref() == Some(&day))
    };
    expected.iter().filter(|(ticker, day)| !has_run(ticker, day)).map(|(ticker, _)| ticker.to_string()).collect()
}

fn sentence(view: &ClockView, expected: &[(Ticker, NaiveDate)], runs: &[Run], took: Duration) -> String {
    let day = view.now.date_naive().to_string();
    let mut open: Vec<&str> = expected.iter().map(|(ticker, _)| ticker.exchange().as_str()).collect();
    open.dedup();
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for run in runs.iter().filter(|run| run.session.as_deref() == Some(&day)) {
        *counts.entry(run.state.as_str()).or_default() += 1;
    }
    let counts: Vec<String> = counts.iter().map(|(state, n)| format!("{n} {}", state.replace('_', " "))).collect();
    format!("{day}   {:<14} {}   ({:.1} s)", open.join(" + "), counts.join(", "), took.as_secs_f64())
}

/// Says what is being waited for, but not more often than every ten seconds.
fn hint(said: &mut Instant, text: &str) {
    if said.elapsed() >= Duration::from_secs(10) {
        *said = Instant::now();
        eprintln!("          {text}");
    }
}

fn first_few(names: &[String]) -> String {
    let shown = names.iter().take(4).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > 4 { format!("{shown} and {} more", names.len() - 4) } else { shown }
}
