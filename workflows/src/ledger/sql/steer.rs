//! What an operator asks for, and the audit of it, in one transaction. What changes nothing is not written down.

use super::backfills::NewBackfill;
use super::ticks::ScheduleRow;
use super::{audit, backfills, pause, read, ticks};
use crate::db::{Db, StoreResult};
use crate::ledger::NewEntry;
use chrono::{DateTime, NaiveDate, Utc};
use uuid::Uuid;

/// Something that can be asked for and is one operation on the ledger.
#[derive(Debug, Clone, Copy)]
pub enum Steering<'a> {
    /// What begins of this is set aside.
    Pause {
        /// `step`, `source`, `exchange` or `ticker`.
        kind: &'a str,
        /// Which.
        value: &'a str,
        /// Why.
        reason: &'a str,
    },
    /// It goes on.
    Resume {
        /// `step`, `source`, `exchange` or `ticker`.
        kind: &'a str,
        /// Which.
        value: &'a str,
    },
    /// A schedule fires no more, or again.
    PauseSchedule {
        /// Which.
        id: &'a str,
        /// Whether it is silent.
        paused: bool,
    },
    /// A schedule's time and policies; whether it is paused stays.
    ChangeSchedule(&'a ScheduleRow),
    /// Runs over sessions and tickers.
    StartBackfill(&'a NewBackfill),
    /// A backfill is `running`, `paused` or `cancelled` from now on.
    SteerBackfill {
        /// Which.
        id: Uuid,
        /// The word of its new state.
        to: &'a str,
    },
    /// A run is kept whatever its age, or no longer.
    Pin {
        /// Which.
        run: Uuid,
        /// Whether it is kept.
        pinned: bool,
    },
}

/// Does it and writes it down; false when that changed nothing: it was so already, is over, or is unknown.
pub(in crate::ledger) async fn steer(
    db: &Db,
    what: &Steering<'_>,
    entry: &NewEntry,
    now: DateTime<Utc>,
) -> StoreResult<bool> {
    let mut tx = db.begin().await?;
    let changed = match *what {
        Steering::Pause { kind, value, reason } => pause::pause_in(&mut tx, kind, value, reason, now).await?,
        Steering::Resume { kind, value } => pause::resume_in(&mut tx, kind, value).await?,
        Steering::PauseSchedule { id, paused } => ticks::pause_schedule(&mut tx, id, paused).await?,
        Steering::ChangeSchedule(schedule) => ticks::change_schedule(&mut tx, schedule).await?,
        Steering::StartBackfill(asked) => backfills::start_backfill(&mut tx, asked, now).await.map(|()| true)?,
        Steering::SteerBackfill { id, to } => backfills::steer_backfill(&mut tx, id, to, now).await?,
        Steering::Pin { run, pinned } => read::pin(&mut tx, run, pinned).await?,
    };
    if changed {
        audit::write(&mut tx, entry).await?;
        tx.commit().await?;
    } else {
        tx.rollback().await?;
    }
    Ok(changed)
}

/// Makes one more tick of a schedule by hand and writes it down; which one of that session it is. `None`: somebody else made one at the same
/// instant; ask again.
pub(in crate::ledger) async fn trigger(
    db: &Db,
    schedule: &str,
    session: NaiveDate,
    reason: &str,
    entry: &NewEntry,
    now: DateTime<Utc>,
) -> StoreResult<Option<i64>> {
    let mut tx = db.begin().await?;
    let nth = ticks::open_tick_in(&mut tx, schedule, session, true, reason, now).await?;
    if nth.is_some() {
        audit::write(&mut tx, entry).await?;
    }
    tx.commit().await?;
    Ok(nth)
}
