//! The invariants of the house: which room may know which, and what every file looks like.
//! They are promises of docs/ARCHITECTURE.md; a new arrow is a decision to write down, not a line to add here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Which of our crates each of our crates may build on.
const ARROWS: [(&str, &[&str]); 13] = [
    ("market", &["kernel"]),
    ("kernel", &[]),
    ("forecast", &["market", "kernel"]),
    ("workflows", &["market"]),
    ("workers", &["market", "forecast", "workflows"]),
    ("api", &["market", "forecast", "workflows"]),
    ("retainai", &["market", "forecast", "workflows", "workers", "api"]),
    ("market-sim", &["market"]),
    ("product-tests", &[]),
    // It measures the engine beside bare apalis; nobody builds on it.
    ("bench-engine", &["market", "workflows"]),
    // It measures training and answering beside candle, PyTorch and Keras; nobody builds on it.
    ("bench-forecast", &["market", "kernel", "forecast"]),
    // It measures our page parsers beside pandas and lxml, on pages of the stand-in exchanges; nobody builds on it.
    ("bench-sources", &["market", "market-sim", "workers"]),
    // It puts the engine and the API on stage with toy bodies, and harms them; nobody builds on it.
    ("chaos", &["market", "workflows", "api", "product-tests"]),
];

/// What the tests of any crate may use besides: the stand-in exchanges and the harness.
const FOR_TESTS: [&str; 2] = ["market-sim", "product-tests"];

const LONGEST_FILE: usize = 500;

#[test]
fn our_crates_know_only_those_they_may() {
    let rooms = rooms();
    let names: BTreeSet<&str> = rooms.keys().map(String::as_str).collect();
    assert_eq!(names, ARROWS.iter().map(|(name, _)| *name).collect(), "a crate came or went: draw its arrows first");
    for (name, room) in &rooms {
        let (_, allowed) = ARROWS.iter().find(|(from, _)| from == name).expect("compared above");
        for dependency in room.manifest["dependencies"].as_array().expect("a list") {
            let to = dependency["name"].as_str().expect("a name");
            let only_tests = dependency["kind"] == "dev";
            let may = allowed.contains(&to) || (only_tests && (FOR_TESTS.contains(&to) || name == "product-tests"));
            assert!(!names.contains(to) || may, "{name} must not know {to}");
        }
    }
}

#[test]
fn the_model_knows_nothing_of_the_outside() {
    let graph = packages_behind("forecast");
    assert!(graph.contains("safetensors"), "the graph was not read: {graph:?}");
    assert_holds_none(&graph, &["tokio", "sqlx", "sqlx-core", "reqwest", "redis", "poem"]);
}

#[test]
fn the_words_are_pure() {
    let graph = packages_behind("market");
    assert!(graph.contains("chrono"), "the graph was not read: {graph:?}");
    assert_holds_none(&graph, &["tokio", "candle-core", "sqlx", "sqlx-core", "reqwest", "redis", "poem"]);
}

#[test]
fn only_the_queue_names_the_carrier() {
    // The measurement of bare apalis beside our engine has to name it.
    let homes = ["workflows/src/queue.rs", "workflows/src/queue", "tests", "bench/engine/src/bare_apalis"];
    let elsewhere = sources().into_iter().filter(|(path, _)| !in_one_of(path, &homes));
    assert_none("only queue.rs names apalis", lines_where(elsewhere, |line| is_code(line) && line.contains("apalis")));
}

#[test]
fn only_cli_reads_the_environment() {
    let elsewhere = sources().into_iter().filter(|(path, _)| {
        let is_program = path.components().any(|part| part.as_os_str() == "src");
        is_program && !in_one_of(path, &["cli/src", "tests"])
    });
    let found = lines_where(elsewhere, |line| {
        // Unit tests may look for the servers of `make test`; cargo's own constants are not settings.
        let allowed = line.contains("RETAINAI_TEST_") || line.contains("env!(\"CARGO_");
        let reads = ["env::var", "env!(", "from_default_env", "try_from_env"].iter().any(|word| line.contains(word));
        is_code(line) && reads && !allowed
    });
    assert_none("settings are read in cli only", found);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = sources().into_iter().filter(|(_, text)| !text.starts_with("//! "));
    assert_none("a file opens with a sentence after `//!`", silent.map(|(path, _)| path.display().to_string()));
}

#[test]
fn no_file_is_two_rooms_in_one() {
    let lengths = sources().into_iter().map(|(path, text)| (path, text.lines().count()));
    let long = lengths.filter(|(_, lines)| *lines > LONGEST_FILE);
    assert_none("a file has at most 500 lines", long.map(|(path, lines)| format!("{} has {lines}", path.display())));
}

#[test]
fn both_databases_have_the_same_migrations() {
    let (postgres, sqlite) = (migrations("postgres"), migrations("sqlite"));
    assert!(!postgres.is_empty(), "no migrations were found");
    assert_eq!(postgres, sqlite);
}

#[test]
fn nothing_is_left_to_do() {
    // In pieces, so that this file is no finding of its own.
    let words = [["TO", "DO"], ["FIX", "ME"], ["to", "do!("], ["unimple", "mented!("]].map(|pieces| pieces.concat());
    let has_one = |line: &str| words.iter().any(|word| line.contains(word.as_str()));
    assert_none("nothing is left unfinished", lines_where(files_of(&["rs", "sql", "sh"]), has_one));
}

/// One of our crates: its folder and what cargo says of it.
struct Room {
    folder: PathBuf,
    manifest: serde_json::Value,
}

fn rooms() -> BTreeMap<String, Room> {
    let text = cargo(&["metadata", "--no-deps", "--format-version", "1"]);
    let document: serde_json::Value = serde_json::from_str(&text).expect("a JSON document");
    let packages = document["packages"].as_array().expect("a list of packages");
    let rooms = packages.iter().map(|manifest| {
        let name = manifest["name"].as_str().expect("a name").to_owned();
        let folder =
            Path::new(manifest["manifest_path"].as_str().expect("a path")).parent().expect("its folder").to_owned();
        (name, Room { folder, manifest: manifest.clone() })
    });
    rooms.collect()
}

/// The names of all packages this crate needs to run, on this kind of machine.
fn packages_behind(name: &str) -> BTreeSet<String> {
    let text = cargo(&["tree", "--package", name, "--edges", "normal", "--prefix", "none", "--format", "{p}"]);
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn assert_holds_none(graph: &BTreeSet<String>, unwanted: &[&str]) {
    let found: Vec<_> = unwanted.iter().filter(|name| graph.contains(**name)).collect();
    assert!(found.is_empty(), "must not be in the graph: {found:?}");
}

fn cargo(arguments: &[&str]) -> String {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(program).args(arguments).current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "cargo {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("cargo prints UTF-8")
}

/// Our Rust files with their text.
fn sources() -> Vec<(PathBuf, String)> {
    files_of(&["rs"])
}

/// The files with these endings in our crates, the migrations and the scripts; paths start at the workspace's root.
fn files_of(endings: &[&str]) -> Vec<(PathBuf, String)> {
    let mut pending: Vec<PathBuf> = rooms().into_values().map(|room| room.folder).collect();
    pending.extend([root().join("migrations"), root().join("scripts")]);
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let entry = entry.expect("an entry of a folder");
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                pending.push(path);
            } else if path.extension().is_some_and(|ending| endings.iter().any(|wanted| ending == *wanted)) {
                let text = std::fs::read_to_string(&path).expect("a text file");
                found.push((path.strip_prefix(root()).expect("a path below the root").to_owned(), text));
            }
        }
    }
    assert!(!found.is_empty(), "no files were found");
    found.sort();
    found
}

fn in_one_of(path: &Path, rooms: &[&str]) -> bool {
    rooms.iter().any(|room| path.starts_with(room))
}

fn is_code(line: &str) -> bool {
    !line.trim_start().starts_with("//")
}

/// The lines that look as asked, as `path:line: text`.
fn lines_where(files: impl IntoIterator<Item = (PathBuf, String)>, wanted: impl Fn(&str) -> bool) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in files {
        let lines = text.lines().enumerate().filter(|(_, line)| wanted(line));
        found.extend(lines.map(|(index, line)| format!("{}:{}: {}", path.display(), index + 1, line.trim())));
    }
    found
}

/// Shows all findings at once, under the rule they break.
fn assert_none(rule: &str, findings: impl IntoIterator<Item = String>) {
    let findings: Vec<String> = findings.into_iter().collect();
    assert!(findings.is_empty(), "{rule}; but:\n  {}", findings.join("\n  "));
}

/// The version numbers of one database: what stands before the first `_` of each file.
fn migrations(database: &str) -> BTreeSet<String> {
    let folder = root().join("migrations").join(database);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let names = entries.map(|entry| entry.expect("an entry of a folder").file_name().to_string_lossy().into_owned());
    let versions = names.filter(|name| name.ends_with(".sql")).map(|name| match name.split_once('_') {
        Some((version, _)) if version.chars().all(|digit| digit.is_ascii_digit()) => version.to_owned(),
        _ => panic!("{name}: a migration is called VERSION_what.sql"),
    });
    versions.collect()
}

/// As the runner says, not as it was when this was compiled: a target folder may serve several checkouts.
fn root() -> PathBuf {
    let here =
        PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo and nextest say where the tests lie"));
    here.parent().expect("the tests lie in the workspace").to_owned()
}
