//! `/health`: is this process alive, and could it answer? Each dependency has two seconds; what they said goes to the log only.

use crate::Shared;
use crate::words::Tag;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Enum, Object, OpenApi};
use std::fmt::Display;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use workflows::Db;

/// How long a dependency may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The process lives.
#[derive(Debug, Object)]
struct Alive {
    /// Always `live`.
    status: String,
    /// The program's version.
    version: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
enum Readiness {
    Ready,
    Unready,
}

/// Whether everything needed answers.
#[derive(Debug, Object)]
struct Ready {
    /// `ready` when every check is ok.
    status: Readiness,
    /// One by one.
    checks: Checks,
}

/// One check per dependency.
#[derive(Debug, Object)]
struct Checks {
    /// PostgreSQL or the embedded store: it answers and its schema is this version's.
    database: Check,
    /// What carries messages to workers.
    queue: Check,
    /// What keeps copies. Forecasts are served without it, from the archive.
    cache: Check,
}

/// How one dependency is.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct Check {
    /// Whether it is well.
    ok: bool,
    /// Why not.
    reason: Option<String>,
}

#[derive(ApiResponse)]
enum ReadyAnswer {
    /// Everything needed answers.
    #[oai(status = 200)]
    Ready(Json<Ready>),
    /// Something does not; `checks` says what.
    #[oai(status = 503)]
    Unready(Json<Ready>),
}

pub(crate) struct Health;

#[OpenApi(tag = "Tag::Health")]
impl Health {
    /// Whether this process lives. It asks nobody else.
    #[oai(path = "/health/live", method = "get", operation_id = "health_live")]
    async fn live(&self, shared: Data<&Arc<Shared>>) -> Json<Alive> {
        Json(Alive { status: "live".to_owned(), version: shared.state.version.to_owned() })
    }

    /// Whether this process can do its work.
    #[oai(path = "/health/ready", method = "get", operation_id = "health_ready")]
    async fn ready(&self, shared: Data<&Arc<Shared>>) -> ReadyAnswer {
        let (engine, stores) = (shared.engine(), shared.stores());
        let (database, queue, cache) = tokio::join!(
            check("database", database(&stores.db)),
            check("queue", async {
                engine.queue.ping().await.map_err(|error| NotWell::new("it does not answer", error))
            }),
            check("cache", async {
                stores.cache.ping().await.map_err(|error| NotWell::new("it does not answer", error))
            }),
        );
        let well = database.ok && queue.ok && cache.ok;
        let status = if well { Readiness::Ready } else { Readiness::Unready };
        let body = Json(Ready { status, checks: Checks { database, queue, cache } });
        if well { ReadyAnswer::Ready(body) } else { ReadyAnswer::Unready(body) }
    }
}

/// Why a dependency is not well: for everyone, and for the log.
struct NotWell {
    reason: String,
    said: String,
}

impl NotWell {
    fn new(reason: impl Into<String>, said: impl Display) -> Self {
        Self { reason: reason.into(), said: said.to_string() }
    }
}

async fn database(db: &Db) -> Result<(), NotWell> {
    db.read_clock().await.map_err(|error| NotWell::new("it does not answer", error))?;
    let missing = db.missing_migrations().await.map_err(|error| NotWell::new("its schema cannot be read", error))?;
    match missing {
        0 => Ok(()),
        n => Err(NotWell::new(format!("{n} migrations are missing; run `retainai migrate`"), "behind")),
    }
}

async fn check(what: &'static str, asking: impl Future<Output = Result<(), NotWell>>) -> Check {
    let late = || NotWell::new(format!("no answer within {} s", PATIENCE.as_secs()), "nothing");
    match tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err(late())) {
        Ok(()) => Check { ok: true, reason: None },
        Err(NotWell { reason, said }) => {
            tracing::warn!(what, reason, said, "not ready");
            Check { ok: false, reason: Some(reason) }
        }
    }
}
