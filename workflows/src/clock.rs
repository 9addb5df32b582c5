//! The market clock: says which session it is. Virtual in the demo and in backtests, so it is handed in. The engine clock, which drives
//! leases and due times, is the database's (`Db::now`).

use chrono::{DateTime, Utc};

/// Tells the time of the markets.
pub trait MarketClock: Send + Sync {
    /// Now, as far as exchanges are concerned.
    fn now(&self) -> DateTime<Utc>;
}

/// The real time.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl MarketClock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everyone else is handed")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock that stands still until it is moved: for tests and replays.
#[derive(Debug, Default)]
pub struct FixedClock(std::sync::Mutex<DateTime<Utc>>);

impl FixedClock {
    /// A clock that shows `at`.
    pub fn new(at: DateTime<Utc>) -> Self {
        Self(std::sync::Mutex::new(at))
    }

    /// Moves it.
    pub fn set(&self, at: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = at;
    }
}

impl MarketClock for FixedClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}
