//! The gates of one process: all there is in the embedded default, and what remains while Redis is away. Beside a Redis that answers they
//! only follow it, so that they know how things stood when it goes.

use super::gate::{Answer, Ask, DAY, Gate, Micros, micros};
use super::limit::{Limit, Share};
use super::shared::{Carried, Reply};
use super::state::FlowState;
use super::{NotNowReason, Verdict};
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A process that has not asked for anything for so long is no longer counted, and no longer knows how many others there are.
pub(super) const MEMBER_LIFE: Duration = Duration::from_secs(60);
/// Who has no share of a limit asks again after this.
const NO_SHARE_WAIT: Micros = 5_000_000;

pub(super) struct Local(Mutex<Inside>);

struct Inside {
    /// An instant and what time it was then.
    clock: (Instant, Micros),
    gates: HashMap<String, Entry>,
    /// Which of how many processes this one was, when Redis last said so.
    member: Option<(u32, u32, Instant)>,
}

struct Entry {
    gate: Gate,
    limit: Limit,
    /// The day and the count of requests that Redis knows of.
    known: (i64, u64),
    /// Whether Redis has decided for this key before.
    met: bool,
    /// When this process last decided by itself although others exist.
    apart_at: Option<Micros>,
    /// Whether Redis missed something that happened here.
    behind: bool,
}

impl Entry {
    fn new(limit: &Limit) -> Self {
        Self { gate: Gate::default(), limit: *limit, known: (0, 0), met: false, apart_at: None, behind: false }
    }

    /// What Redis knew to be used, of the present day.
    fn known_used(&self) -> u64 {
        if self.known.0 == self.gate.day { self.known.1 } else { 0 }
    }
}

impl Local {
    /// Gates of a process for which it is now `now`. Time goes on by tokio's clock.
    pub fn new(now: Micros) -> Self {
        Self(Mutex::new(Inside { clock: (Instant::now(), now), gates: HashMap::new(), member: None }))
    }

    pub fn now(&self) -> Micros {
        self.inside().now()
    }

    /// Decides by itself, within its share.
    pub fn ask(&self, key: &str, ask: Ask<'_>, share: Share) -> Answer {
        let mut inside = self.inside();
        let now = inside.now();
        let entry = inside.entry(key, ask.limit);
        if share != Share::Whole {
            (entry.apart_at, entry.behind) = (Some(now), true);
            // What others admitted is unknown, so a gate that was never seen starts empty.
            if entry.gate.refilled_at == 0 {
                entry.gate.refilled_at = now;
            }
        }
        match ask.limit.share(share, entry.known_used()) {
            Some(limit) => entry.gate.ask(Ask { limit: &limit, ..ask }, now),
            None => Answer::NotNow(NO_SHARE_WAIT, NotNowReason::NoShare),
        }
    }

    pub fn confirm(&self, key: &str, id: &str, limit: &Limit, share: Share) -> Answer {
        let mut inside = self.inside();
        let now = inside.now();
        let entry = inside.entry(key, limit);
        match limit.share(share, entry.known_used()) {
            Some(limit) => entry.gate.confirm(id, &limit, now),
            None => Answer::NotNow(NO_SHARE_WAIT, NotNowReason::NoShare),
        }
    }

    pub fn report(&self, key: &str, id: &str, verdict: Option<Verdict>, keeps: bool, limit: &Limit) {
        let mut inside = self.inside();
        let now = inside.now();
        inside.entry(key, limit).gate.report(id, verdict, keeps, limit.breaker, now);
    }

    /// What Redis should learn with the next ask: what this process knows and it may not, and for how long others may still be apart.
    pub fn carried(&self, key: &str, limit: &Limit, settling: Duration) -> Carried {
        let mut inside = self.inside();
        let now = inside.now();
        let entry = inside.entry(key, limit);
        let recently = entry.apart_at.is_some_and(|at| now - at < micros(settling));
        Carried {
            blocked_until: entry.gate.blocked_until,
            used_apart: if entry.apart_at.is_some() {
                entry.gate.used - entry.known_used().min(entry.gate.used)
            } else {
                0
            },
            settling: if recently { micros(settling) } else { 0 },
            met: entry.met,
            seats: entry.behind.then(|| entry.gate.permits.iter().map(|(id, ends)| (id.clone(), *ends)).collect()),
        }
    }

    /// Follows what Redis decided.
    pub fn follow(&self, key: &str, ask: Ask<'_>, reply: &Reply) {
        let mut inside = self.inside();
        inside.clock = (Instant::now(), reply.now);
        if reply.of > 0 {
            inside.member = Some((reply.rank, reply.of, Instant::now()));
        }
        let entry = inside.entry(key, ask.limit);
        entry.gate.day = reply.now.div_euclid(DAY);
        entry.gate.used = reply.used;
        entry.gate.blocked_until = entry.gate.blocked_until.max(reply.blocked_until);
        entry.gate.open_until = reply.open_until;
        entry.known = (entry.gate.day, reply.used);
        (entry.met, entry.apart_at, entry.behind) = (true, None, false);
        match reply.answer {
            Answer::Start(at) => {
                entry.gate.permits.insert(ask.id.to_owned(), at + micros(ask.limit.permit_life));
            }
            Answer::NotNow(..) => {
                entry.gate.permits.remove(ask.id);
            }
        }
        entry.gate.permits.retain(|_, ends| *ends > reply.now);
    }

    /// Redis has gone: every gate starts empty, for what others were admitted to just now is unknown. Answers this process' share.
    pub fn begin_apart(&self) -> Share {
        let mut inside = self.inside();
        let now = inside.now();
        for entry in inside.gates.values_mut() {
            (entry.gate.tokens, entry.gate.refilled_at) = (0.0, now);
            entry.behind = true;
        }
        match inside.member {
            Some((rank, of, at)) if at.elapsed() < MEMBER_LIFE => Share::Part { rank, of },
            _ => Share::Unknown,
        }
    }

    pub fn states(&self) -> Vec<FlowState> {
        let inside = self.inside();
        let now = inside.now();
        let of = |(key, entry): (&String, &Entry)| {
            let in_flight = entry.gate.permits.values().filter(|ends| **ends > now).count() as u64;
            FlowState::of(key, &entry.gate, in_flight, entry.limit.rate, entry.limit.burst, now)
        };
        let mut states: Vec<FlowState> = inside.gates.iter().map(of).collect();
        states.sort_by(|a, b| a.key.cmp(&b.key));
        states
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn now(&self) -> Micros {
        self.clock.1 + micros(self.clock.0.elapsed())
    }

    fn entry(&mut self, key: &str, limit: &Limit) -> &mut Entry {
        let entry = self.gates.entry(key.to_owned()).or_insert_with(|| Entry::new(limit));
        entry.limit = *limit;
        entry
    }
}
