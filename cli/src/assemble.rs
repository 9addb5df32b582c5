//! Puts the parts together: settings in, an engine over open stores out, and the work of a role started and stopped.

use crate::data_folder::DataFolder;
use crate::settings::Settings;
use anyhow::Context;
use api::{ConfiguredSource, Politeness};
use market::Exchange;
use metrics_exporter_prometheus::PrometheusHandle;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use workers::RemoteClock;
use workers::compute::ComputePool;
use workers::steps::Workshop;
use workflows::clock::{MarketClock, SystemClock};
use workflows::exchange_duties::{Seen, look_after, look_after_exchanges};
use workflows::flow::{Flow, FlowSettings};
use workflows::history::sweep::keep_house;
use workflows::ledger::{self, Abandoned};
use workflows::listing_duties::look_after_listings;
use workflows::plan::Step;
use workflows::queue::{MemoryQueue, RedisQueue, ServerCheckError};
use workflows::{Cache, Db, Engine, EngineSettings, History, Ledger, Queue, Stores, reconciler, scheduler};

/// An engine and what must live as long as it.
pub struct Assembled {
    /// The engine.
    pub engine: Arc<Engine>,
    /// Archive, registry and cache.
    pub stores: Stores,
    /// How fast the sources may be asked.
    pub flow: Flow,
    /// Renders `/metrics`.
    pub metrics: Option<PrometheusHandle>,
    /// The data folder, when the store is embedded.
    pub folder: Option<DataFolder>,
}

/// How long the market clock may take to answer at start.
const CLOCK_PATIENCE: Duration = Duration::from_secs(30);

/// Opens the stores. PostgreSQL and Redis are reached on first use, so that a server that is down delays the work and not the start.
pub async fn assemble(
    settings: &Settings,
    folder: Option<DataFolder>,
    metrics: Option<PrometheusHandle>,
    stop: &CancellationToken,
) -> anyhow::Result<Assembled> {
    let (db, queue, cache): (_, Arc<dyn Queue>, _) = match (&settings.database_url, settings.redis()) {
        (Some(database), Some(redis)) => {
            let db = Db::postgres(database, settings.database_connections)?;
            let queue = Arc::new(RedisQueue::new(redis, &settings.redis_prefix)?);
            (db, queue, Cache::redis(settings.cache_redis().unwrap_or(redis), &settings.redis_prefix)?)
        }
        _ => {
            let folder = folder.as_ref().context("the embedded store needs its data folder")?;
            let db = Db::sqlite(&folder.database()).await?;
            db.migrate().await?;
            (db, Arc::new(MemoryQueue::default()), Cache::memory())
        }
    };
    let clock = market_clock(settings, stop).await?;
    let engine_settings = EngineSettings {
        lease: settings.lease,
        reconcile_every: settings.reconcile_every,
        resend_after: settings.resend_after,
        worker: worker_name(),
        start_jitter: settings.schedule_jitter,
        hold: settings.hold,
        ..EngineSettings::default()
    };
    let engine = Engine::new(Ledger::Sql(db.clone()), queue, clock, engine_settings);
    if settings.is_embedded() {
        // Only this process may open the file: what an earlier one held when it died is taken back at once, without waiting for leases.
        while reconciler::reclaim(&engine, Abandoned::NotOf(engine.instance)).await? > 0 {}
        history(settings, &engine).begin_alone().await?;
    }
    let flow = flow(settings, &engine)?;
    Ok(Assembled { engine, stores: Stores { db, cache }, flow, metrics, folder })
}

async fn market_clock(settings: &Settings, stop: &CancellationToken) -> anyhow::Result<Arc<dyn MarketClock>> {
    let Some(url) = &settings.market_clock_url else { return Ok(Arc::new(SystemClock)) };
    let client = crate::client::http_client(Duration::from_secs(5))?;
    let began = tokio::time::Instant::now();
    loop {
        match RemoteClock::follow(client.clone(), url.clone(), stop.clone()).await {
            Ok(clock) => return Ok(Arc::new(clock)),
            Err(error) if began.elapsed() < CLOCK_PATIENCE => {
                tracing::warn!(%error, "waiting for the market clock");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Which parts of the work a role does. Every role reconciles.
#[derive(Debug, Clone, Default)]
pub struct Work {
    /// The steps it carries out.
    pub steps: Vec<Step>,
    /// Whether it fires schedules, and puts old runs away.
    pub schedules: bool,
    /// Whether it applies migrations; others wait for them.
    pub migrates: bool,
}

/// Does the work of a role until `stop`; returns when what ran is done or handed back.
pub async fn work(
    engine: Arc<Engine>,
    stores: Stores,
    flow: Flow,
    settings: Settings,
    work: Work,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    tokio::select! {
        prepared = prepare(&engine, &stores.db, &settings, &work) => prepared?,
        () = stop.cancelled() => return Ok(()),
    }
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(reconciler::reconcile(engine.clone(), stop.clone()));
    {
        let (queue, stop) = (engine.queue.clone(), stop.clone());
        tasks.spawn(async move { queue.listen(stop).await });
    }
    if work.schedules {
        tasks.spawn(scheduler::schedule(engine.clone(), settings.offline, stop.clone()));
        tasks.spawn(look_after_exchanges(engine.clone(), settings.offline, stop.clone()));
        let universes = settings.universes.clone();
        tasks.spawn(look_after_listings(engine.clone(), universes, settings.offline, stop.clone()));
        if settings.history_dir.is_some() {
            tasks.spawn(keep_house(engine.clone(), history(&settings, &engine), stop.clone()));
        }
    }
    // Leases are kept until the very end, so that a step that finishes during the grace time is not taken away.
    let leases_stop = CancellationToken::new();
    let leases = workflows::keep_leases(&engine, leases_stop.clone())?;
    if work.steps.is_empty() {
        stop.cancelled().await;
    } else {
        let db = stores.db.clone();
        let workshop = Arc::new(Workshop {
            engine: engine.clone(),
            stores,
            sources: workers::sources::build(&settings.sources, flow, Some(db))?,
            compute: ComputePool::new(settings.cores),
            offline: settings.offline,
            history_days: settings.history_days,
            finetune_every: settings.finetune_every,
            kernel: settings.kernel,
            globals: workers::steps::Globals::default(),
        });
        let bodies = Arc::new(workers::steps::bodies(&workshop, &work.steps));
        // A command on the embedded store has no scheduler beside it: what its runs need of their exchanges is begun before the first step.
        if !work.schedules && settings.is_embedded() {
            look_after(&engine, settings.offline, &mut Seen::default()).await?;
        }
        let slots = settings.slots;
        engine.clone().work(bodies, |_| slots, stop, settings.grace).await;
    }
    while tasks.join_next().await.is_some() {}
    leases_stop.cancel();
    let _ = tokio::task::spawn_blocking(move || leases.join()).await;
    Ok(())
}

/// The sources as set, for people to see.
pub fn politeness(settings: &Settings, flow: &Flow) -> Politeness {
    let of = |exchange| {
        let hosts = settings.sources.hosts(exchange).into_iter();
        hosts.map(move |(id, host)| ConfiguredSource { id: id.to_owned(), exchange, host })
    };
    let sources = Exchange::ALL.into_iter().flat_map(of).collect();
    Politeness { sources, limit: Some(settings.sources.limit), flow: Some(flow.clone()) }
}

/// Where old runs go.
pub fn history(settings: &Settings, engine: &Engine) -> History {
    History::new(engine.ledger.clone(), settings.history_dir.clone(), settings.keep, engine.settings.chance.clone())
}

/// One flow control towards the sources for all processes that share a Redis; this process' own without one.
fn flow(settings: &Settings, engine: &Engine) -> anyhow::Result<Flow> {
    Ok(match &settings.redis_url {
        Some(url) => Flow::redis(url, &settings.redis_prefix, FlowSettings::default(), engine.ledger.now())?,
        None => Flow::memory(engine.ledger.now()),
    })
}

/// Waits for the database and its schema, then makes tickers and schedules known.
async fn prepare(engine: &Engine, db: &Db, settings: &Settings, work: &Work) -> anyhow::Result<()> {
    let mut wait = Duration::from_millis(200);
    let database = settings.database_url.as_deref().map(workflows::db::without_password);
    loop {
        match prepare_once(engine, db, settings, work).await {
            Ok(()) => return Ok(()),
            // Somebody must change a setting first: trying again would answer the same.
            Err(error) if error.downcast_ref::<ServerCheckError>().is_some_and(ServerCheckError::is_refusal) => {
                return Err(error);
            }
            Err(error) => tracing::warn!(%error, database, retry_in_ms = wait.as_millis(), "not ready yet"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(10));
    }
}

async fn prepare_once(engine: &Engine, db: &Db, settings: &Settings, work: &Work) -> anyhow::Result<()> {
    db.read_clock().await?;
    if work.migrates {
        db.migrate().await?;
        // Before the first run is written, so that none of it stays in the partition for what belongs nowhere.
        ledger::ensure_partitions(db, db.now()).await?;
    }
    let missing = db.missing_migrations().await?;
    anyhow::ensure!(missing == 0, "the database lacks {missing} migrations: run `retainai migrate`");
    engine.queue.check(db.installation().await?).await?;
    if work.schedules {
        let mut named = settings.tickers.clone();
        named.extend(settings.universes.nasdaq.named(Exchange::Nasdaq));
        named.extend(settings.universes.nepse.named(Exchange::Nepse));
        workflows::stores::tickers::add(db, &named, db.now()).await?;
        for schedule in &scheduler::default_schedules() {
            engine.ledger.add_schedule(schedule).await?;
        }
    }
    Ok(())
}

/// Host and process: what an operator needs to find the worker of an attempt.
fn worker_name() -> String {
    let host = std::fs::read_to_string("/etc/hostname").unwrap_or_default();
    let host = host.trim();
    format!("{}-{}", if host.is_empty() { "localhost" } else { host }, std::process::id())
}
