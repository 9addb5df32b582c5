//! The life of one delivery: a slot, a claim, the body, the completion. Claims and completions of many deliveries share transactions; each keeps
//! its own fence.

use crate::body::{Attempt, Report, StepBody};
use crate::db::StoreError;
use crate::engine::{Bodies, Engine, Shared};
use crate::lanes::Go;
use crate::ledger::{Claim, Completed, Completion, Ending};
use crate::message::Message;
use crate::plan::{Step, priority};
use crate::queue::Deliver;
use crate::state::Outcome;
use chrono::{DateTime, TimeDelta, Utc};
use futures::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

/// How often a completion is tried again while the database is away. The lease ends first if it stays away.
const COMPLETE_TRIES: u32 = 8;
/// How often a claim is tried again; then its message is sent again by the reconciler.
const CLAIM_TRIES: u32 = 3;
/// From so many lost workers on, a step runs alone in its process: if it is the one that kills, nobody else pays.
const SUSPECT_FROM: i64 = 2;

impl Engine {
    /// Takes a delivery: waits for a slot, and hands the message to a task of its own. The carrier may then forget it: it is disposable, and
    /// drops deliveries when it loses its connection. A message that is lost between here and its claim is overdue soon.
    pub async fn deliver(self: Arc<Self>, message: Message, bodies: &Bodies, slots: &Arc<Semaphore>) {
        let Some(body) = bodies.get(&message.step).cloned() else {
            tracing::warn!(step = %message.step, "no body for this step in this process; the reconciler will send it elsewhere");
            return;
        };
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let engine = self.clone();
        self.spawn(async move {
            let _slot = slot;
            engine.lanes.taken_out(&message.queue);
            let Some(claim) = engine.claim(&message).await else { return };
            let span = tracing::info_span!("attempt", run = %claim.run, subject = %claim.subject, step = %claim.step, attempt = claim.attempt);
            engine.carry_out(claim, body).instrument(span).await;
        });
    }

    async fn claim(&self, message: &Message) -> Option<Claim> {
        for tried in 1..=CLAIM_TRIES {
            match self.claims.pass(message.clone(), |group| self.claim_group(group)).await {
                Some(Ok(claim)) => return claim,
                Some(Err(error)) if error.is_transient() && tried < CLAIM_TRIES => {
                    tokio::time::sleep(Duration::from_millis(50 << tried)).await;
                }
                Some(Err(error)) => {
                    tracing::warn!(run = %message.run, step = %message.step, %error, "a step could not be claimed; its message will be sent again");
                    return None;
                }
                None => return None,
            }
        }
        None
    }

    async fn claim_group(&self, group: Vec<Message>) -> Vec<Shared<Option<Claim>>> {
        let now = self.ledger.now();
        match self.ledger.claim(&group, self.instance, &self.settings.worker, now, self.lease_from(now)).await {
            Ok(claims) => claims.into_iter().map(Ok).collect(),
            Err(error) => share(error, group.len()),
        }
    }

    pub(crate) fn lease_from(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.settings.lease).unwrap_or(TimeDelta::seconds(20))
    }

    /// Do, complete, push, and refresh the copies.
    async fn carry_out(self: Arc<Self>, claim: Claim, body: Arc<dyn StepBody>) {
        let cancel = self.held.take(&claim);
        let attempt = Attempt { claim: claim.clone(), cancel: cancel.clone() };
        let (mut together, mut alone) = (None, None);
        if claim.losses >= SUSPECT_FROM {
            tracing::warn!(
                losses = claim.losses,
                "its worker vanished again and again: this step runs alone in its process"
            );
            alone = Some(self.company.write().await);
        } else {
            together = Some(self.company.read().await);
        }
        let began = tokio::time::Instant::now();
        let report = self.run_body(&attempt, body.as_ref()).await;
        if let Some((step, pause)) = self.settings.hold
            && step == claim.step
        {
            tracing::info!(hold_ms = pause.as_millis(), "holding before completion (a test aid)");
            tokio::time::sleep(pause).await;
        }
        drop((together.take(), alone.take()));
        self.finish(&attempt, report, body.as_ref(), began.elapsed()).await;
        self.held.release(&claim);
    }

    /// The body, inside its time limit; a panic is a failed attempt, not a lost worker.
    async fn run_body(&self, attempt: &Attempt, body: &dyn StepBody) -> Report {
        let limit = attempt.claim.policy.time_limit;
        let guarded = AssertUnwindSafe(body.run(attempt)).catch_unwind();
        match tokio::time::timeout(limit, guarded).await {
            Ok(Ok(report)) => report,
            Ok(Err(panic)) => {
                let said = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                Report::retry("panic", format!("the step panicked: {}", said.unwrap_or("without a message")), None)
            }
            Err(_) => Report::retry("timeout", format!("not done after {} s", limit.as_secs()), None),
        }
    }

    async fn finish(self: &Arc<Self>, attempt: &Attempt, report: Report, body: &dyn StepBody, took: Duration) {
        let step = attempt.claim.step;
        let Report { outcome, effects } = report;
        let mut ending = Ending {
            claim: attempt.claim.clone(),
            sends_next: self.may_send(next_queue(&attempt.claim, &outcome)),
            outcome,
            effects,
            dice: self.settings.chance.unit(),
            lapsed_before: None,
        };
        for tried in 0..COMPLETE_TRIES {
            let error = match self.endings.pass(ending.clone(), |group| self.complete_group(group)).await {
                Some(Ok(Ok(completion))) => {
                    body.committed(attempt).await;
                    tell(&ending.outcome, took);
                    count(step, ending.outcome.attempt_word(&completion.decision), took);
                    return;
                }
                Some(Ok(Err(_fenced))) => {
                    count(step, "fenced", took);
                    tracing::warn!(
                        "the step was taken over or cancelled meanwhile; nothing of this attempt was written"
                    );
                    return;
                }
                Some(Err(error)) => error,
                None => return,
            };
            if error.is_transient() {
                tracing::warn!(%error, tried, "the completion could not be written; trying again");
                tokio::time::sleep(Duration::from_millis(100 << tried.min(6))).await;
            } else {
                // The effects themselves cannot be written: the attempt has failed, and says why.
                ending.outcome = Outcome::Retry {
                    kind: "store",
                    error: format!("its result could not be written: {error}"),
                    after: None,
                };
                ending.effects.clear();
            }
        }
        tracing::error!("the completion could not be written; the lease will end and the step be done again");
    }

    /// Writes a group of endings, and posts what follows. Where the group fails for good, each is tried alone, so that only the one at fault pays.
    async fn complete_group(self: &Arc<Self>, group: Vec<Ending>) -> Vec<Shared<Completed>> {
        match self.ledger.complete(&group, self.ledger.now()).await {
            Ok(completed) => self.posted(&group, completed),
            Err(error) if error.is_transient() || group.len() == 1 => share(error, group.len()),
            Err(_) => {
                let mut answers = Vec::with_capacity(group.len());
                for ending in &group {
                    match self.ledger.complete(std::slice::from_ref(ending), self.ledger.now()).await {
                        Ok(completed) => answers.extend(self.posted(std::slice::from_ref(ending), completed)),
                        Err(error) => answers.extend(share(error, 1)),
                    }
                }
                answers
            }
        }
    }

    /// Posts what follows: the next steps, which count as sent, and the runs that waited for one that has ended, where there is room.
    fn posted(self: &Arc<Self>, endings: &[Ending], completed: Vec<Completed>) -> Vec<Shared<Completed>> {
        let mut messages = Vec::new();
        for (ending, completion) in endings.iter().zip(&completed) {
            let follow = completion.iter().flat_map(|completion: &Completion| &completion.messages);
            let may_go =
                |message: &&Message| message.run == ending.claim.run || self.may_send(Some(message.queue.clone()));
            messages.extend(follow.filter(may_go).cloned());
        }
        self.post(messages);
        completed.into_iter().map(Ok).collect()
    }

    /// Takes a place in a queue for a message that goes out at once. Where there is none any more, the reconciler looks.
    pub(crate) fn may_send(&self, queue: Option<String>) -> bool {
        let Some(queue) = queue else { return false };
        match self.lanes.take(&queue) {
            Go::Yes => true,
            Go::NotAnyMore => {
                self.nudge();
                false
            }
            Go::No => false,
        }
    }

    /// Takes messages of the steps in `bodies` and carries them out, until `stop`; then waits until what runs is done or handed back.
    pub async fn work(
        self: Arc<Self>,
        bodies: Arc<Bodies>,
        slots: impl Fn(Step) -> usize,
        stop: CancellationToken,
        grace: Duration,
    ) {
        let names: Vec<&str> = bodies.keys().map(|step| step.as_str()).collect();
        let most = bodies.keys().map(|step| slots(*step).max(1)).max().unwrap_or(1);
        let _ = self.does.set((names.join(","), i64::try_from(most).unwrap_or(1)));
        self.wait_for_life().await;
        let mut consumers = tokio::task::JoinSet::new();
        for step in bodies.keys().copied() {
            // The lanes of a step share its slots; whoever waits longest comes first, so that no lane is kept out by another.
            let free = Arc::new(Semaphore::new(slots(step).max(1)));
            for priority in priority::ALL {
                let (engine, bodies, stop, free) = (self.clone(), bodies.clone(), stop.clone(), free.clone());
                consumers.spawn(async move {
                    let inside = engine.clone();
                    let deliver: Deliver = Arc::new(move |message: Message| {
                        let (inside, bodies, free) = (inside.clone(), bodies.clone(), free.clone());
                        async move { inside.deliver(message, &bodies, &free).await }.boxed()
                    });
                    engine.queue.consume(&step.queue(priority), &engine.settings.worker, deliver, stop).await;
                });
            }
        }
        stop.cancelled().await;
        // First let steps finish; then interrupt what is left, which hands it back without a lost attempt.
        if tokio::time::timeout(grace, self.held.empty()).await.is_err() {
            self.held.cancel_all();
            let _ = tokio::time::timeout(Duration::from_secs(3), self.held.empty()).await;
        }
        let _ = tokio::time::timeout(Duration::from_secs(2), async { while consumers.join_next().await.is_some() {} })
            .await;
    }
}

/// The queue of the step that will follow, if one does.
fn next_queue(claim: &Claim, outcome: &Outcome) -> Option<String> {
    let next = match outcome {
        Outcome::Done(_) | Outcome::Skip(_) => claim.plan.after(claim.step),
        Outcome::NoNewSession(_) | Outcome::GiveUp(_) => claim.plan.closing().filter(|closing| *closing != claim.step),
        _ => None,
    };
    next.map(|step| step.queue(claim.priority))
}

/// One error for everybody in a group.
fn share<T>(error: StoreError, count: usize) -> Vec<Shared<T>> {
    let error = Arc::new(error);
    (0..count).map(|_| Err(error.clone())).collect()
}

fn tell(outcome: &Outcome, took: Duration) {
    let duration_ms = took.as_millis();
    match outcome {
        Outcome::Retry { .. } | Outcome::GiveUp(_) => {
            tracing::warn!(duration_ms, reason = outcome.text(), "the attempt failed")
        }
        _ => tracing::info!(duration_ms, note = outcome.text(), "the attempt ended"),
    }
}

fn count(step: Step, outcome: &'static str, took: Duration) {
    metrics::counter!("retainai_attempts_total", "step" => step.as_str(), "outcome" => outcome).increment(1);
    metrics::histogram!("retainai_attempt_duration_seconds", "step" => step.as_str()).record(took.as_secs_f64());
}
