//! The queue: carries "this step is ready" to whoever may do it. Redis through apalis-redis in production, apalis' memory backend in
//! the embedded default. The only room that knows apalis; disposable by design, for the ledger can refill it at any time.

mod memory;
mod redis;

use crate::message::Message;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

pub use memory::MemoryQueue;
pub use redis::{RedisQueue, connection};

/// A log filter that leaves out what the carrier's library says of every worker.
pub const QUIET: &str = "apalis_core=warn";

/// What is done with a delivered message. It never fails: whatever goes wrong is written to the ledger.
pub type Deliver = Arc<dyn Fn(Message) -> BoxFuture<'static, ()> + Send + Sync>;

/// The queue could not be reached; the ledger will try again.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Redis refused, or did not answer.
    #[error("the queue in Redis could not {doing}: {why}")]
    Redis {
        /// What was attempted.
        doing: &'static str,
        /// What was said.
        why: String,
    },
    /// The URL cannot be used.
    #[error("`{url}` is no Redis URL: {why}. Use redis://host:port/db or rediss://user:password@host:port/db")]
    Url {
        /// Without its password.
        url: String,
        /// Why.
        why: String,
    },
}

/// Either carrier. One per process, so its size does not matter.
#[allow(clippy::large_enum_variant, reason = "one value per process")]
#[derive(Clone)]
pub enum Queue {
    /// Inside this process.
    Memory(MemoryQueue),
    /// Shared by all processes.
    Redis(RedisQueue),
}

impl Queue {
    /// Pushes messages. One whose id is still known is a no-op, so pushing twice is pushing once.
    pub async fn push(&self, messages: &[Message]) -> Result<(), QueueError> {
        match self {
            Queue::Memory(queue) => {
                queue.push(messages);
                Ok(())
            }
            Queue::Redis(queue) => queue.push(messages).await,
        }
    }

    /// Takes messages from `name` and delivers them, `slots` at a time, until `stop`. Survives every failure of the carrier.
    pub async fn consume(&self, name: &str, worker: &str, slots: usize, deliver: Deliver, stop: CancellationToken) {
        match self {
            Queue::Memory(queue) => queue.consume(name, worker, slots, deliver, stop).await,
            Queue::Redis(queue) => queue.consume(name, worker, slots, deliver, stop).await,
        }
    }

    /// Forgets ids that are finished, so that the carrier does not grow.
    pub async fn sweep(&self) -> Result<(), QueueError> {
        match self {
            Queue::Memory(_) => Ok(()),
            Queue::Redis(queue) => queue.sweep().await,
        }
    }

    /// A token that changes when the carrier has lost what it held: everything outstanding must then be pushed again.
    pub async fn incarnation(&self) -> Result<String, QueueError> {
        match self {
            Queue::Memory(_) => Ok(String::new()),
            Queue::Redis(queue) => queue.incarnation().await,
        }
    }

    /// Whether it answers.
    pub async fn ping(&self) -> Result<(), QueueError> {
        match self {
            Queue::Memory(_) => Ok(()),
            Queue::Redis(queue) => queue.ping().await,
        }
    }
}
