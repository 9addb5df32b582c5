//! The engine of one process: its ledger and queue, and the life of one delivery. In comes a message, out goes an attempt in the ledger and the
//! next message. Everything that must survive stands in the ledger; this room may die on any line.

use crate::body::StepBody;
use crate::chance::Chance;
use crate::clock::MarketClock;
use crate::db::{StoreError, StoreResult};
use crate::held::Held;
use crate::lanes::Lanes;
use crate::ledger::{Claim, Completed, Ending, Ledger, NewRun, Started};
use crate::message::Message;
use crate::plan::{Plan, Step, priority};
use crate::queue::Queue;
use crate::stage::Stage;
use crate::subject::Subject;
use chrono::{DateTime, NaiveDate, Utc};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, RwLock, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What can be tuned. The defaults are the product's.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// How long a claimed step is ours without a sign of life.
    pub lease: Duration,
    /// How often the reconciler looks.
    pub reconcile_every: Duration,
    /// A message older than this is pushed again (a no-op where it still waits).
    pub resend_after: Duration,
    /// Name of this process in attempt rows.
    pub worker: String,
    /// Where ids and jitter come from.
    pub chance: Chance,
    /// Schedules fire up to so much later than their time, another bit each day and in each installation.
    pub start_jitter: Duration,
    /// A test aid: attempts of this step hold still for so long between their work and their completion.
    pub hold: Option<(Step, Duration)>,
}

impl Default for EngineSettings {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(20),
            reconcile_every: Duration::from_millis(500),
            resend_after: Duration::from_secs(5),
            worker: "worker".to_owned(),
            chance: Chance::default(),
            start_jitter: Duration::ZERO,
            hold: None,
        }
    }
}

/// The body of each step, handed in by the program.
pub type Bodies = BTreeMap<Step, Arc<dyn StepBody>>;

/// Starts of at most so many runs are sent without waiting for the reconciler.
const SENT_AT_ONCE: usize = 16;
/// How long a process waits for its sign of life before it begins to work.
const LIFE_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Shared<T> = Result<T, Arc<StoreError>>;

/// One process' engine. Shared by its workers, reconciler, scheduler and API.
pub struct Engine {
    /// The truth.
    pub ledger: Ledger,
    /// What carries messages.
    pub queue: Arc<dyn Queue>,
    /// Which session it is.
    pub market_clock: Arc<dyn MarketClock>,
    /// This process instance: owner of its leases.
    pub instance: Uuid,
    /// Tuning.
    pub settings: EngineSettings,
    /// Wakes the reconciler at once.
    pub(crate) nudge: Notify,
    /// The steps this process holds.
    pub(crate) held: Held,
    /// What it may put into the queues by itself.
    pub(crate) lanes: Lanes,
    pub(crate) claims: Stage<Message, Shared<Option<Claim>>>,
    pub(crate) endings: Stage<Ending, Shared<Completed>>,
    /// Messages to be pushed, and whether somebody is at it.
    outbox: Mutex<(Vec<Message>, bool)>,
    /// Suspects take it alone, all others together.
    pub(crate) company: RwLock<()>,
    /// What this process does as a worker: step kinds and slots.
    pub(crate) does: OnceLock<(String, i64)>,
    /// Whether the sign of life has been shown.
    shown: watch::Sender<bool>,
    /// When the sign of life had to be shown again; leases may have suffered, of others too.
    life_again_at: Mutex<Option<DateTime<Utc>>>,
    /// Cut when this process must vanish: a simulation's kill -9.
    life: CancellationToken,
}

impl Engine {
    /// An engine over a ledger and a queue.
    pub fn new(
        ledger: Ledger,
        queue: Arc<dyn Queue>,
        market_clock: Arc<dyn MarketClock>,
        settings: EngineSettings,
    ) -> Arc<Self> {
        // SQLite has one writer; PostgreSQL carries two groups at once.
        let turns = if ledger.db().is_some_and(crate::Db::is_postgres) { 2 } else { 1 };
        Arc::new(Self {
            instance: settings.chance.uuid(),
            ledger,
            queue,
            market_clock,
            settings,
            nudge: Notify::new(),
            held: Held::default(),
            lanes: Lanes::default(),
            claims: Stage::new(turns),
            endings: Stage::new(turns),
            outbox: Mutex::default(),
            company: RwLock::default(),
            does: OnceLock::new(),
            shown: watch::Sender::new(false),
            life_again_at: Mutex::default(),
            life: CancellationToken::new(),
        })
    }

    /// A time-ordered id for a new run.
    pub fn new_run_id(&self) -> Uuid {
        self.settings.chance.uuid_at(u64::try_from(self.ledger.now().timestamp_millis()).unwrap_or(0))
    }

    /// A run that a person asked for.
    pub fn manual_run(
        &self,
        subject: impl Into<Subject>,
        session: NaiveDate,
        offline: bool,
        idempotency_key: Option<String>,
    ) -> NewRun {
        NewRun {
            id: self.new_run_id(),
            plan: &crate::plan::TICKER,
            subject: subject.into(),
            session,
            schedule: None,
            backfill: None,
            priority: priority::MANUAL,
            offline,
            idempotency_key,
            repeats: None,
        }
    }

    /// Starts runs. The first steps of a few are sent at once, for a person may be waiting; those of many by the reconciler, in slices.
    pub async fn start(self: &Arc<Self>, runs: &[NewRun]) -> StoreResult<Vec<Started>> {
        let started = self.ledger.start(runs, self.ledger.now()).await?;
        if runs.len() <= SENT_AT_ONCE {
            let lanes: BTreeSet<String> =
                runs.iter().map(|run| run.plan.steps[run.first_place()].step.queue(run.priority)).collect();
            let most = |lane: &str| self.lanes.left(lane).min(SENT_AT_ONCE as i64);
            let room: Vec<(String, i64)> = lanes
                .into_iter()
                .map(|lane| (most(&lane), lane))
                .filter(|(room, _)| *room > 0)
                .map(|(room, lane)| (lane, room))
                .collect();
            match self.ledger.take_due(&room, self.ledger.now()).await {
                Ok(messages) => {
                    for message in &messages {
                        self.lanes.take(&message.queue);
                    }
                    self.post(messages);
                }
                Err(error) => {
                    tracing::debug!(%error, "the first steps could not be sent; the reconciler will send them")
                }
            }
        }
        self.nudge();
        Ok(started)
    }

    /// Cancels a run; false when it has ended or does not exist.
    pub async fn cancel(self: &Arc<Self>, run: Uuid, reason: &str) -> StoreResult<bool> {
        let Some(messages) = self.ledger.cancel(run, reason, self.ledger.now()).await? else { return Ok(false) };
        self.post(messages.into_iter().filter(|message| self.may_send(Some(message.queue.clone()))).collect());
        self.nudge();
        Ok(true)
    }

    /// Starts a new run that repeats `run` from `step` on; without one, from the step that failed if the bars were archived before it, else
    /// from the first. A step named by hand works on what is archived.
    pub async fn rerun(
        self: &Arc<Self>,
        run: Uuid,
        step: Option<Step>,
        key: Option<String>,
    ) -> StoreResult<Option<Started>> {
        let Some((row, steps, _)) = self.ledger.get_run(run).await? else { return Ok(None) };
        let unreadable = |why: String| StoreError::Unreadable { what: "run to be repeated", why };
        let plan = Plan::named(&row.plan).ok_or_else(|| unreadable(format!("plan `{}`", row.plan)))?;
        let subject = Subject::read(plan.subject, &row.subject)?;
        let archived = steps.iter().any(|s| s.step == Step::Archive.as_str() && s.state == "done");
        let failed = steps.iter().find(|s| s.state == "failed").and_then(|s| s.step.parse::<Step>().ok());
        let named = step.filter(|s| *s != Step::Archive && plan.place(*s).is_some());
        let from = named.unwrap_or(begins_again_from(plan, failed, archived));
        let new = NewRun { repeats: Some((run, from)), ..self.manual_run(subject, row.session, row.offline, key) };
        Ok(self.start(&[NewRun { plan, ..new }]).await?.into_iter().next())
    }

    /// Wakes the reconciler at once.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Ends this engine on the spot, as kill -9 would: nothing more of it runs. For simulations.
    pub fn vanish(&self) {
        self.life.cancel();
    }

    /// A task that ends when this process vanishes.
    pub fn spawn<F>(&self, task: F) -> tokio::task::JoinHandle<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let life = self.life.clone();
        tokio::spawn(async move {
            tokio::select! {
                biased;
                () = life.cancelled() => {}
                () = task => {}
            }
        })
    }

    /// Pushes messages whose steps are committed as ready, soon and together with others'. A failure is only logged: the reconciler pushes
    /// what is overdue.
    pub(crate) fn post(self: &Arc<Self>, messages: Vec<Message>) {
        if messages.is_empty() {
            return;
        }
        {
            let mut outbox = lock(&self.outbox);
            outbox.0.extend(messages);
            if std::mem::replace(&mut outbox.1, true) {
                return;
            }
        }
        let engine = self.clone();
        self.spawn(async move {
            loop {
                let messages = {
                    let mut outbox = lock(&engine.outbox);
                    if outbox.0.is_empty() {
                        outbox.1 = false;
                        return;
                    }
                    std::mem::take(&mut outbox.0)
                };
                if let Err(error) = engine.queue.push(&messages).await {
                    tracing::warn!(%error, count = messages.len(), "messages could not be pushed; the reconciler will push them");
                }
            }
        });
    }

    /// Nothing is claimed before this process shows that it lives, or its first steps would be taken back at once.
    pub(crate) async fn wait_for_life(&self) {
        if !self.ledger.db().is_some_and(crate::Db::is_postgres) {
            return;
        }
        let mut shown = self.shown.subscribe();
        if tokio::time::timeout(LIFE_PATIENCE, shown.wait_for(|shown| *shown)).await.is_err() {
            tracing::warn!("this process could not show that it lives yet; what it takes up may be taken back");
        }
    }

    /// Says in the ledger that this process works, if it does.
    pub(crate) async fn sign_on(&self, ledger: &Ledger) {
        let Some((steps, slots)) = self.does.get() else { return };
        let signed = ledger
            .sign_on(self.instance, &self.settings.worker, env!("CARGO_PKG_VERSION"), steps, *slots, ledger.now())
            .await;
        if let Err(error) = signed {
            tracing::debug!(%error, "this worker could not sign on");
        }
    }

    /// Says in the ledger that this process has ended, and leaves its duties to others.
    pub(crate) async fn sign_off(&self, ledger: &Ledger) {
        let _ = ledger.sign_off(Some(self.instance), DateTime::UNIX_EPOCH).await;
        let _ = ledger.step_down(crate::reconciler::DUTY, self.instance).await;
    }

    /// Notes that the sign of life was lost and shown again.
    pub(crate) fn note_life(&self, again: bool) {
        self.shown.send_replace(true);
        if again {
            tracing::warn!("the connection that shows this process to be alive was lost and made again");
            *lock(&self.life_again_at) = Some(self.ledger.now());
        }
    }

    /// When the sign of life had to be shown again.
    pub(crate) fn life_again_at(&self) -> Option<DateTime<Utc>> {
        *lock(&self.life_again_at)
    }
}

/// The step from which a run is repeated. The staging went with the old run's cleanup: unless its bars were archived, they must be fetched
/// again, or the new run would succeed without them; archive alone would have nothing to move.
pub(crate) fn begins_again_from(plan: &Plan, failed: Option<Step>, archived: bool) -> Step {
    failed.filter(|step| archived && plan.place(*step).is_some()).unwrap_or(plan.steps[0].step)
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
