//! What the reconciler and operators ask of the ledger in memory: what is abandoned, what is due, what may go on, who leads, what is paused.

use super::core::{Core, StepRec};
use crate::ledger::sql::claim::PausePart;
use crate::ledger::words::{Abandoned, Claim, SignsOfLife, WAITS_FOR_ACTIVE};
use crate::message::Message;
use crate::state::StepState;
use chrono::{DateTime, Utc};
use std::collections::{BTreeMap, BTreeSet};
use uuid::Uuid;

impl Core {
    pub(super) fn abandoned(&mut self, which: &Abandoned, now: DateTime<Utc>, limit: i64) -> Vec<Claim> {
        let mut found: Vec<_> = self
            .steps
            .iter()
            .filter(|(_, step)| step.is(StepState::Running))
            .filter(|(_, step)| match which {
                Abandoned::Lapsed => step.lease_until.is_some_and(|until| until < now),
                Abandoned::NotOf(instance) => step.owner != Some(*instance),
                Abandoned::Of(owners) => step.owner.is_some_and(|owner| owners.contains(&owner)),
            })
            .map(|(key, step)| (step.lease_until, *key))
            .collect();
        found.sort_unstable();
        found
            .into_iter()
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .filter_map(|(_, key)| self.claim_of(key))
            .collect()
    }

    pub(super) fn signs_of_life(&mut self) -> SignsOfLife {
        let owners: BTreeSet<Uuid> =
            self.steps.values().filter(|step| step.is(StepState::Running)).filter_map(|step| step.owner).collect();
        SignsOfLife { silent: owners.difference(&self.alive).copied().collect(), up_since: None }
    }

    pub(super) fn on_their_way(&mut self) -> Vec<(String, i64)> {
        let mut counts: BTreeMap<String, i64> = BTreeMap::new();
        for step in self.steps.values().filter(|step| step.is(StepState::Ready) && step.sent_at.is_some()) {
            *counts.entry(step.row.queue.clone()).or_default() += 1;
        }
        counts.into_iter().collect()
    }

    pub(super) fn unsent_queues(&mut self) -> Vec<String> {
        let unsent = self.steps.values().filter(|step| step.is(StepState::Ready) && step.sent_at.is_none());
        unsent.map(|step| step.row.queue.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    pub(super) fn unsend(&mut self, stale: DateTime<Utc>) -> u64 {
        let mut count = 0;
        for step in self
            .steps
            .values_mut()
            .filter(|step| step.is(StepState::Ready) && step.sent_at.is_some_and(|sent| sent < stale))
        {
            step.sent_at = None;
            count += 1;
        }
        count
    }

    pub(super) fn take_due(&mut self, room: &[(String, i64)], now: DateTime<Utc>) -> Vec<Message> {
        let mut messages = Vec::new();
        for (queue, limit) in room {
            let due = |step: &StepRec| {
                step.is(StepState::Ready) && step.sent_at.is_none() && step.row.queue == *queue && step.due_at <= now
            };
            let mut keys: Vec<_> =
                self.steps.iter().filter(|(_, step)| due(step)).map(|(key, step)| (step.due_at, *key)).collect();
            keys.sort_unstable();
            for (_, key) in keys.into_iter().take(usize::try_from(*limit).unwrap_or(0)) {
                if let Some(step) = self.steps.get_mut(&key) {
                    step.sent_at = Some(now);
                    messages.push(step.message(key));
                }
            }
        }
        messages
    }

    pub(super) fn lead(&mut self, duty: &str, instance: Uuid, now: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let free = self.leaders.get(duty).is_none_or(|(holder, end)| *holder == instance || *end < now);
        if free {
            self.leaders.insert(duty.to_owned(), (instance, until));
        }
        free
    }

    pub(super) fn step_down(&mut self, duty: &str, instance: Uuid) {
        if self.leaders.get(duty).is_some_and(|(holder, _)| *holder == instance) {
            self.leaders.remove(duty);
        }
    }

    pub(super) fn workers_seen(&mut self, since: DateTime<Utc>) -> Vec<(String, i64)> {
        self.workers
            .values()
            .filter(|(.., seen)| *seen >= since)
            .map(|(steps, slots, _)| (steps.clone(), *slots))
            .collect()
    }

    pub(super) fn sign_on(
        &mut self,
        instance: Uuid,
        _name: &str,
        _version: &str,
        steps: &str,
        slots: i64,
        now: DateTime<Utc>,
    ) {
        self.workers.entry(instance).or_insert_with(|| (steps.to_owned(), slots, now)).2 = now;
    }

    pub(super) fn sign_off(&mut self, instance: Option<Uuid>, before: DateTime<Utc>) {
        self.workers.retain(|id, (.., seen)| Some(*id) != instance && *seen >= before);
    }

    pub(super) fn meet(&mut self, key: &str, value: &str, _now: DateTime<Utc>) -> String {
        self.conditions.entry(key.to_owned()).or_insert_with(|| value.to_owned()).clone()
    }

    pub(super) fn condition(&mut self, key: &str) -> Option<String> {
        self.conditions.get(key).cloned()
    }

    pub(super) fn release(&mut self, now: DateTime<Utc>, limit: i64) -> u64 {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let (conditions, pauses) = (&self.conditions, &self.pauses);
        let mut released = 0;
        let over = |key: &str| key.starts_with("pause:") && !pauses.iter().any(|pause| pause.key() == key);
        let waiting = self.steps.values_mut().filter(|step| step.is(StepState::Waiting));
        let free = waiting.filter(|step| {
            let key = step.row.wait_for.as_deref().unwrap_or_default();
            step.due_at <= now || conditions.contains_key(key) || over(key)
        });
        for step in free.take(limit) {
            step.wake(now);
            released += 1;
        }
        released
    }

    pub(super) fn rouse(&mut self, now: DateTime<Utc>, limit: i64) -> u64 {
        let orphans: BTreeSet<(String, String)> = self
            .steps
            .iter()
            .filter(|(_, step)| step.is(StepState::Waiting) && step.row.wait_for.as_deref() == Some(WAITS_FOR_ACTIVE))
            .map(|(key, _)| (self.runs[&key.0].row.plan.clone(), self.runs[&key.0].row.subject.clone()))
            .filter(|subject| !self.active.contains_key(subject))
            .collect();
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        orphans.iter().take(limit).map(|subject| u64::from(self.activate_next(subject, now).is_some())).sum()
    }

    pub(super) fn pause(&mut self, kind: &str, value: &str, _reason: &str, _now: DateTime<Utc>) -> bool {
        self.pauses.insert(PausePart { kind: kind.to_owned(), value: value.to_owned() })
    }

    pub(super) fn resume(&mut self, kind: &str, value: &str) -> bool {
        self.pauses.remove(&PausePart { kind: kind.to_owned(), value: value.to_owned() })
    }
}
