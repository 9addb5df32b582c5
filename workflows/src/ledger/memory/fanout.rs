//! Schedules and ticks of the ledger in memory.

use super::core::{Core, RunRec};
use crate::ledger::words::NewRun;
use crate::ledger::{Overlap, ScheduleRow, TickRow, TickState};
use crate::state::RunState;
use chrono::{DateTime, NaiveDate, Utc};
use market::{Exchange, Ticker};
use std::collections::BTreeSet;
use uuid::Uuid;

#[derive(Debug, Clone)]
pub(super) struct TickRec {
    pub row: TickRow,
    cursor: String,
}

impl Core {
    pub(super) fn add_schedule(&mut self, schedule: &ScheduleRow) {
        self.schedules.entry(schedule.id.clone()).or_insert_with(|| schedule.clone());
    }

    pub(super) fn schedules(&mut self) -> Vec<ScheduleRow> {
        self.schedules.values().cloned().collect()
    }

    pub(super) fn last_tick(&mut self, schedule: &str) -> Option<NaiveDate> {
        self.ticks.keys().filter(|(id, _, nth)| id == schedule && *nth == 0).map(|(_, session, _)| *session).max()
    }

    pub(super) fn open_tick(
        &mut self,
        schedule: &str,
        session: NaiveDate,
        by_hand: bool,
        reason: &str,
        now: DateTime<Utc>,
    ) -> bool {
        let last = self.ticks.keys().filter(|(id, of, _)| id == schedule && *of == session).map(|(.., nth)| *nth).max();
        let nth = if by_hand { last.unwrap_or(0) + 1 } else { 0 };
        let key = (schedule.to_owned(), session, nth);
        if self.ticks.contains_key(&key) {
            return false;
        }
        let row = TickRow {
            schedule_id: schedule.to_owned(),
            session,
            nth,
            state: TickState::Queued,
            reason: reason.to_owned(),
            runs: 0,
            created_at: now,
        };
        self.ticks.insert(key, TickRec { row, cursor: String::new() });
        true
    }

    pub(super) fn open_ticks(&mut self) -> Vec<TickRow> {
        let open = self.ticks.values().filter(|tick| matches!(tick.row.state, TickState::Queued | TickState::Firing));
        let mut rows: Vec<TickRow> = open.map(|tick| tick.row.clone()).collect();
        rows.sort_by(|a, b| {
            (a.created_at, &a.schedule_id, a.session, a.nth).cmp(&(b.created_at, &b.schedule_id, b.session, b.nth))
        });
        rows.truncate(100);
        rows
    }

    fn tick(&mut self, tick: &TickRow) -> Option<&mut TickRec> {
        self.ticks.get_mut(&(tick.schedule_id.clone(), tick.session, tick.nth))
    }

    pub(super) fn move_tick(&mut self, tick: &TickRow, to: TickState, reason: &str) -> bool {
        match self.tick(tick).filter(|there| there.row.state == tick.state) {
            Some(there) => {
                there.row.state = to;
                there.row.reason = reason.to_owned();
                true
            }
            None => false,
        }
    }

    /// Open runs of the schedule for sessions before this one.
    fn open_before(&self, schedule: &str, session: NaiveDate) -> impl Iterator<Item = &RunRec> {
        let open = |rec: &RunRec| !RunState::from_word(&rec.row.state).is_some_and(RunState::is_final);
        self.runs
            .values()
            .filter(move |rec| rec.row.schedule_id.as_deref() == Some(schedule) && rec.aimed < session && open(rec))
    }

    pub(super) fn open_runs_before(
        &mut self,
        schedule: &str,
        session: NaiveDate,
        begun_too: bool,
        limit: i64,
    ) -> Vec<Uuid> {
        let lasting = self.open_before(schedule, session).filter(|rec| rec.verdict.is_none());
        let old = lasting.filter(|rec| begun_too || rec.row.state == RunState::Queued.as_str());
        old.map(|rec| rec.row.id).take(usize::try_from(limit).unwrap_or(0)).collect()
    }

    pub(super) fn advance_tick(
        &mut self,
        tick: &TickRow,
        exchange: Exchange,
        overlap: Overlap,
        slice: i64,
        now: DateTime<Utc>,
        make: &(dyn Fn(Ticker) -> NewRun + Send + Sync),
    ) -> (usize, bool) {
        let Some(cursor) =
            self.tick(tick).filter(|there| there.row.state == TickState::Firing).map(|there| there.cursor.clone())
        else {
            return (0, false);
        };
        let slice = usize::try_from(slice).unwrap_or(usize::MAX);
        let next =
            self.tickers.iter().filter(|ticker| ticker.exchange() == exchange && ticker.symbol() > cursor.as_str());
        let tickers: Vec<Ticker> = next.take(slice).cloned().collect();
        let more = tickers.len() == slice;
        let cursor = tickers.last().map_or(cursor, |ticker| ticker.symbol().to_owned());
        let busy: BTreeSet<String> = match overlap {
            Overlap::Skip => {
                self.open_before(&tick.schedule_id, tick.session).filter_map(|rec| rec.row.ticker.clone()).collect()
            }
            _ => BTreeSet::new(),
        };
        let free = tickers.into_iter().filter(|ticker| !busy.contains(ticker.symbol()));
        let runs: Vec<NewRun> = free.map(make).collect();
        let started = self.start(&runs, now).len();
        if let Some(there) = self.tick(tick) {
            there.cursor = cursor;
            there.row.runs += i64::try_from(started).unwrap_or(0);
            there.row.state = match (more, there.row.runs, busy.is_empty()) {
                (true, ..) => TickState::Firing,
                (false, 0, false) => TickState::Skipped,
                _ => TickState::Fired,
            };
        }
        (started, more)
    }
}
