//! The answer of api.nasdaq.com's history: newest first, dollars and commas, American dates, errors with HTTP 200. Its prices are as
//! they were published, not adjusted for splits that came later; of the real site nobody knows.

use crate::{
    fault::FaultKind,
    sharesansar::money,
    world::{Row, World},
};
use chrono::{DateTime, NaiveDate, Utc};
use market::Exchange;
use serde::Deserialize;
use serde_json::{Value, json};

const EXCHANGE: Exchange = Exchange::Nasdaq;

/// So many rows without `limit`.
const FEW: usize = 14;

/// The query of a history request.
#[derive(Debug, Default, Deserialize)]
pub struct HistoryQuery {
    /// `stocks` or `etf`.
    pub assetclass: Option<String>,
    /// First day.
    pub fromdate: Option<NaiveDate>,
    /// Last day.
    pub todate: Option<NaiveDate>,
    /// Most rows.
    pub limit: Option<usize>,
}

/// The answer for `symbol` at `now`.
pub fn historical(
    world: &World,
    symbol: &str,
    query: &HistoryQuery,
    now: DateTime<Utc>,
    fault: Option<FaultKind>,
) -> String {
    let (Some(listing), Some(last)) = (world.find(EXCHANGE, symbol), world.last_closed_session(EXCHANGE, now)) else {
        return refusal();
    };
    let class = if fault == Some(FaultKind::Fund) { "etf" } else { "stocks" };
    if query.assetclass.as_deref() != Some(class) {
        return refusal();
    }
    let last = match fault {
        Some(FaultKind::Stale) => world.sessions(EXCHANGE).range(..last).next_back().copied().unwrap_or(last),
        _ => last,
    };
    let (from, until) = (query.fromdate.unwrap_or(last), query.todate.unwrap_or(last).min(last));
    let asked = listing.rows.iter().rev().filter(|row| row.session >= from && row.session <= until);
    let rows: Vec<Value> = match fault {
        Some(FaultKind::Empty) => Vec::new(),
        _ => asked.take(query.limit.unwrap_or(FEW)).map(row).collect(),
    };
    let echoed = if fault == Some(FaultKind::WrongSymbol) { "QQQX" } else { listing.ticker.symbol() };
    let close = if fault == Some(FaultKind::LayoutChanged) { "Adj. Close" } else { "Close/Last" };
    json!({
        "data": {
            "symbol": echoed,
            "totalRecords": rows.len(),
            "tradesTable": {
                "asOf": null,
                "headers": { "date": "Date", "close": close, "volume": "Volume", "open": "Open", "high": "High", "low": "Low" },
                "rows": rows,
            },
        },
        "message": null,
        "status": { "rCode": 200, "bCodeMessage": null, "developerMessage": null },
    })
    .to_string()
}

fn row(row: &Row) -> Value {
    let dollars = |value: f64| format!("${}", price(value));
    let volume = money(row.volume);
    json!({
        "date": row.session.format("%m/%d/%Y").to_string(), "close": dollars(row.close),
        "volume": volume.split('.').next(), "open": dollars(row.open), "high": dollars(row.high), "low": dollars(row.low),
    })
}

/// Two decimals, or four where there are more than two.
fn price(value: f64) -> String {
    let exact = format!("{value:.4}");
    let decimals = exact.rsplit('.').next().unwrap_or_default().trim_end_matches('0');
    match money(value.trunc()).split_once('.') {
        Some((whole, _)) if decimals.len() > 2 => format!("{whole}.{decimals}"),
        _ => money(value),
    }
}

/// What it says of a symbol that it does not know, with HTTP 200.
fn refusal() -> String {
    json!({
        "data": null,
        "message": null,
        "status": { "rCode": 400, "bCodeMessage": [{ "code": 1001, "errorMessage": "Symbol not exists." }], "developerMessage": null },
    })
    .to_string()
}
