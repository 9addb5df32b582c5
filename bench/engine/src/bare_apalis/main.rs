//! Bare apalis-redis, without ledger: what its users get when nothing has to survive. Jobs that do nothing, chains of five that each push
//! the next at their end, and the time from push to start. With the settings that serve it best; `--batch` and `--strategy` vary them.

mod wake;

use apalis::layers::WorkerBuilderExt;
use apalis_core::backend::ext::BackendExt;
use apalis_core::error::{BoxDynError, WorkerError};
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::data::Data;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_core::worker::context::WorkerContext;
use apalis_redis::{Config, RedisStorage, RedisTask};
use bench_engine::{Window, micros_since, print, random_gap, rate};
use clap::{Parser, ValueEnum};
use redis::aio::ConnectionManager;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wake::{Bell, Strategy};

#[derive(Parser)]
struct Args {
    #[arg(long)]
    redis: String,
    #[arg(value_enum)]
    mode: Mode,
    /// Chains or jobs started beforehand.
    #[arg(long, default_value_t = 20_000)]
    jobs: u64,
    /// Starts on an idle system.
    #[arg(long, default_value_t = 300)]
    starts: usize,
    #[arg(long, default_value_t = 16)]
    batch: usize,
    #[arg(long, default_value_t = 64)]
    concurrency: usize,
    /// Queues, each with a worker; the jobs are dealt out evenly.
    #[arg(long, default_value_t = 1)]
    queues: usize,
    #[arg(long, value_enum, default_value_t = Strategy::Wake)]
    strategy: Strategy,
    /// Who notes that a job is done.
    #[arg(long, value_enum, default_value_t = Ack::Both)]
    ack: Ack,
    /// How long each handler takes.
    #[arg(long, default_value_t = 0)]
    handler_ms: u64,
    #[command(flatten)]
    window: Window,
}

/// apalis writes twice per job; what each costs is seen by leaving it out.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Ack {
    /// apalis locks the job when it starts and acknowledges it when it ends: its default.
    Both,
    /// apalis only acknowledges.
    End,
    /// apalis does neither; the handler deletes what Redis holds of the job, in one pipeline.
    Own,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Mode {
    Noop,
    Chain,
    Pickup,
}

/// Length of a chain: as many as the ticker plan has steps.
const STEPS: u64 = 5;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    run: u64,
    step: u64,
    sent_us: u64,
}

/// What the handlers see.
#[derive(Clone)]
struct Floor {
    lanes: Arc<Vec<Lane>>,
    began: Instant,
    done: Arc<AtomicU64>,
    chain: bool,
    own_ack: bool,
    handler: Duration,
    picked_up: mpsc::UnboundedSender<u64>,
}

#[derive(Clone)]
struct Lane {
    config: Config,
    connection: ConnectionManager,
}

impl Lane {
    async fn push(&self, jobs: &[Job]) -> Result<(), BoxDynError> {
        let tasks: Vec<RedisTask> = jobs
            .iter()
            .map(|job| Ok(TaskBuilder::new(serde_json::to_vec(job)?).build()))
            .collect::<Result<_, serde_json::Error>>()?;
        let mut connection = self.connection.clone();
        apalis_redis::queries::push_tasks(&mut connection, &self.config, &tasks).await?;
        Ok(())
    }

    /// apalis moves everything due in one script call, which fails at 8,000 ids: so it is moved here, before anything is measured.
    async fn promote(&self) -> Result<(), BoxDynError> {
        const MOVE: &str = "local ids = redis.call('zrange', KEYS[1], 0, -1) \
             if #ids > 0 then redis.call('rpush', KEYS[2], unpack(ids)) redis.call('del', KEYS[1]) end";
        let script = redis::Script::new(MOVE);
        let mut connection = self.connection.clone();
        let _: () = script
            .key(self.config.scheduled_jobs_set())
            .key(self.config.active_jobs_list())
            .invoke_async(&mut connection)
            .await?;
        Ok(())
    }
}

async fn handle(job: Job, id: TaskId, worker: WorkerContext, floor: Data<Floor>) -> Result<(), BoxDynError> {
    let _ = floor.picked_up.send(micros_since(floor.began).saturating_sub(job.sent_us));
    if !floor.handler.is_zero() {
        tokio::time::sleep(floor.handler).await;
    }
    if floor.chain && job.step < STEPS {
        let lane = &floor.lanes[usize::try_from(job.run)? % floor.lanes.len()];
        lane.push(&[Job { step: job.step + 1, ..job }]).await?;
    }
    if floor.own_ack {
        forget(&floor.lanes[usize::try_from(job.run)? % floor.lanes.len()], &id, &worker).await?;
    }
    floor.done.fetch_add(1, Ordering::Relaxed);
    Ok(())
}

async fn forget(lane: &Lane, id: &TaskId, worker: &WorkerContext) -> redis::RedisResult<()> {
    let mut connection = lane.connection.clone();
    redis::pipe()
        .srem(lane.config.inflight_set_for(worker), id.to_string())
        .ignore()
        .hdel(lane.config.job_data_hash(), id.to_string())
        .ignore()
        .del(format!("{}:{id}", lane.config.job_meta_hash()))
        .ignore()
        .query_async(&mut connection)
        .await
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let client = redis::Client::open(args.redis.as_str())?;
    let connection = ConnectionManager::new(client.clone()).await?;
    let lanes: Vec<Lane> =
        (0..args.queues).map(|n| Lane { config: config(&args, n), connection: connection.clone() }).collect();
    let (picked_up, mut pickups) = mpsc::unbounded_channel();
    let floor = Floor {
        lanes: Arc::new(lanes),
        began: Instant::now(),
        done: Arc::default(),
        chain: args.mode == Mode::Chain,
        own_ack: args.ack == Ack::Own,
        handler: Duration::from_millis(args.handler_ms),
        picked_up,
    };
    let said = |e: BoxDynError| anyhow::anyhow!("{e}");
    if args.mode != Mode::Pickup {
        enqueue(&floor, args.jobs).await.map_err(said)?;
    }
    let stop = CancellationToken::new();
    let bell = Bell::default();
    tokio::spawn(bell.clone().listen(client, stop.clone()));
    for (n, lane) in floor.lanes.iter().enumerate() {
        tokio::spawn(work(n, lane.clone(), floor.clone(), args.concurrency, args.strategy, bell.clone(), stop.clone()));
    }
    if args.mode == Mode::Pickup {
        tokio::time::sleep(Duration::from_secs(1)).await;
        let mut latencies_ms = Vec::with_capacity(args.starts);
        for run in 0..args.starts as u64 {
            floor.lanes[0].push(&[Job { run, step: 1, sent_us: micros_since(floor.began) }]).await.map_err(said)?;
            bell.publish(&mut connection.clone()).await?;
            latencies_ms.push(pickups.recv().await.unwrap_or_default() as f64 / 1000.0);
            random_gap().await;
        }
        print(&serde_json::json!({ "latencies_ms": latencies_ms }));
    } else {
        let total = args.jobs * if floor.chain { STEPS } else { 1 };
        print(&rate(&args.window, &floor.done, total).await);
    }
    stop.cancel();
    Ok(())
}

fn config(args: &Args, n: usize) -> Config {
    Config::default()
        .queue(format!("bare{n}"))
        .batch_size(args.batch)
        .heartbeat_interval(Duration::from_secs(2))
        .emit_events(false)
        .lock_tasks(args.ack == Ack::Both)
        .persist_results(args.ack != Ack::Own)
}

async fn enqueue(floor: &Floor, jobs: u64) -> Result<(), BoxDynError> {
    let all: Vec<Job> = (0..jobs).map(|run| Job { run, step: 1, sent_us: 0 }).collect();
    for (n, lane) in floor.lanes.iter().enumerate() {
        let ours: Vec<Job> = all.iter().filter(|job| job.run as usize % floor.lanes.len() == n).cloned().collect();
        for slice in ours.chunks(1_000) {
            lane.push(slice).await?;
            lane.promote().await?;
        }
    }
    Ok(())
}

async fn work(
    n: usize,
    lane: Lane,
    floor: Floor,
    concurrency: usize,
    strategy: Strategy,
    bell: Bell,
    stop: CancellationToken,
) {
    let storage = RedisStorage::<Job>::new(lane.connection).with_config(lane.config);
    let worker = WorkerBuilder::new(format!("bare-{n}"))
        .backend(storage.poll_with_strategy(bell.strategy(strategy)))
        .data(floor)
        .concurrency(concurrency)
        .build(handle);
    let stopped = async move {
        stop.cancelled().await;
        Ok::<(), WorkerError>(())
    };
    if let Err(error) = worker.run_until(stopped).await {
        eprintln!("a worker ended: {error}");
    }
}
