//! Tiingo's answers: a description by name, and prices as they were traded, oldest first, with the split of each day beside them. It wants
//! a key in a header, and says little when it does not get one.

use crate::{
    fault::FaultKind,
    world::{Listing, Row, World},
};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use market::Exchange;
use serde::Deserialize;
use serde_json::{Value, json};

const EXCHANGE: Exchange = Exchange::Nasdaq;

/// The only key that the stand-in accepts.
pub const TIINGO_KEY: &str = "market-sim-key";

/// When the day's prices appear, in New York.
const READY: NaiveTime = NaiveTime::from_hms_opt(17, 30, 0).expect("a valid time");

/// The query of a request for prices.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PricesQuery {
    /// First day.
    pub start_date: Option<NaiveDate>,
    /// Last day.
    pub end_date: Option<NaiveDate>,
}

/// What is answered to a request without the right key; `None` with it.
pub fn refused(authorization: Option<&str>) -> Option<(u16, String)> {
    let detail = |words: &str| json!({ "detail": words }).to_string();
    match authorization.and_then(|text| text.strip_prefix("Token ")) {
        Some(TIINGO_KEY) => None,
        Some(_) => Some((401, detail("Invalid token."))),
        // Seen with status 200 as well.
        None => Some((200, detail("Please supply a token"))),
    }
}

/// What it knows under this name.
pub fn meta(world: &World, symbol: &str, fault: Option<FaultKind>) -> (u16, String) {
    let Some(listing) = find(world, symbol) else { return unknown(symbol) };
    let echoed = if fault == Some(FaultKind::WrongSymbol) { "QQQX" } else { listing.ticker.symbol() };
    let day = |row: Option<&Row>| row.map(|row| row.session.to_string());
    let answer = json!({
        "ticker": echoed, "name": listing.name, "exchangeCode": "NASDAQ", "description": "",
        "startDate": day(listing.rows.first()), "endDate": day(listing.rows.last()),
    });
    (200, answer.to_string())
}

/// The prices of `symbol` as known at `now`; without dates only the newest.
pub fn prices(
    world: &World,
    symbol: &str,
    query: &PricesQuery,
    now: DateTime<Utc>,
    fault: Option<FaultKind>,
) -> (u16, String) {
    let Some(listing) = find(world, symbol) else { return unknown(symbol) };
    let local = now.with_timezone(&EXCHANGE.zone()).naive_local();
    let ready = |row: &&Row| row.session < local.date() || row.session == local.date() && local.time() >= READY;
    let known = &listing.rows[..listing.rows.iter().take_while(ready).count()];
    let known = match fault {
        Some(FaultKind::Stale) => &known[..known.len().saturating_sub(1)],
        Some(FaultKind::Empty) => &[],
        _ => known,
    };
    let from = query.start_date.or_else(|| known.last().map(|row| row.session));
    let asked = known.iter().filter(|row| {
        from.is_none_or(|from| row.session >= from) && query.end_date.is_none_or(|until| row.session <= until)
    });
    let close = if fault == Some(FaultKind::LayoutChanged) { "last" } else { "close" };
    let rows: Vec<Value> = asked.map(|row| row_of(listing, row, close)).collect();
    (200, Value::Array(rows).to_string())
}

fn find<'a>(world: &'a World, symbol: &str) -> Option<&'a Listing> {
    world.find(EXCHANGE, symbol)
}

fn unknown(symbol: &str) -> (u16, String) {
    (404, json!({ "detail": format!("Error: Ticker '{symbol}' not found") }).to_string())
}

fn row_of(listing: &Listing, row: &Row, close: &str) -> Value {
    let split = listing.splits.iter().find(|split| split.session == row.session).map_or(1.0, |split| split.shares);
    let later: f64 =
        listing.splits.iter().filter(|split| split.session > row.session).map(|split| split.shares).product();
    json!({
        "date": format!("{}T00:00:00.000Z", row.session),
        close: row.close, "high": row.high, "low": row.low, "open": row.open, "volume": row.volume as u64,
        "adjClose": row.close / later, "adjHigh": row.high / later, "adjLow": row.low / later, "adjOpen": row.open / later,
        "adjVolume": (row.volume * later) as u64, "divCash": 0.0, "splitFactor": split,
    })
}
