//! `/v1/runs/{id}/replay`: makes again what a run made and says whether the bits are the same. One replay computes at a time; who asks while it
//! goes on is told to come again, and joins it.

use crate::Shared;
use crate::problem::Problem;
use crate::replay::finding::{self, Finding, Item, What};
use crate::words::{MadeByName, Tag};
use chrono::NaiveDate;
use forecast::Kernel;
use futures::FutureExt;
use futures::future::{BoxFuture, Shared as SharedFuture};
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::Path;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use uuid::Uuid;
use workflows::Db;
use workflows::ledger::{RunRow, StepRow};

/// What a replay found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "ReplayVerdict", rename_all = "snake_case")]
enum VerdictName {
    /// Bit for bit.
    Same,
    /// At least one bit differs.
    Different,
    /// It could not be made again.
    NotReplayable,
}

/// What was made again. `inputs`: what a step read, by its hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename = "Replayed", rename_all = "snake_case")]
enum WhatName {
    Inputs,
    Model,
    GlobalModel,
    Forecast,
}

/// The program that did the arithmetic.
#[derive(Debug, Clone, Object)]
#[oai(rename = "ReplayVersion", skip_serializing_if_is_none)]
struct VersionView {
    /// The program's version.
    program: String,
    /// The version of the kernel's arithmetic; 0 for the reference kernel.
    kernel: u32,
    /// The recipe, where a model took part.
    recipe: Option<String>,
}

/// A field that is not what it was.
#[derive(Debug, Clone, Object)]
#[oai(rename = "ReplayDifference")]
struct DifferenceView {
    /// Which; fields of fields are named with a dot.
    field: String,
    /// Its value when the run made it.
    then: String,
    /// Its value now.
    now: String,
}

/// One thing that the run made, and what came of making it again.
#[derive(Debug, Clone, Object)]
#[oai(rename = "ReplayItem", skip_serializing_if_is_none)]
struct ItemView {
    /// The step that made it.
    step: String,
    /// What it is.
    what: WhatName,
    /// A model's hash, a forecast's id, the hash of an input.
    name: Option<String>,
    /// Whose numbers a forecast carries.
    made_by: Option<MadeByName>,
    /// Whether it is the same.
    verdict: VerdictName,
    /// Why it could not be made again.
    why: Option<String>,
    /// What differs.
    differences: Vec<DifferenceView>,
    /// What it was made by; absent where nobody noted it.
    version_then: Option<VersionView>,
    /// What it was made by now.
    version_now: VersionView,
}

/// What a run made, made again.
#[derive(Debug, Clone, Object)]
#[oai(rename = "Replay")]
pub(crate) struct ReplayView {
    /// Which run.
    run: Uuid,
    /// What it went through.
    plan: String,
    /// What it was about.
    subject: String,
    /// The session it was for.
    session: NaiveDate,
    /// `same`: all that could be made again is what it was, and that is something; `different`: something is not.
    verdict: VerdictName,
    /// Everything that it made.
    items: Vec<ItemView>,
}

/// It is being made again.
#[derive(Debug, Object)]
#[oai(rename = "ReplayUnderWay")]
struct UnderWay {
    /// Which run.
    run: Uuid,
}

#[derive(ApiResponse)]
enum ReplayAnswer {
    /// What was found.
    #[oai(status = 200)]
    Found(Json<ReplayView>),
    /// It takes longer than one request may. Ask again: that joins it.
    #[oai(status = 202)]
    UnderWay(Json<UnderWay>),
}

pub(crate) struct Replays;

#[OpenApi(tag = "Tag::Runs")]
impl Replays {
    /// Makes again what a run made, and says whether the bits are the same.
    ///
    /// Reads prices, corporate actions and market returns as they were known to the run, trains and forecasts with its seed and models, and
    /// compares. Sends no request and changes nothing. A POST, because it costs as much as the run did.
    #[oai(path = "/v1/runs/:id/replay", method = "post", operation_id = "replay_run")]
    async fn replay(&self, shared: Data<&Arc<Shared>>, id: Path<Uuid>) -> Result<ReplayAnswer, Problem> {
        let found = shared.engine().ledger.get_run(id.0).await?;
        let Some((run, steps, _)) = found else { return Err(crate::runs::unknown_run(&shared, id.0).await) };
        if matches!(run.state.as_str(), "queued" | "running") {
            let detail = format!("The run {} is {}. Wait until it has ended.", run.id, run.state);
            return Err(Problem::conflict("run_open", "The run has not ended", detail).state(run.state));
        }
        // An answer before the request's own limit, whatever that is.
        let patience = (shared.state.time_limit * 2 / 3).min(PATIENCE);
        let work = self::found(shared.stores().db.clone(), run, steps);
        match shared.replays.join(id.0, patience, work).await {
            Some(found) => Ok(ReplayAnswer::Found(Json(found?))),
            None => Ok(ReplayAnswer::UnderWay(Json(UnderWay { run: id.0 }))),
        }
    }
}

/// How long one request waits for the end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Replays that go on, wait for their turn, or wait to be fetched.
const OPEN_MAX: usize = 16;

type Found = Result<ReplayView, Problem>;
type Flight = SharedFuture<BoxFuture<'static, Found>>;

/// Replays under way, by run. One computes at a time, so that a client cannot occupy all cores.
pub(crate) struct Flights {
    turn: Arc<Semaphore>,
    open: Mutex<HashMap<Uuid, Flight>>,
}

impl Default for Flights {
    fn default() -> Self {
        Self { turn: Arc::new(Semaphore::new(1)), open: Mutex::default() }
    }
}

impl Flights {
    /// Joins the replay of this run, or begins it with `work`; `None` when it goes on for longer than `patience`. It runs to its end when everyone
    /// who waits goes away, and is forgotten when it was fetched.
    async fn join(
        &self,
        id: Uuid,
        patience: Duration,
        work: impl Future<Output = Found> + Send + 'static,
    ) -> Option<Found> {
        let flight = match self.flight(id, work) {
            Ok(flight) => flight,
            Err(busy) => return Some(Err(busy)),
        };
        let found = tokio::time::timeout(patience, flight).await.ok()?;
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        Some(found)
    }

    fn flight(&self, id: Uuid, work: impl Future<Output = Found> + Send + 'static) -> Result<Flight, Problem> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = open.get(&id) {
            return Ok(flight.clone());
        }
        if open.len() >= OPEN_MAX {
            // Those that nobody came back for make room.
            open.retain(|_, flight| flight.peek().is_none());
        }
        if open.len() >= OPEN_MAX {
            let detail = format!("{OPEN_MAX} replays wait for their turn. Come again when some are done.");
            let title = "Too many replays";
            return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "replays_busy", title, detail).retry_after(30));
        }
        let turn = self.turn.clone();
        let task = tokio::spawn(async move {
            let _turn = turn.acquire_owned().await.map_err(|error| Problem::internal(&error))?;
            work.await
        });
        // A panic is an error of the task.
        let flight = async move { task.await.unwrap_or_else(|error| Err(Problem::internal(&error))) }.boxed().shared();
        open.insert(id, flight.clone());
        Ok(flight)
    }
}

async fn found(db: Db, run: RunRow, steps: Vec<StepRow>) -> Found {
    let items = crate::replay::replay(&db, &run, &steps).await?;
    view(run, items)
}

fn view(run: RunRow, items: Vec<Item>) -> Found {
    if items.is_empty() {
        let detail = format!("The run {} made no model and no forecast: it {}.", run.id, run.state.replace('_', " "));
        let title = "There is nothing to replay";
        return Err(Problem::conflict("nothing_to_replay", title, detail).state(run.state));
    }
    let (verdict, ..) = named(finding::verdict(&items));
    let items = items.into_iter().map(ItemView::of).collect();
    Ok(ReplayView { run: run.id, plan: run.plan, subject: run.subject, session: run.session, verdict, items })
}

/// The verdict's name, what differs, and why it could not be made again.
fn named(finding: Finding) -> (VerdictName, Vec<DifferenceView>, Option<String>) {
    match finding {
        Finding::Same => (VerdictName::Same, vec![], None),
        Finding::NotReplayable(why) => (VerdictName::NotReplayable, vec![], Some(why)),
        Finding::Different(found) => {
            let view = |d: finding::Difference| DifferenceView { field: d.field, then: d.then, now: d.now };
            (VerdictName::Different, found.into_iter().map(view).collect(), None)
        }
    }
}

impl ItemView {
    fn of(item: Item) -> Self {
        let (verdict, differences, why) = named(item.finding);
        // What the reference kernel made is made again by it.
        let kernel = item.then.as_ref().map_or(Kernel::default(), |then| Kernel::of_version(then.kernel)).version();
        Self {
            step: item.step.as_str().to_owned(),
            what: match item.what {
                What::Inputs => WhatName::Inputs,
                What::Model => WhatName::Model,
                What::GlobalModel => WhatName::GlobalModel,
                What::Forecast => WhatName::Forecast,
            },
            name: item.name,
            made_by: item.made_by.map(MadeByName::from),
            verdict,
            why,
            differences,
            version_then: item.then.map(|v| VersionView { program: v.program, kernel: v.kernel, recipe: v.recipe }),
            version_now: VersionView { program: forecast::VERSION.to_owned(), kernel, recipe: item.recipe_now },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing() -> Found {
        Err(Problem::conflict("nothing_to_replay", "Nothing", ""))
    }

    #[tokio::test]
    async fn one_computes_at_a_time_and_who_comes_back_joins_it() {
        let (flights, at_once) = (Flights::default(), Duration::ZERO);
        let held = flights.turn.clone().acquire_owned().await.unwrap();
        let id = Uuid::from_u128;
        assert!(flights.join(id(1), at_once, async { nothing() }).await.is_none(), "another has the turn");
        for n in 2..=OPEN_MAX as u128 {
            assert!(flights.join(id(n), at_once, async { nothing() }).await.is_none());
        }
        let busy = flights.join(id(99), at_once, async { nothing() }).await.unwrap();
        assert!(busy.unwrap_err().to_string().contains("Too many"));
        drop(held);
        let second = async { panic!("the first is joined, none is begun") };
        let joined = flights.join(id(1), Duration::MAX, second).await.unwrap();
        assert!(joined.unwrap_err().to_string().contains("Nothing"));
        let panicked = flights.join(id(99), Duration::MAX, async { panic!("in the middle") }).await.unwrap();
        assert!(panicked.unwrap_err().to_string().contains("our side"), "and it takes nobody with it");
        // The others are done, though nobody came back for them: they make room.
        for n in 100..100 + 2 * OPEN_MAX as u128 {
            assert!(flights.join(id(n), Duration::MAX, async { nothing() }).await.is_some());
        }
    }
}
