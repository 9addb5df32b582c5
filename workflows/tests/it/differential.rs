//! The same operations on the ledger in memory, in SQLite and in PostgreSQL: the same answers and the same rows, whatever the sequence.

use crate::both;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use market::{Exchange, Ticker};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use uuid::Uuid;
use workflows::ledger::{Abandoned, Claim, Ending, NewRun};
use workflows::message::Message;
use workflows::plan::{DELIVER, DIGEST, Plan, Step, TICKER, priority};
use workflows::{Effect, Ledger, Outcome, Subject};

const OPERATIONS: usize = 120;

fn start() -> DateTime<Utc> {
    "2024-03-05T22:00:00Z".parse().unwrap()
}

fn session() -> NaiveDate {
    "2024-03-05".parse().unwrap()
}

/// One operation, chosen from what the sequence has seen so far.
#[derive(Debug, Clone)]
enum Operation {
    Start(Vec<NewRun>),
    Feed(Vec<(String, i64)>),
    Claim(Vec<Message>, Uuid),
    Complete(Vec<Ending>),
    Renew(Uuid, Vec<Claim>),
    Reclaim(Abandoned),
    Cancel(Uuid),
    Pause(&'static str, &'static str, bool),
    Meet(String),
    Release,
    Unsend(TimeDelta),
}

/// What every ledger must answer alike, in words.
async fn apply(ledger: &Ledger, operation: &Operation, now: DateTime<Utc>) -> (String, Vec<Message>, Vec<Claim>) {
    let (mut messages, mut claims) = (Vec::new(), Vec::new());
    let said = match operation {
        Operation::Start(runs) => format!("{:?}", ledger.start(runs, now).await.unwrap()),
        Operation::Feed(room) => {
            messages = ledger.take_due(room, now).await.unwrap();
            messages.sort_by_key(|m| (m.run, m.step));
            let mut queues = ledger.unsent_queues().await.unwrap();
            queues.sort();
            format!("{messages:?} {queues:?} {:?}", sorted(ledger.on_their_way().await.unwrap()))
        }
        Operation::Claim(wanted, owner) => {
            let lease = now + TimeDelta::seconds(20);
            let answers = ledger.claim(wanted, *owner, "test", now, lease).await.unwrap();
            let said = answers.iter().map(|claim| format!("{claim:?}")).collect::<Vec<_>>().join("\n");
            claims = answers.into_iter().flatten().collect();
            said
        }
        Operation::Complete(endings) => {
            let answers = ledger.complete(endings, now).await.unwrap();
            messages = answers.iter().flatten().flat_map(|completion| completion.messages.clone()).collect();
            answers
                .iter()
                .map(|answer| format!("{:?}", answer.as_ref().map_err(ToString::to_string)))
                .collect::<Vec<_>>()
                .join("\n")
        }
        Operation::Renew(owner, held) => {
            let keys: Vec<_> = held.iter().map(Claim::key).collect();
            let mut ours = ledger.renew(*owner, &keys, now + TimeDelta::seconds(20)).await.unwrap();
            ours.sort_unstable();
            let mut holds = ledger.held_by(*owner).await.unwrap();
            holds.sort_unstable();
            format!("{ours:?} {holds:?}")
        }
        Operation::Reclaim(which) => {
            let mut lost = ledger.abandoned(which, now, 100).await.unwrap();
            lost.sort_by_key(Claim::key);
            let endings: Vec<_> = lost.iter().map(|claim| ending(claim, Outcome::Lost, None)).collect();
            let answers = ledger.complete(&endings, now).await.unwrap();
            format!(
                "{lost:?} {:?}",
                answers.iter().map(|a| a.as_ref().map_err(ToString::to_string)).collect::<Vec<_>>()
            )
        }
        Operation::Cancel(run) => {
            let answer = ledger.cancel(*run, "asked for", now).await.unwrap();
            messages = answer.clone().unwrap_or_default();
            format!("{answer:?}")
        }
        Operation::Pause(kind, value, true) => {
            format!("{}", ledger.pause(kind, value, "asked for", now).await.unwrap())
        }
        Operation::Pause(kind, value, false) => format!("{}", ledger.resume(kind, value).await.unwrap()),
        Operation::Meet(key) => ledger.meet(key, "so", now).await.unwrap(),
        Operation::Release => {
            format!("{} {}", ledger.release(now, 1_000).await.unwrap(), ledger.rouse(now, 1_000).await.unwrap())
        }
        Operation::Unsend(age) => format!("{}", ledger.unsend(now - *age).await.unwrap()),
    };
    (format!("{said} open: {}", ledger.open_runs().await.unwrap()), messages, claims)
}

fn sorted<T: Ord>(mut items: Vec<T>) -> Vec<T> {
    items.sort();
    items
}

fn ending(claim: &Claim, outcome: Outcome, lapsed_before: Option<DateTime<Utc>>) -> Ending {
    Ending {
        claim: claim.clone(),
        outcome,
        effects: vec![Effect::Remark("seen".into())],
        dice: 0.5,
        sends_next: true,
        lapsed_before,
    }
}

/// What a sequence has seen: old messages and claims are used again, as duplicates and zombies would.
struct Sequence {
    rng: StdRng,
    now: DateTime<Utc>,
    runs: Vec<Uuid>,
    messages: Vec<Message>,
    claims: Vec<Claim>,
    owners: [Uuid; 2],
}

impl Sequence {
    fn new(seed: u64) -> Self {
        let owners = [Uuid::from_u128(1), Uuid::from_u128(2)];
        Self { rng: StdRng::seed_from_u64(seed), now: start(), runs: vec![], messages: vec![], claims: vec![], owners }
    }

    fn some<T: Clone>(&mut self, from: &[T], most: usize) -> Vec<T> {
        let count = if from.is_empty() { 0 } else { self.rng.random_range(1..=most) };
        (0..count).map(|_| from[self.rng.random_range(0..from.len())].clone()).collect()
    }

    fn next(&mut self) -> Operation {
        self.now += TimeDelta::milliseconds(self.rng.random_range(0..9_000));
        let owner = self.owners[self.rng.random_range(0..2)];
        match self.rng.random_range(0..24) {
            0..3 => Operation::Start((0..self.rng.random_range(1..4)).map(|_| self.new_run()).collect()),
            3..7 => Operation::Feed(Step::queues().map(|(_, queue)| (queue, 5)).collect()),
            7..12 => {
                let newest = self.messages.len().saturating_sub(12);
                let from = self.messages[newest..].to_vec();
                let mut wanted = self.some(&from, 5);
                wanted.sort_by_key(|m| (m.run, m.step, m.generation));
                wanted.dedup();
                Operation::Claim(wanted, owner)
            }
            12..17 => {
                let newest = self.claims.len().saturating_sub(8);
                let from = self.claims[newest..].to_vec();
                let mut claims = self.some(&from, 4);
                claims.sort_by_key(Claim::key);
                claims.dedup_by_key(|claim| (claim.run, claim.step));
                Operation::Complete(claims.iter().map(|claim| ending(claim, self.outcome(), None)).collect())
            }
            17 => Operation::Renew(owner, self.claims.clone()),
            18 => Operation::Reclaim(if self.rng.random_bool(0.5) {
                Abandoned::Lapsed
            } else {
                Abandoned::Of(vec![owner])
            }),
            19 => self.runs.last().copied().map_or(Operation::Release, |_| {
                let run = self.runs[self.rng.random_range(0..self.runs.len())];
                Operation::Cancel(run)
            }),
            20 => {
                let (kind, value) =
                    [("step", "cache"), ("exchange", "NASDAQ"), ("ticker", "NASDAQ:T1")][self.rng.random_range(0..3)];
                Operation::Pause(kind, value, self.rng.random_bool(0.5))
            }
            21 => Operation::Meet(format!("condition {}", self.rng.random_range(0..3))),
            22 => Operation::Release,
            _ => Operation::Unsend(TimeDelta::seconds(self.rng.random_range(0..10))),
        }
    }

    fn new_run(&mut self) -> NewRun {
        let id = Uuid::from_u128((0x7000_u128 << 64) | (u128::from(self.rng.random::<u32>()) << 16));
        let n = self.rng.random_range(0..4);
        let (plan, subject): (&'static Plan, Subject) = match self.rng.random_range(0..4) {
            0 => (&DELIVER, Subject::Other(format!("message {id}"))),
            1 => (&DIGEST, Subject::Other(format!("chat {n}"))),
            _ => (&TICKER, Ticker::new(Exchange::Nasdaq, &format!("T{n}")).unwrap().into()),
        };
        let repeats = (!self.runs.is_empty() && plan.name == "ticker" && self.rng.random_bool(0.2))
            .then(|| (self.runs[0], Step::Cache));
        let idempotency_key = self.rng.random_bool(0.3).then(|| format!("key {}", self.rng.random_range(0..5)));
        self.runs.push(id);
        NewRun {
            id,
            plan,
            subject,
            session: session(),
            schedule: None,
            backfill: None,
            priority: priority::ALL[self.rng.random_range(0..3)],
            offline: false,
            idempotency_key,
            repeats,
        }
    }

    fn outcome(&mut self) -> Outcome {
        let until = self.now + TimeDelta::seconds(self.rng.random_range(0..60));
        match self.rng.random_range(0..12) {
            0 => Outcome::Retry { kind: "transport", error: "away".into(), after: None },
            1 => Outcome::Retry { kind: "identity", error: "another".into(), after: None },
            2 => Outcome::Wait {
                reason: "not yet".into(),
                condition: Some(format!("condition {}", self.rng.random_range(0..3))),
                until,
            },
            3 => Outcome::Wait { reason: "no token".into(), condition: None, until },
            4 => Outcome::Interrupted,
            5 => Outcome::NoNewSession("closed".into()),
            6 => Outcome::Skip("not due".into()),
            7 => Outcome::GiveUp("never".into()),
            _ => Outcome::Done("done".into()),
        }
    }
}

async fn agree(ledgers: &[(&str, Ledger)], seed: u64) {
    let mut sequence = Sequence::new(seed);
    let mut told = Vec::new();
    for n in 0..OPERATIONS {
        let operation = sequence.next();
        let mut answers = Vec::new();
        for (name, ledger) in ledgers {
            answers.push((name, apply(ledger, &operation, sequence.now).await));
        }
        told.push(format!("{operation:?}"));
        let (_, (said, messages, claims)) = answers.remove(0);
        for (name, (other, ..)) in &answers {
            assert_eq!(&said, other, "seed {seed}: after operation {n} {name} differs; it was {operation:?}");
        }
        sequence.messages.extend(messages);
        sequence.claims.extend(claims);
    }
    for run in &sequence.runs {
        let mut rows = Vec::new();
        for (name, ledger) in ledgers {
            rows.push((name, format!("{:#?}", ledger.get_run(*run).await.unwrap())));
        }
        let (_, first) = rows.remove(0);
        for (name, other) in rows {
            assert_eq!(first, other, "seed {seed}: {name} differs in run {run}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_sqlite_and_postgresql_are_one_ledger() {
    for seed in 0..12 {
        let lite = both::sqlite().await.unwrap();
        let pg = both::postgres().await;
        let mut ledgers = vec![("memory", Ledger::Memory(both::memory(start()))), ("SQLite", lite.ledger())];
        ledgers.extend(pg.as_ref().map(|pg| ("PostgreSQL", pg.ledger())));
        agree(&ledgers, seed).await;
    }
}
