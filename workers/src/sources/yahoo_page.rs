//! Reads a Yahoo chart answer (v8, JSON): pure. In comes its text, out come bars in order, finished or not, and what was refused.
//! Closes are split-adjusted by Yahoo, for all of history; prices carry float32 noise, which `RawBar::check` rounds away.

use super::error::SourceErrorKind as Kind;
use chrono::{DateTime, NaiveDate, Utc};
use market::{Bar, RawBar, Split, Ticker};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the answer holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ChartPage {
    /// Sound bars, ascending, each session once; the newest may still be unfinished.
    pub bars: Vec<Bar>,
    /// Splits that it announces, ascending. Mostly its closes have them applied already; sometimes that comes days later.
    pub splits: Vec<Split>,
    /// The newest session on the page.
    pub page_session: Option<NaiveDate>,
    /// Refused rows, in words.
    pub refused: Vec<String>,
}

#[derive(Deserialize)]
struct Answer {
    chart: Chart,
}

#[derive(Deserialize)]
struct Chart {
    result: Option<Vec<Instrument>>,
    error: Option<Fault>,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(default)]
    code: String,
    #[serde(default)]
    description: String,
}

#[derive(Deserialize)]
struct Instrument {
    meta: Meta,
    #[serde(default)]
    timestamp: Vec<Option<i64>>,
    /// Read leniently: what cannot be read here must not hide the prices.
    #[serde(default)]
    events: Value,
    indicators: Indicators,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    symbol: String,
    currency: Option<String>,
    exchange_timezone_name: Option<String>,
    regular_market_time: Option<i64>,
    data_granularity: Option<String>,
    #[serde(default)]
    current_trading_period: Option<Periods>,
}

#[derive(Deserialize)]
struct Periods {
    regular: Option<Hours>,
}

#[derive(Deserialize)]
struct Hours {
    start: Option<i64>,
    end: Option<i64>,
}

impl Meta {
    /// The time stamp of the live row, when the page was made while the market was open: its close is none.
    fn live_row(&self) -> Option<i64> {
        let hours = self.current_trading_period.as_ref()?.regular.as_ref()?;
        self.regular_market_time.filter(|last| (hours.start..hours.end).contains(&Some(*last)))
    }
}

#[derive(Deserialize)]
struct Indicators {
    #[serde(default)]
    quote: Vec<Quote>,
}

#[derive(Deserialize, Default)]
struct Quote {
    #[serde(default)]
    open: Vec<Option<f64>>,
    #[serde(default)]
    high: Vec<Option<f64>>,
    #[serde(default)]
    low: Vec<Option<f64>>,
    #[serde(default)]
    close: Vec<Option<f64>>,
    #[serde(default)]
    volume: Vec<Option<f64>>,
}

/// The symbol that the answer is about; `None` where it says none.
pub(crate) fn symbol(text: &str) -> Option<String> {
    let answer: Answer = serde_json::from_str(text).ok()?;
    Some(answer.chart.result?.into_iter().next()?.meta.symbol)
}

/// The symbol as Yahoo spells it: share classes with a dash.
pub fn spelled(ticker: &Ticker) -> String {
    ticker.symbol().replace('.', "-")
}

/// Reads the answer to a question about `ticker`.
///
/// # Errors
/// `NotFound` for an unknown symbol, `Empty` without rows, `Identity` when it speaks of another one or in another currency, `LayoutChanged` when its columns do not
/// fit together, `Parse` when it is no such JSON at all.
pub fn parse(text: &str, ticker: &Ticker) -> Result<ChartPage, Kind> {
    let answer: Answer = serde_json::from_str(text).map_err(|e| Kind::Parse(e.to_string()))?;
    if let Some(fault) = answer.chart.error {
        return Err(match fault.code.as_str() {
            "Not Found" => Kind::NotFound,
            code => Kind::Parse(format!("{code}: {}", fault.description)),
        });
    }
    let instrument = answer.chart.result.unwrap_or_default().into_iter().next().ok_or(Kind::Empty)?;
    check_identity(&instrument.meta, ticker)?;
    if instrument.timestamp.is_empty() {
        // Never an empty page: to the asker that would look like a day on which the exchange was closed.
        let prices = instrument.indicators.quote.iter().any(|quote| !quote.close.is_empty());
        return Err(if prices { Kind::layout("a `timestamp` per price", "prices without any") } else { Kind::Empty });
    }
    if let Some(other) = instrument.meta.data_granularity.as_deref().filter(|name| *name != "1d") {
        return Err(Kind::layout("one row a day (dataGranularity 1d)", other));
    }
    let live_row = instrument.meta.live_row();
    let zone: chrono_tz::Tz = match &instrument.meta.exchange_timezone_name {
        Some(name) => name.parse().map_err(|_| Kind::layout("a known zone in exchangeTimezoneName", name))?,
        None => ticker.exchange().zone(),
    };
    let quote = instrument.indicators.quote.into_iter().next().ok_or_else(|| Kind::layout("one quote", "none"))?;
    let rows = instrument.timestamp.len();
    let columns = [
        ("open", &quote.open),
        ("high", &quote.high),
        ("low", &quote.low),
        ("close", &quote.close),
        ("volume", &quote.volume),
    ];
    for (name, column) in columns {
        // `close` must be there; the others may be left out as a whole.
        if column.len() != rows && (name == "close" || !column.is_empty()) {
            return Err(Kind::layout(format!("{rows} values in `{name}`"), column.len()));
        }
    }
    let mut page = collect(&instrument.timestamp, &quote, zone, live_row);
    read_splits(&instrument.events["splits"], zone, &mut page);
    Ok(page)
}

/// The splits among the events. Their numbers come as 4, as 4.0 or as "4".
fn read_splits(events: &Value, zone: chrono_tz::Tz, page: &mut ChartPage) {
    let entries: Vec<&Value> = match events {
        Value::Object(by_time) => by_time.values().collect(),
        Value::Array(list) => list.iter().collect(),
        _ => return,
    };
    let mut splits = BTreeMap::new();
    for event in entries {
        match read_split(event, zone) {
            Some(split) => {
                splits.insert(split.session, split);
            }
            None => page.refused.push(format!(
                "an announced split that cannot be read: {}",
                event.to_string().chars().take(120).collect::<String>()
            )),
        }
    }
    page.splits = splits.into_values().collect();
}

fn read_split(event: &Value, zone: chrono_tz::Tz) -> Option<Split> {
    let number = |value: &Value| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let whole = |value: &Value| value.as_i64().or_else(|| value.as_str()?.trim().parse().ok());
    let of_ratio = || {
        let (new, old) = event["splitRatio"].as_str()?.split_once([':', '/'])?;
        Some((new.trim().parse::<f64>().ok()?, old.trim().parse::<f64>().ok()?))
    };
    let (new, old) = number(&event["numerator"]).zip(number(&event["denominator"])).or_else(of_ratio)?;
    let shares = new / old;
    let at = DateTime::<Utc>::from_timestamp(whole(&event["date"])?, 0)?;
    let session = at.with_timezone(&zone).date_naive();
    (new > 0.0 && old > 0.0 && shares.is_finite() && shares > 0.0).then_some(Split { session, shares })
}

fn check_identity(meta: &Meta, ticker: &Ticker) -> Result<(), Kind> {
    let asked = spelled(ticker);
    let other = |got: String| Kind::Identity { asked: ticker.to_string(), got };
    if !meta.symbol.eq_ignore_ascii_case(&asked) {
        return Err(other(meta.symbol.clone()));
    }
    match &meta.currency {
        Some(currency) if currency != ticker.exchange().currency() => {
            Err(other(format!("{} in {currency}", meta.symbol)))
        }
        _ => Ok(()),
    }
}

fn collect(timestamps: &[Option<i64>], quote: &Quote, zone: chrono_tz::Tz, live_row: Option<i64>) -> ChartPage {
    let at = |column: &[Option<f64>], row: usize| column.get(row).copied().flatten();
    let mut page = ChartPage::default();
    let mut by_session: BTreeMap<NaiveDate, Bar> = BTreeMap::new();
    for (row, stamp) in timestamps.iter().enumerate() {
        let session =
            stamp.and_then(|s| DateTime::<Utc>::from_timestamp(s, 0)).map(|t| t.with_timezone(&zone).date_naive());
        let raw = RawBar {
            session,
            open: at(&quote.open, row),
            high: at(&quote.high, row),
            low: at(&quote.low, row),
            close: at(&quote.close, row),
            volume: at(&quote.volume, row),
            ..RawBar::default()
        };
        // A row of nulls stands for a day on which this security did not trade.
        if raw.close.is_none() && raw.open.is_none() && raw.high.is_none() && raw.low.is_none() {
            continue;
        }
        page.page_session = page.page_session.max(session);
        if stamp.is_some() && *stamp == live_row {
            continue;
        }
        match raw.check() {
            // A second row of one day is the live one: the later says more.
            Ok(bar) => {
                by_session.insert(bar.session, bar);
            }
            Err(why) => page.refused.push(format!(
                "row {} ({}): {why}",
                row + 1,
                session.map(|s| s.to_string()).unwrap_or_default()
            )),
        }
    }
    page.bars = by_session.into_values().collect();
    page
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn apple() -> Ticker {
        Ticker::parse("NASDAQ:AAPL").unwrap()
    }

    fn answer(symbol: &str, closes: &str) -> String {
        format!(
            r#"{{"chart":{{"result":[{{"meta":{{"currency":"USD","symbol":"{symbol}","exchangeTimezoneName":"America/New_York"}},
            "timestamp":[1761571800,1761658200,1761768001],"indicators":{{"quote":[{{"open":[1,2,3],"high":[2,3,4],"low":[1,2,3],
            "close":{closes},"volume":[10,null,30]}}]}}}}],"error":null}}}}"#
        )
    }

    #[test]
    fn reads_rows_in_the_exchanges_dates() {
        let page = parse(&answer("AAPL", "[1.50999755859375,2.5,3.5]"), &apple()).unwrap();
        let read: Vec<(String, f64)> = page.bars.iter().map(|b| (b.session.to_string(), b.close)).collect();
        assert_eq!(read, [("2025-10-27".into(), 1.51), ("2025-10-28".into(), 2.5), ("2025-10-29".into(), 3.5)]);
        assert_eq!(page.page_session.unwrap().to_string(), "2025-10-29");
    }

    #[test]
    fn bad_rows_are_refused_and_good_ones_kept() {
        let page = parse(&answer("AAPL", "[-1,null,3.5]"), &apple()).unwrap();
        assert_eq!((page.bars.len(), page.refused.len()), (1, 2), "{page:?}");
    }

    #[test]
    fn the_live_row_of_an_open_market_is_no_close() {
        let meta = r#""regularMarketTime":1761768001,"currentTradingPeriod":{"regular":{"start":1761744600,"end":LATER}},"symbol""#;
        let with = |end: &str| answer("AAPL", "[1,2,3]").replace("\"symbol\"", &meta.replace("LATER", end));
        let open = parse(&with("1761768002"), &apple()).unwrap();
        assert_eq!((open.bars.len(), open.page_session.unwrap().to_string().as_str()), (2, "2025-10-29"));
        assert_eq!(parse(&with("1761768000"), &apple()).unwrap().bars.len(), 3, "after the bell it is one");
        let hourly = answer("AAPL", "[1,2,3]").replace("\"symbol\"", "\"dataGranularity\":\"1h\",\"symbol\"");
        assert!(matches!(parse(&hourly, &apple()), Err(Kind::LayoutChanged { .. })));
    }

    #[test]
    fn announced_splits_are_read_however_their_numbers_are_written() {
        let with = |events: &str| {
            let text =
                answer("AAPL", "[1,2,3]").replace("\"indicators\"", &format!("\"events\":{events},\"indicators\""));
            parse(&text, &apple()).unwrap()
        };
        for numbers in [
            r#""numerator":4,"denominator":1"#,
            r#""numerator":4.0,"denominator":1.0,"splitRatio":"4:1""#,
            r#""numerator":"4","denominator":"1""#,
            r#""splitRatio":"4:1""#,
        ] {
            let page =
                with(&format!(r#"{{"dividends":{{}},"splits":{{"1761658200":{{"date":1761658200,{numbers}}}}}}}"#));
            assert_eq!(page.splits, [Split { session: "2025-10-28".parse().unwrap(), shares: 4.0 }], "{numbers}");
        }
        for spoilt in
            [r#"{"date":1761658200,"numerator":4,"denominator":0}"#, r#"{"numerator":4,"denominator":1}"#, "7"]
        {
            let page = with(&format!(r#"{{"splits":{{"x":{spoilt}}}}}"#));
            assert_eq!((page.splits.len(), page.refused.len(), page.bars.len()), (0, 1, 3), "{spoilt}");
        }
        for none in ["null", "{}", "[]", r#"{"splits":null}"#, r#"{"splits":[]}"#] {
            assert_eq!(with(none), with("null"), "{none}");
        }
    }

    #[test]
    fn says_what_is_wrong() {
        assert!(matches!(parse(&answer("MSFT", "[1,2,3]"), &apple()), Err(Kind::Identity { .. })));
        assert!(matches!(parse(&answer("AAPL", "[1,2]"), &apple()), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse(&answer("AAPL", "[1,2,3]")[..200], &apple()), Err(Kind::Parse(_))));
        let missing = r#"{"chart":{"result":null,"error":{"code":"Not Found","description":"No data found"}}}"#;
        assert_eq!(parse(missing, &apple()), Err(Kind::NotFound));
        let renamed = answer("AAPL", "[1,2,3]").replace("timestamp", "times");
        assert!(matches!(parse(&renamed, &apple()), Err(Kind::LayoutChanged { .. })));
        assert_eq!(spelled(&Ticker::parse("NASDAQ:BRK.B").unwrap()), "BRK-B");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", cut in 0usize..400) {
            let _ = parse(&text, &apple());
            let whole = answer("AAPL", "[1e308,2,3]");
            let _ = parse(&whole[..cut.min(whole.len())], &apple());
        }
    }
}
