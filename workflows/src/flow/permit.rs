//! A permit: one request may be under way. It ends with a report; dropped without one, its seat is freed all the same, and when the whole
//! process dies the seat frees itself after the limit's `permit_life`.

use super::Flow;
use super::gate::Micros;
use super::limit::Limit;
use chrono::{DateTime, Utc};

/// Leave to send one request.
pub struct Permit {
    flow: Flow,
    pub(super) key: String,
    pub(super) id: String,
    pub(super) limit: Limit,
    pub(super) started_at: Micros,
    /// Whether there may be a seat to free.
    taken: bool,
}

impl Permit {
    pub(super) fn new(flow: Flow, key: &str, id: String, limit: &Limit) -> Self {
        Self { flow, key: key.to_owned(), id, limit: *limit, started_at: 0, taken: false }
    }

    /// When the request was allowed to start, by the clock of whoever allowed it: Redis', or this process' reckoning of it.
    pub fn started_at(&self) -> DateTime<Utc> {
        DateTime::from_timestamp_micros(self.started_at).unwrap_or_default()
    }

    pub(super) fn is_taken(&self) -> bool {
        self.taken
    }

    pub(super) fn take(&mut self) {
        self.taken = true;
    }

    pub(super) fn free(&mut self) {
        self.taken = false;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.taken {
            self.flow.give_up(&self.key, &self.id, &self.limit);
        }
    }
}
