//! What we would read from a saved page: pure. In come a source's id and the page's bytes, out come checked rows, each with its ticker
//! where the page or the asker names it, or the error that a fetch would end with.

use super::error::SourceErrorKind as Kind;
use super::{markers, merolagani_page, nasdaq_page, sharesansar_page, tiingo_page, yahoo_page};
use market::{Bar, Exchange, RawBar, Ticker, parse_bars_csv};
use std::collections::BTreeMap;

/// The ids of the sources whose pages can be read.
pub const SOURCES: [&str; 6] = ["yahoo", "nasdaq", "tiingo", "sharesansar", "merolagani", "csv"];

/// What was read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Reading {
    /// Sound rows, by ticker and session. A ticker is absent where neither the page nor the asker names it.
    pub rows: Vec<(Option<Ticker>, Bar)>,
    /// Rows refused, each with its reason in words.
    pub refused: Vec<String>,
}

/// The exchange of a source's pages; `None` where it may be either.
pub fn exchange(source: &str) -> Option<Exchange> {
    match source {
        "yahoo" | "nasdaq" | "tiingo" => Some(Exchange::Nasdaq),
        "sharesansar" | "merolagani" => Some(Exchange::Nepse),
        _ => None,
    }
}

/// Reads a page of `source`, of whichever kind it is. What it says about its own identity must agree with `ticker`.
///
/// # Errors
/// Those of the source's parsers and of the words by which refusals are known; `Empty` when no row is sound.
pub fn read(source: &str, bytes: &[u8], ticker: Option<&Ticker>) -> Result<Reading, Kind> {
    let text = std::str::from_utf8(bytes).map_err(|e| Kind::Parse(format!("not UTF-8 ({e})")))?;
    let text = text.trim_start_matches('\u{feff}');
    if source != "csv" {
        markers::judge(text)?;
    }
    let json = text.trim_start().starts_with('{');
    let reading = match source {
        "yahoo" => chart(text, ticker, yahoo_page::symbol(text).map(|s| s.replace('-', ".")), yahoo_page::parse),
        "nasdaq" => chart(text, ticker, nasdaq_page::symbol(text), nasdaq_page::parse),
        "tiingo" => prices(text, ticker),
        "sharesansar" if json => company_history(text, ticker),
        "sharesansar" => today(text, ticker),
        "merolagani" => history_tab(text, ticker),
        _ => csv(text, ticker),
    }?;
    if reading.rows.is_empty() {
        let first = reading.refused.first().cloned();
        return Err(first.map_or(Kind::Empty, |first| Kind::Parse(format!("no row is sound; {first}"))));
    }
    Ok(reading)
}

type Parser = fn(&str, &Ticker) -> Result<yahoo_page::ChartPage, Kind>;

/// An answer about one ticker of NASDAQ, which names it.
fn chart(text: &str, asked: Option<&Ticker>, echoed: Option<String>, parse: Parser) -> Result<Reading, Kind> {
    let ticker = match (asked, echoed) {
        (Some(asked), _) => asked.clone(),
        (None, Some(echoed)) => Ticker::new(Exchange::Nasdaq, &echoed).map_err(|e| Kind::layout("a symbol", e))?,
        // It has no identity because it has no rows: the parser says why.
        (None, None) => Ticker::new(Exchange::Nasdaq, "UNKNOWN").map_err(|e| Kind::layout("a symbol", e))?,
    };
    let page = parse(text, &ticker)?;
    Ok(Reading { rows: page.bars.into_iter().map(|bar| (Some(ticker.clone()), bar)).collect(), refused: page.refused })
}

/// Prices as they were traded, of whomever was asked for. A fetch would put those before a split on the level after it.
fn prices(text: &str, asked: Option<&Ticker>) -> Result<Reading, Kind> {
    let page = tiingo_page::parse(text)?;
    Ok(Reading { rows: page.bars.into_iter().map(|bar| (asked.cloned(), bar)).collect(), refused: page.refused })
}

/// All tickers of one session, or the one that was asked for.
fn today(text: &str, asked: Option<&Ticker>) -> Result<Reading, Kind> {
    let page = sharesansar_page::parse_today(text)?;
    let wanted = |symbol: &str| asked.is_none_or(|ticker| ticker.symbol() == symbol);
    if let Some(asked) = asked
        && !page.rows.keys().chain(page.refused.keys()).any(|symbol| wanted(symbol))
    {
        let got = format!("a page of {} other tickers", page.rows.len() + page.refused.len());
        return Err(Kind::Identity { asked: asked.to_string(), got });
    }
    let mut reading = Reading::default();
    for (symbol, row) in page.rows.iter().filter(|(symbol, _)| wanted(symbol)) {
        match Ticker::new(Exchange::Nepse, symbol) {
            Ok(ticker) => reading.take(Some(&ticker), *row),
            Err(why) => reading.refused.push(why.to_string()),
        }
    }
    let refused = page.refused.into_iter().filter(|(symbol, _)| wanted(symbol));
    reading.refused.extend(refused.map(|(symbol, why)| format!("{symbol}: {why}")));
    Ok(reading)
}

/// An answer that does not say whose rows it holds.
fn company_history(text: &str, asked: Option<&Ticker>) -> Result<Reading, Kind> {
    let page = sharesansar_page::parse_history(text)?;
    // The previous close that a fetch works out of the rounded change stands on no page.
    let rows = page.rows.into_iter().map(|row| RawBar { prev_close: None, ..row });
    Ok(Reading::of(asked, rows, page.refused))
}

fn history_tab(text: &str, asked: Option<&Ticker>) -> Result<Reading, Kind> {
    let page = merolagani_page::parse_history(text)?;
    let echoed = merolagani_page::parse_form(text)?.symbol().filter(|symbol| !symbol.is_empty());
    let ticker = match (asked, echoed) {
        (Some(asked), Some(echoed)) if asked.symbol() != echoed => {
            return Err(Kind::Identity { asked: asked.to_string(), got: echoed });
        }
        (Some(asked), _) => Some(asked.clone()),
        (None, Some(echoed)) => Some(Ticker::new(Exchange::Nepse, &echoed).map_err(|e| Kind::layout("a symbol", e))?),
        (None, None) => None,
    };
    Ok(Reading::of(ticker.as_ref(), page.rows.into_iter(), page.refused))
}

fn csv(text: &str, asked: Option<&Ticker>) -> Result<Reading, Kind> {
    let parsed = parse_bars_csv(text).map_err(|fault| Kind::layout("date,open,high,low,close,volume", fault))?;
    let rows = parsed.bars.into_iter().map(|bar| (asked.cloned(), bar)).collect();
    Ok(Reading { rows, refused: parsed.refused.iter().map(ToString::to_string).collect() })
}

impl Reading {
    /// Rows of one ticker, ascending, each session once: of two the first, for these pages have the newest on top.
    fn of(ticker: Option<&Ticker>, rows: impl Iterator<Item = RawBar>, refused: Vec<String>) -> Self {
        let mut by_session = BTreeMap::new();
        for row in rows {
            by_session.entry(row.session).or_insert(row);
        }
        let mut reading = Self { rows: Vec::new(), refused };
        by_session.into_values().for_each(|row| reading.take(ticker, row));
        reading
    }

    fn take(&mut self, ticker: Option<&Ticker>, row: RawBar) {
        let whose = ticker.map(|ticker| format!("{ticker} ")).unwrap_or_default();
        match row.check() {
            Ok(bar) => self.rows.push((ticker.cloned(), bar)),
            Err(why) => self.refused.push(format!(
                "{whose}{}: {why}",
                row.session.map_or_else(|| "without a date".to_owned(), |session| session.to_string())
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticker(text: &str) -> Ticker {
        Ticker::parse(text).unwrap()
    }

    #[test]
    fn a_history_without_identity_takes_the_askers_and_no_invented_previous_close() {
        let page = r#"{"recordsTotal":1,"data":[{"published_date":"2026-03-05","open":"1,000.00","high":"1,020.00","low":"999.00","close":"1,011.50","per_change":"1.15","traded_quantity":"2,500.00"}]}"#;
        let demo = ticker("NEPSE:DEMO");
        let read = read("sharesansar", page.as_bytes(), Some(&demo)).unwrap();
        let (whose, bar) = &read.rows[0];
        assert_eq!((whose.as_ref(), bar.close, bar.ltp, bar.prev_close), (Some(&demo), 1011.5, None, None));
        assert!(super::read("sharesansar", page.as_bytes(), None).unwrap().rows[0].0.is_none());
    }

    #[test]
    fn the_pages_identity_is_checked() {
        let page = r#"{"data":{"symbol":"DEMO","tradesTable":{"headers":{"date":"Date","close":"Close/Last","volume":"Volume","open":"Open","high":"High","low":"Low"},
            "rows":[{"date":"03/05/2026","close":"$11","volume":"5","open":"$10","high":"$12","low":"$9"}]}},"status":{"rCode":200}}"#;
        assert_eq!(read("nasdaq", page.as_bytes(), None).unwrap().rows[0].0, Some(ticker("NASDAQ:DEMO")));
        let other = read("nasdaq", page.as_bytes(), Some(&ticker("NASDAQ:OTHER")));
        assert!(matches!(other, Err(Kind::Identity { .. })), "{other:?}");
        assert!(matches!(read("yahoo", page.as_bytes(), None), Err(Kind::Parse(_))), "a page of another source");
    }

    #[test]
    fn refusals_are_errors_for_every_source() {
        for source in ["yahoo", "nasdaq", "tiingo", "sharesansar", "merolagani"] {
            let refused = read(source, b"<title>Just a moment...</title>", None);
            assert!(matches!(refused, Err(Kind::Blocked(_))), "{source}: {refused:?}");
            for junk in [&b""[..], b"\xff\xfe", b"[]", b"{}", b"0|", b"<html></html>", b"null"] {
                assert!(read(source, junk, None).is_err(), "{source}: {junk:?}");
            }
        }
        assert!(read("csv", b"day,price\n2024-01-01,5\n", None).is_err());
    }
}
