//! One process of the engine, for tests that need several of them or many runs: bodies that count and can be held at a gate, and a queue that is
//! watched.

use async_trait::async_trait;
use futures::FutureExt;
use product_tests::eventually;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workflows::clock::FixedClock;
use workflows::engine::Bodies;
use workflows::message::Message;
use workflows::plan::Step;
use workflows::queue::{Deliver, Queue, QueueError};
use workflows::reconciler::reconcile;
use workflows::{Attempt, Effect, Engine, EngineSettings, Ledger, Report, StepBody};

/// A body of every step: counts its calls and asks for one effect. Steps can be held at gates.
pub struct Toy {
    calls: Mutex<HashMap<(Uuid, Step), u32>>,
    gates: BTreeMap<Step, watch::Sender<bool>>,
}

impl Toy {
    /// Does everything at once.
    pub fn new() -> Arc<Self> {
        Self::holding(&[])
    }

    /// Begins attempts of these steps, and ends them when their gate is opened.
    pub fn holding(steps: &[Step]) -> Arc<Self> {
        let gates = steps.iter().map(|step| (*step, watch::Sender::new(false))).collect();
        Arc::new(Self { calls: Mutex::default(), gates })
    }

    pub fn open_the_gate(&self, step: Step) {
        self.gates[&step].send_replace(true);
    }

    /// How many steps of this kind have begun.
    pub fn begun(&self, step: Step) -> usize {
        lock(&self.calls).keys().filter(|(_, begun)| *begun == step).count()
    }

    /// How many steps have begun.
    pub fn all_begun(&self) -> usize {
        lock(&self.calls).len()
    }

    /// How often each step was begun.
    pub fn calls(&self) -> HashMap<(Uuid, Step), u32> {
        lock(&self.calls).clone()
    }
}

#[async_trait]
impl StepBody for Toy {
    async fn run(&self, attempt: &Attempt) -> Report {
        let (run, step) = (attempt.claim.run, attempt.claim.step);
        *lock(&self.calls).entry((run, step)).or_default() += 1;
        if let Some(gate) = self.gates.get(&step) {
            let _ = gate.subscribe().wait_for(|open| *open).await;
        }
        tokio::task::yield_now().await;
        Report::done("ok", vec![Effect::Remark("written once".into())])
    }
}

/// A queue that notes how many messages wait in it.
#[derive(Clone)]
pub struct Watched {
    inner: Arc<dyn Queue>,
    waiting: Arc<Mutex<BTreeMap<String, HashSet<String>>>>,
    most: Arc<Mutex<BTreeMap<String, usize>>>,
}

impl Watched {
    pub fn new(inner: Arc<dyn Queue>) -> Self {
        Self { inner, waiting: Arc::default(), most: Arc::default() }
    }

    /// The most messages that ever waited in each queue.
    pub fn most(&self) -> BTreeMap<String, usize> {
        lock(&self.most).clone()
    }
}

#[async_trait]
impl Queue for Watched {
    async fn push(&self, messages: &[Message]) -> Result<(), QueueError> {
        for message in messages {
            let mut waiting = lock(&self.waiting);
            let ids = waiting.entry(message.queue.clone()).or_default();
            ids.insert(message.id());
            let mut most = lock(&self.most);
            let most = most.entry(message.queue.clone()).or_default();
            *most = ids.len().max(*most);
        }
        self.inner.push(messages).await
    }

    async fn consume(&self, name: &str, worker: &str, deliver: Deliver, stop: CancellationToken) {
        let waiting = self.waiting.clone();
        let noted: Deliver = Arc::new(move |message: Message| {
            if let Some(ids) = lock(&waiting).get_mut(&message.queue) {
                ids.remove(&message.id());
            }
            deliver(message).boxed()
        });
        self.inner.consume(name, worker, noted, stop).await;
    }

    async fn listen(&self, stop: CancellationToken) {
        self.inner.listen(stop).await;
    }

    async fn sweep(&self) -> Result<(), QueueError> {
        self.inner.sweep().await
    }

    async fn incarnation(&self) -> Result<String, QueueError> {
        self.inner.incarnation().await
    }
}

/// A process: engine, reconciler, leases and workers.
pub struct Process {
    pub engine: Arc<Engine>,
    stop: CancellationToken,
    leases: CancellationToken,
    working: JoinHandle<()>,
    keeping: JoinHandle<()>,
}

impl Process {
    /// Starts one that carries out `steps`, so many of each kind at a time.
    pub fn start(name: &str, ledger: Ledger, queue: Arc<dyn Queue>, toy: &Arc<Toy>, slots: &[(Step, usize)]) -> Self {
        let settings = EngineSettings { worker: name.to_owned(), ..EngineSettings::default() };
        let engine = Engine::new(ledger, queue, Arc::new(FixedClock::default()), settings);
        let (stop, leases) = (CancellationToken::new(), CancellationToken::new());
        let bodies: Bodies = slots.iter().map(|(step, _)| (*step, toy.clone() as Arc<dyn StepBody>)).collect();
        let slots: BTreeMap<Step, usize> = slots.iter().copied().collect();
        let working = tokio::spawn(engine.clone().work(
            Arc::new(bodies),
            move |step| slots.get(&step).copied().unwrap_or(1),
            stop.clone(),
            Duration::from_secs(5),
        ));
        tokio::spawn(reconcile(engine.clone(), stop.clone()));
        let (queue, heard) = (engine.queue.clone(), stop.clone());
        tokio::spawn(async move { queue.listen(heard).await });
        let (keeper, kept) = (engine.clone(), leases.clone());
        let keeping = tokio::spawn(async move { workflows::keep(&keeper, kept).await });
        Self { engine, stop, leases, working, keeping }
    }

    /// Stops it as SIGTERM does: what runs may end.
    pub async fn stop(self) {
        self.stop.cancel();
        let _ = self.working.await;
        self.leases.cancel();
        let _ = self.keeping.await;
    }

    /// Waits until every run has ended.
    pub async fn all_ended(&self, limit: Duration) {
        eventually("the end of every run", limit, || async {
            (self.engine.ledger.open_runs().await.ok()? == 0).then_some(())
        })
        .await;
    }
}

/// A figure of this process in kilobytes: `VmRSS`, or `VmHWM` for the most that it ever had.
pub fn memory_kb(figure: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
