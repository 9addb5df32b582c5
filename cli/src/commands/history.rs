//! `retainai history [list|sweep|verify|restore]`: old runs that were put away as bundles of files.

use super::failed;
use crate::client::{Answer, Client};
use crate::output::{cell, items_table, print_json, table};
use crate::settings::Settings;
use crate::steering_args::Histories;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use std::time::Duration;

/// A month of a large installation takes its time.
const PATIENCE: Duration = Duration::from_secs(3_600);
const COLUMNS: [&str; 7] = ["name", "month", "runs", "bytes", "oldest", "newest", "created_at"];

/// Does it.
pub async fn run(settings: &Settings, what: Option<Histories>, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect_for(settings, false, PATIENCE).await?;
    let done = ask(&client, what.unwrap_or(Histories::List), as_json).await;
    client.close().await?;
    done
}

async fn ask(client: &Client, what: Histories, as_json: bool) -> anyhow::Result<u8> {
    match what {
        Histories::List => {
            let answer = json!({ "items": bundles(client).await? });
            said(&Answer { status: 200, body: answer }, as_json, |body| items_table(&COLUMNS, body))
        }
        Histories::Sweep { dry_run: true } => said(&client.get("/v1/history/due").await?, as_json, would_go),
        Histories::Sweep { dry_run: false } => sweep(client, as_json).await,
        Histories::Verify { name: Some(name), .. } => verify(client, &[name], as_json).await,
        Histories::Verify { name: None, .. } => {
            let names: Vec<String> = bundles(client).await?.iter().map(|bundle| cell(bundle, "name")).collect();
            verify(client, &names, as_json).await
        }
        Histories::Restore { name } => {
            let answer = client.post(&format!("/v1/history/{name}/restore"), &json!({})).await?;
            said(&answer, as_json, |body| {
                format!(
                    "{} runs came back, pinned; {} were there already",
                    cell(body, "restored"),
                    cell(body, "already_there")
                )
            })
        }
    }
}

fn said(answer: &Answer, as_json: bool, in_words: impl Fn(&Value) -> String) -> anyhow::Result<u8> {
    if !answer.is_ok() {
        return failed(answer, as_json);
    }
    match as_json {
        true => print_json(&answer.body)?,
        false => crate::output::outln!("{}", in_words(&answer.body)),
    }
    Ok(0)
}

/// All of them, newest first.
async fn bundles(client: &Client) -> anyhow::Result<Vec<Value>> {
    let (mut all, mut path) = (Vec::new(), "/v1/history?limit=200".to_owned());
    loop {
        let page = client.get(&path).await?.ok()?;
        all.extend(page["items"].as_array().into_iter().flatten().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { return Ok(all) };
        path = format!("/v1/history?limit=200&cursor={cursor}");
    }
}

/// Portion by portion, until nothing is due; what was put away before something went wrong stays so.
async fn sweep(client: &Client, as_json: bool) -> anyhow::Result<u8> {
    let bar = ProgressBar::new_spinner();
    bar.enable_steady_tick(Duration::from_millis(200));
    let (mut bundles, mut months, mut runs) = (Vec::new(), Vec::new(), 0);
    let busy = loop {
        bar.set_message(format!("{runs} runs put away"));
        let answer = client.post("/v1/history/sweep", &json!({})).await?;
        if !answer.is_ok() {
            bar.finish_and_clear();
            return failed(&answer, as_json);
        }
        let bundle = &answer.body["bundle"];
        runs += bundle["runs"].as_u64().unwrap_or(0);
        bundles.extend(Some(bundle).filter(|bundle| bundle.is_object()).cloned());
        months.extend(Some(&answer.body["month"]).filter(|month| month.is_string()).cloned());
        if answer.body["more"] != true {
            break answer.body["busy"].clone();
        }
    };
    bar.finish_and_clear();
    if as_json {
        print_json(&json!({ "runs": runs, "bundles": bundles, "months": months, "busy": busy }))?;
        return Ok(0);
    }
    if !bundles.is_empty() {
        crate::output::outln!("{}", items_table(&COLUMNS, &json!({ "items": bundles })));
    }
    crate::output::outln!("{runs} runs put away in {} bundles", bundles.len());
    for month in busy.as_array().into_iter().flatten() {
        eprintln!(
            "retainai: {} is due, but its tables are in use; the next sweep tries again",
            month.as_str().unwrap_or("-")
        );
    }
    Ok(0)
}

fn would_go(due: &Value) -> String {
    let items = due["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    if items.is_empty() && due["months"].as_array().is_none_or(Vec::is_empty) {
        return "nothing is due".to_owned();
    }
    let months: Vec<&str> = due["months"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let whole = if months.is_empty() { String::new() } else { format!("\n\nas whole months: {}", months.join(", ")) };
    format!("{}{whole}", items_table(&["outcome", "runs"], due))
}

/// Each of them; exit 1 when one is not as it was written.
async fn verify(client: &Client, names: &[String], as_json: bool) -> anyhow::Result<u8> {
    let mut items = Vec::new();
    for name in names {
        let answer = client.post(&format!("/v1/history/{name}/verify"), &json!({})).await?;
        let why = if answer.is_ok() { String::new() } else { answer.problem() };
        items.push(json!({ "name": name, "verified": answer.is_ok(), "runs": answer.body["runs"], "problem": why }));
    }
    let failed = items.iter().filter(|item| item["verified"] != true).count();
    if as_json {
        print_json(&json!({ "items": items, "failed": failed }))?;
    } else {
        let rows: Vec<Vec<String>> =
            items.iter().map(|item| ["name", "verified", "runs"].map(|key| cell(item, key)).to_vec()).collect();
        crate::output::outln!("{}", table(&["name", "verified", "runs"], &rows));
        for item in items.iter().filter(|item| item["verified"] != true) {
            eprintln!("retainai: {}", cell(item, "problem"));
        }
    }
    Ok(u8::from(failed > 0))
}
