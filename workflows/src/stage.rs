//! Group commit: calls that arrive while one is under way travel together in the next. Nobody waits for company: whoever finds a turn free goes
//! at once with all who wait.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use tokio::sync::{Semaphore, oneshot};

/// At most so many travel together.
const TOGETHER: usize = 64;

/// A stage through which items pass, several at a time.
pub(crate) struct Stage<In, Out> {
    waiting: Mutex<VecDeque<(In, oneshot::Sender<Out>)>>,
    turns: Semaphore,
}

impl<In, Out> Stage<In, Out> {
    /// A stage on which `turns` groups may be under way at once.
    pub(crate) fn new(turns: usize) -> Self {
        Self { waiting: Mutex::default(), turns: Semaphore::new(turns) }
    }

    /// Passes `item`; `carry` takes a group and answers in its order. `None` when whoever carried it vanished.
    pub(crate) async fn pass<Carry, Carried>(&self, item: In, carry: Carry) -> Option<Out>
    where
        Carry: Fn(Vec<In>) -> Carried,
        Carried: Future<Output = Vec<Out>>,
    {
        let (sender, mut answer) = oneshot::channel();
        self.lock().push_back((item, sender));
        loop {
            let turn = tokio::select! {
                biased;
                out = &mut answer => return out.ok(),
                turn = self.turns.acquire() => turn.ok()?,
            };
            let (group, senders): (Vec<In>, Vec<_>) = {
                let mut waiting = self.lock();
                let count = waiting.len().min(TOGETHER);
                waiting.drain(..count).unzip()
            };
            if group.is_empty() {
                // Somebody else carries ours.
                drop(turn);
                return answer.await.ok();
            }
            for (sender, out) in senders.into_iter().zip(carry(group).await) {
                let _ = sender.send(out);
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(In, oneshot::Sender<Out>)>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[tokio::test]
    async fn those_who_come_meanwhile_travel_together_and_each_gets_its_own_answer() {
        let stage: Arc<Stage<usize, usize>> = Arc::new(Stage::new(1));
        let trips = Arc::new(AtomicUsize::new(0));
        let passing = (0..200usize).map(|n| {
            let (stage, trips) = (stage.clone(), trips.clone());
            tokio::spawn(async move {
                let carry = |group: Vec<usize>| {
                    trips.fetch_add(1, Ordering::SeqCst);
                    assert!(group.len() <= TOGETHER);
                    async move {
                        tokio::task::yield_now().await;
                        group.into_iter().map(|n| n * 2).collect()
                    }
                };
                assert_eq!(stage.pass(n, carry).await, Some(n * 2));
            })
        });
        for passed in futures::future::join_all(passing).await {
            passed.unwrap();
        }
        assert!(trips.load(Ordering::SeqCst) < 20, "{trips:?} trips for 200");
    }
}
