//! Where chance enters the engine: ids, and the jitter of back-offs. Handed in, so that a simulation can repeat itself.

use std::sync::{Arc, Mutex, PoisonError};
use uuid::Uuid;

/// A source of random numbers. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Chance(Arc<Inner>);

struct Inner {
    next: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Millisecond and number within it of the newest time-ordered id.
    newest: Mutex<(u64, u16)>,
}

/// Ids of one millisecond are numbered in 12 bits; the first number leaves room for as many again.
const NUMBERS: u16 = 1 << 12;
/// A clock that goes back further than this had been wrong before: ids follow it.
const CLOCK_BACK_MS: u64 = 10_000;

impl Chance {
    /// Numbers from `next`, uniform over all of `u64`.
    pub fn new(next: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { next: Box::new(next), newest: Mutex::new((0, 0)) }))
    }

    fn next(&self) -> u64 {
        (self.0.next)()
    }

    /// Uniform in [0, 1).
    pub fn unit(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let bits = (self.next() >> 11) as f64;
        bits / (1u64 << 53) as f64
    }

    /// A random id.
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A time-ordered id (UUIDv7) of that millisecond. Ids from one source rise, also within a millisecond and when its clock goes back a little (RFC 9562 §6.2,
    /// method 1): lists are ordered by them.
    pub fn uuid_at(&self, millis: u64) -> Uuid {
        let mut tail = [0; 10];
        tail.copy_from_slice(&self.bytes()[..10]);
        let first = u16::from_be_bytes([tail[0], tail[1]]) % (NUMBERS / 2);
        let (millis, number) = self.number(millis, first);
        tail[..2].copy_from_slice(&number.to_be_bytes());
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }

    /// The place of the next id: not before the last one. `first` numbers the first of a millisecond.
    fn number(&self, millis: u64, first: u16) -> (u64, u16) {
        let mut newest = self.0.newest.lock().unwrap_or_else(PoisonError::into_inner);
        *newest = match *newest {
            (last, _) if millis > last || last - millis > CLOCK_BACK_MS => (millis, first),
            (last, number) if number + 1 < NUMBERS => (last, number + 1),
            (last, _) => (last + 1, first),
        };
        *newest
    }

    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.next().to_le_bytes());
        bytes[8..].copy_from_slice(&self.next().to_le_bytes());
        bytes
    }
}

impl Default for Chance {
    #[allow(clippy::disallowed_methods, reason = "the edge at which chance enters")]
    fn default() -> Self {
        Self::new(rand::random)
    }
}

impl std::fmt::Debug for Chance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Chance")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_within_a_millisecond_and_when_the_clock_goes_back_a_little() {
        let chance = Chance::default();
        let ids: Vec<Uuid> = (0..10_000).map(|n| chance.uuid_at(if n % 7 == 0 { 1_000 } else { 2_000 })).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(ids.iter().all(|id| id.get_version_num() == 7));
        assert!(chance.uuid_at(99_000) > ids[9_999]);
        assert!(chance.uuid_at(9_000) < chance.uuid_at(99_000), "it had been far ahead");
    }
}
