//! `retainai sessions list|set|clear`: the calendar of an exchange day by day, and an operator's word on a day, through the API.

use super::failed;
use crate::client::Client;
use crate::output::{items_table, print_json};
use crate::settings::Settings;
use crate::steering_args::Sessions;
use chrono::NaiveDate;
use market::Exchange;
use serde_json::{Value, json};

/// Whoever says something of more days at once has mistyped a year.
const MOST_DAYS: usize = 100;
const COLUMNS: [&str; 4] = ["session", "state", "basis", "evidence"];

/// Does it.
pub async fn run(settings: &Settings, what: Sessions, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let code = match what {
        Sessions::List { exchange, from, to } => list(&client, exchange, from, to, as_json).await,
        Sessions::Set { exchange, day, state, to, reason } => {
            let body = json!({ "state": state, "reason": reason });
            each(&client, exchange, day, to, Some(&body), as_json).await
        }
        Sessions::Clear { exchange, day, to } => each(&client, exchange, day, to, None, as_json).await,
    };
    client.close().await?;
    code
}

/// All pages of it as one document.
async fn list(
    client: &Client,
    exchange: Exchange,
    from: Option<NaiveDate>,
    to: Option<NaiveDate>,
    as_json: bool,
) -> anyhow::Result<u8> {
    let mut asked = format!("/v1/exchanges/{exchange}/sessions?limit=200");
    for (name, day) in [("from", from), ("to", to)] {
        asked.extend(day.map(|day| format!("&{name}={day}")));
    }
    let (mut items, mut next) = (Vec::new(), None::<String>);
    loop {
        let path = next.as_ref().map_or_else(|| asked.clone(), |cursor| format!("{asked}&cursor={cursor}"));
        let answer = client.get(&path).await?;
        if !answer.is_ok() {
            return failed(&answer, as_json);
        }
        items.extend(answer.body["items"].as_array().cloned().unwrap_or_default());
        next = answer.body["next_cursor"].as_str().map(str::to_owned);
        if next.is_none() {
            return shown(&json!({ "items": items }), as_json);
        }
    }
}

/// Says something of each day, or takes it back; the first that is refused ends it, and what was said before stays.
async fn each(
    client: &Client,
    exchange: Exchange,
    first: NaiveDate,
    last: Option<NaiveDate>,
    body: Option<&Value>,
    as_json: bool,
) -> anyhow::Result<u8> {
    let last = last.unwrap_or(first);
    anyhow::ensure!(last >= first, "--to {last} lies before {first}");
    let days: Vec<NaiveDate> = first.iter_days().take_while(|day| *day <= last).take(MOST_DAYS + 1).collect();
    anyhow::ensure!(days.len() <= MOST_DAYS, "at most {MOST_DAYS} days at once");
    for day in &days {
        let path = format!("/v1/exchanges/{exchange}/sessions/{day}");
        let answer = match body {
            Some(body) => client.put(&path, "application/json", body.to_string()).await?,
            None => client.delete(&path).await?,
        };
        if !answer.is_ok() {
            return failed(&answer, as_json);
        }
    }
    list(client, exchange, Some(first), Some(last), as_json).await
}

fn shown(body: &Value, as_json: bool) -> anyhow::Result<u8> {
    if as_json {
        print_json(body)?;
    } else {
        crate::output::outln!("{}", items_table(&COLUMNS, body));
    }
    Ok(0)
}
