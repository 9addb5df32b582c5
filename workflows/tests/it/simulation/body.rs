//! What the steps of a simulated world do: they take their time, fail, wait, and one in some worlds kills its process whenever it is tried.

use super::sky::Air;
use super::world::Crash;
use async_trait::async_trait;
use chrono::TimeDelta;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;
use workflows::plan::Step;
use workflows::{Attempt, Effect, Outcome, Report, StepBody};

/// Bodies of one process.
pub struct Fate {
    pub air: Arc<Air>,
    pub process: usize,
    /// The subject and step that kill, in worlds that have one.
    pub killer: Option<(String, Step)>,
    pub crash: UnboundedSender<Crash>,
}

#[async_trait]
impl StepBody for Fate {
    async fn run(&self, attempt: &Attempt) -> Report {
        let (claim, sky) = (&attempt.claim, &self.air.sky);
        if self
            .killer
            .as_ref()
            .is_some_and(|(subject, step)| *subject == claim.subject.to_string() && *step == claim.step)
        {
            tokio::time::sleep(sky.millis(1..50)).await;
            let _ = self
                .crash
                .send(Crash { process: self.process, why: format!("killed by {} {}", claim.subject, claim.step) });
            // The process ends before this does.
            std::future::pending::<()>().await;
        }
        let rough = !sky.is_calm();
        let long = rough && sky.chance(0.02);
        let work = sky.millis(if long { 5_000..40_000 } else { 1..400 });
        tokio::select! {
            biased;
            () = attempt.cancel.cancelled() => return Report::interrupted(),
            () = tokio::time::sleep(work) => {}
        }
        self.air.thaw().await;
        let done = || Report::done("done", vec![Effect::Remark(format!("by epoch {}", claim.epoch))]);
        if !rough {
            return done();
        }
        match sky.below(100) {
            0..6 => Report::retry("transport", "told to", None),
            6 => Report::retry("rate_limited", "told to", Some(sky.millis(1..20_000))),
            7 => panic!("told to"),
            8 => Report { outcome: Outcome::NoNewSession("told to".into()), effects: vec![] },
            9 => Report::give_up("told to"),
            10 => Report::skip("told to", vec![]),
            11 => Report::wait("told to", Some("never".into()), sky.now() + TimeDelta::seconds(10)),
            12 => Report::wait("told to", Some("tide".into()), sky.now() + TimeDelta::hours(1)),
            13 => Report::wait("told to", None, sky.now() + TimeDelta::seconds(3)),
            _ => done(),
        }
    }
}
