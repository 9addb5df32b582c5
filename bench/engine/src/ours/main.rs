//! Our engine, measured: durable steps per second, how soon a started run begins, and the rate with many runs pending. The bodies do nothing
//! but ask for one effect. What touches the engine's own interface stands in `setup`, what touches its tables in `pending`.

mod pending;
mod setup;

use bench_engine::{Window, print, random_gap, rate};
use clap::{Parser, Subcommand};
use setup::{Rig, RigSettings};
use std::time::{Duration, Instant};

#[derive(Parser)]
struct Args {
    /// `postgres://…`, or a file for the embedded store.
    #[arg(long)]
    database: String,
    /// Where messages travel; without it they stay in the process.
    #[arg(long)]
    redis: Option<String>,
    /// Steps of one kind at a time.
    #[arg(long, default_value_t = 8)]
    slots: usize,
    /// Connections to PostgreSQL.
    #[arg(long, default_value_t = 8)]
    connections: u32,
    #[command(subcommand)]
    mode: Mode,
}

#[derive(Subcommand)]
enum Mode {
    /// Steps per second of runs that were all started beforehand.
    Steps {
        #[arg(long, default_value_t = 3_000)]
        runs: usize,
        #[command(flatten)]
        window: Window,
    },
    /// From the call that starts a run to the first line of its first body, on an idle system.
    Pickup {
        #[arg(long, default_value_t = 300)]
        starts: usize,
    },
    /// Steps per second with so many runs pending; what is missing is written into the tables first.
    Pending {
        #[arg(long)]
        runs: i64,
        #[command(flatten)]
        window: Window,
    },
    /// Messages per second through our queue alone, each answered with nothing.
    Queue {
        #[arg(long, default_value_t = 3_000)]
        messages: usize,
        #[command(flatten)]
        window: Window,
    },
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    // Warnings are shown: a rate that an error bought is none. The driver's remarks on slow statements are about `pending`.
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter("warn,sqlx=error").init();
    let args = Args::parse();
    let settings = RigSettings {
        database: args.database.clone(),
        redis: args.redis,
        slots: args.slots,
        connections: args.connections,
    };
    match args.mode {
        Mode::Steps { runs, window } => {
            let mut rig = Rig::open(settings).await?;
            rig.start(runs).await?;
            rig.work()?;
            print(&rate(&window, &rig.done, runs as u64 * setup::STEPS).await);
            rig.end().await;
        }
        Mode::Pickup { starts } => {
            let mut rig = Rig::open(settings).await?;
            rig.work()?;
            tokio::time::sleep(Duration::from_secs(1)).await;
            print(&serde_json::json!({ "latencies_ms": pickup(&mut rig, starts).await? }));
            rig.end().await;
        }
        Mode::Pending { runs, window } => {
            let began = Instant::now();
            let mut rig = Rig::open(settings).await?;
            let written = pending::fill(&args.database, runs).await?;
            let fill_s = began.elapsed().as_secs_f64();
            rig.work()?;
            // A fifth stays pending, so that the last runs' ends are not measured.
            let most = u64::try_from(runs)? * setup::STEPS * 4 / 5;
            let rate = rate(&window, &rig.done, most).await;
            print(&serde_json::json!({ "rate": rate, "written": written, "fill_s": fill_s }));
            rig.end().await;
        }
        Mode::Queue { messages, window } => print(&setup::queue_alone(settings, messages, &window).await?),
    }
    Ok(())
}

async fn pickup(rig: &mut Rig, starts: usize) -> anyhow::Result<Vec<f64>> {
    let mut latencies_ms = Vec::with_capacity(starts);
    for _ in 0..starts {
        let began = Instant::now();
        let run = rig.start(1).await?[0];
        let first_body = rig.first_body_of(run).await?;
        latencies_ms.push(first_body.duration_since(began).as_secs_f64() * 1_000.0);
        // Idle again: the run's last step has committed.
        rig.last_commit_of(run).await?;
        random_gap().await;
    }
    Ok(latencies_ms)
}
