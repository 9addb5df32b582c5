//! Everything that knows how our engine is put together: opening it, starting runs, working, listening to what its bodies see. When the
//! engine's interface changes, this file follows, and no other but `pending` (its tables).

use anyhow::Context;
use async_trait::async_trait;
use bench_engine::{Rate, Window, rate};
use market::{Exchange, Ticker};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workflows::clock::SystemClock;
use workflows::engine::Bodies;
use workflows::message::Message;
use workflows::plan::{Step, TICKER};
use workflows::queue::{Deliver, MemoryQueue, RedisQueue};
use workflows::reconciler::reconcile;
use workflows::{Attempt, Db, Effect, Engine, EngineSettings, Ledger, Queue, Report, StepBody, keep_leases};

/// Steps of a run.
pub const STEPS: u64 = TICKER.steps.len() as u64;

pub struct RigSettings {
    pub database: String,
    pub redis: Option<String>,
    pub slots: usize,
    pub connections: u32,
}

/// One process with every role that carries out steps.
pub struct Rig {
    engine: Arc<Engine>,
    db: Db,
    settings: RigSettings,
    queue: Arc<dyn Queue>,
    /// Steps whose completion has committed.
    pub done: Arc<AtomicU64>,
    started: AtomicUsize,
    bodies: Arc<dyn StepBody>,
    sightings: UnboundedReceiver<Sighting>,
    stop: CancellationToken,
    motion: tokio::task::JoinSet<()>,
}

enum Sighting {
    FirstBody(Uuid, Instant),
    LastCommit(Uuid),
}

/// A body that does nothing but ask for one effect.
struct Nothing {
    done: Arc<AtomicU64>,
    sightings: UnboundedSender<Sighting>,
}

#[async_trait]
impl StepBody for Nothing {
    async fn run(&self, attempt: &Attempt) -> Report {
        if attempt.claim.step == TICKER.steps[0].step {
            let _ = self.sightings.send(Sighting::FirstBody(attempt.claim.run, Instant::now()));
        }
        Report::done("done", vec![Effect::Remark("measured".to_owned())])
    }

    async fn committed(&self, attempt: &Attempt) {
        self.done.fetch_add(1, Ordering::Relaxed);
        if Some(attempt.claim.step) == TICKER.closing() {
            let _ = self.sightings.send(Sighting::LastCommit(attempt.claim.run));
        }
    }
}

impl Rig {
    /// Opens the stores and brings their tables up to date.
    pub async fn open(settings: RigSettings) -> anyhow::Result<Self> {
        let db = match settings.database.starts_with("postgres") {
            true => Db::postgres(&settings.database, settings.connections)?,
            false => Db::sqlite(Path::new(&settings.database)).await?,
        };
        db.migrate().await?;
        let queue = queue(&settings)?;
        let engine = Engine::new(
            Ledger::Sql(db.clone()),
            queue.clone(),
            Arc::new(SystemClock),
            EngineSettings { worker: "bench".to_owned(), ..EngineSettings::default() },
        );
        let (done, (sender, sightings)) = (Arc::new(AtomicU64::new(0)), unbounded_channel());
        let bodies = Arc::new(Nothing { done: done.clone(), sightings: sender });
        let stop = CancellationToken::new();
        Ok(Self {
            engine,
            db,
            settings,
            queue,
            done,
            started: AtomicUsize::new(0),
            bodies,
            sightings,
            stop,
            motion: tokio::task::JoinSet::new(),
        })
    }

    /// Starts runs as a person would: one call, a transaction each thousand.
    pub async fn start(&self, count: usize) -> anyhow::Result<Vec<Uuid>> {
        let first = self.started.fetch_add(count, Ordering::Relaxed);
        let session = "2024-03-05".parse().context("a date")?;
        let runs: Vec<_> = (first..first + count)
            .map(|n| {
                let ticker = Ticker::new(Exchange::Nasdaq, &format!("T{n}"))?;
                Ok(self.engine.manual_run(ticker, session, true, None))
            })
            .collect::<anyhow::Result<_>>()?;
        let mut ids = Vec::with_capacity(count);
        for chunk in runs.chunks(1_000) {
            ids.extend(self.engine.start(chunk).await?.into_iter().map(|started| started.id));
        }
        Ok(ids)
    }

    /// Sets the worker, the reconciler, the lease thread and the wake-up in motion.
    pub fn work(&mut self) -> anyhow::Result<()> {
        let bodies: Arc<Bodies> = Arc::new(Step::of_the_chain().map(|step| (step, self.bodies.clone())).collect());
        let slots = self.settings.slots;
        let working = self.engine.clone().work(bodies, move |_| slots, self.stop.clone(), Duration::from_secs(10));
        self.motion.spawn(working);
        self.motion.spawn(reconcile(self.engine.clone(), self.stop.clone()));
        listen(&self.queue, &self.stop);
        keep_leases(&self.engine, self.stop.clone())?;
        Ok(())
    }

    /// When the run's first body began.
    pub async fn first_body_of(&mut self, run: Uuid) -> anyhow::Result<Instant> {
        loop {
            if let Sighting::FirstBody(_, at) = self.next(run).await? {
                return Ok(at);
            }
        }
    }

    /// Resolves when the run's last step has committed.
    pub async fn last_commit_of(&mut self, run: Uuid) -> anyhow::Result<()> {
        while !matches!(self.next(run).await?, Sighting::LastCommit(_)) {}
        Ok(())
    }

    async fn next(&mut self, of: Uuid) -> anyhow::Result<Sighting> {
        loop {
            let seen = tokio::time::timeout(Duration::from_secs(30), self.sightings.recv()).await;
            match seen.context("nothing happened for 30 s")?.context("the engine is gone")? {
                Sighting::FirstBody(run, at) if run == of => return Ok(Sighting::FirstBody(run, at)),
                Sighting::LastCommit(run) if run == of => return Ok(Sighting::LastCommit(run)),
                _ => {}
            }
        }
    }

    /// Lets the steps in hand finish, so that the next measurement on this database finds none of them held.
    pub async fn end(self) {
        self.stop.cancel();
        self.motion.join_all().await;
        self.db.close().await;
    }
}

fn queue(settings: &RigSettings) -> anyhow::Result<Arc<dyn Queue>> {
    Ok(match &settings.redis {
        Some(url) => Arc::new(RedisQueue::new(url, "bench")?),
        None => Arc::new(MemoryQueue::default()),
    })
}

fn listen(queue: &Arc<dyn Queue>, stop: &CancellationToken) {
    let (queue, stop) = (queue.clone(), stop.clone());
    tokio::spawn(async move { queue.listen(stop).await });
}

/// Our queue without a ledger behind it: what the carrier alone can do.
pub async fn queue_alone(settings: RigSettings, messages: usize, window: &Window) -> anyhow::Result<Rate> {
    let (queue, stop) = (queue(&settings)?, CancellationToken::new());
    let name = Step::Scrape.queue(0);
    let all: Vec<Message> = (0..messages)
        .map(|_| Message { run: Uuid::new_v4(), step: Step::Scrape, generation: 1, queue: name.clone() })
        .collect();
    for chunk in all.chunks(500) {
        queue.push(chunk).await?;
    }
    let done = Arc::new(AtomicU64::new(0));
    let counted = done.clone();
    let deliver: Deliver = Arc::new(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async {})
    });
    listen(&queue, &stop);
    let (consumer, token) = (queue.clone(), stop.clone());
    tokio::spawn(async move { consumer.consume(&name, "bench", deliver, token).await });
    let rate = rate(window, &done, messages as u64).await;
    stop.cancel();
    Ok(rate)
}
