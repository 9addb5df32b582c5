//! What chance does to a world: one generator for everything, and the weather between a process and the ledger.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::Instant;
use workflows::db::{StoreError, StoreResult};
use workflows::ledger::Weather;

/// The generator of a world, its clock, and whether it has calmed down.
pub struct Sky {
    rng: Mutex<StdRng>,
    began: Instant,
    calm: AtomicBool,
    log: Mutex<Vec<String>>,
}

impl Sky {
    pub fn new(seed: u64) -> Arc<Self> {
        let rng = Mutex::new(StdRng::seed_from_u64(seed));
        Arc::new(Self { rng, began: Instant::now(), calm: AtomicBool::new(false), log: Mutex::default() })
    }

    pub fn next(&self) -> u64 {
        self.rng.lock().unwrap().random()
    }

    /// True with this probability.
    pub fn chance(&self, probability: f64) -> bool {
        self.rng.lock().unwrap().random_bool(probability)
    }

    pub fn below(&self, n: usize) -> usize {
        self.rng.lock().unwrap().random_range(0..n)
    }

    pub fn millis(&self, range: std::ops::Range<u64>) -> Duration {
        Duration::from_millis(self.rng.lock().unwrap().random_range(range))
    }

    pub fn now(&self) -> DateTime<Utc> {
        let start: DateTime<Utc> = "2024-03-05T22:00:00Z".parse().unwrap();
        start + TimeDelta::from_std(self.began.elapsed()).unwrap()
    }

    /// How old the world is.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    pub fn is_calm(&self) -> bool {
        self.calm.load(Ordering::Relaxed)
    }

    pub fn calm_down(&self) {
        self.calm.store(true, Ordering::Relaxed);
    }

    /// Something a reader of the story wants to know.
    pub fn tell(&self, what: String) {
        self.log.lock().unwrap().push(format!("{:>9.3} s  {what}", self.began.elapsed().as_secs_f64()));
    }

    pub fn log(&self) -> Vec<String> {
        self.log.lock().unwrap().clone()
    }
}

/// What stands between one process and the ledger.
pub struct Air {
    pub sky: Arc<Sky>,
    skew: TimeDelta,
    frozen_until: Mutex<Instant>,
    cut_until: Mutex<Instant>,
}

impl Air {
    pub fn new(sky: &Arc<Sky>) -> Arc<Self> {
        let now = Instant::now();
        let skew = TimeDelta::milliseconds(sky.below(2_000) as i64 - 1_000);
        Arc::new(Self { sky: sky.clone(), skew, frozen_until: Mutex::new(now), cut_until: Mutex::new(now) })
    }

    /// As SIGSTOP would: nothing that the process does arrives, and no answer reaches it.
    pub fn freeze(&self, span: Duration) {
        *self.frozen_until.lock().unwrap() = Instant::now() + span;
    }

    /// As a cut cable would.
    pub fn cut(&self, span: Duration) {
        *self.cut_until.lock().unwrap() = Instant::now() + span;
    }

    pub async fn thaw(&self) {
        while Instant::now() < *self.frozen_until.lock().unwrap() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn travel(&self, operation: &'static str) -> StoreResult<()> {
        self.thaw().await;
        let slow = !self.sky.is_calm() && self.sky.chance(0.02);
        tokio::time::sleep(self.sky.millis(if slow { 100..900 } else { 0..4 })).await;
        self.thaw().await;
        let cut = Instant::now() < *self.cut_until.lock().unwrap();
        if cut || (!self.sky.is_calm() && self.sky.chance(0.01)) {
            return Err(StoreError::Database { doing: operation, source: sqlx::Error::PoolTimedOut });
        }
        Ok(())
    }
}

impl std::fmt::Debug for Air {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Air")
    }
}

#[async_trait]
impl Weather for Air {
    fn now(&self) -> DateTime<Utc> {
        self.sky.now() + self.skew
    }

    async fn before(&self, operation: &'static str) -> StoreResult<()> {
        self.travel(operation).await
    }

    async fn after(&self, operation: &'static str) -> StoreResult<()> {
        self.travel(operation).await
    }
}
