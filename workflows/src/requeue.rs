//! Dead runs repeated, thousands at a time. In comes which of them, out goes how many: each that was repeated has a new run that names it,
//! and is dead no more.

use crate::db::{StoreError, StoreResult};
use crate::engine::{Engine, begins_again_from};
use crate::ledger::{self, DeadLetterFilter, DeadRun, NewEntry, NewRun};
use crate::plan::{Plan, Step};
use crate::subject::Subject;
use uuid::Uuid;

/// Runs per transaction: the store must not be held for seconds.
const SLICE: usize = 1_000;

/// What a repetition of dead runs did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Requeued {
    /// Dead runs that have a new run now.
    pub requeued: usize,
    /// Those that could not be repeated: their plan is not known to this program.
    pub left_out: usize,
    /// Whether more may be left than were looked at.
    pub more: bool,
}

impl Engine {
    /// Repeats dead runs, at most `most`, oldest first. Each keeps its lane, so that thousands do not stand before what a person waits for.
    /// `entry` is the audit of a slice of so many. Asking twice is asking once: what was repeated is dead no more.
    pub async fn requeue(
        &self,
        filter: &DeadLetterFilter,
        most: usize,
        entry: &(dyn Fn(usize) -> NewEntry + Send + Sync),
    ) -> StoreResult<Requeued> {
        let Some(db) = self.ledger.db() else {
            return Err(StoreError::Unreadable {
                what: "dead letters",
                why: "this ledger is a simulation's".to_owned(),
            });
        };
        let make = |dead: &DeadRun| self.repeat(dead);
        let (mut done, mut looked, mut after) = (Requeued::default(), 0, Uuid::nil());
        loop {
            let limit = SLICE.min(most - looked);
            let rows = i64::try_from(limit).unwrap_or(i64::MAX);
            let slice = ledger::requeue(db, filter, after, rows, self.ledger.now(), &make, entry).await?;
            looked += slice.found;
            done.requeued += slice.started;
            done.left_out += slice.found - slice.started;
            after = slice.last;
            if slice.started > 0 {
                self.nudge();
            }
            if slice.found < limit {
                return Ok(done);
            }
            if looked == most {
                done.more = true;
                return Ok(done);
            }
        }
    }

    /// The run that repeats a dead one; `None` when its plan or subject is not known here.
    fn repeat(&self, dead: &DeadRun) -> Option<NewRun> {
        let plan = Plan::named(&dead.plan)?;
        let subject = Subject::read(plan.subject, &dead.subject).ok()?;
        let failed = dead.failed.as_deref().and_then(|step| step.parse::<Step>().ok());
        let from = begins_again_from(plan, failed, dead.archived);
        let new = self.manual_run(subject, dead.session, dead.offline, None);
        Some(NewRun { plan, priority: dead.priority, repeats: Some((dead.id, from)), ..new })
    }
}
