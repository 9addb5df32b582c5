//! Who asks, and through which door: what the audit says of every steering request. In comes a request, out goes the entry that is written
//! with what it changes.

use crate::Shared;
use crate::auth::{Caller, Who};
use crate::problem::Problem;
use poem::{FromRequest, Request, RequestBody};
use uuid::Uuid;
use workflows::ledger::{self, NewEntry};
use workflows::stores::answered;

/// The header by which a client of ours says which door it is.
const DOOR: &str = "x-retainai-door";
/// The doors there are; the first stands for everyone who does not say.
const DOORS: [&str; 4] = ["api", "cli", "dashboard", "chat"];

/// Who asks, by name, and how.
#[derive(Debug, Clone)]
pub(crate) struct By {
    who: String,
    key: Option<Uuid>,
    door: &'static str,
    request: Option<answered::Request>,
}

impl<'a> FromRequest<'a> for By {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let caller = request.data::<Caller>();
        let who = caller.map_or_else(|| "operator".to_owned(), Caller::name);
        let key = caller.and_then(|caller| match &caller.who {
            Who::Key { id, .. } => Some(*id),
            _ => None,
        });
        // A login is a browser's.
        let usual = if caller.is_some_and(Caller::by_cookie) { "dashboard" } else { DOORS[0] };
        let under = request.data::<answered::Request>().cloned();
        let Some(named) = request.headers().get(DOOR) else {
            return Ok(Self { who, key, door: usual, request: under });
        };
        let door = DOORS.into_iter().find(|door| named.as_bytes() == door.as_bytes());
        let unknown = || Problem::bad_parameter("X-RetainAI-Door", format!("use one of {}", DOORS.join(", ")));
        Ok(Self { who, key, door: door.ok_or_else(unknown)?, request: under })
    }
}

impl By {
    /// The key under which the ledger starts a run once: a caller's own never meets another's, nor one of the engine's.
    pub(crate) fn start_key(&self, idempotency_key: &str) -> String {
        self.key.map_or_else(|| format!("api:{idempotency_key}"), |id| format!("key:{id}:{idempotency_key}"))
    }

    /// The same for what is asked for under an Idempotency-Key and starts a run that repeats another.
    pub(crate) fn rerun_key(&self, run: Uuid) -> Option<String> {
        self.request.as_ref().map(|request| format!("rerun:{run}:{}", self.start_key(&request.key)))
    }

    /// The entry of something that they ask for now.
    pub(crate) fn entry(
        &self,
        shared: &Shared,
        action: &'static str,
        subject: impl ToString,
        detail: impl Into<String>,
    ) -> NewEntry {
        let engine = shared.engine();
        NewEntry {
            id: engine.new_run_id(),
            at: engine.ledger.now(),
            who: self.who.clone(),
            door: self.door,
            action,
            subject: subject.to_string(),
            detail: detail.into(),
            request: self.request.clone(),
        }
    }

    /// The same of something that is done in parts, and of which doing it twice is doing it once.
    pub(crate) fn entry_of_part(
        &self,
        shared: &Shared,
        action: &'static str,
        subject: impl ToString,
        detail: impl Into<String>,
    ) -> NewEntry {
        NewEntry { request: None, ..self.entry(shared, action, subject, detail) }
    }

    /// Writes an entry about what is done already. A failure is told in the log and not to the caller: what they asked for is done.
    pub(crate) async fn note(
        &self,
        shared: &Shared,
        action: &'static str,
        subject: impl ToString,
        detail: impl Into<String>,
    ) {
        let entry = self.entry_of_part(shared, action, subject, detail);
        if let Err(error) = ledger::note(&shared.stores().db, &entry).await {
            tracing::error!(%error, action, subject = entry.subject, "the audit lacks an entry about something that was done");
        }
    }
}
