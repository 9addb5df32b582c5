//! The reconciler: makes the queue agree with the ledger. It takes back what vanished workers held, releases what waited, and pushes what is due
//! and unsent, lost or overdue. Every process runs it and one at a time leads; two leaders would be wasteful and not wrong (epochs fence, ids
//! deduplicate).

use crate::db::{Db, StoreError, StoreResult};
use crate::engine::Engine;
use crate::ledger::{self, Abandoned, Ending};
use crate::plan::Step;
use crate::queue::QueueError;
use crate::state::Outcome;
use crate::stores::{alarms, listings, quarantine};
use chrono::{DateTime, TimeDelta, Utc};
use market::validate::{Rule, Severity};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// The name of the duty in the ledger.
pub(crate) const DUTY: &str = "reconcile";
/// Messages on their way per slot of the workers that take them: enough that nobody waits, few enough that a flushed Redis costs little.
const PER_SLOT: i64 = 4;
/// The same for a queue whose workers we do not know.
const LEAST_SLICE: i64 = 64;
/// The carrier must never hold thousands of due ids (D4: 8,000 brick a queue).
const LARGEST_SLICE: i64 = 1_000;
/// Abandoned or waiting steps per round.
const PER_ROUND: i64 = 200;
/// How often runs are looked for that wait for nobody. They are few: a run that ended while another of its subject was being started.
const ROUSE_EVERY: Duration = Duration::from_secs(1);
/// How often slow duties are done.
const SLOW_DUTIES_EVERY: Duration = Duration::from_secs(5);
/// What reads every waiting run takes at most this part of the leader's time.
const PART_FOR_WAITING: u32 = 50;
/// How often is done what reads every open run.
const RARE_DUTIES_EVERY: Duration = Duration::from_secs(60);
/// A leader that says nothing for so long is followed by another.
const REIGN: Duration = Duration::from_millis(1_500);
/// An owner must show no sign of life at two looks so far apart: one that lost its connection needs a moment to make another.
const SILENT_FOR: Duration = Duration::from_millis(600);
/// When a slice was full, the next one follows soon; and no two rounds are closer together.
const SOON: Duration = Duration::from_millis(25);

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

/// What a reconciler remembers from round to round; losing it costs a few messages sent twice.
#[derive(Default)]
struct Memory {
    leads: bool,
    incarnation: Option<String>,
    silent: BTreeMap<Uuid, Instant>,
    slots: BTreeMap<String, i64>,
    workers: i64,
    slow_duties_at: Option<Instant>,
    rare_duties_at: Option<Instant>,
    rouse_at: Option<Instant>,
}

/// Reconciles until `stop`. Errors are logged when they begin and when they end, not at every round.
pub async fn reconcile(engine: Arc<Engine>, stop: CancellationToken) {
    let mut memory = Memory::default();
    let mut failing = false;
    while !stop.is_cancelled() {
        let more = match round(&engine, &mut memory).await {
            Ok(more) => {
                if failing {
                    tracing::info!("the reconciler reaches its stores again");
                }
                failing = false;
                more
            }
            Err(error) => {
                if !failing {
                    tracing::warn!(%error, "the reconciler cannot work; it keeps trying");
                }
                failing = true;
                // Another may be able to: one that is cut off from the queue alone must not keep the others from the duty.
                if std::mem::take(&mut memory.leads) && engine.ledger.is_shared() {
                    let _ = engine.ledger.step_down(DUTY, engine.instance).await;
                }
                false
            }
        };
        // Whoever nudges again and again must not keep the stores busy with looking.
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(SOON) => {}
        }
        if more {
            continue;
        }
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = engine.nudge.notified() => {}
            () = tokio::time::sleep(engine.settings.reconcile_every) => {}
        }
    }
}

/// One round; true when there was more than it could do.
async fn round(engine: &Engine, memory: &mut Memory) -> Result<bool, ReconcileError> {
    let slow = memory.slow_duties_at.is_none_or(|at| Instant::now() >= at);
    if slow {
        engine.ledger.read_clock().await?;
        memory.slow_duties_at = Some(Instant::now() + SLOW_DUTIES_EVERY);
        (memory.slots, memory.workers) = slots(engine).await?;
    }
    let now = engine.ledger.now();
    let reign = TimeDelta::from_std(REIGN.max(engine.settings.reconcile_every * 3)).unwrap_or(TimeDelta::seconds(2));
    // A store that only this process may open needs no leader, and an idle one is not written to.
    let leads = !engine.ledger.is_shared() || engine.ledger.lead(DUTY, engine.instance, now, now + reign).await?;
    let led = std::mem::replace(&mut memory.leads, leads);
    if !memory.leads {
        // Somebody else leads; what was started here is sent from here all the same, for a person may be waiting.
        return feed(engine, memory).await;
    }
    let mut more = take_back(engine, memory, now).await?;
    let current = engine.queue.incarnation().await?;
    let lost_everything = memory.incarnation.as_ref().is_some_and(|known| *known != current);
    if lost_everything {
        tracing::warn!("the queue has lost what it held; pushing everything outstanding again");
    }
    memory.incarnation = Some(current);
    let stale = if lost_everything || !led { now + TimeDelta::seconds(1) } else { now - resend_after(engine) };
    engine.ledger.unsend(stale).await?;
    more |= engine.ledger.release(now, PER_ROUND).await? >= u64::try_from(PER_ROUND).unwrap_or(0);
    if memory.rouse_at.is_none_or(|at| Instant::now() >= at) {
        let began = Instant::now();
        more |= engine.ledger.rouse(now, PER_ROUND).await? > 0;
        memory.rouse_at = Some(Instant::now() + ROUSE_EVERY.max(began.elapsed() * PART_FOR_WAITING));
    }
    more |= feed(engine, memory).await?;
    if slow {
        slow_duties(engine, memory, now).await?;
    }
    Ok(more)
}

fn resend_after(engine: &Engine) -> TimeDelta {
    TimeDelta::from_std(engine.settings.resend_after).unwrap_or(TimeDelta::seconds(5))
}

async fn slow_duties(engine: &Engine, memory: &mut Memory, now: DateTime<Utc>) -> Result<(), ReconcileError> {
    engine.queue.sweep().await?;
    engine.ledger.sign_off(None, now - TimeDelta::minutes(10)).await?;
    if let Some(db) = engine.ledger.db() {
        ledger::analyse_grown(db).await?;
        count_findings(db).await?;
    }
    let Some(db) = engine.ledger.db().filter(|_| memory.rare_duties_at.is_none_or(|at| Instant::now() >= at)) else {
        return Ok(());
    };
    memory.rare_duties_at = Some(Instant::now() + RARE_DUTIES_EVERY);
    ledger::ensure_partitions(db, now).await?;
    let foreign = ledger::foreign_runs(db).await?;
    metrics::gauge!("retainai_foreign_plan_runs").set(foreign.iter().map(|(.., count)| *count).sum::<i64>() as f64);
    for (plan, version, count) in foreign {
        tracing::warn!(
            plan,
            version,
            count,
            "open runs of a plan that this version does not know; they wait for a program that does"
        );
    }
    Ok(())
}

/// Tells what waits in the quarantine, which alarms hold, and where the tickers stand. What there is none of is told as zero, so that an alert on it ends.
async fn count_findings(db: &Db) -> StoreResult<()> {
    type Counts = [(String, String, i64)];
    let of = |counts: &Counts, exchange: &str, what: &str| {
        let found = counts.iter().find(|(at, by, _)| at == exchange && by == what);
        found.map_or(0.0, |(.., count)| *count as f64)
    };
    let (waiting, alarming) = (quarantine::open_counts(db).await?, alarms::open_counts(db).await?);
    let listed = listings::counts(db).await?;
    for exchange in market::Exchange::ALL.map(market::Exchange::as_str) {
        for rule in Rule::ALL.iter().filter(|rule| rule.severity() >= Severity::Row).map(|rule| rule.as_str()) {
            let count = of(&waiting, exchange, rule);
            metrics::gauge!("retainai_quarantine_open", "exchange" => exchange, "rule" => rule).set(count);
        }
        for state in market::ListingState::ALL.map(market::ListingState::as_str) {
            let count = of(&listed, exchange, state);
            metrics::gauge!("retainai_tickers", "exchange" => exchange, "state" => state).set(count);
        }
        for kind in market::AlarmKind::ALL.map(market::AlarmKind::as_str) {
            let count = of(&alarming, exchange, kind);
            metrics::gauge!("retainai_alarms_open", "exchange" => exchange, "kind" => kind).set(count);
        }
    }
    Ok(())
}

/// Slots of live workers by step kind, and how many workers there are.
async fn slots(engine: &Engine) -> StoreResult<(BTreeMap<String, i64>, i64)> {
    let mut slots: BTreeMap<String, i64> = BTreeMap::new();
    let workers = engine.ledger.workers_seen(engine.ledger.now() - TimeDelta::seconds(30)).await?;
    let count_of_workers = i64::try_from(workers.len()).unwrap_or(1);
    for (steps, count) in workers {
        for step in steps.split(',') {
            *slots.entry(step.to_owned()).or_default() += count;
        }
    }
    Ok((slots, count_of_workers))
}

/// Takes back what vanished workers held: at once where the process shows no sign of life, else when the lease has lapsed. For one lease after
/// the server began, or after our own sign of life was lost, nobody is taken back: nobody could renew meanwhile.
async fn take_back(engine: &Engine, memory: &mut Memory, now: DateTime<Utc>) -> StoreResult<bool> {
    let signs = engine.ledger.signs_of_life().await?;
    let lease = TimeDelta::from_std(engine.settings.lease).unwrap_or(TimeDelta::seconds(20));
    let unsettled = |since: Option<DateTime<Utc>>| since.is_some_and(|since| now - since < lease);
    if unsettled(signs.up_since) || unsettled(engine.life_again_at()) {
        memory.silent.clear();
        return Ok(false);
    }
    let silent: BTreeSet<Uuid> = signs.silent.into_iter().collect();
    memory.silent.retain(|owner, _| silent.contains(owner));
    for owner in silent {
        memory.silent.entry(owner).or_insert_with(Instant::now);
    }
    let gone: Vec<Uuid> =
        memory.silent.iter().filter(|(_, since)| since.elapsed() >= SILENT_FOR).map(|(owner, _)| *owner).collect();
    let mut taken = reclaim(engine, Abandoned::Lapsed).await?;
    if !gone.is_empty() {
        taken += reclaim(engine, Abandoned::Of(gone)).await?;
    }
    Ok(taken >= PER_ROUND)
}

/// Ends abandoned attempts as lost; how many were found. The steps become ready again, or fail after their last attempt.
pub async fn reclaim(engine: &Engine, which: Abandoned) -> StoreResult<i64> {
    let now = engine.ledger.now();
    let lapsed_before = matches!(which, Abandoned::Lapsed).then_some(now);
    let claims = engine.ledger.abandoned(&which, now, PER_ROUND).await?;
    let found = i64::try_from(claims.len()).unwrap_or(i64::MAX);
    let endings: Vec<Ending> = claims
        .into_iter()
        .map(|claim| Ending {
            claim,
            outcome: Outcome::Lost,
            effects: Vec::new(),
            dice: engine.settings.chance.unit(),
            sends_next: false,
            lapsed_before: lapsed_before.or(Some(now + TimeDelta::days(3650))),
        })
        .collect();
    if endings.is_empty() {
        return Ok(0);
    }
    for (ending, completed) in endings.iter().zip(engine.ledger.complete(&endings, now).await?) {
        // Fenced: someone else took it back, or its worker renewed or completed after all.
        if completed.is_ok() {
            let claim = &ending.claim;
            metrics::counter!("retainai_attempts_total", "step" => claim.step.as_str(), "outcome" => "lost")
                .increment(1);
            tracing::warn!(run = %claim.run, subject = %claim.subject, step = %claim.step, attempt = claim.attempt, "took back a step whose worker vanished");
        }
    }
    Ok(found)
}

/// Pushes what is due, per queue and in slices; true when a slice was full.
async fn feed(engine: &Engine, memory: &Memory) -> Result<bool, ReconcileError> {
    engine.lanes.look();
    let unsent = engine.ledger.unsent_queues().await?;
    let on_their_way: BTreeMap<String, i64> = engine.ledger.on_their_way().await?.into_iter().collect();
    let left = |queue: &str| slice(memory, queue) - on_their_way.get(queue).copied().unwrap_or(0);
    let room: Vec<(String, i64)> =
        unsent.iter().map(|queue| (queue.clone(), left(queue))).filter(|(_, room)| *room > 0).collect();
    let messages = engine.ledger.take_due(&room, engine.ledger.now()).await?;
    if !messages.is_empty() {
        engine.queue.push(&messages).await?;
    }
    let mut taken: BTreeMap<&str, i64> = BTreeMap::new();
    for message in &messages {
        *taken.entry(&message.queue).or_default() += 1;
    }
    let room_after = |queue: &str| left(queue) - taken.get(queue).copied().unwrap_or(0);
    for (_, queue) in Step::queues() {
        // Each worker gets its share of the room that is left, so that together they keep to it.
        engine.lanes.found(&queue, room_after(&queue) / memory.workers.max(1));
    }
    // A queue whose room was filled has more; retries that are not due yet are not "more".
    Ok(room.iter().any(|(queue, _)| room_after(queue) <= 0))
}

/// How many messages of a queue may be on their way.
fn slice(memory: &Memory, queue: &str) -> i64 {
    let step = queue.split('_').next().filter(|step| step.parse::<Step>().is_ok()).unwrap_or(queue);
    (memory.slots.get(step).copied().unwrap_or(0) * PER_SLOT).clamp(LEAST_SLICE, LARGEST_SLICE)
}
