//! The reconciler: makes the queue agree with the ledger. It takes back what vanished workers held and pushes what is due and unsent,
//! lost or overdue. Every process runs it; doing a duty twice is harmless (epochs fence, ids deduplicate), so it needs no leader to be right.

use crate::db::{StoreError, StoreResult};
use crate::engine::{Engine, dice};
use crate::ledger::{self, Abandoned};
use crate::queue::QueueError;
use crate::state::Outcome;
use chrono::{DateTime, TimeDelta, Utc};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// The most messages on their way per queue: the carrier must never hold thousands of due ids (D4: 8,000 brick a queue).
const SLICE: i64 = 500;
/// Abandoned steps taken back per round.
const RECLAIM_LIMIT: i64 = 200;
/// How often the database's clock is read, and finished ids are swept.
const SLOW_DUTIES_EVERY: Duration = Duration::from_secs(5);

/// What went wrong in one round; the next round starts afresh.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The carrier.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Reconciles until `stop`. Errors are logged when they begin and when they end, not at every round.
pub async fn reconcile(engine: Arc<Engine>, stop: CancellationToken) {
    let mut incarnation = None;
    let mut failing = false;
    let mut slow_duties_at = tokio::time::Instant::now();
    while !stop.is_cancelled() {
        let slow = tokio::time::Instant::now() >= slow_duties_at;
        if slow {
            slow_duties_at = tokio::time::Instant::now() + SLOW_DUTIES_EVERY;
        }
        match round(&engine, &mut incarnation, slow).await {
            Ok(more) => {
                if failing {
                    tracing::info!("the reconciler reaches its stores again");
                }
                failing = false;
                if more {
                    continue;
                }
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the reconciler cannot work; it keeps trying");
                }
                failing = true;
            }
        }
        tokio::select! {
            () = tokio::time::sleep(engine.settings.reconcile_every) => {}
            () = engine.nudge.notified() => {}
            () = stop.cancelled() => return,
        }
    }
}

/// One round; true when there was more than it could do.
async fn round(engine: &Engine, incarnation: &mut Option<String>, slow: bool) -> Result<bool, ReconcileError> {
    if slow {
        engine.db.read_clock().await?;
    }
    let reclaimed = reclaim(engine, Abandoned::Lapsed).await?;
    let current = engine.queue.incarnation().await?;
    let lost_everything = incarnation.as_ref().is_some_and(|known| *known != current);
    if lost_everything {
        tracing::warn!("the queue has lost what it held; pushing everything outstanding again");
    }
    *incarnation = Some(current);
    feed(engine, lost_everything).await?;
    if slow {
        engine.queue.sweep().await?;
    }
    Ok(reclaimed == RECLAIM_LIMIT)
}

/// Ends abandoned attempts as lost; how many were found. The steps become ready again, or fail after their last attempt.
pub async fn reclaim(engine: &Engine, which: Abandoned) -> StoreResult<i64> {
    let now = engine.db.now();
    let lapsed_before = match which {
        Abandoned::Lapsed => now,
        Abandoned::NotOf(_) => now + TimeDelta::days(3650),
    };
    let claims = ledger::abandoned(&engine.db, which, now, RECLAIM_LIMIT).await?;
    for claim in &claims {
        match ledger::complete(&engine.db, claim, &Outcome::Lost, &[], now, dice(), Some(lapsed_before)).await {
            Ok(completion) => {
                tracing::warn!(run = %claim.run, ticker = %claim.ticker, step = %claim.step, attempt = claim.attempt, "took back a step whose worker vanished");
                engine.push(&completion.messages).await;
            }
            // Someone else took it back, or its worker renewed after all.
            Err(StoreError::Fenced) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(i64::try_from(claims.len()).unwrap_or(i64::MAX))
}

/// Pushes what is due, per queue and in slices.
async fn feed(engine: &Engine, lost_everything: bool) -> Result<(), ReconcileError> {
    let now = engine.db.now();
    let fresh_since = if lost_everything { now + TimeDelta::seconds(1) } else { stale_before(engine, now) };
    for (queue, ready, on_their_way) in ledger::outstanding(&engine.db, now, fresh_since).await? {
        let room = SLICE - on_their_way;
        if room <= 0 || ready == on_their_way {
            continue;
        }
        let messages = ledger::due(&engine.db, &queue, now, fresh_since, room).await?;
        if messages.is_empty() {
            continue;
        }
        // Marked first: a worker may take the message before the mark is written. Dying in between costs one resend.
        ledger::mark_sent(&engine.db, &messages, now).await?;
        engine.queue.push(&messages).await?;
    }
    Ok(())
}

fn stale_before(engine: &Engine, now: DateTime<Utc>) -> DateTime<Utc> {
    now - TimeDelta::from_std(engine.settings.resend_after).unwrap_or(TimeDelta::seconds(5))
}
