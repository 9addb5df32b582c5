//! One world: its processes, what is asked of them, and what befalls them. It is rough for a while and then calm; in the calm everything that
//! was promised must come true.

use super::body::Fate;
use super::queue::RoughQueue;
use super::sky::{Air, Sky};
use chrono::NaiveDate;
use market::{Exchange, Ticker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;
use workflows::chance::Chance;
use workflows::clock::MarketClock;
use workflows::engine::Bodies;
use workflows::ledger::{AttemptRow, MemoryLedger, NewRun, Overlap, RunRow, ScheduleRow, StepRow, TickRow};
use workflows::plan::{DELIVER, DIGEST, Step};
use workflows::reconciler::reconcile;
use workflows::scheduler::{default_schedules, schedule};
use workflows::{Engine, EngineSettings, Ledger, StepBody, Subject};

/// How long a world is rough, and how long the calm may take to bring everything to its end.
const ROUGH: Duration = Duration::from_secs(25);
const CALM: Duration = Duration::from_secs(12 * 3_600);

/// A process that must end now.
pub struct Crash {
    pub process: usize,
    pub why: String,
}

/// What is left when a world has ended.
pub struct Story {
    pub runs: Vec<(RunRow, Vec<StepRow>, Vec<AttemptRow>)>,
    pub effects: Vec<(Uuid, Step, usize)>,
    pub ticks: Vec<TickRow>,
    /// Runs in the order in which they began (true) and ended (false).
    pub order: Vec<(Uuid, bool)>,
    /// Starts that were acknowledged.
    pub acknowledged: Vec<Uuid>,
    pub killer: Option<(String, Step)>,
    pub crashes: u64,
    pub log: Vec<String>,
}

impl Story {
    /// Attempts that ended so; all of them for an empty word.
    pub fn attempts(&self, outcome: &str) -> usize {
        self.runs
            .iter()
            .flat_map(|(.., attempts)| attempts)
            .filter(|a| outcome.is_empty() || a.outcome == outcome)
            .count()
    }

    /// The story in words.
    pub fn told(&self) -> String {
        format!("{}\n{:#?}\n{:#?}", self.log.join("\n"), self.runs, self.effects)
    }
}

struct Process {
    engine: Arc<Engine>,
    air: Arc<Air>,
}

pub struct World {
    sky: Arc<Sky>,
    queue: Arc<RoughQueue>,
    ledger: MemoryLedger,
    processes: BTreeMap<usize, Process>,
    killer: Option<(String, Step)>,
    crash: UnboundedSender<Crash>,
    crashing: UnboundedReceiver<Crash>,
    crashes: u64,
    acknowledged: Arc<Mutex<Vec<Uuid>>>,
}

/// The market clock of a world: a schedule is due now and then.
struct Market(Arc<Sky>);

impl MarketClock for Market {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        // A second of the world is an hour of the market, so that some sessions come by.
        // In the calm it stands, or there would be no end of sessions.
        let since = self.0.age().min(ROUGH);
        "2024-03-05T22:00:00Z".parse::<chrono::DateTime<chrono::Utc>>().unwrap() + since * 3_600
    }
}

fn session() -> NaiveDate {
    "2024-03-05".parse().unwrap()
}

impl World {
    pub fn new(seed: u64) -> Self {
        let sky = Sky::new(seed);
        let ledger = MemoryLedger::new(Air::new(&sky));
        ledger.add_tickers(&["A", "B", "C"].map(|symbol| Ticker::new(Exchange::Nasdaq, symbol).unwrap()));
        let killer = sky
            .chance(0.1)
            .then(|| ("NASDAQ:A".to_owned(), [Step::Scrape, Step::Finetune, Step::Archive][sky.below(3)]));
        let (crash, crashing) = unbounded_channel();
        let queue = RoughQueue::new(&sky);
        Self {
            sky,
            queue,
            ledger,
            processes: BTreeMap::new(),
            killer,
            crash,
            crashing,
            crashes: 0,
            acknowledged: Arc::default(),
        }
    }

    pub async fn live(mut self) -> Story {
        if self.sky.chance(0.5) {
            put_schedules(&self.ledger, [Overlap::Skip, Overlap::QueueOne, Overlap::CancelOld][self.sky.below(3)])
                .await;
        }
        for process in 0..3 + self.sky.below(2) {
            self.boot(process).await;
        }
        let calm_at = tokio::time::Instant::now() + ROUGH;
        while tokio::time::Instant::now() < calm_at {
            self.something_happens().await;
            self.bury_the_dead().await;
            tokio::time::sleep(self.sky.millis(100..3_000)).await;
        }
        self.sky.tell("calm".to_owned());
        self.sky.calm_down();
        for process in self.processes.values() {
            process.air.freeze(Duration::ZERO);
            process.air.cut(Duration::ZERO);
        }
        // Two are enough for the rest; what the others held must be taken back.
        while self.processes.len() > 2 {
            if let Some((_, Process { engine, .. })) = self.processes.pop_last() {
                engine.vanish();
                self.ledger.show_life(engine.instance, false);
            }
        }
        // Whoever was slow in asking for something has asked by then.
        tokio::time::sleep(Duration::from_secs(8)).await;
        let engine = self.anyone();
        for (kind, value) in PAUSES {
            while engine.ledger.resume(kind, value).await.is_err() {}
        }
        while engine.ledger.meet("tide", "high", engine.ledger.now()).await.is_err() {}
        let end = tokio::time::Instant::now() + CALM;
        while tokio::time::Instant::now() < end && !self.is_over().await {
            self.bury_the_dead().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        self.story()
    }

    fn anyone(&self) -> Arc<Engine> {
        let at = self.sky.below(self.processes.len());
        self.processes.values().nth(at).expect("a world has processes").engine.clone()
    }

    async fn boot(&mut self, process: usize) {
        let air = Air::new(&self.sky);
        let dice = self.sky.clone();
        let settings = EngineSettings {
            worker: format!("process {process}"),
            chance: Chance::new(move || dice.next()),
            reconcile_every: Duration::from_secs(1),
            ..EngineSettings::default()
        };
        let ledger = self.ledger.through(air.clone());
        let engine =
            Engine::new(Ledger::Memory(ledger), self.queue.clone(), Arc::new(Market(self.sky.clone())), settings);
        self.ledger.show_life(engine.instance, true);
        let fate: Arc<dyn StepBody> =
            Arc::new(Fate { air: air.clone(), process, killer: self.killer.clone(), crash: self.crash.clone() });
        let bodies: Arc<Bodies> = Arc::new(Step::ALL.into_iter().map(|step| (step, fate.clone())).collect());
        let stop = CancellationToken::new();
        engine.spawn(engine.clone().work(bodies, |_| 2, stop.clone(), Duration::from_secs(5)));
        engine.spawn(reconcile(engine.clone(), stop.clone()));
        engine.spawn(schedule(engine.clone(), true, stop.clone()));
        let (keeper, token) = (engine.clone(), stop);
        engine.spawn(async move { workflows::keep(&keeper, token).await });
        self.processes.insert(process, Process { engine, air });
    }

    /// Kill -9, and the next instance some time later.
    async fn kill(&mut self, process: usize, why: &str) {
        let Some(Process { engine, .. }) = self.processes.remove(&process) else { return };
        self.sky.tell(format!("process {process} dies: {why}"));
        self.crashes += 1;
        engine.vanish();
        self.ledger.show_life(engine.instance, false);
        if !self.processes.is_empty() {
            tokio::time::sleep(self.sky.millis(0..3_000)).await;
        }
        self.boot(process).await;
    }

    async fn bury_the_dead(&mut self) {
        while let Ok(Crash { process, why }) = self.crashing.try_recv() {
            self.kill(process, &why).await;
        }
    }

    async fn something_happens(&mut self) {
        let process = self.sky.below(self.processes.len());
        match self.sky.below(20) {
            0..3 => self.kill(process, "kill -9").await,
            3 => {
                let span = self.sky.millis(1_000..30_000);
                self.sky.tell(format!("process {process} is frozen for {span:?}"));
                if let Some(process) = self.processes.get(&process) {
                    process.air.freeze(span);
                }
            }
            4 => {
                let span = self.sky.millis(500..25_000);
                self.sky.tell(format!("process {process} is cut off for {span:?}"));
                if let Some(process) = self.processes.get(&process) {
                    process.air.cut(span);
                }
            }
            5 => {
                self.sky.tell("the queue is flushed".to_owned());
                self.queue.flush();
            }
            6 => {
                let span = self.sky.millis(500..15_000);
                self.sky.tell(format!("the queue is away for {span:?}"));
                self.queue.leave(span);
            }
            7 => self.cancel_one(),
            8 => self.pause_or_resume(),
            9 => {
                self.sky.tell("the tide comes".to_owned());
                let engine = self.anyone();
                let life = engine.clone();
                life.spawn(async move {
                    let _ = engine.ledger.meet("tide", "high", engine.ledger.now()).await;
                });
            }
            10 => self.rerun_one(),
            _ => self.start_some(),
        }
    }

    fn start_some(&self) {
        let engine = self.anyone();
        let runs: Vec<NewRun> = (0..1 + self.sky.below(4))
            .map(|_| {
                let n = self.sky.below(6);
                let key = format!("key {}", self.sky.below(1_000));
                let run = engine.manual_run(
                    Ticker::new(Exchange::Nasdaq, ["A", "B", "C", "D", "E", "F"][n]).unwrap(),
                    session(),
                    true,
                    Some(key.clone()),
                );
                let priority = [10, 0, -10][self.sky.below(3)];
                match self.sky.below(6) {
                    0 => NewRun { plan: &DELIVER, subject: Subject::Other(key), priority, ..run },
                    1 => NewRun { plan: &DIGEST, subject: Subject::Other(format!("chat {n}")), priority, ..run },
                    _ => NewRun { priority, ..run },
                }
            })
            .collect();
        let acknowledged = self.acknowledged.clone();
        let caller = engine.clone();
        caller.spawn(async move {
            // A caller who got no answer asks again under the same keys.
            for _ in 0..5 {
                if let Ok(started) = engine.start(&runs).await {
                    acknowledged.lock().unwrap().extend(started.iter().map(|started| started.id));
                    return;
                }
            }
        });
    }

    fn some_run(&self) -> Option<Uuid> {
        let known = self.acknowledged.lock().unwrap();
        (!known.is_empty()).then(|| known[self.sky.below(known.len())])
    }

    fn cancel_one(&self) {
        let Some(run) = self.some_run() else { return };
        let engine = self.anyone();
        let caller = engine.clone();
        caller.spawn(async move {
            let _ = engine.cancel(run, "asked for").await;
        });
    }

    fn rerun_one(&self) {
        let Some(run) = self.some_run() else { return };
        let engine = self.anyone();
        let (caller, acknowledged) = (engine.clone(), self.acknowledged.clone());
        caller.spawn(async move {
            if let Ok(Some(started)) = engine.rerun(run, None, None).await {
                acknowledged.lock().unwrap().push(started.id);
            }
        });
    }

    fn pause_or_resume(&self) {
        let (kind, value) = PAUSES[self.sky.below(PAUSES.len())];
        let (engine, resume) = (self.anyone(), self.sky.chance(0.5));
        self.sky.tell(format!("{} {kind} {value}", if resume { "resume" } else { "pause" }));
        let caller = engine.clone();
        caller.spawn(async move {
            let _ = match resume {
                true => engine.ledger.resume(kind, value).await,
                false => engine.ledger.pause(kind, value, "asked for", engine.ledger.now()).await,
            };
        });
    }

    /// Nothing is open, and no schedule has anything left to start.
    async fn is_over(&self) -> bool {
        let ledger = &self.anyone().ledger;
        // The ticks first: a tick that fires between the two looks leaves runs to be seen.
        ledger.open_ticks().await.is_ok_and(|ticks| ticks.is_empty())
            && ledger.open_runs().await.is_ok_and(|open| open == 0)
    }

    fn story(self) -> Story {
        for process in self.processes.values() {
            process.engine.vanish();
        }
        let acknowledged = self.acknowledged.lock().unwrap().clone();
        Story {
            runs: self.ledger.everything(),
            effects: self.ledger.effects(),
            ticks: self.ledger.all_ticks(),
            order: self.ledger.order(),
            acknowledged,
            killer: self.killer,
            crashes: self.crashes,
            log: self.sky.log(),
        }
    }
}

/// What is paused now and then.
const PAUSES: [(&str, &str); 3] = [("step", "finetune"), ("exchange", "NASDAQ"), ("ticker", "NASDAQ:B")];

async fn put_schedules(ledger: &MemoryLedger, overlap: Overlap) {
    let ledger = Ledger::Memory(ledger.clone());
    for row in default_schedules() {
        let row = ScheduleRow { overlap, ..row };
        while ledger.add_schedule(&row).await.is_err() {}
    }
}
