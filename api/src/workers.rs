//! `/v1/workers`: the processes that carry out steps.

use crate::Shared;
use crate::problem::Problem;
use crate::words::Tag;
use chrono::{DateTime, TimeDelta, Utc};
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;
use uuid::Uuid;
use workflows::ledger::{self, WorkerRow};

/// Since when a worker must have been seen to count as live.
pub(crate) fn live_since(now: DateTime<Utc>) -> DateTime<Utc> {
    now - TimeDelta::seconds(30)
}

/// Silent workers are shown for so long before they are forgotten.
const SHOWN_FOR: TimeDelta = TimeDelta::minutes(10);

/// A process that carries out steps.
#[derive(Debug, Object)]
#[oai(rename = "Worker")]
struct WorkerView {
    /// This instance of it: a process that starts again is another one.
    instance: Uuid,
    /// Host and process, as attempts name it.
    name: String,
    /// The program's version.
    version: String,
    /// The step kinds it takes.
    steps: Vec<String>,
    /// Steps of one kind that it carries out at a time.
    slots: u64,
    /// When it began.
    started_at: DateTime<Utc>,
    /// When it last showed that it lives.
    seen_at: DateTime<Utc>,
    /// Whether it was seen within the last 30 seconds.
    live: bool,
    /// Steps that it holds now.
    held: u64,
}

/// All workers.
#[derive(Debug, Object)]
struct WorkerPage {
    /// Those seen within the last ten minutes, by name.
    items: Vec<WorkerView>,
}

pub(crate) struct Workers;

#[OpenApi(tag = "Tag::Steering")]
impl Workers {
    /// The processes that carry out steps.
    #[oai(path = "/v1/workers", method = "get", operation_id = "list_workers")]
    async fn list(&self, shared: Data<&Arc<Shared>>) -> Result<Json<WorkerPage>, Problem> {
        let now = shared.engine().ledger.now();
        let rows = ledger::workers(&shared.stores().db, now - SHOWN_FOR).await?;
        let view = |row: WorkerRow| WorkerView {
            instance: row.instance,
            name: row.name,
            version: row.version,
            steps: row.steps.split(',').filter(|step| !step.is_empty()).map(str::to_owned).collect(),
            slots: row.slots.unsigned_abs(),
            started_at: row.started_at.0,
            seen_at: row.seen_at.0,
            live: row.seen_at.0 >= live_since(now),
            held: row.held.unsigned_abs(),
        };
        Ok(Json(WorkerPage { items: rows.into_iter().map(view).collect() }))
    }
}
