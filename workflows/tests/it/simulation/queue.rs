//! A carrier at its worst: it loses, doubles, delays and reorders messages, is away for a while, and forgets everything when flushed.

use super::sky::Sky;
use async_trait::async_trait;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use workflows::Queue;
use workflows::message::Message;
use workflows::queue::{Deliver, QueueError};

#[derive(Default)]
struct State {
    queues: BTreeMap<String, VecDeque<Message>>,
    known: BTreeSet<String>,
    incarnation: u64,
    away_until: Option<Instant>,
}

/// One carrier for all processes of a world.
pub struct RoughQueue {
    sky: Arc<Sky>,
    state: Mutex<State>,
    arrived: Notify,
}

impl RoughQueue {
    pub fn new(sky: &Arc<Sky>) -> Arc<Self> {
        Arc::new(Self { sky: sky.clone(), state: Mutex::default(), arrived: Notify::new() })
    }

    /// As FLUSHALL, or a restart without its data.
    pub fn flush(&self) {
        let mut state = self.state.lock().unwrap();
        state.queues.clear();
        state.known.clear();
        state.incarnation += 1;
    }

    pub fn leave(&self, span: Duration) {
        self.state.lock().unwrap().away_until = Some(Instant::now() + span);
    }

    fn answers(&self) -> Result<(), QueueError> {
        let away = self.state.lock().unwrap().away_until.is_some_and(|until| Instant::now() < until);
        if away { Err(QueueError::Url { url: "simulated".to_owned(), why: "it is away".to_owned() }) } else { Ok(()) }
    }

    fn put(&self, message: &Message) {
        let rough = !self.sky.is_calm();
        if rough && self.sky.chance(0.03) {
            return;
        }
        let copies = if rough && self.sky.chance(0.1) { 2 } else { 1 };
        let mut state = self.state.lock().unwrap();
        if !state.known.insert(message.id()) {
            return;
        }
        let queue = state.queues.entry(message.queue.clone()).or_default();
        for _ in 0..copies {
            let at = if rough { self.sky.below(queue.len() + 1) } else { queue.len() };
            queue.insert(at, message.clone());
        }
    }

    fn take(&self, name: &str) -> Option<Message> {
        self.answers().ok()?;
        let mut state = self.state.lock().unwrap();
        let message = state.queues.get_mut(name)?.pop_front()?;
        state.known.remove(&message.id());
        Some(message)
    }
}

#[async_trait]
impl Queue for RoughQueue {
    async fn push(&self, messages: &[Message]) -> Result<(), QueueError> {
        let late = !self.sky.is_calm() && self.sky.chance(0.05);
        tokio::time::sleep(self.sky.millis(if late { 50..3_000 } else { 0..3 })).await;
        self.answers()?;
        for message in messages {
            self.put(message);
        }
        self.arrived.notify_waiters();
        Ok(())
    }

    async fn consume(&self, name: &str, _worker: &str, deliver: Deliver, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let arrived = self.arrived.notified();
            match self.take(name) {
                Some(message) => deliver(message).await,
                None => {
                    let _ = tokio::time::timeout(Duration::from_secs(2), arrived).await;
                }
            }
        }
    }

    async fn incarnation(&self) -> Result<String, QueueError> {
        self.answers()?;
        Ok(self.state.lock().unwrap().incarnation.to_string())
    }
}
