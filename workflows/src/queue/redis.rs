//! The queue in Redis, through apalis-redis, with the settings and glue that its defects need (numbers D1–D22 in
//! docs/decisions/0002-apalis-carries-the-ledger-remembers.md): batches of one, a poll strategy of our own that a push wakes, worker names
//! that are never reused, and finished ids deleted by us.

use super::connection::{RedisServer, address, connection};
use super::poison::{Delivered, Poison, Strikes, Wire};
use super::{Deliver, Queue, QueueError, ServerCheckError};
use crate::message::Message;
use crate::plan::Step;
use crate::unreached::Unreached;
use apalis::layers::WorkerBuilderExt;
use apalis_core::backend::ext::BackendExt;
use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy};
use apalis_core::error::WorkerError;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::data::Data;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::builder::WorkerBuilder;
use apalis_redis::{Config, RedisStorage, RedisTask};
use async_trait::async_trait;
use futures::StreamExt;
use futures::task::AtomicWaker;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The safety net; a push wakes the workers long before.
const SLOW_POLL: Duration = Duration::from_millis(500);
/// Heartbeat × missed = 8 s until apalis hands the ids of a dead worker to another. It matters for a message that was fetched and not yet
/// claimed when its worker died: its id is known, so pushing it again does nothing. A worker wrongly thought dead costs a duplicate,
/// which the claim drops.
const HEARTBEAT: Duration = Duration::from_secs(2);
const MISSED_HEARTBEATS: usize = 4;
/// The longest wait before a consumer whose connection broke starts again.
const RESTART_CAP: Duration = Duration::from_secs(2);

/// Queues in Redis. Clones share the connection.
#[derive(Clone)]
pub struct RedisQueue {
    client: redis::Client,
    pub(super) connection: ConnectionManager,
    /// Host and port, for messages.
    pub(super) at: String,
    pub(super) prefix: String,
    /// Whose queues these are; set by the check at the start of a role.
    pub(super) installation: Arc<OnceLock<Uuid>>,
    pub(super) strikes: Arc<Strikes>,
    bells: Arc<Mutex<HashMap<String, Vec<Arc<AtomicWaker>>>>>,
}

impl RedisQueue {
    /// Queues under `prefix` (so that two installations can share a server). Must be made inside a tokio runtime.
    pub fn new<'a>(server: impl Into<RedisServer<'a>>, prefix: &str) -> Result<Self, QueueError> {
        let (client, connection) = connection(server)?;
        Ok(Self {
            at: address(&client),
            client,
            connection,
            prefix: prefix.to_owned(),
            installation: Arc::default(),
            strikes: Arc::default(),
            bells: Arc::default(),
        })
    }

    /// apalis' settings for one queue.
    pub(super) fn config(&self, name: &str) -> Config {
        Config::default()
            .queue(format!("{}_{name}", self.prefix))
            .batch_size(1)
            .heartbeat_interval(HEARTBEAT)
            .missed_heartbeats(MISSED_HEARTBEATS)
            .emit_events(false)
            // apalis' lock is for display and costs a scan of the queue; the ledger is our lock.
            .lock_tasks(false)
            // Without its result a task is never acknowledged and stays in flight for good; `sweep` deletes the result.
            .persist_results(true)
    }

    fn channel(&self) -> String {
        format!("{}:wake", self.prefix)
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

    pub(super) fn incarnation_key(&self) -> String {
        format!("{}:incarnation", self.prefix)
    }

    fn said(&self, doing: &'static str, why: String, cause: Option<Unreached>) -> QueueError {
        QueueError::Redis { at: self.at.clone(), doing, why, cause }
    }
}

#[async_trait]
impl Queue for RedisQueue {
    async fn push(&self, messages: &[Message]) -> Result<(), QueueError> {
        let mut by_queue: HashMap<&str, Vec<RedisTask>> = HashMap::new();
        for message in messages {
            let body = serde_json::to_vec(message).map_err(|e| self.said("take a message", e.to_string(), None))?;
            let task = TaskBuilder::new(body).task_id(TaskId::from_string(message.id())).build();
            by_queue.entry(&message.queue).or_default().push(task);
        }
        let mut connection = self.connection.clone();
        for (name, tasks) in by_queue {
            if let Err(error) = apalis_redis::queries::push_tasks(&mut connection, &self.config(name), &tasks).await {
                self.strike(name, &error.to_string()).await;
                return Err(match error {
                    apalis_redis::Error::Database(error) => self.failed("take messages")(error),
                    other => self.said("take messages", other.to_string(), None),
                });
            }
            // apalis' own notice never fires (D3); this one wakes the poll strategy below.
            let _: i64 = connection.publish(self.channel(), name).await.map_err(self.failed("wake the workers"))?;
        }
        Ok(())
    }

    async fn consume(&self, name: &str, worker: &str, deliver: Deliver, stop: CancellationToken) {
        let bell = Arc::new(AtomicWaker::new());
        lock(&self.bells).entry(name.to_owned()).or_default().push(bell.clone());
        let mut wait = Duration::from_millis(50);
        for restarts in 0u64.. {
            // A name used twice within the orphan time is refused (D13), so each start has its own.
            let worker = format!("{name}-{worker}-{}-r{restarts}", ulid::Ulid::generate());
            let storage = RedisStorage::<Delivered>::new(self.connection.clone()).with_config(self.config(name));
            let strategy = WakeOrTick { bell: bell.clone(), tick: None };
            let built = WorkerBuilder::new(worker.clone())
                .backend(storage.with_codec(Wire).poll_with_strategy(strategy))
                .data(Inbox { deliver: deliver.clone(), queue: self.clone(), name: name.to_owned() })
                .concurrency(1)
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
            if self.mend(name, &worker, &error).await {
                wait = Duration::from_millis(50);
            }
            tracing::warn!(
                queue = name,
                error,
                wait_ms = wait.as_millis(),
                "a queue consumer broke off and starts again"
            );
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => return,
            }
            wait = (wait * 2).min(RESTART_CAP);
        }
    }

    /// Listens for pushes of any process and rings the bells of their queue, until `stop`.
    async fn listen(&self, stop: CancellationToken) {
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

    /// Deletes what apalis keeps of finished ids (D15): data, metadata and the entry in the done and dead sets.
    async fn sweep(&self) -> Result<(), QueueError> {
        let mut connection = self.connection.clone();
        for (_, queue) in Step::queues() {
            let config = self.config(&queue);
            for set in [config.done_jobs_set(), config.dead_jobs_set()] {
                if let Err(error) = self.sweep_set(&mut connection, &config, &set).await {
                    self.strike(&queue, &error.to_string()).await;
                    return Err(self.failed("forget finished ids")(error));
                }
            }
        }
        Ok(())
    }

    /// A value that is gone after a flush or a restart without its data: then everything must be pushed again, and the prefix taken again.
    async fn incarnation(&self) -> Result<String, QueueError> {
        match self.hold_prefix().await {
            Ok(()) => {}
            Err(ServerCheckError::Queue(error)) => return Err(error),
            Err(refusal) => return Err(self.said("be used", refusal.to_string(), None)),
        }
        let mut connection = self.connection.clone();
        let key = self.incarnation_key();
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
            .map_err(self.failed("say which incarnation it is"))
    }

    async fn ping(&self) -> Result<(), QueueError> {
        let mut connection = self.connection.clone();
        let pong =
            tokio::time::timeout(Duration::from_secs(2), redis::cmd("PING").query_async::<String>(&mut connection))
                .await;
        match pong {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(e)) => Err(self.failed("be reached")(e)),
            Err(_) => Err(self.said("be reached", "no answer within 2 s".to_owned(), Some(Unreached::Silent))),
        }
    }

    async fn check(&self, installation: Uuid) -> Result<(), ServerCheckError> {
        self.check_server(installation).await
    }
}

#[derive(Clone)]
struct Inbox {
    deliver: Deliver,
    queue: RedisQueue,
    name: String,
}

/// Whatever was delivered is acknowledged, and its id forgotten by the next sweep.
async fn receive(delivered: Delivered, id: TaskId, inbox: Data<Inbox>) {
    match delivered {
        Delivered::Message(message) => (inbox.deliver)(message).await,
        Delivered::Poison(payload) => {
            let (id, why) = (id.to_string(), "its payload is no message");
            let poison = Poison { id: id.as_bytes(), payload: Some(&payload), why };
            inbox.queue.keep_poison(&inbox.name, &poison).await;
        }
    }
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

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
