//! `/v1/history`: bundles of old runs that are in the ledger no more: which there are, putting more away, checking them, bringing runs back.

use crate::Shared;
use crate::door::By;
use crate::paging::{after, cursor, page};
use crate::problem::Problem;
use crate::words::Tag;
use chrono::{DateTime, Utc};
use poem::http::StatusCode;
use poem::web::Data;
use poem_openapi::param::{Path, Query};
use poem_openapi::payload::Json;
use poem_openapi::{Object, OpenApi};
use std::sync::Arc;
use uuid::Uuid;
use workflows::history::HistoryError;
use workflows::history::bundle::Manifest;
use workflows::ledger::{self, BundleRow};

/// Old runs, put away as files in the history folder.
#[derive(Debug, Object)]
#[oai(rename = "Bundle", skip_serializing_if_is_none)]
struct BundleView {
    /// Its name, which is its folder's in the history folder.
    name: String,
    /// The month (`2024-03`) whose runs it holds, where a whole month went; absent where single runs did.
    month: Option<String>,
    /// How many runs it holds.
    runs: u64,
    /// The size of its files together.
    bytes: u64,
    /// When its first run was started.
    oldest: DateTime<Utc>,
    /// When its last run was started.
    newest: DateTime<Utc>,
    /// Its smallest run id.
    first_run: Uuid,
    /// Its greatest run id.
    last_run: Uuid,
    /// The checksum of its `manifest.json`, which has those of the other files.
    manifest_sha256: String,
    /// When it was made.
    created_at: DateTime<Utc>,
}

/// Bundles, newest first.
#[derive(Debug, Object)]
#[oai(skip_serializing_if_is_none)]
struct BundlePage {
    /// At most `limit` of them.
    items: Vec<BundleView>,
    /// Asks for the page after this one; absent on the last.
    next_cursor: Option<String>,
}

/// Runs of one outcome that are due to go.
#[derive(Debug, Object)]
struct DueRuns {
    /// How they ended.
    outcome: String,
    /// How many.
    runs: u64,
}

/// What a sweep would put away now.
#[derive(Debug, Object)]
struct DueView {
    /// By outcome; empty when nothing is due.
    items: Vec<DueRuns>,
    /// Months (`2024-03`) that would go as a whole.
    months: Vec<String>,
}

/// What one portion of a sweep did.
#[derive(Debug, Object)]
#[oai(rename = "Swept", skip_serializing_if_is_none)]
struct SweptView {
    /// The bundle that was made, if one was.
    bundle: Option<BundleView>,
    /// The month that went as a whole, if one did.
    month: Option<String>,
    /// Months that are due, but whose tables were in use; the next sweep tries again.
    busy: Vec<String>,
    /// Whether there may be more to put away: then ask again.
    more: bool,
}

/// A bundle that is as it was written.
#[derive(Debug, Object)]
#[oai(rename = "VerifiedBundle")]
struct VerifiedView {
    /// Its name.
    name: String,
    /// Always true; a bundle that is not as it was written is a problem.
    verified: bool,
    /// How many runs it holds.
    runs: u64,
    /// The size of its files together.
    bytes: u64,
}

/// What was brought back.
#[derive(Debug, Object)]
#[oai(rename = "RestoredBundle")]
struct RestoredView {
    /// The bundle.
    name: String,
    /// Runs that came back, pinned.
    restored: u64,
    /// Runs of the bundle that were there already.
    already_there: u64,
}

pub(crate) struct History;

#[OpenApi(tag = "Tag::Runs")]
impl History {
    /// Bundles of old runs, newest first.
    #[oai(path = "/v1/history", method = "get", operation_id = "list_history")]
    async fn list(
        &self,
        shared: Data<&Arc<Shared>>,
        /// The most items on a page.
        #[oai(default = "default_limit", validator(minimum(value = "1"), maximum(value = "200")))]
        limit: Query<u32>,
        /// `next_cursor` of the page before.
        cursor: Query<Option<String>>,
    ) -> Result<Json<BundlePage>, Problem> {
        let db = &shared.stores().db;
        let last: Option<String> = after("bundle", cursor.as_deref())?;
        let last = match &last {
            Some(name) => ledger::bundle(db, name).await?,
            None => None,
        };
        let before = last.as_ref().map(|row| (row.created_at.0, row.name.as_str()));
        let limit = limit.0 as usize;
        let (rows, more) = page(ledger::bundles(db, before, limit as i64 + 1).await?, limit);
        let next_cursor = rows.last().filter(|_| more).map(|row| self::cursor("bundle", &row.name));
        Ok(Json(BundlePage { items: rows.into_iter().map(BundleView::from).collect(), next_cursor }))
    }

    /// What a sweep would put away now.
    #[oai(path = "/v1/history/due", method = "get", operation_id = "get_history_due")]
    async fn due(&self, shared: Data<&Arc<Shared>>) -> Result<Json<DueView>, Problem> {
        let would = shared.state.history.would_go().await?;
        let items = would.by_outcome.into_iter().map(|(outcome, runs)| DueRuns { outcome, runs: runs.unsigned_abs() });
        Ok(Json(DueView { items: items.collect(), months: would.months }))
    }

    /// Puts a portion of the old runs away.
    ///
    /// The program does this by itself about once an hour. A portion is at most 5,000 runs, or on PostgreSQL a month; ask again as long as the
    /// answer says `more`.
    #[oai(path = "/v1/history/sweep", method = "post", operation_id = "sweep_history")]
    async fn sweep(&self, shared: Data<&Arc<Shared>>, by: By) -> Result<Json<SweptView>, Problem> {
        let history = shared.state.history.clone();
        let swept = to_its_end(async move { history.sweep().await }).await?;
        let gone = swept.bundle.as_ref().map(|bundle| format!("{} with {} runs", bundle.name, bundle.runs));
        if gone.is_some() || swept.month.is_some() {
            let subject = swept.month.clone().unwrap_or_else(|| "runs".to_owned());
            by.note(&shared, "history_sweep", subject, gone.unwrap_or_default()).await;
        }
        let bundle = swept.bundle.map(BundleView::from);
        Ok(Json(SweptView { bundle, month: swept.month, busy: swept.busy, more: swept.more }))
    }

    /// Reads a bundle and compares it with its checksums.
    #[oai(path = "/v1/history/:name/verify", method = "post", operation_id = "verify_bundle")]
    async fn verify(&self, shared: Data<&Arc<Shared>>, name: Path<String>) -> Result<Json<VerifiedView>, Problem> {
        let history = shared.state.history.clone();
        let manifest = to_its_end(async move { history.verify(&name).await }).await?;
        let (runs, bytes) = (manifest.runs(), manifest.bytes());
        let Manifest { name, .. } = manifest;
        Ok(Json(VerifiedView { name, verified: true, runs, bytes }))
    }

    /// Brings the runs of a bundle back, pinned.
    ///
    /// All that are missing come back in one transaction, or none. The bundle stays. Restoring twice is restoring once.
    #[oai(path = "/v1/history/:name/restore", method = "post", operation_id = "restore_bundle")]
    async fn restore(
        &self,
        shared: Data<&Arc<Shared>>,
        by: By,
        name: Path<String>,
    ) -> Result<Json<RestoredView>, Problem> {
        let (shared, name) = (shared.0.clone(), name.0);
        let restored = to_its_end(async move {
            let entry =
                |runs: u64| by.entry_of_part(&shared, "history_restore", &name, format!("{runs} runs came back"));
            let restored = shared.state.history.restore(&name, &entry).await?;
            Ok(RestoredView { name, restored: restored.runs, already_there: restored.there })
        });
        restored.await.map(Json)
    }
}

fn default_limit() -> u32 {
    50
}

/// What was begun goes on when the caller does not wait for it.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, HistoryError>> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::spawn(work).await.map_err(|error| Problem::internal(&error))?;
    Ok(done?)
}

impl From<BundleRow> for BundleView {
    fn from(row: BundleRow) -> Self {
        Self {
            name: row.name,
            month: row.month,
            runs: row.runs.unsigned_abs(),
            bytes: row.bytes.unsigned_abs(),
            oldest: row.oldest.0,
            newest: row.newest.0,
            first_run: row.first_run,
            last_run: row.last_run,
            manifest_sha256: row.manifest_sha256,
            created_at: row.created_at.0,
        }
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        let (code, title) = match error {
            HistoryError::Store(error) => return error.into(),
            HistoryError::Unknown { .. } => {
                return Problem::not_found("unknown_bundle", "There is no such bundle here", sentence(&error));
            }
            HistoryError::File { .. } | HistoryError::Stopped(_) => {
                tracing::warn!(%error, "the history folder cannot be used");
                let (status, title) = (StatusCode::SERVICE_UNAVAILABLE, "The history folder cannot be used");
                return Problem::new(status, "history_folder_unusable", title, sentence(&error)).retry_after(60);
            }
            HistoryError::NoFolder => ("no_history_folder", "No history folder is set"),
            HistoryError::Busy => ("sweep_under_way", "A sweep is under way"),
            HistoryError::Changed => ("runs_changed", "Runs were changed meanwhile"),
            HistoryError::Orphans { .. } => ("rows_without_run", "A month holds rows that belong to no run"),
            HistoryError::Missing { .. } => ("bundle_missing", "The bundle is not whole"),
            HistoryError::Foreign { .. } => ("bundle_foreign", "The bundle is another installation's"),
            HistoryError::Format { .. } => ("bundle_format", "The bundle is of another version"),
            HistoryError::Damaged { .. } => ("bundle_damaged", "The bundle is damaged"),
        };
        Problem::conflict(code, title, sentence(&error))
    }
}

fn sentence(error: &HistoryError) -> String {
    let said = error.to_string();
    let mut letters = said.chars();
    let first = letters.next().map(|letter| letter.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
