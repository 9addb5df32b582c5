//! Yahoo's chart answer: parallel arrays, float32 noise, closes split-adjusted as of now, a live row for today.

use crate::{
    fault::FaultKind,
    world::{Listing, Row, World, closes_at, opens_at},
};
use chrono::{DateTime, Datelike, Days, Months, NaiveDate, Offset, TimeZone, Utc};
use market::Exchange;
use serde::Deserialize;
use serde_json::{Map, Value, json};

const EXCHANGE: Exchange = Exchange::Nasdaq;

/// Days without a session for which Yahoo nevertheless lists a row, all null: the storm of October 2012.
const NULL_DAYS: [(i32, u32, u32); 2] = [(2012, 10, 29), (2012, 10, 30)];

/// The query of a chart request. Only daily bars are served.
#[derive(Debug, Default, Deserialize)]
pub struct ChartQuery {
    /// First instant, unix seconds.
    pub period1: Option<i64>,
    /// The instant before which it ends, unix seconds.
    pub period2: Option<i64>,
    /// Instead of the two: `5d`, `6mo`, `max`, …
    pub range: Option<String>,
}

/// The answer for `symbol` at `now`: status and body.
pub fn chart(
    world: &World,
    symbol: &str,
    query: &ChartQuery,
    now: DateTime<Utc>,
    fault: Option<FaultKind>,
) -> (u16, String) {
    let listing = world.find(EXCHANGE, symbol);
    let Some((listing, listed)) = listing.map(|l| (l, begun(l, now))).filter(|(_, listed)| !listed.is_empty()) else {
        return (404, unknown());
    };
    let rows = match fault {
        Some(FaultKind::Stale) => &listed[..listed.len() - 1],
        _ => listed,
    };
    let (from, until) = bounds(query, now);
    let mut series = Columns::default();
    if fault != Some(FaultKind::Empty) {
        // A split of the last month is not yet applied to what came before it.
        let splits_until = if fault == Some(FaultKind::Lag) { now - Days::new(30) } else { now };
        series.fill(listing, rows, (now, splits_until), from, until);
    }
    let mut result = json!({ "meta": meta(world, listing, rows, now, fault), "indicators": series.indicators() });
    if !series.timestamps.is_empty() {
        let name = if fault == Some(FaultKind::LayoutChanged) { "times" } else { "timestamp" };
        result[name] = json!(series.timestamps);
    }
    let splits = split_events(listing, now, from, until);
    if !splits.is_empty() {
        result["events"] = json!({ "splits": splits });
    }
    (200, json!({ "chart": { "result": [result], "error": null } }).to_string())
}

fn unknown() -> String {
    json!({ "chart": { "result": null, "error": { "code": "Not Found", "description": "No data found, symbol may be delisted" } } })
        .to_string()
}

/// The rows whose session has begun.
fn begun(listing: &Listing, now: DateTime<Utc>) -> &[Row] {
    let count = listing.rows.partition_point(|row| opens_at(EXCHANGE, row.session) <= now);
    &listing.rows[..count]
}

#[derive(Default)]
struct Columns {
    timestamps: Vec<i64>,
    open: Vec<Value>,
    high: Vec<Value>,
    low: Vec<Value>,
    close: Vec<Value>,
    volume: Vec<Value>,
}

impl Columns {
    /// The rows as of now, with the splits applied that were in effect by the second instant.
    fn fill(
        &mut self,
        listing: &Listing,
        rows: &[Row],
        (now, splits_until): (DateTime<Utc>, DateTime<Utc>),
        from: i64,
        until: i64,
    ) {
        let null_days: Vec<NaiveDate> =
            NULL_DAYS.iter().filter_map(|(y, m, d)| NaiveDate::from_ymd_opt(*y, *m, *d)).collect();
        let mut last: Option<NaiveDate> = None;
        for row in rows {
            for day in null_days.iter().filter(|day| **day < row.session && last.is_some_and(|last| **day > last)) {
                let opened = opens_at(EXCHANGE, *day).timestamp();
                if (from..until).contains(&opened) {
                    self.push(opened, None, 1.0);
                }
            }
            last = Some(row.session);
            if (from..until).contains(&opens_at(EXCHANGE, row.session).timestamp()) {
                let (timestamp, row) = as_of(row, now);
                self.push(timestamp, Some(&row), shares_at(listing, row.session, splits_until));
            }
        }
    }

    fn push(&mut self, timestamp: i64, row: Option<&Row>, shares: f64) {
        let price = |value: f64| json!(f64::from((value / shares) as f32));
        let cell = |pick: fn(&Row) -> f64| row.map_or(Value::Null, |row| price(pick(row)));
        self.timestamps.push(timestamp);
        self.open.push(cell(|row| row.open));
        self.high.push(cell(|row| row.high));
        self.low.push(cell(|row| row.low));
        self.close.push(cell(|row| row.close));
        self.volume.push(row.map_or(Value::Null, |row| json!((row.volume * shares).round() as u64)));
    }

    fn indicators(&self) -> Value {
        if self.timestamps.is_empty() {
            return json!({ "quote": [{}], "adjclose": [{}] });
        }
        json!({
            "quote": [{ "open": self.open, "high": self.high, "low": self.low, "close": self.close, "volume": self.volume }],
            "adjclose": [{ "adjclose": self.close }],
        })
    }
}

/// The row as the site shows it at `now`, and its timestamp: the open for past days; for today the last trade,
/// and while the market is open only what has happened so far.
fn as_of(row: &Row, now: DateTime<Utc>) -> (i64, Row) {
    let (open, close) = (opens_at(EXCHANGE, row.session), closes_at(EXCHANGE, row.session));
    if now.with_timezone(&EXCHANGE.zone()).date_naive() > row.session {
        return (open.timestamp(), *row);
    }
    if now >= close {
        return (close.timestamp() + 1, *row);
    }
    let share = (now - open).num_seconds() as f64 / (close - open).num_seconds() as f64;
    let last = row.open + (row.close - row.open) * share;
    let so_far =
        Row { high: row.open.max(last), low: row.open.min(last), close: last, volume: row.volume * share, ..*row };
    (now.timestamp(), so_far)
}

/// How many of today's shares one share of that session has become, through the splits in effect at `now`.
fn shares_at(listing: &Listing, session: NaiveDate, now: DateTime<Utc>) -> f64 {
    let in_effect = listing.splits.iter().filter(|split| opens_at(EXCHANGE, split.session) <= now);
    in_effect.filter(|split| split.session > session).map(|split| split.shares).product()
}

fn split_events(listing: &Listing, now: DateTime<Utc>, from: i64, until: i64) -> Map<String, Value> {
    let mut events = Map::new();
    for split in &listing.splits {
        let opened = opens_at(EXCHANGE, split.session);
        if opened <= now && (from..until).contains(&opened.timestamp()) {
            let event = json!({ "date": opened.timestamp(), "numerator": split.shares, "denominator": "1",
                "splitRatio": format!("{}:1", split.shares) });
            events.insert(opened.timestamp().to_string(), event);
        }
    }
    events
}

fn meta(world: &World, listing: &Listing, rows: &[Row], now: DateTime<Utc>, fault: Option<FaultKind>) -> Value {
    let symbol = if fault == Some(FaultKind::WrongSymbol) { "QQQX" } else { listing.ticker.symbol() };
    let last = rows.last().map(|row| as_of(row, now));
    let today = now.with_timezone(&EXCHANGE.zone()).date_naive();
    // Yahoo shows today's hours, or those of the next day on which it expects a session.
    let trading_day = world.sessions(EXCHANGE).range(today..).next().copied().unwrap_or(today);
    let zone = EXCHANGE.zone();
    let gmtoffset = zone.offset_from_utc_datetime(&now.naive_utc()).fix().local_minus_utc();
    let regular = json!({ "timezone": "EST", "gmtoffset": gmtoffset,
        "start": opens_at(EXCHANGE, trading_day).timestamp(), "end": closes_at(EXCHANGE, trading_day).timestamp() });
    json!({
        "currency": EXCHANGE.currency(), "symbol": symbol, "exchangeName": "NMS", "fullExchangeName": "NasdaqGS",
        "instrumentType": "EQUITY", "regularMarketTime": last.map(|(timestamp, _)| timestamp),
        "regularMarketPrice": last.map(|(_, row)| f64::from(row.close as f32)), "gmtoffset": gmtoffset,
        "timezone": "EST", "exchangeTimezoneName": zone.name(), "longName": listing.name, "shortName": listing.name,
        "priceHint": 2, "currentTradingPeriod": { "regular": regular }, "dataGranularity": "1d", "range": "",
        "validRanges": ["1d", "5d", "1mo", "3mo", "6mo", "1y", "2y", "5y", "10y", "ytd", "max"],
    })
}

/// The instants between which sessions open, as the query asks: `period2` itself is out.
fn bounds(query: &ChartQuery, now: DateTime<Utc>) -> (i64, i64) {
    let until = query.period2.unwrap_or(i64::MAX);
    if let Some(from) = query.period1 {
        return (from, until);
    }
    let today = now.with_timezone(&EXCHANGE.zone()).date_naive();
    let months = |n: u32| today - Months::new(n);
    let from = match query.range.as_deref().unwrap_or("1mo") {
        "1d" => today,
        "5d" => today - Days::new(7),
        "3mo" => months(3),
        "6mo" => months(6),
        "1y" => months(12),
        "2y" => months(24),
        "5y" => months(60),
        "10y" => months(120),
        "ytd" => today.with_ordinal(1).unwrap_or(today),
        "max" => return (i64::MIN, until),
        _ => months(1),
    };
    (opens_at(EXCHANGE, from).timestamp(), until)
}
