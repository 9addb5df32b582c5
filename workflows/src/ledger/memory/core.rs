//! The state of the ledger in memory, and the operations on runs, steps and attempts. Plain maps and no I/O: each operation is atomic.

use super::with_those_to_come;
use crate::db::{StoreError, Ts};
use crate::effect::Effect;
use crate::ledger::sql::claim::{PUT_OFF, PausePart};
use crate::ledger::words::{
    Claim, Completed, Completion, Consequence, Ending, Key, NewRun, NewStep, RunPart, Started, StepPart,
    WAITS_FOR_ACTIVE, far_future,
};
use crate::ledger::{AttemptRow, RunRow, ScheduleRow, StepRow};
use crate::message::Message;
use crate::plan::{PLANS, Plan, Step};
use crate::state::{RunState, StepState, Verdict, final_state};
use chrono::{DateTime, NaiveDate, Utc};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

#[derive(Debug, Clone)]
pub(super) struct RunRec {
    pub row: RunRow,
    pub aimed: NaiveDate,
    pub verdict: Option<Verdict>,
}

#[derive(Debug, Clone)]
pub(super) struct StepRec {
    pub(super) row: StepRow,
    first_ready_at: DateTime<Utc>,
    pub(super) due_at: DateTime<Utc>,
    pub(super) sent_at: Option<DateTime<Utc>>,
    pub(super) owner: Option<Uuid>,
    pub(super) lease_until: Option<DateTime<Utc>>,
}

/// Everything.
#[derive(Debug, Default)]
pub(super) struct Core {
    pub runs: BTreeMap<Uuid, RunRec>,
    pub steps: BTreeMap<(Uuid, Step), StepRec>,
    attempts: BTreeMap<Key, AttemptRow>,
    pub effects: BTreeMap<(Uuid, Step), Vec<i64>>,
    pub active: BTreeMap<(String, String), Uuid>,
    keys: BTreeMap<String, Uuid>,
    pub conditions: BTreeMap<String, String>,
    pub pauses: BTreeSet<PausePart>,
    pub leaders: BTreeMap<String, (Uuid, DateTime<Utc>)>,
    pub workers: BTreeMap<Uuid, (String, i64, DateTime<Utc>)>,
    pub alive: BTreeSet<Uuid>,
    /// Runs in the order in which they began (true) and ended (false).
    pub order: Vec<(Uuid, bool)>,
    pub tickers: BTreeSet<market::Ticker>,
    pub schedules: BTreeMap<String, ScheduleRow>,
    pub ticks: BTreeMap<(String, NaiveDate, i64), super::fanout::TickRec>,
}

impl StepRec {
    pub(super) fn is(&self, state: StepState) -> bool {
        self.row.state == state.as_str()
    }

    pub(super) fn message(&self, key: (Uuid, Step)) -> Message {
        Message { run: key.0, step: key.1, generation: self.row.generation, queue: self.row.queue.clone() }
    }

    pub(super) fn wake(&mut self, now: DateTime<Utc>) {
        self.row.state = StepState::Ready.as_str().to_owned();
        self.row.generation += 1;
        self.due_at = now;
        self.sent_at = None;
        self.row.wait_for = None;
    }
}

impl Core {
    pub(super) fn start(&mut self, runs: &[NewRun], now: DateTime<Utc>) -> Vec<Started> {
        runs.iter()
            .map(|run| {
                if let Some(key) = &run.idempotency_key {
                    let holder = *self.keys.entry(key.clone()).or_insert(run.id);
                    if holder != run.id {
                        return Started { id: holder, created: false };
                    }
                }
                // Asked again by a caller who got no answer.
                if self.runs.contains_key(&run.id) {
                    return Started { id: run.id, created: false };
                }
                self.insert_run(run, now);
                let subject = (run.plan.name.to_owned(), run.subject.to_string());
                let active = *self.active.entry(subject).or_insert(run.id) == run.id;
                for step in NewStep::of_new_run(run, active, now) {
                    self.insert_step(&step);
                }
                Started { id: run.id, created: true }
            })
            .collect()
    }

    fn insert_run(&mut self, run: &NewRun, now: DateTime<Utc>) {
        let row = RunRow {
            id: run.id,
            plan: run.plan.name.to_owned(),
            plan_version: run.plan.version,
            subject: run.subject.to_string(),
            exchange: run.subject.exchange().map(|e| e.as_str().to_owned()),
            ticker: run.subject.symbol().map(str::to_owned),
            session: run.session,
            schedule_id: run.schedule.clone(),
            backfill_id: run.backfill,
            priority: run.priority,
            offline: run.offline,
            lineage: run.repeats.map(|(id, _)| id),
            state: RunState::Queued.as_str().to_owned(),
            verdict: None,
            reason: None,
            pinned: false,
            created_at: Ts::from(now),
            started_at: None,
            finished_at: None,
        };
        self.runs.insert(run.id, RunRec { row, aimed: run.session, verdict: None });
    }

    /// False when the step is there already.
    fn insert_step(&mut self, step: &NewStep) -> bool {
        let due_at = if step.wait_for.is_some() { far_future() } else { step.at };
        let row = StepRow {
            step: step.step.as_str().to_owned(),
            seq: step.seq,
            queue: step.queue.clone(),
            state: step.state.as_str().to_owned(),
            generation: i64::from(step.state == StepState::Ready),
            attempt: 0,
            max_attempts: step.max_attempts,
            losses: 0,
            epoch: 0,
            due_at: None,
            wait_for: step.wait_for.map(str::to_owned),
            note: step.note.map(str::to_owned),
            error: None,
            finished_at: (step.state == StepState::Skipped).then_some(Ts::from(step.at)),
        };
        let rec = StepRec {
            row,
            first_ready_at: step.at,
            due_at,
            sent_at: step.sent.then_some(step.at),
            owner: None,
            lease_until: None,
        };
        match self.steps.entry((step.run, step.step)) {
            std::collections::btree_map::Entry::Occupied(_) => false,
            std::collections::btree_map::Entry::Vacant(place) => {
                place.insert(rec);
                true
            }
        }
    }

    fn part(&self, run: Uuid) -> Option<RunPart> {
        let row = &self.runs.get(&run)?.row;
        Some(RunPart {
            id: run,
            plan: row.plan.clone(),
            plan_version: row.plan_version,
            subject: row.subject.clone(),
            session: row.session,
            offline: row.offline,
            priority: row.priority,
        })
    }

    pub(super) fn claim_of(&self, key: (Uuid, Step)) -> Option<Claim> {
        let step = self.steps.get(&key)?;
        let part = StepPart {
            run_id: key.0,
            step: step.row.step.clone(),
            generation: step.row.generation,
            attempt: step.row.attempt,
            max_attempts: step.row.max_attempts,
            losses: step.row.losses,
            epoch: step.row.epoch,
            first_ready_at: Ts::from(step.first_ready_at),
        };
        part.of(&self.part(key.0)?, PLANS).ok()
    }

    pub(super) fn claim(
        &mut self,
        messages: &[Message],
        owner: Uuid,
        worker: &str,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Vec<Option<Claim>> {
        messages.iter().map(|message| self.claim_one(message, owner, worker, now, lease_until)).collect()
    }

    fn claim_one(
        &mut self,
        message: &Message,
        owner: Uuid,
        worker: &str,
        now: DateTime<Utc>,
        lease_until: DateTime<Utc>,
    ) -> Option<Claim> {
        let run = self.part(message.run)?;
        let known = run.plan(PLANS).is_some();
        let pause = self.pauses.iter().find(|pause| pause.holds(message.step, &run.subject)).map(PausePart::key);
        let step = self
            .steps
            .get_mut(&(message.run, message.step))
            .filter(|step| step.is(StepState::Ready) && step.row.generation == message.generation)?;
        step.sent_at = None;
        if !known {
            step.due_at = now + PUT_OFF;
            return None;
        }
        if let Some(key) = pause {
            step.row.state = StepState::Waiting.as_str().to_owned();
            step.row.wait_for = Some(key);
            step.due_at = far_future();
            return None;
        }
        step.row.state = StepState::Running.as_str().to_owned();
        step.row.attempt += 1;
        step.row.epoch += 1;
        step.owner = Some(owner);
        step.lease_until = Some(lease_until);
        let (epoch, attempt) = (step.row.epoch, step.row.attempt);
        let rec = self.runs.get_mut(&message.run)?;
        if rec.row.state == RunState::Queued.as_str() {
            rec.row.state = RunState::Running.as_str().to_owned();
            rec.row.started_at = Some(Ts::from(now));
            self.order.push((message.run, true));
        }
        let row = AttemptRow {
            step: message.step.as_str().to_owned(),
            epoch,
            attempt,
            worker: worker.to_owned(),
            started_at: Ts::from(now),
            finished_at: None,
            outcome: "running".to_owned(),
            error_kind: None,
            detail: None,
        };
        self.attempts.insert((message.run, message.step, epoch), row);
        self.claim_of((message.run, message.step))
    }

    pub(super) fn renew(&mut self, owner: Uuid, held: &[Key], lease_until: DateTime<Utc>) -> Vec<Key> {
        let mut ours = Vec::new();
        for key in held {
            let step = self.steps.get_mut(&(key.0, key.1));
            if let Some(step) =
                step.filter(|step| step.is(StepState::Running) && step.owner == Some(owner) && step.row.epoch == key.2)
            {
                step.lease_until = Some(lease_until);
                ours.push(*key);
            }
        }
        ours
    }

    pub(super) fn held_by(&mut self, owner: Uuid) -> Vec<Key> {
        let held = self.steps.iter().filter(|(_, step)| step.is(StepState::Running) && step.owner == Some(owner));
        held.map(|((run, step), rec)| (*run, *step, rec.row.epoch)).collect()
    }

    pub(super) fn complete(&mut self, endings: &[Ending], now: DateTime<Utc>) -> Vec<Completed> {
        endings.iter().map(|ending| self.complete_one(ending, now)).collect()
    }

    fn complete_one(&mut self, ending: &Ending, now: DateTime<Utc>) -> Completed {
        let what = Consequence::of(ending, now);
        let Claim { run, step, epoch, .. } = ending.claim;
        let ours = self.steps.get_mut(&(run, step)).filter(|rec| {
            let lapsed = ending.lapsed_before.is_none_or(|before| rec.lease_until.is_none_or(|until| until < before));
            rec.is(StepState::Running) && rec.row.epoch == epoch && lapsed
        });
        let Some(rec) = ours else {
            if ending.lapsed_before.is_none()
                && let Some(attempt) = self
                    .attempts
                    .get_mut(&ending.claim.key())
                    .filter(|a| matches!(a.outcome.as_str(), "running" | "lost"))
            {
                attempt.outcome = "fenced".to_owned();
                attempt.finished_at = Some(Ts::from(now));
            }
            return Err(StoreError::Fenced);
        };
        rec.row.state = what.state.as_str().to_owned();
        rec.due_at = what.due_at;
        rec.row.generation += i64::from(what.again);
        rec.row.attempt -= i64::from(what.forgive);
        rec.row.losses += i64::from(what.lost);
        (rec.sent_at, rec.owner, rec.lease_until) = (None, None, None);
        rec.row.wait_for = what.wait_for;
        rec.row.note = what.note;
        rec.row.error = what.error;
        rec.row.finished_at = what.over.then_some(Ts::from(now));
        if ending.outcome.succeeded() {
            self.apply(ending);
        }
        if let Some(attempt) = self.attempts.get_mut(&ending.claim.key()) {
            attempt.outcome = ending.outcome.attempt_word(&what.decision).to_owned();
            attempt.error_kind = ending.outcome.error_kind().map(str::to_owned);
            attempt.detail = Some(ending.outcome.text().to_owned());
            attempt.finished_at = Some(Ts::from(now));
        }
        let mut messages = Vec::new();
        let run_ended = if what.run_ends {
            messages.extend(self.end_run(run, what.verdict, now));
            self.runs.get(&run).and_then(|rec| RunState::from_word(&rec.row.state))
        } else {
            self.give_verdict(run, what.verdict);
            None
        };
        if let Some(next) = what.next {
            let next = NewStep::ready(ending.claim.plan, run, next, ending.claim.priority, now, ending.sends_next);
            messages.extend((self.insert_step(&next) && next.sent).then(|| next.message()));
        }
        Ok(Completion { messages, run_ended, decision: what.decision })
    }

    fn apply(&mut self, ending: &Ending) {
        let claim = &ending.claim;
        self.effects.entry((claim.run, claim.step)).or_default().push(claim.epoch);
        let Some(rec) = self.runs.get_mut(&claim.run) else { return };
        for effect in &ending.effects {
            match effect {
                Effect::RunSession(session) => rec.row.session = *session,
                Effect::Remark(text) => drop(rec.row.reason.get_or_insert_with(|| text.clone())),
                // The stores are not part of the core.
                _ => {}
            }
        }
    }

    fn give_verdict(&mut self, run: Uuid, verdict: Option<(Verdict, String)>) {
        if let (Some((verdict, reason)), Some(rec)) = (verdict, self.runs.get_mut(&run)) {
            rec.verdict = Some(verdict);
            rec.row.verdict = Some(verdict.as_str().to_owned());
            rec.row.reason = Some(reason);
        }
    }

    /// Ends a run and wakes the next one of its subject.
    fn end_run(&mut self, run: Uuid, verdict: Option<(Verdict, String)>, now: DateTime<Utc>) -> Option<Message> {
        let rec = self.runs.get_mut(&run)?;
        if let Some((verdict, reason)) = verdict {
            rec.verdict.get_or_insert(verdict);
            rec.row.reason.get_or_insert(reason);
        }
        rec.row.verdict = rec.verdict.map(|verdict| verdict.as_str().to_owned());
        rec.row.state = final_state(rec.verdict).as_str().to_owned();
        rec.row.finished_at = Some(Ts::from(now));
        self.order.push((run, false));
        let subject = (rec.row.plan.clone(), rec.row.subject.clone());
        if self.active.get(&subject) != Some(&run) {
            return None;
        }
        self.active.remove(&subject);
        self.activate_next(&subject, now)
    }

    /// The most urgent, then oldest waiting run of the subject becomes its active one.
    pub(super) fn activate_next(&mut self, subject: &(String, String), now: DateTime<Utc>) -> Option<Message> {
        let waiting = self.steps.iter().filter(|(key, step)| {
            let run = &self.runs[&key.0].row;
            step.row.wait_for.as_deref() == Some(WAITS_FOR_ACTIVE)
                && run.state == RunState::Queued.as_str()
                && (&run.plan, &run.subject) == (&subject.0, &subject.1)
        });
        let key = waiting
            .map(|(key, _)| *key)
            .min_by_key(|key| (std::cmp::Reverse(self.runs[&key.0].row.priority), key.0))?;
        self.active.insert(subject.clone(), key.0);
        let step = self.steps.get_mut(&key)?;
        step.wake(now);
        Some(step.message(key))
    }

    pub(super) fn cancel(&mut self, run: Uuid, reason: &str, now: DateTime<Utc>) -> Option<Vec<Message>> {
        let rec = self.runs.get(&run)?;
        if rec.verdict.is_some() || RunState::from_word(&rec.row.state).is_some_and(RunState::is_final) {
            return None;
        }
        let (plan, priority) = (Plan::find(PLANS, &rec.row.plan, rec.row.plan_version), rec.row.priority);
        self.give_verdict(run, Some((Verdict::Cancelled, reason.to_owned())));
        let closing = plan.and_then(|plan| Some((plan, plan.closing()?)));
        let is_closing = |step: Step| closing.is_some_and(|(_, closing)| closing == step);
        for (key, attempt) in
            self.attempts.iter_mut().filter(|(key, a)| key.0 == run && !is_closing(key.1) && a.outcome == "running")
        {
            let _ = key;
            attempt.outcome = "cancelled".to_owned();
            attempt.finished_at = Some(Ts::from(now));
        }
        for (_, step) in self.steps.iter_mut().filter(|(key, _)| key.0 == run && !is_closing(key.1)) {
            if matches!(step.row.state.as_str(), "waiting" | "ready" | "running") {
                step.row.state = StepState::Cancelled.as_str().to_owned();
                step.row.epoch += 1;
                (step.sent_at, step.owner, step.lease_until, step.row.wait_for) = (None, None, None, None);
                step.row.finished_at = Some(Ts::from(now));
            }
        }
        Some(match closing {
            Some((plan, step)) => {
                let next = NewStep::ready(plan, run, step, priority, now, false);
                if self.insert_step(&next) { vec![next.message()] } else { Vec::new() }
            }
            None => self.end_run(run, None, now).into_iter().collect(),
        })
    }

    pub(super) fn get_run(&self, id: Uuid) -> Option<(RunRow, Vec<StepRow>, Vec<AttemptRow>)> {
        let run = self.runs.get(&id)?.row.clone();
        let of_run = self.steps.range((id, Step::Scrape)..).take_while(|(key, _)| key.0 == id);
        let steps =
            of_run.map(|(_, step)| StepRow { due_at: Some(Ts::from(step.due_at)), ..step.row.clone() }).collect();
        let mut attempts: Vec<_> = self
            .attempts
            .range((id, Step::Scrape, 0)..)
            .take_while(|(key, _)| key.0 == id)
            .map(|(key, row)| (key.1, row.clone()))
            .collect();
        attempts.sort_by_key(|(step, row)| (row.started_at, *step, row.epoch));
        Some((run.clone(), with_those_to_come(PLANS, &run, steps), attempts.into_iter().map(|(_, row)| row).collect()))
    }

    pub(super) fn open_runs(&mut self) -> i64 {
        let open = self
            .runs
            .values()
            .filter(|rec| !RunState::from_word(&rec.row.state).is_some_and(RunState::is_final))
            .count();
        i64::try_from(open).unwrap_or(i64::MAX)
    }
}
