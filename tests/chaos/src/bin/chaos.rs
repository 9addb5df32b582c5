//! The fault run: puts everything on stage, offers durable steps, does harm, waits until all has ended, and counts. The last line of stdout is
//! the result; progress goes to stderr.

use anyhow::Context;
use chaos::calendar::{self, Calendar};
use chaos::faults::{Planned, plan};
use chaos::harm::{Happened, Harm};
use chaos::now_us;
use chaos::people::{self, Answers};
use chaos::recovery::{LEASE_US, Recovery, measure};
use chaos::stage::{Offer, Stage};
use chaos::verdict::{self, LastLine, Verdict, Wrong};
use clap::Parser;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, sleep_until};

/// The lease, as a duration.
const LEASE: Duration = Duration::from_micros(LEASE_US.unsigned_abs());
/// A run that has not ended so long after the last fault and one lease is stuck.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two lines of progress.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// Wrong runs whose story is told.
const STORIES: usize = 10;

/// Kills, stops, cuts off and starves the engine while durable steps pass through it, and counts what was lost, done twice or left lying.
#[derive(Debug, Parser)]
#[command(name = "chaos")]
struct Arguments {
    /// For how long runs are offered and faults done, in seconds.
    #[arg(long, default_value_t = 60)]
    duration: u64,
    /// Repeats the faults of an earlier run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Steps per second that the schedulers' own runs offer; ticks and people come on top, with about 60.
    #[arg(long, default_value_t = 300)]
    rate: u32,
    /// Offers the steps and does no harm: what the machine can carry.
    #[arg(long)]
    calm: bool,
    /// Where the logs go; without it, `chaos` in the target folder.
    #[arg(long)]
    logs: Option<PathBuf>,
    /// Keeps the logs of a good run too.
    #[arg(long)]
    keep_logs: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let program = std::env::current_exe()?.with_file_name("chaos-node");
    anyhow::ensure!(program.exists(), "{} is not built: cargo build --profile ci -p chaos --bins", program.display());
    let logs = match &arguments.logs {
        Some(logs) => logs.clone(),
        None => program.ancestors().nth(2).context("the program lies in PROFILE of the target folder")?.join("chaos"),
    };
    let logs = logs.join(format!("seed-{}-{}s-{}", arguments.seed, arguments.duration, std::process::id()));
    std::fs::create_dir_all(&logs).with_context(|| format!("the folder {}", logs.display()))?;
    let outcome = tokio::select! {
        outcome = fault_run(&arguments, &logs, &program) => outcome,
        told = told_to_stop() => told.and(Err(anyhow::anyhow!("stopped from outside"))),
    };
    let (line, good) = match outcome {
        Ok(outcome) => outcome,
        Err(error) => {
            eprintln!("the logs are in {}", logs.display());
            return Err(error);
        }
    };
    if good && !arguments.keep_logs {
        std::fs::remove_dir_all(&logs).with_context(|| format!("the folder {}", logs.display()))?;
    } else {
        eprintln!("the logs are in {}", logs.display());
    }
    if !good {
        eprintln!("the same faults again: make chaos DURATION={} SEED={}", arguments.duration, arguments.seed);
    }
    println!("{line}");
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Returns at SIGINT or SIGTERM: everything is taken back then too.
async fn told_to_stop() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// The whole of it; answers the last line, and whether it is a good one.
async fn fault_run(arguments: &Arguments, logs: &Path, program: &Path) -> anyhow::Result<(String, bool)> {
    let time = Duration::from_secs(arguments.duration);
    let planned = if arguments.calm { Vec::new() } else { plan(arguments.seed, time) };
    eprintln!(
        "seed {}: {} faults in {} s; {} steps offered per second",
        arguments.seed,
        planned.len(),
        arguments.duration,
        arguments.rate
    );
    let building = Stage::build(logs, program).await?;
    // For one lease after PostgreSQL began nobody is taken back, so what is killed then would show nothing.
    let began = (Instant::now() + Duration::from_secs(3)).max(building.up_since + LEASE);
    eprintln!(
        "PostgreSQL and Redis are up; the run begins in {:.0} s, one lease after",
        (began - Instant::now()).as_secs_f64()
    );
    sleep_until(began - Duration::from_secs(2)).await;
    let (began, began_us) = (Instant::now() + Duration::from_secs(2), now_us() + 2_000_000);
    let until_us = began_us + i64::try_from(time.as_micros())?;
    let offer = Offer { steps_per_s: arguments.rate, until_us, seed: arguments.seed, from_us: began_us };
    let stage = building.open(offer).await?;
    sleep_until(began).await;

    let surprises = Surprises::default();
    let watching = tokio::spawn(watch(stage.clone(), began, surprises.clone()));
    let people = tokio::spawn(people::ask(stage.api_address, stage.books.clone(), arguments.seed, until_us));
    let happened = harm(&stage, began, planned).await?;
    sleep_until(began + time).await;
    let answers = people.await?;
    let open = wait_for_the_end(&stage, began).await;
    watching.abort();
    let surprises = surprises.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if !surprises.is_empty() {
        eprintln!("DEFECT: processes ended by themselves: {surprises:?}");
    }

    let mut verdict = verdict::reach(&stage.pool, &stage.books, Calendar { from_us: began_us, until_us }).await?;
    verdict.lost.extend(answers.wrong.iter().map(|(run, why)| Wrong { run: Some(*run), why: why.clone() }));
    let lost = verdict::lost_attempts(&stage.pool).await?;
    let recovery = measure(&happened, &lost, &stage.books.pages());
    #[allow(clippy::cast_precision_loss, reason = "minutes in microseconds")]
    let took_s = (verdict.last_us.unwrap_or(began_us) - began_us) as f64 / 1e6;
    tell(&verdict, &recovery, &answers, took_s, open);
    for (kind, wrong) in verdict.wrong().take(STORIES) {
        eprintln!("{kind}: {} {}", wrong.run.map(|run| run.to_string()).unwrap_or_default(), wrong.why);
        if let Some(run) = wrong.run {
            verdict::story(&stage.pool, &stage.books, run).await?.iter().for_each(|line| eprintln!("{line}"));
        }
    }
    write_stories(&stage, logs).await?;
    stage.pool.close().await;
    let line = LastLine { verdict: &verdict, recovery: &recovery, took_s }.to_string();
    Ok((line, verdict.is_good()))
}

async fn harm(stage: &Arc<Stage>, began: Instant, planned: Vec<Planned>) -> anyhow::Result<Vec<Happened>> {
    Harm::new(stage.clone(), began).all(planned).await
}

/// Processes that ended by themselves, with their status.
type Surprises = Arc<Mutex<Vec<String>>>;

/// Keeps the stories of the runs that met a fault beside the logs.
async fn write_stories(stage: &Stage, logs: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    for run in verdict::troubled(&stage.pool).await? {
        text += &format!("run {run}\n{}\n", verdict::story(&stage.pool, &stage.books, run).await?.join("\n"));
    }
    std::fs::write(logs.join("runs-that-met-a-fault.log"), text).context("writing the stories of runs")
}

/// Lines of progress; and notices processes that ended by themselves.
async fn watch(stage: Arc<Stage>, began: Instant, surprises: Surprises) {
    let mut tell_at = Instant::now();
    let mut before = (Instant::now(), 0);
    loop {
        for place in stage.places() {
            match place.look() {
                Ok(None) => {}
                Ok(Some((ended, status))) => {
                    eprintln!("[{:6.2} s] {} ended by itself: {status}", began.elapsed().as_secs_f64(), ended.node);
                    surprises.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{}: {status}", ended.node));
                }
                Err(error) => eprintln!("a process could not be looked at: {error}"),
            }
        }
        if Instant::now() >= tell_at {
            tell_at = Instant::now() + PROGRESS_EVERY;
            let (started, steps) = {
                let pages = stage.books.pages();
                (pages.started.len(), pages.steps.len())
            };
            let per_s = (steps - before.1) as f64 / before.0.elapsed().as_secs_f64().max(0.001);
            before = (Instant::now(), steps);
            eprintln!(
                "[{:6.2} s] {started} runs started, {steps} steps begun, {per_s:.0} per second",
                began.elapsed().as_secs_f64()
            );
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until every run has ended, or is stuck; how many are open.
async fn wait_for_the_end(stage: &Stage, began: Instant) -> i64 {
    let end = Instant::now() + LEASE + PATIENCE;
    eprintln!("[{:6.2} s] no more faults; waiting until every run has ended", began.elapsed().as_secs_f64());
    loop {
        let open: i64 = sqlx::query_scalar("select (select count(*) from run where state in ('queued', 'running')) + (select count(*) from tick where state in ('queued', 'firing'))")
            .fetch_one(&stage.pool)
            .await
            .unwrap_or(i64::MAX);
        if open == 0 || Instant::now() > end {
            eprintln!("[{:6.2} s] {open} runs are open", began.elapsed().as_secs_f64());
            return open;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

fn tell(verdict: &Verdict, recovery: &Recovery, answers: &Answers, took_s: f64, open: i64) {
    eprintln!(
        "{} runs, {} of them by {} ticks, {} steps in {took_s:.1} s; {open} runs open",
        verdict.runs,
        verdict.ticks as u64 * calendar::TICKERS,
        verdict.ticks,
        verdict.steps
    );
    eprintln!("attempts: {:?}; the most for one step: {}", verdict.attempts, verdict.most_attempts);
    for (said, times) in &verdict.refused {
        eprintln!("DEFECT: {times} times an attempt failed because its result was refused: {said}");
    }
    eprintln!("API: {} good answers, {} without, {} wrong", answers.good, answers.none, answers.wrong.len());
    eprintln!("recovery after a worker's SIGKILL: {} steps, ms: {:?}", recovery.clean_ms.len(), recovery.clean_ms);
    for (why, times) in &recovery.apart_ms {
        eprintln!("  apart, because {why}: {} steps, ms: {times:?}", times.len());
    }
    if !recovery.never.is_empty() {
        eprintln!("  never again: {:?}", recovery.never);
    }
}
