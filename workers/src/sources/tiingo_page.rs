//! Reads Tiingo's answers (JSON): pure. In comes text, out come bars as they were traded, and the splits that stand beside them, by which
//! they are put on the newest level.

use super::error::SourceErrorKind as Kind;
use chrono::NaiveDate;
use market::{Bar, RawBar, Split};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// The setting that holds the key.
pub(crate) const KEY_SETTING: &str = "tiingo_key";

/// What each row must have. The adjusted columns beside them are adjusted for dividends as well, and never read.
const COLUMNS: [&str; 7] = ["date", "open", "high", "low", "close", "volume", "splitFactor"];

/// What an answer with prices holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PricesPage {
    /// Sound bars, ascending, each session once, as they were traded.
    pub bars: Vec<Bar>,
    /// The splits, ascending.
    pub splits: Vec<Split>,
    /// The newest session in the answer.
    pub page_session: Option<NaiveDate>,
    /// Refused rows, in words.
    pub refused: Vec<String>,
}

/// The symbol that the description of a ticker is about.
///
/// # Errors
/// What the answer itself says is wrong; `LayoutChanged` when it names no symbol.
pub fn parse_symbol(text: &str) -> Result<String, Kind> {
    let Value::Object(answer) = json(text)? else { return Err(Kind::layout("a `ticker`", "a list")) };
    match answer.get("ticker") {
        Some(Value::String(symbol)) if !symbol.is_empty() => Ok(symbol.to_ascii_uppercase()),
        _ => Err(refusal(&answer).unwrap_or_else(|| Kind::layout("a `ticker`", "none"))),
    }
}

/// Reads an answer with prices. It does not say whose they are.
///
/// # Errors
/// `Empty` without rows, `LayoutChanged` when a column is missing, `Adjustment` when a split cannot be read, what the answer itself says
/// is wrong (some of it comes with status 200), `Parse` when it is no such JSON at all.
pub fn parse(text: &str) -> Result<PricesPage, Kind> {
    let rows = match json(text)? {
        Value::Array(rows) => rows,
        Value::Object(answer) => {
            return Err(refusal(&answer).unwrap_or_else(|| Kind::layout("a list of prices", "an object")));
        }
        other => return Err(Kind::layout("a list of prices", other)),
    };
    if rows.is_empty() {
        return Err(Kind::Empty);
    }
    let mut page = PricesPage::default();
    let (mut bars, mut splits) = (BTreeMap::new(), BTreeMap::new());
    for (at, row) in rows.iter().enumerate() {
        let Value::Object(row) = row else { return Err(Kind::layout("an object in each row", row)) };
        if let Some(missing) = COLUMNS.iter().find(|name| !row.contains_key(**name)) {
            return Err(Kind::layout(format!("`{missing}` in each row"), format!("row {} without it", at + 1)));
        }
        let session = row["date"].as_str().and_then(session);
        let shares = shares(row, session)?;
        if let (Some(session), Some(shares)) = (session, shares) {
            splits.insert(session, Split { session, shares });
        }
        match read_row(row, session) {
            Ok(bar) => {
                page.page_session = page.page_session.max(Some(bar.session));
                bars.insert(bar.session, bar);
            }
            Err(why) => page.refused.push(format!("row {}: {why}", at + 1)),
        }
    }
    page.bars = bars.into_values().collect();
    page.splits = splits.into_values().collect();
    Ok(page)
}

/// The split of a row; `None` on the other days. One that cannot be read or placed would put all older prices on an unknown level.
fn shares(row: &Map<String, Value>, session: Option<NaiveDate>) -> Result<Option<f64>, Kind> {
    let said = &row["splitFactor"];
    let unknown = |what: String| Kind::Adjustment(format!("it names a split that {what}"));
    match said.as_f64().filter(|shares| *shares > 0.0 && shares.is_finite()) {
        Some(1.0) => Ok(None),
        Some(_) if session.is_none() => Err(unknown(format!("has no day: {}", row["date"]))),
        Some(shares) => Ok(Some(shares)),
        None => Err(unknown(format!("cannot be read: {said}"))),
    }
}

fn read_row(row: &Map<String, Value>, session: Option<NaiveDate>) -> Result<Bar, String> {
    let number = |name: &str| match &row[name] {
        Value::Null => Ok(None),
        Value::Number(number) => Ok(number.as_f64()),
        other => Err(format!("`{name}` is {other} and no number")),
    };
    let session = session.ok_or_else(|| format!("the date {} is not YYYY-MM-DD", row["date"]))?;
    let raw = RawBar {
        session: Some(session),
        open: number("open")?,
        high: number("high")?,
        low: number("low")?,
        close: number("close")?,
        volume: number("volume")?,
        ..RawBar::default()
    };
    raw.check().map_err(|why| format!("{session}: {why}"))
}

/// `2024-12-31T00:00:00.000Z`: the day counts, the midnight behind it is none of the exchange's.
fn session(text: &str) -> Option<NaiveDate> {
    let (day, rest) = (text.get(..10)?, &text[10..]);
    (rest.is_empty() || rest.starts_with('T')).then(|| NaiveDate::parse_from_str(day, "%Y-%m-%d").ok()).flatten()
}

fn json(text: &str) -> Result<Value, Kind> {
    serde_json::from_str(text).map_err(|e| Kind::Parse(e.to_string()))
}

/// What `{"detail": …}` says; the words are the only ones that we know.
fn refusal(answer: &Map<String, Value>) -> Option<Kind> {
    let said: String = answer.get("detail")?.as_str()?.chars().take(200).collect();
    let lower = said.to_ascii_lowercase();
    let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
    Some(if says(&["run over", "allocation", "throttled"]) {
        Kind::RateLimited { retry_after: None }
    } else if says(&["token", "credentials", "permission"]) {
        Kind::Key { setting: KEY_SETTING, said }
    } else if says(&["not found", "not supported"]) {
        Kind::NotFound
    } else {
        Kind::layout("prices", said)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: &str = r#"[
        {"date":"2026-03-02T00:00:00.000Z","open":400.0,"high":412.5,"low":398.0,"close":410.0,"volume":1000,"adjClose":101.9,"divCash":0.0,"splitFactor":1.0},
        {"date":"2026-03-03T00:00:00.000Z","open":102.0,"high":104.0,"low":101.0,"close":103.5,"volume":4400,"adjClose":103.0,"divCash":0.1,"splitFactor":4.0},
        {"date":"2026-03-04T00:00:00.000Z","open":null,"high":105.0,"low":102.0,"close":104.25,"volume":4100,"adjClose":104.25,"divCash":0.0,"splitFactor":1}]"#;

    #[test]
    fn prices_as_traded_become_those_of_one_level() {
        let page = parse(PAGE).unwrap();
        assert_eq!(page.bars.iter().map(|bar| bar.close).collect::<Vec<_>>(), [410.0, 103.5, 104.25]);
        assert_eq!((page.splits.len(), page.splits[0].shares, page.refused.len()), (1, 4.0, 0));
        let [first, second, last] = market::split_adjusted(&page.bars, &page.splits)[..] else { panic!("{page:?}") };
        assert_eq!((first.open, first.close, first.volume), (Some(100.0), 102.5, Some(4000.0)));
        assert_eq!((second, last.open), (page.bars[1], None), "the split's own day is on the new level");
        assert_eq!(page.page_session.unwrap().to_string(), "2026-03-04");
    }

    #[test]
    fn a_split_that_cannot_be_read_spoils_all_of_it() {
        for said in ["null", "0", "-2", "\"4\""] {
            let page = PAGE.replace("\"splitFactor\":4.0", &format!("\"splitFactor\":{said}"));
            assert!(matches!(parse(&page), Err(Kind::Adjustment(_))), "{said}");
        }
        let undated = PAGE.replace("2026-03-03T", "soon");
        assert!(matches!(parse(&undated), Err(Kind::Adjustment(_))));
        let unpriced = parse(&PAGE.replace("\"close\":103.5", "\"close\":null")).unwrap();
        assert_eq!((unpriced.bars.len(), unpriced.refused.len(), unpriced.splits.len()), (2, 1, 1), "the split counts");
    }

    #[test]
    fn says_what_is_wrong() {
        let detail = |words: &str| parse(&format!(r#"{{"detail":"{words}"}}"#)).unwrap_err();
        assert_eq!(detail("Error: Ticker 'NOSUCH' not found"), Kind::NotFound);
        assert_eq!(detail("Not found."), Kind::NotFound);
        assert_eq!(
            detail("Error: You have run over your hourly request allocation."),
            Kind::RateLimited { retry_after: None }
        );
        assert!(matches!(detail("Invalid token."), Kind::Key { setting: "tiingo_key", .. }));
        assert!(matches!(detail("Please supply a token"), Kind::Key { .. }));
        assert!(matches!(detail("news"), Kind::LayoutChanged { .. }));
        assert_eq!(parse("[]"), Err(Kind::Empty));
        assert!(matches!(parse("{}"), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse("[1]"), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse(&PAGE.replace("\"splitFactor\"", "\"factor\"")), Err(Kind::LayoutChanged { .. })));
        assert!(matches!(parse(&PAGE[..200]), Err(Kind::Parse(_))));
        assert_eq!(parse_symbol(r#"{"ticker":"brk-b","name":"x"}"#).unwrap(), "BRK-B");
        assert_eq!(parse_symbol(r#"{"detail":"Not found."}"#), Err(Kind::NotFound));
        assert!(parse_symbol("[]").is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in ".*", cut in 0usize..500) {
            let _ = (parse(&text), parse_symbol(&text));
            let spoilt = format!("{}{text}", PAGE.get(..cut).unwrap_or(PAGE));
            let _ = parse(&spoilt);
        }
    }
}
