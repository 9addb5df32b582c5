//! The parsers against saved captures of the real pages. The captures are not part of the product; where they are absent the test says so.

use market::Ticker;
use std::path::PathBuf;
use workers::sources::{sharesansar_page, yahoo_page};

#[allow(clippy::disallowed_methods, reason = "a test finds its optional data")]
fn capture(name: &str) -> Option<String> {
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
