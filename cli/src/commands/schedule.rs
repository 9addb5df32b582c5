//! `retainai schedule list|pause|resume|trigger|change`.

use super::failed;
use crate::client::Client;
use crate::output::{cell, print_json, table};
use crate::settings::Settings;
use crate::steering_args::Schedules;
use serde_json::{Value, json};

/// Days to come that a table shows.
const NEXT_SHOWN: usize = 5;

/// Does it.
pub async fn run(settings: &Settings, what: Schedules, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let answer = match &what {
        Schedules::List => client.get("/v1/schedules").await,
        Schedules::Pause { id } => client.post(&format!("/v1/schedules/{id}/pause"), &json!({})).await,
        Schedules::Resume { id } => client.post(&format!("/v1/schedules/{id}/resume"), &json!({})).await,
        Schedules::Trigger { id, session } => {
            let body = session.map_or(json!({}), |session| json!({ "session": session }));
            client.post(&format!("/v1/schedules/{id}/trigger"), &body).await
        }
        Schedules::Change { id, change } => {
            let fields =
                [("local_time", &change.local_time), ("catch_up", &change.catch_up), ("overlap", &change.overlap)];
            let body: serde_json::Map<String, Value> = fields
                .into_iter()
                .filter_map(|(name, value)| Some((name.to_owned(), json!(value.as_ref()?))))
                .collect();
            client.put(&format!("/v1/schedules/{id}"), "application/json", Value::Object(body).to_string()).await
        }
    };
    client.close().await?;
    let answer = answer?;
    if !answer.is_ok() {
        return failed(&answer, as_json);
    }
    if as_json {
        print_json(&answer.body)?;
        return Ok(0);
    }
    match what {
        Schedules::List => crate::output::outln!("{}", list(&answer.body)),
        Schedules::Trigger { id, .. } => {
            crate::output::outln!("triggered {id} for {}; its runs follow", cell(&answer.body, "session"));
        }
        _ => crate::output::outln!("{}\n\n{}", overview(std::slice::from_ref(&answer.body)), coming(&answer.body)),
    }
    Ok(0)
}

const COLUMNS: [&str; 8] =
    ["id", "exchange", "local_time", "time_zone", "state", "catch_up", "overlap", "last_session"];

fn overview(schedules: &[Value]) -> String {
    let rows: Vec<Vec<String>> = schedules.iter().map(|s| COLUMNS.map(|key| cell(s, key)).to_vec()).collect();
    table(&COLUMNS, &rows)
}

fn list(body: &Value) -> String {
    let schedules = body["items"].as_array().cloned().unwrap_or_default();
    let mut text = overview(&schedules);
    for schedule in &schedules {
        text.push_str(&format!("\n\n{}\n{}", cell(schedule, "id"), coming(schedule)));
    }
    text
}

/// The days to come, those on which it is silent too.
fn coming(schedule: &Value) -> String {
    let next = schedule["next_ticks"].as_array().into_iter().flatten().take(NEXT_SHOWN);
    let rows: Vec<Vec<String>> = next
        .map(|tick| {
            let fires = tick["fires"].as_bool().unwrap_or_default();
            let at = |key: &str| if fires { cell(tick, key) } else { "-".to_owned() };
            vec![cell(tick, "session"), at("local"), at("at"), cell(tick, "reason")]
        })
        .collect();
    table(&["next", "local", "utc", "why"], &rows)
}
