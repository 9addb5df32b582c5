//! The gates that all processes share, in Redis: one script per operation, atomic, by Redis' own clock. In comes an ask with what this
//! process knows, out goes Redis' answer, or the word that there was none in time.

use super::gate::{Answer, Ask, Gate, Micros, micros};
use super::heard::Heard;
use super::limit::{Limit, Share};
use super::local::MEMBER_LIFE;
use super::state::FlowState;
use super::{FlowSettings, NotNowReason, Verdict};
use redis::aio::ConnectionManager;
use redis::{AsyncCommands, Script, ScriptInvocation};
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// The line that gives the scripts their time.
const REDIS_TIME: &str = "local t = redis.call('TIME'); local now = t[1] * 1000000 + t[2]\n";

/// How long it is known what was heard of a host, seconds.
const HEARD_S: i64 = 30 * 86_400;

/// The operations, each a script.
pub(super) struct Scripts {
    pub acquire: Script,
    pub confirm: Script,
    pub report: Script,
    states: Script,
}

impl Scripts {
    /// `clock` is the line that sets `now`.
    pub fn new(clock: &str) -> Self {
        let gate = include_str!("gate.lua");
        Self {
            acquire: Script::new(&format!("{clock}{gate}{}", include_str!("acquire.lua"))),
            confirm: Script::new(&format!("{clock}{gate}{}", include_str!("confirm.lua"))),
            report: Script::new(&format!("{clock}{gate}{}", include_str!("report.lua"))),
            states: Script::new(&format!("{clock}{}", include_str!("states.lua"))),
        }
    }
}

/// What a process tells Redis with an ask, beside the ask.
#[derive(Debug, Clone, Default)]
pub(super) struct Carried {
    pub blocked_until: Micros,
    /// Requests started while Redis was away.
    pub used_apart: u64,
    /// For how long other processes may not yet know that Redis is back.
    pub settling: Micros,
    /// Whether Redis has decided for this key before; if it then knows nothing, it has lost its data.
    pub met: bool,
    /// After an outage: which seats this process really has, and until when. Redis missed how its earlier ones ended.
    pub seats: Option<Vec<(String, Micros)>>,
}

/// What Redis answers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Reply {
    pub answer: Answer,
    pub now: Micros,
    pub blocked_until: Micros,
    pub open_until: Micros,
    pub used: u64,
    /// Which of the live processes this one is, by name.
    pub rank: u32,
    /// How many there are; 0 when it was not counted.
    pub of: u32,
}

pub(super) struct Shared {
    connection: ConnectionManager,
    scripts: Scripts,
    prefix: String,
    member: String,
    settings: FlowSettings,
    away: Mutex<Option<Away>>,
}

/// Since Redis does not answer.
#[derive(Clone, Copy)]
struct Away {
    retry_at: Instant,
    share: Share,
}

impl Shared {
    pub fn new(connection: ConnectionManager, prefix: &str, member: &str, settings: FlowSettings) -> Self {
        let (prefix, member) = (format!("{prefix}:flow"), member.to_owned());
        Self { connection, scripts: Scripts::new(REDIS_TIME), prefix, member, settings, away: Mutex::new(None) }
    }

    /// Whether Redis should be asked: it answers, or has been away long enough to be tried again by whoever comes first.
    pub fn may_try(&self) -> bool {
        let now = Instant::now();
        match self.away().as_mut() {
            None => true,
            Some(away) if now >= away.retry_at => {
                away.retry_at = now + self.settings.retry_after;
                true
            }
            Some(_) => false,
        }
    }

    /// This process' share while Redis is away.
    pub fn share(&self) -> Option<Share> {
        self.away().map(|away| away.share)
    }

    /// For how long after Redis' return other processes may still go by their shares.
    pub fn settling(&self) -> Duration {
        self.settings.retry_after + self.settings.answer_within + Duration::from_millis(200)
    }

    /// It answered.
    pub fn is_back(&self) {
        if self.away().take().is_some() {
            tracing::info!("Redis answers the flow control again; the limits of the sources are shared as before");
        }
    }

    /// It did not answer; `share` is asked for at the beginning of an outage.
    pub fn is_gone(&self, why: &str, share: impl FnOnce() -> Share) {
        let mut away = self.away();
        let retry_at = Instant::now() + self.settings.retry_after;
        if let Some(away) = away.as_mut() {
            away.retry_at = retry_at;
            return;
        }
        let share = share();
        *away = Some(Away { retry_at, share });
        tracing::warn!(
            why,
            ?share,
            "Redis does not answer the flow control; each process keeps to its own share of the sources' limits until it does. Check redis_url \
             and the server"
        );
    }

    pub async fn acquire(&self, key: &str, ask: Ask<'_>, carried: Carried) -> Result<Reply, String> {
        let mut call = self.call(&self.scripts.acquire, key, ask.id, ask.limit);
        call.key(format!("{}:members", self.prefix)).key(format!("{}:keys", self.prefix));
        add_ask(&mut call, ask, &self.member, key, &carried);
        self.answer(&call).await
    }

    pub async fn confirm(&self, key: &str, id: &str, limit: &Limit) -> Result<Reply, String> {
        self.answer(&self.call(&self.scripts.confirm, key, id, limit)).await
    }

    pub async fn report(
        &self,
        key: &str,
        id: &str,
        verdict: Option<Verdict>,
        keeps: bool,
        limit: &Limit,
    ) -> Result<(), String> {
        let mut call = self.call(&self.scripts.report, key, id, limit);
        add_verdict(&mut call, verdict, keeps, limit);
        self.answer(&call).await.map(|_| ())
    }

    pub async fn states(&self) -> Result<Vec<FlowState>, String> {
        let reading = async {
            let mut connection = self.connection.clone();
            let keys: Vec<String> = connection.zrange(format!("{}:keys", self.prefix), 0, -1).await?;
            let mut call = self.scripts.states.prepare_invoke();
            for key in &keys {
                call.key(self.gate_key(key)).key(self.permits_key(key));
            }
            let (now, gates): (Micros, Vec<(Fields, u64)>) = call.invoke_async(&mut connection).await?;
            let of = |(key, (fields, in_flight)): (String, (Fields, u64))| read_state(&key, &fields, in_flight, now);
            let mut states: Vec<FlowState> = keys.into_iter().zip(gates).map(of).collect();
            states.sort_by(|a, b| a.key.cmp(&b.key));
            Ok::<_, redis::RedisError>(states)
        };
        self.in_time(reading).await
    }

    /// What was heard of a host; forgotten with its gate.
    pub async fn note_ending(&self, key: &str, fields: &[(&'static str, String)]) -> Result<(), String> {
        let mut connection = self.connection.clone();
        let mut noting = redis::pipe();
        noting.hset_multiple(self.heard_key(key), fields).ignore().expire(self.heard_key(key), HEARD_S).ignore();
        self.in_time(noting.query_async(&mut connection)).await
    }

    pub async fn heard(&self, keys: &[String]) -> Result<BTreeMap<String, Heard>, String> {
        let mut connection = self.connection.clone();
        let mut asking = redis::pipe();
        for key in keys {
            asking.hgetall(self.heard_key(key));
        }
        let notes: Vec<BTreeMap<String, String>> = match keys.is_empty() {
            true => Vec::new(),
            false => self.in_time(asking.query_async(&mut connection)).await?,
        };
        let read = |(key, fields): (&String, BTreeMap<String, String>)| {
            let mut heard = Heard::default();
            heard.take(fields.iter().map(|(field, text)| (field.as_str(), text.as_str())));
            (key.clone(), heard)
        };
        Ok(keys.iter().zip(notes).map(read).collect())
    }

    fn heard_key(&self, key: &str) -> String {
        format!("{}:heard:{key}", self.prefix)
    }

    fn call<'a>(&self, script: &'a Script, key: &str, id: &str, limit: &Limit) -> ScriptInvocation<'a> {
        let mut call = script.key(self.gate_key(key));
        call.key(self.permits_key(key));
        add_limit(&mut call, id, limit);
        call
    }

    fn gate_key(&self, key: &str) -> String {
        format!("{}:gate:{key}", self.prefix)
    }

    fn permits_key(&self, key: &str) -> String {
        format!("{}:permits:{key}", self.prefix)
    }

    async fn answer(&self, call: &ScriptInvocation<'_>) -> Result<Reply, String> {
        let mut connection = self.connection.clone();
        let raw = self.in_time(call.invoke_async(&mut connection)).await?;
        read_reply(raw)
    }

    async fn in_time<T>(&self, asking: impl Future<Output = redis::RedisResult<T>>) -> Result<T, String> {
        match tokio::time::timeout(self.settings.answer_within, asking).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} ms", self.settings.answer_within.as_millis())),
        }
    }

    fn away(&self) -> MutexGuard<'_, Option<Away>> {
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What every script is told first.
pub(super) fn add_limit(call: &mut ScriptInvocation<'_>, id: &str, limit: &Limit) {
    // In full, so that Redis reckons with the very same number.
    call.arg(id).arg(limit.rate.map_or_else(|| "-1".to_owned(), |rate| format!("{rate:?}"))).arg(limit.burst);
    call.arg(limit.concurrency.map_or(-1, i64::from));
    call.arg(limit.daily_budget.map_or(-1, |budget| i64::try_from(budget).unwrap_or(i64::MAX)));
    call.arg(micros(limit.permit_life)).arg(i32::from(limit.breaker.is_some()));
}

pub(super) fn add_ask(call: &mut ScriptInvocation<'_>, ask: Ask<'_>, member: &str, key: &str, carried: &Carried) {
    call.arg(ask.patience).arg(i32::from(ask.polls)).arg(member).arg(micros(MEMBER_LIFE)).arg(key);
    call.arg(carried.blocked_until).arg(carried.used_apart).arg(carried.settling).arg(i32::from(carried.met));
    call.arg(carried.seats.as_ref().map_or(-1, |seats| seats.len() as i64));
    for (id, ends) in carried.seats.iter().flatten() {
        call.arg(id).arg(*ends);
    }
}

pub(super) fn add_verdict(call: &mut ScriptInvocation<'_>, verdict: Option<Verdict>, keeps: bool, limit: &Limit) {
    let (word, blocked_for) = match verdict {
        Some(Verdict::Success) => ("success", Duration::ZERO),
        Some(Verdict::Failure) => ("failure", Duration::ZERO),
        Some(Verdict::BlockedFor(wait)) => ("blocked", wait),
        None => ("", Duration::ZERO),
    };
    let breaker = limit.breaker.unwrap_or_default();
    call.arg(word).arg(micros(blocked_for)).arg(i32::from(keeps));
    call.arg(breaker.failures).arg(micros(breaker.cool_down)).arg(micros(breaker.cool_down_cap));
}

/// The eight numbers that every script answers.
pub(super) fn read_reply(raw: Vec<i64>) -> Result<Reply, String> {
    let [code, value, now, blocked_until, open_until, used, rank, of] = raw[..] else {
        return Err(format!("an answer of {} numbers instead of 8", raw.len()));
    };
    let answer = match code {
        0 => Answer::Start(value),
        1 => Answer::NotNow(value, NotNowReason::Rate),
        2 => Answer::NotNow(value, NotNowReason::Busy),
        3 => Answer::NotNow(value, NotNowReason::Blocked),
        4 => Answer::NotNow(value, NotNowReason::BreakerOpen),
        5 => Answer::NotNow(value, NotNowReason::BudgetSpent),
        other => return Err(format!("an answer of the unknown kind {other}")),
    };
    let small = |number: i64| u32::try_from(number).unwrap_or(0);
    let used = u64::try_from(used).unwrap_or(0);
    Ok(Reply { answer, now, blocked_until, open_until, used, rank: small(rank), of: small(of) })
}

/// A gate's fields in the order in which `states.lua` names them; absent when Redis has lost the gate.
type Fields = Vec<Option<String>>;

fn read_state(key: &str, fields: &[Option<String>], in_flight: u64, now: Micros) -> FlowState {
    let number = |at: usize| fields.get(at).and_then(Option::as_deref).and_then(|text| text.parse::<f64>().ok());
    let whole = |at: usize| number(at).unwrap_or(0.0) as i64;
    let gate = Gate {
        tokens: number(0).unwrap_or(0.0),
        refilled_at: whole(1),
        blocked_until: whole(2),
        open_until: whole(3),
        day: whole(4),
        used: whole(5).unsigned_abs(),
        ..Gate::default()
    };
    FlowState::of(key, &gate, in_flight, number(6).filter(|rate| *rate >= 0.0), whole(7).unsigned_abs() as u32, now)
}
