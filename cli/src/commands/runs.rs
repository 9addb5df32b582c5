//! `retainai runs list|show|cancel|rerun|replay|requeue|pin|unpin`.

use super::failed;
use crate::args::Runs;
use crate::client::{Answer, Client};
use crate::output::{cell, items_table, print_json, table};
use crate::settings::Settings;
use crate::steering_args::Dead;
use serde_json::{Value, json};

/// Does it.
pub async fn run(settings: &Settings, what: Runs, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let answer = match &what {
        Runs::List { dead: true, step, kind, exchange, limit, .. } => {
            let which = Dead { step: *step, kind: kind.clone(), exchange: *exchange };
            let mut path = format!("/v1/dead-letters?limit={}", (*limit).clamp(1, 200));
            for (name, value) in narrowed(&which) {
                path.push_str(&format!("&{name}={value}"));
            }
            client.get(&path).await?
        }
        Runs::List { ticker, state, limit, .. } => {
            let mut path = format!("/v1/runs?limit={}", (*limit).clamp(1, 200));
            if let Some(ticker) = ticker {
                path.push_str(&format!("&exchange={}&ticker={}", ticker.exchange(), ticker.symbol()));
            }
            if let Some(state) = state {
                anyhow::ensure!(
                    state.chars().all(|c| c.is_ascii_lowercase() || c == '_' || c == ','),
                    "`{state}` is no list of states"
                );
                path.push_str(&format!("&state={state}"));
            }
            client.get(&path).await?
        }
        Runs::Show { id } => client.get(&format!("/v1/runs/{id}")).await?,
        Runs::Cancel { id } => client.post(&format!("/v1/runs/{id}/cancel"), &json!({})).await?,
        Runs::Rerun { id, from } => {
            let body = from.map_or(json!({}), |step| json!({ "from": step.as_str() }));
            client.post(&format!("/v1/runs/{id}/rerun"), &body).await?
        }
        Runs::Replay { id } => replayed(&client, *id).await?,
        Runs::Requeue { ids, which } => {
            let mut body = json!({ "runs": ids });
            for (name, value) in narrowed(which) {
                body[name] = json!(value);
            }
            client.post("/v1/dead-letters/requeue", &body).await?
        }
        Runs::Pin { id } => client.post(&format!("/v1/runs/{id}/pin"), &json!({})).await?,
        Runs::Unpin { id } => client.post(&format!("/v1/runs/{id}/unpin"), &json!({})).await?,
    };
    let code = show(&what, &answer, as_json)?;
    client.close().await?;
    Ok(code)
}

fn show(what: &Runs, answer: &Answer, as_json: bool) -> anyhow::Result<u8> {
    if !answer.is_ok() {
        return failed(answer, as_json);
    }
    // A replay that found another bit, or nothing to compare, is a failure although it was answered.
    let differs = matches!(what, Runs::Replay { .. }) && answer.body["verdict"] != "same";
    if as_json {
        print_json(&answer.body)?;
        return Ok(u8::from(differs));
    }
    match what {
        Runs::List { dead: true, .. } => crate::output::outln!("{}", items_table(&DEAD_COLUMNS, &answer.body)),
        Runs::List { .. } => crate::output::outln!("{}", items_table(&COLUMNS, &answer.body)),
        Runs::Show { .. } => crate::output::outln!("{}", in_full(&answer.body)),
        Runs::Cancel { .. } => crate::output::outln!("cancelled"),
        Runs::Rerun { .. } => crate::output::outln!("started {}", cell(&answer.body, "id")),
        Runs::Replay { .. } => crate::output::outln!("{}", replay_in_words(&answer.body)),
        Runs::Requeue { .. } => crate::output::outln!("{}", requeued(&answer.body)),
        Runs::Pin { .. } => crate::output::outln!("pinned"),
        Runs::Unpin { .. } => crate::output::outln!("no longer pinned"),
    }
    Ok(u8::from(differs))
}

/// Asks until the replay is done: training may take longer than one answer.
async fn replayed(client: &Client, id: uuid::Uuid) -> anyhow::Result<Answer> {
    let waiting = indicatif::ProgressBar::new_spinner().with_message("making it again");
    waiting.enable_steady_tick(std::time::Duration::from_millis(100));
    loop {
        let answer = client.post(&format!("/v1/runs/{id}/replay"), &json!({})).await?;
        if answer.status != 202 {
            waiting.finish_and_clear();
            return Ok(answer);
        }
    }
}

fn replay_in_words(body: &Value) -> String {
    const COLUMNS: [&str; 5] = ["step", "what", "made_by", "verdict", "name"];
    let mut text = items_table(&COLUMNS, body);
    let version = |of: &Value| format!("{} (kernel {}, {})", cell(of, "program"), of["kernel"], cell(of, "recipe"));
    for item in body["items"].as_array().into_iter().flatten() {
        let about = format!("{} {}", cell(item, "step"), cell(item, "what"));
        if let Some(why) = item["why"].as_str() {
            text.push_str(&format!("\n{about}: {why}"));
        }
        for found in item["differences"].as_array().into_iter().flatten() {
            let [field, then, now] = ["field", "then", "now"].map(|key| cell(found, key));
            text.push_str(&format!("\n{about}: {field} was {then} and is {now}"));
        }
        let (then, now) = (&item["version_then"], &item["version_now"]);
        if then.is_object() && then != now && item["verdict"] != "not_replayable" && item["what"] != "inputs" {
            text.push_str(&format!("\n{about}: made by {}, now by {}", version(then), version(now)));
        }
    }
    format!("{text}\n\n{}", cell(body, "verdict").replace('_', " "))
}

/// A filter of dead runs by the API's names.
fn narrowed(which: &Dead) -> impl Iterator<Item = (&'static str, String)> {
    let step = which.step.map(|step| ("step", step.to_string()));
    let kind = which.kind.clone().map(|kind| ("error_kind", kind));
    let exchange = which.exchange.map(|exchange| ("exchange", exchange.to_string()));
    step.into_iter().chain(kind).chain(exchange)
}

fn requeued(body: &Value) -> String {
    let more = if body["more"] == true { "; there may be more: run it again" } else { "" };
    format!("{} requeued, {} left out{more}", cell(body, "requeued"), cell(body, "left_out"))
}

const COLUMNS: [&str; 7] = ["id", "plan", "subject", "session", "state", "created_at", "reason"];

const DEAD_COLUMNS: [&str; 7] = ["run", "subject", "session", "step", "error_kind", "attempts", "error"];

fn in_full(run: &Value) -> String {
    let head = COLUMNS.map(|key| format!("{key:<11} {}", cell(run, key))).join("\n");
    let lines = |key: &str, columns: &[&str]| {
        let rows: Vec<Vec<String>> = run[key]
            .as_array()
            .into_iter()
            .flatten()
            .map(|row| columns.iter().map(|c| cell(row, c)).collect())
            .collect();
        table(columns, &rows)
    };
    let steps = lines("steps", &["step", "state", "attempt", "note", "error"]);
    let attempts = lines("attempts", &["step", "attempt", "outcome", "worker", "started_at", "finished_at", "detail"]);
    format!("{head}\n\n{steps}\n\n{attempts}")
}
