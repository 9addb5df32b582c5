//! The gate of one key: whether a request may start now, later, or not for a while. In come an ask and the time, out goes an answer.
//! Pure. The scripts beside this file (`*.lua`) decide the same in Redis, number for number; `agreement.rs` holds them to it.

use super::limit::{Breaker, Limit};
use super::{NotNowReason, Verdict};
use std::collections::BTreeMap;
use std::time::Duration;

/// Microseconds since 1970, in UTC.
pub(super) type Micros = i64;

pub(super) const SECOND: Micros = 1_000_000;
pub(super) const DAY: Micros = 86_400 * SECOND;
/// Who must wait for an unknown time (until a request ends) comes back after this.
pub(super) const SOON: Micros = SECOND;
/// Those who are sent away are told times one after the other, as places in a line, so that they do not all come back at once. The line
/// starts anew when it is this long: its places may belong to people who went elsewhere.
pub(super) const LINE: Micros = 120 * SECOND;
/// Places in the line are this much of the time that a request needs, because not everybody comes back.
const OVERBOOKED: f64 = 0.9;
/// The distance of two places where there is no rate.
const PLACE_WITHOUT_RATE: f64 = 100_000.0;

/// One key's state.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Gate {
    /// Requests that may start at once; below 0 when some have been promised ahead.
    pub tokens: f64,
    /// When `tokens` was right; 0 for a gate that nobody has come to yet.
    pub refilled_at: Micros,
    /// The site asked for quiet until then.
    pub blocked_until: Micros,
    /// Failures in a row.
    pub failures: u32,
    /// How often in a row the breaker opened.
    pub trips: u32,
    /// The breaker: 0 is closed, the future is open, the past is half open.
    pub open_until: Micros,
    /// The one request that a half-open breaker let through.
    pub probe: Option<String>,
    /// The UTC day of `used`, counted from 1970.
    pub day: i64,
    /// Requests started on that day.
    pub used: u64,
    /// The last place of the line.
    pub line: Micros,
    /// Requests under way, and when each counts as lost.
    pub permits: BTreeMap<String, Micros>,
}

/// Somebody wants to start a request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    /// The permit's name. One that is under way already asks for its next request and keeps its seat.
    pub id: &'a str,
    pub limit: &'a Limit,
    /// How far ahead a token may be promised.
    pub patience: Micros,
    /// Whoever asks again soon when all seats are taken needs no place in the line.
    pub polls: bool,
}

/// What it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// It may start then.
    Start(Micros),
    /// It may ask again after so long.
    NotNow(Micros, NotNowReason),
}

impl Gate {
    /// Admits a request, or says when to ask again.
    pub fn ask(&mut self, ask: Ask<'_>, now: Micros) -> Answer {
        let limit = ask.limit;
        self.turn_to(now, limit);
        if let Some((until, why)) = self.closed(ask.id, limit, now) {
            return self.refuse(until, why, true, limit, now);
        }
        let probes = limit.breaker.is_some() && self.open_until > 0;
        if let Some(probe) = self.probe.as_ref().filter(|_| probes)
            && probe != ask.id
            && let Some(ends) = self.permits.get(probe)
        {
            return self.refuse((*ends).min(now + SOON), NotNowReason::BreakerOpen, true, limit, now);
        }
        if limit.daily_budget.is_some_and(|budget| self.used >= budget) {
            return self.refuse((self.day + 1) * DAY, NotNowReason::BudgetSpent, true, limit, now);
        }
        let start = match limit.rate {
            Some(rate) if self.tokens < 1.0 => now + ((1.0 - self.tokens) / rate * 1e6).ceil() as Micros,
            _ => now,
        };
        let full = limit.concurrency.is_some_and(|seats| self.permits.len() >= seats as usize);
        if full && !self.permits.contains_key(ask.id) {
            let first = self.permits.values().min().copied().unwrap_or(now);
            return self.refuse(first.min(now + SOON).max(start), NotNowReason::Busy, !ask.polls, limit, now);
        }
        if start - now > ask.patience {
            return self.refuse(start, NotNowReason::Rate, true, limit, now);
        }
        if limit.rate.is_some() {
            self.tokens -= 1.0;
        }
        self.used += 1;
        self.permits.insert(ask.id.to_owned(), start + micros(limit.permit_life));
        if probes {
            self.probe = Some(ask.id.to_owned());
        }
        Answer::Start(start)
    }

    /// Asked by whoever waited for its start: whether it may still go. If not, its seat is free again.
    pub fn confirm(&mut self, id: &str, limit: &Limit, now: Micros) -> Answer {
        self.turn_to(now, limit);
        match self.closed(id, limit, now) {
            None => Answer::Start(now),
            Some((until, why)) => {
                self.used = self.used.saturating_sub(1);
                self.report(id, None, false, limit.breaker, now);
                self.refuse(until, why, true, limit, now)
            }
        }
    }

    /// Takes note of how a request ended; `None` for one that was never sent or given up. `keeps` leaves its seat to the same visitor.
    pub fn report(&mut self, id: &str, verdict: Option<Verdict>, keeps: bool, breaker: Option<Breaker>, now: Micros) {
        if !keeps {
            self.permits.remove(id);
        }
        // While the breaker is open or half open only the probe's word counts: the others started before.
        let probed = self.probe.as_deref() == Some(id);
        let counts = probed || self.open_until == 0;
        if probed {
            self.probe = None;
        }
        match verdict {
            Some(Verdict::Success) if counts => (self.failures, self.trips, self.open_until) = (0, 0, 0),
            Some(Verdict::Failure) if counts => {
                self.failures += 1;
                if let Some(breaker) = breaker.filter(|breaker| probed || self.failures >= breaker.failures) {
                    let doubled = micros(breaker.cool_down).saturating_mul(1 << self.trips.min(20));
                    self.open_until = now + doubled.min(micros(breaker.cool_down_cap));
                    (self.failures, self.trips) = (0, self.trips + 1);
                }
            }
            Some(Verdict::BlockedFor(wait)) => self.blocked_until = self.blocked_until.max(now + micros(wait)),
            Some(Verdict::Success | Verdict::Failure) | None => {}
        }
    }

    /// Why nobody at all may start, and until when.
    fn closed(&self, id: &str, limit: &Limit, now: Micros) -> Option<(Micros, NotNowReason)> {
        if self.blocked_until > now {
            return Some((self.blocked_until, NotNowReason::Blocked));
        }
        let open = limit.breaker.is_some() && self.open_until > now && self.probe.as_deref() != Some(id);
        open.then_some((self.open_until, NotNowReason::BreakerOpen))
    }

    /// Moves the state to `now`: tokens come in, lost permits and yesterday's count go.
    fn turn_to(&mut self, now: Micros, limit: &Limit) {
        self.permits.retain(|_, ends| *ends > now);
        let burst = f64::from(limit.burst.max(1));
        let elapsed = (now - self.refilled_at).max(0) as f64;
        self.tokens = match limit.rate {
            Some(rate) if self.refilled_at > 0 => burst.min(self.tokens + elapsed * rate / 1e6),
            _ => burst,
        };
        self.refilled_at = now;
        if self.day != now.div_euclid(DAY) {
            (self.day, self.used) = (now.div_euclid(DAY), 0);
        }
    }

    fn refuse(&mut self, base: Micros, why: NotNowReason, places: bool, limit: &Limit, now: Micros) -> Answer {
        if !places {
            return Answer::NotNow(base - now, why);
        }
        let step = limit.rate.map_or(PLACE_WITHOUT_RATE, |rate| OVERBOOKED * 1e6 / rate).ceil() as Micros;
        self.line = self.line.saturating_add(step);
        if self.line < base || self.line > base + LINE {
            self.line = base;
        }
        Answer::NotNow(self.line - now, why)
    }
}

pub(super) fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX / 4)
}
