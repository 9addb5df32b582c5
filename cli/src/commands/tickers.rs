//! `retainai tickers [add …]`.

use super::failed;
use crate::args::Tickers;
use crate::client::Client;
use crate::output::{cell, print_json, table};
use crate::settings::Settings;
use serde_json::{Value, json};

/// Does it.
pub async fn run(settings: &Settings, what: Option<Tickers>, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    if let Some(Tickers::Add { tickers }) = &what {
        for ticker in tickers {
            let answer = client
                .put(
                    &format!("/v1/tickers/{}/{}", ticker.exchange(), ticker.symbol()),
                    "application/json",
                    "{}".to_owned(),
                )
                .await?;
            if !answer.is_ok() {
                client.close().await?;
                return failed(&answer, as_json);
            }
        }
    }
    let items = all(&client).await;
    client.close().await?;
    let items = items?;
    if as_json {
        print_json(&json!({ "items": items, "next_cursor": null }))?;
    } else {
        const COLUMNS: [&str; 5] = ["exchange", "ticker", "bars", "last_session", "active"];
        let rows: Vec<Vec<String>> = items.iter().map(|item| COLUMNS.map(|key| cell(item, key)).to_vec()).collect();
        crate::output::outln!("{}", table(&COLUMNS, &rows));
    }
    Ok(0)
}

async fn all(client: &Client) -> anyhow::Result<Vec<Value>> {
    let (mut items, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = client.get(&format!("/v1/tickers?limit=200{cursor}")).await?.ok()?;
        items.extend(page["items"].as_array().cloned().unwrap_or_default());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return Ok(items),
        }
    }
}
