//! `/v1/audit`: who asked for what, when and through which door.

use crate::Shared;
use crate::paging::{after, cursor, page};
use crate::problem::Problem;
use crate::words::Tag;
use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::param::Query;
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;
use uuid::Uuid;
use workflows::ledger::{self, AuditRow};

/// Something that was asked for and done.
#[derive(Debug, Object)]
#[oai(rename = "AuditEntry")]
struct AuditView {
    /// Its id; later entries have greater ids.
    id: Uuid,
    /// When.
    at: DateTime<Utc>,
    /// Who asked; `evidence` where nobody did.
    who: String,
    /// Through which door: `api`, `cli`, `dashboard` or `chat`; as the header `X-RetainAI-Door` of the request said, else `api`. `engine`: nobody
    /// asked, the program decided by evidence.
    door: String,
    /// What was asked for: `pause`, `run_cancel`, `backfill_start` and so on.
    action: String,
    /// Of what: a run, a schedule, a backfill, a step kind.
    subject: String,
    /// How, in words; may be empty.
    detail: String,
}

/// The audit, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct AuditPage {
    /// At most `limit` entries.
    items: Vec<AuditView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

pub(crate) struct Audit;

#[OpenApi(tag = "Tag::Steering")]
impl Audit {
    /// Who asked for what, newest first.
    #[oai(path = "/v1/audit", method = "get", operation_id = "list_audit")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<AuditPage>, Problem> {
        let before: Option<Uuid> = after("audit", cursor.as_deref())?;
        let limit = limit.0 as usize;
        let rows = ledger::audit(&shared.stores().db, before, limit as i64 + 1).await?;
        let (rows, more) = page(rows, limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("audit", row.id));
        Ok(Json(AuditPage { items: rows.into_iter().map(AuditView::from).collect(), next_cursor }))
    }
}

fn default_limit() -> u32 {
    50
}

impl From<AuditRow> for AuditView {
    fn from(row: AuditRow) -> Self {
        Self {
            id: row.id,
            at: row.at.0,
            who: row.who,
            door: row.door,
            action: row.action,
            subject: row.subject,
            detail: row.detail,
        }
    }
}
