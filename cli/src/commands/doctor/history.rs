//! The history folder: whether old runs go anywhere, and whether that can be written.

use super::blocking;
use super::item::Item;
use crate::settings::Settings;
use rustix::fs::{Access, access};
use std::path::PathBuf;

/// Looks at the folder, where one is set.
pub async fn look(settings: &Settings) -> Vec<Item> {
    let Some(folder) = &settings.history_dir else {
        let found = "history_dir is not set: every run is kept in the database for ever";
        return vec![Item::ok("history", found)];
    };
    let keep = settings.keep;
    let kept = format!(
        "runs are kept {} days (succeeded), {} (no new session), {} (cancelled), {} (failed)",
        keep.succeeded_days, keep.no_new_session_days, keep.cancelled_days, keep.failed_days
    );
    blocking(place, (std::path::absolute(folder).unwrap_or_else(|_| folder.clone()), kept)).await
}

fn place((folder, kept): (PathBuf, String)) -> Vec<Item> {
    let shown = folder.display();
    let Some(nearest) = folder.ancestors().find(|path| path.exists()) else { return Vec::new() };
    if !nearest.is_dir() || access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return vec![Item::problem(
            "history",
            format!(
                "{shown} cannot be written: {} is no folder that this user may write to; until it can, {kept} and then stay",
                nearest.display()
            ),
            "give this user the right to write there, or set history_dir to another folder",
        )];
    }
    vec![Item::ok("history", format!("{kept}, then put away in {shown}"))]
}
