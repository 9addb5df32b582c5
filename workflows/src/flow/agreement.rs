//! Holds the scripts to the pure gate: the same operations at the same times get the same answers and leave the same numbers, in Redis
//! and here.

use super::gate::{Answer, Ask, DAY, Gate, Micros};
use super::limit::{Breaker, Limit};
use super::shared::{Carried, Reply, Scripts, add_ask, add_limit, add_verdict, read_reply};
use super::{NotNowReason, Verdict};
use product_tests::servers;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use redis::aio::MultiplexedConnection;
use redis::{Script, ScriptInvocation};
use std::sync::LazyLock;
use std::time::Duration;

/// The scripts get their time from the last argument instead of from Redis.
const GIVEN_TIME: &str = "local now = tonumber(ARGV[#ARGV])\n";

static SCRIPTS: LazyLock<Scripts> = LazyLock::new(|| Scripts::new(GIVEN_TIME));

struct Remote {
    connection: MultiplexedConnection,
    sequence: u64,
}

impl Remote {
    fn call<'a>(&self, script: &'a Script, id: &str, limit: &Limit) -> ScriptInvocation<'a> {
        let mut call = script.key(format!("gate{}", self.sequence));
        call.key(format!("permits{}", self.sequence));
        add_limit(&mut call, id, limit);
        call
    }

    async fn reply(&mut self, mut call: ScriptInvocation<'_>, now: Micros) -> Reply {
        call.arg(now);
        read_reply(call.invoke_async(&mut self.connection).await.expect("the script runs")).expect("an answer")
    }

    async fn ask(&mut self, ask: Ask<'_>, now: Micros) -> Reply {
        let mut call = self.call(&SCRIPTS.acquire, ask.id, ask.limit);
        call.key("members").key("keys");
        add_ask(&mut call, ask, "member", "key", &Carried::default());
        self.reply(call, now).await
    }

    async fn confirm(&mut self, id: &str, limit: &Limit, now: Micros) -> Reply {
        let call = self.call(&SCRIPTS.confirm, id, limit);
        self.reply(call, now).await
    }

    async fn report(&mut self, id: &str, verdict: Option<Verdict>, keeps: bool, limit: &Limit, now: Micros) -> Reply {
        let mut call = self.call(&SCRIPTS.report, id, limit);
        add_verdict(&mut call, verdict, keeps, limit);
        self.reply(call, now).await
    }
}

fn some_limit(dice: &mut StdRng) -> Limit {
    Limit {
        rate: dice.random_bool(0.8).then(|| dice.random_range(0.1..20.0)),
        burst: dice.random_range(1..5),
        concurrency: dice.random_bool(0.7).then(|| dice.random_range(1..4)),
        daily_budget: dice.random_bool(0.5).then(|| dice.random_range(5..40)),
        breaker: dice.random_bool(0.7).then(|| Breaker {
            failures: dice.random_range(1..4),
            cool_down: Duration::from_secs(2),
            cool_down_cap: Duration::from_secs(dice.random_range(2..20)),
        }),
        permit_life: Duration::from_secs(20),
    }
}

fn some_verdict(dice: &mut StdRng) -> Option<Verdict> {
    match dice.random_range(0..10) {
        0 => None,
        1..4 => Some(Verdict::Success),
        4..9 => Some(Verdict::Failure),
        _ => Some(Verdict::BlockedFor(Duration::from_millis(dice.random_range(0..5_000)))),
    }
}

#[tokio::test]
async fn redis_decides_what_the_gate_decides() {
    let Some(server) = servers::redis().await else { return };
    let mut remote = Remote { connection: server.connection().await, sequence: 0 };
    let mut seen = [0; 6];
    for seed in 0..60 {
        let mut dice = StdRng::seed_from_u64(seed);
        remote.sequence = seed;
        let (mut gate, limit) = (Gate::default(), some_limit(&mut dice));
        // Not long before midnight, so that some days end within the sequence.
        let mut now = 20_000 * DAY - dice.random_range(0..60_000_000);
        for step in 0..60 {
            now += if dice.random_bool(0.5) { dice.random_range(0..3_000_000) } else { dice.random_range(0..100) };
            let id = dice.random_range(0..6).to_string();
            let (ours, theirs) = match dice.random_range(0..10) {
                0..6 => {
                    let patience = dice.random_range(0..3_000_000);
                    let ask = Ask { id: &id, limit: &limit, patience, polls: dice.random_bool(0.3) };
                    (gate.ask(ask, now), remote.ask(ask, now).await)
                }
                6 => (gate.confirm(&id, &limit, now), remote.confirm(&id, &limit, now).await),
                _ => {
                    let (verdict, keeps) = (some_verdict(&mut dice), dice.random_bool(0.2));
                    gate.report(&id, verdict, keeps, limit.breaker, now);
                    (Answer::Start(now), remote.report(&id, verdict, keeps, &limit, now).await)
                }
            };
            assert_eq!(ours, theirs.answer, "seed {seed}, step {step}, {limit:?}\n{gate:#?}");
            let numbers = (theirs.blocked_until, theirs.open_until, theirs.used);
            assert_eq!((gate.blocked_until, gate.open_until, gate.used), numbers, "seed {seed}, step {step}");
            seen[match ours {
                Answer::Start(_) => 0,
                Answer::NotNow(_, NotNowReason::Rate) => 1,
                Answer::NotNow(_, NotNowReason::Busy) => 2,
                Answer::NotNow(_, NotNowReason::Blocked) => 3,
                Answer::NotNow(_, NotNowReason::BreakerOpen) => 4,
                Answer::NotNow(..) => 5,
            }] += 1;
        }
    }
    assert!(seen.iter().all(|count| *count > 10), "every answer was compared: {seen:?}");
}
