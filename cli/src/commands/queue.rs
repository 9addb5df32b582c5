//! `retainai queue list|pause|resume`.

use super::failed;
use crate::client::{Answer, Client};
use crate::output::{cell, items_table, print_json};
use crate::settings::Settings;
use crate::steering_args::{Pausable, Queues};
use serde_json::json;

/// Does it.
pub async fn run(settings: &Settings, what: Queues, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let answer = ask(&client, &what).await;
    client.close().await?;
    let answer = answer?;
    if !answer.is_ok() {
        return failed(&answer, as_json);
    }
    let body = &answer.body;
    if as_json {
        print_json(body)?;
        return Ok(0);
    }
    match what {
        Queues::List => {
            crate::output::outln!(
                "{}",
                items_table(&["step", "waiting", "ready", "running", "oldest_due_s", "slots", "paused"], body)
            );
            let pauses = json!({ "items": body["pauses"] });
            if body["pauses"].as_array().is_some_and(|pauses| !pauses.is_empty()) {
                crate::output::outln!("\npaused:\n{}", items_table(&["kind", "value", "since", "reason"], &pauses));
            }
        }
        Queues::Pause { .. } => crate::output::outln!("paused {} {}", cell(body, "kind"), cell(body, "value")),
        Queues::Resume { .. } => crate::output::outln!("resumed {} {}", cell(body, "kind"), cell(body, "value")),
    }
    Ok(0)
}

async fn ask(client: &Client, what: &Queues) -> anyhow::Result<Answer> {
    match what {
        Queues::List => {
            let mut queues = client.get("/v1/queues").await?;
            let pauses = client.get("/v1/pauses").await?;
            if !pauses.is_ok() {
                return Ok(pauses);
            }
            if queues.is_ok() {
                queues.body["pauses"] = pauses.body["items"].clone();
            }
            Ok(queues)
        }
        Queues::Pause { what, reason } => {
            client.put(&path(what), "application/json", json!({ "reason": reason }).to_string()).await
        }
        Queues::Resume { what } => {
            let mut answer = client.delete(&path(what)).await?;
            if answer.is_ok() {
                let (kind, value) = what.named();
                answer.body = json!({ "kind": kind, "value": value, "paused": false });
            }
            Ok(answer)
        }
    }
}

fn path(what: &Pausable) -> String {
    let (kind, value) = what.named();
    format!("/v1/pauses/{kind}/{value}")
}
