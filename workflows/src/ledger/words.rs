//! What goes in and out of the ledger: runs to be started, claims, endings, completions. The same for every kind of ledger.

use crate::db::{StoreError, StoreResult};
use crate::effect::Effect;
use crate::message::Message;
use crate::plan::{Plan, Plans, Policy, Step};
use crate::state::{Decision, Ended, Outcome, RunState, StepState, Verdict, decide};
use crate::subject::Subject;
use chrono::{DateTime, NaiveDate, Utc};
use market::Ticker;
use uuid::Uuid;

/// A step under one epoch: what a worker holds.
pub type Key = (Uuid, Step, i64);

/// A run to be started.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// Time-ordered id (UUIDv7), made by the caller.
    pub id: Uuid,
    /// What it goes through.
    pub plan: &'static Plan,
    /// What it is about; of the plan's kind.
    pub subject: Subject,
    /// The session it aims at.
    pub session: NaiveDate,
    /// The schedule whose tick starts it.
    pub schedule: Option<String>,
    /// The backfill that starts it.
    pub backfill: Option<Uuid>,
    /// Greater first; see [`crate::plan::priority`].
    pub priority: i64,
    /// Whether its steps must send no request.
    pub offline: bool,
    /// A second start under the same key is the first.
    pub idempotency_key: Option<String>,
    /// The run it repeats, and the step it begins from.
    pub repeats: Option<(Uuid, Step)>,
}

impl NewRun {
    /// The place in its plan that it begins from.
    pub(crate) fn first_place(&self) -> usize {
        self.repeats.and_then(|(_, step)| self.plan.place(step)).unwrap_or(0)
    }
}

/// What came of one start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The run: new, or the one that was there.
    pub id: Uuid,
    /// Whether it is new.
    pub created: bool,
}

/// A step held by this process until its lease ends. Everything a step body may know of its run.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The run.
    pub run: Uuid,
    /// Its plan.
    pub plan: &'static Plan,
    /// What it is about.
    pub subject: Subject,
    /// The session it is for, as far as known.
    pub session: NaiveDate,
    /// Whether no request may leave this program.
    pub offline: bool,
    /// The run's priority: the next step travels in its lane.
    pub priority: i64,
    /// Which step.
    pub step: Step,
    /// Its policy.
    pub policy: &'static Policy,
    /// This attempt, from 1.
    pub attempt: i64,
    /// The last attempt.
    pub max_attempts: i64,
    /// How many attempts ended with their worker.
    pub losses: i64,
    /// Fencing number: completing needs it unchanged.
    pub epoch: i64,
    /// When the step became ready for the first time.
    pub first_ready_at: DateTime<Utc>,
}

impl Claim {
    /// The ticker of a run of a plan about tickers.
    ///
    /// # Panics
    /// In a body of a plan about something else: a fault in our own table of bodies. The attempt then fails and says so.
    pub fn ticker(&self) -> &Ticker {
        match &self.subject {
            Subject::Ticker(ticker) => ticker,
            other => panic!("step {} of plan {} is about {other}, which is no ticker", self.step, self.plan.name),
        }
    }

    /// What the fence compares.
    pub fn key(&self) -> Key {
        (self.run, self.step, self.epoch)
    }
}

/// The columns of a run that a claim is made of.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct RunPart {
    pub id: Uuid,
    pub plan: String,
    pub plan_version: i64,
    pub subject: String,
    pub session: NaiveDate,
    pub offline: bool,
    pub priority: i64,
}

/// The columns of a step that a claim is made of.
#[derive(Debug, Clone, sqlx::FromRow)]
pub(crate) struct StepPart {
    pub run_id: Uuid,
    pub step: String,
    pub generation: i64,
    pub attempt: i64,
    pub max_attempts: i64,
    pub losses: i64,
    pub epoch: i64,
    pub first_ready_at: crate::db::Ts,
}

impl RunPart {
    /// Its plan, if it is among `plans`.
    pub(crate) fn plan(&self, plans: Plans) -> Option<&'static Plan> {
        Plan::find(plans, &self.plan, self.plan_version)
    }
}

impl StepPart {
    /// A claim; a plan that is not among `plans` is unreadable, for a newer version wrote it.
    pub(crate) fn of(self, run: &RunPart, plans: Plans) -> StoreResult<Claim> {
        let unknown = || StoreError::Unreadable {
            what: "plan of a run",
            why: format!("`{}` version {} with step {}", run.plan, run.plan_version, self.step),
        };
        let plan = run.plan(plans).ok_or_else(unknown)?;
        let step: Step = self.step.parse().map_err(|_| unknown())?;
        Ok(Claim {
            run: run.id,
            plan,
            subject: Subject::read(plan.subject, &run.subject)?,
            session: run.session,
            offline: run.offline,
            priority: run.priority,
            step,
            policy: plan.policy(step).ok_or_else(unknown)?,
            attempt: self.attempt,
            max_attempts: self.max_attempts,
            losses: self.losses,
            epoch: self.epoch,
            first_ready_at: self.first_ready_at.0,
        })
    }
}

/// The end of an attempt, to be written.
#[derive(Debug, Clone)]
pub struct Ending {
    /// What is held.
    pub claim: Claim,
    /// How it ended.
    pub outcome: Outcome,
    /// Written only with an outcome that succeeded.
    pub effects: Vec<Effect>,
    /// Uniform in [0, 1): the jitter of a back-off.
    pub dice: f64,
    /// Whether the message of the step that follows goes out at once: it counts as sent, and the caller pushes it after the commit. Else the
    /// reconciler sends it.
    pub sends_next: bool,
    /// Given by the reconciler: the step must also have let its lease lapse before this instant, so that a worker that renews in the
    /// meantime keeps it.
    pub lapsed_before: Option<DateTime<Utc>>,
}

/// What a completion made true.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Messages to push, now that the transaction has committed. Lost ones are pushed again by the reconciler.
    pub messages: Vec<Message>,
    /// The state the run ended in, if it did.
    pub run_ended: Option<RunState>,
    /// What was decided.
    pub decision: Decision,
}

/// What becomes of one ending: a completion, or [`StoreError::Fenced`] when the step was no longer held: then nothing of it was written but
/// the word in its attempt.
pub type Completed = Result<Completion, StoreError>;

/// Which running steps count as abandoned.
#[derive(Debug, Clone)]
pub enum Abandoned {
    /// Those whose lease ended before now.
    Lapsed,
    /// Those of any other process instance: true of the embedded store at start, which only one process may open.
    NotOf(Uuid),
    /// Those of these process instances, which show no sign of life.
    Of(Vec<Uuid>),
}

/// Whether and since when the store can tell who is alive.
#[derive(Debug, Clone, Default)]
pub struct SignsOfLife {
    /// Instances that hold running steps and show no sign of life.
    pub silent: Vec<Uuid>,
    /// When the server began, if it can say: leases could not be renewed before.
    pub up_since: Option<DateTime<Utc>>,
}

/// What an ending changes, besides its effects: pure, and the same for every kind of ledger.
#[derive(Debug)]
pub(crate) struct Consequence {
    pub decision: Decision,
    pub state: StepState,
    pub due_at: DateTime<Utc>,
    /// Ready again: its generation rises.
    pub again: bool,
    pub forgive: bool,
    pub lost: bool,
    pub wait_for: Option<String>,
    pub note: Option<String>,
    pub error: Option<String>,
    pub over: bool,
    /// The step that becomes ready.
    pub next: Option<Step>,
    /// How the run will end, from now on.
    pub verdict: Option<(Verdict, String)>,
    /// Whether the run ends with this.
    pub run_ends: bool,
}

impl Consequence {
    pub(crate) fn of(ending: &Ending, now: DateTime<Utc>) -> Self {
        let Ending { claim, outcome, dice, .. } = ending;
        let ended = Ended {
            plan: claim.plan,
            policy: claim.policy,
            attempt: claim.attempt,
            max_attempts: claim.max_attempts,
            losses: claim.losses,
            first_ready_at: claim.first_ready_at,
            now,
            dice: *dice,
        };
        let decision = decide(&ended, outcome);
        let closing = claim.plan.closing();
        let (next, verdict, run_ends) = match &decision {
            Decision::Again { .. } => (None, None, false),
            Decision::Advance { next, .. } => (*next, None, next.is_none()),
            Decision::Close { verdict, reason, .. } => {
                let next = closing.filter(|closing| *closing != claim.step);
                (next, Some((*verdict, reason.clone())), next.is_none())
            }
        };
        let (state, due_at, wait_for, forgive) = match &decision {
            Decision::Advance { state, .. } | Decision::Close { state, .. } => (*state, now, None, false),
            Decision::Again { due_at, forgive, wait_for: None } => (StepState::Ready, *due_at, None, *forgive),
            Decision::Again { due_at, forgive, wait_for } => (StepState::Waiting, *due_at, wait_for.clone(), *forgive),
        };
        let succeeded = matches!(state, StepState::Done | StepState::Skipped);
        Self {
            again: state == StepState::Ready,
            over: !matches!(state, StepState::Ready | StepState::Waiting),
            lost: *outcome == Outcome::Lost,
            note: succeeded.then(|| outcome.text().to_owned()),
            error: (!succeeded).then(|| outcome.text().to_owned()),
            state,
            due_at,
            forgive,
            wait_for,
            next,
            verdict,
            run_ends,
            decision,
        }
    }
}

/// A step row at its birth.
#[derive(Debug, Clone)]
pub(crate) struct NewStep {
    pub run: Uuid,
    pub step: Step,
    pub seq: i64,
    pub queue: String,
    pub state: StepState,
    pub max_attempts: i64,
    pub at: DateTime<Utc>,
    pub sent: bool,
    pub wait_for: Option<&'static str>,
    pub note: Option<&'static str>,
}

/// The wait of a step whose subject has an earlier active run.
pub(crate) const WAITS_FOR_ACTIVE: &str = "active";
/// Later than every lease and deadline; inside the range of both databases.
pub(crate) const FAR_FUTURE: &str = "9000-01-01T00:00:00Z";

pub(crate) fn far_future() -> DateTime<Utc> {
    FAR_FUTURE.parse().expect("a valid instant")
}

impl NewStep {
    /// A step that is ready from its birth; `sent`: its message is pushed right after the commit.
    pub(crate) fn ready(plan: &Plan, run: Uuid, step: Step, priority: i64, at: DateTime<Utc>, sent: bool) -> Self {
        let seq = plan.place(step).unwrap_or(0);
        Self {
            run,
            step,
            seq: i64::try_from(seq).unwrap_or(0),
            queue: step.queue(priority),
            state: StepState::Ready,
            max_attempts: plan.steps[seq].max_attempts,
            at,
            sent,
            wait_for: None,
            note: None,
        }
    }

    /// The steps that a new run is born with: those it keeps from the run it repeats, and its first one, which is ready if the run is the
    /// active one of its subject.
    pub(crate) fn of_new_run(run: &NewRun, active: bool, now: DateTime<Utc>) -> Vec<Self> {
        let from = run.first_place();
        let born = |step| Self::ready(run.plan, run.id, step, run.priority, now, false);
        let mut steps: Vec<Self> = run.plan.steps[..from]
            .iter()
            .map(|policy| Self {
                state: StepState::Skipped,
                note: Some("kept from the run that this one repeats"),
                ..born(policy.step)
            })
            .collect();
        let first = born(run.plan.steps[from].step);
        steps.push(if active {
            first
        } else {
            Self { state: StepState::Waiting, wait_for: Some(WAITS_FOR_ACTIVE), at: now, ..first }
        });
        steps
    }

    pub(crate) fn message(&self) -> Message {
        Message { run: self.run, step: self.step, generation: 1, queue: self.queue.clone() }
    }
}
