//! The queue in Redis, through apalis-redis, with the settings and glue that its defects need (numbers D1–D22 in
//! docs/decisions/0002-apalis-carries-the-ledger-remembers.md): batches of one, a poll strategy of our own that a push wakes, worker names
//! that are never reused, and finished ids deleted by us.

use super::{Deliver, QueueError};
use crate::db::without_password;
use crate::message::Message;
use crate::plan::Step;
use apalis::layers::WorkerBuilderExt;
use apalis_core::backend::ext::BackendExt;
use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy};
use apalis_core::error::WorkerError;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::data::Data;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_redis::{Config, RedisStorage, RedisTask};
use futures::StreamExt;
use futures::task::AtomicWaker;
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// The safety net; a push wakes the workers long before.
const SLOW_POLL: Duration = Duration::from_millis(500);
/// Heartbeat × missed = 8 s until apalis hands the ids of a dead worker to another. It matters for a message that was fetched and not yet
/// claimed when its worker died: its id is known, so pushing it again does nothing. A worker wrongly thought dead costs a duplicate,
/// which the claim drops.
const HEARTBEAT: Duration = Duration::from_secs(2);
const MISSED_HEARTBEATS: usize = 4;
/// redis-rs gives up after 500 ms by default, which kills an apalis worker (D12).
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest wait before a consumer whose connection broke starts again.
const RESTART_CAP: Duration = Duration::from_secs(2);

/// Queues in Redis. Clones share the connection.
#[derive(Clone)]
pub struct RedisQueue {
    client: redis::Client,
    connection: ConnectionManager,
    prefix: String,
    bells: Arc<Mutex<HashMap<String, Vec<Arc<AtomicWaker>>>>>,
}

/// A connection that is made on first use and made again whenever it breaks.
pub fn connection(url: &str) -> Result<(redis::Client, ConnectionManager), QueueError> {
    let broken = |e: redis::RedisError| QueueError::Url { url: without_password(url), why: e.to_string() };
    let client = redis::Client::open(url).map_err(broken)?;
    let config = ConnectionManagerConfig::new()
        .set_response_timeout(Some(RESPONSE_TIMEOUT))
        .set_connection_timeout(Some(Duration::from_secs(3)))
        .set_number_of_retries(2)
        .set_max_delay(Duration::from_millis(500));
    let manager = ConnectionManager::new_lazy_with_config(client.clone(), config).map_err(broken)?;
    Ok((client, manager))
}

impl RedisQueue {
    /// Queues under `prefix` (so that two installations can share a server). Must be made inside a tokio runtime.
    pub fn new(url: &str, prefix: &str) -> Result<Self, QueueError> {
        let (client, connection) = connection(url)?;
        let queue = Self { client, connection, prefix: prefix.to_owned(), bells: Arc::default() };
        Ok(queue)
    }

    /// apalis' settings for one queue.
    fn config(&self, name: &str) -> Config {
        Config::default()
            .queue(format!("{}_{name}", self.prefix))
            .batch_size(1)
            .heartbeat_interval(HEARTBEAT)
            .missed_heartbeats(MISSED_HEARTBEATS)
            .emit_events(false)
            .lock_tasks(true)
            // Without its result a task is never acknowledged and stays in flight for good; `sweep` deletes the result.
            .persist_results(true)
    }

    fn channel(&self) -> String {
        format!("{}:wake", self.prefix)
    }

    pub(super) async fn push(&self, messages: &[Message]) -> Result<(), QueueError> {
        let mut by_queue: HashMap<&str, Vec<RedisTask>> = HashMap::new();
        for message in messages {
            let body = serde_json::to_vec(message).map_err(|e| failed("encode a message")(e.to_string()))?;
            let task = TaskBuilder::new(body).task_id(TaskId::from_string(message.id())).build();
            by_queue.entry(&message.queue).or_default().push(task);
        }
        let mut connection = self.connection.clone();
        for (name, tasks) in by_queue {
            apalis_redis::queries::push_tasks(&mut connection, &self.config(name), &tasks)
                .await
                .map_err(|e| failed("take messages")(e.to_string()))?;
            // apalis' own notice never fires (D3); this one wakes the poll strategy below.
            let _: i64 = connection
                .publish(self.channel(), name)
                .await
                .map_err(|e| failed("wake the workers")(e.to_string()))?;
        }
        Ok(())
    }

    pub(super) async fn consume(
        &self,
        name: &str,
        worker: &str,
        slots: usize,
        deliver: Deliver,
        stop: CancellationToken,
    ) {
        let bell = Arc::new(AtomicWaker::new());
        lock(&self.bells).entry(name.to_owned()).or_default().push(bell.clone());
        let mut wait = Duration::from_millis(50);
        for restarts in 0u64.. {
            // A name used twice within the orphan time is refused (D13), so each start has its own.
            let worker = format!("{name}-{worker}-{}-r{restarts}", ulid::Ulid::generate());
            let storage = RedisStorage::<Message>::new(self.connection.clone()).with_config(self.config(name));
            let strategy = WakeOrTick { bell: bell.clone(), tick: None };
            let built = WorkerBuilder::new(worker)
                .backend(storage.poll_with_strategy(strategy))
                .data(Inbox { deliver: deliver.clone() })
                .concurrency(slots)
                .build(receive);
            let token = stop.clone();
            let stopped = async move {
                token.cancelled().await;
                Ok::<(), WorkerError>(())
            };
            let began = tokio::time::Instant::now();
            let ended = built.run_until(stopped).await;
            if stop.is_cancelled() {
                return;
            }
            // Any Redis error ends an apalis worker (D12); attempts that run go on in their own tasks.
            if began.elapsed() > Duration::from_secs(10) {
                wait = Duration::from_millis(50);
            }
            let error = ended.err().map(|e| e.to_string()).unwrap_or_default();
            tracing::warn!(
                queue = name,
                error,
                wait_ms = wait.as_millis(),
                "a queue consumer lost Redis and starts again"
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            wait = (wait * 2).min(RESTART_CAP);
        }
    }

    /// Listens for pushes of any process and rings the bells of their queue, until `stop`.
    pub async fn listen(&self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let heard = tokio::select! {
                heard = self.listen_once() => heard,
                () = stop.cancelled() => return,
            };
            if let Err(error) = heard {
                tracing::debug!(%error, "the wake channel broke; the slow poll carries on meanwhile");
            }
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis(500)) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn listen_once(&self) -> redis::RedisResult<()> {
        let mut pubsub = self.client.get_async_pubsub().await?;
        pubsub.subscribe(self.channel()).await?;
        let mut messages = pubsub.on_message();
        while let Some(message) = messages.next().await {
            let name: String = message.get_payload()?;
            for bell in lock(&self.bells).get(&name).into_iter().flatten() {
                bell.wake();
            }
        }
        Ok(())
    }

    /// Deletes what apalis keeps of finished ids (D15): data, metadata and the entry in the done and dead sets.
    pub(super) async fn sweep(&self) -> Result<(), QueueError> {
        let mut connection = self.connection.clone();
        for step in Step::ALL {
            for priority in [0, 1] {
                let config = self.config(&step.queue(priority));
                for set in [config.done_jobs_set(), config.dead_jobs_set()] {
                    self.sweep_set(&mut connection, &config, &set)
                        .await
                        .map_err(|e| failed("forget finished ids")(e.to_string()))?;
                }
            }
        }
        Ok(())
    }

    async fn sweep_set(
        &self,
        connection: &mut ConnectionManager,
        config: &Config,
        set: &str,
    ) -> redis::RedisResult<()> {
        loop {
            let ids: Vec<String> = redis::cmd("SRANDMEMBER").arg(set).arg(200).query_async(connection).await?;
            if ids.is_empty() {
                return Ok(());
            }
            // The set entry goes last: dying in between leaves an id that the next sweep finds again.
            let mut pipe = redis::pipe();
            pipe.cmd("HDEL").arg(config.job_data_hash()).arg(&ids).ignore();
            for id in &ids {
                pipe.del(format!("{}:{id}", config.job_meta_hash())).ignore();
            }
            pipe.cmd("SREM").arg(set).arg(&ids).ignore();
            pipe.query_async::<()>(connection).await?;
            if ids.len() < 200 {
                return Ok(());
            }
        }
    }

    /// A value that is gone after a flush or a restart without its data: then everything must be pushed again.
    pub(super) async fn incarnation(&self) -> Result<String, QueueError> {
        let mut connection = self.connection.clone();
        let key = format!("{}:incarnation", self.prefix);
        redis::pipe()
            .cmd("SET")
            .arg(&key)
            .arg(ulid::Ulid::generate().to_string())
            .arg("NX")
            .ignore()
            .get(&key)
            .query_async::<(String,)>(&mut connection)
            .await
            .map(|(value,)| value)
            .map_err(|e| failed("say which incarnation it is")(e.to_string()))
    }

    pub(super) async fn ping(&self) -> Result<(), QueueError> {
        let mut connection = self.connection.clone();
        let pong =
            tokio::time::timeout(Duration::from_secs(2), redis::cmd("PING").query_async::<String>(&mut connection))
                .await;
        match pong {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(failed("be reached")(e.to_string())),
            Err(_) => Err(failed("be reached")("no answer within 2 s".to_owned())),
        }
    }
}

#[derive(Clone)]
struct Inbox {
    deliver: Deliver,
}

async fn receive(message: Message, inbox: Data<Inbox>) {
    (inbox.deliver)(message).await;
}

/// Polls when a push rings the bell, and every `SLOW_POLL` in case a ring was missed. apalis' own interval strategy loses
/// wake-ups because it installs a new timer without polling it (D2); this one polls until the timer is pending.
struct WakeOrTick {
    bell: Arc<AtomicWaker>,
    tick: Option<Interval>,
}

impl PollStrategy for WakeOrTick {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        self.bell.register(cx.waker());
        let tick = self.tick.get_or_insert_with(|| {
            let mut tick = interval(SLOW_POLL);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick
        });
        while tick.poll_tick(cx).is_ready() {}
        Poll::Pending
    }
}

fn failed(doing: &'static str) -> impl Fn(String) -> QueueError {
    move |why| QueueError::Redis { doing, why }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
