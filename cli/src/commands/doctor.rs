//! `retainai doctor`: looks at every way in which a set-up can be wrong, and says of each what was found and what to do. Changes nothing.

mod history;
mod item;
mod listen;
mod machine;
mod postgres;
mod redis;
mod settings_file;
mod sources;
mod store;

use crate::output::print_json;
use crate::settings::{Settings, SettingsError};
use item::{Item, State};
use serde_json::json;
use std::future::Future;
use std::time::Duration;

/// How long one look may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// Looks at everything at once. Exit 1 when there is a problem.
pub async fn run(settings: &Settings, online: bool, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let (machine, store, history, listen, database, queue, cache, sources) = tokio::join!(
        limited("machine", blocking(machine::look, settings.cores)),
        limited("data_folder", store::look(settings)),
        limited("history", history::look(settings)),
        limited("listen", listen::look(settings)),
        limited("postgres", postgres::look(settings)),
        limited("redis", redis::queue(settings)),
        limited("cache", redis::cache(settings)),
        limited("sources", sources::look(settings, online)),
    );
    let found =
        [settings_file::look(settings), store, history, listen, database, queue, cache, sources, machine].concat();
    report(&found, as_json)
}

/// When the settings cannot be used, the rest would be guessed: only the machine is looked at besides.
pub fn without_settings(error: &SettingsError, as_json: bool) -> anyhow::Result<u8> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    report(&[vec![settings_file::unusable(error)], machine::look(cores)].concat(), as_json)
}

fn report(items: &[Item], as_json: bool) -> anyhow::Result<u8> {
    let count = |state: State| items.iter().filter(|item| item.state == state).count();
    let (problems, warnings) = (count(State::Problem), count(State::Warning));
    if as_json {
        print_json(&json!({ "items": items, "problems": problems }))?;
    } else {
        crate::output::outln!("{}", in_words(items));
        crate::output::outln!("\nproblems: {problems}, warnings: {warnings}, ok: {}", count(State::Ok));
    }
    Ok(u8::from(problems > 0))
}

/// A table whose last column may be long; what to do stands on a line of its own below.
fn in_words(items: &[Item]) -> String {
    let width = items.iter().map(|item| item.check.len()).max().unwrap_or(0);
    let lines = items.iter().map(|item| {
        let line = format!("{:<7}  {:<width$}  {}", item.state.as_str(), item.check, item.found);
        match item.advice.is_empty() {
            true => line,
            false => format!("{line}\n{:<7}  {:<width$}  -> {}", "", "", item.advice),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What does not answer in time is a problem in itself.
async fn limited(check: &'static str, look: impl Future<Output = Vec<Item>>) -> Vec<Item> {
    tokio::time::timeout(PATIENCE, look).await.unwrap_or_else(|_| {
        let found = format!("no answer within {} s", PATIENCE.as_secs());
        vec![Item::problem(check, found, "see whether what it stands on (server, network, disk) hangs")]
    })
}

/// Files may hang as servers do.
async fn blocking<T: Send + 'static>(look: fn(T) -> Vec<Item>, of: T) -> Vec<Item> {
    tokio::task::spawn_blocking(move || look(of)).await.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn advice_stands_below_what_was_found() {
        let items = [Item::ok("cores", "2"), Item::warning("disk_space", "5 MB", "make room")];
        assert_eq!(
            in_words(&items),
            "ok       cores       2\nwarning  disk_space  5 MB\n                     -> make room"
        );
    }
}
