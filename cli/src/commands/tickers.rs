//! `retainai tickers [list|add|suspend|resume|delist|rename|merge]`.

use super::failed;
use crate::client::{Answer, Client};
use crate::output::{cell, print_json, table};
use crate::settings::Settings;
use crate::ticker_args::{One, Tickers, Two};
use market::Ticker;
use serde_json::{Value, json};

/// Does it.
pub async fn run(settings: &Settings, what: Option<Tickers>, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let done = carry_out(&client, what, as_json).await;
    client.close().await?;
    done
}

async fn carry_out(client: &Client, what: Option<Tickers>, as_json: bool) -> anyhow::Result<u8> {
    let (ticker, body) = match what {
        None => return listed(client, "", as_json).await,
        Some(Tickers::List { state, exchange }) => {
            let state = state.map(|state| format!("&state={state}")).unwrap_or_default();
            let exchange = exchange.map(|exchange| format!("&exchange={exchange}")).unwrap_or_default();
            return listed(client, &format!("{state}{exchange}"), as_json).await;
        }
        Some(Tickers::Add { tickers }) => {
            for ticker in tickers {
                let answer = put(client, &ticker, "", &json!({})).await?;
                if !answer.is_ok() {
                    return failed(&answer, as_json);
                }
            }
            return listed(client, "", as_json).await;
        }
        Some(Tickers::Suspend(One { ticker, reason })) => (ticker, json!({ "state": "suspended", "reason": reason })),
        Some(Tickers::Resume(One { ticker, reason })) => (ticker, json!({ "state": "active", "reason": reason })),
        Some(Tickers::Delist(One { ticker, reason })) => (ticker, json!({ "state": "delisted", "reason": reason })),
        Some(Tickers::Rename(two)) => with_successor("renamed", two),
        Some(Tickers::Merge(two)) => with_successor("merged", two),
    };
    let answer = put(client, &ticker, "/state", &body).await?;
    if !answer.is_ok() {
        return failed(&answer, as_json);
    }
    if as_json {
        print_json(&answer.body)?;
    } else {
        shown(&[answer.body]);
    }
    Ok(0)
}

fn with_successor(state: &str, two: Two) -> (Ticker, Value) {
    (two.old, json!({ "state": state, "successor": two.new.to_string(), "reason": two.reason }))
}

async fn put(client: &Client, ticker: &Ticker, of: &str, body: &Value) -> anyhow::Result<Answer> {
    let path = format!("/v1/tickers/{}/{}{of}", ticker.exchange(), ticker.symbol());
    client.put(&path, "application/json", body.to_string()).await
}

async fn listed(client: &Client, narrowed: &str, as_json: bool) -> anyhow::Result<u8> {
    let items = all(client, narrowed).await?;
    if as_json {
        print_json(&json!({ "items": items, "next_cursor": null }))?;
    } else {
        shown(&items);
    }
    Ok(0)
}

fn shown(items: &[Value]) {
    const COLUMNS: [&str; 8] = ["exchange", "ticker", "bars", "last_session", "state", "active", "successor", "reason"];
    let rows: Vec<Vec<String>> = items.iter().map(|item| COLUMNS.map(|key| cell(item, key)).to_vec()).collect();
    crate::output::outln!("{}", table(&COLUMNS, &rows));
}

async fn all(client: &Client, narrowed: &str) -> anyhow::Result<Vec<Value>> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/tickers?limit=200{narrowed}{cursor}")).await?.ok()?;
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(items),
        }
    }
}
