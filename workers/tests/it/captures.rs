//! The parsers against saved captures of the real pages. The captures are not part of the product; where they are absent the test says so.

use market::Ticker;
use std::path::PathBuf;
use workers::sources::{SourceErrorKind as Kind, saved_page, sharesansar_page, yahoo_page};

/// The captures that hold rows, by source.
pub(crate) const CAPTURES: [(&str, &str); 7] = [
    ("yahoo", "yahoo_chart_AAPL_6mo.json"),
    ("nasdaq", "nasdaq_historical_NVDA.json"),
    ("sharesansar", "sharesansar_today_21col_2024-03-05.html"),
    ("sharesansar", "sharesansar_today_24col_2026-08-20.html"),
    ("sharesansar", "sharesansar_history_NABIL_page1.json"),
    ("merolagani", "merolagani_history_NABIL_p1.html"),
    ("merolagani", "merolagani_history_NABIL_p1.delta.txt"),
];

#[allow(clippy::disallowed_methods, reason = "a test finds its optional data")]
pub(crate) fn capture(name: &str) -> Option<String> {
    let shared = std::env::var_os("RETAINAI_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../shared"), PathBuf::from);
    let text = std::fs::read_to_string(shared.join("data/pages").join(name)).ok();
    if text.is_none() {
        println!("skipped: the capture {name} is not at hand");
    }
    text
}

#[test]
fn a_chart_of_yahoo() {
    let Some(text) = capture("yahoo_chart_AAPL_6mo.json") else { return };
    let page = yahoo_page::parse(&text, &Ticker::parse("NASDAQ:AAPL").unwrap()).unwrap();
    assert_eq!((page.bars.len(), page.refused.len()), (127, 0));
    let last = page.bars.last().unwrap();
    assert_eq!((last.session.to_string().as_str(), last.close), ("2025-10-29", 269.7));
    assert_eq!(page.bars[page.bars.len() - 3].close, 268.81, "float32 noise is rounded away");
}

#[test]
fn both_layouts_of_sharesansars_table() {
    for (name, session, ltp) in [
        ("sharesansar_today_24col_2026-08-20.html", "2026-08-20", true),
        ("sharesansar_today_21col_2024-03-05.html", "2024-03-05", false),
    ] {
        let Some(text) = capture(name) else { return };
        let page = sharesansar_page::parse_today(&text).unwrap();
        assert_eq!(page.session.to_string(), session);
        assert!(page.refused.is_empty() && page.rows.len() >= 5, "{:?}", page.refused);
        assert!(page.rows.values().all(|row| row.check().is_ok() && row.ltp.is_some() == ltp));
    }
    let Some(text) = capture("sharesansar_today_24col_2026-08-20.html") else { return };
    let row = sharesansar_page::parse_today(&text).unwrap().rows["CIT"];
    assert_eq!((row.close, row.prev_close, row.volume), (Some(1695.0), Some(1700.0), Some(2720.0)));
}

#[test]
fn a_history_of_sharesansar() {
    let Some(text) = capture("sharesansar_history_NABIL_page1.json") else { return };
    let page = sharesansar_page::parse_history(&text).unwrap();
    assert!(page.total > 3_000 && page.rows.len() == 50, "{} {}", page.total, page.rows.len());
    assert!(page.rows.iter().all(|row| row.check().is_ok()));
    let Some(text) = capture("sharesansar_history_csrf_mismatch_http200.json") else { return };
    assert!(sharesansar_page::parse_history(&text).is_err());
}

#[test]
fn every_capture_reads_as_it_did() {
    // Rows, first and last session, sum of the closes: a snapshot that holds no row of the captures themselves.
    let snapshots = [
        (127, "2025-04-30", "2025-10-29", 28365.53),
        (30, "2026-05-18", "2026-06-30", 6293.31),
        (10, "2024-03-05", "2024-03-05", 5573.89),
        (9, "2026-08-20", "2026-08-20", 5917.2),
        (50, "2026-06-15", "2026-08-21", 27056.5),
        (30, "2026-07-13", "2026-08-21", 16476.3),
        (30, "2026-07-13", "2026-08-21", 16476.3),
    ];
    for ((source, name), expected) in CAPTURES.into_iter().zip(snapshots) {
        let Some(page) = capture(name) else { continue };
        let read = saved_page::read(source, page.as_bytes(), None).unwrap();
        let day = |row: Option<&(Option<Ticker>, market::Bar)>| row.unwrap().1.session.to_string();
        let sum: f64 = read.rows.iter().map(|(_, bar)| bar.close).sum();
        let found = (read.rows.len(), day(read.rows.first()), day(read.rows.last()), (sum * 100.0).round() / 100.0);
        assert_eq!(found, (expected.0, expected.1.to_owned(), expected.2.to_owned(), expected.3), "{name}");
        assert!(read.refused.is_empty(), "{name}: {:?}", read.refused);
    }
}

#[test]
fn captures_that_are_refusals() {
    let kind = |source, name| capture(name).map(|page| saved_page::read(source, page.as_bytes(), None).unwrap_err());
    let cases = [
        ("yahoo", "yahoo_chart_GS2C.DE_thin.json", "identity"),
        ("yahoo", "yahoo_quote_unknown_symbol.json", "parse"),
        ("sharesansar", "sharesansar_history_csrf_mismatch_http200.json", "session_expired"),
        ("sharesansar", "sharesansar_history_length_ge_100.json", "empty"),
    ];
    for (source, name, word) in cases {
        assert_eq!(kind(source, name).as_ref().map_or(word, Kind::word), word, "{name}");
    }
}
