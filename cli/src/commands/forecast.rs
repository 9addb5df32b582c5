//! `retainai forecast EXCHANGE:TICKER`: the forecast beside the last close and the naive baseline.

use super::failed;
use crate::client::Client;
use crate::output::print_json;
use crate::settings::Settings;
use market::Ticker;
use serde_json::Value;

/// Prints it.
pub async fn run(settings: &Settings, ticker: &Ticker, json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let answer = client.get(&format!("/v1/forecasts/{}/{}", ticker.exchange(), ticker.symbol())).await?;
    let code = if !answer.is_ok() {
        failed(&answer, json)?
    } else if json {
        print_json(&answer.body)?;
        0
    } else {
        crate::output::outln!("{}", in_words(ticker, &answer.body));
        0
    };
    client.close().await?;
    Ok(code)
}

fn in_words(ticker: &Ticker, f: &Value) -> String {
    let number = |value: &Value| value.as_f64().map_or("-".to_owned(), |n| format!("{n}"));
    let band = |level: u64| {
        let levels = f["intervals"].as_array().into_iter().flatten();
        let of = levels.clone().find(|of| of["level"].as_u64() == Some(level)).unwrap_or(&Value::Null);
        format!("{} to {}", number(&of["lo"]), number(&of["hi"]))
    };
    let currency = f["currency"].as_str().unwrap_or_default();
    let flags: Vec<&str> = f["flags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut lines = vec![
        format!("{ticker}  close of {}: {} {currency}", f["target"].as_str().unwrap_or("-"), number(&f["point"])),
        format!(
            "  last close   {} on {} ({:+.2} %)",
            number(&f["last_close"]),
            f["as_of"].as_str().unwrap_or("-"),
            f["change_pct"].as_f64().unwrap_or(0.0)
        ),
        format!("  80 % range   {}", band(80)),
        format!("  95 % range   {}", band(95)),
        format!(
            "  baseline     {} ({})",
            number(&f["baseline"]["point"]),
            f["baseline"]["method"].as_str().unwrap_or("-")
        ),
        format!("  made by      {}, {}", f["made_by"].as_str().unwrap_or("-"), f["recipe"].as_str().unwrap_or("-")),
        format!("               {}", f["reason"].as_str().unwrap_or("-")),
    ];
    if !flags.is_empty() {
        lines.push(format!("  note         {}", flags.join(", ")));
    }
    lines.push(format!("  {}", f["disclaimer"].as_str().unwrap_or(market::DISCLAIMER)));
    lines.join("\n")
}
