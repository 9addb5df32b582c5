//! The data folder of the embedded store: there, writable, with room, and owned by at most one process; and the schema of its file.

use super::blocking;
use super::item::{Item, size};
use super::postgres::schema;
use crate::data_folder::DataFolder;
use crate::settings::Settings;
use rustix::fs::{Access, access, statvfs};
use std::path::{Path, PathBuf};

/// Below this much free space nothing more is written soon.
const NO_ROOM: u64 = 100 << 20;
const LITTLE_ROOM: u64 = 1 << 30;

/// Looks at the folder, where there is to be one.
pub async fn look(settings: &Settings) -> Vec<Item> {
    if !settings.is_embedded() {
        return Vec::new();
    }
    let folder = std::path::absolute(&settings.data_dir).unwrap_or_else(|_| settings.data_dir.clone());
    let file = folder.join("retainai.db");
    let mut items = blocking(place, folder).await;
    if file.exists() {
        items.push(match workflows::probe::sqlite(&file).await {
            Ok(state) => schema("store_schema", &state, true),
            Err(error) => Item::problem(
                "store_schema",
                format!("{} cannot be read: {error}", file.display()),
                "end whatever else opens the file; if it is damaged, put a copy from before in its place",
            ),
        });
    }
    items
}

fn place(folder: PathBuf) -> Vec<Item> {
    let shown = folder.display();
    let exists = folder.exists();
    let Some(nearest) = folder.ancestors().find(|path| path.exists()) else { return Vec::new() };
    let whole = if exists { "exists" } else { "does not exist yet and is made at the first start" };
    if !nearest.is_dir() || access(nearest, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        return vec![Item::problem(
            "data_folder",
            format!("{shown} {whole}, but {} is no folder that this user may write to", nearest.display()),
            "give this user the right to write there, or choose another folder with --data-dir",
        )];
    }
    let mut items = vec![Item::ok("data_folder", format!("{shown} {whole}; it can be written"))];
    items.extend(room(nearest));
    if exists {
        items.push(owner(&folder));
    }
    items
}

fn room(folder: &Path) -> Option<Item> {
    let found = statvfs(folder).ok()?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let text = format!("{} free", size(free));
    let advice = "make room on this disk: a full disk stops every run until there is room again";
    Some(match free {
        0..NO_ROOM => Item::problem("disk_space", text, advice),
        NO_ROOM..LITTLE_ROOM => Item::warning("disk_space", text, advice),
        _ => Item::ok("disk_space", text),
    })
}

fn owner(folder: &Path) -> Item {
    match DataFolder::owner(folder) {
        Ok(None) => Item::ok("data_folder_owner", "no process uses it now"),
        Ok(Some(owner)) => {
            let answers = owner.listen.map(|l| format!(", which answers on http://{l}")).unwrap_or_default();
            Item::ok("data_folder_owner", format!("process {} uses it{answers}", owner.pid))
        }
        Err(error) => Item::problem(
            "data_folder_owner",
            format!("{error:#}"),
            "see which process it is (`fuser retainai.lock` in that folder) and end it, or choose another folder with --data-dir",
        ),
    }
}
