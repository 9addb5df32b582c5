//! What is done to the installation, and when: a table drawn from the seed. Pure, so that a seed repeats its run.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fmt;
use std::time::Duration;

/// How many workers there are.
pub const WORKERS: usize = 3;
/// How many schedulers there are.
pub const SCHEDULERS: usize = 2;

/// The two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Server {
    Postgres,
    Redis,
}

/// How a network fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Break {
    /// Connections are closed and new ones refused.
    Cut,
    /// Nothing passes; afterwards it passes again.
    Freeze,
    /// Nothing passes; afterwards the old connections are gone.
    FreezeThenCut,
}

/// One fault. Workers and schedulers are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Fault {
    KillWorker(usize),
    KillScheduler(usize),
    KillApi,
    /// SIGSTOP, and SIGCONT after so long.
    StopWorker(usize, Duration),
    FlushRedis,
    /// SIGKILL, and started again after so long.
    KillRedis(Duration),
    /// SIGKILL of the postmaster and its children, and started again after so long.
    KillPostgres(Duration),
    /// SIGKILL of one child: the postmaster throws everybody out and recovers by itself.
    KillBackend(usize),
    BreakNetwork(usize, Server, Break, Duration),
    FillDisk(usize, Duration),
}

/// A fault and when it happens, from the beginning of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Planned {
    pub at: Duration,
    pub fault: Fault,
}

/// The faults of a run: the first is a worker's SIGKILL, so that every run measures a recovery; then one every 2 to 8 s, drawn from a bag
/// that is filled again when it is empty. Every fault is over when the run's time is.
pub fn plan(seed: u64, run: Duration) -> Vec<Planned> {
    let mut dice = ChaCha8Rng::seed_from_u64(seed);
    let mut at = seconds(&mut dice, 2.0, 4.0);
    let mut planned = vec![Planned { at, fault: Fault::KillWorker(dice.random_range(0..WORKERS)) }];
    let mut bag: Vec<Fault> = Vec::new();
    loop {
        at += seconds(&mut dice, 2.0, 8.0);
        let left = run.saturating_sub(at);
        if left < Duration::from_secs(1) {
            return planned;
        }
        if bag.is_empty() {
            bag = refill(&mut dice);
        }
        // What would last too long waits for nobody: near the end the next that is short enough is taken.
        if let Some(place) = bag.iter().rposition(|fault| fault.lasts() <= left) {
            planned.push(Planned { at, fault: bag.remove(place) });
        }
    }
}

fn refill(dice: &mut ChaCha8Rng) -> Vec<Fault> {
    let mut worker = || dice.random_range(0..WORKERS);
    let workers: [usize; 9] = std::array::from_fn(|_| worker());
    let mut bag = vec![
        Fault::KillWorker(workers[0]),
        Fault::KillWorker(workers[1]),
        Fault::KillWorker(workers[2]),
        Fault::KillScheduler(dice.random_range(0..SCHEDULERS)),
        Fault::KillApi,
        Fault::StopWorker(workers[3], seconds(dice, 5.0, 20.0)),
        Fault::StopWorker(workers[4], seconds(dice, 5.0, 20.0)),
        Fault::FlushRedis,
        Fault::KillRedis(seconds(dice, 0.2, 2.0)),
        Fault::KillPostgres(seconds(dice, 0.2, 2.0)),
        Fault::KillBackend(dice.random_range(0..64)),
        Fault::FillDisk(workers[5], seconds(dice, 2.0, 8.0)),
    ];
    for (worker, server) in [(workers[6], Server::Postgres), (workers[7], Server::Redis), (workers[8], either(dice))] {
        let how = [Break::Cut, Break::Freeze, Break::FreezeThenCut][dice.random_range(0..3)];
        bag.push(Fault::BreakNetwork(worker, server, how, seconds(dice, 2.0, 10.0)));
    }
    bag.shuffle(dice);
    bag
}

fn either(dice: &mut ChaCha8Rng) -> Server {
    if dice.random() { Server::Postgres } else { Server::Redis }
}

/// In whole milliseconds, as they are printed.
fn seconds(dice: &mut ChaCha8Rng, from: f64, to: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few thousand")]
    let millis = (dice.random_range(from..to) * 1000.0) as u64;
    Duration::from_millis(millis)
}

impl Fault {
    /// For how long it is done.
    pub fn lasts(&self) -> Duration {
        match self {
            Fault::StopWorker(_, time)
            | Fault::KillRedis(time)
            | Fault::KillPostgres(time)
            | Fault::BreakNetwork(_, _, _, time)
            | Fault::FillDisk(_, time) => *time,
            _ => Duration::ZERO,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Fault::KillWorker(n) => write!(f, "SIGKILL worker {}", n + 1),
            Fault::KillScheduler(n) => write!(f, "SIGKILL scheduler {}", n + 1),
            Fault::KillApi => write!(f, "SIGKILL api"),
            Fault::StopWorker(n, time) => write!(f, "SIGSTOP worker {} for {:.1} s", n + 1, time.as_secs_f64()),
            Fault::FlushRedis => write!(f, "Redis FLUSHALL"),
            Fault::KillRedis(time) => write!(f, "SIGKILL Redis, down for {:.1} s", time.as_secs_f64()),
            Fault::KillPostgres(time) => write!(f, "SIGKILL PostgreSQL, down for {:.1} s", time.as_secs_f64()),
            Fault::KillBackend(_) => write!(f, "SIGKILL one process of PostgreSQL, which recovers by itself"),
            Fault::BreakNetwork(n, server, how, time) => {
                let how = match how {
                    Break::Cut => "cut",
                    Break::Freeze => "frozen",
                    Break::FreezeThenCut => "frozen, then cut,",
                };
                write!(f, "network of worker {} to {server:?} {how} for {:.1} s", n + 1, time.as_secs_f64())
            }
            Fault::FillDisk(n, time) => write!(f, "disk of worker {} full for {:.1} s", n + 1, time.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::mem::discriminant;

    const RUN: Duration = Duration::from_secs(60);

    #[test]
    fn a_seed_repeats_its_run_and_another_does_not() {
        assert_eq!(plan(1, RUN), plan(1, RUN));
        assert_ne!(plan(1, RUN), plan(2, RUN));
    }

    #[test]
    fn faults_come_every_two_to_eight_seconds_and_end_in_time() {
        for seed in 0..200 {
            let planned = plan(seed, RUN);
            assert!(matches!(planned[0].fault, Fault::KillWorker(_)));
            assert!(planned.iter().all(|one| one.at + one.fault.lasts() <= RUN), "seed {seed}");
            let gaps: Vec<Duration> = planned.windows(2).map(|two| two[1].at - two[0].at).collect();
            assert!(gaps.iter().all(|gap| *gap >= Duration::from_secs(2)), "seed {seed}: {gaps:?}");
            assert!(planned.len() >= 7, "seed {seed} has {} faults", planned.len());
        }
    }

    #[test]
    fn ten_minutes_hold_every_kind() {
        let kinds = plan(1, RUN * 10).into_iter().map(|one| format!("{:?}", discriminant(&one.fault)));
        assert_eq!(kinds.collect::<BTreeSet<_>>().len(), 10);
    }
}
