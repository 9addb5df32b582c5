//! `retainai source parse`: rows or a typed error from a saved page, with no store, network or settings.

use product_tests::process::{self, Finished};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30);

/// A page that the parsers' own tests read.
fn page(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../workers/tests/it/pages").join(name)
}

async fn parse(source: &str, page: &Path, more: &[&str]) -> Finished {
    let home = tempfile::tempdir().unwrap();
    let shown = page.to_str().unwrap();
    let arguments = ["source", "parse", "--source", source, "--page", shown, "--json"];
    // Settings that cannot be used are no reason not to read a page.
    let program = process::retainai(arguments.iter().chain(more).copied()).env("RETAINAI_LISTEN", "nowhere");
    program.current_dir(home.path()).output(LIMIT).await
}

#[tokio::test]
async fn every_kind_of_page_becomes_rows_of_one_shape() {
    for (source, name, exchange) in [
        ("yahoo", "chart.json", "NASDAQ"),
        ("nasdaq", "quote.json", "NASDAQ"),
        ("tiingo", "prices.json", "NASDAQ"),
        ("sharesansar", "today.html", "NEPSE"),
        ("sharesansar", "history.json", "NEPSE"),
        ("merolagani", "tab.html", "NEPSE"),
        ("merolagani", "tab.delta.txt", "NEPSE"),
    ] {
        let read = parse(source, &page(name), &[]).await;
        assert_eq!((read.code, read.stderr.as_str()), (Some(0), ""), "{name}: {read:#?}");
        let rows = read.json();
        let rows = rows.as_array().unwrap();
        assert_eq!(rows.len(), 3, "{name}");
        for row in rows {
            assert_eq!((row.as_object().unwrap().len(), &row["exchange"]), (10, &json!(exchange)), "{name}: {row}");
            assert!(row["close"].is_number(), "{name}: {row}");
        }
    }
    let read = parse("sharesansar", &page("today.html"), &["--ticker", "NEPSE:DEMOC"]).await.json();
    let expected = json!([{ "exchange": "NEPSE", "ticker": "DEMOC", "date": "2026-03-04", "open": 9.81, "high": 9.93, "low": 9.77,
        "close": 9.86, "ltp": null, "prev_close": 9.79, "volume": 118260.0 }]);
    assert_eq!(read, expected);
    let read = parse("sharesansar", &page("history.json"), &["--ticker", "demoa"]).await.json();
    assert_eq!((&read[2]["ticker"], &read[2]["prev_close"]), (&json!("DEMOA"), &Value::Null));
}

#[tokio::test]
async fn a_page_that_would_be_refused_is_an_error_with_its_kind() {
    let refused = |read: &Finished, word: &str| {
        assert_eq!((read.code, read.stdout.as_str()), (Some(1), ""), "{read:#?}");
        assert!(read.stderr.contains(word), "{word}: {}", read.stderr);
    };
    refused(&parse("merolagani", &page("tab.html"), &["--ticker", "OTHER"]).await, "identity");
    refused(&parse("yahoo", &page("quote.json"), &[]).await, "parse");
    refused(&parse("sharesansar", &page("tab.html"), &[]).await, "layout_changed");
    refused(&parse("yahoo", &page("no-such-file"), &[]).await, "cannot be read");
    let home = tempfile::tempdir().unwrap();
    let challenge = home.path().join("page.html");
    std::fs::write(&challenge, "<title>Just a moment...</title>").unwrap();
    refused(&parse("merolagani", &challenge, &[]).await, "blocked");
    for wrong in [("nowhere", vec![]), ("yahoo", vec!["--ticker", "NEPSE:NABIL"]), ("csv", vec!["--ticker", "A B"])] {
        let read = parse(wrong.0, &page("chart.json"), &wrong.1).await;
        assert_eq!(read.code, Some(2), "{wrong:?}: {read:#?}");
    }
}
