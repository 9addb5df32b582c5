//! Schedules and ticks of the ledger in memory.

use super::core::Core;
use crate::ledger::words::NewRun;
use crate::ledger::{ScheduleRow, TickRow, TickState};
use crate::state::RunState;
use chrono::{DateTime, NaiveDate, Utc};
use market::{Exchange, Ticker};
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

    pub(super) fn open_runs_of(&mut self, schedule: &str, except: NaiveDate, limit: i64) -> Vec<Uuid> {
        let open = self.runs.values().filter(|rec| {
            rec.row.schedule_id.as_deref() == Some(schedule)
                && rec.aimed != except
                && !RunState::from_word(&rec.row.state).is_some_and(RunState::is_final)
        });
        open.map(|rec| rec.row.id).take(usize::try_from(limit).unwrap_or(0)).collect()
    }

    pub(super) fn advance_tick(
        &mut self,
        tick: &TickRow,
        exchange: Exchange,
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
        let runs: Vec<NewRun> = tickers.into_iter().map(make).collect();
        let started = self.start(&runs, now).len();
        if let Some(there) = self.tick(tick) {
            there.cursor = cursor;
            there.row.runs += i64::try_from(started).unwrap_or(0);
            there.row.state = if more { TickState::Firing } else { TickState::Fired };
        }
        (started, more)
    }
}
