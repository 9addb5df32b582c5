//! `retainai accuracy [EXCHANGE[:TICKER]]`: how good the forecasts were, beside the naive ones, with the alarms that hold; and the record as a file that a
//! scorer reads.

use super::failed;
use crate::client::Client;
use crate::output::{cell, print_json, table};
use crate::settings::Settings;
use anyhow::Context;
use market::{Exchange, Ticker};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Columns of a file of forecasts, here and in `backtest`.
pub const FORECAST_COLUMNS: [&str; 12] = [
    "exchange",
    "ticker",
    "as_of",
    "target_date",
    "point",
    "lo80",
    "hi80",
    "lo95",
    "hi95",
    "p_up",
    "last_close",
    "model",
];

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Asked {
    /// Both exchanges when absent.
    pub of: Option<Of>,
    /// Newest sessions that count.
    pub window: u32,
    /// Whose forecasts, in lists of tickers.
    pub line: String,
    /// Where to write the record.
    pub record: Option<PathBuf>,
}

/// An exchange or a ticker.
#[derive(Debug, Clone)]
pub enum Of {
    /// All its tickers.
    Exchange(Exchange),
    /// One.
    Ticker(Ticker),
}

impl FromStr for Of {
    type Err = anyhow::Error;
    fn from_str(text: &str) -> anyhow::Result<Self> {
        if text.contains(':') { Ok(Of::Ticker(Ticker::parse(text)?)) } else { Ok(Of::Exchange(text.parse()?)) }
    }
}

/// Prints it; exit 1 when the ticker is not known.
pub async fn run(settings: &Settings, asked: &Asked, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let done = ask(&client, asked, as_json).await;
    client.close().await?;
    done
}

async fn ask(client: &Client, asked: &Asked, as_json: bool) -> anyhow::Result<u8> {
    let Asked { of, window, line, record } = asked;
    let path = match of {
        None => format!("/v1/accuracy?window={window}"),
        Some(Of::Exchange(exchange)) => format!("/v1/accuracy/{exchange}?window={window}&line={line}&limit=200"),
        Some(Of::Ticker(ticker)) => format!("/v1/accuracy/{}/{}?window={window}", ticker.exchange(), ticker.symbol()),
    };
    let first = client.get(&path).await?;
    if !first.is_ok() {
        return failed(&first, as_json);
    }
    let items = match of {
        Some(Of::Exchange(_)) => all(client, &path).await?,
        _ => first.body["items"].as_array().cloned().unwrap_or_default(),
    };
    let alarms = alarms(client, of.as_ref()).await?;
    if let Some(file) = record {
        let rows = write_record(client, of.as_ref(), file).await?;
        eprintln!("retainai: {rows} scored forecasts written to {}", file.display());
    }
    if as_json {
        print_json(&json!({ "items": items, "alarms": alarms }))?;
    } else {
        crate::output::outln!("{}", in_words(&items, &alarms));
    }
    Ok(0)
}

/// Every item of a list.
async fn all(client: &Client, path: &str) -> anyhow::Result<Vec<Value>> {
    let (mut items, mut page) = (vec![], client.get(path).await?.ok()?);
    loop {
        items.extend(page["items"].as_array().into_iter().flatten().cloned());
        let Some(cursor) = page["next_cursor"].as_str() else { return Ok(items) };
        let between = if path.contains('?') { '&' } else { '?' };
        page = client.get(&format!("{path}{between}cursor={cursor}")).await?.ok()?;
    }
}

/// The alarms that hold about what was asked for.
async fn alarms(client: &Client, of: Option<&Of>) -> anyhow::Result<Vec<Value>> {
    let exchange = match of {
        None => String::new(),
        Some(Of::Exchange(exchange)) => format!("&exchange={exchange}"),
        Some(Of::Ticker(ticker)) => format!("&exchange={}", ticker.exchange()),
    };
    let mut alarms = all(client, &format!("/v1/alarms?open=true&limit=200{exchange}")).await?;
    if let Some(Of::Ticker(ticker)) = of {
        alarms.retain(|alarm| alarm["ticker"] == ticker.symbol());
    }
    Ok(alarms)
}

fn in_words(items: &[Value], alarms: &[Value]) -> String {
    let ratio = |value: &Value| value.as_f64().map_or("-".to_owned(), |v| format!("{v:.4}"));
    let range = |value: &Value| match (value["lo"].as_f64(), value["hi"].as_f64()) {
        (Some(lo), Some(hi)) => format!("{lo:.4} to {hi:.4}"),
        _ => "-".to_owned(),
    };
    let held = |item: &Value, level: u64| {
        let levels = item["coverage"].as_array().into_iter().flatten();
        let of = levels.clone().find(|of| of["level"] == level).and_then(|of| of["held"].as_f64());
        of.map_or("-".to_owned(), |share| format!("{:.1}%", 100.0 * share))
    };
    let excess = |item: &Value| {
        let points = item["direction"]["excess_points"].as_f64();
        points.map_or("-".to_owned(), |points| format!("{points:+.1}"))
    };
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            let mut row = ["exchange", "ticker", "line", "n", "from", "to"].map(|key| cell(item, key)).to_vec();
            row.extend([
                ratio(&item["rmse_ratio"]),
                range(&item["rmse_ratio_range"]),
                ratio(&item["wis_ratio"]),
                range(&item["wis_ratio_range"]),
                ratio(&item["wis_ratio_empirical"]),
                held(item, 80),
                held(item, 95),
                excess(item),
            ]);
            row
        })
        .collect();
    let header = [
        "exchange",
        "ticker",
        "line",
        "n",
        "from",
        "to",
        "RMSE/naive",
        "95 % range",
        "WIS/P-EWMA",
        "95 % range",
        "WIS/P-EQ",
        "in 80%",
        "in 95%",
        "direction",
    ];
    let mut text = table(&header, &rows);
    text.push_str("\n\nBelow 1 is better than \"tomorrow = today\"; direction: hits above chance, in points, where one was claimed.");
    for alarm in alarms {
        let about = format!("{}:{} {}", cell(alarm, "exchange"), cell(alarm, "ticker"), cell(alarm, "line"));
        text.push_str(&format!("\nalarm  {about}  {}: {}", cell(alarm, "kind"), cell(alarm, "detail")));
    }
    text
}

/// Every scored forecast that was served and issued in time; how many.
async fn write_record(client: &Client, of: Option<&Of>, file: &Path) -> anyhow::Result<usize> {
    let tickers = match of {
        Some(Of::Ticker(ticker)) => vec![(ticker.exchange().to_string(), ticker.symbol().to_owned())],
        Some(Of::Exchange(exchange)) => listed(client, &format!("/v1/tickers?limit=200&exchange={exchange}")).await?,
        None => listed(client, "/v1/tickers?limit=200").await?,
    };
    let context = || format!("{} could not be written", file.display());
    let mut csv = csv::Writer::from_path(file).with_context(context)?;
    csv.write_record(FORECAST_COLUMNS).with_context(context)?;
    let mut rows = 0;
    for (exchange, symbol) in tickers {
        let mut record = all(client, &format!("/v1/forecasts/{exchange}/{symbol}/record?limit=200")).await?;
        record.reverse();
        for item in record.iter().filter(|item| item["outcome"] == "scored" && item["forecast"]["kind"] == "forecast") {
            csv.write_record(columns(&exchange, &symbol, item)).with_context(context)?;
            rows += 1;
        }
    }
    csv.flush().with_context(context)?;
    Ok(rows)
}

async fn listed(client: &Client, path: &str) -> anyhow::Result<Vec<(String, String)>> {
    let rows = all(client, path).await?;
    Ok(rows.iter().map(|row| (cell(row, "exchange"), cell(row, "ticker"))).collect())
}

fn columns(exchange: &str, symbol: &str, item: &Value) -> [String; 12] {
    let forecast = &item["forecast"];
    let number = |value: &Value| value.as_f64().map(|n| n.to_string()).unwrap_or_default();
    let bound = |level: u64, end: &str| {
        let mut levels = forecast["intervals"].as_array().into_iter().flatten();
        levels.find(|of| of["level"] == level).map(|of| number(&of[end])).unwrap_or_default()
    };
    [
        exchange.to_owned(),
        symbol.to_owned(),
        cell(forecast, "as_of"),
        cell(&item["score"], "session"),
        number(&forecast["point"]),
        bound(80, "lo"),
        bound(80, "hi"),
        bound(95, "lo"),
        bound(95, "hi"),
        number(&forecast["p_up"]),
        number(&forecast["last_close"]),
        "served".to_owned(),
    ]
}
