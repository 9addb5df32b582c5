//! Runs, steps and attempts as the API shows them; from rows of the ledger.

use crate::problem::Problem;
use crate::words::{AttemptOutcome, ExchangeName, RunStateName, StepStateName, word};
use chrono::{DateTime, NaiveDate, Utc};
use poem_openapi::Object;
use uuid::Uuid;
use workflows::ledger::{AttemptRow, RunRow, StepRow};

/// One pass of one ticker through the chain, for one session.
#[derive(Debug, Object)]
#[oai(rename = "Run", skip_serializing_if_is_none)]
pub(crate) struct RunView {
    /// Its id; later runs have greater ids.
    id: Uuid,
    /// What it is about: `NASDAQ:AAPL`, an exchange, or an id of another plan's own.
    subject: String,
    /// Where the ticker trades, when it is about one.
    exchange: Option<ExchangeName>,
    /// The symbol, `AAPL`, when it is about one.
    ticker: Option<String>,
    /// The session it is for.
    session: NaiveDate,
    /// Where it stands.
    state: RunStateName,
    /// How it will end, when that is decided but not yet so: `failed`, `cancelled` or `no_new_session`.
    verdict: Option<String>,
    /// What it goes through.
    plan: String,
    /// The version of the plan that it began with and keeps.
    plan_version: i64,
    /// The schedule that started it; absent when a person did.
    schedule: Option<String>,
    /// The backfill that started it.
    backfill: Option<Uuid>,
    /// Why it ended as it did, or what to know although it succeeded.
    reason: Option<String>,
    /// When it was asked for.
    created_at: DateTime<Utc>,
    /// When its first step was taken up.
    started_at: Option<DateTime<Utc>>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
    /// Greater first; above 0 for runs that a person waits for.
    priority: i64,
    /// Whether it sends no request.
    offline: bool,
    /// The run that this one repeats.
    rerun_of: Option<Uuid>,
    /// Whether it is kept whatever its age.
    pinned: bool,
}

/// Runs, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
pub(crate) struct RunPage {
    /// At most `limit` of them.
    pub(crate) items: Vec<RunView>,
    /// Asks for the page after this one; absent on the last.
    pub(crate) next_cursor: Option<String>,
}

/// A run with all that happened in it.
#[derive(Debug, Object)]
pub(crate) struct RunDetail {
    #[oai(flatten)]
    run: RunView,
    /// Its steps, in order.
    steps: Vec<StepView>,
    /// Every attempt of every step, oldest first.
    attempts: Vec<AttemptView>,
}

/// One step of a run.
#[derive(Debug, Object)]
#[oai(rename = "Step", skip_serializing_if_is_none)]
struct StepView {
    /// Which: `scrape`, `finetune`, `cache`, `archive`, `cleanup`.
    step: String,
    /// Its place in the plan, from 0.
    seq: i64,
    /// Where it stands.
    state: StepStateName,
    /// Attempts so far; interruptions do not count.
    attempt: i64,
    /// Attempts before it counts as failed.
    max_attempts: i64,
    /// How often it was made ready.
    generation: i64,
    /// Fencing number: rises with each claim.
    epoch: i64,
    /// Ready: not before this. Waiting for a condition: no longer than this. Absent while its turn has not come.
    due_at: Option<DateTime<Utc>>,
    /// What it waits for: `active` (an earlier run of the subject), `pause:KIND:VALUE`, or a condition.
    wait_for: Option<String>,
    /// Attempts that ended with their worker.
    losses: i64,
    /// What came of it.
    note: Option<String>,
    /// What went wrong last.
    error: Option<String>,
    /// When it ended.
    finished_at: Option<DateTime<Utc>>,
}

/// One try of a step.
#[derive(Debug, Object)]
#[oai(rename = "Attempt", skip_serializing_if_is_none)]
struct AttemptView {
    /// Of which step.
    step: String,
    /// Under which fencing number.
    epoch: i64,
    /// Which try, from 1.
    attempt: i64,
    /// Who tried.
    worker: String,
    /// Since when.
    started_at: DateTime<Utc>,
    /// Until when.
    finished_at: Option<DateTime<Utc>>,
    /// How it ended.
    outcome: AttemptOutcome,
    /// What kind of failure it was; the plan says which kinds are never tried again.
    error_kind: Option<String>,
    /// What was said about it.
    detail: Option<String>,
}

impl RunView {
    pub(crate) fn of(row: RunRow) -> Result<Self, Problem> {
        Ok(Self {
            id: row.id,
            subject: row.subject,
            exchange: row.exchange.as_deref().map(word).transpose()?,
            ticker: row.ticker,
            session: row.session,
            state: word(&row.state)?,
            verdict: row.verdict,
            plan: row.plan,
            plan_version: row.plan_version,
            schedule: row.schedule_id,
            backfill: row.backfill_id,
            reason: row.reason,
            created_at: row.created_at.0,
            started_at: row.started_at.map(|at| at.0),
            finished_at: row.finished_at.map(|at| at.0),
            priority: row.priority,
            offline: row.offline,
            rerun_of: row.lineage,
            pinned: row.pinned,
        })
    }
}

impl RunDetail {
    pub(crate) fn of(run: RunRow, steps: Vec<StepRow>, attempts: Vec<AttemptRow>) -> Result<Self, Problem> {
        Ok(Self {
            run: RunView::of(run)?,
            steps: steps.into_iter().map(StepView::of).collect::<Result<_, _>>()?,
            attempts: attempts.into_iter().map(AttemptView::of).collect::<Result<_, _>>()?,
        })
    }
}

impl StepView {
    fn of(row: StepRow) -> Result<Self, Problem> {
        Ok(Self {
            state: word(&row.state)?,
            step: row.step,
            seq: row.seq,
            attempt: row.attempt,
            max_attempts: row.max_attempts,
            generation: row.generation,
            epoch: row.epoch,
            due_at: row.due_at.map(|at| at.0),
            wait_for: row.wait_for,
            losses: row.losses,
            note: row.note,
            error: row.error,
            finished_at: row.finished_at.map(|at| at.0),
        })
    }
}

impl AttemptView {
    fn of(row: AttemptRow) -> Result<Self, Problem> {
        Ok(Self {
            outcome: word(&row.outcome)?,
            step: row.step,
            epoch: row.epoch,
            attempt: row.attempt,
            worker: row.worker,
            started_at: row.started_at.0,
            finished_at: row.finished_at.map(|at| at.0),
            error_kind: row.error_kind,
            detail: row.detail,
        })
    }
}
