//! `retainai quarantine list|release|dismiss`: what was set aside, and deciding about it through the API.

use super::failed;
use crate::client::Client;
use crate::output::{items_table, print_json};
use crate::settings::Settings;
use crate::steering_args::Quarantined;
use serde_json::{Value, json};

/// Does it.
pub async fn run(settings: &Settings, what: Quarantined, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let code = ask(&client, &what, as_json).await;
    client.close().await?;
    code
}

async fn ask(client: &Client, what: &Quarantined, as_json: bool) -> anyhow::Result<u8> {
    let (ids, reason, verb) = match what {
        Quarantined::List { .. } => {
            let answer = client.get(&listed(what)?).await?;
            if !answer.is_ok() {
                return failed(&answer, as_json);
            }
            return shown(&answer.body, as_json);
        }
        Quarantined::Release { ids, reason } => (ids, reason, "release"),
        Quarantined::Dismiss { ids, reason } => (ids, reason, "dismiss"),
    };
    let mut done = Vec::new();
    for id in ids {
        let answer = client.post(&format!("/v1/quarantine/{id}/{verb}"), &json!({ "reason": reason })).await?;
        // The first that cannot be decided so ends it: what was decided before stays.
        if !answer.is_ok() {
            return failed(&answer, as_json);
        }
        done.push(answer.body);
    }
    shown(&json!({ "items": done }), as_json)
}

fn shown(body: &Value, as_json: bool) -> anyhow::Result<u8> {
    if as_json {
        print_json(body)?;
    } else {
        crate::output::outln!("{}", items_table(&COLUMNS, body));
    }
    Ok(0)
}

const COLUMNS: [&str; 9] = ["id", "exchange", "ticker", "session", "rule", "close", "source", "state", "why"];

fn listed(what: &Quarantined) -> anyhow::Result<String> {
    let Quarantined::List { exchange, ticker, state, rule, limit } = what else { anyhow::bail!("nothing to list") };
    let mut path = format!("/v1/quarantine?limit={}", (*limit).clamp(1, 200));
    let exchange = ticker.as_ref().map(|ticker| ticker.exchange()).or(*exchange);
    let narrowed = [
        ("exchange", exchange.map(|exchange| exchange.to_string())),
        ("ticker", ticker.as_ref().map(|ticker| ticker.symbol().to_owned())),
        ("state", Some(state.clone()).filter(|state| state != "all")),
        ("rule", rule.clone()),
    ];
    for (name, value) in narrowed.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        let plain = value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        anyhow::ensure!(plain, "`{value}` is no {name}");
        path.push_str(&format!("&{name}={value}"));
    }
    Ok(path)
}
