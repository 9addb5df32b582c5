//! How faults are done. Each runs as a task of its own, so that they overlap; what happened is noted with its times.

use crate::faults::{Break, Fault, Planned, Server};
use crate::now_us;
use crate::proxy::Weather;
use crate::stage::{Stage, Worker};
use rustix::process::Signal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long a worker that is to be killed may take to hold a step.
const WORTHWHILE: Duration = Duration::from_secs(1);

/// A fault that was done.
#[derive(Debug, Clone)]
pub struct Happened {
    /// Which.
    pub fault: Fault,
    /// When it began, in microseconds since 1970.
    pub from_us: i64,
    /// When it was over: the process wakes, the server answers again, the network is fair.
    pub to_us: i64,
    /// The process that was killed or stopped.
    pub node: Option<String>,
}

/// Does faults.
#[derive(Clone)]
pub struct Harm {
    stage: Arc<Stage>,
    began: Instant,
    happened: Arc<Mutex<Vec<Happened>>>,
}

impl Harm {
    /// Nothing done yet; `began` is the beginning of the run.
    pub fn new(stage: Arc<Stage>, began: Instant) -> Self {
        Self { stage, began, happened: Arc::default() }
    }

    /// Does everything that is planned; returns what happened when it is over.
    pub async fn all(&self, planned: Vec<Planned>) -> anyhow::Result<Vec<Happened>> {
        let mut tasks = JoinSet::new();
        for Planned { at, fault } in planned {
            let harm = self.clone();
            tasks.spawn(async move {
                tokio::time::sleep_until(harm.began + at).await;
                harm.one(fault).await
            });
        }
        while let Some(done) = tasks.join_next().await {
            done??;
        }
        let mut happened = std::mem::take(&mut *self.happened.lock().unwrap_or_else(PoisonError::into_inner));
        happened.sort_by_key(|one| one.from_us);
        Ok(happened)
    }

    async fn one(&self, fault: Fault) -> anyhow::Result<()> {
        let stage = &self.stage;
        let mut from_us = now_us();
        let mut node = None;
        match fault {
            Fault::KillWorker(n) => {
                let place = &stage.workers[n].place;
                let held = self.until_it_holds_something(&place.incarnation().node).await;
                let (killed, at_us) = place.kill_and_restart()?;
                self.say(&format!("{fault}: {} was in the middle of {held} steps", killed.node));
                (from_us, node) = (at_us, Some(killed.node));
            }
            Fault::KillScheduler(n) => {
                let (killed, at_us) = stage.schedulers[n].kill_and_restart()?;
                self.say(&format!("{fault}: {}", killed.node));
                (from_us, node) = (at_us, Some(killed.node));
            }
            Fault::KillApi => {
                let (killed, at_us) = stage.api.kill_and_restart()?;
                self.say(&format!("{fault}: {}", killed.node));
                (from_us, node) = (at_us, Some(killed.node));
            }
            Fault::StopWorker(n, time) => {
                let place = &stage.workers[n].place;
                let stopped = place.incarnation();
                place.signal(&stopped, Signal::STOP);
                self.say(&format!("{fault}: {}", stopped.node));
                tokio::time::sleep(time).await;
                // One that was killed meanwhile is not there any more.
                place.signal(&stopped, Signal::CONT);
                node = Some(stopped.node);
            }
            Fault::FlushRedis => {
                self.say(&fault.to_string());
                let url = stage.redis.lock().await.url();
                if let Err(error) = flush(&url).await {
                    self.say(&format!("Redis could not be flushed: {error}"));
                }
            }
            Fault::KillRedis(time) => {
                let mut redis = stage.redis.lock().await;
                self.say(&fault.to_string());
                from_us = now_us();
                redis.kill9();
                tokio::time::sleep(time).await;
                redis.restart().await;
                self.say("Redis answers again");
            }
            Fault::KillPostgres(time) => {
                let mut postgres = stage.postgres.lock().await;
                self.say(&fault.to_string());
                from_us = now_us();
                postgres.kill();
                tokio::time::sleep(time).await;
                postgres.restart().await?;
                self.say("PostgreSQL answers again");
            }
            Fault::KillBackend(nth) => {
                let postgres = stage.postgres.lock().await;
                self.say(&fault.to_string());
                from_us = now_us();
                postgres.kill_a_backend(nth);
                tokio::time::sleep(Duration::from_millis(100)).await;
                while sqlx::query("select 1").execute(&stage.pool).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                self.say("PostgreSQL answers again");
            }
            Fault::BreakNetwork(n, server, how, time) => {
                self.say(&fault.to_string());
                self.break_network(&stage.workers[n], server, how, time).await;
            }
            Fault::FillDisk(n, time) => {
                let disk = &stage.workers[n].disk;
                self.say(&fault.to_string());
                let end = Instant::now() + time;
                while Instant::now() < end {
                    disk.fill()?;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                disk.free()?;
            }
        }
        let happened = Happened { fault, from_us, to_us: now_us(), node };
        self.happened.lock().unwrap_or_else(PoisonError::into_inner).push(happened);
        Ok(())
    }

    async fn break_network(&self, worker: &Worker, server: Server, how: Break, time: Duration) {
        let proxy = match server {
            Server::Postgres => &worker.to_postgres,
            Server::Redis => &worker.to_redis,
        };
        proxy.set(if how == Break::Cut { Weather::Cut } else { Weather::Frozen });
        tokio::time::sleep(time).await;
        if how == Break::FreezeThenCut {
            proxy.set(Weather::Cut);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        proxy.set(Weather::Fair);
    }

    /// Waits a little until the process is in the middle of a step: killing an idle one shows nothing. How many it holds.
    async fn until_it_holds_something(&self, node: &str) -> usize {
        let end = Instant::now() + WORTHWHILE;
        loop {
            let held = self.stage.books.pages().open.get(node).copied().unwrap_or(0);
            if held > 0 || Instant::now() > end {
                return held;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// A line of progress.
    pub fn say(&self, what: &str) {
        eprintln!("[{:6.2} s] {what}", self.began.elapsed().as_secs_f64());
    }
}

async fn flush(url: &str) -> redis::RedisResult<()> {
    let client = redis::Client::open(url)?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    redis::cmd("FLUSHALL").exec_async(&mut connection).await
}
