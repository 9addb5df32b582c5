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
    /// It failed and may succeed later, unless the plan says that failures of this kind do not heal; not before the given wait when the
    /// other side asked for one.
    Retry {
        /// What kind of failure, as [`Policy::never_retry`] spells it.
        kind: &'static str,
        /// What went wrong.
        error: String,
        /// A wait asked for by the other side (`Retry-After`).
        after: Option<Duration>,
    },
    /// It cannot begin yet: nobody's fault, not an attempt, and no worker is held meanwhile.
    Wait {
        /// For what, in words.
        reason: String,
        /// The key of a condition that releases it; `None`: only time does.
        condition: Option<String>,
        /// It goes on then at the latest.
        until: DateTime<Utc>,
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
    /// The step will be tried again.
    Again {
        /// Not before this; while it waits for a condition: not later.
        due_at: DateTime<Utc>,
        /// Whether the attempt is taken back (an interruption, a wait).
        forgive: bool,
        /// The condition that it waits for; `None`: it is ready.
        wait_for: Option<String>,
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

/// An attempt that has ended, with everything that its consequences depend on.
#[derive(Debug, Clone, Copy)]
pub struct Ended<'a> {
    /// The plan of its run.
    pub plan: &'a Plan,
    /// The policy of its step.
    pub policy: &'a Policy,
    /// Which attempt, from 1.
    pub attempt: i64,
    /// The last attempt.
    pub max_attempts: i64,
    /// How many attempts before this one ended with their worker.
    pub losses: i64,
    /// When the step became ready for the first time.
    pub first_ready_at: DateTime<Utc>,
    /// Now, by the engine clock.
    pub now: DateTime<Utc>,
    /// Uniform in [0, 1).
    pub dice: f64,
}

/// Decides what follows an attempt's `outcome`.
pub fn decide(ended: &Ended<'_>, outcome: &Outcome) -> Decision {
    let Ended { plan, policy, attempt, now, .. } = *ended;
    let failed = |reason: String| Decision::Close { state: StepState::Failed, verdict: Verdict::Failed, reason };
    match outcome {
        Outcome::Done(_) => Decision::Advance { state: StepState::Done, next: plan.after(policy.step) },
        Outcome::Skip(_) => Decision::Advance { state: StepState::Skipped, next: plan.after(policy.step) },
        Outcome::NoNewSession(reason) => {
            Decision::Close { state: StepState::Done, verdict: Verdict::NoNewSession, reason: reason.clone() }
        }
        Outcome::Retry { kind, error, .. } if policy.never_retry.contains(kind) => {
            failed(format!("{} failed with what does not heal ({kind}): {error}", policy.step))
        }
        Outcome::Retry { error, after, .. } => {
            again_or_failed(ended, error, delay(policy, attempt, *after, ended.dice))
        }
        // The first time it was likely not the step that killed its worker, so somebody else goes on at once.
        Outcome::Lost if ended.losses == 0 => again_or_failed(ended, outcome.text(), TimeDelta::zero()),
        Outcome::Lost => again_or_failed(ended, outcome.text(), delay(policy, ended.losses, None, ended.dice)),
        Outcome::GiveUp(error) => failed(format!("{} gave up: {error}", policy.step)),
        Outcome::Wait { condition, until, .. } => {
            Decision::Again { due_at: *until, forgive: true, wait_for: condition.clone() }
        }
        Outcome::Interrupted => Decision::Again { due_at: now, forgive: true, wait_for: None },
    }
}

/// Another attempt after `wait`, if one is left and it would begin before the deadline.
fn again_or_failed(ended: &Ended<'_>, error: &str, wait: TimeDelta) -> Decision {
    let Ended { policy, attempt, now, .. } = *ended;
    let deadline = ended.first_ready_at + TimeDelta::from_std(policy.deadline).unwrap_or(TimeDelta::days(365));
    let reason = if attempt >= ended.max_attempts {
        format!("{} failed after {attempt} attempts: {error}", policy.step)
    } else if now + wait > deadline {
        format!(
            "{} failed at attempt {attempt}, and the next one would begin after its deadline of {} h: {error}",
            policy.step,
            policy.deadline.as_secs() / 3600
        )
    } else {
        return Decision::Again { due_at: now + wait, forgive: false, wait_for: None };
    };
    Decision::Close { state: StepState::Failed, verdict: Verdict::Failed, reason }
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
            (Outcome::Wait { .. }, _) => "waited",
            (Outcome::Done(_) | Outcome::NoNewSession(_), _) => "done",
            (Outcome::Skip(_), _) => "skipped",
            (_, Decision::Again { .. }) => "retry",
            _ => "failed",
        }
    }

    /// Whether its effects are written.
    pub fn succeeded(&self) -> bool {
        matches!(self, Outcome::Done(_) | Outcome::Skip(_) | Outcome::NoNewSession(_))
    }

    /// The kind of failure, when it is one.
    pub fn error_kind(&self) -> Option<&'static str> {
        match self {
            Outcome::Retry { kind, .. } => Some(kind),
            Outcome::GiveUp(_) => Some("gave_up"),
            Outcome::Lost => Some("lost"),
            _ => None,
        }
    }

    /// What the outcome says in words.
    pub fn text(&self) -> &str {
        match self {
            Outcome::Done(text) | Outcome::Skip(text) | Outcome::NoNewSession(text) | Outcome::GiveUp(text) => text,
            Outcome::Retry { error, .. } => error,
            Outcome::Wait { reason, .. } => reason,
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

    fn ended(policy: &Policy, attempt: i64, losses: i64, dice: f64) -> Ended<'_> {
        Ended {
            plan: &TICKER,
            policy,
            attempt,
            max_attempts: policy.max_attempts,
            losses,
            first_ready_at: at(),
            now: at(),
            dice,
        }
    }

    fn decided(step: Step, attempt: i64, outcome: &Outcome, dice: f64) -> Decision {
        let policy = TICKER.policy(step).unwrap();
        decide(&ended(policy, attempt, 0, dice), outcome)
    }

    #[test]
    fn the_chain_goes_step_by_step() {
        let mut seen = vec![Step::Scrape];
        while let Decision::Advance { next: Some(next), .. } =
            decided(*seen.last().unwrap(), 1, &Outcome::Done(String::new()), 0.0)
        {
            seen.push(next);
        }
        assert_eq!(seen, Step::of_the_chain().collect::<Vec<_>>());
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
        let outcome =
            Outcome::Retry { kind: "rate_limited", error: "429".into(), after: Some(Duration::from_secs(900)) };
        assert_eq!(
            decided(Step::Scrape, 1, &outcome, 0.5),
            Decision::Again { due_at: at() + TimeDelta::seconds(900), forgive: false, wait_for: None }
        );
    }

    #[test]
    fn what_does_not_heal_is_not_tried_again() {
        let page = Outcome::Retry { kind: "layout_changed", error: "no table".into(), after: None };
        assert!(matches!(decided(Step::Scrape, 1, &page, 0.5), Decision::Close { verdict: Verdict::Failed, .. }));
        assert!(matches!(decided(Step::Archive, 1, &page, 0.5), Decision::Again { .. }), "the table is the step's own");
    }

    #[test]
    fn nothing_is_tried_after_the_deadline() {
        let policy = TICKER.policy(Step::Scrape).unwrap();
        let retry = Outcome::Retry { kind: "transport", error: "x".into(), after: Some(Duration::from_secs(60)) };
        let late = |hours| Ended { now: at() + TimeDelta::hours(hours), ..ended(policy, 2, 0, 0.5) };
        assert!(matches!(decide(&late(11), &retry), Decision::Again { .. }));
        assert!(matches!(decide(&late(12), &retry), Decision::Close { .. }), "a minute later is after 12 h");
    }

    #[test]
    fn a_first_lost_worker_costs_no_time_and_later_ones_do() {
        let policy = TICKER.policy(Step::Scrape).unwrap();
        let again = |losses| match decide(&ended(policy, losses + 1, losses, 0.5), &Outcome::Lost) {
            Decision::Again { due_at, .. } => due_at - at(),
            other => panic!("{other:?}"),
        };
        assert_eq!((again(0), again(1), again(2)), (TimeDelta::zero(), TimeDelta::seconds(1), TimeDelta::seconds(2)));
    }

    #[test]
    fn a_wait_is_not_an_attempt() {
        let wait = Outcome::Wait {
            reason: "no token".into(),
            condition: Some("session:NASDAQ".into()),
            until: at() + TimeDelta::hours(1),
        };
        assert_eq!(
            decided(Step::Scrape, 8, &wait, 0.5),
            Decision::Again {
                due_at: at() + TimeDelta::hours(1),
                forgive: true,
                wait_for: Some("session:NASDAQ".into())
            }
        );
    }

    proptest! {
        #[test]
        fn retries_end(attempt in 1i64..100, dice in 0.0f64..1.0, lost in any::<bool>()) {
            let outcome = if lost { Outcome::Lost } else { Outcome::Retry { kind: "transport", error: "x".into(), after: None } };
            let policy = TICKER.policy(Step::Scrape).unwrap();
            match decided(Step::Scrape, attempt, &outcome, dice) {
                Decision::Again { due_at, forgive, wait_for: None } => {
                    prop_assert!(attempt < policy.max_attempts && !forgive);
                    prop_assert!(due_at >= at() && due_at <= at() + TimeDelta::from_std(policy.backoff_cap).unwrap());
                }
                Decision::Close { state, verdict, .. } => {
                    prop_assert!(attempt >= policy.max_attempts);
                    prop_assert_eq!((state, verdict), (StepState::Failed, Verdict::Failed));
                }
                Decision::Again { .. } | Decision::Advance { .. } => prop_assert!(false),
            }
        }

        #[test]
        fn an_interruption_never_ends_a_step(attempt in 1i64..100) {
            prop_assert_eq!(decided(Step::Finetune, attempt, &Outcome::Interrupted, 0.3), Decision::Again { due_at: at(), forgive: true, wait_for: None });
        }
    }
}
