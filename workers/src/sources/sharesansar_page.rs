//! Reads ShareSansar's pages: pure. Today's table by its headers (21, 22 and 24 columns have been seen), a company's page, and a
//! company's history as JSON.

use super::error::SourceErrorKind as Kind;
use super::html::{document, selector, text_of};
use chrono::NaiveDate;
use market::{RawBar, parse_number};
use serde::Deserialize;
use std::collections::BTreeMap;

/// Today's table: one session, all tickers that traded in it.
#[derive(Debug, Clone, PartialEq)]
pub struct TodayPage {
    /// The session, as the page says; on a closed day it is the one before.
    pub session: NaiveDate,
    /// By symbol, upper case.
    pub rows: BTreeMap<String, RawBar>,
    /// Rows that cannot be read, in words, by symbol.
    pub refused: BTreeMap<String, String>,
}

/// What a company's page is read for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompanyPage {
    /// The site's number of the company.
    pub id: String,
    /// Its symbol, upper case: the identity check.
    pub symbol: String,
    /// What the history wants back.
    pub token: String,
}

/// One page of a company's history, newest first.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryPage {
    /// How many rows there are in all.
    pub total: u64,
    /// Rows of this page; `prev_close` follows from the published change.
    pub rows: Vec<RawBar>,
    /// Rows that cannot be read, in words; the others still count.
    pub refused: Vec<String>,
}

/// Reads `/today-share-price`.
///
/// # Errors
/// `LayoutChanged` when a header is missing or a row's width differs, `Empty` without rows, `Parse` when it was cut off.
pub fn parse_today(html: &str) -> Result<TodayPage, Kind> {
    if html.contains("id=\"headFixed\"") && !html.contains("</table>") {
        return Err(Kind::Parse("the table does not end".to_owned()));
    }
    let page = document(html)?;
    let as_of = page.select(&selector("span.text-org")).next().map(|e| text_of(&e));
    let table =
        page.select(&selector("table#headFixed")).next().ok_or_else(|| Kind::layout("a table `headFixed`", "none"))?;
    let headers: Vec<String> = table.select(&selector("thead th")).map(|e| text_of(&e)).collect();
    let find = |name: &str| headers.iter().position(|h| h.eq_ignore_ascii_case(name));
    let need = |name: &str| find(name).ok_or_else(|| Kind::layout(format!("a column `{name}`"), headers.join(", ")));
    let (symbol_at, ltp_at) = (need("Symbol")?, find("LTP"));
    let columns = [need("Open")?, need("High")?, need("Low")?, need("Close")?, need("Prev. Close")?, need("Vol")?];
    let mut rows = BTreeMap::new();
    let mut refused = BTreeMap::new();
    let session = as_of.as_deref().filter(|text| !text.is_empty()).map(date).transpose()?;
    for row in table.select(&selector("tbody tr")) {
        let cells: Vec<String> = row.select(&selector("td")).map(|e| text_of(&e)).collect();
        if cells.len() == 1 && cells[0].to_ascii_lowercase().contains("no record") {
            return Err(Kind::Empty);
        }
        if cells.len() != headers.len() {
            return Err(Kind::layout(format!("{} cells in a row", headers.len()), cells.len()));
        }
        let symbol = cells[symbol_at].to_ascii_uppercase();
        match read_row(session, &cells, columns, ltp_at) {
            Ok(raw) => {
                rows.insert(symbol, raw);
            }
            Err(why) => {
                refused.insert(symbol, why);
            }
        }
    }
    if rows.is_empty() && refused.is_empty() {
        return Err(Kind::Empty);
    }
    let session = session.ok_or_else(|| Kind::layout("a date in `span.text-org`", "none"))?;
    Ok(TodayPage { session, rows, refused })
}

fn read_row(
    session: Option<NaiveDate>,
    cells: &[String],
    columns: [usize; 6],
    ltp: Option<usize>,
) -> Result<RawBar, String> {
    let number = |at: usize| parse_number(&cells[at]).map_err(|e| e.to_string());
    let [open, high, low, close, prev_close, volume] = columns;
    Ok(RawBar {
        session,
        open: number(open)?,
        high: number(high)?,
        low: number(low)?,
        close: number(close)?,
        ltp: ltp.map(number).transpose()?.flatten(),
        prev_close: number(prev_close)?,
        volume: number(volume)?,
    })
}

/// Reads `/company/{symbol}`.
pub fn parse_company(html: &str) -> Result<CompanyPage, Kind> {
    let page = document(html)?;
    let text = |css: &str| page.select(&selector(css)).next().map(|e| text_of(&e)).filter(|t| !t.is_empty());
    let attribute = |css: &str, name: &str| {
        page.select(&selector(css)).next().and_then(|e| e.value().attr(name)).map(str::to_owned)
    };
    let need = |found: Option<String>, what: &str| found.ok_or_else(|| Kind::layout(what, "none"));
    let token = attribute("meta[name=_token]", "content")
        .or_else(|| attribute("input[name=_token]", "value"))
        .or_else(|| attribute("meta[name=csrf-token]", "content"));
    Ok(CompanyPage {
        id: need(text("#companyid"), "a company number in `#companyid`")?,
        symbol: need(text("#symbol"), "a symbol in `#symbol`")?.to_ascii_uppercase(),
        token: need(token, "a token in `_token`")?,
    })
}

#[derive(Deserialize)]
struct History {
    message: Option<String>,
    #[serde(rename = "recordsTotal")]
    total: Option<u64>,
    data: Option<Vec<HistoryRow>>,
}

#[derive(Deserialize)]
struct HistoryRow {
    published_date: String,
    open: Option<String>,
    high: Option<String>,
    low: Option<String>,
    close: Option<String>,
    per_change: Option<String>,
    traded_quantity: Option<String>,
}

/// Reads an answer of `/company-price-history`.
pub fn parse_history(text: &str) -> Result<HistoryPage, Kind> {
    let history: History = serde_json::from_str(text).map_err(|e| Kind::Parse(e.to_string()))?;
    let (Some(total), Some(data)) = (history.total, history.data) else {
        return Err(match history.message {
            Some(message) if message.contains("CSRF") => Kind::SessionExpired,
            Some(message) => Kind::layout("recordsTotal and data", message),
            None => Kind::layout("recordsTotal and data", "neither"),
        });
    };
    let mut page = HistoryPage { total, rows: Vec::with_capacity(data.len()), refused: Vec::new() };
    for row in &data {
        match history_row(row) {
            Ok(raw) => page.rows.push(raw),
            Err(why) => {
                page.refused.push(format!("{}: {why}", row.published_date.chars().take(40).collect::<String>()))
            }
        }
    }
    Ok(page)
}

fn history_row(row: &HistoryRow) -> Result<RawBar, String> {
    let number = |cell: &Option<String>| parse_number(cell.as_deref().unwrap_or_default()).map_err(|e| e.to_string());
    let close = number(&row.close)?;
    // The published change is measured against the previous close as the exchange adjusted it.
    let prev_close = match (close, number(&row.per_change)?) {
        (Some(close), Some(change)) if change > -100.0 => Some(close / (1.0 + change / 100.0)),
        _ => None,
    };
    Ok(RawBar {
        session: Some(date(&row.published_date).map_err(|_| "the date is not YYYY-MM-DD".to_owned())?),
        open: number(&row.open)?,
        high: number(&row.high)?,
        low: number(&row.low)?,
        close,
        ltp: None,
        prev_close,
        volume: number(&row.traded_quantity)?,
    })
}

fn date(text: &str) -> Result<NaiveDate, Kind> {
    let day = text.trim().get(..10).unwrap_or(text);
    NaiveDate::parse_from_str(day, "%Y-%m-%d").map_err(|_| Kind::layout("a date YYYY-MM-DD", text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(headers: &str, rows: &[&str]) -> String {
        let cells = |line: &str, tag: &str| line.split('|').map(|c| format!("<{tag}>{c}</{tag}>")).collect::<String>();
        let body: String = rows.iter().map(|row| format!("<tr>{}</tr>", cells(row, "td"))).collect();
        format!(
            "<span class=\"text-org\">2026-08-20</span><table id=\"headFixed\"><thead><tr>{}</tr></thead><tbody>{body}</tbody></table>",
            cells(headers, "th")
        )
    }

    const OLD: &str = "S.No|Symbol|Conf.|Open|High|Low|Close|VWAP|Vol|Prev. Close|Turnover";
    const NEW: &str = "S.No|Symbol|Conf.|Open|High|Low|Close|LTP|Close - LTP|VWAP|Vol|Prev. Close|Turnover";
    const MOVED: &str = "S.No|Symbol|Conf.|Open|High|Low|Close|VWAP|Vol|Prev. Close|LTP|Turnover";

    #[test]
    fn columns_are_found_by_their_headers() {
        let rows = [
            parse_today(&page(
                OLD,
                &["1|<a>NABIL</a>|2|1,550.00|1,552.00|1,547.00|1,548.50|1,548|27,241.00|1,500.00|9"],
            ))
            .unwrap(),
            parse_today(&page(
                NEW,
                &["1|<a>NABIL</a>|2|1,550.00|1,552.00|1,547.00|1,548.50|1,549|0|1,548|27,241.00|1,500.00|9"],
            ))
            .unwrap(),
            parse_today(&page(
                MOVED,
                &["1|<a>NABIL</a>|2|1,550.00|1,552.00|1,547.00|1,548.50|1,548|27,241.00|1,500.00|1,549|9"],
            ))
            .unwrap(),
        ];
        let read: Vec<RawBar> = rows.iter().map(|page| page.rows["NABIL"]).collect();
        assert_eq!(
            (read[0].close, read[0].prev_close, read[0].volume, read[0].ltp),
            (Some(1548.5), Some(1500.0), Some(27241.0), None)
        );
        assert_eq!(read[1].ltp, Some(1549.0));
        assert_eq!(read[1], read[2]);
        assert_eq!(rows[0].session.to_string(), "2026-08-20");
    }

    #[test]
    fn a_changed_table_is_never_read_in_the_wrong_columns() {
        let renamed = NEW.replace("|Close|", "|Closing Price|");
        assert!(matches!(parse_today(&page(&renamed, &[])), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse_today(&page(OLD, &["1|NABIL|2|3"])), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse_today("<html></html>"), Err(Kind::LayoutChanged { .. })));
        assert_eq!(parse_today(&page(OLD, &[])), Err(Kind::Empty));
        let whole = page(OLD, &["1|NABIL|2|1|1|1|1|1|1|1|1"]);
        assert!(matches!(parse_today(&whole[..whole.len() - 20]), Err(Kind::Parse(_))));
    }

    #[test]
    fn an_unreadable_row_is_refused_alone() {
        let read = parse_today(&page(OLD, &["1|A|2|1|1|1|junk|1|1|1|1", "2|B|2|1|1|1|1|1|1|1|1"])).unwrap();
        assert_eq!((read.rows.len(), read.refused["A"].as_str()), (1, "`junk` is not a number"));
    }

    #[test]
    fn history_tells_the_published_previous_close() {
        let text = r#"{"draw":1,"recordsTotal":2,"data":[{"published_date":"2023-01-02","open":"721","high":"745","low":"720","close":"739.00","per_change":"2.48","traded_quantity":"38,251.00","status":"1"}]}"#;
        let row = parse_history(text).unwrap().rows[0];
        assert!((row.prev_close.unwrap() - 721.12).abs() < 0.01, "{row:?}");
        let junk = parse_history(&text.replace("739.00", "junk")).unwrap();
        assert_eq!((junk.rows.len(), junk.refused), (0, vec!["2023-01-02: `junk` is not a number".to_owned()]));
        assert_eq!(parse_history(r#"{"message":"CSRF token mismatch."}"#), Err(Kind::SessionExpired));
        assert!(matches!(parse_history("{}"), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse_history(&text[..60]), Err(Kind::Parse(_))));
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", tail in "[<>a-z0-9|/=\" ]*") {
            for text in [text, format!("{}{tail}", page(NEW, &["1|A|2|1|1|1|1|1|1|1|1|1|1"]))] {
                let _ = (parse_today(&text), parse_company(&text), parse_history(&text));
            }
        }
    }
}
