//! Where chance enters the engine: ids, and the jitter of back-offs. Handed in, so that a simulation can repeat itself.

use std::sync::Arc;
use uuid::Uuid;

/// A source of random numbers. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Chance(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Chance {
    /// Numbers from `next`, uniform over all of `u64`.
    pub fn new(next: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(next))
    }

    /// Uniform in [0, 1).
    pub fn unit(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
        let bits = ((self.0)() >> 11) as f64;
        bits / (1u64 << 53) as f64
    }

    /// A random id.
    pub fn uuid(&self) -> Uuid {
        uuid::Builder::from_random_bytes(self.bytes()).into_uuid()
    }

    /// A time-ordered id (UUIDv7) of that millisecond.
    pub fn uuid_at(&self, millis: u64) -> Uuid {
        let mut tail = [0; 10];
        tail.copy_from_slice(&self.bytes()[..10]);
        uuid::Builder::from_unix_timestamp_millis(millis, &tail).into_uuid()
    }

    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&(self.0)().to_le_bytes());
        bytes[8..].copy_from_slice(&(self.0)().to_le_bytes());
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
