//! What an outcome means for its step and its run: the state machine, pure. In come a plan, a step and how its attempt
//! ended, with the time and the dice given; out comes what the ledger must write. docs/states.md draws it.

use crate::plan::{Plan, Policy, Step};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RunState {
    Queued,
    Running,
    Succeeded,
    Failed,
    Cancelled,
    NoNewSession,
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum StepState {
    Waiting,
    Ready,
    Running,
    Done,
    Failed,
    Skipped,
    Cancelled,
}

/// How a run will end, when not in success. Decided before the closing step runs, applied after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Verdict {
    Failed,
    Cancelled,
    NoNewSession,
}

/// What a step answers. Choose with care: a page that changed will not heal by retrying; a time-out may.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It is done; the note says what came of it.
    Done(String),
    /// There was nothing to do, for this reason; the run goes on.
    Skip(String),
    /// The exchange has had no new session: the run ends here, without an error.
    NoNewSession(String),
    /// It failed and may succeed later; not before the given wait when the other side asked for one.
    Retry {
        /// What went wrong.
        error: String,
        /// A wait asked for by the other side (`Retry-After`).
        after: Option<Duration>,
    },
    /// It failed and would fail again.
    GiveUp(String),
    /// It was stopped from outside (shutdown): nobody's fault, not an attempt.
    Interrupted,
    /// Its worker vanished; found by the reconciler. Counts as an attempt, for it may have killed the worker.
    Lost,
}

/// What becomes of the step, and of the steps after it.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// The step ends as `state`; `next` becomes ready, or the run ends when there is none.
    Advance {
        /// `Done` or `Skipped`.
        state: StepState,
        /// The step that becomes ready.
        next: Option<Step>,
    },
    /// The step becomes ready again at this instant.
    Again {
        /// Not before this.
        due_at: DateTime<Utc>,
        /// Whether the attempt is taken back (an interruption).
        forgive: bool,
    },
    /// The run is over but for its closing step: this step ends as `state`, what waits is skipped, the closing step becomes ready.
    /// When the step is the closing step itself, the run ends at once.
    Close {
        /// `Done` for an early end that is no error, else `Failed`.
        state: StepState,
        /// How the run ends.
        verdict: Verdict,
        /// Why, in words.
        reason: String,
    },
}

/// Decides what follows an attempt's `outcome`.
///
/// `attempt` counts from 1; `dice` is uniform in [0, 1). Panics never; an unknown step cannot occur because `policy` is of the plan.
pub fn decide(
    plan: &Plan,
    policy: &Policy,
    attempt: i64,
    max_attempts: i64,
    outcome: &Outcome,
    now: DateTime<Utc>,
    dice: f64,
) -> Decision {
    let again_or = |error: &str, after: Option<Duration>| {
        if attempt < max_attempts {
            Decision::Again { due_at: now + delay(policy, attempt, after, dice), forgive: false }
        } else {
            let reason = format!("{} failed after {attempt} attempts: {error}", policy.step);
            Decision::Close { state: StepState::Failed, verdict: Verdict::Failed, reason }
        }
    };
    match outcome {
        Outcome::Done(_) => Decision::Advance { state: StepState::Done, next: plan.after(policy.step) },
        Outcome::Skip(_) => Decision::Advance { state: StepState::Skipped, next: plan.after(policy.step) },
        Outcome::NoNewSession(reason) => {
            Decision::Close { state: StepState::Done, verdict: Verdict::NoNewSession, reason: reason.clone() }
        }
        Outcome::Retry { error, after } => again_or(error, *after),
        Outcome::Lost => again_or("its worker vanished", None),
        Outcome::GiveUp(error) => {
            let reason = format!("{} gave up: {error}", policy.step);
            Decision::Close { state: StepState::Failed, verdict: Verdict::Failed, reason }
        }
        Outcome::Interrupted => Decision::Again { due_at: now, forgive: true },
    }
}

/// The wait before the next attempt: exponential with full jitter and a cap, or what the other side asked for if that is longer.
fn delay(policy: &Policy, attempt: i64, after: Option<Duration>, dice: f64) -> TimeDelta {
    let doublings = u32::try_from(attempt.clamp(1, 32) - 1).unwrap_or(0);
    let ceiling = policy.backoff.saturating_mul(2u32.saturating_pow(doublings)).min(policy.backoff_cap);
    let jittered = ceiling.mul_f64(dice.clamp(0.0, 1.0));
    TimeDelta::from_std(jittered.max(after.unwrap_or_default())).unwrap_or(TimeDelta::hours(1))
}

/// The state a run ends in.
pub fn final_state(verdict: Option<Verdict>) -> RunState {
    match verdict {
        None => RunState::Succeeded,
        Some(Verdict::Failed) => RunState::Failed,
        Some(Verdict::Cancelled) => RunState::Cancelled,
        Some(Verdict::NoNewSession) => RunState::NoNewSession,
    }
}

impl Outcome {
    /// The word in the attempt row, once the decision is known.
    pub fn attempt_word(&self, decision: &Decision) -> &'static str {
        match (self, decision) {
            (Outcome::Lost, _) => "lost",
            (Outcome::Interrupted, _) => "interrupted",
            (Outcome::Done(_) | Outcome::NoNewSession(_), _) => "done",
            (Outcome::Skip(_), _) => "skipped",
            (_, Decision::Again { .. }) => "retry",
            _ => "failed",
        }
    }

    /// What the outcome says in words.
    pub fn text(&self) -> &str {
        match self {
            Outcome::Done(text) | Outcome::Skip(text) | Outcome::NoNewSession(text) | Outcome::GiveUp(text) => text,
            Outcome::Retry { error, .. } => error,
            Outcome::Interrupted => "stopped from outside",
            Outcome::Lost => "its worker vanished",
        }
    }
}

macro_rules! words {
    ($type:ty { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $type {
            /// The word in tables and API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }
            /// The state of that word; `None` for a word that this version does not know.
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

words!(RunState { Queued = "queued", Running = "running", Succeeded = "succeeded", Failed = "failed", Cancelled = "cancelled", NoNewSession = "no_new_session" });
words!(StepState { Waiting = "waiting", Ready = "ready", Running = "running", Done = "done", Failed = "failed", Skipped = "skipped", Cancelled = "cancelled" });
words!(Verdict { Failed = "failed", Cancelled = "cancelled", NoNewSession = "no_new_session" });

impl RunState {
    /// Whether the run has ended.
    pub fn is_final(self) -> bool {
        !matches!(self, RunState::Queued | RunState::Running)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::TICKER;
    use proptest::prelude::*;

    fn at() -> DateTime<Utc> {
        "2024-01-02T00:00:00Z".parse().unwrap()
    }

    fn decided(step: Step, attempt: i64, outcome: &Outcome, dice: f64) -> Decision {
        let policy = TICKER.policy(step).unwrap();
        decide(&TICKER, policy, attempt, policy.max_attempts, outcome, at(), dice)
    }

    #[test]
    fn the_chain_goes_step_by_step() {
        let mut seen = vec![Step::Scrape];
        while let Decision::Advance { next: Some(next), .. } =
            decided(*seen.last().unwrap(), 1, &Outcome::Done(String::new()), 0.0)
        {
            seen.push(next);
        }
        assert_eq!(seen, Step::ALL);
    }

    #[test]
    fn a_closed_day_is_not_an_error() {
        let Decision::Close { state, verdict, .. } =
            decided(Step::Scrape, 1, &Outcome::NoNewSession("closed".into()), 0.0)
        else {
            panic!()
        };
        assert_eq!((state, verdict), (StepState::Done, Verdict::NoNewSession));
    }

    #[test]
    fn the_other_sides_wait_is_obeyed() {
        let outcome = Outcome::Retry { error: "429".into(), after: Some(Duration::from_secs(900)) };
        assert_eq!(
            decided(Step::Scrape, 1, &outcome, 0.5),
            Decision::Again { due_at: at() + TimeDelta::seconds(900), forgive: false }
        );
    }

    proptest! {
        #[test]
        fn retries_end(attempt in 1i64..100, dice in 0.0f64..1.0, lost in any::<bool>()) {
            let outcome = if lost { Outcome::Lost } else { Outcome::Retry { error: "x".into(), after: None } };
            let policy = TICKER.policy(Step::Scrape).unwrap();
            match decided(Step::Scrape, attempt, &outcome, dice) {
                Decision::Again { due_at, forgive } => {
                    prop_assert!(attempt < policy.max_attempts && !forgive);
                    prop_assert!(due_at >= at() && due_at <= at() + TimeDelta::from_std(policy.backoff_cap).unwrap());
                }
                Decision::Close { state, verdict, .. } => {
                    prop_assert!(attempt >= policy.max_attempts);
                    prop_assert_eq!((state, verdict), (StepState::Failed, Verdict::Failed));
                }
                Decision::Advance { .. } => prop_assert!(false),
            }
        }

        #[test]
        fn an_interruption_never_ends_a_step(attempt in 1i64..100) {
            prop_assert_eq!(decided(Step::Finetune, attempt, &Outcome::Interrupted, 0.3), Decision::Again { due_at: at(), forgive: true });
        }
    }
}
