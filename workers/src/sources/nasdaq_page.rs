//! Reads an answer of api.nasdaq.com's history (JSON): pure. In comes its text, out come bars in order and what was refused.
//! Columns by their titles; whether the prices are adjusted for splits the answer does not say.

use super::error::SourceErrorKind as Kind;
use super::yahoo_page::ChartPage;
use chrono::NaiveDate;
use market::{Bar, RawBar, Ticker, parse_number};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

#[derive(Deserialize)]
struct Answer {
    #[serde(default)]
    data: Option<Quote>,
    #[serde(default)]
    message: Option<String>,
    status: Option<Status>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Quote {
    symbol: String,
    trades_table: Option<Table>,
}

#[derive(Deserialize)]
struct Table {
    headers: Option<BTreeMap<String, Option<String>>>,
    rows: Option<Vec<Map<String, Value>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    r_code: Option<i64>,
    b_code_message: Option<Value>,
}

/// The keys of a row by what their titles say.
struct Columns {
    date: String,
    close: String,
    others: [String; 4],
}

/// The symbol that the answer is about, upper case; `None` where it says none.
pub(crate) fn symbol(text: &str) -> Option<String> {
    let answer: Answer = serde_json::from_str(text).ok()?;
    Some(answer.data?.symbol.to_ascii_uppercase())
}

/// Reads the answer to a question about `ticker`.
///
/// # Errors
/// `NotFound` for an unknown symbol, `Empty` without rows, `Identity` when it speaks of another one, `LayoutChanged` when a title is
/// missing, what its own status says when that is not 200 (these come as HTTP 200), `Parse` when it is no such JSON at all.
pub fn parse(text: &str, ticker: &Ticker) -> Result<ChartPage, Kind> {
    let answer: Answer = serde_json::from_str(text).map_err(|e| Kind::Parse(e.to_string()))?;
    let Some(status) = answer.status else { return Err(Kind::layout("a `status`", "none")) };
    let quote = match (answer.data, status.r_code) {
        (Some(quote), Some(200)) => quote,
        (None, Some(200)) => return Err(Kind::Empty),
        (_, code) => return Err(refusal(code, status.b_code_message.as_ref(), answer.message.as_deref())),
    };
    if !quote.symbol.eq_ignore_ascii_case(ticker.symbol()) {
        return Err(Kind::Identity { asked: ticker.to_string(), got: quote.symbol });
    }
    let Some(table) = quote.trades_table else { return Err(Kind::Empty) };
    let rows = table.rows.unwrap_or_default();
    if rows.is_empty() {
        return Err(Kind::Empty);
    }
    let columns = columns(&table.headers.unwrap_or_default())?;
    collect(&rows, &columns)
}

/// What an answer without data says. Its code is that of HTTP; the words of an unknown symbol are the only ones that we know.
fn refusal(code: Option<i64>, words: Option<&Value>, message: Option<&str>) -> Kind {
    let words = words.filter(|words| !words.is_null()).map(ToString::to_string);
    let said: String = words.or_else(|| message.map(str::to_owned)).unwrap_or_default().chars().take(200).collect();
    let unknown = ["not exist", "not found", "1001"].iter().any(|word| said.to_ascii_lowercase().contains(word));
    match code {
        Some(400 | 404) if unknown => Kind::NotFound,
        Some(429) => Kind::RateLimited { retry_after: None },
        Some(401 | 403) => Kind::Blocked(format!("its status says {said}")),
        Some(500..) => Kind::Transport(format!("its status says {said}")),
        code => {
            Kind::layout("rCode 200", format!("{} {said}", code.map_or_else(|| "none".to_owned(), |c| c.to_string())))
        }
    }
}

fn columns(headers: &BTreeMap<String, Option<String>>) -> Result<Columns, Kind> {
    let titles = || headers.values().flatten().map(String::as_str).collect::<Vec<_>>().join(", ");
    let need = |title: &str| {
        let found = headers.iter().find(|(_, t)| t.as_deref().is_some_and(|t| t.trim().eq_ignore_ascii_case(title)));
        found.map(|(key, _)| key.clone()).ok_or_else(|| Kind::layout(format!("a column `{title}`"), titles()))
    };
    Ok(Columns {
        date: need("Date")?,
        close: need("Close/Last")?,
        others: [need("Open")?, need("High")?, need("Low")?, need("Volume")?],
    })
}

fn collect(rows: &[Map<String, Value>], columns: &Columns) -> Result<ChartPage, Kind> {
    let mut page = ChartPage::default();
    let mut by_session: BTreeMap<NaiveDate, Bar> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        if let Some(key) =
            [&columns.date, &columns.close].into_iter().chain(&columns.others).find(|k| !row.contains_key(*k))
        {
            return Err(Kind::layout(format!("`{key}` in each row"), format!("row {} without it", at + 1)));
        }
        match read_row(row, columns) {
            Ok(bar) => {
                page.page_session = page.page_session.max(Some(bar.session));
                // Newest first: of two rows of one day the upper is the later.
                by_session.entry(bar.session).or_insert(bar);
            }
            Err(why) => page.refused.push(format!("row {}: {why}", at + 1)),
        }
    }
    page.bars = by_session.into_values().collect();
    Ok(page)
}

fn read_row(row: &Map<String, Value>, columns: &Columns) -> Result<Bar, String> {
    let text = |key: &String| match &row[key] {
        Value::Null => Ok(String::new()),
        Value::String(text) => Ok(text.clone()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(format!("`{other}` is neither text nor number")),
    };
    let number = |key: &String| parse_number(&text(key)?).map_err(|e| e.to_string());
    let day = text(&columns.date)?;
    let session = american_date(&day).ok_or_else(|| format!("the date `{day}` is not MM/DD/YYYY"))?;
    let [open, high, low, volume] = &columns.others;
    let raw = RawBar {
        session: Some(session),
        open: number(open)?,
        high: number(high)?,
        low: number(low)?,
        close: number(&columns.close)?,
        volume: number(volume)?,
        ..RawBar::default()
    };
    raw.check().map_err(|why| format!("{session}: {why}"))
}

/// `09/25/2026`, and nothing that only resembles it.
fn american_date(text: &str) -> Option<NaiveDate> {
    let text = text.trim();
    let fits = text.len() == 10 && text.is_ascii();
    fits.then(|| NaiveDate::parse_from_str(text, "%m/%d/%Y").ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn demo() -> Ticker {
        Ticker::parse("NASDAQ:DEMO").unwrap()
    }

    const PAGE: &str = r#"{"data":{"symbol":"DEMO","totalRecords":2,"tradesTable":{"asOf":null,
        "headers":{"date":"Date","close":"Close/Last","volume":"Volume","open":"Open","high":"High","low":"Low"},
        "rows":[{"date":"03/05/2026","close":"$1,011.50","volume":"2,500","open":"$1,000.00","high":"$1,020.25","low":"$999.00"},
                {"date":"03/04/2026","close":"$1,000.00","volume":"--","open":"N/A","high":"$1,001.00","low":"$998.00"}]}},
        "message":null,"status":{"rCode":200,"bCodeMessage":null,"developerMessage":null}}"#;

    #[test]
    fn reads_dollars_thousands_and_american_dates() {
        let page = parse(PAGE, &demo()).unwrap();
        let [old, new] = page.bars[..] else { panic!("{page:?}") };
        assert_eq!((old.session.to_string().as_str(), old.open, old.volume), ("2026-03-04", None, None));
        assert_eq!((new.session.to_string().as_str(), new.close, new.volume), ("2026-03-05", 1011.5, Some(2500.0)));
        assert_eq!((new.open, new.high, new.low), (Some(1000.0), Some(1020.25), Some(999.0)));
        assert_eq!((page.page_session, page.refused.len()), (Some(new.session), 0));
        assert_eq!(symbol(PAGE).as_deref(), Some("DEMO"));
    }

    #[test]
    fn columns_are_found_by_their_titles() {
        let swapped = PAGE
            .replace("\"open\":\"Open\"", "\"open\":\"High\"")
            .replace("\"high\":\"High\"", "\"high\":\"Open\"")
            .replace("$1,020.25", "$1,000.00 ")
            .replace("\"$1,000.00\",\"high\"", "\"$1,020.25\",\"high\"");
        let bar = *parse(&swapped, &demo()).unwrap().bars.last().unwrap();
        assert_eq!((bar.open, bar.high), (Some(1000.0), Some(1020.25)), "{swapped}");
        let renamed = PAGE.replace("Close/Last", "Adj. Close");
        assert!(matches!(parse(&renamed, &demo()), Err(Kind::LayoutChanged { .. })));
    }

    #[test]
    fn says_what_is_wrong() {
        let status = |code: i64, words: &str| {
            format!(
                r#"{{"data":null,"message":null,"status":{{"rCode":{code},"bCodeMessage":[{{"code":1,"errorMessage":"{words}"}}]}}}}"#
            )
        };
        assert_eq!(parse(&status(400, "Symbol not exists."), &demo()), Err(Kind::NotFound));
        assert!(matches!(parse(&status(400, "Bad date"), &demo()), Err(Kind::LayoutChanged { .. })));
        assert_eq!(parse(&status(429, ""), &demo()), Err(Kind::RateLimited { retry_after: None }));
        assert!(matches!(parse(&status(403, ""), &demo()), Err(Kind::Blocked(_))));
        assert!(matches!(parse(&status(503, ""), &demo()), Err(Kind::Transport(_))));
        assert_eq!(parse(&status(200, ""), &demo()), Err(Kind::Empty));
        let other = Ticker::parse("NASDAQ:OTHER").unwrap();
        assert!(matches!(parse(PAGE, &other), Err(Kind::Identity { .. })));
        let european = parse(&PAGE.replace("03/05/2026", "25/03/2026").replace("$998.00", "junk"), &demo()).unwrap();
        assert_eq!((european.bars.len(), european.refused.len()), (0, 2), "{european:?}");
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", cut in 0usize..900) {
            let _ = parse(&text, &demo());
            if let Some(part) = PAGE.get(..cut).filter(|part| *part != PAGE) {
                prop_assert!(parse(part, &demo()).is_err());
            }
        }
    }
}
