//! The steps this process holds, and the thread that keeps them: it renews the leases and holds the process' sign of life. The thread has its
//! own runtime and its own connections, so that training on every core cannot starve it.

use crate::engine::Engine;
use crate::ledger::{Claim, Key};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How often a process that holds steps looks whether they are still its own, and whether its sign of life stands.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The same for one that holds none.
const IDLE_LOOK_EVERY: Duration = Duration::from_secs(2);

#[derive(Default)]
pub(crate) struct Held {
    steps: Mutex<BTreeMap<Key, CancellationToken>>,
    taken: Notify,
    released: Notify,
}

impl Held {
    /// Notes a claimed step; the token is cancelled when it must stop.
    pub(crate) fn take(&self, claim: &Claim) -> CancellationToken {
        let token = CancellationToken::new();
        let mut steps = self.lock();
        if steps.is_empty() {
            self.taken.notify_one();
        }
        steps.insert(claim.key(), token.clone());
        token
    }

    pub(crate) fn release(&self, claim: &Claim) {
        self.lock().remove(&claim.key());
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

    pub(crate) fn keys(&self) -> Vec<Key> {
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

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Key, CancellationToken>> {
        self.steps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the thread that keeps what `engine` holds, until `stop`.
pub fn keep_leases(engine: &Arc<Engine>, stop: CancellationToken) -> std::io::Result<std::thread::JoinHandle<()>> {
    let engine = engine.clone();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("leases".to_owned()).spawn(move || runtime.block_on(keep(&engine, stop)))
}

/// What the thread does; a simulation runs it as a task.
pub async fn keep(engine: &Engine, stop: CancellationToken) {
    let ledger = engine.ledger.apart();
    let mut life = ledger.db().and_then(|db| db.life(engine.instance));
    let renew_every = (engine.settings.lease / 4).max(Duration::from_millis(50));
    let mut renew_at = Instant::now();
    let mut failing = false;
    while !stop.is_cancelled() {
        if let Some(life) = &mut life {
            match life.show().await {
                Ok(again) => engine.note_life(again),
                Err(error) => tracing::debug!(%error, "the sign of life could not be shown; trying again"),
            }
        }
        let held = engine.held.keys();
        let ours = if Instant::now() >= renew_at {
            renew_at = Instant::now() + renew_every;
            engine.sign_on(&ledger).await;
            match held.is_empty() {
                true => Ok(Vec::new()),
                false => ledger.renew(engine.instance, &held, engine.lease_from(ledger.now())).await,
            }
        } else if held.is_empty() {
            Ok(Vec::new())
        } else {
            ledger.held_by(engine.instance).await
        };
        match ours {
            Ok(ours) => {
                if std::mem::take(&mut failing) {
                    tracing::info!("leases are renewed again");
                }
                engine.held.drop_others(&held, &ours);
            }
            Err(error) => {
                // Soon again: a lease that was not renewed is one that ends.
                renew_at = Instant::now();
                if !std::mem::replace(&mut failing, true) {
                    tracing::warn!(%error, held = held.len(), "leases could not be renewed; trying again and again");
                }
            }
        }
        let look = if held.is_empty() { IDLE_LOOK_EVERY } else { LOOK_EVERY };
        let wake_at = (Instant::now() + look).min(renew_at.max(Instant::now() + Duration::from_millis(50)));
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            () = engine.held.taken.notified() => {}
            () = tokio::time::sleep_until(wake_at) => {}
        }
    }
    engine.sign_off(&ledger).await;
}
