//! Who asks, and through which door: what the audit says of every steering request. In comes a request, out goes the entry that is written
//! with what it changes.

use crate::Shared;
use crate::problem::Problem;
use poem::{FromRequest, Request, RequestBody};
use workflows::ledger::{self, NewEntry};

/// The header by which a client of ours says which door it is.
const DOOR: &str = "x-retainai-door";
/// The doors there are; the first stands for everyone who does not say.
const DOORS: [&str; 4] = ["api", "cli", "dashboard", "chat"];

/// Who asks. Until there are API keys, everyone who may is the operator.
#[derive(Debug, Clone, Copy)]
pub(crate) struct By {
    door: &'static str,
}

impl<'a> FromRequest<'a> for By {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let Some(named) = request.headers().get(DOOR) else { return Ok(Self { door: DOORS[0] }) };
        let door = DOORS.into_iter().find(|door| named.as_bytes() == door.as_bytes());
        let unknown = || Problem::bad_parameter("X-RetainAI-Door", format!("use one of {}", DOORS.join(", ")));
        Ok(Self { door: door.ok_or_else(unknown)? })
    }
}

impl By {
    /// The entry of something that they ask for now.
    pub(crate) fn entry(
        self,
        shared: &Shared,
        action: &'static str,
        subject: impl ToString,
        detail: impl Into<String>,
    ) -> NewEntry {
        let engine = shared.engine();
        NewEntry {
            id: engine.new_run_id(),
            at: engine.ledger.now(),
            who: "operator".to_owned(),
            door: self.door,
            action,
            subject: subject.to_string(),
            detail: detail.into(),
        }
    }

    /// Writes an entry about what is done already. A failure is told in the log and not to the caller: what they asked for is done.
    pub(crate) async fn note(
        self,
        shared: &Shared,
        action: &'static str,
        subject: impl ToString,
        detail: impl Into<String>,
    ) {
        let entry = self.entry(shared, action, subject, detail);
        if let Err(error) = ledger::note(&shared.stores().db, &entry).await {
            tracing::error!(%error, action, subject = entry.subject, "the audit lacks an entry about something that was done");
        }
    }
}
