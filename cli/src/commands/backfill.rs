//! `retainai backfill EXCHANGE[:TICKER…] --from … --to …` and `backfill list|show|pause|resume|cancel`.

use super::failed;
use crate::client::{Answer, Client};
use crate::output::{cell, items_table, print_json, table};
use crate::settings::Settings;
use crate::steering_args::{Backfills, StartBackfill};
use serde_json::{Value, json};

const COLUMNS: [&str; 9] = ["id", "exchange", "from", "to", "policy", "state", "at", "started", "open"];

/// Does it.
pub async fn run(
    settings: &Settings,
    start: Option<StartBackfill>,
    what: Option<Backfills>,
    as_json: bool,
) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let body = match &start {
        Some(start) if what.is_none() => match body(start, settings.offline) {
            Ok(body) => Some(body),
            Err(error) => {
                eprintln!("retainai: {error}");
                return Ok(2);
            }
        },
        _ => None,
    };
    let client = Client::connect(settings, false).await?;
    let answer = ask(&client, what.as_ref(), body.as_ref()).await;
    client.close().await?;
    let answer = answer?;
    if !answer.is_ok() {
        return failed(&answer, as_json);
    }
    if as_json {
        print_json(&answer.body)?;
    } else {
        say(&answer.body);
    }
    Ok(0)
}

async fn ask(client: &Client, what: Option<&Backfills>, start: Option<&Value>) -> anyhow::Result<Answer> {
    let steer =
        async |id: &uuid::Uuid, verb: &str| client.post(&format!("/v1/backfills/{id}/{verb}"), &json!({})).await;
    match (what, start) {
        (Some(Backfills::List), _) => client.get("/v1/backfills?limit=50").await,
        (Some(Backfills::Show { id }), _) => client.get(&format!("/v1/backfills/{id}")).await,
        (Some(Backfills::Pause { id }), _) => steer(id, "pause").await,
        (Some(Backfills::Resume { id }), _) => steer(id, "resume").await,
        (Some(Backfills::Cancel { id }), _) => steer(id, "cancel").await,
        (None, Some(body)) => client.post("/v1/backfills", body).await,
        (None, None) => anyhow::bail!("say what to fill: retainai backfill NASDAQ --from YYYY-MM-DD --to YYYY-MM-DD"),
    }
}

/// The request; all tickers must be of one exchange.
fn body(start: &StartBackfill, offline: bool) -> anyhow::Result<Value> {
    let Some(first) = start.whose.first() else { anyhow::bail!("name an exchange, or tickers of one") };
    anyhow::ensure!(
        start.whose.iter().all(|whose| whose.exchange == first.exchange),
        "a backfill is about one exchange: start one for each"
    );
    let whole = start.whose.iter().any(|whose| whose.symbols.is_empty());
    let symbols: Vec<&String> = start.whose.iter().flat_map(|whose| &whose.symbols).filter(|_| !whole).collect();
    Ok(json!({
        "exchange": first.exchange.as_str(),
        "tickers": symbols,
        "from": start.from,
        "to": start.to.or(start.from),
        "policy": start.policy.as_str(),
        "max_active": start.max_active,
        "offline": offline,
        "dry_run": start.dry_run,
    }))
}

fn say(body: &Value) {
    if body["items"].is_array() {
        crate::output::outln!("{}", items_table(&COLUMNS, body));
    } else if body["dry_run"].is_boolean() {
        crate::output::outln!(
            "would start {} runs: of {} pairs of ticker and day, {} have no run and the newest of {} failed",
            cell(body, "would_start"),
            cell(body, "all"),
            cell(body, "missing"),
            cell(body, "failed")
        );
    } else {
        crate::output::outln!("{}", table(&COLUMNS, &[COLUMNS.map(|key| cell(body, key)).to_vec()]));
    }
}
