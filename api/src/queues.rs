//! `/v1/queues`: what waits, what runs, and who takes it, by step kind and lane.

use crate::Shared;
use crate::problem::Problem;
use crate::words::Tag;
use crate::workers::live_since;
use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;
use workflows::ledger::{self, QueueCount};
use workflows::plan::{Step, priority};

/// Open steps of one lane.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Lane {
    /// `now`: a person waits for it; `scheduled`; `later`: a backfill started it.
    lane: String,
    /// Steps that wait for a condition, a resume, or an earlier run of their subject.
    waiting: u64,
    /// Steps that may begin, now or from their due time on.
    ready: u64,
    /// Steps that a worker holds.
    running: u64,
    /// For how long the oldest ready step has been due, seconds; absent when none is.
    oldest_due_s: Option<f64>,
}

/// Open steps of one kind and the workers that take them.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct QueueView {
    /// Which kind.
    step: String,
    /// Steps that wait for a condition, a resume, or an earlier run of their subject.
    waiting: u64,
    /// Steps that may begin, now or from their due time on.
    ready: u64,
    /// Steps that a worker holds.
    running: u64,
    /// For how long the oldest ready step has been due, seconds; absent when none is.
    oldest_due_s: Option<f64>,
    /// How many of them live workers can carry out at a time.
    slots: u64,
    /// Whether this step kind is paused; see /v1/pauses for what else is.
    paused: bool,
    /// The same by lane, the most urgent first.
    lanes: Vec<Lane>,
}

/// All step kinds.
#[derive(Debug, Object)]
struct QueuePage {
    /// All of them, those of the daily chain first.
    items: Vec<QueueView>,
}

pub(crate) struct Queues;

#[OpenApi(tag = "Tag::Steering")]
impl Queues {
    /// What waits and what runs.
    #[oai(path = "/v1/queues", method = "get", operation_id = "list_queues")]
    async fn list(&self, shared: Data<&Arc<Shared>>) -> Result<Json<QueuePage>, Problem> {
        let db = &shared.stores().db;
        let now = shared.engine().ledger.now();
        let counts = ledger::queue_counts(db).await?;
        let workers = ledger::workers(db, live_since(now)).await?;
        let paused = ledger::paused(db).await?;
        let view = |step: Step| {
            let lanes: Vec<Lane> = priority::ALL.map(|priority| lane(&counts, step, priority, now)).into();
            let sum = |count: fn(&Lane) -> u64| lanes.iter().map(count).sum();
            let takes = |steps: &str| steps.split(',').any(|taken| taken == step.as_str());
            QueueView {
                step: step.as_str().to_owned(),
                waiting: sum(|lane| lane.waiting),
                ready: sum(|lane| lane.ready),
                running: sum(|lane| lane.running),
                oldest_due_s: lanes.iter().filter_map(|lane| lane.oldest_due_s).reduce(f64::max),
                slots: workers.iter().filter(|w| takes(&w.steps)).map(|w| w.slots.unsigned_abs()).sum(),
                paused: paused.iter().any(|row| row.kind == "step" && row.value == step.as_str()),
                lanes,
            }
        };
        Ok(Json(QueuePage { items: Step::ALL.map(view).into() }))
    }
}

fn lane(counts: &[QueueCount], step: Step, priority: i64, now: DateTime<Utc>) -> Lane {
    let queue = step.queue(priority);
    let here = || counts.iter().filter(|count| count.queue == queue);
    let of = |state: &str| here().filter(|count| count.state == state).map(|count| count.count.unsigned_abs()).sum();
    let due_s = |count: &QueueCount| Some((now - count.oldest_due?.0).num_milliseconds() as f64 / 1000.0);
    Lane {
        lane: match priority {
            priority::MANUAL => "now",
            priority::SCHEDULED => "scheduled",
            _ => "later",
        }
        .to_owned(),
        waiting: of("waiting"),
        ready: of("ready"),
        running: of("running"),
        oldest_due_s: here().filter_map(due_s).filter(|age| *age >= 0.0).reduce(f64::max),
    }
}
