//! The operator's commands, one per file. Each (but `backtest` and `source`, which need none) speaks to the API, prints a table or one JSON document, and answers its exit code.

pub mod accuracy;
pub mod backfill;
pub mod backtest;
pub mod config;
pub mod doctor;
pub mod forecast;
pub mod healthcheck;
pub mod history;
pub mod import;
pub mod migrate;
pub mod quarantine;
pub mod queue;
pub mod run;
pub mod runs;
pub mod schedule;
pub mod sessions;
pub mod source;
pub mod tickers;

use crate::client::Answer;

/// Prints a problem where it belongs and answers exit code 1.
fn failed(answer: &Answer, json: bool) -> anyhow::Result<u8> {
    if json {
        crate::output::print_json(&answer.body)?;
    }
    eprintln!("retainai: {}", answer.problem());
    Ok(1)
}
