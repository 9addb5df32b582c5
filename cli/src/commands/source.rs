//! `retainai source list`: the sources and how they stand, from the API. `retainai source parse`: what we would read from a saved page; in come a
//! source and a file, out go rows, or why there are none, with no store, no network and no settings.

use super::failed;
use crate::client::Client;
use crate::output::{items_table, outln, print_json, table};
use crate::settings::Settings;
use market::{Bar, Exchange, Ticker};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use workers::sources::saved_page;

/// The largest file that is read; the largest page that a source may send is a fraction of it.
const FILE_LIMIT: u64 = 64 * 1024 * 1024;

/// What to do with sources.
#[derive(Debug, clap::Subcommand)]
pub enum Sources {
    /// List the price sources in order, with pace, budget, breaker, last success and last failure of each host.
    List,
    /// Show what would be read from a saved page; exit 1 when it would be refused.
    Parse(Asked),
}

/// Which page, of whom.
#[derive(Debug, Clone, clap::Args)]
pub struct Asked {
    /// Whose page: yahoo, nasdaq, tiingo, sharesansar, merolagani or csv.
    #[arg(long, value_name = "ID", value_parser = saved_page::SOURCES)]
    source: String,
    /// The saved page; its kind is recognised.
    #[arg(long, value_name = "FILE")]
    page: PathBuf,
    /// Whose prices it should hold, as EXCHANGE:TICKER or TICKER; a page about another one is refused.
    #[arg(long, value_name = "TICKER")]
    ticker: Option<String>,
}

/// Lists them.
pub async fn list(settings: &Settings, as_json: bool) -> anyhow::Result<u8> {
    crate::telemetry::start_logging(settings, true)?;
    let client = Client::connect(settings, false).await?;
    let answer = client.get("/v1/sources").await;
    client.close().await?;
    let answer = answer?;
    if !answer.is_ok() {
        return failed(&answer, as_json);
    }
    match as_json {
        true => print_json(&answer.body)?,
        false => outln!("{}", items_table(&LISTED, &answer.body)),
    }
    Ok(0)
}

const LISTED: [&str; 12] = [
    "exchange",
    "order",
    "id",
    "host",
    "paused",
    "pause_ms",
    "used_today",
    "left_today",
    "breaker",
    "last_success_at",
    "last_error_at",
    "last_error",
];

/// Reads the page.
pub fn parse(asked: &Asked, as_json: bool) -> anyhow::Result<u8> {
    let ticker = match asked.ticker() {
        Ok(ticker) => ticker,
        Err(why) => {
            eprintln!("retainai: --ticker: {why}");
            return Ok(2);
        }
    };
    let shown = asked.page.display();
    let bytes = match read(&asked.page) {
        Ok(bytes) => bytes,
        Err(why) => {
            eprintln!("retainai: {shown} cannot be read: {why}");
            return Ok(1);
        }
    };
    let reading = match saved_page::read(&asked.source, &bytes, ticker.as_ref()) {
        Ok(reading) => reading,
        Err(kind) => {
            let word = kind.word();
            eprintln!(
                "retainai: {}",
                kind.while_doing(format!("{word}: reading {shown} as a page of {}", asked.source))
            );
            return Ok(1);
        }
    };
    for why in &reading.refused {
        eprintln!("retainai: refused: {why}");
    }
    let exchange = saved_page::exchange(&asked.source);
    let rows: Vec<Value> = reading.rows.iter().map(|(ticker, bar)| row(exchange, ticker.as_ref(), bar)).collect();
    if as_json {
        print_json(&Value::Array(rows))?;
    } else {
        let columns = ["exchange", "ticker", "date", "open", "high", "low", "close", "ltp", "prev_close", "volume"];
        let cells: Vec<Vec<String>> =
            rows.iter().map(|row| columns.iter().map(|key| crate::output::cell(row, key)).collect()).collect();
        outln!("{}", table(&columns, &cells));
    }
    Ok(0)
}

fn row(exchange: Option<Exchange>, ticker: Option<&Ticker>, bar: &Bar) -> Value {
    json!({
        "exchange": ticker.map(Ticker::exchange).or(exchange).map(|exchange| exchange.as_str()),
        "ticker": ticker.map(Ticker::symbol),
        "date": bar.session.to_string(),
        "open": bar.open,
        "high": bar.high,
        "low": bar.low,
        "close": bar.close,
        "ltp": bar.ltp,
        "prev_close": bar.prev_close,
        "volume": bar.volume,
    })
}

impl Asked {
    /// The ticker that the page should be about. A csv file says it by its place, EXCHANGE/TICKER.csv.
    fn ticker(&self) -> Result<Option<Ticker>, String> {
        let of_source = saved_page::exchange(&self.source);
        let ticker = match (&self.ticker, of_source) {
            (None, None) => return Ok(by_place(&self.page)),
            (None, Some(_)) => return Ok(None),
            (Some(text), _) if text.contains(':') => Ticker::parse(text),
            (Some(text), Some(exchange)) => Ticker::new(exchange, text),
            (Some(text), None) => match by_place(&self.page) {
                Some(placed) => Ticker::new(placed.exchange(), text),
                None => return Err(format!("say which exchange `{text}` is on, for example NASDAQ:{text}")),
            },
        };
        let ticker = ticker.map_err(|why| why.to_string())?;
        match of_source {
            Some(exchange) if exchange != ticker.exchange() => {
                Err(format!("{} has no prices of {}", self.source, ticker.exchange()))
            }
            _ => Ok(Some(ticker)),
        }
    }
}

fn by_place(page: &Path) -> Option<Ticker> {
    let exchange: Exchange = page.parent()?.file_name()?.to_str()?.parse().ok()?;
    Ticker::new(exchange, page.file_stem()?.to_str()?).ok()
}

fn read(page: &Path) -> Result<Vec<u8>, String> {
    let length = std::fs::metadata(page).map_err(|e| e.to_string())?.len();
    if length > FILE_LIMIT {
        return Err(format!("it has {length} bytes, and pages have at most {FILE_LIMIT}"));
    }
    std::fs::read(page).map_err(|e| e.to_string())
}
