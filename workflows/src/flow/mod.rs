//! Flow control towards sources, shared by all processes: pace, requests at a time, quiet that a host asked for, a breaker and a daily
//! budget, per key (a host). In comes "may I?", out goes a permit, or for how long not and why. Redis decides where there is one; each
//! process decides within its own share while Redis is away, and alone in the embedded default.

#[cfg(test)]
mod agreement;
mod gate;
#[cfg(test)]
mod gate_laws;
mod heard;
mod limit;
mod local;
mod permit;
mod shared;
mod state;

pub use heard::{Ending, Heard};
pub use limit::{Breaker, Limit, Share};
pub use permit::Permit;
pub use state::{BreakerState, FlowState};

use crate::queue::{QueueError, connection};
use chrono::{DateTime, Utc};
use gate::{Answer, Ask, Micros, micros};
use heard::Notes;
use local::Local;
use shared::Shared;
use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How often somebody who waits for a free seat looks again. One at a time does so, per key and process.
const POLL: Duration = Duration::from_millis(100);

/// How a request ended, as far as its host is concerned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The host answered; whether we liked the answer is another matter.
    Success,
    /// The host did not answer, or answered that it cannot.
    Failure,
    /// The host asked for quiet for so long (`Retry-After`).
    BlockedFor(Duration),
}

/// Why a request may not start yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotNowReason {
    /// The pace: other requests go first.
    Rate,
    /// As many requests as allowed are under way.
    Busy,
    /// The host asked for quiet.
    Blocked,
    /// The host failed too often in a row.
    BreakerOpen,
    /// Today's budget is spent.
    BudgetSpent,
    /// Redis is away, and the limit is too small to be divided: another process has it.
    NoShare,
}

impl fmt::Display for NotNowReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rate => "other requests to it go first, at the pace that was set",
            Self::Busy => "as many requests to it as allowed are under way",
            Self::Blocked => "it asked for a pause",
            Self::BreakerOpen => "it failed several times in a row and is left alone for a while",
            Self::BudgetSpent => "the requests allowed to it per day are used up",
            Self::NoShare => "Redis does not answer, and another process has the share of requests to it",
        })
    }
}

/// A request may not start now: give the worker's slot back and ask again after `wait`. No attempt was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{why}; ask again in {} s", .wait.as_secs_f64().ceil())]
pub struct NotNow {
    /// When to ask again. Those who are sent away are told different times, in line.
    pub wait: Duration,
    /// Why.
    pub why: NotNowReason,
}

/// How Redis is treated. The defaults are the product's.
#[derive(Debug, Clone, Copy)]
pub struct FlowSettings {
    /// Longer than this nobody waits for its answer.
    pub answer_within: Duration,
    /// After it did not answer it is tried again after this.
    pub retry_after: Duration,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self { answer_within: Duration::from_millis(300), retry_after: Duration::from_secs(3) }
    }
}

/// The flow control of one process. Clones share it.
#[derive(Clone)]
pub struct Flow(Arc<Inside>);

struct Inside {
    local: Local,
    shared: Option<Shared>,
    /// This process among the others, and the beginning of its permits' names.
    member: String,
    permits: AtomicU64,
    /// Keys for whose next free seat somebody waits.
    waiting: Mutex<HashSet<String>>,
    notes: Notes,
}

impl Flow {
    /// For one process alone. `now` is the time as it is made; from there on tokio's clock counts.
    pub fn memory(now: DateTime<Utc>) -> Self {
        Self::new(now, String::new(), None)
    }

    /// Shared by all processes that use `prefix` on this Redis. Must be made inside a tokio runtime; connects on first use.
    pub fn redis(url: &str, prefix: &str, settings: FlowSettings, now: DateTime<Utc>) -> Result<Self, QueueError> {
        let (_, connection) = connection(url)?;
        let member = ulid::Ulid::generate().to_string();
        let shared = Shared::new(connection, prefix, &member, settings);
        Ok(Self::new(now, member, Some(shared)))
    }

    fn new(now: DateTime<Utc>, member: String, shared: Option<Shared>) -> Self {
        let local = Local::new(now.timestamp_micros());
        Self(Arc::new(Inside {
            local,
            shared,
            member,
            permits: AtomicU64::new(0),
            waiting: Mutex::default(),
            notes: Notes::default(),
        }))
    }

    /// A permit for one request to `key`, after waiting at most `patience` for a token or a seat; else for how long not, and why.
    ///
    /// Waiting for a token keeps a seat, so nobody waits who could not start. A permit that is dropped unreported frees its seat.
    pub async fn acquire(&self, key: &str, limit: &Limit, patience: Duration) -> Result<Permit, NotNow> {
        let number = self.0.permits.fetch_add(1, Ordering::Relaxed);
        let permit = Permit::new(self.clone(), key, format!("{}-{number}", self.0.member), limit);
        self.admit(permit, patience).await
    }

    /// The next request of a visit: it keeps the seat of `permit`, which `note` has left to it, and waits only for a token.
    pub async fn again(&self, permit: Permit, patience: Duration) -> Result<Permit, NotNow> {
        self.admit(permit, patience).await
    }

    /// Says how the request ended, and frees its seat.
    pub async fn report(&self, mut permit: Permit, verdict: Verdict) {
        self.tell(&permit, verdict, false).await;
        permit.free();
    }

    /// Says how the request ended; the permit keeps its seat for the next request of the same visit.
    pub async fn note(&self, permit: &Permit, verdict: Verdict) {
        self.tell(permit, verdict, true).await;
    }

    /// How every key stands: by Redis, or by this process' own view while Redis is away.
    pub async fn states(&self) -> Vec<FlowState> {
        if let Some(shared) = self.shared_now() {
            match shared.states().await {
                Ok(states) => {
                    shared.is_back();
                    return states;
                }
                Err(why) => self.lost(shared, &why),
            }
        }
        self.0.local.states()
    }

    /// Takes note of how a request ended, for [`Flow::heard`]. It decides nothing: a note that Redis does not take is only this process'.
    pub async fn note_ending(&self, key: &str, ending: Ending<'_>) {
        let fields = Heard::fields(ending, self.0.local.now());
        self.0.notes.take(key, &fields);
        if let Some(shared) = self.shared_now()
            && let Err(why) = shared.note_ending(key, &fields).await
        {
            self.lost(shared, &why);
        }
    }

    /// What was last heard of each of `keys`, by any process; by this one while Redis is away.
    pub async fn heard(&self, keys: &[String]) -> BTreeMap<String, Heard> {
        if let Some(shared) = self.shared_now() {
            match shared.heard(keys).await {
                Ok(heard) => return heard,
                Err(why) => self.lost(shared, &why),
            }
        }
        self.0.notes.all()
    }

    async fn admit(&self, mut permit: Permit, patience: Duration) -> Result<Permit, NotNow> {
        let deadline = Instant::now() + patience;
        let mut place = None;
        // A visit has its seat already. From here on there may be one to free, however this future ends.
        let mut admitted = permit.is_taken();
        permit.take();
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let polls = left >= POLL && (place.is_some() || !self.0.waiting().contains(&permit.key));
            let ask = Ask { id: &permit.id, limit: &permit.limit, patience: micros(left), polls };
            let (answer, is_shared, now) = self.ask(&permit.key, ask).await;
            let refused = match answer {
                Answer::Start(at) => {
                    (permit.started_at, admitted) = (at, true);
                    if at <= now {
                        return Ok(permit);
                    }
                    tokio::time::sleep(duration(at - now)).await;
                    match self.confirm(&permit, is_shared).await {
                        Some(Answer::Start(_)) => return Ok(permit),
                        Some(Answer::NotNow(wait, why)) => (wait, why),
                        // Redis went or came back meanwhile: what was promised no longer counts.
                        None => continue,
                    }
                }
                Answer::NotNow(_, NotNowReason::Busy) if polls => {
                    place = place.or_else(|| Waiting::take(&self.0, &permit.key));
                    if place.is_some() {
                        tokio::time::sleep(POLL).await;
                        continue;
                    }
                    (micros(POLL), NotNowReason::Busy)
                }
                Answer::NotNow(wait, why) => (wait, why),
            };
            if !admitted {
                permit.free();
            }
            return Err(NotNow { wait: duration(refused.0), why: refused.1 });
        }
    }

    /// The answer, whether it is Redis', and the time by whoever gave it.
    async fn ask(&self, key: &str, ask: Ask<'_>) -> (Answer, bool, Micros) {
        let local = &self.0.local;
        if let Some(shared) = self.shared_now() {
            let carried = local.carried(key, ask.limit, shared.settling());
            match shared.acquire(key, ask, carried).await {
                Ok(reply) => {
                    local.follow(key, ask, &reply);
                    shared.is_back();
                    return (reply.answer, true, reply.now);
                }
                Err(why) => self.lost(shared, &why),
            }
        }
        (local.ask(key, ask, self.share()), false, local.now())
    }

    /// Whether a request that waited for its start may still go; `None` when it must ask anew.
    async fn confirm(&self, permit: &Permit, is_shared: bool) -> Option<Answer> {
        if let Some(shared) = self.shared_now() {
            match shared.confirm(&permit.key, &permit.id, &permit.limit).await {
                Ok(reply) => {
                    shared.is_back();
                    return is_shared.then_some(reply.answer);
                }
                Err(why) => self.lost(shared, &why),
            }
        }
        (!is_shared).then(|| self.0.local.confirm(&permit.key, &permit.id, &permit.limit, self.share()))
    }

    async fn tell(&self, permit: &Permit, verdict: Verdict, keeps: bool) {
        let verdict = Some(verdict);
        let Permit { key, id, limit, .. } = permit;
        self.0.local.report(key, id, verdict, keeps, limit);
        if let Some(shared) = self.shared_now() {
            match shared.report(key, id, verdict, keeps, limit).await {
                Ok(()) => shared.is_back(),
                Err(why) => self.lost(shared, &why),
            }
        }
    }

    /// Frees a seat whose permit was dropped.
    fn give_up(&self, key: &str, id: &str, limit: &Limit) {
        self.0.local.report(key, id, None, false, limit);
        if self.0.shared.is_none() {
            return;
        }
        // Outside a runtime, as at the very end of the program, the seat frees itself.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        let (flow, key, id, limit) = (self.clone(), key.to_owned(), id.to_owned(), *limit);
        runtime.spawn(async move {
            if let Some(shared) = flow.shared_now()
                && let Err(why) = shared.report(&key, &id, None, false, &limit).await
            {
                flow.lost(shared, &why);
            }
        });
    }

    /// Redis, when there is one and it is worth a try.
    fn shared_now(&self) -> Option<&Shared> {
        self.0.shared.as_ref().filter(|shared| shared.may_try())
    }

    /// What this process may decide by itself.
    fn share(&self) -> Share {
        self.0.shared.as_ref().map_or(Share::Whole, |shared| shared.share().unwrap_or(Share::Unknown))
    }

    fn lost(&self, shared: &Shared, why: &str) {
        shared.is_gone(why, || self.0.local.begin_apart());
    }
}

impl Inside {
    fn waiting(&self) -> std::sync::MutexGuard<'_, HashSet<String>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The one of this process that waits for a seat of a key. More would only crowd each other out.
struct Waiting<'a> {
    inside: &'a Inside,
    key: String,
}

impl<'a> Waiting<'a> {
    fn take(inside: &'a Inside, key: &str) -> Option<Self> {
        inside.waiting().insert(key.to_owned()).then(|| Self { inside, key: key.to_owned() })
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.inside.waiting().remove(&self.key);
    }
}

fn duration(micros: Micros) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}
