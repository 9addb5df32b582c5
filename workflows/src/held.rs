//! The steps this process holds, and the thread that keeps their leases. The thread has its own runtime and its own connection, so that
//! training on every core cannot starve it.

use crate::engine::Engine;
use crate::ledger::{self, Claim};
use crate::plan::Step;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// A step under one epoch.
type Key = (Uuid, Step, i64);

#[derive(Default)]
pub(crate) struct Held {
    steps: Mutex<HashMap<Key, CancellationToken>>,
    released: Notify,
}

impl Held {
    /// Notes a claimed step; the token is cancelled when it must stop.
    pub(crate) fn take(&self, claim: &Claim) -> CancellationToken {
        let token = CancellationToken::new();
        self.lock().insert((claim.run, claim.step, claim.epoch), token.clone());
        token
    }

    pub(crate) fn release(&self, claim: &Claim) {
        self.lock().remove(&(claim.run, claim.step, claim.epoch));
        self.released.notify_waiters();
    }

    /// Resolves when nothing is held.
    pub(crate) async fn empty(&self) {
        loop {
            let released = self.released.notified();
            if self.lock().is_empty() {
                return;
            }
            released.await;
        }
    }

    pub(crate) fn cancel_all(&self) {
        self.lock().values().for_each(CancellationToken::cancel);
    }

    fn keys(&self) -> Vec<Key> {
        self.lock().keys().copied().collect()
    }

    /// Cancels those of `asked` that are not in `ours`: they were taken over or cancelled.
    fn drop_others(&self, asked: &[Key], ours: &[Key]) {
        let steps = self.lock();
        for lost in asked.iter().filter(|key| !ours.contains(key)) {
            if let Some(token) = steps.get(lost) {
                token.cancel();
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Key, CancellationToken>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that renews the leases of `engine` at a quarter of their length, until `stop`.
pub fn keep_leases(engine: &Arc<Engine>, stop: CancellationToken) -> std::io::Result<std::thread::JoinHandle<()>> {
    let engine = engine.clone();
    let every = (engine.settings.lease / 4).max(Duration::from_millis(50));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("leases".to_owned()).spawn(move || {
        runtime.block_on(async {
            let db = engine.db.apart();
            while !stop.is_cancelled() {
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    () = stop.cancelled() => break,
                }
                let held = engine.held.keys();
                if held.is_empty() {
                    continue;
                }
                match ledger::renew(&db, engine.instance, &held, engine.lease_from(db.now())).await {
                    Ok(ours) => engine.held.drop_others(&held, &ours),
                    Err(error) => {
                        tracing::warn!(%error, held = held.len(), "leases could not be renewed; trying again")
                    }
                }
            }
        });
    })
}
