//! Old runs: kept in the ledger for as many days as their outcome is worth, then put away as bundles of files in the history folder, from where
//! they can be brought back. Nothing goes from the ledger before its bundle is durable and was read back.

pub mod bundle;
pub mod put_away;
pub mod sweep;

use crate::chance::Chance;
use crate::db::{Db, StoreError};
use crate::ledger::history::Due;
use crate::ledger::{self, BundleRow, Ledger, NewEntry, lines};
use bundle::Manifest;
use chrono::{DateTime, TimeDelta, Utc};
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;
use uuid::Uuid;

/// How many days a run that has ended stays in the ledger, by its outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Keep {
    pub succeeded_days: u32,
    pub no_new_session_days: u32,
    pub cancelled_days: u32,
    pub failed_days: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { succeeded_days: 90, no_new_session_days: 90, cancelled_days: 90, failed_days: 365 }
    }
}

impl Keep {
    /// What is due at `now`.
    fn due(&self, now: DateTime<Utc>) -> Due {
        let before = |days: u32| now - TimeDelta::days(i64::from(days));
        Due {
            succeeded: before(self.succeeded_days),
            no_new_session: before(self.no_new_session_days),
            cancelled: before(self.cancelled_days),
            failed: before(self.failed_days),
        }
    }
}

/// Why runs could not be put away, looked at or brought back. In every case nothing has gone that is not in a bundle.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The ledger.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No history folder is set.
    #[error("no history folder is set, so everything is kept: set `history_dir` where this runs")]
    NoFolder,
    /// Another process is at it.
    #[error("another process is sweeping just now: wait for it, or ask again in a minute")]
    Busy,
    /// Runs were pinned, or their bundle was abandoned, while they were put away.
    #[error("runs were pinned or changed while they were put away, each time it was tried: ask again")]
    Changed,
    /// Rows that would be lost with a month.
    #[error(
        "{rows} rows of {month} belong to no run and would be lost with it; look at step_*, attempt_* and effect_* of that month, and delete them if they are of no use"
    )]
    Orphans {
        /// Which month.
        month: String,
        /// How many.
        rows: i64,
    },
    /// A file or folder.
    #[error("the history folder cannot be used: could not {doing} {path}: {source}")]
    File {
        /// What was attempted.
        doing: &'static str,
        /// With what.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ledger has no such bundle.
    #[error("the ledger knows no bundle `{name}`: `retainai history` lists them")]
    Unknown {
        /// Which.
        name: String,
    },
    /// Files of a bundle are not there.
    #[error(
        "the bundle `{name}` is not whole: {path} is missing. Is `history_dir` the folder that it was written to? Otherwise copy it back from a backup"
    )]
    Missing {
        /// Which.
        name: String,
        /// What is missing.
        path: String,
    },
    /// It is another installation's.
    #[error(
        "the bundle `{name}` in the history folder belongs to another installation ({installation}): each needs a folder of its own"
    )]
    Foreign {
        /// Which.
        name: String,
        /// Whose it is.
        installation: Uuid,
    },
    /// Another version wrote it.
    #[error(
        "the bundle `{name}` has format {format}, which this version does not read: use the version that wrote it, or a newer one"
    )]
    Format {
        /// Which.
        name: String,
        /// Its format.
        format: u32,
    },
    /// Its files are not as they were written.
    #[error("the bundle `{name}` is damaged, {file}: {why}. Copy it back from a backup")]
    Damaged {
        /// Which.
        name: String,
        /// The file.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// A thread that reads or writes files ended early.
    #[error("the files of a bundle could not be worked on: {0}")]
    Stopped(String),
}

/// What a restoration did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restored {
    /// Runs that came back.
    pub runs: u64,
    /// Runs of the bundle that were there already.
    pub there: u64,
}

/// The history of one installation. Cheap to clone.
#[derive(Debug, Clone)]
pub struct History {
    ledger: Ledger,
    folder: Option<PathBuf>,
    keep: Keep,
    chance: Chance,
}

impl History {
    /// Over a ledger and a history folder; without a folder nothing goes.
    pub fn new(ledger: Ledger, folder: Option<PathBuf>, keep: Keep, chance: Chance) -> Self {
        Self { ledger, folder, keep, chance }
    }

    fn db(&self) -> Result<&Db, HistoryError> {
        self.ledger.db().ok_or(HistoryError::NoFolder)
    }

    /// The history folder.
    pub fn folder(&self) -> Result<&Path, HistoryError> {
        self.folder.as_deref().ok_or(HistoryError::NoFolder)
    }

    async fn known(&self, name: &str) -> Result<BundleRow, HistoryError> {
        let found = ledger::bundle(self.db()?, name).await?;
        found.ok_or_else(|| HistoryError::Unknown { name: name.to_owned() })
    }

    /// Reads every line of a bundle and compares counts and checksums with what was written.
    pub async fn verify(&self, name: &str) -> Result<Manifest, HistoryError> {
        let row = self.known(name).await?;
        let at = self.folder()?.join(&row.name);
        let installation = self.db()?.installation().await?;
        on_a_thread(move || {
            let manifest = bundle::read_manifest(&at, &row.name, installation, &row.manifest_sha256)?;
            bundle::check_files(&at, &manifest)?;
            Ok(manifest)
        })
        .await
    }

    /// Brings the runs of a bundle back where they are missing, pinned. All of them come back in one transaction with the audit, or none.
    pub async fn restore(
        &self,
        name: &str,
        entry: &(dyn Fn(u64) -> NewEntry + Send + Sync),
    ) -> Result<Restored, HistoryError> {
        let manifest = self.verify(name).await?;
        let (at, counts) = (self.folder()?.join(name), manifest.counts());
        let (to, mut from) = mpsc::channel(4);
        let reader = tokio::task::spawn_blocking(move || {
            let mut hand_on = |lines: lines::Lines| to.blocking_send(Some(lines)).is_ok();
            bundle::read_files(&at, &manifest, &mut hand_on)?;
            // Only after this the other side commits.
            let _ = to.blocking_send(None);
            Ok(())
        });
        let written = ledger::history::restore(self.db()?, &mut from, entry).await;
        drop(from);
        let read = reader.await.unwrap_or_else(|error| Err(HistoryError::Stopped(error.to_string())));
        match (written?, read) {
            (Some(runs), _) => Ok(Restored { runs, there: counts.runs.saturating_sub(runs) }),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(HistoryError::Stopped("its lines did not arrive".to_owned())),
        }
    }
}

/// Files are read and written on a thread that may wait for them.
async fn on_a_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HistoryError> + Send + 'static,
) -> Result<T, HistoryError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(HistoryError::Stopped(error.to_string())))
}
