//! How a key's gate stands, for people: the API and the dashboard show it. Pure.

use super::gate::{DAY, Gate, Micros};
use chrono::{DateTime, Utc};
use serde::Serialize;

/// One key's flow as it stands now.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlowState {
    /// The key: a host.
    pub key: String,
    /// Requests that could start at once; below 0 when some are promised ahead. `None` where there is no rate.
    pub tokens: Option<f64>,
    /// Requests under way, or waiting for their start.
    pub in_flight: u64,
    /// The host asked for quiet until then (`Retry-After`).
    pub blocked_until: Option<DateTime<Utc>>,
    /// The circuit breaker.
    pub breaker: BreakerState,
    /// Requests started since midnight UTC.
    pub used_today: u64,
}

/// Where a circuit breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum BreakerState {
    /// Requests pass.
    Closed,
    /// The host failed too often and is left alone.
    Open {
        /// Then one probe may pass.
        until: DateTime<Utc>,
    },
    /// One request may find out whether the host has recovered.
    HalfOpen,
}

impl FlowState {
    /// `gate` as of `now`; `rate` and `burst` are those of the last ask.
    pub(super) fn of(key: &str, gate: &Gate, in_flight: u64, rate: Option<f64>, burst: u32, now: Micros) -> Self {
        let at = |micros: Micros| DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC);
        let elapsed = (now - gate.refilled_at).max(0) as f64;
        Self {
            key: key.to_owned(),
            tokens: rate.map(|rate| f64::from(burst.max(1)).min(gate.tokens + elapsed * rate / 1e6)),
            in_flight,
            blocked_until: (gate.blocked_until > now).then(|| at(gate.blocked_until)),
            breaker: match gate.open_until {
                0 => BreakerState::Closed,
                until if until > now => BreakerState::Open { until: at(until) },
                _ => BreakerState::HalfOpen,
            },
            used_today: if gate.day == now.div_euclid(DAY) { gate.used } else { 0 },
        }
    }
}
