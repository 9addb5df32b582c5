//! `/health`: whether this process lives, and whether it can do its work: database, queue and cache, each asked with a limit.

use crate::Shared;
use crate::words::Tag;
use poem::web::Data;
use poem_openapi::payload::Json;
use poem_openapi::{ApiResponse, Object, OpenApi};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use workflows::Engine;

/// Longest wait for one store.
const CHECK_LIMIT: Duration = Duration::from_secs(2);

/// That it lives.
#[derive(Debug, Object)]
struct Live {
    /// `live`.
    status: String,
    /// The program's version.
    version: String,
}

/// Whether it can work.
#[derive(Debug, Object)]
struct Ready {
    /// `ready` or `not_ready`.
    status: String,
    /// Each store: `ok`, or what is wrong.
    checks: Checks,
}

/// Each store: `ok`, or what is wrong.
#[derive(Debug, Object)]
struct Checks {
    /// Reached, and its schema is this version's.
    database: String,
    /// What carries messages.
    queue: String,
    /// What keeps copies.
    cache: String,
}

#[derive(ApiResponse)]
enum Readiness {
    /// Everything it needs answers.
    #[oai(status = 200)]
    Ready(Json<Ready>),
    /// Something that it needs does not answer; `checks` names it.
    #[oai(status = 503)]
    NotReady(Json<Ready>),
}

pub(crate) struct Health;

#[OpenApi(tag = "Tag::Health")]
impl Health {
    /// Whether this process lives.
    #[oai(path = "/health/live", method = "get", operation_id = "health_live")]
    async fn live(&self, shared: Data<&Arc<Shared>>) -> Json<Live> {
        Json(Live { status: "live".to_owned(), version: shared.state.version.to_owned() })
    }

    /// Whether this process can work.
    #[oai(path = "/health/ready", method = "get", operation_id = "health_ready")]
    async fn ready(&self, shared: Data<&Arc<Shared>>) -> Readiness {
        let engine = shared.engine();
        let (database, queue, cache) = tokio::join!(
            within("database", database(engine)),
            within("queue", async { engine.queue.ping().await.map_err(|e| e.to_string()) }),
            within("cache", async { engine.cache.ping().await.map_err(|e| e.to_string()) }),
        );
        let ready = [&database, &queue, &cache].iter().all(|check| *check == "ok");
        let checks = Checks { database, queue, cache };
        if ready {
            Readiness::Ready(Json(Ready { status: "ready".to_owned(), checks }))
        } else {
            Readiness::NotReady(Json(Ready { status: "not_ready".to_owned(), checks }))
        }
    }
}

async fn database(engine: &Engine) -> Result<(), String> {
    // What the driver says may name hosts and users: it goes to the log, and the caller learns which store it is.
    let away = |error: workflows::db::StoreError| {
        tracing::warn!(%error, "the database is not ready");
        "it does not answer".to_owned()
    };
    engine.db.read_clock().await.map_err(away)?;
    match engine.db.missing_migrations().await.map_err(away)? {
        0 => Ok(()),
        missing => Err(format!("its schema lacks {missing} migrations; run `retainai migrate`")),
    }
}

async fn within(what: &'static str, check: impl Future<Output = Result<(), String>>) -> String {
    match tokio::time::timeout(CHECK_LIMIT, check).await {
        Ok(Ok(())) => "ok".to_owned(),
        Ok(Err(why)) => {
            tracing::debug!(what, why, "a store is not ready");
            why
        }
        Err(_) => format!("no answer within {} s", CHECK_LIMIT.as_secs()),
    }
}
