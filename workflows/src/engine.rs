//! The engine of one process: its stores, queue and cache, and the life of one delivery. In comes a message, out goes an attempt in the
//! ledger and the next message. Everything that must survive stands in the ledger; this room may die on any line.

use crate::body::{Attempt, Report, StepBody};
use crate::cache::Cache;
use crate::clock::MarketClock;
use crate::db::{Db, StoreError, StoreResult};
use crate::held::Held;
use crate::ledger::{self, Claim, NewRun, Started};
use crate::message::Message;
use crate::plan::{Plan, Step};
use crate::queue::{Deliver, Queue};
use crate::state::Outcome;
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use futures::FutureExt;
use market::Ticker;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;
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
            hold: None,
        }
    }
}

/// One process' engine. Shared by its workers, reconciler, scheduler and API.
pub struct Engine {
    /// The ledger and the stores.
    pub db: Db,
    /// What carries messages.
    pub queue: Queue,
    /// What keeps copies.
    pub cache: Cache,
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
}

/// How often a completion is tried again while the database is away. The lease ends first if it stays away.
const COMPLETE_TRIES: u32 = 8;

impl Engine {
    /// An engine over open stores.
    pub fn new(
        db: Db,
        queue: Queue,
        cache: Cache,
        market_clock: Arc<dyn MarketClock>,
        settings: EngineSettings,
    ) -> Arc<Self> {
        Arc::new(Self {
            db,
            queue,
            cache,
            market_clock,
            instance: Uuid::new_v4(),
            settings,
            nudge: Notify::new(),
            held: Held::default(),
        })
    }

    /// A time-ordered id for a new run.
    pub fn new_run_id(&self) -> Uuid {
        let now = self.db.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        Uuid::new_v7(uuid::Timestamp::from_unix(uuid::NoContext, seconds, now.timestamp_subsec_nanos()))
    }

    /// A run that a person asked for.
    pub fn manual_run(
        &self,
        ticker: Ticker,
        session: NaiveDate,
        offline: bool,
        idempotency_key: Option<String>,
    ) -> NewRun {
        NewRun {
            id: self.new_run_id(),
            plan: &crate::plan::TICKER,
            ticker,
            session,
            schedule: None,
            priority: 10,
            offline,
            idempotency_key,
            repeats: None,
        }
    }

    /// Starts runs and wakes the reconciler, which sends their first steps.
    pub async fn start(&self, runs: &[NewRun]) -> StoreResult<Vec<Started>> {
        let started = ledger::start(&self.db, runs, self.db.now()).await?;
        self.nudge();
        Ok(started)
    }

    /// Cancels a run; false when it has ended or does not exist.
    pub async fn cancel(&self, run: Uuid, reason: &str) -> StoreResult<bool> {
        let Some(messages) = ledger::cancel(&self.db, run, reason, self.db.now()).await? else { return Ok(false) };
        self.push(&messages).await;
        Ok(true)
    }

    /// Starts a new run that repeats `run` from `step` on; without one, from the step that failed if the bars were archived before it, else
    /// from the first. A step named by hand works on what is archived.
    pub async fn rerun(&self, run: Uuid, step: Option<Step>) -> StoreResult<Option<Started>> {
        let Some((row, steps, _)) = ledger::get_run(&self.db, run).await? else { return Ok(None) };
        let unreadable = |why: String| StoreError::Unreadable { what: "run to be repeated", why };
        let plan = Plan::named(&row.plan).ok_or_else(|| unreadable(format!("plan `{}`", row.plan)))?;
        let ticker = crate::stores::ticker_of(&row.exchange, &row.ticker)?;
        // The staging went with the old run's cleanup. Unless its bars were archived, they must be fetched again, or the new run would
        // succeed without them; archive alone would have nothing to move.
        let archived = steps.iter().any(|s| s.step == Step::Archive.as_str() && s.state == "done");
        let failed = steps.iter().find(|s| s.state == "failed").and_then(|s| s.step.parse::<Step>().ok());
        let from = step.filter(|s| *s != Step::Archive).or(failed.filter(|_| archived)).unwrap_or(plan.steps[0].step);
        let new = NewRun { repeats: Some((run, from)), ..self.manual_run(ticker, row.session, row.offline, None) };
        Ok(self.start(&[NewRun { plan, ..new }]).await?.into_iter().next())
    }

    /// A model's weights file: from the cache, else from the registry, which then fills the cache. `None` when it is unknown or dropped.
    pub async fn model_bytes(&self, hash: &str) -> StoreResult<Option<Vec<u8>>> {
        match self.cache.model(hash).await {
            Ok(Some(bytes)) => return Ok(Some(bytes)),
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "the cache did not answer; reading the registry"),
        }
        let bytes = crate::stores::models::weights(&self.db, hash).await?;
        if let Some(bytes) = &bytes
            && let Err(error) = self.cache.put_model(hash, bytes).await
        {
            tracing::debug!(%error, "a model could not be cached");
        }
        Ok(bytes)
    }

    /// Copies the ticker's newest stored forecast into the cache. Best effort: the archive answers when the cache does not.
    pub async fn refresh_forecast(&self, ticker: &Ticker) {
        let newest = match crate::stores::forecasts::latest(&self.db, ticker).await {
            Ok(newest) => newest,
            Err(error) => {
                tracing::warn!(%ticker, %error, "the newest forecast could not be read for the cache");
                return;
            }
        };
        if let Some(newest) = newest
            && let Err(error) = self.cache.put_forecast(&newest).await
        {
            tracing::warn!(%ticker, %error, "the forecast could not be cached");
        }
    }

    /// Wakes the reconciler at once.
    pub fn nudge(&self) {
        self.nudge.notify_one();
    }

    /// Pushes messages whose steps are committed as ready. A failure is only logged: the reconciler pushes what is overdue.
    pub(crate) async fn push(&self, messages: &[Message]) {
        if messages.is_empty() {
            return;
        }
        if let Err(error) = self.queue.push(messages).await {
            tracing::warn!(%error, count = messages.len(), "messages could not be pushed; the reconciler will push them");
        }
    }

    /// The life of one delivery.
    pub async fn deliver(self: Arc<Self>, message: Message, bodies: &Bodies) {
        let Some(body) = bodies.get(&message.step).cloned() else {
            tracing::warn!(step = %message.step, "no body for this step in this process; the reconciler will send it elsewhere");
            return;
        };
        let Some(claim) = self.claim(&message).await else { return };
        let span = tracing::info_span!("attempt", run = %claim.run, ticker = %claim.ticker, step = %claim.step, attempt = claim.attempt);
        // In a task of its own: the carrier drops the delivery when it loses its connection, and the attempt must go on.
        let attempt = tokio::spawn(self.clone().carry_out(claim, body).instrument(span));
        if let Err(error) = attempt.await {
            tracing::error!(%error, "an attempt broke off; its lease will end and the reconciler takes it back");
        }
    }

    async fn claim(&self, message: &Message) -> Option<Claim> {
        let now = self.db.now();
        match ledger::claim(&self.db, message, self.instance, &self.settings.worker, now, self.lease_from(now)).await {
            Ok(claim) => claim,
            Err(error) => {
                tracing::warn!(run = %message.run, step = %message.step, %error, "a step could not be claimed; its message will be sent again");
                None
            }
        }
    }

    pub(crate) fn lease_from(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        now + TimeDelta::from_std(self.settings.lease).unwrap_or(TimeDelta::seconds(20))
    }

    /// Do, complete, push, and refresh the copies.
    async fn carry_out(self: Arc<Self>, claim: Claim, body: Arc<dyn StepBody>) {
        let cancel = self.held.take(&claim);
        let attempt = Attempt { claim: claim.clone(), cancel: cancel.clone() };
        let began = tokio::time::Instant::now();
        let report = self.run_body(&attempt, body.as_ref()).await;
        if let Some((step, pause)) = self.settings.hold
            && step == claim.step
        {
            tracing::info!(hold_ms = pause.as_millis(), "holding before completion (a test aid)");
            tokio::time::sleep(pause).await;
        }
        self.finish(&attempt, report, body.as_ref(), began.elapsed()).await;
        self.held.release(&claim);
    }

    /// The body, inside its time limit; a panic is a failed attempt, not a lost worker.
    async fn run_body(&self, attempt: &Attempt, body: &dyn StepBody) -> Report {
        let limit = attempt.claim.policy.time_limit;
        let guarded = AssertUnwindSafe(body.run(attempt)).catch_unwind();
        match tokio::time::timeout(limit, guarded).await {
            Ok(Ok(report)) => report,
            Ok(Err(panic)) => {
                let said = panic
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| panic.downcast_ref::<&str>().copied());
                Report::retry(format!("the step panicked: {}", said.unwrap_or("without a message")), None)
            }
            Err(_) => Report::retry(format!("not done after {} s", limit.as_secs()), None),
        }
    }

    async fn finish(&self, attempt: &Attempt, report: Report, body: &dyn StepBody, took: Duration) {
        let claim = &attempt.claim;
        let mut report = report;
        for tried in 0..COMPLETE_TRIES {
            let now = self.db.now();
            match ledger::complete(&self.db, claim, &report.outcome, &report.effects, now, dice(), None).await {
                Ok(completion) => {
                    self.push(&completion.messages).await;
                    body.committed(attempt).await;
                    if let Outcome::Retry { .. } | Outcome::GiveUp(_) = report.outcome {
                        tracing::warn!(
                            duration_ms = took.as_millis(),
                            reason = report.outcome.text(),
                            "the attempt failed"
                        );
                    } else {
                        tracing::info!(
                            duration_ms = took.as_millis(),
                            note = report.outcome.text(),
                            "the attempt ended"
                        );
                    }
                    count(claim.step, report.outcome.attempt_word(&completion.decision), took);
                    return;
                }
                Err(StoreError::Fenced) => {
                    count(claim.step, "fenced", took);
                    tracing::warn!(
                        "the step was taken over or cancelled meanwhile; nothing of this attempt was written"
                    );
                    return;
                }
                Err(error) if error.is_transient() => {
                    tracing::warn!(%error, tried, "the completion could not be written; trying again");
                    tokio::time::sleep(Duration::from_millis(100 << tried.min(6))).await;
                }
                // The effects themselves cannot be written: the attempt has failed, and says why.
                Err(error) => report = Report::retry(format!("its result could not be written: {error}"), None),
            }
        }
        tracing::error!("the completion could not be written; the lease will end and the step be done again");
    }
}

/// Where chance enters the engine: the jitter of back-offs. The state machine itself is handed the number.
#[allow(clippy::disallowed_methods, reason = "the edge at which chance enters")]
pub(crate) fn dice() -> f64 {
    rand::random()
}

fn count(step: Step, outcome: &'static str, took: Duration) {
    metrics::counter!("retainai_attempts_total", "step" => step.as_str(), "outcome" => outcome).increment(1);
    metrics::histogram!("retainai_attempt_duration_seconds", "step" => step.as_str()).record(took.as_secs_f64());
}

/// The body of each step, handed in by the program.
pub type Bodies = HashMap<Step, Arc<dyn StepBody>>;

impl Engine {
    /// Takes messages of the steps in `bodies` and carries them out, until `stop`; then waits until what runs is done or handed back.
    pub async fn work(
        self: Arc<Self>,
        bodies: Arc<Bodies>,
        slots: impl Fn(Step) -> usize,
        stop: CancellationToken,
        grace: Duration,
    ) {
        let mut consumers = tokio::task::JoinSet::new();
        for step in bodies.keys().copied() {
            for priority in [0, 10] {
                let (engine, bodies, stop) = (self.clone(), bodies.clone(), stop.clone());
                let slots = slots(step).max(1);
                consumers.spawn(async move {
                    let inside = engine.clone();
                    let deliver: Deliver =
                        Arc::new(move |message: Message| inside.clone().deliver_boxed(message, bodies.clone()));
                    engine.queue.consume(&step.queue(priority), &engine.settings.worker, slots, deliver, stop).await;
                });
            }
        }
        stop.cancelled().await;
        // First let steps finish; then interrupt what is left, which hands it back without a lost attempt.
        if tokio::time::timeout(grace, self.held.empty()).await.is_err() {
            self.held.cancel_all();
            let _ = tokio::time::timeout(Duration::from_secs(3), self.held.empty()).await;
        }
        let _ = tokio::time::timeout(Duration::from_secs(2), async { while consumers.join_next().await.is_some() {} })
            .await;
    }

    fn deliver_boxed(
        self: Arc<Self>,
        message: Message,
        bodies: Arc<Bodies>,
    ) -> futures::future::BoxFuture<'static, ()> {
        async move { self.deliver(message, &bodies).await }.boxed()
    }
}
