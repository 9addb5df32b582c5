//! What has happened: runs, steps, attempts. The truth of the engine; queues and caches only carry copies.
//! One file per operation: start, claim, complete, reclaim and feed (the reconciler's), cancel, read, ticks.

mod cancel;
mod claim;
mod complete;
mod feed;
mod read;
mod reclaim;
mod start;
mod ticks;

pub use cancel::cancel;
pub use claim::{Claim, claim, renew};
pub use complete::{Completion, complete};
pub use feed::{due, mark_sent, outstanding};
pub use read::{AttemptRow, RunFilter, RunRow, StepRow, get_run, list_runs, open_runs, queue_depths};
pub use reclaim::{Abandoned, abandoned};
pub use start::{NewRun, Started, start};
pub use ticks::{CatchUp, ScheduleRow, last_tick, put_schedule, schedules, try_tick};
