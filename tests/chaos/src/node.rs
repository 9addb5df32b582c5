//! One process of the installation under test: a worker, a scheduler or an API, put together from the product's own parts as `retainai` does.
//! Only the step bodies are toys, and what a scheduler starts is offered at a fixed rate.

use crate::calendar::Calendar;
use crate::now_us;
use crate::toy::Toy;
use crate::wire::{Teller, Word};
use anyhow::Context;
use api::ApiState;
use chrono::{Days, NaiveDate};
use clap::{Parser, ValueEnum};
use market::{Exchange, Ticker};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use workflows::ledger::NewRun;
use workflows::plan::{Step, TICKER, priority};
use workflows::queue::RedisQueue;
use workflows::{Bodies, Cache, Db, Engine, EngineSettings, Ledger, StepBody, Stores, reconciler, scheduler};

/// The product's default: connections of one process to PostgreSQL.
const CONNECTIONS: u32 = 16;
/// The product's default: steps of one kind carried out at a time.
const SLOTS: usize = 4;
/// What everything in Redis begins with.
const PREFIX: &str = "chaos";
/// How often a scheduler offers the runs that are due.
const OFFER_EVERY: Duration = Duration::from_millis(100);
/// Runs per start.
const TOGETHER: u64 = 64;
/// How many tickers each scheduler has. Fewer than runs, so that a ticker's runs meet when there is a backlog, and wait for each other.
pub const TICKERS: u64 = 1_500;

/// What the process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Carries out steps.
    Worker,
    /// Fires schedules and starts runs at the offered rate.
    Scheduler,
    /// Answers over HTTP.
    Api,
}

/// One process of a fault run. Started by `chaos`, which kills it again.
#[derive(Debug, Parser)]
#[command(name = "chaos-node")]
pub struct Arguments {
    /// What it does.
    #[arg(long)]
    pub role: Role,
    /// Its name, new at each start.
    #[arg(long)]
    pub name: String,
    /// Where PostgreSQL is.
    #[arg(long)]
    pub database_url: String,
    /// Where Redis is.
    #[arg(long)]
    pub redis_url: String,
    /// Where the effect ledger listens.
    #[arg(long)]
    pub ledger: SocketAddr,
    /// What the sleeps of the bodies depend on.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A worker's own folder.
    #[arg(long, default_value = ".")]
    pub folder: PathBuf,
    /// A scheduler's share of the offered runs per second.
    #[arg(long, default_value_t = 0.0)]
    pub rate: f64,
    /// The run begins then, in microseconds since 1970: schedulers offer, and the market's clock goes.
    #[arg(long, default_value_t = 0)]
    pub from_us: i64,
    /// It ends then.
    #[arg(long, default_value_t = 0)]
    pub until_us: i64,
    /// The place in its sequence at which a scheduler begins; what was started without an answer is started again under the same key.
    #[arg(long, default_value_t = 0)]
    pub first: u64,
    /// Where an API listens.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
}

/// Does the work of the role until SIGTERM.
pub async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let stop = stop_on_signal()?;
    let db = Db::postgres(&arguments.database_url, CONNECTIONS)?;
    let queue = Arc::new(RedisQueue::new(&arguments.redis_url, PREFIX)?);
    let settings = EngineSettings { worker: arguments.name.clone(), ..EngineSettings::default() };
    let calendar = Calendar { from_us: arguments.from_us, until_us: arguments.until_us };
    let engine = Engine::new(Ledger::Sql(db.clone()), queue, Arc::new(calendar), settings);
    let hello = Word::Hello { node: arguments.name.clone(), pid: std::process::id(), instance: engine.instance };
    let teller = Arc::new(Teller::connect(arguments.ledger, &hello).context("the effect ledger does not answer")?);
    reachable(&db).await;

    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(reconciler::reconcile(engine.clone(), stop.clone()));
    {
        let (queue, stop) = (engine.queue.clone(), stop.clone());
        tasks.spawn(async move { queue.listen(stop).await });
    }
    let leases_stop = CancellationToken::new();
    let leases = workflows::keep_leases(&engine, leases_stop.clone())?;
    match arguments.role {
        Role::Worker => {
            let toy = Toy { teller, folder: arguments.folder.clone(), seed: arguments.seed };
            let toy: Arc<dyn StepBody> = Arc::new(toy);
            let bodies: Bodies = Step::of_the_chain().map(|step| (step, toy.clone())).collect();
            engine.clone().work(Arc::new(bodies), |_| SLOTS, stop.clone(), Duration::from_secs(5)).await;
        }
        Role::Scheduler => {
            tasks.spawn(scheduler::schedule(engine.clone(), false, stop.clone()));
            offer(&engine, &teller, &arguments, &stop).await;
            stop.cancelled().await;
        }
        Role::Api => {
            let stores = Stores { db: db.clone(), cache: Cache::redis(&arguments.redis_url, PREFIX)? };
            let app = api::app(ApiState::new(engine.clone(), stores, env!("CARGO_PKG_VERSION")));
            let listener = TcpListener::bind(arguments.listen).await.context("the API's address")?;
            api::serve(app, listener, stop.clone()).await?;
        }
    }
    while tasks.join_next().await.is_some() {}
    leases_stop.cancel();
    let _ = tokio::task::spawn_blocking(move || leases.join()).await;
    db.close().await;
    Ok(())
}

/// Waits for the database, as every role of the product does at its start.
async fn reachable(db: &Db) {
    while let Err(error) = db.read_clock().await {
        tracing::warn!(%error, "not ready yet");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Starts runs at the offered rate. What fails is tried again under the same keys until it is acknowledged.
async fn offer(engine: &Arc<Engine>, teller: &Teller, arguments: &Arguments, stop: &CancellationToken) {
    tokio::time::sleep(Duration::from_micros(u64::try_from(arguments.from_us - now_us()).unwrap_or(0))).await;
    let began = tokio::time::Instant::now();
    let mut look = tokio::time::interval(OFFER_EVERY);
    let mut next = arguments.first;
    while now_us() < arguments.until_us && !stop.is_cancelled() {
        look.tick().await;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "runs of a few minutes")]
        let due = arguments.first + (began.elapsed().as_secs_f64() * arguments.rate) as u64;
        while next < due && !stop.is_cancelled() {
            let last = due.min(next + TOGETHER);
            let runs: Vec<NewRun> = (next..last).map(|nth| new_run(engine, &arguments.name, nth)).collect();
            match engine.start(&runs).await {
                Ok(started) => {
                    for ((nth, run), started) in (next..last).zip(runs).zip(started) {
                        let key = run.idempotency_key.unwrap_or_default();
                        teller.tell(&Word::Started { key, nth, run: started.id });
                    }
                    next = last;
                }
                Err(error) => {
                    tracing::warn!(%error, "runs could not be started; trying again");
                    tokio::time::sleep(OFFER_EVERY).await;
                }
            }
        }
    }
}

/// The run of one place in the sequence of one scheduler. Its key depends on nothing else, and its id is new at each try.
fn new_run(engine: &Engine, node: &str, nth: u64) -> NewRun {
    let place = crate::books::place_of(node);
    let (ticker, session) = (ticker(Exchange::Nasdaq, place, nth % TICKERS), session(nth / TICKERS));
    NewRun {
        id: engine.new_run_id(),
        plan: &TICKER,
        subject: ticker.into(),
        session,
        schedule: None,
        backfill: None,
        priority: priority::SCHEDULED,
        offline: false,
        idempotency_key: Some(format!("chaos:{place}:{nth}")),
        repeats: None,
    }
}

/// The ticker of that number, of those that belong to one place.
pub fn ticker(exchange: Exchange, place: &str, nth: u64) -> Ticker {
    Ticker::new(exchange, &format!("{place}-{nth}")).expect("letters and digits")
}

/// The session of that number.
pub fn session(nth: u64) -> NaiveDate {
    NaiveDate::from_ymd_opt(2020, 1, 1).expect("a date") + Days::new(nth)
}

fn stop_on_signal() -> anyhow::Result<CancellationToken> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        terminate.recv().await;
        told.cancel();
    });
    Ok(stop)
}
