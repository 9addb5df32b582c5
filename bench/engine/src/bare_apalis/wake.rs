//! When a bare worker looks at Redis: a timer that really fires, or a publication that wakes it. apalis' own interval loses wake-ups (D2 in
//! docs/decisions/0002-apalis-carries-the-ledger-remembers.md) and would make every figure a matter of luck.

use apalis_core::backend::ext::poll_strategy::{PollSnapshot, PollStrategy};
use clap::ValueEnum;
use futures::StreamExt;
use futures::task::AtomicWaker;
use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Client};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Strategy {
    /// A publication wakes the worker; the timer is slow.
    Wake,
    /// Only a timer, every 20 ms.
    Tick,
}

const CHANNEL: &str = "bare:wake";

#[derive(Clone, Default)]
pub struct Bell(Arc<Mutex<Vec<Arc<AtomicWaker>>>>);

impl Bell {
    pub fn strategy(&self, strategy: Strategy) -> WakeOrTick {
        let waker = Arc::new(AtomicWaker::new());
        self.0.lock().expect("not poisoned").push(waker.clone());
        let every = Duration::from_millis(if strategy == Strategy::Wake { 500 } else { 20 });
        WakeOrTick { waker: (strategy == Strategy::Wake).then_some(waker), every, tick: None }
    }

    pub async fn publish(&self, connection: &mut ConnectionManager) -> redis::RedisResult<()> {
        connection.publish::<_, _, i64>(CHANNEL, "now").await.map(|_| ())
    }

    pub async fn listen(self, client: Client, stop: CancellationToken) {
        let Ok(mut pubsub) = client.get_async_pubsub().await else { return };
        if pubsub.subscribe(CHANNEL).await.is_err() {
            return;
        }
        let mut rings = pubsub.on_message();
        loop {
            tokio::select! {
                ring = rings.next() => if ring.is_none() { return },
                () = stop.cancelled() => return,
            }
            self.0.lock().expect("not poisoned").iter().for_each(|waker| waker.wake());
        }
    }
}

pub struct WakeOrTick {
    waker: Option<Arc<AtomicWaker>>,
    every: Duration,
    tick: Option<Interval>,
}

impl PollStrategy for WakeOrTick {
    fn poll_drive(&mut self, cx: &mut Context<'_>, _: &PollSnapshot) -> Poll<Option<()>> {
        if let Some(waker) = &self.waker {
            waker.register(cx.waker());
        }
        let every = self.every;
        let tick = self.tick.get_or_insert_with(|| {
            let mut tick = interval(every);
            tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
            tick
        });
        while tick.poll_tick(cx).is_ready() {}
        Poll::Pending
    }
}
