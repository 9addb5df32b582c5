//! The ledger core in memory, for simulations and for comparison with the databases. In come the operations of [`super::Ledger`]; between
//! the call and its effect, and between the effect and its answer, stands the weather: delays, errors, the clock.

mod core;
mod fanout;
mod feeding;

use super::sql::read::with_those_to_come;
use super::words::{Abandoned, Claim, Completed, Ending, Key, NewRun, SignsOfLife, Started};
use super::{AttemptRow, Overlap, RunRow, ScheduleRow, StepRow, TickRow, TickState};
use crate::db::StoreResult;
use crate::message::Message;
use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use core::Core;
use market::{Exchange, Ticker};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use uuid::Uuid;

/// What stands between a process and its ledger.
#[async_trait]
pub trait Weather: Send + Sync + std::fmt::Debug {
    /// The engine clock as this process sees it.
    fn now(&self) -> DateTime<Utc>;
    /// The call travels; an error means that it never arrived.
    async fn before(&self, operation: &'static str) -> StoreResult<()>;
    /// The answer travels; an error means that the operation took place and the caller does not know.
    async fn after(&self, operation: &'static str) -> StoreResult<()>;
}

/// A handle on a ledger in memory. Handles of several simulated processes share one core, each with weather of its own.
#[derive(Debug, Clone)]
pub struct MemoryLedger {
    core: Arc<Mutex<Core>>,
    weather: Arc<dyn Weather>,
}

impl MemoryLedger {
    /// An empty ledger.
    pub fn new(weather: Arc<dyn Weather>) -> Self {
        Self { core: Arc::default(), weather }
    }

    /// The same ledger as another process sees it.
    pub fn through(&self, weather: Arc<dyn Weather>) -> Self {
        Self { core: self.core.clone(), weather }
    }

    /// The engine clock.
    pub fn now(&self) -> DateTime<Utc> {
        self.weather.now()
    }

    /// Shows or withdraws the sign of life of a process: what the advisory lock is on PostgreSQL.
    pub fn show_life(&self, instance: Uuid, alive: bool) {
        let mut core = self.lock();
        if alive {
            core.alive.insert(instance);
        } else {
            core.alive.remove(&instance);
        }
    }

    /// Makes tickers known, so that ticks start runs for them.
    pub fn add_tickers(&self, tickers: &[Ticker]) {
        self.lock().tickers.extend(tickers.iter().cloned());
    }

    /// Every run with its steps and attempts, without weather: for whoever checks what has happened.
    pub fn everything(&self) -> Vec<(RunRow, Vec<StepRow>, Vec<AttemptRow>)> {
        let core = self.lock();
        core.runs.keys().filter_map(|id| core.get_run(*id)).collect()
    }

    /// Every tick, without weather.
    pub fn all_ticks(&self) -> Vec<TickRow> {
        self.lock().ticks.values().map(|tick| tick.row.clone()).collect()
    }

    /// How often the effects of each step were applied; more than once would be a fault of the engine.
    pub fn effects(&self) -> Vec<(Uuid, crate::plan::Step, usize)> {
        self.lock().effects.iter().map(|((run, step), epochs)| (*run, *step, epochs.len())).collect()
    }

    /// Runs in the order in which they began (true) and ended (false), whatever their clocks say.
    pub fn order(&self) -> Vec<(Uuid, bool)> {
        self.lock().order.clone()
    }

    pub(super) async fn answer(&self) -> StoreResult<()> {
        self.weather.before("answer").await?;
        self.weather.after("answer").await
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The shell of an operation: weather, core, weather.
macro_rules! through_weather {
    ($($name:ident ( $($arg:ident : $type:ty),* ) -> $out:ty;)+) => {
        impl MemoryLedger {
            $(#[allow(clippy::too_many_arguments, reason = "each is one column")]
            pub(super) async fn $name(&self, $($arg: $type),*) -> StoreResult<$out> {
                self.weather.before(stringify!($name)).await?;
                let out = self.lock().$name($($arg),*);
                self.weather.after(stringify!($name)).await?;
                Ok(out)
            })+
        }
    };
}

through_weather! {
    start(runs: &[NewRun], now: DateTime<Utc>) -> Vec<Started>;
    claim(messages: &[Message], owner: Uuid, worker: &str, now: DateTime<Utc>, lease_until: DateTime<Utc>) -> Vec<Option<Claim>>;
    renew(owner: Uuid, held: &[Key], lease_until: DateTime<Utc>) -> Vec<Key>;
    held_by(owner: Uuid) -> Vec<Key>;
    complete(endings: &[Ending], now: DateTime<Utc>) -> Vec<Completed>;
    cancel(run: Uuid, reason: &str, now: DateTime<Utc>) -> Option<Vec<Message>>;
    abandoned(which: &Abandoned, now: DateTime<Utc>, limit: i64) -> Vec<Claim>;
    signs_of_life() -> SignsOfLife;
    on_their_way() -> Vec<(String, i64)>;
    unsent_queues() -> Vec<String>;
    unsend(stale: DateTime<Utc>) -> u64;
    take_due(room: &[(String, i64)], now: DateTime<Utc>) -> Vec<Message>;
    lead(duty: &str, instance: Uuid, now: DateTime<Utc>, until: DateTime<Utc>) -> bool;
    step_down(duty: &str, instance: Uuid) -> ();
    workers_seen(since: DateTime<Utc>) -> Vec<(String, i64)>;
    sign_on(instance: Uuid, name: &str, version: &str, steps: &str, slots: i64, now: DateTime<Utc>) -> ();
    sign_off(instance: Option<Uuid>, before: DateTime<Utc>) -> ();
    meet(key: &str, value: &str, now: DateTime<Utc>) -> String;
    condition(key: &str) -> Option<String>;
    release(now: DateTime<Utc>, limit: i64) -> u64;
    rouse(now: DateTime<Utc>, limit: i64) -> u64;
    pause(kind: &str, value: &str, reason: &str, now: DateTime<Utc>) -> bool;
    resume(kind: &str, value: &str) -> bool;
    add_schedule(schedule: &ScheduleRow) -> ();
    schedules() -> Vec<ScheduleRow>;
    last_tick(schedule: &str) -> Option<NaiveDate>;
    open_tick(schedule: &str, session: NaiveDate, by_hand: bool, reason: &str, now: DateTime<Utc>) -> bool;
    open_ticks() -> Vec<TickRow>;
    move_tick(tick: &TickRow, to: TickState, reason: &str) -> bool;
    open_runs_before(schedule: &str, session: NaiveDate, begun_too: bool, limit: i64) -> Vec<Uuid>;
    advance_tick(tick: &TickRow, exchange: Exchange, overlap: Overlap, slice: i64, now: DateTime<Utc>, make: &(dyn Fn(Ticker) -> NewRun + Send + Sync)) -> (usize, bool);
    get_run(id: Uuid) -> Option<(RunRow, Vec<StepRow>, Vec<AttemptRow>)>;
    open_runs() -> i64;
}
