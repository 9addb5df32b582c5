//! The settings: whether they can be used, where they come from, and whether others can read the passwords in them.

use super::item::Item;
use crate::settings::{SPECS, Settings, SettingsError};
use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

/// Where the settings in force come from.
pub fn look(settings: &Settings) -> Vec<Item> {
    let set: Vec<_> = SPECS.iter().filter(|spec| settings.values[spec.key].origin != "default").collect();
    let origin = |key: &str| settings.values[key].origin.as_str();
    let files: BTreeSet<&str> = set
        .iter()
        .map(|spec| origin(spec.key))
        .filter(|origin| *origin != "flag" && !origin.starts_with("RETAINAI_"))
        .collect();
    let from = match files.iter().next() {
        Some(file) => format!("file {file}, environment and flags"),
        None => "environment and flags, no file".to_owned(),
    };
    let kind = if settings.is_embedded() { "embedded store" } else { "PostgreSQL and Redis" };
    let mut items = vec![Item::ok("settings", format!("{} set ({from}); {kind}", set.len()))];
    for file in files {
        let has_secret = set.iter().any(|spec| spec.secret && origin(spec.key) == file);
        let mode = std::fs::metadata(file).map_or(0, |meta| meta.permissions().mode());
        if has_secret && mode & 0o077 != 0 {
            items.push(Item::warning(
                "settings_secrets",
                format!("{file} holds the URL of a server and can be read by other users (mode {:o})", mode & 0o777),
                format!("chmod 600 {file}, or set the URL in the environment"),
            ));
        }
    }
    items
}

/// Why they cannot be used.
pub fn unusable(error: &SettingsError) -> Item {
    let advice = match error {
        SettingsError::File { .. } => "correct the file, or name another one with --config".to_owned(),
        SettingsError::Unknown { key, .. } => {
            format!("remove it, or write `{}` if that was meant", nearest(key))
        }
        SettingsError::Value { key, .. } => SPECS
            .iter()
            .find(|spec| spec.key == *key)
            .map_or_else(String::new, |spec| format!("`{key}` is: {} (default: {:?})", spec.help, spec.default)),
    };
    Item::problem("settings", error.to_string(), advice)
}

/// The known key that takes the fewest changed letters.
fn nearest(key: &str) -> &'static str {
    SPECS.iter().map(|spec| spec.key).min_by_key(|known| changes(key.as_bytes(), known.as_bytes())).unwrap_or_default()
}

/// How many letters must be put in, taken out or replaced.
fn changes(from: &[u8], to: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut corner = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = corner + usize::from(a != b);
            corner = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(corner + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_setting() {
        assert_eq!(changes(b"kitten", b"sitting"), 3);
        assert_eq!(nearest("redis_ulr"), "redis_url");
        assert_eq!(nearest("database_uri"), "database_url");
    }
}
