//! What must be true when a world has ended, whatever befell it.

use super::world::Story;
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;
use workflows::ledger::{AttemptRow, RunRow, StepRow};
use workflows::plan::{PLANS, Plan};

/// Everything that is wrong; empty when all is well.
pub fn faults(story: &Story) -> Vec<String> {
    let mut faults = Vec::new();
    nothing_is_lost(story, &mut faults);
    for (run, steps, attempts) in &story.runs {
        let mut of_run = Vec::new();
        it_has_ended(run, steps, &mut of_run);
        its_effects_took_place_once(story, run, steps, &mut of_run);
        its_attempts_are_bounded(steps, attempts, &mut of_run);
        faults.extend(
            of_run.into_iter().map(|fault| format!("run {} of {} ({}): {fault}", run.id, run.subject, run.state)),
        );
    }
    one_run_of_a_subject_at_a_time(story, &mut faults);
    one_run_per_tick(story, &mut faults);
    the_killer_hurts_only_itself(story, &mut faults);
    faults
}

fn nothing_is_lost(story: &Story, faults: &mut Vec<String>) {
    let there: BTreeSet<Uuid> = story.runs.iter().map(|(run, ..)| run.id).collect();
    faults.extend(
        story
            .acknowledged
            .iter()
            .filter(|id| !there.contains(id))
            .map(|id| format!("run {id} was started and is not there")),
    );
}

fn it_has_ended(run: &RunRow, steps: &[StepRow], faults: &mut Vec<String>) {
    if matches!(run.state.as_str(), "queued" | "running") {
        let open: Vec<String> = steps.iter().map(|s| format!("{} {} for {:?}", s.step, s.state, s.wait_for)).collect();
        faults.push(format!("it is stuck: {}", open.join(", ")));
        return;
    }
    if let Some(step) = steps.iter().find(|s| matches!(s.state.as_str(), "ready" | "running" | "waiting")) {
        faults.push(format!("it has ended and its step {} is {}", step.step, step.state));
    }
    let word = run.verdict.as_deref().unwrap_or("succeeded");
    if word != run.state {
        faults.push(format!("its verdict is {word}"));
    }
    if run.state == "succeeded" && steps.iter().any(|s| !matches!(s.state.as_str(), "done" | "skipped")) {
        faults.push("it succeeded with a step that did not".to_owned());
    }
    let plan = Plan::find(PLANS, &run.plan, run.plan_version).expect("a plan of ours");
    let closing = plan.closing().and_then(|closing| steps.iter().find(|s| s.step == closing.as_str()));
    if closing.is_some_and(|step| step.attempt == 0 && step.state != "skipped") {
        faults.push("its closing step was never carried out".to_owned());
    }
}

fn its_effects_took_place_once(story: &Story, run: &RunRow, steps: &[StepRow], faults: &mut Vec<String>) {
    for step in steps {
        let of_step =
            |(id, kind, _): &&(Uuid, workflows::plan::Step, usize)| *id == run.id && kind.as_str() == step.step;
        let count = story.effects.iter().find(of_step).map_or(0, |(.., count)| *count);
        let wanted =
            usize::from(matches!(step.state.as_str(), "done") || (step.state == "skipped" && step.attempt > 0));
        if count != wanted {
            faults.push(format!("the effects of {} ({}) took place {count} times", step.step, step.state));
        }
    }
}

fn its_attempts_are_bounded(steps: &[StepRow], attempts: &[AttemptRow], faults: &mut Vec<String>) {
    for step in steps {
        let of_step = attempts.iter().filter(|attempt| attempt.step == step.step);
        let counted = of_step
            .filter(|attempt| !matches!(attempt.outcome.as_str(), "interrupted" | "waited" | "cancelled"))
            .count();
        let bound = usize::try_from(step.max_attempts).unwrap_or(0);
        if counted > bound || step.attempt > step.max_attempts {
            faults
                .push(format!("{} was tried {counted} times ({}), and {bound} is the limit", step.step, step.attempt));
        }
    }
    if let Some(open) = attempts.iter().find(|attempt| attempt.outcome == "running") {
        faults.push(format!("an attempt of {} under epoch {} is still open", open.step, open.epoch));
    }
}

fn one_run_of_a_subject_at_a_time(story: &Story, faults: &mut Vec<String>) {
    let by_id: BTreeMap<Uuid, &(RunRow, Vec<StepRow>, Vec<AttemptRow>)> =
        story.runs.iter().map(|run| (run.0.id, run)).collect();
    let mut busy: BTreeMap<(&str, &str), Uuid> = BTreeMap::new();
    for (id, began) in &story.order {
        let (run, steps, _) = by_id[id];
        // One that was cancelled while it waited for its turn only cleaned up.
        if run.state == "cancelled" && steps.iter().filter(|step| step.attempt > 0).count() < 2 {
            continue;
        }
        let subject = (run.plan.as_str(), run.subject.as_str());
        if !began {
            busy.remove(&subject);
        } else if let Some(other) = busy.insert(subject, *id) {
            faults.push(format!("two runs of {} {} at once: {other} and {id}", run.plan, run.subject));
        }
    }
}

fn one_run_per_tick(story: &Story, faults: &mut Vec<String>) {
    let mut runs: BTreeMap<(String, String, String), usize> = BTreeMap::new();
    for (run, ..) in story.runs.iter().filter(|(run, ..)| run.schedule_id.is_some()) {
        let key = (run.schedule_id.clone().unwrap_or_default(), run.session.to_string(), run.subject.clone());
        *runs.entry(key).or_default() += 1;
    }
    faults.extend(
        runs.into_iter()
            .filter(|(_, count)| *count != 1)
            .map(|(key, count)| format!("{key:?} was started {count} times")),
    );
    for tick in &story.ticks {
        if !matches!(tick.state.as_str(), "fired" | "skipped") {
            faults.push(format!("the tick of {} for {} is {}", tick.schedule_id, tick.session, tick.state.as_str()));
        }
    }
}

/// A step that kills its process whenever it is tried ends in the dead letters, with its run closed.
fn the_killer_hurts_only_itself(story: &Story, faults: &mut Vec<String>) {
    let Some((subject, kind)) = &story.killer else { return };
    for (run, steps, _) in story.runs.iter().filter(|(run, ..)| run.subject == *subject) {
        let killed = steps.iter().find(|step| step.step == kind.as_str() && step.losses > 0);
        if let Some(step) = killed.filter(|step| !matches!(step.state.as_str(), "failed" | "cancelled")) {
            faults.push(format!("the step that kills, {kind} of run {}, is {}", run.id, step.state));
        }
    }
}
