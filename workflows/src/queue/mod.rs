//! The queue: carries "this step is ready" to whoever may do it. Redis through apalis-redis in production, apalis' memory backend in
//! the embedded default. The only room that knows apalis; disposable by design, for the ledger can refill it at any time.

mod connection;
mod memory;
mod poison;
mod redis;
pub mod server_check;

use crate::message::Message;
use crate::unreached::{Advice, Unreached};
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use connection::{RedisServer, connection};
pub use memory::MemoryQueue;
pub use redis::RedisQueue;
pub use server_check::ServerCheckError;

/// A log filter that leaves out what the carrier's library says of every worker.
pub const QUIET: &str = "apalis_core=warn";

/// What is done with a delivered message. It never fails: whatever goes wrong is written to the ledger.
pub type Deliver = Arc<dyn Fn(Message) -> BoxFuture<'static, ()> + Send + Sync>;

/// The queue could not be reached; the ledger will try again.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// Redis refused, or did not answer.
    #[error("the queue in Redis at {at} could not {doing}: {why}{}", Advice(*cause))]
    Redis {
        /// Host and port.
        at: String,
        /// What was attempted.
        doing: &'static str,
        /// What was said.
        why: String,
        /// Why, where it is known.
        cause: Option<Unreached>,
    },
    /// The certificate of the private authority cannot be used.
    #[error(
        "redis_ca_file names {file}, which cannot be used: {why}. It must hold the authority's certificate in PEM form"
    )]
    CaFile {
        /// Which file.
        file: String,
        /// Why.
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

impl QueueError {
    fn redis(at: &str, doing: &'static str, error: &::redis::RedisError) -> Self {
        let cause = Unreached::of_redis(error);
        QueueError::Redis { at: at.to_owned(), doing, why: error.to_string(), cause }
    }
}

/// A carrier: inside this process, or Redis. What it loses, the ledger pushes again.
#[async_trait]
pub trait Queue: Send + Sync {
    /// Pushes messages. One whose id is still known is a no-op, so pushing twice is pushing once.
    async fn push(&self, messages: &[Message]) -> Result<(), QueueError>;

    /// Takes messages from `name` and delivers them one after the other, until `stop`; a delivery ends when somebody has taken it up.
    /// Survives every failure of the carrier.
    async fn consume(&self, name: &str, worker: &str, deliver: Deliver, stop: CancellationToken);

    /// Hears of pushes by other processes, until `stop`.
    async fn listen(&self, _stop: CancellationToken) {}

    /// Forgets ids that are finished, so that the carrier does not grow.
    async fn sweep(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// A token that changes when the carrier has lost what it held: everything outstanding must then be pushed again.
    async fn incarnation(&self) -> Result<String, QueueError> {
        Ok(String::new())
    }

    /// Whether it answers.
    async fn ping(&self) -> Result<(), QueueError> {
        Ok(())
    }

    /// Whether it can be trusted to carry the messages of this installation.
    async fn check(&self, _installation: Uuid) -> Result<(), ServerCheckError> {
        Ok(())
    }
}
