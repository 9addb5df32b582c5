//! What a step body is: it gets an attempt, answers with a report, and writes nothing itself.

use crate::effect::Effect;
use crate::ledger::Claim;
use crate::state::Outcome;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// One attempt as its body sees it.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// The step held, and its run.
    pub claim: Claim,
    /// Cancelled when the process stops or the step is no longer ours. A body that sees it answers `Interrupted`.
    pub cancel: CancellationToken,
}

/// What a body answers.
#[derive(Debug)]
pub struct Report {
    /// What should happen next.
    pub outcome: Outcome,
    /// What to write with it; only an outcome that succeeded writes anything.
    pub effects: Vec<Effect>,
}

/// The body of a step. It must be repeatable: run twice, it asks for the same effects.
#[async_trait]
pub trait StepBody: Send + Sync {
    /// Does the step.
    async fn run(&self, attempt: &Attempt) -> Report;

    /// Called after the completion has committed, for copies outside the database (the cache). It may be lost in a crash, so a later
    /// step must be able to do it again.
    async fn committed(&self, _attempt: &Attempt) {}
}

impl Report {
    /// Done, with what to write.
    pub fn done(note: impl Into<String>, effects: Vec<Effect>) -> Self {
        Self { outcome: Outcome::Done(note.into()), effects }
    }

    /// Nothing to do, for this reason; the run goes on.
    pub fn skip(reason: impl Into<String>, effects: Vec<Effect>) -> Self {
        Self { outcome: Outcome::Skip(reason.into()), effects }
    }

    /// Failed; may succeed later, unless the plan knows better about this `kind`.
    pub fn retry(kind: &'static str, error: impl Into<String>, after: Option<Duration>) -> Self {
        Self { outcome: Outcome::Retry { kind, error: error.into(), after }, effects: Vec::new() }
    }

    /// Cannot begin yet; gives its slot back until then, or until `condition` comes true.
    pub fn wait(reason: impl Into<String>, condition: Option<String>, until: DateTime<Utc>) -> Self {
        Self { outcome: Outcome::Wait { reason: reason.into(), condition, until }, effects: Vec::new() }
    }

    /// Failed, and would fail again.
    pub fn give_up(error: impl Into<String>) -> Self {
        Self { outcome: Outcome::GiveUp(error.into()), effects: Vec::new() }
    }

    /// Stopped from outside.
    pub fn interrupted() -> Self {
        Self { outcome: Outcome::Interrupted, effects: Vec::new() }
    }
}
