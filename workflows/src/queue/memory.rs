//! The in-process queue of the embedded default: apalis' memory backend over a channel per queue name.

use super::{Deliver, Queue, QueueError};
use crate::message::Message;
use apalis::layers::WorkerBuilderExt;
use apalis_core::backend::memory::{MemorySink, MemoryStorage};
use apalis_core::error::WorkerError;
use apalis_core::task::Task;
use apalis_core::task::builder::TaskBuilder;
use apalis_core::task::data::Data;
use apalis_core::task::task_id::TaskId;
use apalis_core::worker::builder::WorkerBuilder;
use async_trait::async_trait;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use futures::{SinkExt, StreamExt};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use tokio_util::sync::CancellationToken;

type Channel = (UnboundedSender<Task<Message>>, Option<UnboundedReceiver<Task<Message>>>);

/// Queues inside this process. Clones share them.
#[derive(Clone, Default)]
pub struct MemoryQueue {
    channels: Arc<Mutex<HashMap<String, Channel>>>,
    /// Ids pushed and not yet delivered: pushing one of them again is a no-op.
    known: Arc<Mutex<HashSet<String>>>,
}

#[async_trait]
impl Queue for MemoryQueue {
    /// Those already waiting stay where they are.
    async fn push(&self, messages: &[Message]) -> Result<(), QueueError> {
        for message in messages {
            let id = message.id();
            if !lock(&self.known).insert(id.clone()) {
                continue;
            }
            let task = TaskBuilder::new(message.clone()).task_id(TaskId::from_string(id.clone())).build();
            let sent = lock(&self.channels).entry(message.queue.clone()).or_insert_with(channel).0.unbounded_send(task);
            if sent.is_err() {
                // The consumer has stopped: the process is on its way out, and the ledger knows the step.
                lock(&self.known).remove(&id);
            }
        }
        Ok(())
    }

    async fn consume(&self, name: &str, worker: &str, deliver: Deliver, stop: CancellationToken) {
        let Some(receiver) = lock(&self.channels).entry(name.to_owned()).or_insert_with(channel).1.take() else {
            tracing::error!(queue = name, "this queue has a consumer already; the second one does nothing");
            return;
        };
        // The backend wants a sink of its own; nothing is ever pushed through it.
        let (unused, _closed) = unbounded::<Task<Message>>();
        let sink = Box::new(unused.sink_map_err(|e| e.into())) as Box<_>;
        let storage =
            MemoryStorage::new_with(MemorySink::new(Arc::new(futures::lock::Mutex::new(sink))), receiver.boxed());
        let inbox = Inbox { deliver, known: self.known.clone() };
        let built =
            WorkerBuilder::new(format!("{name}-{worker}")).backend(storage).data(inbox).concurrency(1).build(receive);
        let stopped = async move {
            stop.cancelled().await;
            Ok::<(), WorkerError>(())
        };
        if let Err(error) = built.run_until(stopped).await {
            tracing::warn!(queue = name, %error, "a queue consumer ended");
        }
    }
}

#[derive(Clone)]
struct Inbox {
    deliver: Deliver,
    known: Arc<Mutex<HashSet<String>>>,
}

async fn receive(message: Message, inbox: Data<Inbox>) {
    // Forgotten before the delivery: whatever makes the step ready during it must be able to push.
    lock(&inbox.known).remove(&message.id());
    (inbox.deliver)(message).await;
}

fn channel() -> Channel {
    let (sender, receiver) = unbounded();
    (sender, Some(receiver))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
