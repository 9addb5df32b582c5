//! `retainai import DIR`: loads DIR/*reference_price_factors.csv, then DIR/EXCHANGE/TICKER.csv through the API. Refused rows
//! are named with line and column, the others count; every other file is named as ignored. Exit 1 only when a file is refused whole.

use crate::client::{Answer, Client};
use crate::output::{cell, print_json, table};
use crate::settings::Settings;
use anyhow::Context;
use indicatif::ProgressBar;
use market::{Exchange, FACTOR_FILE_SUFFIX, Ticker};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What one file of the folder is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    Bars(PathBuf, Ticker),
    Factors(PathBuf, Exchange),
    Ignored(PathBuf, String),
}

/// Loads the folder.
pub async fn run(settings: &Settings, folder: &Path, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let found = look(folder)?;
    let client = Client::connect(settings, false).await?;
    let loaded = load(&client, &found).await;
    client.close().await?;
    let files = loaded?;
    let refused_whole = files.iter().any(|file| file["refused_whole"].is_string());
    if as_json {
        print_json(&json!({ "files": files, "ignored": ignored(&found) }))?;
    } else {
        say(&files, &found);
    }
    Ok(u8::from(refused_whole))
}

/// What the folder holds, in order.
pub(super) fn look(folder: &Path) -> anyhow::Result<Vec<Found>> {
    let mut found = Vec::new();
    for path in sorted(folder)? {
        let name = name_of(&path);
        if path.is_dir() {
            match name.parse::<Exchange>() {
                Ok(exchange) => found.extend(sorted(&path)?.into_iter().map(|file| bars_file(exchange, file))),
                Err(error) => found.push(Found::Ignored(path, error.to_string())),
            }
        } else if let Some(prefix) = name.strip_suffix(FACTOR_FILE_SUFFIX) {
            // Only NEPSE publishes reference prices, so a file without a prefix is NEPSE's.
            let prefix = prefix.trim_end_matches(['_', '-', '.']);
            match if prefix.is_empty() { Ok(Exchange::Nepse) } else { prefix.parse() } {
                Ok(exchange) => found.push(Found::Factors(path, exchange)),
                Err(error) => found.push(Found::Ignored(path, error.to_string())),
            }
        } else {
            found.push(Found::Ignored(path, "neither an exchange's folder nor a factor file".to_owned()));
        }
    }
    Ok(found)
}

fn bars_file(exchange: Exchange, path: PathBuf) -> Found {
    let name = name_of(&path);
    let Some(symbol) = name.strip_suffix(".csv").filter(|_| path.is_file()) else {
        return Found::Ignored(path, "not TICKER.csv".to_owned());
    };
    match Ticker::new(exchange, symbol) {
        Ok(ticker) => Found::Bars(path, ticker),
        Err(error) => Found::Ignored(path, error.to_string()),
    }
}

fn sorted(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("{} is no folder that can be read", folder.display()))?;
    let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>()?;
    paths.sort();
    Ok(paths)
}

fn name_of(path: &Path) -> String {
    path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default()
}

async fn load(client: &Client, found: &[Found]) -> anyhow::Result<Vec<Value>> {
    let bar = ProgressBar::new(found.len() as u64);
    let mut files = Vec::new();
    // Actions first: bars are judged by what was announced.
    let (actions, others): (Vec<&Found>, Vec<&Found>) =
        found.iter().partition(|file| matches!(file, Found::Factors(..)));
    for file in actions.into_iter().chain(others) {
        let (path, url) = match file {
            Found::Bars(path, ticker) => (path, format!("/v1/tickers/{}/{}/bars", ticker.exchange(), ticker.symbol())),
            Found::Factors(path, exchange) => (path, format!("/v1/exchanges/{exchange}/factors")),
            Found::Ignored(..) => continue,
        };
        bar.set_message(path.display().to_string());
        let read = std::fs::read(path)
            .map_err(|e| e.to_string())
            .and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".to_owned()));
        files.push(match read {
            Ok(text) => outcome(path, &client.put(&url, "text/csv", text).await?)?,
            Err(why) => json!({ "file": path.display().to_string(), "refused_whole": why }),
        });
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(files)
}

/// A refusal of this one file is its outcome; anything else (the store is away) ends the import.
fn outcome(path: &Path, answer: &Answer) -> anyhow::Result<Value> {
    let file = path.display().to_string();
    if answer.is_ok() {
        let mut outcome = answer.body.clone();
        outcome["file"] = json!(file);
        return Ok(outcome);
    }
    anyhow::ensure!(matches!(answer.status, 400 | 413 | 415 | 422), "{file}: {}", answer.problem());
    Ok(json!({ "file": file, "refused_whole": answer.problem() }))
}

fn ignored(found: &[Found]) -> Vec<Value> {
    found
        .iter()
        .filter_map(|file| match file {
            Found::Ignored(path, why) => Some(json!({ "file": path.display().to_string(), "why": why })),
            _ => None,
        })
        .collect()
}

fn say(files: &[Value], found: &[Found]) {
    let rows: Vec<Vec<String>> = files
        .iter()
        .map(|file| {
            let refused = file["refused"].as_array().map_or(0, Vec::len);
            vec![
                cell(file, "file"),
                cell(file, "new"),
                cell(file, "revised"),
                cell(file, "repaired"),
                file["quarantined"].as_array().map_or(0, Vec::len).to_string(),
                refused.to_string(),
                cell(file, "refused_whole"),
            ]
        })
        .collect();
    crate::output::outln!(
        "{}",
        table(&["file", "new", "revised", "repaired", "quarantined", "refused rows", "refused whole"], &rows)
    );
    for file in files {
        for fault in file["refused"].as_array().into_iter().flatten() {
            eprintln!(
                "{}: line {}, column `{}`: {}",
                cell(file, "file"),
                cell(fault, "line"),
                cell(fault, "column"),
                cell(fault, "reason")
            );
        }
        for (key, word) in [("quarantined", "set aside"), ("noted", "noted")] {
            for found in file[key].as_array().into_iter().flatten() {
                let about = if found["session"].is_string() { cell(found, "session") } else { "all of it".to_owned() };
                eprintln!("{}: {about}: {word} ({}): {}", cell(file, "file"), cell(found, "rule"), cell(found, "why"));
            }
        }
    }
    for file in ignored(found) {
        eprintln!("ignored {}: {}", cell(&file, "file"), cell(&file, "why"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_what_it_takes_and_what_it_ignores() {
        let folder = std::env::temp_dir().join(format!("retainai-look-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("NASDAQ")).unwrap();
        std::fs::create_dir_all(folder.join("dirty")).unwrap();
        for file in
            ["NASDAQ/AAPL.csv", "NASDAQ/notes.txt", "NASDAQ/A!.csv", "NEPSE_reference_price_factors.csv", "README.md"]
        {
            std::fs::write(folder.join(file), "").unwrap();
        }
        let words: Vec<String> = look(&folder)
            .unwrap()
            .into_iter()
            .map(|found| match found {
                Found::Bars(_, ticker) => ticker.to_string(),
                Found::Factors(_, exchange) => format!("factors {exchange}"),
                Found::Ignored(path, _) => format!("ignored {}", name_of(&path)),
            })
            .collect();
        assert_eq!(
            words,
            [
                "ignored A!.csv",
                "NASDAQ:AAPL",
                "ignored notes.txt",
                "factors NEPSE",
                "ignored README.md",
                "ignored dirty"
            ]
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
