//! What must happen: the chain as a table. Read this file first; everything else in the engine serves it.
//! A plan is data: its steps in order, each with its policy. Adding a plan touches this table and its step files.

use crate::subject::SubjectKind;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr, time::Duration};

/// One step kind. Spelled the same in code, tables, queues and API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Fetches, checks and stages the newest bars.
    Scrape,
    /// Continues the ticker's model, or creates it.
    Finetune,
    /// Predicts, stores the forecast, fills the cache.
    Cache,
    /// Moves the staged bars into the archive.
    Archive,
    /// Deletes the staging, however the run ends.
    Cleanup,
    /// Trains the model that an exchange's tickers start from.
    Pretrain,
    /// Scores forecasts against final closes.
    Settle,
    /// Writes one subscriber's digest.
    Digest,
    /// Sends one message to where it belongs.
    Deliver,
}

/// How often, how long and how patiently a step is tried.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Which step.
    pub step: Step,
    /// Attempts before the step counts as failed; crashes count, interruptions and waits do not.
    pub max_attempts: i64,
    /// Start-to-close limit of one attempt; longer counts as a failed attempt.
    pub time_limit: Duration,
    /// First back-off; doubles with each attempt, drawn uniformly from (0, it].
    pub backoff: Duration,
    /// The back-off never exceeds this.
    pub backoff_cap: Duration,
    /// From the first time it is ready to its end: a retry that would begin later is not tried.
    pub deadline: Duration,
    /// Kinds of failure that are never tried again, whatever attempts are left.
    pub never_retry: &'static [&'static str],
}

const fn policy(
    step: Step,
    max_attempts: i64,
    time_limit_s: u64,
    backoff_s: u64,
    backoff_cap_s: u64,
    deadline_h: u64,
    never_retry: &'static [&'static str],
) -> Policy {
    Policy {
        step,
        max_attempts,
        time_limit: Duration::from_secs(time_limit_s),
        backoff: Duration::from_secs(backoff_s),
        backoff_cap: Duration::from_secs(backoff_cap_s),
        deadline: Duration::from_secs(deadline_h * 3600),
        never_retry,
    }
}

/// A chain of steps.
#[derive(Debug)]
pub struct Plan {
    /// Name in the ledger.
    pub name: &'static str,
    /// A run keeps the version it began with. A change of steps or of their order is a new version; the old one stays in [`PLANS`]
    /// until no open run can have it.
    pub version: i64,
    /// What its runs are about.
    pub subject: SubjectKind,
    /// Steps in order.
    pub steps: &'static [Policy],
    /// Whether the last step closes the run: then it is carried out however the others end.
    pub closes: bool,
}

/// What the same question would answer again: a page that changed, a ticker that is not there, an answer about another security, a wrong key, another site.
const PAGE_FAULTS: &[&str] = &["not_found", "blocked", "layout_changed", "identity", "key", "moved"];
/// Arithmetic that failed on these numbers fails on them again.
const ARITHMETIC: &[&str] = &["arithmetic"];
/// What a platform has refused for good.
const REFUSED: &[&str] = &["refused"];

/// The daily chain of one ticker.
///
/// | step | attempts | limit | back-off | in all |
/// |---|---|---|---|---|
/// | scrape | a source may be away for an hour | 2 min | 2 s … 5 min | 12 h |
/// | finetune | pure arithmetic that failed fails again; a lost worker does not | 10 min | 5 s … 1 min | 12 h |
/// | cache, archive | only our own stores can fail | 1 min | 1 s … 1 min | 24 h |
/// | cleanup | must succeed in the end | 1 min | 1 s … 5 min | 7 days |
pub const TICKER: Plan = Plan {
    name: "ticker",
    version: 1,
    subject: SubjectKind::Ticker,
    steps: &[
        policy(Step::Scrape, 8, 120, 2, 300, 12, PAGE_FAULTS),
        policy(Step::Finetune, 5, 600, 5, 60, 12, ARITHMETIC),
        policy(Step::Cache, 6, 60, 1, 60, 24, ARITHMETIC),
        policy(Step::Archive, 10, 60, 1, 60, 24, &[]),
        policy(Step::Cleanup, 20, 60, 1, 300, 168, &[]),
    ],
    closes: true,
};

/// The model that an exchange's tickers start from.
pub const PRETRAIN: Plan = Plan {
    name: "pretrain",
    version: 1,
    subject: SubjectKind::Exchange,
    steps: &[policy(Step::Pretrain, 3, 3600, 30, 600, 24, ARITHMETIC)],
    closes: false,
};

/// Forecasts of an exchange scored against the final closes of a session.
pub const SETTLE: Plan = Plan {
    name: "settle",
    version: 1,
    subject: SubjectKind::Exchange,
    steps: &[policy(Step::Settle, 10, 300, 5, 300, 48, &[])],
    closes: false,
};

/// One subscriber's digest: written, then sent.
pub const DIGEST: Plan = Plan {
    name: "digest",
    version: 1,
    subject: SubjectKind::Other,
    steps: &[policy(Step::Digest, 5, 60, 2, 60, 1, &[]), policy(Step::Deliver, 6, 30, 2, 300, 6, REFUSED)],
    closes: false,
};

/// One message of a bot or one webhook call.
pub const DELIVER: Plan = Plan {
    name: "deliver",
    version: 1,
    subject: SubjectKind::Other,
    steps: &[policy(Step::Deliver, 8, 30, 2, 600, 24, REFUSED)],
    closes: false,
};

/// Every plan, in every version, that this program can carry out.
pub const PLANS: Plans = &[&TICKER, &PRETRAIN, &SETTLE, &DIGEST, &DELIVER];

/// The plans that a program knows. Handed to its ledger, so that a test can be an older or a newer program.
pub type Plans = &'static [&'static Plan];

impl Plan {
    /// The plan of that name and version, or `None` for one that is not among `plans`: another, newer program knows it.
    pub fn find(plans: Plans, name: &str, version: i64) -> Option<&'static Plan> {
        plans.iter().copied().find(|plan| plan.name == name && plan.version == version)
    }

    /// The newest version of the plan of that name.
    pub fn named(name: &str) -> Option<&'static Plan> {
        PLANS.iter().copied().filter(|plan| plan.name == name).max_by_key(|plan| plan.version)
    }

    /// The step that closes every run of this plan, however its other steps end; `None` when the plan needs none.
    pub fn closing(&self) -> Option<Step> {
        self.steps.last().filter(|_| self.closes).map(|policy| policy.step)
    }

    /// The step after `step`; `None` after the last.
    pub fn after(&self, step: Step) -> Option<Step> {
        self.steps.get(self.place(step)? + 1).map(|p| p.step)
    }

    /// The place of `step`, from 0; `None` when the plan has no such step.
    pub fn place(&self, step: Step) -> Option<usize> {
        self.steps.iter().position(|p| p.step == step)
    }

    /// The policy of `step`; `None` when the plan has no such step.
    pub fn policy(&self, step: Step) -> Option<&'static Policy>
    where
        Self: 'static,
    {
        self.steps.iter().find(|p| p.step == step)
    }
}

/// Priorities of runs, and the queues they travel in.
pub mod priority {
    /// A person waits for it.
    pub const MANUAL: i64 = 10;
    /// A schedule started it.
    pub const SCHEDULED: i64 = 0;
    /// A backfill started it.
    pub const BACKFILL: i64 = -10;
    /// One of each, highest first.
    pub const ALL: [i64; 3] = [MANUAL, SCHEDULED, BACKFILL];
}

impl Step {
    /// Every step kind, the daily chain first and in its order.
    pub const ALL: [Step; 9] = [
        Step::Scrape,
        Step::Finetune,
        Step::Cache,
        Step::Archive,
        Step::Cleanup,
        Step::Pretrain,
        Step::Settle,
        Step::Digest,
        Step::Deliver,
    ];

    /// The steps of the daily chain, in order.
    pub fn of_the_chain() -> impl Iterator<Item = Step> {
        TICKER.steps.iter().map(|policy| policy.step)
    }

    /// The name in tables, queues and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Scrape => "scrape",
            Step::Finetune => "finetune",
            Step::Cache => "cache",
            Step::Archive => "archive",
            Step::Cleanup => "cleanup",
            Step::Pretrain => "pretrain",
            Step::Settle => "settle",
            Step::Digest => "digest",
            Step::Deliver => "deliver",
        }
    }

    /// The queue that carries it. Runs that a person waits for and backfills have queues of their own, so that neither a night of
    /// scheduled runs nor a year of old ones stands before them. No `:` in the name: apalis-redis splits at it (D3).
    pub fn queue(self, priority: i64) -> String {
        let lane = match priority {
            1.. => "_now",
            0 => "",
            _ => "_later",
        };
        format!("{}{lane}", self.as_str())
    }

    /// Every queue, the more urgent ones of all steps first.
    pub fn queues() -> impl Iterator<Item = (Step, String)> {
        priority::ALL
            .into_iter()
            .flat_map(|priority| Step::ALL.into_iter().map(move |step| (step, step.queue(priority))))
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown step `{0}`: use scrape, finetune, cache, archive, cleanup, pretrain, settle, digest or deliver")]
pub struct UnknownStep(pub String);

impl FromStr for Step {
    type Err = UnknownStep;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Step::ALL.into_iter().find(|step| step.as_str() == text).ok_or_else(|| UnknownStep(text.to_owned()))
    }
}
