//! What must happen: the chain as a table. Read this file first; everything else in the engine serves it.
//! A plan is data: its steps in order, each with its policy. Adding a plan touches this table and its step files.

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
}

/// How often, how long and how patiently a step is tried.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Which step.
    pub step: Step,
    /// Attempts before the step counts as failed; crashes count, interruptions do not.
    pub max_attempts: i64,
    /// Start-to-close limit of one attempt; longer counts as a failed attempt.
    pub time_limit: Duration,
    /// First back-off; doubles with each attempt, drawn uniformly from (0, it].
    pub backoff: Duration,
    /// The back-off never exceeds this.
    pub backoff_cap: Duration,
}

const fn policy(step: Step, max_attempts: i64, time_limit_s: u64, backoff_s: u64, backoff_cap_s: u64) -> Policy {
    Policy {
        step,
        max_attempts,
        time_limit: Duration::from_secs(time_limit_s),
        backoff: Duration::from_secs(backoff_s),
        backoff_cap: Duration::from_secs(backoff_cap_s),
    }
}

/// A chain of steps. The last one is the closing step: it runs however the others end.
#[derive(Debug)]
pub struct Plan {
    /// Name in the ledger.
    pub name: &'static str,
    /// Steps in order.
    pub steps: &'static [Policy],
}

/// The daily chain of one ticker.
///
/// | step | attempts | limit | back-off |
/// |---|---|---|---|
/// | scrape | a source may be away for an hour | 2 min | 2 s … 5 min |
/// | finetune | pure arithmetic: a second failure will not heal | 10 min | 5 s … 1 min |
/// | cache, archive | only our own stores can fail | 1 min | 1 s … 1 min |
/// | cleanup | must succeed in the end | 1 min | 1 s … 5 min |
pub const TICKER: Plan = Plan {
    name: "ticker",
    steps: &[
        policy(Step::Scrape, 8, 120, 2, 300),
        policy(Step::Finetune, 3, 600, 5, 60),
        policy(Step::Cache, 6, 60, 1, 60),
        policy(Step::Archive, 10, 60, 1, 60),
        policy(Step::Cleanup, 20, 60, 1, 300),
    ],
};

/// Every plan of this version.
pub const PLANS: [&Plan; 1] = [&TICKER];

impl Plan {
    /// The plan of that name, or `None` for one that this version does not know.
    pub fn named(name: &str) -> Option<&'static Plan> {
        PLANS.into_iter().find(|plan| plan.name == name)
    }

    /// The step that closes every run of this plan.
    pub fn closing(&self) -> Step {
        self.steps.last().expect("a plan has steps").step
    }

    /// The step after `step`; `None` after the last.
    pub fn after(&self, step: Step) -> Option<Step> {
        let at = self.steps.iter().position(|p| p.step == step)?;
        self.steps.get(at + 1).map(|p| p.step)
    }

    /// The policy of `step`; `None` when the plan has no such step.
    pub fn policy(&self, step: Step) -> Option<&'static Policy>
    where
        Self: 'static,
    {
        self.steps.iter().find(|p| p.step == step)
    }
}

impl Step {
    /// Every step kind, in the order of the chain.
    pub const ALL: [Step; 5] = [Step::Scrape, Step::Finetune, Step::Cache, Step::Archive, Step::Cleanup];

    /// The name in tables, queues and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Scrape => "scrape",
            Step::Finetune => "finetune",
            Step::Cache => "cache",
            Step::Archive => "archive",
            Step::Cleanup => "cleanup",
        }
    }

    /// The queue that carries it. Runs that a person waits for have queues of their own, so that a night of
    /// scheduled runs cannot stand before them. No `:` in the name: apalis-redis splits at it (D3).
    pub fn queue(self, priority: i64) -> String {
        format!("{}{}", self.as_str(), if priority > 0 { "_now" } else { "" })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no step.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown step `{0}`: use scrape, finetune, cache, archive or cleanup")]
pub struct UnknownStep(pub String);

impl FromStr for Step {
    type Err = UnknownStep;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Step::ALL.into_iter().find(|step| step.as_str() == text).ok_or_else(|| UnknownStep(text.to_owned()))
    }
}
