//! What has happened: runs, steps, attempts. The truth of the engine; queues and caches only carry copies. One core of operations in SQL
//! (PostgreSQL and SQLite) and in memory (simulation), kept equal by one conformance suite and a differential test.

mod memory;
mod sql;
mod words;

pub use memory::{MemoryLedger, Weather};
pub(crate) use sql::audit::write as note_in;
pub use sql::audit::{AuditRow, NewEntry};
pub use sql::backfills::{BackfillCounts, BackfillPolicy, BackfillRow, BackfillStanding, NewBackfill};
pub use sql::bundles::BundleRow;
pub use sql::dead_letters::{DeadLetterFilter, DeadLetterGroup, DeadLetterRow, DeadRun, RequeuedSlice};
pub use sql::months::Dropped;
pub use sql::pause::PauseRow;
pub use sql::queues::{QueueCount, WorkerRow};
pub use sql::read::{AttemptRow, RunFilter, RunRow, StepRow};
pub(crate) use sql::reclaim::life_lock;
pub use sql::steer::Steering;
pub use sql::ticks::{CatchUp, Overlap, ScheduleRow, TickRow, TickState};
pub(crate) use sql::{bundles as bundle_table, history, lines, months};
pub use words::{Abandoned, Claim, Completed, Completion, Ending, Key, NewRun, SignsOfLife, Started};

use crate::db::{Db, StoreResult};
use crate::message::Message;
use chrono::{DateTime, NaiveDate, Utc};
use market::{Exchange, Ticker};
use uuid::Uuid;

/// The ledger of one installation. Cheap to clone.
#[derive(Debug, Clone)]
pub enum Ledger {
    /// In PostgreSQL or SQLite.
    Sql(Db),
    /// In memory: for simulations, and to compare with.
    Memory(MemoryLedger),
}

/// An operation of the core: the same on either kind.
macro_rules! core_operation {
    ($($(#[$doc:meta])* $name:ident ( $($arg:ident : $type:ty),* ) -> $out:ty = $room:ident;)+) => {
        impl Ledger {
            $($(#[$doc])*
            #[allow(clippy::too_many_arguments, reason = "each is one column")]
            pub async fn $name(&self, $($arg: $type),*) -> StoreResult<$out> {
                match self {
                    Ledger::Sql(db) => sql::$room::$name(db, $($arg),*).await,
                    Ledger::Memory(memory) => memory.$name($($arg),*).await,
                }
            })+
        }
    };
}

core_operation! {
    /// Starts runs; their first steps become ready and wait for the reconciler to send them, or for the earlier run of their subject. The
    /// answers are in the order of `runs`.
    start(runs: &[NewRun], now: DateTime<Utc>) -> Vec<Started> = start;
    /// Claims what the messages name for `owner` until `lease_until`: a claim for each, or `None` for a message that is a duplicate, stale,
    /// cancelled, paused or of a plan that this program does not know.
    claim(messages: &[Message], owner: Uuid, worker: &str, now: DateTime<Utc>, lease_until: DateTime<Utc>) -> Vec<Option<Claim>> = claim;
    /// Renews the leases of `held` steps and answers which of them are still ours; the others were taken over or cancelled.
    renew(owner: Uuid, held: &[Key], lease_until: DateTime<Utc>) -> Vec<Key> = claim;
    /// What `owner` holds, by the ledger.
    held_by(owner: Uuid) -> Vec<Key> = claim;
    /// Ends attempts, many in one transaction, each with a fence of its own. An error of the whole means that nothing of any was written.
    complete(endings: &[Ending], now: DateTime<Utc>) -> Vec<Completed> = complete;
    /// Cancels the run; `None` when it has ended, is ending, or does not exist. Push the messages after.
    cancel(run: Uuid, reason: &str, now: DateTime<Utc>) -> Option<Vec<Message>> = cancel;
    /// The abandoned steps, at most `limit`, as claims that can be completed as lost.
    abandoned(which: &Abandoned, now: DateTime<Utc>, limit: i64) -> Vec<Claim> = reclaim;
    /// Who holds steps and shows no sign of life.
    signs_of_life() -> SignsOfLife = reclaim;
    /// Per queue: how many ready steps have a message on its way.
    on_their_way() -> Vec<(String, i64)> = feed;
    /// The queues in which something waits to be sent.
    unsent_queues() -> Vec<String> = feed;
    /// Forgets that messages were sent before `stale`: they will be sent again, under the same id.
    unsend(stale: DateTime<Utc>) -> u64 = feed;
    /// The due steps that want a message, oldest first, at most so many of each queue; they count as sent from now on.
    take_due(room: &[(String, i64)], now: DateTime<Utc>) -> Vec<Message> = feed;
    /// Takes or keeps a duty until `until`; false when another instance has it.
    lead(duty: &str, instance: Uuid, now: DateTime<Utc>, until: DateTime<Utc>) -> bool = feed;
    /// Gives a duty back.
    step_down(duty: &str, instance: Uuid) -> () = feed;
    /// Live workers: their step kinds, separated by commas, and their slots.
    workers_seen(since: DateTime<Utc>) -> Vec<(String, i64)> = feed;
    /// Says that this worker process lives, and what it does.
    sign_on(instance: Uuid, name: &str, version: &str, steps: &str, slots: i64, now: DateTime<Utc>) -> () = feed;
    /// Forgets a worker that has ended, and those not seen since `before`.
    sign_off(instance: Option<Uuid>, before: DateTime<Utc>) -> () = feed;
    /// Writes a condition once and answers its value, which is the first one's.
    meet(key: &str, value: &str, now: DateTime<Utc>) -> String = release;
    /// The value of a condition that has come true.
    condition(key: &str) -> Option<String> = release;
    /// Releases at most `limit` waiting steps of each kind of wait; how many.
    release(now: DateTime<Utc>, limit: i64) -> u64 = release;
    /// Makes at most `limit` runs the active ones of their subjects that wait for an earlier run although there is none any more: the one that
    /// ended could not see them yet. Looks at every run that waits; how many.
    rouse(now: DateTime<Utc>, limit: i64) -> u64 = release;
    /// Pauses a step kind, source, exchange or ticker; false when it was paused already.
    pause(kind: &str, value: &str, reason: &str, now: DateTime<Utc>) -> bool = pause;
    /// Resumes; false when it was not paused.
    resume(kind: &str, value: &str) -> bool = pause;
    /// Adds a schedule; one that is there stays as an operator may have changed it.
    add_schedule(schedule: &ScheduleRow) -> () = ticks;
    /// All schedules.
    schedules() -> Vec<ScheduleRow> = ticks;
    /// The newest session for which the schedule has a tick by the clock.
    last_tick(schedule: &str) -> Option<NaiveDate> = ticks;
    /// Makes a tick; false when it is there. By hand: one more for that session.
    open_tick(schedule: &str, session: NaiveDate, by_hand: bool, reason: &str, now: DateTime<Utc>) -> bool = ticks;
    /// Ticks whose runs are not all started, oldest first.
    open_ticks() -> Vec<TickRow> = ticks;
    /// Moves a tick on, if it is still where it was.
    move_tick(tick: &TickRow, to: TickState, reason: &str) -> bool = ticks;
    /// Open runs of a schedule that aimed at an earlier session and will not end by themselves: those that have not begun, or all.
    open_runs_before(schedule: &str, session: NaiveDate, begun_too: bool, limit: i64) -> Vec<Uuid> = ticks;
    /// Starts the next slice of a firing tick's runs. How many, and whether there are more. Under `Overlap::Skip` tickers with an open run of an earlier session are left out.
    advance_tick(tick: &TickRow, exchange: Exchange, overlap: Overlap, slice: i64, now: DateTime<Utc>, make: &(dyn Fn(Ticker) -> NewRun + Send + Sync)) -> (usize, bool) = ticks;
    /// One run with its steps in order and its attempts, oldest first.
    get_run(id: Uuid) -> Option<(RunRow, Vec<StepRow>, Vec<AttemptRow>)> = read;
    /// How many runs have not ended.
    open_runs() -> i64 = read;
}

/// An operation that only the database has: reading for people, and what operators ask for.
macro_rules! sql_operation {
    ($($(#[$doc:meta])* $name:ident ( $($arg:ident : $type:ty),* ) -> $out:ty = $room:ident;)+) => {
        $($(#[$doc])*
        #[allow(clippy::too_many_arguments, reason = "each is one column")]
        pub async fn $name(db: &Db, $($arg: $type),*) -> StoreResult<$out> {
            sql::$room::$name(db, $($arg),*).await
        })+
    };
}

sql_operation! {
    /// Runs, newest first, at most `limit`.
    list_runs(filter: &RunFilter, limit: i64) -> Vec<RunRow> = read;
    /// Open steps by kind and state: (step, state, count).
    queue_depths() -> Vec<(String, String, i64)> = read;
    /// Open runs of plans that this program does not know: (plan, version, count).
    foreign_runs() -> Vec<(String, i64, i64)> = read;
    /// Everything that is paused.
    paused() -> Vec<PauseRow> = pause;
    /// The newest ticks of a schedule; those before (session, nth) where it is given.
    ticks(schedule: &str, before: Option<(NaiveDate, i64)>, limit: i64) -> Vec<TickRow> = ticks;
    /// How many runs a backfill would start now, without starting any.
    dry_run(asked: &NewBackfill) -> BackfillCounts = backfills;
    /// The newest backfills; only running ones when asked so.
    backfills(only_running: bool, limit: i64) -> Vec<BackfillRow> = backfills;
    /// Backfills with their open runs, newest first, those before `before` where it is given; or only one of them.
    standings(only: Option<Uuid>, before: Option<Uuid>, limit: i64) -> Vec<BackfillStanding> = backfills;
    /// Starts as many of a backfill's runs as there is room for; how many.
    advance_backfill(id: Uuid, now: DateTime<Utc>, new_id: &(dyn Fn() -> Uuid + Send + Sync)) -> usize = backfills;
    /// Does what an operator asks for and writes it into the audit; false when that changed nothing.
    steer(what: &Steering<'_>, entry: &NewEntry, now: DateTime<Utc>) -> bool = steer;
    /// Makes one more tick of a schedule by hand and writes that into the audit; which one of that session it is.
    trigger(schedule: &str, session: NaiveDate, reason: &str, entry: &NewEntry, now: DateTime<Utc>) -> Option<i64> = steer;
    /// Writes an audit entry about what is done already.
    note(entry: &NewEntry) -> () = audit;
    /// The audit, newest first; what stands before `before` where it is given.
    audit(before: Option<Uuid>, limit: i64) -> Vec<AuditRow> = audit;
    /// Open steps by queue and state.
    queue_counts() -> Vec<QueueCount> = queues;
    /// Worker processes seen since `since`, with what they hold.
    workers(since: DateTime<Utc>) -> Vec<WorkerRow> = queues;
    /// Dead letters, newest run first; what stands before (run, place of the step) where it is given.
    dead_letters(filter: &DeadLetterFilter, before: Option<(Uuid, i64)>, limit: i64) -> Vec<DeadLetterRow> = dead_letters;
    /// Dead letters by step and kind of failure, the largest group first.
    dead_letter_groups(filter: &DeadLetterFilter) -> Vec<DeadLetterGroup> = dead_letters;
    /// Repeats dead runs after `after`, at most `limit`, in one transaction with its audit.
    requeue(filter: &DeadLetterFilter, after: Uuid, limit: i64, now: DateTime<Utc>, make: &(dyn Fn(&DeadRun) -> Option<NewRun> + Send + Sync), entry: &(dyn Fn(usize) -> NewEntry + Send + Sync)) -> RequeuedSlice = dead_letters;
    /// Bundles of runs that are here no more, newest first, at most `limit`; those before (made at, name) where it is given.
    bundles(before: Option<(DateTime<Utc>, &str)>, limit: i64) -> Vec<BundleRow> = bundles;
    /// One bundle.
    bundle(name: &str) -> Option<BundleRow> = bundles;
    /// The bundles in which a run that is here no more may be.
    bundles_around(run: Uuid) -> Vec<String> = bundles;
    /// Makes the monthly partitions of this month and the next ones, where they are missing; how many were made.
    ensure_partitions(now: DateTime<Utc>) -> usize = partitions;
    /// Analyses the big tables that have grown, so that statements are planned for what is in them; how many.
    analyse_grown() -> usize = statistics;
}

impl Ledger {
    /// The engine clock: the database's, or the simulation's.
    pub fn now(&self) -> DateTime<Utc> {
        match self {
            Ledger::Sql(db) => db.now(),
            Ledger::Memory(memory) => memory.now(),
        }
    }

    /// Measures the difference to the store's clock; also the cheapest sign that it answers.
    pub async fn read_clock(&self) -> StoreResult<()> {
        match self {
            Ledger::Sql(db) => db.read_clock().await,
            Ledger::Memory(memory) => memory.answer().await,
        }
    }

    /// A second handle with connections of its own: a pool drained by busy steps must not cost them their leases.
    pub fn apart(&self) -> Ledger {
        match self {
            Ledger::Sql(db) => Ledger::Sql(db.apart()),
            Ledger::Memory(memory) => Ledger::Memory(memory.clone()),
        }
    }

    /// Whether several processes may be at it.
    pub fn is_shared(&self) -> bool {
        self.db().is_none_or(Db::is_postgres)
    }

    /// The database; `None` in a simulation.
    pub fn db(&self) -> Option<&Db> {
        match self {
            Ledger::Sql(db) => Some(db),
            Ledger::Memory(_) => None,
        }
    }
}
